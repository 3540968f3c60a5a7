"""The audit's third part: what belongs to assertions beside their events.

Chunks cover every assertion once; a sealed digest is the one that its assertion's keyed digest was made from;
the index of mentions is what the assertions give; all terms and policies are whole.

Memory: that of a publication, which loads all assertions, too.

Not protected against: a digest that is missing where one was given, by somebody who holds the sealing key.
"""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, func, select

from purposematch.protocol.ascending import ascending
from purposematch.protocol.ciphersuite import POLICY_DOMAIN
from purposematch.protocol.errors import DecodeError, IntegrityError
from purposematch.protocol.log.events import SALT_LENGTH
from purposematch.protocol.policy import Policy
from purposematch.server.registry import Registry, keyed_digests, load_digests, schema
from purposematch.server.registry.chunks import terms_after
from purposematch.server.registry.load import Stored, load_stored
from purposematch.server.registry.mentions import mentions_of
from purposematch.server.registry.rows import Rows, keyed_bytes

__all__ = ["audit_assertions", "audit_chunks", "audit_policies", "audit_properties"]

_MENTIONS_AT_A_TIME = 65_536


def audit_properties(connection: Connection, registry: Registry) -> None:
    """Checks the table `property`.

    Raises:
        IntegrityError: a row was altered or added.
    """
    found: dict[str, str] = {name: value for name, value in connection.execute(select(schema.property_))}
    expected = registry.properties()
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise IntegrityError(f"table property row {name} was altered")


def audit_chunks(connection: Connection) -> None:
    """Checks that chunks of columns, digests and salts cover every assertion once.

    Raises:
        IntegrityError: one is missing, was added or shortened.
    """
    last = _delivered(connection)
    for table in (schema.assertion_chunk, schema.digest_chunk, schema.assertion_salt):
        covered = 0
        for first, count in connection.execute(select(table.c.first, table.c.count).order_by(table.c.first)):
            if first != covered + 1 or count < 1:
                raise IntegrityError(f"table {table.name} row {first} does not follow assertion {covered}")
            covered += count
            if covered > last:
                raise IntegrityError(f"table {table.name} row {first} goes beyond the rows of table delivery")
        if covered != last:
            raise IntegrityError(
                f"table {table.name} lacks row {covered + 1}, or table delivery counts too many"
            )
    salts = schema.assertion_salt.c
    wrong = select(salts.first).where(func.length(salts.salts) != salts.count * SALT_LENGTH)
    if (first := connection.scalar(wrong.order_by(salts.first).limit(1))) is not None:
        raise IntegrityError(f"table assertion_salt row {first} has a wrong length")


def _delivered(connection: Connection) -> int:
    """The last assertion that was delivered, after checking that deliveries follow one another."""
    last = 0
    columns = schema.delivery.c
    question = select(columns.id, columns.first_assertion, columns.assertions).order_by(columns.id)
    for id_, first, count in connection.execute(question):
        if first != last + 1 or count < 0:
            raise IntegrityError(f"table delivery row {id_} does not follow assertion {last}")
        last += count
    return last


def audit_policies(connection: Connection) -> dict[int, Policy]:
    """Every policy that ever decided anything, by its id.

    Raises:
        IntegrityError: the content of one is not what its digest says.
    """
    policies = {}
    for row in connection.execute(select(schema.policy).order_by(schema.policy.c.id)):
        try:
            policies[row.id] = Policy.from_canonical(row.content)
        except (DecodeError, TypeError, AttributeError):
            raise IntegrityError(f"table policy row {row.id} is not a policy") from None
        whole = sha256(POLICY_DOMAIN + row.content).digest() == row.digest
        if not whole or policies[row.id].taxonomy_digest != row.taxonomy:
            raise IntegrityError(f"table policy row {row.id} was altered")
    return policies


def audit_assertions(connection: Connection, registry: Registry) -> Stored:
    """Checks terms, digests and the index of mentions; returns all assertions.

    Raises:
        IntegrityError: something was altered, removed or added; the text names the row.
    """
    stored = load_stored(connection, None)
    # A correction lies over what was said, and takes nothing away.
    used = set(connection.execute(select(schema.corrected.c.terms).distinct()).scalars())
    for terms in terms_after(connection, 0):
        used.update(ascending(terms).tolist())
    _no_other(connection, schema.terms, used)
    _digests(connection, registry, stored.rows)
    _mentions(connection, stored.rows)
    return stored


def _no_other(connection: Connection, table: Table, used: set[int]) -> None:
    for id_ in connection.execute(select(table.c.id).order_by(table.c.id)).scalars():
        if id_ not in used:
            raise IntegrityError(f"table {table.name} row {id_} belongs to no assertion")


def _digests(connection: Connection, registry: Registry, rows: Rows) -> None:
    chunk = schema.digest_chunk.c
    given = rows.identifier.is_valid().to_numpy(zero_copy_only=False)
    for first, count in connection.execute(select(chunk.first, chunk.count).order_by(chunk.first)).all():
        part = slice(first - 1, first - 1 + count)
        try:
            digests = load_digests(connection, registry.sealing_key, np.arange(first, first + count))
        except IntegrityError as error:
            raise IntegrityError(f"table digest_chunk row {first}: {error}") from None
        there = np.asarray(digests.any(axis=1))
        if not (_same(registry, rows, part, digests, there) and given[part][there].all()):
            raise IntegrityError(f"table digest_chunk row {first}: a digest is another assertion's")


def _same(
    registry: Registry, rows: Rows, part: slice, digests: NDArray[np.uint8], there: NDArray[np.bool_]
) -> bool:
    """Whether the identifiers of assertions that have a digest are made from it."""
    keyed = keyed_digests(registry.identifier_key, rows.kind[part][there], digests[there])
    stored = rows.identifier[part].fill_null(bytes(schema.KEYED_DIGEST_BYTES))
    return bool((keyed == keyed_bytes(stored)[there]).all())


def _mentions(connection: Connection, rows: Rows) -> None:
    expected = np.stack(mentions_of(1, rows), axis=1)
    at = 0
    table = schema.mention.c
    question = select(table.key, table.assertion).order_by(table.key, table.assertion)
    # A row object for each of millions would cost several times what comparing them does.
    cursor = connection.execute(question).cursor
    while some := cursor.fetchmany(_MENTIONS_AT_A_TIME):
        try:
            found = np.array(some, np.int64)
        except (ValueError, TypeError, OverflowError):
            raise IntegrityError("table mention holds a row that is no pair of numbers") from None
        wanted = expected[at : at + len(found)]
        if not np.array_equal(found, wanted):
            length = min(len(found), len(wanted))
            differs = np.flatnonzero((found[:length] != wanted[:length]).any(axis=1))
            row = found[differs[0] if len(differs) else length]
            raise IntegrityError(f"table mention: the row of assertion {row[1]}, or one before it, is wrong")
        at += len(found)
    if at != len(expected):
        raise IntegrityError(f"table mention lacks a row of assertion {expected[at][1]}")
