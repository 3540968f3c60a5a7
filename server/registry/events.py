"""What the log says of each change: an event as a function of the rows that the change stored.

The writers and the audit call the same functions: whoever changes a row afterwards changes the event that is
computed from it, and it no longer is the one in the log. Columns that change later, such as a session's
state, are in no event but that of the change. docs/log.md, *What an event says*, lists the fields.

Not protected against: rows that were false when they were written.
"""

from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, Table, func, select

from purposematch.protocol.ciphersuite import AGREEMENT_DOMAIN, DELEGATION_DOMAIN
from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.events import Event, EventKind
from purposematch.protocol.log.session_proof import manifest_fields, partner_fields, session_fields
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.strict_json import Fields, decode_json
from purposematch.server.registry.row_digests import (
    batches_digest,
    corrected_digest,
    decisions_digest,
    removals_digest,
)
from purposematch.server.registry.schema import (
    advertiser,
    agreement,
    certificate,
    correction,
    decision,
    delegation,
    generation,
    policy,
    release,
    removal_acknowledgement,
    session,
)

__all__ = [
    "acknowledgement_event",
    "advertiser_event",
    "agreement_end_event",
    "agreement_event",
    "certificate_event",
    "certificate_revocation_event",
    "correction_event",
    "decisions_event",
    "delegation_event",
    "delegation_revocation_event",
    "epoch_end_event",
    "epoch_event",
    "generation_event",
    "manifest_event",
    "operator_query_event",
    "policy_digest",
    "policy_event",
    "release_event",
    "session_end_event",
    "session_event",
    "stored_row",
]

_MAX_MANIFEST_BYTES = 16 * 1024 * 1024


def stored_row(connection: Connection, table: Table, **key: object) -> Row[Any]:
    """The one row of a table with these values.

    Raises:
        IntegrityError: there is none; the text names it.
    """
    here = [table.c[name] == value for name, value in key.items()]
    row = connection.execute(select(table).where(*here)).one_or_none()
    if row is None:
        raise IntegrityError(f"table {table.name} lacks row {' '.join(map(str, key.values()))}")
    return row


def policy_digest(connection: Connection, number: int) -> str:
    """The digest of a stored policy, in hexadecimal."""
    digest: bytes = stored_row(connection, policy, id=number).digest
    return digest.hex()


def policy_event(connection: Connection, number: int) -> Event:
    """A policy was published, or decided something for the first time."""
    row = stored_row(connection, policy, id=number)
    fields = {"id": number, "digest": row.digest.hex(), "taxonomy": row.taxonomy.hex()}
    return Event(EventKind.POLICY, row.loaded_at, fields)


def decisions_event(connection: Connection, decisions: range) -> Event:
    """A publication changed answers of the gate: the decisions of these ids (at least one) were stored."""
    first = stored_row(connection, decision, id=decisions.start)
    fields = {
        "first": decisions.start,
        "count": len(decisions),
        "sha256": decisions_digest(connection, decisions).hex(),
        "policy": policy_digest(connection, first.policy),
    }
    return Event(EventKind.DECISIONS, first.decided_at, fields)


def correction_event(connection: Connection, number: int, decisions: range) -> Event:
    """Assertions were found to be mislabelled; `decisions` are the answers that this changed, maybe none.

    What was chosen and why are in the operator's words, so they are told by digest alone.
    """
    row = stored_row(connection, correction, id=number)
    fields = {
        "id": number,
        "selection": sha256(row.selection.encode()).hexdigest(),
        "origin": row.origin,
        "purposes": row.purposes,
        "why": sha256(row.why.encode()).hexdigest(),
        "assertions": row.assertions,
        "corrected": corrected_digest(connection, number).hex(),
        "decisions": {
            # The row names the last one, which is how generations know what they cover.
            "first": row.decisions - len(decisions) + 1,
            "count": len(decisions),
            "sha256": decisions_digest(connection, decisions).hex(),
        },
    }
    return Event(EventKind.CORRECTION, row.corrected_at, fields)


