"""The keys of one match: everything that is hashed or encrypted is bound to the session.

Statement: context = SHA-256(domain, both declared sizes, SHA-256(binding), the nonces of sender and
receiver). Each key is SHAKE-256 of the domain, its name and the context. So the rows of items, their values,
and the fixed keys of all AES calls differ from session to session, and two parties that are bound to another
scope or agreement match nothing.

Source: FIPS 202 for SHAKE-256; separate keys for every use as ePrint 2019/1168 advises. The reference
prototype had constant fixed keys; to derive them costs nothing and takes away attacks on many sessions at a
time.

Semi-honest, experimental, no published proof. The keys are public to both sides.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from purposematch.protocol.ciphersuite import VOLE_DOMAIN
from purposematch.protocol.group import Bytes
from purposematch.protocol.vole.aes import KEY_LENGTH, Words, round_keys
from purposematch.protocol.vole.parameters import BLOCK, LEAVES, MAX_LABEL, Parameters

__all__ = ["Session"]

SHA256_BLOCK = 64


@dataclass(frozen=True)
class Session:
    """The public keys of one match.

    Attributes:
        context: 32 bytes that stand for all that both sides agree about.
    """

    context: bytes

    @classmethod
    def of(
        cls, parameters: Parameters, binding: bytes, sender_nonce: bytes, receiver_nonce: bytes
    ) -> "Session":
        """The session of these nonces, 32 bytes each."""
        sizes = b"".join(size.to_bytes(8, "little") for size in (parameters.n_receiver, parameters.n_sender))
        bound = hashlib.sha256(binding).digest()
        whole = VOLE_DOMAIN + b" session" + sizes + bound + sender_nonce + receiver_nonce
        return cls(hashlib.sha256(whole).digest())

    def expand(self, name: str, length: int) -> bytes:
        """So many bytes for one use."""
        label = name.encode("ascii")
        head = VOLE_DOMAIN + b" key" + bytes([len(label)]) + label
        return hashlib.shake_256(head + self.context).digest(length)

    def _keys(self, name: str) -> Words:
        return round_keys(self.expand(name, KEY_LENGTH))

    @property
    def item_prefix(self) -> bytes:
        """What an item is hashed behind: one block of SHA-256."""
        return self.expand("item", SHA256_BLOCK)

    @cached_property
    def band_keys(self) -> Words:
        """The two keys of bands, (44,): of the low half, then of the high half."""
        return np.concatenate([self._keys("band low"), self._keys("band high")])

    @cached_property
    def left_key(self) -> Words:
        """Of left children."""
        return self._keys("left")

    @cached_property
    def right_key(self) -> Words:
        """Of right children."""
        return self._keys("right")

    @cached_property
    def transfer_key(self) -> Words:
        """Of the hash that turns correlated transfers into random ones."""
        return self._keys("transfer")

    @cached_property
    def stream_key(self) -> Words:
        """Of the streams of leaves."""
        return self._keys("stream")

    @cached_property
    def output_key(self) -> Words:
        """Of outputs."""
        return self._keys("output")

    @cached_property
    def further_key(self) -> Words:
        """Of further outputs."""
        return self._keys("further")

    @cached_property
    def label_keys(self) -> tuple[Words, ...]:
        """Of what hides a label, one for each of its blocks."""
        return tuple(self._keys(f"label {block}") for block in range(-(-MAX_LABEL // BLOCK)))

    def compression(self, code_length: int) -> Bytes:
        """The matrix that compresses a slot: which bits of symbol j enter bit o, (code_length, 128)."""
        content = np.frombuffer(self.expand("compression", 128 * code_length), np.uint8)
        return (content & np.uint8(LEAVES - 1)).reshape(code_length, 128)
