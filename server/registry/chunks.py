"""Assertions as they are stored: chunks of columns, each an Arrow record batch in one value.

Columns need no object for a cell, neither to write them nor to read them, and a chunk is small enough to be
read for one assertion in it. The batch is stored without its schema, which is `COLUMNS`.

Not protected against: somebody who writes to the database. What cannot be an assertion is refused, but
another subject in place of the one that spoke is not noticed here.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, select, update

from purposematch.protocol.assertions import NO_TIME
from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.purpose import Reason
from purposematch.server.registry.rows import KEYED_DIGEST
from purposematch.server.registry.schema import CHUNK_ROWS, assertion_chunk

__all__ = ["COLUMNS", "blank_rows", "chunk_parts", "erase_rows", "load_chunks", "store_chunks", "terms_after"]

COLUMNS: Final = pa.schema(
    [
        pa.field("subject", pa.string()),  # the platform's opaque id; null = not given: all, if it refuses
        pa.field("identifier", KEYED_DIGEST),  # null = could not be read
        # Other keyed digests of the raw value: under profiles whose canonical form differs. Two assertions
        # meet when they share any spelling, `identifier` included.
        pa.field("others", pa.list_(pa.field("item", KEYED_DIGEST, nullable=False)), nullable=False),
        pa.field("kind", pa.uint8(), nullable=False),  # Kind; 0 = could not be read
        pa.field("terms", pa.int64(), nullable=False),  # terms.id
        pa.field("notice", pa.string()),  # what the person was shown; null = not given
        pa.field("not_before", pa.int64(), nullable=False),  # NO_TIME = not given
        pa.field("expires_at", pa.int64(), nullable=False),
        pa.field("flaw", pa.uint8(), nullable=False),  # Reason that the reader found; 0 = none
        pa.field(
            "evidence", pa.uint8(), nullable=False
        ),  # Evidence, as judged at receipt, under delivery.policy
        pa.field("reason", pa.uint8(), nullable=False),  # Reason at receipt, under delivery.policy
    ]
)
"""One statement of one subject about one identifier in each row."""


_RUN: Final = (
    select(assertion_chunk)
    .where(assertion_chunk.c.first.between(bindparam("low"), bindparam("high")))
    .order_by(assertion_chunk.c.first)
)

_BLANK: Final = {
    **dict.fromkeys(("subject", "identifier", "notice")),
    **{"others": [], "kind": 0, "not_before": NO_TIME, "expires_at": NO_TIME, "flaw": 0, "evidence": 0},
    "reason": int(Reason.NO_ASSERTION),
}
"""A row of which nothing is left."""


def store_chunks(connection: Connection, first: int, assertions: pa.RecordBatch) -> None:
    """Stores assertions behind those that there are.

    Args:
        connection: a transaction that writes.
        first: the id of the first of them; those before it are stored.
        assertions: n rows of `COLUMNS`.
    """
    last = connection.execute(
        select(assertion_chunk).order_by(assertion_chunk.c.first.desc()).limit(1)
    ).one_or_none()
    # Many small deliveries must not become as many chunks.
    if last is not None and len(before := _batch(*last)) < CHUNK_ROWS:
        connection.execute(delete(assertion_chunk).where(assertion_chunk.c.first == last.first))
        assertions = pa.concat_batches([before, assertions])
        first = last.first
    for start in range(0, len(assertions), CHUNK_ROWS):
        batch = assertions.slice(start, CHUNK_ROWS)
        row = {"first": first + start, "count": len(batch), "content": batch.serialize().to_pybytes()}
        connection.execute(assertion_chunk.insert(), row)


def load_chunks(
    connection: Connection, ids: NDArray[np.int64] | None = None, names: Sequence[str] = COLUMNS.names
) -> tuple[NDArray[np.int64], pa.RecordBatch]:
    """The ids of assertions, ascending, and what they say.

    Args:
        connection: a snapshot.
        ids: (n,) int64, which ones, ascending and distinct; None for all.
        names: which columns.

    Returns:
        (n,) int64, and n rows of these of `COLUMNS`.

    Raises:
        IntegrityError: an assertion is missing, or a chunk is damaged.
    """
    question = select(assertion_chunk).order_by(assertion_chunk.c.first)
    if ids is None:
        chunks = connection.execute(question).all()
        batches = [_batch(*chunk).select(names) for chunk in chunks]
        numbers = [np.arange(first, first + count) for first, count, _ in chunks]
        return np.concatenate([np.zeros(0, np.int64), *numbers]), _joined(batches, names)
    return ids, _joined([batch for _, batch in chunk_parts(connection, ids, names)], names)


def chunk_parts(
    connection: Connection, ids: NDArray[np.int64], names: Sequence[str]
) -> Iterator[tuple[slice, pa.RecordBatch]]:
    """What assertions say, chunk by chunk.

    Args:
        connection: a snapshot.
        ids: (n,) int64, which ones, ascending and distinct.
        names: which columns.

    Yields:
        Which of them, and as many rows of these of `COLUMNS`.

    Raises:
        IntegrityError: an assertion is missing, or a chunk is damaged.
    """
    ordered = select(assertion_chunk.c.first).order_by(assertion_chunk.c.first)
    firsts = np.array(connection.execute(ordered).scalars().all(), np.int64)
    starts = np.searchsorted(ids, firsts)
    if len(ids) and (not len(starts) or starts[0]):
        raise IntegrityError("the registry lacks some assertions")
    ends = np.append(starts[1:], len(ids))
    needed = np.flatnonzero(ends > starts).tolist() if len(ids) else []
    for chunk, number in zip(_chunks(connection, firsts, needed), needed, strict=True):
        part = slice(int(starts[number]), int(ends[number]))
        wanted = ids[part]
        if wanted[-1] >= chunk.first + chunk.count:
            raise IntegrityError("the registry lacks some assertions")
        # What is taken is copied, so that the memory of the whole chunk is free for the next one.
        yield part, _batch(*chunk).select(names).take(pa.array(wanted - chunk.first))


def _chunks(connection: Connection, firsts: NDArray[np.int64], needed: Sequence[int]) -> Iterator[Any]:
    """The chunks of these numbers, ascending, read in one question for those that follow one another."""
    begin = 0
    for end in range(1, len(needed) + 1):
        if end == len(needed) or needed[end] != needed[end - 1] + 1:
            ends = {"low": int(firsts[needed[begin]]), "high": int(firsts[needed[end - 1]])}
            yield from connection.execute(_RUN, ends)
            begin = end


def blank_rows(terms: pa.Array) -> pa.RecordBatch:
    """What is left of n assertions that were erased: their terms, (n,) int64, and n rows of nothing else."""
    return pa.RecordBatch.from_pylist([_BLANK | {"terms": each} for each in terms.to_pylist()], COLUMNS)


def erase_rows(connection: Connection, ids: NDArray[np.int64]) -> None:
    """Overwrites what assertions said.

    Args:
        connection: a transaction that writes.
        ids: (n,) int64, ascending and distinct; they are there.
    """
    end = assertion_chunk.c.first + assertion_chunk.c.count
    reached = (assertion_chunk.c.first <= int(ids[-1])) & (end > int(ids[0]))
    places = connection.execute(select(assertion_chunk.c.first, assertion_chunk.c.count).where(reached)).all()
    for first, count in places:
        inside = ids[(ids >= first) & (ids < first + count)] - first
        if not len(inside):
            continue
        here = assertion_chunk.c.first == first
        rows = _batch(
            first, count, connection.execute(select(assertion_chunk.c.content).where(here)).scalar_one()
        )
        blank = blank_rows(rows["terms"].take(pa.array(inside)))
        taken = np.arange(count)
        taken[inside] = count + np.arange(len(inside))
        rows = pa.concat_batches([rows, blank]).take(pa.array(taken))
        content = rows.serialize().to_pybytes()
        connection.execute(update(assertion_chunk).where(here).values(content=content))


# Every opening of a session asks it; building the question anew takes longer than the answer.
_BEHIND = select(assertion_chunk).where(
    assertion_chunk.c.first + assertion_chunk.c.count > bindparam("first")
)


def terms_after(connection: Connection, watermark: int) -> Iterator[NDArray[np.int64]]:
    """`terms.id` of the assertions above `watermark`, chunk by chunk.

    Raises:
        IntegrityError: a chunk is damaged.
    """
    for first, count, content in connection.execute(_BEHIND, {"first": watermark + 1}):
        terms = _batch(first, count, content)["terms"].to_numpy()
        yield terms[max(watermark + 1 - first, 0) :]


def _batch(first: int, count: int, content: bytes) -> pa.RecordBatch:
    """The rows of one chunk.

    Raises:
        IntegrityError: they are not whole.
    """
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(content), COLUMNS)
        batch.validate(full=True)
    except (pa.ArrowException, EOFError, OSError) as error:
        raise IntegrityError(
            f"table assertion_chunk row {first}: the assertions from there on are damaged"
        ) from error
    incomplete = any(
        column.null_count and not field.nullable for column, field in zip(batch.columns, COLUMNS, strict=True)
    )
    if len(batch) != count or incomplete:
        raise IntegrityError(f"table assertion_chunk row {first}: the assertions from there on are damaged")
    return batch


def _joined(batches: list[pa.RecordBatch], names: Sequence[str]) -> pa.RecordBatch:
    return pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], COLUMNS).select(names)