def epoch_event(connection: Connection, epoch: int) -> Event:
    """A key epoch began: with the first generation of it."""
    numbers = select(func.min(generation.c.number)).where(generation.c.epoch == epoch)
    row = stored_row(connection, generation, number=connection.scalar(numbers))
    value = decode_json(row.manifest, "manifest", _MAX_MANIFEST_BYTES)
    fields = Fields(value, "manifest", tuple(value) if isinstance(value, dict) else ())
    public_key = fields.hexadecimal("public_key", 32).hex()
    return Event(EventKind.EPOCH, row.published_at, {"number": epoch, "public_key": public_key})


def epoch_end_event(epoch: int, at: int) -> Event:
    """The key of an epoch was destroyed. No row says it: the key was a file."""
    return Event(EventKind.EPOCH, at, {"number": epoch, "destroyed": True})


def generation_event(connection: Connection, number: int) -> Event:
    """A generation came into service."""
    row = stored_row(connection, generation, number=number)
    fields = {
        "id": row.id,
        "number": number,
        "purpose": row.purpose,
        "profile": row.profile,
        "epoch": row.epoch,
        "policy": policy_digest(connection, row.policy),
        "watermark": row.watermark,
        "decisions": row.decisions,
        "elements": row.elements,
        "valid_until": row.valid_until,
        "manifest": sha256(row.manifest).hexdigest(),
        "table": row.table_sha256.hex(),
        "removals": removals_digest(connection, number).hex(),
        "log_size": row.log_size,
        "log_root": row.log_root.hex(),
    }
    return Event(EventKind.GENERATION, row.published_at, fields)


def manifest_event(connection: Connection, number: int) -> Event:
    """A generation's manifest was signed; every advertiser with a session on it is given the opening."""
    row = stored_row(connection, generation, number=number)
    return Event(EventKind.MANIFEST, row.published_at, manifest_fields(row.id, row.manifest))


def advertiser_event(connection: Connection, name: str) -> Event:
    """An advertiser was admitted; its certificates have events of their own."""
    row = stored_row(connection, advertiser, name=name)
    return Event(EventKind.ADVERTISER, row.added_at, {"advertiser": name})


def certificate_event(connection: Connection, fingerprint: bytes) -> Event:
    """A client certificate was recorded."""
    row = stored_row(connection, certificate, fingerprint=fingerprint)
    fields = {
        "fingerprint": fingerprint.hex(),
        "role": row.role,
        "name": row.name,
        "not_after": row.not_after,
    }
    return Event(EventKind.CERTIFICATE, row.recorded_at, fields)


def certificate_revocation_event(connection: Connection, fingerprint: bytes) -> Event:
    """A client certificate was revoked.

    Raises:
        IntegrityError: it was not.
    """
    row = stored_row(connection, certificate, fingerprint=fingerprint)
    if row.revoked_at is None:
        raise IntegrityError(f"table certificate row {fingerprint.hex()} was revoked and is not")
    fields = {"fingerprint": fingerprint.hex(), "reason": row.reason}
    return Event(EventKind.CERTIFICATE_REVOCATION, row.revoked_at, fields)


def agreement_event(connection: Connection, name: str, number: int) -> Event:
    """An agreement that both sides signed came into force."""
    row = stored_row(connection, agreement, advertiser=name, number=number)
    signed = row.digest + row.platform_signature + row.advertiser_key + row.advertiser_signature
    fields = {
        "advertiser": name,
        "number": number,
        "agreement": sha256(AGREEMENT_DOMAIN + row.content).hexdigest(),
        "signed": sha256(signed).hexdigest(),
    }
    return Event(EventKind.AGREEMENT, row.recorded_at, fields)


def agreement_end_event(connection: Connection, name: str, number: int) -> Event:
    """The platform ended an agreement before its time.

    Raises:
        IntegrityError: it did not.
    """
    row = stored_row(connection, agreement, advertiser=name, number=number)
    if row.ended_at is None:
        raise IntegrityError(f"table agreement row {name} {number} was ended and is not")
    return Event(EventKind.AGREEMENT_END, row.ended_at, {"advertiser": name, "number": number})


