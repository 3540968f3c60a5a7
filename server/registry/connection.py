"""Opens the registry, and the one place that knows which database it is.

SQLite runs in WAL mode: readers see a snapshot and never wait for the writer. `synchronous` is FULL, so
that a withdrawal that was acknowledged survives a power cut; a transaction is a whole file or a whole batch,
which makes its one fsync cheap. Writers are serialised (BEGIN IMMEDIATE), which is what makes the ids
of a delivery contiguous.

Not protected against: a copy of an older database put in place of the current one.
"""

import hmac
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.exc import DBAPIError

from purposematch.protocol.errors import ConfigurationError, IntegrityError, UnavailableError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.secret import reveal
from purposematch.server.keys import IdentifierKey, SealingKey
from purposematch.server.registry.schema import SCHEMA_VERSION, metadata, property_

__all__ = ["COMMAND_CACHE_KIB", "SERVER_CACHE_KIB", "Registry", "open_registry"]

COMMAND_CACHE_KIB: Final = 65_536
"""Memory for database pages, in KiB for each connection: of a command, which has one and may write much."""

SERVER_CACHE_KIB: Final = 2_048
"""The same of a server, which has a connection a thread and keeps them for good."""

_PAGE_BYTES: Final = 16_384
"""Size of a database page: random index pages are written less often than with the default of 4,096."""

_WAIT_SECONDS: Final = 60.0
"""How long a writer waits for those of its process, and then for those of others, before it gives up."""

_WRITES: Final = "purposematch_writes"
_KEY_CHECK: Final = b"purposematch registry key check v1"


@dataclass(frozen=True)
class Registry:
    """An open registry.

    Attributes:
        engine: the database.
        identifier_key: makes keyed digests.
        sealing_key: seals the digests that the match needs.
        profile: the scope's profile, under which those digests are.
    """

    engine: Engine
    identifier_key: IdentifierKey
    sealing_key: SealingKey
    profile: Profile
    # Whoever waits for SQLite's own lock asks for it now and then, and sleeps up to a tenth of a second in
    # between. Threads of one process wait here, and one goes on as soon as the other has ended.
    _writer: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot: everything read inside belongs to one moment.

        Raises:
            IntegrityError: the database is damaged.
            UnavailableError: it cannot be used now.
        """
        with _translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that writes: all of it or, after any exception, nothing. One writer at a time.

        Raises:
            IntegrityError: the database is damaged.
            UnavailableError: another writer did not finish in time, or the disk is full.
        """
        with self._own_turn(), _translated(), self._writing_engine.begin() as connection:
            yield connection

    @cached_property
    def _writing_engine(self) -> Engine:
        return self.engine.execution_options(**{_WRITES: True})

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        """Keeps the other threads of this process from writing."""
        if not self._writer.acquire(timeout=_WAIT_SECONDS):
            raise UnavailableError("the registry cannot be used now (another writer did not finish in time)")
        try:
            yield
        finally:
            self._writer.release()

    def properties(self) -> dict[str, str]:
        """What the table `property` holds, and nothing else."""
        return {
            "schema_version": str(SCHEMA_VERSION),
            "profile": str(self.profile),
            "key_check": hmac.digest(reveal(self.identifier_key), _KEY_CHECK, "sha256")[:16].hex(),
        }

    def overwrite(self) -> bool:
        """Writes the whole database anew, and empties the write-ahead log.

        Within a page, rows that were only moved leave copies behind, which are rows that are erased later.
        And in the log stand pages as they were before.

        Memory: that of the database.

        Returns:
            Whether it was done. Another process that writes or reads for too long, or a full disk, prevents
            it; nothing is lost then, and it can be done again.
        """
        with closing(self.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            try:
                cursor.execute("VACUUM")
                busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:
                return False
        return bool(busy == 0)

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()


def open_registry(
    path: Path,
    identifier_key: IdentifierKey,
    sealing_key: SealingKey,
    profile: Profile,
    cache_kib: int = COMMAND_CACHE_KIB,
) -> Registry:
    """Opens the registry in the SQLite file `path`, and makes its tables if there is none (mode 0600).

    Args:
        path: of the database.
        identifier_key: which identifiers are keyed with.
        sealing_key: which digests are encrypted with.
        profile: which the digests are made under.
        cache_kib: memory for database pages, in KiB for each connection.

    Raises:
        ConfigurationError: it was made with another root key, profile or version of this program, or the file
            cannot be made.
        IntegrityError: the file is no database.
        UnavailableError: it cannot be used now.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigurationError(f"the registry {path} cannot be opened: {error.strerror}") from None
    # Threads bound the connections; a pool with a bound of its own would make some of them wait and fail.
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _WAIT_SECONDS}, max_overflow=-1)
    event.listen(engine, "connect", partial(_prepare_sqlite, cache_kib))
    event.listen(engine, "begin", _begin_sqlite)
    registry = Registry(engine, identifier_key, sealing_key, profile)
    expected = registry.properties()
    try:
        # Whoever only asks must not have to wait for a delivery that is being written.
        found = _properties(registry)
        if not found:
            _create(registry, expected)
            found = _properties(registry)
        _check(found, expected, path)
    except BaseException:
        registry.close()
        raise
    return registry


def _properties(registry: Registry) -> dict[str, str]:
    """What the table holds; nothing where there is none yet."""
    with registry.reading() as connection:
        if not inspect(connection).has_table(property_.name):
            return {}
        return {name: value for name, value in connection.execute(select(property_))}


def _create(registry: Registry, expected: dict[str, str]) -> None:
    with registry.writing() as connection:
        # Somebody else may have been faster.
        if not inspect(connection).has_table(property_.name):
            metadata.create_all(connection)
            rows = [{"name": name, "value": value} for name, value in expected.items()]
            connection.execute(property_.insert(), rows)


def _check(found: dict[str, str], expected: dict[str, str], path: Path) -> None:
    advice = {
        "schema_version": "use the version of this program that made it",
        "profile": "set the profile in platform.toml back to the one it was made with",
        "key_check": "give the root key that it was made with",
    }
    for name, value in expected.items():
        # Whatever somebody wrote there: the comparison takes no texts beyond ASCII, and no other types.
        if not hmac.compare_digest(str(found.get(name)).encode(errors="replace"), value.encode()):
            what = name.replace("_", " ")
            raise ConfigurationError(f"the registry {path} has another {what}; {advice[name]}")


def _prepare_sqlite(cache_kib: int, connection: Any, _record: object) -> None:
    # The driver must not open transactions of its own accord: `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for setting in (
        f"page_size = {_PAGE_BYTES}",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"cache_size = -{cache_kib}",
        "foreign_keys = ON",
        "temp_store = MEMORY",
        # What is deleted or erased is overwritten, also in pages that become free.
        "secure_delete = ON",
        # Sorting for an index may use the second core.
        "threads = 2",
    ):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    # Every transaction begins here: by way of SQLAlchemy it would take as long as a question.
    connection.connection.cursor().execute("BEGIN IMMEDIATE" if writes else "BEGIN").close()


@contextmanager
def _translated() -> Iterator[None]:
    """Turns what the driver raises into our errors, without its text: that may hold values."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        name = getattr(cause, "sqlite_errorname", "") or type(cause).__name__
        if any(word in name for word in ("CORRUPT", "NOTADB", "CONSTRAINT", "IntegrityError")):
            raise IntegrityError(f"the registry is damaged ({name})") from None
        raise UnavailableError(f"the registry cannot be used now ({name})") from None
