"""What SHA-256 and SHA-512 share in lanes: constants, the rounds, and the way from rows to lanes and back.

Source: FIPS 180-4 sections 4, 5.3 and 6. The two functions differ in the width of a word, the number of
rounds and the distances of the rotations. Every lane hashes a message of its own. Runs in a time that
depends on the number of blocks only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from llvmlite import ir

from purposematch.protocol.simd.lanes import Lanes, Vector, step

__all__ = [
    "BLOCK_WORDS",
    "SHA256",
    "SHA512",
    "STATE_WORDS",
    "Sha2",
    "address_of",
    "compress",
    "copy_bytes",
    "lanes_of",
    "load_rows",
    "store_rows",
]

BLOCK_WORDS: Final = 16
"""Words of a message block."""
STATE_WORDS: Final = 8
"""Words of the state between two blocks, and of a digest."""
_GROUP: Final = 16
"""Rounds that are written out; they are repeated in a loop."""


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _root_fraction(value: int, degree: int, bits: int) -> int:
    """The first bits of the fraction of a root."""
    scaled, low, high = value << (degree * bits), 0, 1 << (bits + 8)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= scaled else (low, middle)
    return low % (1 << bits)


@dataclass(frozen=True)
class Sha2:
    """One of the two functions.

    Attributes:
        bits: bits of a word.
        rounds: rounds a block.
        sums: the rotations of the functions Sigma_0 and Sigma_1.
        schedule: of sigma_0 and sigma_1, the last number of each being a shift.
    """

    bits: int
    rounds: int
    sums: tuple[tuple[int, int, int], tuple[int, int, int]]
    schedule: tuple[tuple[int, int, int], tuple[int, int, int]]

    @property
    def constants(self) -> list[int]:
        """K: one constant a round, from the cube roots of the first primes."""
        return [_root_fraction(prime, 3, self.bits) for prime in _primes(self.rounds)]

    @property
    def initial(self) -> list[int]:
        """H(0): from the square roots of the first eight primes."""
        return [_root_fraction(prime, 2, self.bits) for prime in _primes(STATE_WORDS)]


SHA256: Final = Sha2(32, 64, ((2, 13, 22), (6, 11, 25)), ((7, 18, 3), (17, 19, 10)))
SHA512: Final = Sha2(64, 80, ((28, 34, 39), (14, 18, 41)), ((1, 8, 7), (19, 61, 6)))


def compress(lanes: Lanes, sha: Sha2, state: Sequence[Vector], block: Sequence[Vector]) -> list[Vector]:
    """The state after one more block of big-endian words, in every lane."""
    constants = lanes.table(f"sha2_constants_{sha.bits}", sha.constants)

    def rounds(first: Any, held: list[Vector], more: bool) -> list[Vector]:
        """16 rounds; with `more`, every word is replaced by the one that is needed 16 rounds later."""
        a, b, c, d, e, f, g, h = held[:STATE_WORDS]
        words = held[STATE_WORDS:]
        for i in range(_GROUP):
            constant = constants(lanes.builder.add(first, ir.Constant(first.type, i)))
            chosen, majority = g ^ (e & (f ^ g)), (a & b) | (c & (a | b))
            t1 = h + (words[i] + constant) + chosen + _sum(e, sha.sums[1])
            t2 = majority + _sum(a, sha.sums[0])
            a, b, c, d, e, f, g, h = t1 + t2, a, b, c, d + t1, e, f, g
            if more:
                after, before = words[(i + 1) % _GROUP], words[(i + 14) % _GROUP]
                mixed = words[i] + words[(i + 9) % _GROUP]
                words[i] = mixed + _mix(after, sha.schedule[0]) + _mix(before, sha.schedule[1])
        return [a, b, c, d, e, f, g, h, *words]

    index = ir.IntType(64)
    groups = sha.rounds // _GROUP - 1
    last = ir.Constant(index, groups * _GROUP)

    def body(i: Any, held: list[Vector]) -> list[Vector]:
        return rounds(lanes.builder.mul(i, ir.Constant(index, _GROUP)), held, True)

    held = rounds(last, lanes.loop(groups, [*state, *block], body), False)
    return [old + new for old, new in zip(state, held[:STATE_WORDS], strict=True)]


@step(1, 3)
def copy_bytes(lanes: Lanes, target: Any, shift: Any, address: Any, count: Any) -> None:
    """Copies `count` bytes from an address to the place `shift` bytes behind a pointer."""
    builder, octets = lanes.builder, ir.IntType(8).as_pointer()
    place = builder.gep(builder.bitcast(target, octets), [shift])
    copy = builder.module.declare_intrinsic("llvm.memcpy", [octets, octets, ir.IntType(64)])
    is_volatile = ir.Constant(ir.IntType(1), 0)
    builder.call(copy, [place, builder.inttoptr(address, octets), count, is_volatile])


def _sum(word: Vector, counts: tuple[int, int, int]) -> Vector:
    first, second, third = (word.rotate_right(count) for count in counts)
    return first ^ second ^ third


def _mix(word: Vector, counts: tuple[int, int, int]) -> Vector:
    return word.rotate_right(counts[0]) ^ word.rotate_right(counts[1]) ^ (word >> counts[2])


def address_of(lanes: Lanes, pointer: Any, index: int) -> Any:
    """Reads a 64-bit address behind a pointer, as a pointer to bytes."""
    word = ir.IntType(64)
    read = lanes.builder.load(lanes.builder.gep(pointer, [ir.Constant(word, index)]))
    return lanes.builder.inttoptr(read, ir.IntType(8).as_pointer())


def lanes_of(lanes: Lanes, rows: Sequence[Sequence[Any]]) -> list[Vector]:
    """Word i of every row, as vector i.

    Args:
        lanes: the code that is being written.
        rows: for each lane its words, as LLVM vectors of at most as many words as there are lanes.
    """
    columns = [_transposed(lanes, part) for part in zip(*rows, strict=True)]
    return [Vector(lanes, vector) for part in columns for vector in part]


def load_rows(lanes: Lanes, addresses: Sequence[Any]) -> list[Vector]:
    """The words of one block behind the address of each lane, as 16 vectors; no alignment is needed."""
    parts = BLOCK_WORDS // lanes.count
    return lanes_of(
        lanes,
        [
            [lanes.builder.load(_part(lanes, address, lanes.count, part), align=1) for part in range(parts)]
            for address in addresses
        ],
    )


def store_rows(lanes: Lanes, addresses: Sequence[Any], words: Sequence[Vector]) -> None:
    """Stores word i of every lane, from vector i of eight, behind the address of each lane."""
    width = min(lanes.count, len(words))
    for first in range(0, lanes.count, width):
        for part in range(len(words) // width):
            some = [_slice(lanes, word.value, first, width) for word in words[part * width :][:width]]
            for address, row in zip(addresses[first : first + width], _transposed(lanes, some), strict=True):
                lanes.builder.store(row, _part(lanes, address, width, part), align=1)


def _part(lanes: Lanes, address: Any, width: int, index: int) -> Any:
    """A pointer to the vector of `width` words that is number `index` behind an address."""
    vector = ir.VectorType(ir.IntType(lanes.bits), width).as_pointer()
    offset = ir.Constant(ir.IntType(64), index * width * lanes.bits // 8)
    return lanes.builder.bitcast(lanes.builder.gep(address, [offset]), vector)


def _slice(lanes: Lanes, vector: Any, first: int, width: int) -> Any:
    if width == lanes.count:
        return vector
    return _shuffle(lanes, vector, vector, range(first, first + width))


def _transposed(lanes: Lanes, rows: Sequence[Any]) -> list[Any]:
    """Transposes a square of LLVM values: log2(n) times, quadrants of ever smaller squares change places."""
    found = list(rows)
    size = len(found)
    distance = size // 2
    while distance:
        low = [i if not i & distance else size + i - distance for i in range(size)]
        high = [i + distance if not i & distance else size + i for i in range(size)]
        for i in range(size):
            if not i & distance:
                upper, lower = found[i], found[i + distance]
                found[i] = _shuffle(lanes, upper, lower, low)
                found[i + distance] = _shuffle(lanes, upper, lower, high)
        distance //= 2
    return found


def _shuffle(lanes: Lanes, first: Any, second: Any, chosen: Sequence[int]) -> Any:
    kind = ir.VectorType(ir.IntType(32), len(chosen))
    return lanes.builder.shuffle_vector(first, second, ir.Constant(kind, list(chosen)))