def delegation_event(connection: Connection, name: str, number: int) -> Event:
    """An advertiser let a partner bring lists."""
    row = stored_row(connection, delegation, advertiser=name, number=number)
    signed = row.digest + row.advertiser_key + row.signature
    fields = {
        "advertiser": name,
        "number": number,
        "partner": row.partner,
        "delegation": sha256(DELEGATION_DOMAIN + row.content).hexdigest(),
        "signed": sha256(signed).hexdigest(),
    }
    return Event(EventKind.DELEGATION, row.recorded_at, fields)


def delegation_revocation_event(connection: Connection, name: str, number: int) -> Event:
    """A delegation was revoked: by its advertiser, whose signature the event names, or by the platform.

    Raises:
        IntegrityError: it was not.
    """
    row = stored_row(connection, delegation, advertiser=name, number=number)
    if row.revoked_at is None:
        raise IntegrityError(f"table delegation row {name} {number} was revoked and is not")
    signed = None if row.revocation is None else sha256(row.revocation).hexdigest()
    fields = {"advertiser": name, "number": number, "signed": signed}
    return Event(EventKind.DELEGATION_REVOCATION, row.revoked_at, fields)


def acknowledgement_event(connection: Connection, name: str, epoch: int, number: int) -> Event:
    """An advertiser says that it applied a list of removals."""
    row = stored_row(connection, removal_acknowledgement, advertiser=name, epoch=epoch, number=number)
    fields = {"advertiser": name, "epoch": epoch, "number": number, "sha256": row.sha256.hex()}
    return Event(EventKind.REMOVAL_ACKNOWLEDGEMENT, row.acknowledged_at, fields)


def session_event(connection: Connection, id_: str) -> Event:
    """A session was opened; its advertiser is given the opening."""
    row = stored_row(connection, session, id=id_)
    fields = session_fields(
        session=id_,
        advertiser=row.advertiser,
        fingerprint=row.fingerprint,
        agreement=row.agreement,
        generation=row.generation,
        elements=row.elements,
        grant=row.grant,
        log_size=row.log_size,
        on_behalf=_on_behalf(connection, row),
        engine=MatchEngine.OPRF if row.engine is None else MatchEngine(row.engine),
    )
    return Event(EventKind.SESSION, row.opened_at, fields)


def _on_behalf(connection: Connection, row: Row[Any]) -> dict[str, object] | None:
    """What a partner's session has besides; None of an advertiser's own."""
    if (row.delegation is None) != (row.list is None):
        raise IntegrityError(f"table session row {row.id} has a delegation without a list, or the reverse")
    if row.delegation is None:
        return None
    under = stored_row(connection, delegation, digest=row.delegation)
    if under.advertiser != row.advertiser:
        raise IntegrityError(f"table session row {row.id} is under a delegation of another advertiser")
    return partner_fields(under.partner, row.delegation, row.list)


def session_end_event(connection: Connection, id_: str) -> Event:
    """A session left the state `open`; its batches are all there are, and by VOLE its attempts.

    Raises:
        IntegrityError: it is open.
    """
    row = stored_row(connection, session, id=id_)
    if row.closed_at is None:
        raise IntegrityError(f"table session row {id_} is open and was ended")
    fields = {"session": id_, "state": row.state, "batches": batches_digest(connection, id_).hex()}
    if row.attempts:
        fields["attempts"] = row.attempts
    return Event(EventKind.SESSION_END, row.closed_at, fields)


def release_event(connection: Connection, number: int) -> Event:
    """A noisy count was paid for and told."""
    row = stored_row(connection, release, id=number)
    fields = {
        "id": number,
        "session": row.session,
        "legal_entity": row.legal_entity,
        "purpose": row.purpose,
        "label": row.label.hex(),
        "generation": row.generation,
        "policy": policy_digest(connection, row.policy),
        "disclosure": row.disclosure,
        "epsilon": row.epsilon,
        "answer": sha256(row.content + row.signature).hexdigest(),
    }
    return Event(EventKind.RELEASE, row.released_at, fields)


def operator_query_event(by: str, query: str, salt: bytes, commitment: bytes, at: int) -> Event:
    """An operator asked something. No row says it; `commitment` is to what was asked for."""
    fields = {"by": by, "query": query, "salt": salt.hex(), "parameters": commitment.hex()}
    return Event(EventKind.OPERATOR_QUERY, at, fields)
