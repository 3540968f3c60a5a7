"""A session as it is kept to go on with: what was fixed when it opened, and what each answered batch gave.

Tokens are not kept: the MAC of a match, made from its token, says nothing outside of its session.

Not protected against: the seed. Whoever has it, and recorded what was sent to the platform, can tell what
was on the list.
"""

from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from purposematch.client.columns import Column
from purposematch.client.documents import document_mapping, mapped_document
from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import Bytes
from purposematch.protocol.identifiers import Kind
from purposematch.protocol.log.session_proof import SessionProof
from purposematch.protocol.messages import COMMIT_ID_LENGTH, MAC_LENGTH
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.strict_json import Fields, canonical_json, decode_json

__all__ = ["MAX_SESSION_BYTES", "BatchResult", "SavedSession"]

MAX_SESSION_BYTES: Final = 4 * 2**20
"""The longest record of a session, in bytes: a manifest is at most 2 MiB of it."""
MAX_COLUMNS: Final = 1_024
"""Columns of identifiers of a session that is read, at most."""

_BATCH_HEAD_LENGTH: Final = 5
_PLACE_LENGTH: Final = 2
_FIELDS: Final = (
    *("input_sha256", "inputs_sha256", "columns", "region", "commit", "opened_at"),
    *("grant", "manifest", "proof"),
)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What one answered batch gave.

    Attributes:
        number: of the batch.
        canaries: how many of its canaries were in the index.
        places: `(k,)` uint16, where in the batch the k matches are, ascending.
        tags: `(k, 16)` uint8.
        macs: `(k, 16)` uint8, what commits them; `(0, 16)` where matches are not committed.
    """

    number: int
    canaries: int
    places: NDArray[np.uint16] = field(repr=False)
    tags: Bytes = field(repr=False)
    macs: Bytes = field(repr=False)

    @classmethod
    def acknowledged(cls, number: int) -> Self:
        """A batch of a set exchange, which gives nothing but that the platform has it."""
        return cls(
            number,
            0,
            np.empty(0, np.uint16),
            np.empty((0, TAG_LENGTH), np.uint8),
            np.empty((0, MAC_LENGTH), np.uint8),
        )

    def encode(self) -> bytes:
        """The content of its record."""
        head = self.number.to_bytes(4, "big") + self.canaries.to_bytes(1, "big")
        return head + self.places.astype(">u2").tobytes() + self.tags.tobytes() + self.macs.tobytes()

    @classmethod
    def decode(cls, content: bytes, commits: bool) -> Self:
        """What `encode` made.

        Raises:
            DecodeError: the length fits no number of matches.
        """
        width = _PLACE_LENGTH + TAG_LENGTH + (MAC_LENGTH if commits else 0)
        count, rest = divmod(len(content) - _BATCH_HEAD_LENGTH, width)
        if count < 0 or rest:
            raise DecodeError("the result of a batch has a wrong length")
        tags = _BATCH_HEAD_LENGTH + _PLACE_LENGTH * count
        macs = tags + TAG_LENGTH * count
        return cls(
            number=int.from_bytes(content[:4], "big"),
            canaries=content[4],
            places=np.frombuffer(content[_BATCH_HEAD_LENGTH:tags], ">u2").astype(np.uint16),
            tags=np.frombuffer(content[tags:macs], np.uint8).reshape(-1, TAG_LENGTH),
            macs=np.frombuffer(content[macs:], np.uint8).reshape(-1, MAC_LENGTH),
        )


@dataclass(frozen=True, slots=True)
class SavedSession:
    """A session from its opening on.

    Attributes:
        seed: what its blinds are expanded from.
        input: SHA-256 of the list's file, 64 hexadecimal digits.
        inputs: SHA-256 of the private inputs in the order in which they are sent, 32 bytes. A blind must
            never cover two inputs, so the same file read in another way does not fit.
        columns: the columns of identifiers.
        region: of phone numbers without `+`; None if it was not named.
        commit: the id of its commit, 16 bytes, whether or not it was sent.
        opened_at: microseconds since 1970.
        grant, manifest: as signed by the platform.
        proof: what the log showed when it opened.
    """

    seed: SessionSeed = field(repr=False)
    input: str
    inputs: bytes
    columns: tuple[Column, ...]
    region: str | None
    commit: bytes
    opened_at: int
    grant: SignedDocument
    manifest: SignedDocument
    proof: SessionProof

    def encode(self) -> bytes:
        """The content of its record, without the seed."""
        return canonical_json(
            {
                "input_sha256": self.input,
                "inputs_sha256": self.inputs.hex(),
                "columns": [[column.name, column.kind.label, column.hashed] for column in self.columns],
                "region": self.region,
                "commit": self.commit.hex(),
                "opened_at": self.opened_at,
                "grant": document_mapping(self.grant),
                "manifest": document_mapping(self.manifest),
                "proof": self.proof.to_mapping(),
            }
        )

    @classmethod
    def decode(cls, seed: SessionSeed, content: bytes) -> Self:
        """What `encode` made; no signature is verified.

        Raises:
            DecodeError: it is anything else.
        """
        fields = Fields(decode_json(content, "session", MAX_SESSION_BYTES), "session", _FIELDS)
        return cls(
            seed=seed,
            input=fields.hexadecimal("input_sha256", 32).hex(),
            inputs=fields.hexadecimal("inputs_sha256", 32),
            columns=tuple(map(_column, fields.array("columns", MAX_COLUMNS))),
            region=None if fields.value("region") is None else fields.text("region"),
            commit=fields.hexadecimal("commit", COMMIT_ID_LENGTH),
            opened_at=fields.integer("opened_at", 0),
            grant=mapped_document(fields.value("grant")),
            manifest=mapped_document(fields.value("manifest")),
            proof=SessionProof.from_mapping(fields.value("proof")),
        )


def _column(value: object) -> Column:
    if not isinstance(value, list) or len(value) != 3:
        raise DecodeError("a column is not a name, a kind and a truth value")
    name, label, hashed = value
    kinds = {kind.label: kind for kind in Kind}
    if not isinstance(name, str) or label not in list(kinds) or not isinstance(hashed, bool):
        raise DecodeError("a column is not a name, a kind and a truth value")
    return Column(name, kinds[label], hashed)
