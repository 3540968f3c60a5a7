"""Finds what an identifier that somebody names stands for in the registry: its keyed digests.

A raw value is looked up in all of its spellings, as a withdrawal of it would be.

Not protected against: an identifier that was enrolled as a digest under a profile in which it was spelled
differently; of such a row only that digest is known.
"""

import re
from typing import Final

import pyarrow as pa
from sqlalchemy import Connection

from purposematch.protocol.errors import InputError
from purposematch.protocol.identifiers import Kind
from purposematch.protocol.policy import DEFAULT_SOURCE
from purposematch.server.evidence_columns import EvidenceReader
from purposematch.server.registry import Registry
from purposematch.server.registry.columns import assertion_columns, naming
from purposematch.server.statements import COLUMNS, Reader

__all__ = ["guess_kind", "identifier_keys", "is_digest", "subjects_with"]

_MAID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")


def guess_kind(value: str) -> Kind:
    """The kind of a raw identifier, by its looks."""
    if "@" in value:
        return Kind.EMAIL
    return Kind.MAID if _MAID.fullmatch(value.strip()) else Kind.PHONE


def is_digest(value: str) -> bool:
    """Whether an identifier is a SHA-256 digest in hexadecimal: no raw one looks like that."""
    return _DIGEST.fullmatch(value.strip()) is not None


def identifier_keys(registry: Registry, value: str, kind: Kind | None, region: str | None) -> list[bytes]:
    """The keyed digests of an identifier under every profile.

    Args:
        registry: whose key makes them.
        value: raw, or a SHA-256 digest in hexadecimal.
        kind: what it is; guessed if None, which a digest does not allow.
        region: two-letter country code of phones without `+`.

    Raises:
        InputError: it can not be read; the text does not repeat it.
    """
    hashed = is_digest(value)
    if hashed and kind is None:
        raise InputError("the identifier is a digest: say with --kind what it is a digest of")
    kind = kind or guess_kind(value)
    row = dict.fromkeys(COLUMNS, "") | {
        "kind": kind.label,
        "value": value,
        "value_format": "sha256" if hashed else "raw",
        "status": "granted",
    }
    batch = pa.record_batch({name: pa.array([text], pa.string()) for name, text in row.items()})
    # Nobody signed a question.
    evidence = EvidenceReader("", registry.profile, {})
    reader = Reader(
        "the identifier", DEFAULT_SOURCE, registry.profile, region, registry.identifier_key, evidence
    )
    rows = reader.read(batch).rows
    if rows.identifier.null_count:
        raise InputError(
            f"the identifier can not be read as one of the kind {kind.label}; name another with --kind, "
            "and the country of a phone without + with --region"
        )
    return [*rows.identifier.to_pylist(), *rows.others.to_pylist()]


def subjects_with(connection: Connection, keys: list[bytes]) -> list[str]:
    """The subjects who were ever named with one of these identifiers, sorted."""
    said = assertion_columns(connection, ["subject"], naming(connection, [], keys))
    found: list[str] = said["subject"].drop_null().unique().to_pylist()
    return sorted(found)
