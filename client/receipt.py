"""The receipt of a session: what the platform signed and logged about it, in a file beside the output.

OUTPUT.receipt is one line of canonical JSON, mode 0600, with these fields:

    format      `purposematch receipt v1`
    grant       the signed session grant: content, signature
    commit      the signed receipt of the commit: content, signature; null where the disclosure has none
    proof       the checkpoint, and the openings and inclusion proofs of the session's leaf and the manifest's

Whoever checks a bundle of the platform's log takes receipts of several advertisers, and finds out whether all
of them were shown one log. Nothing in it says who matched. It names the advertiser and the size of its list.

Not protected against: a receipt shows that a session was logged, not what the platform did in it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from purposematch.client.documents import document_mapping, mapped_document
from purposematch.protocol.errors import DecodeError, InputError, TableError, VerificationError
from purposematch.protocol.log.checkpoint import Checkpoint
from purposematch.protocol.log.events import Event
from purposematch.protocol.log.session_proof import SessionProof, partner_fields, session_fields
from purposematch.protocol.messages import Receipt, SessionGrant
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.strict_json import Fields, canonical_json, decode_json
from purposematch.protocol.transcript import transcript_hash
from purposematch.tables import replaced_file

__all__ = ["OpenedReceipt", "SessionReceipt", "receipt_path", "staged_receipt"]

FORMAT: Final = "purposematch receipt v1"
MAX_RECEIPT_BYTES: Final = 1_048_576
"""The longest receipt that is read, in bytes."""

_FIELDS: Final = ("format", "grant", "commit", "proof")


@dataclass(frozen=True, slots=True)
class OpenedReceipt:
    """What a receipt says, after everything in it was checked."""

    advertiser: str
    grant: SessionGrant
    checkpoint: Checkpoint
    session: Event
    manifest: Event


@dataclass(frozen=True, slots=True)
class SessionReceipt:
    """What the platform signed and logged about one session."""

    grant: SignedDocument
    commit: SignedDocument | None
    proof: SessionProof

    def encode(self) -> bytes:
        """The content of the file.

        Raises:
            DecodeError: a document in it is not JSON.
        """
        document: dict[str, object] = {
            "format": FORMAT,
            "grant": document_mapping(self.grant),
            "commit": None if self.commit is None else document_mapping(self.commit),
            "proof": self.proof.to_mapping(),
        }
        return canonical_json(document) + b"\n"

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """The receipt in the content of a file; nothing is verified yet.

        Raises:
            DecodeError: it is anything else than what `encode` writes.
        """
        fields = Fields(decode_json(content, "receipt", MAX_RECEIPT_BYTES), "receipt", _FIELDS)
        if fields.text("format") != FORMAT:
            raise DecodeError("the receipt has another format: update purposematch")
        commit = fields.value("commit")
        receipt = cls(
            grant=mapped_document(fields.value("grant")),
            commit=None if commit is None else mapped_document(commit),
            proof=SessionProof.from_mapping(fields.value("proof")),
        )
        if receipt.encode() != content:
            raise DecodeError("the receipt is not canonical JSON")
        return receipt

    @classmethod
    def load(cls, path: Path) -> Self:
        """The receipt in a file.

        Raises:
            InputError: the file cannot be read.
            DecodeError: it is no receipt.
        """
        try:
            with path.open("rb") as file:
                return cls.decode(file.read(MAX_RECEIPT_BYTES + 1))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None

    def open(self, origin: str, public_key: bytes) -> OpenedReceipt:
        """Checks every signature and proof in it, and that all parts are of one session.

        Args:
            origin: the log that it must be of, see `log_origin`.
            public_key: the platform's pinned identity key, 32 bytes.

        Raises:
            VerificationError: something does not hold, or the parts are of different sessions.
            DecodeError: something is malformed.
        """
        grant = SessionGrant.open(self.grant, public_key)
        checkpoint, session, manifest = self.proof.open(origin, public_key)
        advertiser, generation = session.fields.get("advertiser"), session.fields.get("generation")
        if not isinstance(advertiser, str) or not isinstance(generation, str):
            raise DecodeError("the leaf of a session names no advertiser or no generation")
        on_behalf = None
        if grant.delegation is not None:
            partner, list_name = (session.fields.get(name) for name in ("partner", "list"))
            if not isinstance(partner, str) or not isinstance(list_name, str):
                raise DecodeError("the leaf of a partner's session does not name it, or no list")
            on_behalf = partner_fields(partner, grant.delegation, list_name)
        expected = session_fields(
            session=grant.session.hex(),
            advertiser=advertiser,
            fingerprint=grant.client_certificate,
            agreement=grant.agreement,
            generation=generation,
            elements=grant.list_size,
            grant=self.grant.content,
            log_size=self.proof.session.index,
            on_behalf=on_behalf,
            engine=grant.engine,
        )
        if session.fields != expected:
            raise VerificationError("the leaf of the session is of another one than the grant")
        if self.commit is not None:
            commit = Receipt.open(self.commit, public_key)
            own = (grant.session, grant.agreement, generation, transcript_hash(grant), grant.engine)
            told = (
                commit.session,
                commit.agreement,
                commit.generation.hex(),
                commit.transcript,
                commit.engine,
            )
            if told != own:
                raise VerificationError("the receipt of the commit is of another session than the grant")
        return OpenedReceipt(advertiser, grant, checkpoint, session, manifest)


def receipt_path(output: Path) -> Path:
    """Where the receipt of an output is: beside the file itself, not beside a link to it."""
    target = output.resolve()
    return target.with_name(f"{target.name}.receipt")


@contextmanager
def staged_receipt(output: Path) -> Iterator[Callable[[SessionReceipt], None]]:
    """Gives a function that writes the receipt aside; it takes its place when the block ends well.

    Raises:
        TableError: it cannot be written.
    """
    with replaced_file(receipt_path(output), follow=False) as (_, file):

        def store(receipt: SessionReceipt) -> None:
            content = receipt.encode()
            try:
                whole = file.write(content) == len(content)
            except OSError:
                whole = False
            if not whole:
                raise TableError(f"{receipt_path(output)}: cannot be written: the disk may be full")

        yield store
