"""The partially oblivious PRF of RFC 9497 (mode 0x02), on batches.

::

    client(input, info, public key)              server(key, info)
    --------------------------------             ------------------
    blinded = r * H(input)       -- blinded -->
                                                 t = key + HashToScalar("Info" || info)
                                 <- evaluated,   evaluated = 1/t * blinded
                                    proof --     proof that t links t*G, evaluated and blinded
    check the proof against t*G
    output = Hash(input, info, 1/r * evaluated)

Source: RFC 9497 section 3.3.3, with a batched proof (section 2.2) and a fresh blind for every element.
The blinds come from one session seed by ChaCha20, 64 bytes reduced modulo the group order each, so that
the platform's view is independent of the inputs as long as the seed stays secret.

Not protected against: guessing. Whoever may call the server can evaluate any input they can guess; only
a quota bounds that.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from purposematch.protocol.batch_hash import sha512_rows
from purposematch.protocol.ciphersuite import (
    BLIND_NONCE,
    ELEMENT_LENGTH,
    MAX_INFO_LENGTH,
    WIDE_LENGTH,
    Suite,
)
from purposematch.protocol.dleq import Proof, prove, verify
from purposematch.protocol.errors import LimitError
from purposematch.protocol.group import Bytes, Elements, Group, RandomBytes, SecretScalar
from purposematch.protocol.hashing import expand_message_xmd, hash_to_group, hash_to_scalar, one_row
from purposematch.protocol.scalars import scalar_add, scalar_invert
from purposematch.protocol.secret import Secret, SecretArray, reveal

__all__ = [
    "EvaluationKey",
    "SessionSeed",
    "blind",
    "evaluate",
    "evaluate_blinded",
    "expand_blinds",
    "finalize",
    "output_hash",
    "public_key",
    "tweaked_public_key",
    "verify_evaluation",
]

MAX_BLINDS = 2**32
"""Blinds that one session seed expands to: ChaCha20 has a 32-bit block counter (RFC 8439)."""


class SessionSeed(Secret):
    """32 random bytes from which all blinds of one session are expanded."""


def public_key(group: Group, key: SecretScalar) -> bytes:
    """The encoded public key of a POPRF key, 32 bytes."""
    return group.encode(group.multiply_generator(key)).tobytes()


def expand_blinds(group: Group, seed: SessionSeed, first: int, count: int) -> SecretArray:
    """The blinds of elements first .. first+count-1, (count, 32).

    Element i uses ChaCha20 block i exactly, so that any range can be expanded by itself.

    Raises:
        LimitError: the range passes `MAX_BLINDS`.
    """
    if first < 0 or first + count > MAX_BLINDS:
        raise LimitError(f"a session has at most {MAX_BLINDS} blinds")
    nonce = first.to_bytes(4, "little") + BLIND_NONCE
    stream = Cipher(algorithms.ChaCha20(reveal(seed), nonce), None).encryptor()
    wide = np.frombuffer(stream.update(bytes(WIDE_LENGTH * count)), np.uint8).reshape(count, WIDE_LENGTH)
    return SecretArray(group.reduce(wide))


def blind(group: Group, suite: Suite, inputs: Bytes, blinds: SecretArray) -> Elements:
    """Blinds (n, width) private inputs with n blinds."""
    return group.multiply_each(hash_to_group(group, suite, inputs), blinds)


class EvaluationKey:
    """A platform's key for one scope: the tweaked key t, its inverse and t*G.

    Args:
        group: the back end.
        suite: the POPRF suite.
        key: the POPRF key of the epoch.
        info: the scope's public info.
    """

    __slots__ = ("_inverse", "_tweaked", "public")

    def __init__(self, group: Group, suite: Suite, key: SecretScalar, info: bytes) -> None:
        """Computes t = key + HashToScalar(info) once.

        Raises:
            LimitError: `info` is too long.
            DecodeError: t is zero, which nobody can find an `info` for (RFC 9497 section 3.3.3).
        """
        self._tweaked = scalar_add(key, SecretScalar(_info_scalar(group, suite, info).tobytes()))
        self._inverse = scalar_invert(self._tweaked)
        self.public = group.multiply_generator(self._tweaked)

    def evaluate(self, group: Group, elements: Elements) -> Elements:
        """1/t times every element."""
        return group.multiply(elements, self._inverse)

    def prove(
        self, group: Group, suite: Suite, blinded: Elements, evaluated: Elements, random_bytes: RandomBytes
    ) -> Proof:
        """Proves that `evaluated` is what `evaluate` gives for `blinded`."""
        return prove(group, suite, self._tweaked, self.public, evaluated, blinded, random_bytes)


def tweaked_public_key(group: Group, suite: Suite, public: bytes, info: bytes) -> Elements:
    """t*G from the platform's public key and the scope's info, as the client computes it.

    Raises:
        DecodeError: `public` is not an element, or the sum is the identity.
        LimitError: `info` is too long.
    """
    one = np.zeros(ELEMENT_LENGTH, np.uint8)
    one[0] = 1
    decoded = group.decode(one_row(public))
    return group.public_multiply_add(one, decoded, _info_scalar(group, suite, info)[0])


def evaluate_blinded(
    group: Group, suite: Suite, key: EvaluationKey, blinded: Elements, random_bytes: RandomBytes
) -> tuple[Elements, Proof]:
    """BlindEvaluate of RFC 9497 section 3.3.3 for a whole batch, with one proof."""
    evaluated = key.evaluate(group, blinded)
    return evaluated, key.prove(group, suite, blinded, evaluated, random_bytes)


def verify_evaluation(
    group: Group, suite: Suite, tweaked: Elements, blinded: Elements, evaluated: Elements, proof: Proof
) -> None:
    """Checks the platform's proof for one batch.

    Raises:
        VerificationError: the proof does not hold: another key was used for at least one element.
    """
    verify(group, suite, tweaked, evaluated, blinded, proof)


def finalize(
    group: Group, suite: Suite, inputs: Bytes, info: bytes, evaluated: Elements, blinds: SecretArray
) -> Bytes:
    """Unblinds and hashes: the POPRF outputs, (n, 64). Call `verify_evaluation` first."""
    unblinded = group.multiply_each(evaluated, group.invert(blinds))
    return output_hash(inputs, group.encode(unblinded), info)


def evaluate(group: Group, suite: Suite, key: EvaluationKey, inputs: Bytes, info: bytes) -> Bytes:
    """Evaluate of RFC 9497 section 3.3.3: the outputs for the platform's own inputs, (n, 64)."""
    elements = key.evaluate(group, hash_to_group(group, suite, inputs))
    return output_hash(inputs, group.encode(elements), info)


