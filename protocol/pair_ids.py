"""The key chain of IAB Tech Lab's PAIR, as a library: no command, service or session uses it.

Source: PAIR v1.1 (IAB Tech Lab), and where it leaves a choice, `pkg/pair` of Optable's `match`. An identifier
is made canonical under the profile `pair-v1`, and hashed; for every digest ::

    x = 64 lower-case hexadecimal digits of SHA-256(canonical identifier)
    P = map to ristretto255 of SHA-512(SHA-256(Ks || x))          RFC 9496 section 4.3.4
    id = base64(k * P), 44 characters                              RFC 4648 section 4

The publisher's salt `Ks` is the same for all of its advertisers and changes every 30 days. With the
advertiser's key `Ka` an id is an advertiser identifier (KsKa), with the publisher's `Kp` a publisher
identifier (KsKp), and with both, in either order, the PAIR id (KsKaKp), which must never leave the clean
room. Salt and keys have types of their own: they are never those of a scope, whose points are hashed
otherwise.

Not protected against: whatever PAIR itself is not. Ids of one salt and key can be compared for ever, a party
that has both keys links everybody, and there are no proofs: who multiplied by what is a matter of trust.
"""

import base64
import binascii
from typing import Final, Self

import numpy as np

from purposematch.protocol.batch_hash import sha256_rows, sha512_rows
from purposematch.protocol.ciphersuite import ELEMENT_LENGTH
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import Bytes, Elements, Group, RandomBytes, SecretScalar
from purposematch.protocol.scalars import decode_public_scalar, random_scalar, scalar_invert
from purposematch.protocol.secret import Secret, reveal

__all__ = ["PAIR_ID_LENGTH", "PairKey", "PairSalt", "add_key", "pair_ids", "remove_key"]

PAIR_ID_LENGTH: Final = 44
"""Characters of an id: 32 bytes in base64, the last of them the one sign of padding."""

_DIGITS: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_DIGITS_LENGTH: Final = 64
_PADDED: Final = ELEMENT_LENGTH + 1
"""Bytes whose base64 has no padding; their text is as long as that of one byte less."""


class PairSalt(Secret):
    """A publisher's `Ks`, 32 bytes."""

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> Self:
        """A fresh one."""
        return cls(random_bytes(cls.LENGTH))


class PairKey(Secret):
    """An advertiser's `Ka` or a publisher's `Kp`: a scalar, not zero."""

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> Self:
        """A fresh one."""
        return cls(reveal(random_scalar(random_bytes)))

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """The key in 32 bytes, little-endian.

        Raises:
            DecodeError: they are no scalar, or zero.
        """
        if not any(encoded):
            raise DecodeError("a key of PAIR is zero")
        return cls(decode_public_scalar(encoded))


def pair_ids(group: Group, salt: PairSalt, key: PairKey, digests: Bytes) -> Bytes:
    """Advertiser or publisher identifiers of digests, in their order.

    Args:
        group: what computes.
        salt: the publisher's.
        key: the advertiser's or the publisher's.
        digests: (n, 32) uint8, SHA-256 of canonical identifiers under `pair-v1`.

    Returns:
        (n, 44) uint8, ASCII.
    """
    digits = np.stack([_DIGITS[digests >> 4], _DIGITS[digests & 15]], axis=2).reshape(-1, _DIGITS_LENGTH)
    salted = sha256_rows(reveal(salt), digits)
    return _text(group, group.multiply(group.map_to_group(sha512_rows(salted)), _scalar(key)))


def add_key(group: Group, key: PairKey, ids: Bytes) -> Bytes:
    """Ids with one key more: PAIR ids, of ids that the other side made. (n, 44), as given and as returned.

    Raises:
        DecodeError: one is no id: not base64 of an element, or of the identity.
    """
    return _text(group, group.multiply(_elements(group, ids), _scalar(key)))


def remove_key(group: Group, key: PairKey, ids: Bytes) -> Bytes:
    """Ids with one key less: publisher identifiers, of PAIR ids and `Ka`. (n, 44), as given and as returned.

    Raises:
        DecodeError: as `add_key`.
    """
    return _text(group, group.multiply(_elements(group, ids), scalar_invert(_scalar(key))))


def _scalar(key: PairKey) -> SecretScalar:
    return SecretScalar(reveal(key))


def _text(group: Group, elements: Elements) -> Bytes:
    encoded = group.encode(elements)
    padded = np.zeros((len(encoded), _PADDED), np.uint8)
    padded[:, :ELEMENT_LENGTH] = encoded
    # With a byte of zeros at their end rows take whole groups of characters, so that all are encoded at once.
    text = np.frombuffer(base64.b64encode(padded.tobytes()), np.uint8).reshape(-1, PAIR_ID_LENGTH).copy()
    text[:, -1] = ord("=")
    return text


def _elements(group: Group, ids: Bytes) -> Elements:
    if ids.ndim != 2 or ids.shape[1] != PAIR_ID_LENGTH or not (ids[:, -1] == ord("=")).all():
        raise DecodeError(f"an id of PAIR is {PAIR_ID_LENGTH} characters of base64")
    text = ids.copy()
    text[:, -1] = ord("A")
    try:
        padded = np.frombuffer(base64.b64decode(text.tobytes(), validate=True), np.uint8)
    except binascii.Error:
        raise DecodeError(f"an id of PAIR is {PAIR_ID_LENGTH} characters of base64") from None
    rows = padded.reshape(len(ids), _PADDED)
    if rows[:, -1].any():
        raise DecodeError("an id of PAIR has bits beyond its end")
    return group.decode(np.ascontiguousarray(rows[:, :ELEMENT_LENGTH]))
