"""Vectors as Python values that emit LLVM IR, and steps: the functions that are written with them.

A `step` is a Python function that runs once, when code is generated. It receives a `Lanes`, which stands for
the code being written, and pointers; what it does with `Vector` values becomes one LLVM function. A numba
kernel calls that function as ``step(workspace, offset, .., integer, ..)``, offsets in 64-bit words. numba
infers no types inside a step, so a formula of a thousand vector operations compiles quickly, and its cost
can be read off the Python source.

Not protected against: offsets outside the workspace. Steps are as unchecked as C; kernels keep the map.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Union

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from purposematch.protocol.simd.processor import LANES

__all__ = ["ENTRIES", "Lanes", "Vector", "step"]

STACK_ALIGNMENT = 64
"""Bytes. LLVM does not realign the stack of generated functions by itself, and spilled vectors that cross
cache lines made AVX2 code 15 % slower in some processes."""

ENTRIES = 8
"""What a vector holds for `Vector.pick`."""

_WORD = ir.IntType(64)
_INDEX = ir.IntType(32)
Operand = Union["Vector", int]


class Vector:
    """A vector of unsigned integers, one a lane. Arithmetic wraps; an int operand stands in every lane."""

    __slots__ = ("lanes", "value")

    def __init__(self, lanes: "Lanes", value: Any) -> None:
        """Wraps an LLVM value of the type of `lanes`."""
        self.lanes = lanes
        self.value = value

    def __add__(self, other: Operand) -> "Vector":
        return self._emit("add", other)

    def __sub__(self, other: Operand) -> "Vector":
        return self._emit("sub", other)

    def __and__(self, other: Operand) -> "Vector":
        return self._emit("and_", other)

    def __or__(self, other: Operand) -> "Vector":
        return self._emit("or_", other)

    def __xor__(self, other: Operand) -> "Vector":
        return self._emit("xor", other)

    def __lshift__(self, other: Operand) -> "Vector":
        return self._emit("shl", other)

    def __rshift__(self, other: Operand) -> "Vector":
        return self._emit("lshr", other)

    def __invert__(self) -> "Vector":
        return self ^ ((1 << self.lanes.bits) - 1)

    def multiply_halves(self, other: Operand) -> "Vector":
        """The low 32 bits of each lane times those of `other`, 64 bits (vpmuludq)."""
        half = 0xFFFFFFFF
        # LLVM recognises masked operands; without the masks it would emit a 64-bit multiplication.
        return (self & half)._emit("mul", other & half)

    def multiply_add_low(self, x: "Vector", y: "Vector") -> "Vector":
        """Adds the low 52 bits of the 104-bit product of the low 52 bits of x and y (vpmadd52luq)."""
        return self.lanes.call("llvm.x86.avx512.vpmadd52l.uq.512", self, x, y)

    def multiply_add_high(self, x: "Vector", y: "Vector") -> "Vector":
        """Adds the high 52 bits of that product (vpmadd52huq)."""
        return self.lanes.call("llvm.x86.avx512.vpmadd52h.uq.512", self, x, y)

    def rotate_right(self, count: int) -> "Vector":
        """Rotates each lane by a fixed number of bits."""
        lanes = self.lanes
        return lanes.call(f"llvm.fshr.{lanes.suffix}", self, self, lanes.constant(count))

    def reverse_bytes(self) -> "Vector":
        """Reverses the bytes of each lane."""
        return self.lanes.call(f"llvm.bswap.{self.lanes.suffix}", self)

    def equals(self, other: Operand) -> "Vector":
        """All ones in the lanes where both are equal, zero elsewhere."""
        lanes = self.lanes
        truth = lanes.builder.icmp_unsigned("==", self.value, lanes.operand(other))
        return Vector(lanes, lanes.builder.sext(truth, lanes.type))

    def pick(self, index: "Vector") -> "Vector":
        """Of eight entries that fill this vector, the one that each lane of `index` asks for, 0 to 7.

        An entry has 64 bits where there are eight lanes (vpermq) and 32 bits where there are four (vpermd).
        The entries are in a register, so the choice shows neither in time nor in an address.
        """
        lanes = self.lanes
        if lanes.count == ENTRIES:
            return lanes.call("llvm.x86.avx512.permvar.di.512", self, index)
        halves = Lanes(lanes.builder, ENTRIES, 32)
        operands = [Vector(halves, lanes.builder.bitcast(one.value, halves.type)) for one in (self, index)]
        picked = halves.call("llvm.x86.avx2.permd", *operands)
        return Vector(lanes, lanes.builder.bitcast(picked.value, lanes.type)) & 0xFFFFFFFF

    def _emit(self, instruction: str, other: Operand) -> "Vector":
        emit = getattr(self.lanes.builder, instruction)
        return Vector(self.lanes, emit(self.value, self.lanes.operand(other)))


class Lanes:
    """The code that a step is writing: its vectors have `count` lanes of `bits` bits."""

    def __init__(self, builder: Any, count: int, bits: int) -> None:
        """Writes with an llvmlite IRBuilder."""
        self.builder = builder
        self.count = count
        self.bits = bits
        self.type = ir.VectorType(ir.IntType(bits), count)
        self.suffix = f"v{count}i{bits}"

    def operand(self, value: Operand) -> Any:
        """The LLVM value of a vector, or of a constant in every lane."""
        if isinstance(value, Vector):
            return value.value
        return ir.Constant(self.type, [value] * self.count)

    def constant(self, value: int) -> Vector:
        """The same constant in every lane."""
        return Vector(self, self.operand(value))

    def call(self, name: str, *arguments: Vector) -> Vector:
        """Calls an LLVM intrinsic on vectors of this type."""
        signature = ir.FunctionType(self.type, [self.type] * len(arguments))
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return Vector(self, self.builder.call(function, [argument.value for argument in arguments]))

    def load(self, pointer: Any, index: int = 0) -> Vector:
        """The vector number `index` behind a pointer."""
        return Vector(self, self.builder.load(self._address(pointer, index), align=8))

    def transpose(self, pointers: Sequence[Any], words: int) -> list[Vector]:
        """The first words behind each of `count` pointers: vector i holds word i of every one, one a lane.

        Whole vectors are read and then exchanged among each other, halves first, down to single words.

        Args:
            pointers: to words, aligned like vectors.
            words: a multiple of `count`.
        """
        found: list[Vector] = []
        for begin in range(0, words, self.count):
            offset = ir.Constant(_WORD, begin)
            places = [self.builder.gep(pointer, [offset]) for pointer in pointers]
            block = [self._read(place, self.count * self.bits // 8) for place in places]
            distance = self.count // 2
            while distance:
                own = range(self.count)
                low = [i + self.count - distance if i & distance else i for i in own]
                high = [i + self.count if i & distance else i + distance for i in own]
                for i in own:
                    if not i & distance:
                        pair = block[i], block[i + distance]
                        block[i], block[i + distance] = self._mix(*pair, low), self._mix(*pair, high)
                distance //= 2
            found += block
        return found

    def _read(self, pointer: Any, alignment: int) -> Vector:
        return Vector(
            self, self.builder.load(self.builder.bitcast(pointer, self.type.as_pointer()), align=alignment)
        )

    def _mix(self, a: Vector, b: Vector, indices: Sequence[int]) -> Vector:
        """Lanes of two vectors side by side, by their place there."""
        mask = ir.Constant(ir.VectorType(_INDEX, self.count), list(indices))
        return Vector(self, self.builder.shuffle_vector(a.value, b.value, mask))

    def pointers(self, pointer: Any) -> list[Any]:
        """The `count` addresses behind a pointer, as pointers to words."""
        places = [self.builder.gep(pointer, [ir.Constant(_WORD, lane)]) for lane in range(self.count)]
        return [self.builder.inttoptr(self.builder.load(place), _WORD.as_pointer()) for place in places]

    def store(self, pointer: Any, index: int, vector: Vector) -> None:
        """Stores the vector number `index` behind a pointer."""
        self.builder.store(vector.value, self._address(pointer, index), align=8)

    def splat(self, scalar: Any) -> Vector:
        """An LLVM integer in every lane."""
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(_INDEX, 0))
        everywhere = ir.Constant(ir.VectorType(_INDEX, self.count), [0] * self.count)
        return Vector(self, self.builder.shuffle_vector(first, undefined, everywhere))

    def table(self, name: str, values: Sequence[int]) -> Callable[[Any], Vector]:
        """A constant array of the module, as a function from an LLVM index to that value in every lane."""
        module = self.builder.module
        if name not in module.globals:
            content = ir.ArrayType(self.type.element, len(values))
            variable = ir.GlobalVariable(module, content, name)
            variable.initializer = ir.Constant(content, list(values))
            variable.global_constant = True
            variable.linkage = "internal"
        array, zero = module.globals[name], ir.Constant(_WORD, 0)
        return lambda index: self.splat(self.builder.load(self.builder.gep(array, [zero, index])))

    def loop(
        self, count: Any, state: Sequence[Vector], body: Callable[[Any, list[Vector]], list[Vector]]
    ) -> list[Vector]:
        """``for i in range(count): state = body(i, state)``; `count` is public and at least 1."""
        builder, before = self.builder, self.builder.block
        head = builder.append_basic_block("loop")
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(_WORD)
        index.add_incoming(ir.Constant(_WORD, 0), before)
        current = [builder.phi(self.type) for _ in state]
        for phi, vector in zip(current, state, strict=True):
            phi.add_incoming(vector.value, before)
        changed = body(index, [Vector(self, phi) for phi in current])
        tail = builder.block
        following = builder.add(index, ir.Constant(_WORD, 1))
        index.add_incoming(following, tail)
        for phi, vector in zip(current, changed, strict=True):
            phi.add_incoming(vector.value, tail)
        limit = ir.Constant(_WORD, count) if isinstance(count, int) else count
        end = builder.append_basic_block("end")
        builder.cbranch(builder.icmp_signed("<", following, limit), head, end)
        builder.position_at_end(end)
        return changed

    def _address(self, pointer: Any, index: int) -> Any:
        offset = ir.Constant(_WORD, index * self.count * self.bits // _WORD.width)
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.type.as_pointer())


def step(
    pointers: int, integers: int = 0, *, lanes: int = LANES, bits: int = 64
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes ``body(lanes, pointer, .., integer, ..)`` callable from kernels.

    A kernel passes a workspace (a one-dimensional uint64 array), an offset for each pointer, then the
    integers, which are public.

    Args:
        pointers: how many pointers `body` takes.
        integers: how many LLVM integers it takes after them.
        lanes: lanes of its vectors.
        bits: bits of a lane, 64 or 32.
    """

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        name = f"step_{body.__name__}"
        count = pointers + integers

        def function(module: Any) -> Any:
            if name in module.globals:
                return module.globals[name]
            arguments = [_WORD.as_pointer()] * pointers + [_WORD] * integers
            made = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name=name)
            made.linkage = "internal"
            # Inlined steps were no faster, and took longer to compile.
            made.attributes.add("noinline")
            made.attributes.add("nounwind")
            made.attributes.alignstack = STACK_ALIGNMENT
            builder = ir.IRBuilder(made.append_basic_block("entry"))
            body(Lanes(builder, lanes, bits), *made.args)
            builder.ret_void()
            return made

        def definition(context: Any, workspace: Any, *operands: Any) -> Any:
            def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
                array = make_array(signature.args[0])(target, builder, values[0])
                base = builder.bitcast(array.data, _WORD.as_pointer())
                addresses = [builder.gep(base, [offset]) for offset in values[1 : 1 + pointers]]
                builder.call(function(builder.module), [*addresses, *values[1 + pointers :]])
                return target.get_dummy_value()

            return types.none(workspace, *[types.intp] * count), generate

        # numba asks for one named parameter each.
        names = ["context", "workspace", *(f"operand{i}" for i in range(count))]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(parameter, kind) for parameter in names])
        definition.__signature__ = signature  # type: ignore[attr-defined]
        definition.__name__ = definition.__qualname__ = body.__name__
        definition.__module__ = body.__module__
        definition.__doc__ = body.__doc__
        made: Callable[..., None] = intrinsic(definition)
        return made

    return decorate
