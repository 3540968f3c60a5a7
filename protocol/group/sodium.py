"""The reference back end of the group: libsodium, through rbcl, in threads over chunks of a batch.

libsodium computes whatever touches a secret and checks whatever a peer sent. Long sums of products with
public scalars, which proofs are about, may be given to lanes (`purposematch.protocol.group.lanes`): libsodium
has no multi-scalar multiplication, and one product after the other takes six times as long or more.

Source: RFC 9496, as implemented by libsodium's ``crypto_core_ristretto255`` and
``crypto_scalarmult_ristretto255``, both constant-time in scalars and points. rbcl is used because PyNaCl
binds no ristretto255; its functions are called on whole NumPy buffers by address, since its own
wrappers copy and check every item. Every call releases the GIL, so threads over chunks use all cores.

Not protected against: an observer of memory; intermediate scalars are not wiped by libsodium's callers
in Python.
"""

import contextlib
import ctypes
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from threading import Lock
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast, final

import numpy as np
import rbcl

from purposematch.protocol.ciphersuite import ELEMENT_LENGTH, SCALAR_LENGTH, WIDE_LENGTH
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group.interface import Bytes, Elements, Group, SecretScalar
from purposematch.protocol.secret import SecretArray, reveal, reveal_array

if TYPE_CHECKING:
    from purposematch.protocol.group.lanes import PublicLanes

__all__ = ["SodiumGroup"]

CHUNK_ELEMENTS = 256
"""Elements that one thread takes at a time: about 10 ms of work."""
SUMS_FROM: Final = 4_096
"""Products from which a sum is reason enough to load or compile the kernels: libsodium takes 0.2 s for so
many, and numba half a second to be imported. A program that has small batches only does without."""
SUMS_FROM_READY: Final = 64
"""Products from which lanes are faster once the kernels are ready; libsodium takes 3 ms for so many."""

_Function = Callable[..., int]
_Result = TypeVar("_Result")
_library = cast(ctypes.CDLL, rbcl._sodium)

# rbcl writes its copy of libsodium to a temporary file at every import and leaves it there. Once it is
# mapped the file is not needed; Windows keeps mapped files locked, so there the removal may fail.
with contextlib.suppress(OSError):
    os.unlink(_library._name)


def _bind(name: str, arguments: int) -> _Function:
    signature = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * arguments)
    return cast(_Function, signature((name, _library)))


_is_valid_point = _bind("crypto_core_ristretto255_is_valid_point", 1)
_from_hash = _bind("crypto_core_ristretto255_from_hash", 2)
_add = _bind("crypto_core_ristretto255_add", 3)
_subtract = _bind("crypto_core_ristretto255_sub", 3)
_scalar_reduce = _bind("crypto_core_ristretto255_scalar_reduce", 2)
_scalar_multiply = _bind("crypto_core_ristretto255_scalar_mul", 3)
_scalar_invert = _bind("crypto_core_ristretto255_scalar_invert", 2)
_multiply = _bind("crypto_scalarmult_ristretto255", 3)
_multiply_base = _bind("crypto_scalarmult_ristretto255_base", 2)


def _addresses(rows: Bytes) -> range:
    """The address of every row of a C-contiguous array."""
    start, width = rows.ctypes.data, rows.shape[1]
    return range(start, start + width * len(rows), width)


def _contiguous(rows: Bytes, width: int) -> Bytes:
    if rows.ndim != 2 or rows.shape[1] != width or rows.dtype != np.uint8:
        raise DecodeError(f"a batch has shape {rows.shape}, not (n, {width})")
    return np.ascontiguousarray(rows)


def _factors(scalars: Bytes, count: int) -> Bytes:
    """One scalar for each of `count` elements; with fewer, results would stay uninitialised memory."""
    if len(scalars) != count:
        raise ValueError(f"{len(scalars)} scalars do not fit {count} elements")
    return _contiguous(scalars, SCALAR_LENGTH)


@final
class _SodiumElements(Elements):
    """Elements as their checked encodings, which is the form libsodium computes with."""

    __slots__ = ("encoded",)

    def __init__(self, encoded: Bytes) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def rows(self, start: int, stop: int) -> Self:
        return type(self)(self.encoded[start:stop])


