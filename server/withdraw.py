"""Withdrawals and objections as commands: a delivery like any other, and a receipt.

What is named becomes rows with the status `withdrawn` or `objected` that are enrolled as one delivery, so
the gate, the registry and freshness treat them as they treat every refusal. The receipt says under which
number they are stored, whom they took out of which generations, and where the log says so.

Not protected against: an identifier that was enrolled as a digest under another profile; withdrawing by
subject reaches everything.
"""

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from sqlalchemy import Connection, select

from purposematch.protocol.delivery import COLUMNS, NAMING_COLUMNS, OPTIONAL_COLUMNS
from purposematch.protocol.errors import InputError
from purposematch.protocol.identifiers import Kind
from purposematch.protocol.purpose import Origin, Status
from purposematch.server.checkpoints import sign_checkpoint
from purposematch.server.enroll import enroll
from purposematch.server.lookup import guess_kind, is_digest
from purposematch.server.platform import Platform
from purposematch.server.registry.columns import NONE, assertion_columns, decision_columns, naming
from purposematch.server.registry.happened import consent_ages, load_deliveries, load_generations
from purposematch.server.registry.history import HISTORY_COLUMNS, pair_history
from purposematch.server.registry.positions import LogPosition, log_positions
from purposematch.server.registry.schema import decision, delivery
from purposematch.server.times import iso
from purposematch.tables import Table, open_table, text_column

__all__ = ["WithdrawalReceipt", "file_named", "one_named", "withdraw"]


@dataclass(frozen=True, slots=True)
class WithdrawalReceipt:
    """What is stored of a withdrawal, and what it does.

    Attributes:
        status: `WITHDRAWN` or `OBJECTED`.
        purpose: the use that is refused; None for every use.
        delivery: `delivery.id`.
        received_at: the time of receipt, from which it is in force; microseconds since 1970.
        first_assertion: the id of its first row.
        assertions: its rows.
        pairs: (subject, identifier) pairs that were permitted and are not any more.
        generations: the numbers of the generations that they are in; no session opens on these any more.
        position: where the log says it: one leaf for all of its rows.
        checkpoint: a signed checkpoint of the log with that leaf in it.
    """

    status: Status
    purpose: str | None
    delivery: int
    received_at: int
    first_assertion: int
    assertions: int
    pairs: int
    generations: list[int]
    position: LogPosition
    checkpoint: bytes

    def to_mapping(self) -> dict[str, object]:
        """The stable document of `withdraw --json` and `object --json`."""
        return {
            "status": self.status.label,
            "purpose": self.purpose,
            "delivery": self.delivery,
            "received_at": iso(self.received_at),
            "first_assertion": self.first_assertion,
            "assertions": self.assertions,
            "pairs": self.pairs,
            "generations": self.generations,
            **self.position.to_mapping(),
            "checkpoint": self.checkpoint.decode(),
            "receipts": [
                {"assertion": self.first_assertion + place, "log_leaf": self.position.leaf, "position": place}
                for place in range(self.assertions)
            ],
        }


def one_named(subject_id: str | None, identifier: str | None, kind: Kind | None) -> pa.Table:
    """A table of `NAMING_COLUMNS` with one row, for one subject or one identifier.

    Raises:
        InputError: the identifier is a digest and its kind is not said.
    """
    row = dict.fromkeys(NAMING_COLUMNS, "") | {"subject_id": subject_id or ""}
    if identifier is not None:
        hashed = is_digest(identifier)
        if hashed and kind is None:
            raise InputError("the identifier is a digest: say with --kind what it is a digest of")
        row["kind"] = (kind or guess_kind(identifier)).label
        row["value"], row["value_format"] = identifier, "sha256" if hashed else "raw"
    return pa.table({name: pa.array([text], pa.string()) for name, text in row.items()})


def file_named(file: Path | None, stdin: BinaryIO) -> pa.Table:
    """A table of `NAMING_COLUMNS` with the rows of a CSV or Parquet file.

    Args:
        file: the file; None for standard input.
        stdin: what standard input is.

    Raises:
        TableError: it cannot be read.
        InputError: it names nobody: neither `subject_id` nor `kind`, `value` and `value_format` are there.
    """
    with open_table(file, stdin=stdin) as table:
        names = [name for name in NAMING_COLUMNS if name in table.columns]
        if "subject_id" not in names and not {"kind", "value", "value_format"} <= {*names}:
            raise InputError(
                f"{table.name}: withdrawals need a column subject_id, or kind, value and value_format"
            )
        with closing(table.batches(names)) as batches:
            parts = [
                pa.table(
                    {
                        name: text_column(batch, name)
                        if name in names
                        else pa.array([""] * len(batch), pa.string())
                        for name in NAMING_COLUMNS
                    }
                )
                for batch in batches
            ]
    if not parts:
        raise InputError(f"{table.name}: there is nobody in it")
    return pa.concat_tables(parts)


