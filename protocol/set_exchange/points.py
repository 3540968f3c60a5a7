"""The points of the set exchange: hashing to them, the platform's secrets for them, and its lists.

A list for `count` holds b*H(x) with one secret b. The list for `platform` holds H(x) + r*G with a secret r
for each x, its mask: what comes back in its order times a is freed of a*r*G = r*A at under a third of what a
multiplication by b costs, and uniform masks hide x also from whoever computes discrete logarithms.

The name of a list (`purposematch.protocol.point_segments`) goes into the hash and into the secrets, so that
nobody can compare the points of two lists, which would tell planted ones apart.

Source: hashing of RFC 9380 as in RFC 9497 section 4.1, with the scope in the message; secrets by HKDF
(RFC 5869) from one random seed of an epoch. Masks are the blinding of `additive_blinding`, whose source says
that the multiples must be proved before they are used. Each is a SHA-512 with a secret before it, a
pseudorandom function for messages of one length (Bellare, Canetti, Krawczyk 1996, "Pseudorandom Functions
Revisited: The Cascade Construction and Its Concrete Security").

Not protected against: a platform that publishes a list with people left out, or with a secret of its own for
each point; see docs/protocol.md.
"""

import hashlib
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from numpy.typing import NDArray

from purposematch.protocol.batch_hash import sha512_rows
from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.ciphersuite import (
    SCALAR_LENGTH,
    SET_EXCHANGE,
    SET_EXCHANGE_DOMAIN,
    WIDE_LENGTH,
)
from purposematch.protocol.group import Bytes, Elements, Group, SecretScalar
from purposematch.protocol.hashing import hash_to_group, one_row
from purposematch.protocol.index import order_by_tag
from purposematch.protocol.point_segments import PLANTED_COUNT, identifiers_in
from purposematch.protocol.scalars import scalar_reduce
from purposematch.protocol.secret import Secret, SecretArray, reveal

__all__ = [
    "MARK_LENGTH",
    "MASK_INPUT_LENGTH",
    "EpochSecret",
    "ListSecret",
    "MaskKey",
    "canary_mask_inputs",
    "expand_secret",
    "list_points",
    "list_secret",
    "marks",
    "masks",
    "multiples",
    "order_of_encodings",
    "planted_points",
    "planted_scalars",
    "scope_points",
]

MARK_LENGTH: Final = 16
"""Bytes of a point that are compared: the first half of its encoding, of which 127 bits vary."""

MASK_INPUT_LENGTH: Final = 16
"""Bytes that stand for an identifier where its mask is made: its keyed digest, in the platform's registry."""

_ONE: Final = SecretScalar(b"\1".ljust(SCALAR_LENGTH, b"\0"))


class EpochSecret(Secret):
    """32 random bytes of a key epoch, independent of its POPRF key, from which its lists are made."""

    __slots__ = ()


class MaskKey(Secret):
    """32 bytes from which the masks of a list for `platform` are made."""

    __slots__ = ()


ListSecret = SecretScalar | MaskKey
"""What a list is made with: b for `count`, a key of masks for `platform`."""


def scope_points(group: Group, name: str, info: bytes, inputs: Bytes) -> Elements:
    """H(scope, list, input) for (n, 33) private inputs.

    Args:
        group: the back end.
        name: of the list.
        info: the scope's, see `Scope.info`.
        inputs: kind byte and digest each.
    """
    label = name.encode("ascii")
    prefix = hashlib.sha256(SET_EXCHANGE_DOMAIN + len(label).to_bytes(2, "big") + label + info).digest()
    return hash_to_group(group, SET_EXCHANGE, [prefix, inputs])


def expand_secret(secret: Secret, use: str, length: int) -> bytes:
    """So many bytes of a 32-byte random secret for one use (HKDF-Expand of RFC 5869 with SHA-512)."""
    info = SET_EXCHANGE_DOMAIN + b" " + use.encode("ascii")
    return HKDFExpand(SHA512(), length, info).derive(reveal(secret))


def list_secret(secret: EpochSecret, name: str) -> ListSecret:
    """The secret of a list: another one for every list and every epoch."""
    if identifiers_in(name) is None:
        return MaskKey(expand_secret(secret, f"masks of {name}", MaskKey.LENGTH))
    return scalar_reduce(expand_secret(secret, f"exponent of {name}", WIDE_LENGTH))


def list_points(
    group: Group, name: str, info: bytes, secret: ListSecret, inputs: Bytes, mask_inputs: Bytes
) -> Elements:
    """The points of a list for (n, 33) private inputs: H(x) + r*G for `platform`, b*H(x) for `count`.

    Args:
        group: the back end.
        name: of the list.
        info: the scope's, see `Scope.info`.
        secret: of the list.
        inputs: kind byte and digest each.
        mask_inputs: what stands for each of them in its mask, (n, 16); `count` does without.
    """
    elements = scope_points(group, name, info, inputs)
    if isinstance(secret, MaskKey):
        return group.add_multiples(elements, masks(group, secret, mask_inputs))
    return group.multiply(elements, secret)


def masks(group: Group, key: MaskKey, mask_inputs: Bytes) -> SecretArray:
    """The masks r of identifiers, (n, 32); the same in a whole epoch.

    Args:
        group: the back end.
        key: of the list.
        mask_inputs: (n, 16), for an identifier its keyed digest, for a canary see `canary_mask_inputs`.
    """
    return SecretArray(group.reduce(sha512_rows(reveal(key), mask_inputs)))


def canary_mask_inputs(generation: bytes) -> Bytes:
    """What stands for a generation's canaries in their masks: the first half of their digests, (64, 16)."""
    return np.ascontiguousarray(canary_inputs(generation)[:, 1 : 1 + MASK_INPUT_LENGTH])


def planted_scalars(group: Group, secret: EpochSecret, name: str) -> SecretArray:
    """The scalars r_j of a list's planted points r_j*G, (128, 32); fixed for the epoch."""
    wide = expand_secret(secret, f"planted in {name}", PLANTED_COUNT * WIDE_LENGTH)
    return SecretArray(group.reduce(np.frombuffer(wide, np.uint8).reshape(PLANTED_COUNT, WIDE_LENGTH)))


def multiples(group: Group, element: bytes, scalars: SecretArray) -> Elements:
    """Every scalar, (n, 32), times one element, 32 bytes.

    Raises:
        DecodeError: it is not the encoding of an element.
    """
    repeated = np.repeat(one_row(element), len(scalars), axis=0)
    return group.multiply_each(group.decode(repeated), scalars)


def planted_points(group: Group, scalars: SecretArray) -> Elements:
    """The planted points r_j*G of a list, which nobody tells from others, (128)."""
    return multiples(group, group.encode(group.multiply_generator(_ONE)).tobytes(), scalars)


def marks(group: Group, elements: Elements) -> Bytes:
    """What is compared of every point, (n, 16).

    The lowest bit of an encoding is always zero (RFC 9496 section 4.3.2), so 127 bits vary.
    """
    return np.ascontiguousarray(group.encode(elements)[:, :MARK_LENGTH])


def order_of_encodings(encoded: Bytes) -> NDArray[np.int64]:
    """The permutation that sorts (n, 32) encodings of distinct points ascending: the order of a list."""
    # Points that differ do so in their first half, but with the probability that two marks are equal.
    return order_by_tag(np.ascontiguousarray(encoded[:, :MARK_LENGTH]))