def output_hash(inputs: Bytes, encoded: Bytes, info: bytes | None) -> Bytes:
    """The final hash of Finalize and Evaluate, (n, 64); without `info` in the modes that have none."""
    framed_info = b"" if info is None else len(info).to_bytes(2, "big") + info
    return sha512_rows(
        inputs.shape[1].to_bytes(2, "big"),
        inputs,
        framed_info + ELEMENT_LENGTH.to_bytes(2, "big"),
        encoded,
        b"Finalize",
    )


def _info_scalar(group: Group, suite: Suite, info: bytes) -> Bytes:
    if len(info) > MAX_INFO_LENGTH:
        raise LimitError(f"info is {len(info)} bytes long; at most {MAX_INFO_LENGTH} are allowed")
    framed = b"Info" + len(info).to_bytes(2, "big") + info
    return hash_to_scalar(group, suite, one_row(framed))


def derive_key(group: Group, suite: Suite, seed: bytes, info: bytes) -> SecretScalar:
    """DeriveKeyPair of RFC 9497 section 3.2.1, for published vectors; epochs use random keys."""
    message = seed + len(info).to_bytes(2, "big") + info + b"\0"
    wide = expand_message_xmd(one_row(message), suite.derive_key_dst, WIDE_LENGTH)
    return SecretScalar(group.reduce(wide)[0].tobytes())