def withdraw(
    platform: Platform,
    named: pa.Table,
    status: Status,
    *,
    purpose: str | None,
    source: str,
    region: str | None,
    name: str,
    request: bytes | None = None,
) -> WithdrawalReceipt:
    """Records that people withdraw or object; in force when this returns.

    Args:
        platform: the open platform.
        named: rows of `NAMING_COLUMNS`, at least one.
        status: `WITHDRAWN` or `OBJECTED`.
        purpose: the use that is refused, a key of the taxonomy; None for every use.
        source: the system that delivers it.
        region: two-letter country code of phones without `+`.
        name: what to call `named` in texts for people.
        request: the id that the source gave it, as for an enrolled file.

    Raises:
        RefusedError: something else was stored under the same id.
        InputError: the purpose is unknown, or a row names neither a subject nor a readable identifier; then
            nothing is stored.
        PolicyError: the policy file is refused.
        IntegrityError: it is stored and in force, but the log was altered and no checkpoint is signed.
    """
    if purpose is not None and purpose not in platform.taxonomy:
        raise InputError(
            "the purpose is not a data-use key of the taxonomy; without one, every use is refused"
        )
    with _as_delivery(named, status, purpose, name) as table:
        report = enroll(
            table,
            platform.registry,
            platform.policy(),
            platform.taxonomy,
            platform.clock,
            platform_id=platform.config.platform_id,
            source=source,
            region=region,
            request=request,
        )
    with platform.registry.reading() as connection:
        row = connection.execute(select(delivery).where(delivery.c.id == report.delivery)).one()
        pairs, generations = _removed(connection, row.first_assertion, row.assertions, row.received_at)
        position = log_positions(connection, [row.id])[row.id]
    return WithdrawalReceipt(
        status=status,
        purpose=purpose,
        delivery=row.id,
        received_at=row.received_at,
        first_assertion=row.first_assertion,
        assertions=row.assertions,
        pairs=pairs,
        generations=generations,
        position=position,
        checkpoint=sign_checkpoint(platform),
    )


@contextmanager
def _as_delivery(named: pa.Table, status: Status, purpose: str | None, name: str) -> Iterator[Table]:
    """The rows of a delivery that say it, as a table that `enroll` reads."""
    # An origin that is known makes a refusal one of the purpose that is named, and of no other.
    said = {"purposes": purpose or "", "origin": Origin.PROFILE.label, "status": status.label}
    for column in (*COLUMNS, *OPTIONAL_COLUMNS):
        if column not in named.column_names:
            named = named.append_column(column, pa.array([said.get(column, "")] * len(named), pa.string()))
    content = io.BytesIO()
    pa_csv.write_csv(named, content)
    content.seek(0)
    with open_table(None, stdin=content) as table:
        table.name = name
        yield table


def _removed(connection: Connection, first: int, count: int, received_at: int) -> tuple[int, list[int]]:
    """How many pairs a delivery took the permission from, and the numbers of the generations they are in."""
    own = assertion_columns(connection, ["identifier"], np.arange(first, first + count))
    keys = set(own["identifier"].drop_null().to_pylist())
    decided = select(decision.c.identifier).where(
        decision.c.assertions == first + count - 1, decision.c.decided_at == received_at
    )
    keys.update(connection.execute(decided).scalars())
    generations = load_generations(connection)
    history = pair_history(
        assertion_columns(connection, HISTORY_COLUMNS, naming(connection, [], keys)),
        decision_columns(connection, keys),
        load_deliveries(connection),
        generations,
        consent_ages(connection),
    )
    new = history.time == received_at
    new &= history.decided | ((history.id >= first) & (history.id < first + count))
    # The last event of a pair before the first new one was the answer in force until then.
    before = np.flatnonzero((history.pair[1:] == history.pair[:-1]) & new[1:] & ~new[:-1])
    was = history.pair[before[history.granting[before] != NONE]]
    now = history.pair[history.latest[history.granting[history.latest] == NONE]]
    removed = np.intersect1d(was, now)
    events = history.enrolled
    events = events[np.isin(history.pair[events], removed)]
    present = np.zeros(len(generations) + 1, np.int64)
    np.add.at(present, history.begin[events], 1)
    np.add.at(present, history.end[events], -1)
    return len(removed), generations.numbers[np.cumsum(present)[:-1] > 0].tolist()
