"""Every column of every table, and rows that go, come or change places: named, or said not to be.

The cases follow from the tables, so that a column that somebody adds is tampered with, too: if the audit does
not notice, this fails until it does, or until `UNVERIFIED` and docs/log.md say why it can not.
"""

import contextlib
import itertools
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eventful import LISTED, eventful_platform
from platforms import LivePlatform, admitted_peer
from sqlalchemy import Column, Integer, Table, Text, UniqueConstraint

from purposematch.protocol.errors import ConfigurationError, IntegrityError
from purposematch.protocol.messages import EvaluateRequest, SessionGrant
from purposematch.server.audit import audit
from purposematch.server.matching import Matching
from purposematch.server.opening import OpenedSession
from purposematch.server.registry import schema
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.schema import metadata

OPEN = "session IN (SELECT id FROM session WHERE state = 'open')"
UNVERIFIED = {
    "batch.sha256": f"{OPEN} AND session NOT IN (SELECT session FROM exchange)",
    "batch.elements": f"{OPEN} AND session NOT IN (SELECT session FROM exchange)",
    "batch.number": f"{OPEN} AND session NOT IN (SELECT session FROM exchange)",
    "session.heard_at": "1",
    "batch.received_at": OPEN,
    "exchange.label": "1",
    "exchange.exponent": "exponent IS NOT NULL",
    "exchange_part.marks": "1",
    "exchange_part.sha256": "side = 1",
}
"""Columns that the audit can not verify, and in which rows. docs/log.md says why."""

GONE_UNSEEN = {"exchange_part": "side = 1"}
"""Rows whose removal it can not see."""

TABLES = {table.name: table for table in metadata.sorted_tables}
COLUMNS = [f"{table.name}.{column.name}" for table in TABLES.values() for column in table.columns]
PAGE = Path(__file__).parents[2] / "docs" / "log.md"
Row = dict[str, Any]