class SodiumGroup(Group):
    """ristretto255 on libsodium.

    Args:
        threads: how many threads share a batch; all cores by default.
        lanes: makes what computes long sums of public products; without it libsodium computes these too.
    """

    name = "sodium"
    description = name

    def __init__(self, threads: int | None = None, lanes: "Callable[[], PublicLanes] | None" = None) -> None:
        """Starts no thread before the first batch that is worth one."""
        self.threads = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="sodium")
        self._preparing = Lock()
        self._make_lanes = lanes
        self._lanes: PublicLanes | None = None

    def prepare(self) -> None:
        """See `Group.prepare`: compiles or loads what computes long sums.

        The kernels are for whatever processor this is, which nobody may have measured. Where LLVM can not
        compile them, or they do not agree with libsodium, libsodium computes all sums.
        """
        with self._preparing:
            make, self._make_lanes = self._make_lanes, None
            if make is not None:
                # Whatever LLVM and numba raise, nothing is lost but time.
                with contextlib.suppress(Exception):
                    lanes = make()
                    lanes.prepare()
                    if self._agrees(lanes):
                        self._lanes = lanes

    def decode(self, encoded: Bytes) -> Elements:
        """See `Group.decode`."""
        rows = _contiguous(encoded, ELEMENT_LENGTH)
        # libsodium's check accepts the identity, which has the all-zero encoding; and rbcl's copy ignores the
        # highest bit, so that every element would have a second encoding that is not canonical.
        valid = rows.any(axis=1).all() and not (rows[:, -1] & 0x80).any()

        def check(start: int, stop: int) -> bool:
            return all(map(_is_valid_point, _addresses(rows[start:stop])))

        if not valid or not all(self._over_chunks(check, len(rows))):
            raise DecodeError("an element is not canonical, or is the identity")
        return _SodiumElements(rows)

    def encode(self, elements: Elements) -> Bytes:
        """See `Group.encode`."""
        return _own(elements).encoded

    def map_to_group(self, uniform: Bytes) -> Elements:
        """See `Group.map_to_group`."""
        rows = _contiguous(uniform, WIDE_LENGTH)
        out = np.empty((len(rows), ELEMENT_LENGTH), np.uint8)

        def run(start: int, stop: int) -> bool:
            return not any(map(_from_hash, _addresses(out[start:stop]), _addresses(rows[start:stop])))

        self._all(run, len(rows))
        return _SodiumElements(out)

    def multiply(self, elements: Elements, scalar: SecretScalar) -> Elements:
        """See `Group.multiply`."""
        rows = _own(elements).encoded
        out = np.empty_like(rows)
        factor = np.frombuffer(reveal(scalar), np.uint8)
        address = factor.ctypes.data

        def run(start: int, stop: int) -> bool:
            pairs = zip(_addresses(out[start:stop]), _addresses(rows[start:stop]), strict=True)
            return not any(_multiply(target, address, source) for target, source in pairs)

        self._all(run, len(rows))
        return _SodiumElements(out)

    def multiply_each(self, elements: Elements, scalars: SecretArray) -> Elements:
        """See `Group.multiply_each`."""
        return self._multiply_rows(_own(elements).encoded, reveal_array(scalars))

    def add_multiples(
        self, elements: Elements, scalars: SecretArray, base: Elements | None = None, *, negate: bool = False
    ) -> Elements:
        """See `Group.add_multiples`."""
        rows, factors = _own(elements).encoded, _factors(reveal_array(scalars), len(elements))
        combine = _subtract if negate else _add
        out = np.empty_like(rows)

        def run(start: int, stop: int) -> bool:
            targets, terms = _addresses(out[start:stop]), _addresses(factors[start:stop])
            if base is None:
                computed = not any(map(_multiply_base, targets, terms))
            else:
                (address,) = _addresses(_own(base).encoded)
                computed = not any(map(_multiply, targets, terms, repeat(address)))
            return computed and not any(map(combine, targets, _addresses(rows[start:stop]), targets))

        self._all(run, len(rows))
        if not out.any(axis=1).all():
            raise DecodeError("a sum is the identity")
        return _SodiumElements(out)

    def multiply_generator(self, scalar: SecretScalar) -> Elements:
        """See `Group.multiply_generator`."""
        factor = np.frombuffer(reveal(scalar), np.uint8)
        return _SodiumElements(self._base_times(factor))

    def public_multiply_add(self, a: Bytes, x: Elements, b: Bytes, y: Elements | None = None) -> Elements:
        """See `Group.public_multiply_add`."""
        left = self._multiply_rows(_own(x).encoded, a.reshape(1, SCALAR_LENGTH)).encoded
        if y is None:
            right = self._base_times(b)
        else:
            right = self._multiply_rows(_own(y).encoded, b.reshape(1, SCALAR_LENGTH)).encoded
        return _sum(np.concatenate([left, right]))

    def public_sum_of_products(self, elements: Elements, scalars: Bytes) -> Elements:
        """See `Group.public_sum_of_products`."""
        return self.public_sums_of_products([elements], scalars)[0]

    def public_sums_of_products(self, batches: Sequence[Elements], scalars: Bytes) -> list[Elements]:
        """See `Group.public_sums_of_products`."""
        rows = [_own(elements).encoded for elements in batches]
        for encoded in rows:
            factors = _factors(scalars, len(encoded))
        if not len(factors):
            raise DecodeError("a sum is the identity")
        if len(factors) >= SUMS_FROM:
            self.prepare()
        if self._lanes is not None and len(factors) >= SUMS_FROM_READY:
            return list(map(_SodiumElements, _sums_in_lanes(self._lanes, rows, factors)))
        return [self._sum_of_products(encoded, factors) for encoded in rows]

    def reduce(self, wide: Bytes) -> Bytes:
        """See `Group.reduce`."""
        rows = _contiguous(wide, WIDE_LENGTH)
        out = np.empty((len(rows), SCALAR_LENGTH), np.uint8)
        for target, source in zip(_addresses(out), _addresses(rows), strict=True):
            _scalar_reduce(target, source)
        return out

    def invert(self, scalars: SecretArray) -> SecretArray:
        """See `Group.invert`.

        One inversion serves the whole batch (Montgomery's trick): with prefix products p_i of the
        scalars s_i and t = 1 / p_n, going backwards 1 / s_i = t * p_(i-1) and t becomes t * s_i.
        """
        rows = _contiguous(reveal_array(scalars), SCALAR_LENGTH)
        out = np.empty_like(rows)
        if not len(rows):
            return SecretArray(out)
        prefixes = np.empty_like(rows)
        prefixes[0] = rows[0]
        prefix, scalar = _addresses(prefixes), _addresses(rows)
        for i in range(1, len(rows)):
            _scalar_multiply(prefix[i], prefix[i - 1], scalar[i])
        rest = np.empty((1, SCALAR_LENGTH), np.uint8)
        (address,) = _addresses(rest)
        if _scalar_invert(address, prefix[-1]):
            raise DecodeError("a scalar is zero")
        target = _addresses(out)
        for i in range(len(rows) - 1, 0, -1):
            _scalar_multiply(target[i], address, prefix[i - 1])
            _scalar_multiply(address, address, scalar[i])
        out[0] = rest[0]
        prefixes[:] = 0
        rest[:] = 0
        return SecretArray(out)

    def _sum_of_products(self, rows: Bytes, factors: Bytes) -> "_SodiumElements":
        """One product after the other, all by libsodium."""

        def run(start: int, stop: int) -> Bytes:
            products = np.empty((stop - start, ELEMENT_LENGTH), np.uint8)
            targets, scalars = _addresses(products), _addresses(factors[start:stop])
            if any(map(_multiply, targets, scalars, _addresses(rows[start:stop]))):
                raise DecodeError("a product is the identity")
            return _sum(products).encoded

        return _sum(np.concatenate(self._over_chunks(run, len(rows))))

    def _agrees(self, lanes: "PublicLanes") -> bool:
        """Whether lanes and libsodium compute the same sum of a few products."""
        wide = hashlib.shake_256(b"a few elements").digest(WIDE_LENGTH * SUMS_FROM_READY)
        uniform = np.frombuffer(wide, np.uint8).reshape(-1, WIDE_LENGTH)
        rows, factors = self.encode(self.map_to_group(uniform)), self.reduce(uniform)
        expected = self._sum_of_products(rows, factors).encoded
        return bool((_sums_in_lanes(lanes, [rows], factors)[0] == expected).all())

    def _multiply_rows(self, rows: Bytes, factors: Bytes) -> "_SodiumElements":
        factors = _factors(factors, len(rows))
        out = np.empty_like(rows)

        def run(start: int, stop: int) -> bool:
            targets, scalars = _addresses(out[start:stop]), _addresses(factors[start:stop])
            return not any(map(_multiply, targets, scalars, _addresses(rows[start:stop])))

        self._all(run, len(rows))
        return _SodiumElements(out)

    def _base_times(self, factor: Bytes) -> Bytes:
        out = np.empty((1, ELEMENT_LENGTH), np.uint8)
        if _multiply_base(out.ctypes.data, factor.ctypes.data):
            raise DecodeError("a product is the identity")
        return out

    def _all(self, run: Callable[[int, int], bool], count: int) -> None:
        """Runs over all chunks; a zero scalar, which libsodium refuses, is the only way to fail."""
        if not all(self._over_chunks(run, count)):
            raise DecodeError("a product is the identity")

    def _over_chunks(self, run: Callable[[int, int], _Result], count: int) -> Sequence[_Result]:
        bounds = [(start, min(start + CHUNK_ELEMENTS, count)) for start in range(0, count, CHUNK_ELEMENTS)]
        if self.threads == 1 or len(bounds) < 2:
            return [run(*bound) for bound in bounds]
        return list(self._pool.map(lambda bound: run(*bound), bounds))


def _own(elements: Elements) -> _SodiumElements:
    if not isinstance(elements, _SodiumElements):
        raise TypeError("these elements belong to another back end of the group")
    return elements


def _sums_in_lanes(lanes: "PublicLanes", batches: Sequence[Bytes], factors: Bytes) -> list[Bytes]:
    sums = lanes.public_sums_of_products([lanes.decode(rows) for rows in batches], factors)
    return [lanes.encode(total) for total in sums]


def _sum(rows: Bytes) -> _SodiumElements:
    """The sum of all rows, which must not be empty."""
    total = rows[:1].copy()
    (address,) = _addresses(total)
    for term in _addresses(rows[1:]):
        _add(address, address, term)
    if not total.any():
        raise DecodeError("a sum is the identity")
    return _SodiumElements(total)
