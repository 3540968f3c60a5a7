"""Every column of every table set to values that do not belong there: the audit names the table, always."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from typing import Final

import pytest
from platforms import LivePlatform
from sqlalchemy.exc import IntegrityError as SqlIntegrityError
from test_audit import audited  # noqa: F401 - a fixture

from purposematch.protocol.errors import IntegrityError
from purposematch.server.audit import audit
from purposematch.server.audit_types import audit_table_types
from purposematch.server.erase import erase
from purposematch.server.platform import Platform
from purposematch.server.registry.schema import metadata

VALUES: Final = {
    "null": "NULL",
    "zero": "0",
    "lowest": "-9223372036854775808",
    "highest": "9223372036854775807",
    "real": "1.5",
    "infinity": "9e999",
    "empty": "''",
    "text": "'x'",
    "digits": "'0x7'",
    "no UTF-8": "CAST(X'FF' AS TEXT)",
    "hidden": "CAST(X'61003BFF' AS TEXT)",
    "no bytes": "X''",
    "byte": "X'00'",
    "bytes": "ZEROBLOB(64)",
}
UNLOGGED: Final = {("session", "heard_at")}
"""When a session was last heard decides when silence ends it; no event says it, and the end has one."""
COLUMNS: Final = [
    (table.name, column.name)
    for table in metadata.sorted_tables
    for column in table.columns
    if (table.name, column.name) not in UNLOGGED
]


class Bench:
    """A platform whose registry is put back before every change."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._path = platform.data_dir.registry
        platform.registry.close()
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._content = self._path.read_bytes()

    def is_of_wrong_type(self, table: str, statement: str) -> bool:
        """Whether the check of types finds it, which then names the table; the change is taken back."""
        with self.platform.registry.reading() as connection:
            connection.exec_driver_sql("SAVEPOINT tampering")
            try:
                connection.exec_driver_sql(statement)
                audit_table_types(connection, metadata.tables[table])
            except SqlIntegrityError:
                return False
            except IntegrityError as error:
                return table in str(error)
            finally:
                connection.exec_driver_sql("ROLLBACK TO tampering")
        return False

    def change(self, statement: str) -> bool:
        """Whether the database took it."""
        self.platform.registry.close()
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._path.write_bytes(self._content)
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            try:
                with database:
                    return database.execute(statement).rowcount > 0
            except sqlite3.IntegrityError:
                return False


@pytest.fixture(scope="module")
def bench(audited: LivePlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:  # noqa: F811
    folder = tmp_path_factory.mktemp("bench")
    shutil.copytree(audited.data_dir, folder / "platform")
    with LivePlatform(folder).opened() as platform:
        # Somebody about whom the gate decided without a new assertion.
        assert erase(platform, "s8", [], apply=True).decisions
        yield Bench(platform)


def _key(table: str) -> str:
    return ", ".join(f'"{column.name}"' for column in metadata.tables[table].primary_key)


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[".".join(each) for each in COLUMNS])
def test_a_value_that_does_not_belong_there_is_named(bench: Bench, table: str, column: str) -> None:
    first = f'({_key(table)}) = (SELECT {_key(table)} FROM "{table}" LIMIT 1)'
    taken = 0
    for name, value in VALUES.items():
        change = f'UPDATE "{table}" SET "{column}" = {value} WHERE {first} AND "{column}" IS NOT {value}'
        # Most are found before anything else is looked at. The others, and one of these, take a whole audit.
        if bench.is_of_wrong_type(table, change):
            taken += 1
            if name != "real":
                continue
        if not bench.change(change):
            continue
        taken += 1
        with pytest.raises(IntegrityError) as found:
            audit(bench.platform)
        assert table in str(found.value), (name, str(found.value))
    assert taken > 2
