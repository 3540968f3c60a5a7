"""A second implementation of the POPRF, slow and plain, to check the fast one against.

Written from RFC 9496 (ristretto255), RFC 9380 (expand_message_xmd), RFC 9497 (POPRF with a batched proof) and
RFC 8439 (ChaCha20) alone, with Python integers. It shares no code and no constant with the package.

It protects nothing: it takes time that depends on its secrets. For tests only.
"""

import hashlib

# --- RFC 9496 section 4.1: the field and the curve behind ristretto255 ---

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = 37095705934669439343138083508754565189542113879843219016388785533085940283555
SQRT_M1 = 19681161376707505956807079304988542015446066515923890162744021073123829784752
SQRT_AD_MINUS_ONE = 25063068953384623474111414158702152701244531502492656460079210482610430750235
INVSQRT_A_MINUS_D = 54469307008909316920995813868745141605393597292927456921205312896311721017578
ONE_MINUS_D_SQ = 1159843021668779879193775521855586647937357759715417654439879720876111806838
D_MINUS_ONE_SQ = 40440834346308536858101042469323190826248399146238708352240133220865137265952

Point = tuple[int, int, int, int]
"""Extended coordinates (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z."""
IDENTITY: Point = (0, 1, 1, 0)


class Refused(Exception):
    """An encoding, or a proof, is not valid."""


def negative(x: int) -> bool:
    return x % P % 2 == 1


def absolute(x: int) -> int:
    return -x % P if negative(x) else x % P


def sqrt_ratio_m1(u: int, v: int) -> tuple[bool, int]:
    """Section 4.2: whether u/v is a square, and the non-negative root of u/v or of SQRT_M1 * u/v."""
    r = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * r * r % P
    correct = check == u % P
    flipped = check == -u % P
    flipped_i = check == -u * SQRT_M1 % P
    if flipped or flipped_i:
        r = r * SQRT_M1 % P
    return correct or flipped, absolute(r)


def decode(encoded: bytes) -> Point:
    """Section 4.3.1, and RFC 9497 section 4.1: the identity is refused as well."""
    s = int.from_bytes(encoded, "little")
    if len(encoded) != 32 or s >= P or negative(s):
        raise Refused("not canonical")
    u1, u2 = 1 - s * s, 1 + s * s
    v = -D * u1 * u1 - u2 * u2
    was_square, invsqrt = sqrt_ratio_m1(1, v * u2 * u2)
    den_x = invsqrt * u2 % P
    den_y = invsqrt * den_x * v % P
    x = absolute(2 * s * den_x)
    y = u1 * den_y % P
    t = x * y % P
    if not was_square or negative(t) or y == 0:
        raise Refused("not on the curve")
    if s == 0:
        raise Refused("the identity")
    return x, y, 1, t


def encode(point: Point) -> bytes:
    """Section 4.3.2."""
    x0, y0, z0, t0 = point
    u1 = (z0 + y0) * (z0 - y0)
    u2 = x0 * y0
    _, invsqrt = sqrt_ratio_m1(1, u1 * u2 * u2)
    den1, den2 = invsqrt * u1 % P, invsqrt * u2 % P
    z_inv = den1 * den2 * t0 % P
    if negative(t0 * z_inv):
        x, y, den_inv = y0 * SQRT_M1, x0 * SQRT_M1, den1 * INVSQRT_A_MINUS_D
    else:
        x, y, den_inv = x0, y0, den2
    if negative(x * z_inv):
        y = -y
    return absolute(den_inv * (z0 - y)).to_bytes(32, "little")


def one_way_map(uniform: bytes) -> Point:
    """Section 4.3.4."""
    halves = (int.from_bytes(half, "little") % 2**255 % P for half in (uniform[:32], uniform[32:]))
    return add(*map(elligator, halves))


def elligator(t: int) -> Point:
    """Section 4.3.4, MAP."""
    r = SQRT_M1 * t * t % P
    u = (r + 1) * ONE_MINUS_D_SQ
    v = (-1 - r * D) * (r + D) % P
    was_square, s = sqrt_ratio_m1(u, v)
    c = -1
    if not was_square:
        s, c = -absolute(s * t), r
    n = c * (r - 1) * D_MINUS_ONE_SQ - v
    w0, w1, w2, w3 = 2 * s * v, n * SQRT_AD_MINUS_ONE, 1 - s * s, 1 + s * s
    return w0 * w3 % P, w2 * w1 % P, w1 * w3 % P, w0 * w2 % P


