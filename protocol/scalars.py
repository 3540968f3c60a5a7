"""Arithmetic on single scalars modulo the group order, in constant time, through libsodium.

What works on one secret at a time (keys, the nonce and response of a proof) is here; whole batches go
through the `Group`.
"""

import rbcl

from purposematch.protocol.ciphersuite import SCALAR_LENGTH, WIDE_LENGTH
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import RandomBytes, SecretScalar
from purposematch.protocol.secret import reveal

__all__ = [
    "GROUP_ORDER",
    "decode_public_scalar",
    "random_scalar",
    "scalar_add",
    "scalar_invert",
    "scalar_multiply_subtract",
    "scalar_reduce",
]

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
"""The order of ristretto255 (RFC 9496 section 4)."""
_ZERO = SecretScalar(bytes(SCALAR_LENGTH))


def scalar_reduce(wide: bytes) -> SecretScalar:
    """A 64-byte little-endian integer modulo the group order.

    Raises:
        DecodeError: `wide` is not 64 bytes long, or the result is zero.
    """
    if len(wide) != WIDE_LENGTH:
        raise DecodeError(f"a wide integer is {len(wide)} bytes long, not {WIDE_LENGTH}")
    return _not_zero(rbcl.crypto_core_ristretto255_scalar_reduce(wide))


def random_scalar(random_bytes: RandomBytes) -> SecretScalar:
    """A uniform non-zero scalar (RFC 9497 section 2.1, RandomScalar)."""
    return scalar_reduce(random_bytes(WIDE_LENGTH))


def scalar_add(a: SecretScalar, b: SecretScalar) -> SecretScalar:
    """a + b.

    Raises:
        DecodeError: the sum is zero (RFC 9497's InverseError where it is inverted next).
    """
    return _not_zero(rbcl.crypto_core_ristretto255_scalar_add(reveal(a), reveal(b)))


def scalar_invert(a: SecretScalar) -> SecretScalar:
    """1 / a."""
    return _not_zero(rbcl.crypto_core_ristretto255_scalar_invert(reveal(a)))


def scalar_multiply_subtract(a: SecretScalar, b: bytes, c: SecretScalar) -> bytes:
    """a - b*c, for a public scalar b; the result is public: it is the response of a proof."""
    product = rbcl.crypto_core_ristretto255_scalar_mul(b, reveal(c))
    return bytes(rbcl.crypto_core_ristretto255_scalar_sub(reveal(a), product))


def decode_public_scalar(encoded: bytes) -> bytes:
    """Checks that 32 bytes are a canonical scalar (RFC 9497 section 4.1, DeserializeScalar).

    Raises:
        DecodeError: the length is wrong or the integer is not below the group order.
    """
    if len(encoded) != SCALAR_LENGTH:
        raise DecodeError(f"a scalar is {len(encoded)} bytes long, not {SCALAR_LENGTH}")
    if int.from_bytes(encoded, "little") >= GROUP_ORDER:
        raise DecodeError("a scalar is not below the group order")
    return bytes(encoded)


def _not_zero(encoded: bytes) -> SecretScalar:
    scalar = SecretScalar(encoded)
    if scalar == _ZERO:
        raise DecodeError("a scalar is zero")
    return scalar
