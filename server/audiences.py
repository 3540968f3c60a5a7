"""Audiences for those who run the platform: what there is, an export for the ad server, and an early end.

An export asks the gate again, as a commit does, and is a leaf of the log before the file is in its place.
What is over by its time is deleted before anything is told of audiences.

Not protected against: a file that was exported. It is the platform's own to delete.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.ascending import ascending
from purposematch.protocol.errors import InputError, RefusedError
from purposematch.protocol.log.events import Event, EventKind
from purposematch.server.audience import still_admitted
from purposematch.server.platform import Platform
from purposematch.server.registry import ledger
from purposematch.server.registry.audiences import (
    RETENTION,
    AudienceName,
    Change,
    audience_changes,
    changes_that_count,
    due_changes,
    end_change,
)
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.membership import members_after, members_of_each
from purposematch.server.registry.schema import log_leaf
from purposematch.server.times import iso
from purposematch.tables import MAX_BATCH_ROWS, create_table

__all__ = [
    "Exported",
    "ShownAudience",
    "counted_audiences",
    "end_audience",
    "end_due",
    "export_audience",
    "live_audiences",
    "show_audience",
]

EXPORT_COLUMNS: Final = ("subject_id",)
"""The columns of an export."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        of: which audience.
        count: subjects in the file.
        left_out: whom sessions had put in, and who has taken permission back since or is refused by now.
        file_format: of the file.
        log_leaf: the position of its event in the log.
    """

    of: AudienceName
    count: int
    left_out: int
    file_format: str
    log_leaf: int

    def to_mapping(self) -> dict[str, object]:
        """The stable document of `audience export --json`, without what the command adds."""
        return {
            **self.of.to_mapping(),
            "exported": self.count,
            "left_out": self.left_out,
            "format": self.file_format,
            "log_leaf": self.log_leaf,
        }


@dataclass(frozen=True, slots=True)
class ShownAudience:
    """What is kept of an audience, without anybody's name.

    Attributes:
        facts: which one it is, how many subjects, from how many sessions, until when.
        changes: what sessions did to it, in order; those that are over are left out.
        exports: when it was exported, by whom and how.
    """

    facts: dict[str, object]
    changes: list[dict[str, object]]
    exports: list[dict[str, object]]

    def to_mapping(self) -> dict[str, object]:
        """The stable document of `audience show --json`."""
        return {**self.facts, "changes": self.changes, "exports": self.exports}


def end_due(platform: Platform, connection: Connection, now: int) -> int:
    """Ends the changes whose time has come, and logs it; how many.

    Args:
        platform: the open platform.
        connection: a transaction that writes.
        now: microseconds since 1970.
    """
    numbers = due_changes(connection, now)
    _end(platform, connection, numbers, RETENTION, now)
    return len(numbers)


def end_audience(platform: Platform, of: AudienceName, by: str) -> int:
    """Ends all changes of an audience before their time; how many.

    Raises:
        InputError: there is no such audience.
    """
    now = platform.clock()
    with platform.registry.writing() as connection:
        end_due(platform, connection, now)
    with platform.registry.writing() as connection:
        numbers = [each.number for each in _demand(connection, of, now) if each.ended_at is None]
        _end(platform, connection, numbers, by, now)
    return len(numbers)


def live_audiences(connection: Connection, now: int) -> list[dict[str, object]]:
    """Every audience that something is kept of, as `status` tells it: entries of its document, by name.

    Args:
        connection: a snapshot.
        now: what is over by then is left out; microseconds since 1970.
    """
    return [{**of.to_mapping(), **_facts(changes, now)} for of, changes in _by_name(connection, now)]


def counted_audiences(
    connection: Connection, now: int, advertiser: str | None = None
) -> list[dict[str, object]]:
    """The same, of one advertiser or of all, with how many subjects there are: as `audience list --json`."""
    asked = [each for each in _by_name(connection, now) if advertiser in (None, each[0].advertiser)]
    members = members_of_each(connection, [made for _, made in asked], now)
    return [
        {**of.to_mapping(), "subjects": len(inside), **_facts(made, now)}
        for (of, made), inside in zip(asked, members, strict=True)
    ]


def _by_name(connection: Connection, now: int) -> Iterator[tuple[AudienceName, list[Change]]]:
    """Audiences of which something is kept, with all of their changes in order."""
    changes = sorted(audience_changes(connection), key=lambda each: (each.of, each.number))
    for of, group in groupby(changes, lambda each: each.of):
        made = list(group)
        if any(each.is_live(now) for each in made):
            yield of, made


def show_audience(connection: Connection, of: AudienceName, now: int) -> ShownAudience:
    """What is kept of an audience.

    Args:
        connection: a snapshot.
        of: which audience.
        now: microseconds since 1970.

    Raises:
        InputError: there is no such audience.
    """
    changes = _demand(connection, of, now)
    subjects = len(members_after(connection, changes, now))
    return ShownAudience(
        facts={**of.to_mapping(), "subjects": subjects, **_facts(changes, now)},
        changes=[
            {
                "session": each.session,
                "mode": each.mode.value,
                "purpose": each.purpose,
                "made_at": iso(each.made_at),
                "expires_at": iso(each.expires_at),
            }
            for each in changes
            if each.is_live(now)
        ],
        exports=list(_exports(connection, of)),
    )


def export_audience(platform: Platform, of: AudienceName, path: Path, by: str) -> Exported:
    """Writes the subjects of an audience whom the gate still permits into a file, CSV or Parquet by its name.

    The file is private (mode 0600), in the order of the ids, and complete or not there.

    Args:
        platform: the open platform.
        of: which audience.
        path: the file; one that is there is replaced.
        by: who asks for it.

    Raises:
        InputError: there is no such audience.
        RefusedError: its people were matched for another purpose than the platform's of today.
        PolicyError: the policy file is refused.
        TableError: the file can not be written; then nothing was exported.
    """
    policy, now = platform.policy(), platform.clock()
    # Whatever becomes of the export, what is over is deleted.
    with platform.registry.writing() as connection:
        end_due(platform, connection, now)
    file_format = "parquet" if path.suffix.lower() in (".parquet", ".pq") else "csv"
    with create_table(path, EXPORT_COLUMNS) as writer, platform.registry.writing() as connection:
        changes = _demand(connection, of, now)
        counting = [each for each in changes_that_count(changes) if each.is_live(now)]
        if any(each.purpose != policy.required_purpose for each in counting):
            raise RefusedError(
                f"audience {of.name} was matched for another purpose than {policy.required_purpose}; end "
                "it with `audience expire`"
            )
        members = members_after(connection, changes, now)
        granting = still_admitted(connection, members.granting, policy, platform.taxonomy, now)
        subjects = _subjects(connection, granting)
        for start in range(0, len(subjects), MAX_BATCH_ROWS):
            part = subjects.slice(start, MAX_BATCH_ROWS)
            writer.write(pa.RecordBatch.from_arrays([part], names=list(EXPORT_COLUMNS)))
        writer.finish()
        leaf = ledger.record_audience_export(
            connection,
            of,
            count=len(subjects),
            file_format=file_format,
            by=by,
            now=now,
            random_bytes=platform.random_bytes,
        )
    left_out = members.left + len(members) - len(subjects)
    return Exported(of, len(subjects), left_out, file_format, leaf)


def _subjects(connection: Connection, granting: NDArray[np.int64]) -> pa.StringArray:
    """The distinct subjects of assertions, ascending."""
    _, said = load_chunks(connection, ascending(granting))
    return said["subject"].drop_null().unique().sort()


def _end(platform: Platform, connection: Connection, numbers: Sequence[int], by: str, now: int) -> None:
    for number in numbers:
        end_change(connection, number, by, now)
    ledger.record_audience_expiries(connection, numbers, platform.random_bytes)


def _demand(connection: Connection, of: AudienceName, now: int) -> list[Change]:
    """All changes of an audience of which something is kept."""
    changes = audience_changes(connection, of)
    if not any(each.is_live(now) for each in changes):
        brought = f" brought by {of.partner}" if of.partner else ""
        raise InputError(f"{of.advertiser} has no audience {of.name}{brought}; see `audience list`")
    return changes


def _facts(changes: Sequence[Change], now: int) -> dict[str, object]:
    """How many sessions made an audience, and from when on nobody is in it."""
    live = [each for each in changes if each.is_live(now)]
    return {
        "sessions": len(live),
        "changed_at": iso(max(each.made_at for each in changes)),
        "expires_at": iso(max(each.expires_at for each in live)),
    }


def _exports(connection: Connection, of: AudienceName) -> Iterator[dict[str, object]]:
    """The exports of an audience, as the log has them."""
    question = select(log_leaf.c.index, log_leaf.c.content).where(
        log_leaf.c.kind == EventKind.AUDIENCE_EXPORT.value, log_leaf.c.content.is_not(None)
    )
    for index, content in connection.execute(question.order_by(log_leaf.c.index)):
        event = Event.decode(content)
        if all(event.fields[name] == value for name, value in of.to_mapping().items()):
            told = {name: event.fields[name] for name in ("count", "format", "by")}
            yield {"exported_at": iso(event.at), **told, "log_leaf": index}