class Database:
    """The registry of a platform, which is as it was again after every change.

    Args:
        platform: to be changed.
    """

    def __init__(self, platform: LivePlatform) -> None:
        self.platform = platform
        self._path = platform.data_dir / "registry.sqlite"
        self._before = self._path.read_bytes()

    def rows(self, table: Table, condition: str = "1") -> list[Row]:
        """Those of a table, in the order of their keys."""
        names = [column.name for column in table.columns]
        question = (
            f'SELECT {_joined(names)} FROM "{table.name}" WHERE {condition} ORDER BY {_joined(_keys(table))}'
        )
        return [dict(zip(names, row, strict=True)) for row in self.platform.rows(question)]

    def audit_after(self, *changes: tuple[str, Sequence[object]]) -> str:
        """What the audit says after some statements; nothing if it finds nothing."""
        with contextlib.closing(sqlite3.connect(self._path)) as database, database:
            for statement, values in changes:
                assert database.execute(statement, values).rowcount == 1
        try:
            with self.platform.opened() as platform:
                audit(platform)
        except (IntegrityError, ConfigurationError) as error:
            return str(error)
        finally:
            for suffix in ("-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            self._path.write_bytes(self._before)
        return ""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A platform with something in every table."""
    folder = tmp_path_factory.mktemp("cells")
    platform = eventful_platform(folder / "made")
    for subject in ("s7", "signed1"):
        platform.operate("erase", "--subject-id", subject, "--apply")
    platform.publish()
    _open_session(platform)
    (folder / "copied").mkdir()
    shutil.copytree(platform.data_dir, folder / "copied" / "platform")
    return Database(LivePlatform(folder / "copied"))


def _open_session(platform: LivePlatform) -> None:
    """An advertiser has sent a batch, and is not done."""
    with platform.opened() as opened:
        peer = admitted_peer(opened, "acme")
        with opened.registry.reading() as connection:
            agreement = agreement_in_force(connection, "acme", opened.clock())
        matching = Matching(opened, lambda: bytes(32))
        grant = matching.opening.open(peer, agreement.digest, LISTED)
        assert isinstance(grant, OpenedSession)
        element = opened.group.encode(opened.group.map_to_group(np.full((1, 64), 7, np.uint8)))
        matching.evaluate(peer, SessionGrant.parse(grant.grant.content).session, EvaluateRequest(0, element))


def _joined(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _keys(table: Table) -> list[str]:
    return [column.name for column in table.primary_key]


def _at(table: Table, row: Row) -> tuple[str, list[object]]:
    """The condition that a row is the one, and its values."""
    return " AND ".join(f'"{name}" = ?' for name in _keys(table)), [row[name] for name in _keys(table)]


def _some(rows: Sequence[Row]) -> list[Row]:
    """The first row, one in the middle and the last two."""
    if len(rows) <= 4:
        return list(rows)
    return [rows[0], rows[len(rows) // 2], *rows[-2:]]


def _others(column: Column[Any], value: Any) -> Iterator[object]:
    """Other values that a column could have in a row."""
    if value is None:
        length = getattr(column.type, "length", None) or 16
        yield (
            1 if isinstance(column.type, Integer) else "x" if isinstance(column.type, Text) else bytes(length)
        )
    elif isinstance(value, int):
        yield from (value + 1, value - 1, value + 86_400_000_000)
    elif isinstance(value, str):
        yield from (value + "x", value[:-1])
    elif column.type.length is not None:
        yield from (value[:-1] + bytes([value[-1] ^ 1]), bytes([value[0] ^ 128]) + value[1:])
    else:
        yield from (bytes(len(value)), value[: len(value) // 2])
        # The end of a record batch is padding, which means nothing.
        if column.table is not schema.assertion_chunk:
            yield from (value[:-1], value + b"\0")
    if column.nullable and value is not None:
        yield None


def _is_named(table: Table, found: str) -> bool:
    # A registry with another property than the platform's is not even opened.
    return table.name in found or (table.name == "property" and "the registry" in found)


@pytest.mark.parametrize("table", TABLES)
def test_there_is_something_in_every_table(database: Database, table: str) -> None:
    assert database.rows(TABLES[table])


@pytest.mark.parametrize("name", COLUMNS)
def test_another_value_of_a_column_is_named(database: Database, name: str) -> None:
    table, column = TABLES[name.split(".")[0]], TABLES[name.split(".")[0]].c[name.split(".")[1]]
    rows = database.rows(table, f"NOT ({UNVERIFIED[name]})" if name in UNVERIFIED else "1")
    unseen = []
    # One of each that is NULL, and of each that is not, besides.
    some = _some(rows) + [row for row in rows if row[column.name] is None][:1]
    some += [row for row in rows if row[column.name] is not None][:1]
    values = [
        (row, value)
        for number, row in enumerate(some)
        # Rows take turns with what is tried, so that the whole takes minutes and not an hour.
        for value in list(_others(column, row[column.name]))[number % 2 :: 2]
        if value != row[column.name]
    ]
    for row, value in values:
        where, key = _at(table, row)
        with contextlib.suppress(sqlite3.IntegrityError):
            found = database.audit_after(
                (f'UPDATE "{table.name}" SET "{column.name}" = ? WHERE {where}', [value, *key])
            )
            if not _is_named(table, found):
                unseen.append((key, row[column.name], value, found))
    assert unseen == []
    assert values or name in UNVERIFIED


@pytest.mark.parametrize("name", UNVERIFIED)
def test_what_can_not_be_verified_is_said(database: Database, name: str) -> None:
    """And it is no more than that: a column that is covered one day comes off the list."""
    table, column = TABLES[name.split(".")[0]], TABLES[name.split(".")[0]].c[name.split(".")[1]]
    row = database.rows(table, UNVERIFIED[name])[0]
    where, key = _at(table, row)
    value = next(
        value
        for value in _others(column, row[column.name])
        if not isinstance(value, bytes) or len(value) == len(row[column.name])
    )
    assert not database.audit_after(
        (f'UPDATE "{table.name}" SET "{column.name}" = ? WHERE {where}', [value, *key])
    )
    assert f"`{name}`" in PAGE.read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_row_that_is_gone_is_named(database: Database, name: str) -> None:
    table = TABLES[name]
    for row in _some(database.rows(table, f"NOT ({GONE_UNSEEN.get(name, '0')})")):
        where, key = _at(table, row)
        found = database.audit_after((f'DELETE FROM "{name}" WHERE {where}', key))
        assert _is_named(table, found), (key, found)


@pytest.mark.parametrize("name", TABLES)
def test_a_copy_of_a_row_under_another_key_is_named(database: Database, name: str) -> None:
    table, tried = TABLES[name], 0
    unique = {column.name for column in table.columns if column.unique}
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            unique |= {column.name for column in constraint.columns}
    statement = f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(table.columns))})'
    rows = database.rows(table)
    for row in _some(rows)[::2]:
        for key in _keys(table):
            for value in _others(table.c[key], row[key]):
                copied = row | {key: value}
                for other in unique - {*_keys(table)}:
                    taken = [each[other] for each in rows]
                    if copied[other] is not None:
                        free = (each for each in _others(table.c[other], max(taken)) if each not in taken)
                        copied[other] = next(free)
                with contextlib.suppress(sqlite3.IntegrityError):
                    found = database.audit_after((statement, list(copied.values())))
                    assert _is_named(table, found), (copied, found)
                    tried += 1
    assert tried


@pytest.mark.parametrize(
    "name", [name for name, table in TABLES.items() if len(table.columns) > len(table.primary_key)]
)
def test_rows_that_changed_places_are_named(database: Database, name: str) -> None:
    table = TABLES[name]
    rest = [column.name for column in table.columns if column.name not in _keys(table)]
    rows = _some(database.rows(table))
    for one, two in itertools.pairwise(rows):
        if [one[column] for column in rest] == [two[column] for column in rest]:
            continue
        statement = f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(table.columns))})'
        gone = [
            (f'DELETE FROM "{name}" WHERE {where}', key) for where, key in (_at(table, one), _at(table, two))
        ]
        swapped = [
            [(here if column.name in _keys(table) else there)[column.name] for column in table.columns]
            for here, there in ((one, two), (two, one))
        ]
        found = database.audit_after(*gone, *((statement, values) for values in swapped))
        assert _is_named(table, found), (_at(table, one)[1], _at(table, two)[1], found)
