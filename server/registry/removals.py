"""The lists of removals in the registry, and who acknowledged which.

Every list is as of a generation, named by its number; `schema.removed_tag` says how it is read from the rows.

Not protected against: an advertiser that acknowledges what it did not apply.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, func, not_, or_, select

from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.signing import SignedDocument
from purposematch.server.registry.bulk import in_portions, insert_columns
from purposematch.server.registry.schema import (
    generation,
    removal_acknowledgement,
    removal_list,
    removed_tag,
    session,
)

__all__ = [
    "OpenRemovals",
    "StoredList",
    "acknowledge",
    "add_list",
    "all_lists",
    "generation_number",
    "latest_list",
    "list_acknowledged_by",
    "listed_nowhere",
    "listed_tags",
    "note_changes",
    "open_removals",
    "scope_of_epoch",
    "tags_after",
]

_TAGS_AT_A_TIME: Final = 16_384
"""Tags whose Python objects exist at one moment."""


@dataclass(frozen=True, slots=True)
class StoredList:
    """A list: its epoch, the number of the generation that it is as of, and what was signed."""

    epoch: int
    number: int
    document: SignedDocument


@dataclass(frozen=True, slots=True)
class OpenRemovals:
    """What one advertiser has not acknowledged in one epoch.

    Attributes:
        advertiser: its name.
        epoch: the key epoch.
        tags: removed tags that it has not acknowledged.
        since: when the first of them was removed, microseconds since 1970.
    """

    advertiser: str
    epoch: int
    tags: int
    since: int


def generation_number(connection: Connection, name: str) -> int:
    """The number of a generation, in the order of publishing."""
    number: int = connection.execute(select(generation.c.number).where(generation.c.id == name)).scalar_one()
    return number


def scope_of_epoch(connection: Connection, epoch: int) -> tuple[str, str] | None:
    """Purpose and profile that an epoch was published for, or None if nothing was."""
    row = connection.execute(
        select(generation.c.purpose, generation.c.profile).where(generation.c.epoch == epoch).limit(1)
    ).one_or_none()
    return None if row is None else (row.purpose, row.profile)


def _as_of(epoch: int, number: int) -> Select[Any]:
    standing = or_(removed_tag.c.returned.is_(None), removed_tag.c.returned > number)
    return (
        select(removed_tag.c.tag)
        .where(removed_tag.c.epoch == epoch, removed_tag.c.removed <= number, standing)
        .order_by(removed_tag.c.tag)
    )


def all_lists(connection: Connection) -> Iterator[tuple[int, int, bytes]]:
    """Epoch, number and SHA-256 of every list, in the order in which they were made."""
    columns = (removal_list.c.epoch, removal_list.c.number, removal_list.c.sha256)
    for row in connection.execute(select(*columns).order_by(removal_list.c.number, removal_list.c.epoch)):
        yield row.epoch, row.number, row.sha256


def tags_after(connection: Connection, of: StoredList, last: bytes, most: int) -> bytes:
    """The next tags of a list, ascending, 16 bytes each; empty behind the end.

    Args:
        connection: a snapshot; other parts may be read in others.
        of: the list.
        last: the tag behind which to go on; empty at the beginning.
        most: how many at most.
    """
    question = _as_of(of.epoch, of.number).where(removed_tag.c.tag > last).limit(most)
    return b"".join(connection.execute(question).scalars())


def listed_tags(connection: Connection, epoch: int, number: int) -> NDArray[np.uint8]:
    """The whole list of an epoch as of a generation, (n, 16) ascending."""
    content = bytearray()
    for portion in connection.execute(_as_of(epoch, number)).scalars().partitions(_TAGS_AT_A_TIME):
        content += b"".join(portion)
    return np.frombuffer(bytes(content), np.uint8).reshape(-1, TAG_LENGTH)


def listed_nowhere(connection: Connection) -> str | None:
    """The first row of a tag that came and went without any list that says so, by its key; or None."""
    columns, lists = removed_tag.c, removal_list.c

    def is_listed(number: ColumnElement[int]) -> ColumnElement[bool]:
        return exists().where(lists.epoch == columns.epoch, lists.number == number)

    returned = and_(is_listed(columns.returned), columns.returned > columns.removed)
    said = and_(is_listed(columns.removed), or_(columns.returned.is_(None), returned))
    question = select(columns.epoch, columns.tag, columns.removed).where(not_(said))
    row = connection.execute(
        question.order_by(columns.epoch, columns.tag, columns.removed).limit(1)
    ).one_or_none()
    return None if row is None else f"{row.epoch} {row.tag.hex()} {row.removed}"


def note_changes(
    connection: Connection, epoch: int, number: int, gone: NDArray[np.uint8], returned: NDArray[np.uint8]
) -> None:
    """Records who left and who came back with a generation.

    Args:
        connection: a transaction that writes.
        epoch: whose tags they are.
        number: of the generation.
        gone: (n, 16) tags that are not on the list.
        returned: (m, 16) tags that are on it.
    """
    for start in range(0, len(gone), _TAGS_AT_A_TIME):
        tags = _objects(gone[start : start + _TAGS_AT_A_TIME])
        columns: dict[str, Sequence[object]] = {
            "epoch": [epoch] * len(tags),
            "tag": tags,
            "removed": [number] * len(tags),
        }
        insert_columns(connection, removed_tag, columns)
    for portion in in_portions(_objects(returned)):
        connection.execute(
            removed_tag.update()
            .where(
                removed_tag.c.epoch == epoch, removed_tag.c.tag.in_(portion), removed_tag.c.returned.is_(None)
            )
            .values(returned=number)
        )


def _objects(tags: NDArray[np.uint8]) -> list[bytes]:
    content = tags.tobytes()
    return [content[at : at + TAG_LENGTH] for at in range(0, len(content), TAG_LENGTH)]


def add_list(connection: Connection, added: StoredList, sha256: bytes) -> None:
    """Stores what was signed of a list."""
    connection.execute(
        removal_list.insert().values(
            epoch=added.epoch,
            number=added.number,
            sha256=sha256,
            content=added.document.content,
            signature=added.document.signature,
        )
    )


def latest_list(connection: Connection, epoch: int) -> StoredList | None:
    """The list of an epoch that is in force, or None."""
    return _one(connection, select(removal_list).where(removal_list.c.epoch == epoch))


def list_acknowledged_by(connection: Connection, epoch: int, sha256: bytes) -> StoredList | None:
    """The latest list of an epoch with these tags, or None: whoever applied one of several applied all."""
    return _one(
        connection,
        select(removal_list).where(removal_list.c.epoch == epoch, removal_list.c.sha256 == sha256),
    )


def _one(connection: Connection, question: Select[Any]) -> StoredList | None:
    row: Row[Any] | None = connection.execute(
        question.order_by(removal_list.c.number.desc()).limit(1)
    ).one_or_none()
    if row is None:
        return None
    return StoredList(row.epoch, row.number, SignedDocument(row.content, row.signature))


def acknowledge(connection: Connection, name: str, applied: StoredList, sha256: bytes, now: int) -> bool:
    """Records that an advertiser applied a list; the first time counts. Returns whether this is the first."""
    known = select(removal_acknowledgement.c.number).where(
        removal_acknowledgement.c.advertiser == name,
        removal_acknowledgement.c.epoch == applied.epoch,
        removal_acknowledgement.c.number == applied.number,
    )
    if connection.execute(known).first() is not None:
        return False
    connection.execute(
        removal_acknowledgement.insert().values(
            advertiser=name,
            epoch=applied.epoch,
            number=applied.number,
            sha256=sha256,
            acknowledged_at=now,
        )
    )
    return True


def open_removals(connection: Connection, agreements: Sequence[bytes]) -> list[OpenRemovals]:
    """What every advertiser has not acknowledged, by name and epoch.

    Only sessions under `agreements`, which are digests, count: the others left no results. What left before
    an advertiser's first session in an epoch was in none of its results, so nothing of it is asked for.
    """
    first = (
        select(session.c.advertiser, generation.c.epoch, func.min(generation.c.number).label("number"))
        .join(generation, generation.c.id == session.c.generation)
        .where(session.c.agreement.in_(agreements))
        .group_by(session.c.advertiser, generation.c.epoch)
        .subquery()
    )
    applied = (
        select(func.max(removal_acknowledgement.c.number))
        .where(
            removal_acknowledgement.c.advertiser == first.c.advertiser,
            removal_acknowledgement.c.epoch == first.c.epoch,
        )
        .correlate(first)
        .scalar_subquery()
    )
    removed_by = generation.alias("removed_by")
    question = (
        select(
            first.c.advertiser,
            first.c.epoch,
            func.count().label("tags"),
            func.min(removed_by.c.published_at).label("since"),
        )
        .select_from(first)
        .join(
            removed_tag,
            and_(
                removed_tag.c.epoch == first.c.epoch,
                removed_tag.c.returned.is_(None),
                removed_tag.c.removed > first.c.number,
                removed_tag.c.removed > func.coalesce(applied, 0),
            ),
        )
        .join(removed_by, removed_by.c.number == removed_tag.c.removed)
        .group_by(first.c.advertiser, first.c.epoch)
        .order_by(first.c.advertiser, first.c.epoch)
    )
    return [OpenRemovals(*row) for row in connection.execute(question)]