def add(p: Point, q: Point) -> Point:
    """RFC 8032 section 5.1.4: the complete addition on the twisted Edwards curve with a = -1."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * D * p[3] * q[3], 2 * p[2] * q[2]
    e, f, g, h = (b - a) % P, (d - c) % P, (d + c) % P, (b + a) % P
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar: int, point: Point) -> Point:
    total = IDENTITY
    for bit in bin(scalar % L)[2:]:
        total = add(total, total)
        if bit == "1":
            total = add(total, point)
    return total


GENERATOR = decode(bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76"))

# --- RFC 9380 section 5.3.1 and RFC 9497 section 4.1: hashing ---


def expand_message_xmd(message: bytes, dst: bytes, length: int) -> bytes:
    dst_prime = dst + bytes([len(dst)])
    b_0 = hashlib.sha512(bytes(128) + message + length.to_bytes(2, "big") + b"\0" + dst_prime).digest()
    b_i, uniform = bytes(64), b""
    for i in range(1, -(-length // 64) + 1):
        mixed = bytes(x ^ y for x, y in zip(b_0, b_i, strict=True))
        b_i = hashlib.sha512(mixed + bytes([i]) + dst_prime).digest()
        uniform += b_i
    return uniform[:length]


def context(mode: int) -> bytes:
    return b"OPRFV1-" + bytes([mode]) + b"-ristretto255-SHA512"


def hash_to_group(mode: int, message: bytes) -> Point:
    return one_way_map(expand_message_xmd(message, b"HashToGroup-" + context(mode), 64))


def hash_to_scalar(mode: int, message: bytes) -> int:
    wide = expand_message_xmd(message, b"HashToScalar-" + context(mode), 64)
    return int.from_bytes(wide, "little") % L


def prefixed(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def scalar_bytes(scalar: int) -> bytes:
    return (scalar % L).to_bytes(32, "little")


# --- RFC 9497 section 2.2: the batched proof ---


def composites(mode: int, public: Point, c: list[Point], d: list[Point]) -> tuple[Point, Point]:
    seed = hashlib.sha512(prefixed(encode(public)) + prefixed(b"Seed-" + context(mode))).digest()
    m = z = IDENTITY
    for i, (c_i, d_i) in enumerate(zip(c, d, strict=True)):
        pair = prefixed(encode(c_i)) + prefixed(encode(d_i))
        weight = hash_to_scalar(mode, prefixed(seed) + i.to_bytes(2, "big") + pair + b"Composite")
        m, z = add(multiply(weight, c_i), m), add(multiply(weight, d_i), z)
    return m, z


def challenge(mode: int, *points: Point) -> int:
    return hash_to_scalar(mode, b"".join(prefixed(encode(point)) for point in points) + b"Challenge")


def prove(mode: int, k: int, public: Point, c: list[Point], d: list[Point], r: int) -> bytes:
    m, z = composites(mode, public, c, d)
    e = challenge(mode, public, m, z, multiply(r, GENERATOR), multiply(r, m))
    return scalar_bytes(e) + scalar_bytes(r - e * k)


def verify(mode: int, public: Point, c: list[Point], d: list[Point], proof: bytes) -> None:
    e, s = int.from_bytes(proof[:32], "little"), int.from_bytes(proof[32:], "little")
    m, z = composites(mode, public, c, d)
    t2 = add(multiply(s, GENERATOR), multiply(e, public))
    t3 = add(multiply(s, m), multiply(e, z))
    if challenge(mode, public, m, z, t2, t3) != e:
        raise Refused("the proof does not hold")


# --- RFC 9497 sections 3.2 and 3.3 ---


def derive_key(mode: int, seed: bytes, info: bytes) -> int:
    for counter in range(256):
        message = seed + prefixed(info) + bytes([counter])
        wide = expand_message_xmd(message, b"DeriveKeyPair" + context(mode), 64)
        if key := int.from_bytes(wide, "little") % L:
            return key
    raise Refused("no key")


def info_scalar(info: bytes) -> int:
    return hash_to_scalar(2, b"Info" + prefixed(info))


def finalize(message: bytes, info: bytes | None, point: Point) -> bytes:
    middle = b"" if info is None else prefixed(info)
    return hashlib.sha512(prefixed(message) + middle + prefixed(encode(point)) + b"Finalize").digest()


def blind(mode: int, message: bytes, r: int) -> Point:
    return multiply(r, hash_to_group(mode, message))


def blind_evaluate(key: int, info: bytes, blinded: list[Point], r: int) -> tuple[list[Point], bytes]:
    """The POPRF's BlindEvaluate, with the nonce of the proof."""
    t = key + info_scalar(info)
    evaluated = [multiply(pow(t, -1, L), point) for point in blinded]
    return evaluated, prove(2, t, multiply(t, GENERATOR), evaluated, blinded, r)


def unblind(r: int, evaluated: Point) -> Point:
    return multiply(pow(r, -1, L), evaluated)


def evaluate(key: int, info: bytes, message: bytes) -> bytes:
    """The POPRF's Evaluate: the output without blinding."""
    t = key + info_scalar(info)
    return finalize(message, info, multiply(pow(t, -1, L), hash_to_group(2, message)))


# --- RFC 8439 section 2.3: one ChaCha20 block, for the expansion of blinds ---


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    words = [int.from_bytes(part, "little") for part in _quads(b"expand 32-byte k" + key)]
    words += [counter, *(int.from_bytes(part, "little") for part in _quads(nonce))]
    state = list(words)
    columns = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
    diagonals = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
    for _ in range(10):
        for a, b, c, d in columns + diagonals:
            for x, y, z, shift in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                state[x] = (state[x] + state[y]) % 2**32
                mixed = state[z] ^ state[x]
                state[z] = (mixed << shift | mixed >> 32 - shift) % 2**32
    sums = [(x + y) % 2**32 for x, y in zip(state, words, strict=True)]
    return b"".join(word.to_bytes(4, "little") for word in sums)


def _quads(content: bytes) -> list[bytes]:
    return [content[i : i + 4] for i in range(0, len(content), 4)]
