"""Deliveries from the wire: any message is read or refused, and a digest knows nothing of how it was cut."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pyarrow as pa
import pytest
from google.protobuf.message import DecodeError as NoMessageError
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.delivery import COLUMNS, MAX_CELL_BYTES, NAMING_COLUMNS, OPTIONAL_COLUMNS
from purposematch.protocol.errors import DecodeError, LimitError, UnavailableError
from purposematch.server import enrollment_service
from purposematch.server.received import DeliveryDigest, Received, parse_delivery_id, parse_rows
from purposematch.v1 import enrollment_pb2 as pb

KNOWN = (*COLUMNS, *OPTIONAL_COLUMNS)
cells = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.sampled_from([*KNOWN, "city", ""])


@st.composite
def tables(draw: st.DrawFn) -> pa.RecordBatch:
    rows = draw(st.integers(1, 12))
    texts = cells.filter(lambda text: "\0" not in text)
    columns = {
        name: draw(st.lists(texts, min_size=rows, max_size=rows)) for name in ("subject_id", "value", "kind")
    }
    return pa.record_batch({name: pa.array(column, pa.string()) for name, column in columns.items()})


def digest(*batches: pa.RecordBatch, about: tuple[bytes, ...] = (b"", b"DE")) -> bytes:
    made = DeliveryDigest(*about)
    for batch in batches:
        made.update(batch)
    return made.digest()


@given(tables(), st.data())
def test_a_digest_does_not_depend_on_the_cuts(batch: pa.RecordBatch, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(batch)), max_size=4).map(sorted))
    bounds = [0, *cuts, len(batch)]
    parts = [batch.slice(begin, stop - begin) for begin, stop in pairwise(bounds)]
    assert digest(*parts) == digest(batch)


@given(tables(), tables())
def test_other_rows_have_another_digest(one: pa.RecordBatch, other: pa.RecordBatch) -> None:
    assert (digest(one) == digest(other)) == one.equals(other)


def test_a_digest_covers_where_cells_end_and_what_is_said_of_all() -> None:
    def batch(*texts: str) -> pa.RecordBatch:
        return pa.record_batch({"value": pa.array(texts, pa.string())})

    every = [
        digest(batch("ab", "c")),
        digest(batch("a", "bc")),
        digest(batch("abc")),
        digest(batch("abc", "")),
        digest(batch("ab", "c"), about=(b"", b"")),
        digest(batch("ab", "c"), about=(b"DE", b"")),
        digest(batch("ab", "c").rename_columns(["kind"])),
    ]
    assert len(set(every)) == len(every)


@given(st.lists(st.tuples(names, st.lists(cells, max_size=5)), max_size=6), st.integers(1, 4))
def test_any_message_is_read_or_refused(columns: list[tuple[str, list[str]]], limit: int) -> None:
    message = pb.Rows(columns=[pb.Column(name=name, cells=texts) for name, texts in columns])
    try:
        batch = parse_rows(message, KNOWN, limit)
    except (DecodeError, LimitError):
        return
    assert 0 < len(batch) <= limit
    assert {name: batch[name].to_pylist() for name in batch.schema.names} == dict(columns)
    batch.validate(full=True)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_that_is_read_or_refused(content: bytes) -> None:
    message = pb.EnrollRequest()
    try:
        message.ParseFromString(content)
    except NoMessageError:
        return
    with pytest.raises((DecodeError, LimitError)):
        # No random bytes hold all ten columns.
        Received(message.header).take(message.rows)


def test_the_longest_cell_is_taken() -> None:
    def message(text: str) -> pb.Rows:
        return pb.Rows(columns=[pb.Column(name="subject_id", cells=[text])])

    longest = "é" * (MAX_CELL_BYTES // 2)
    assert parse_rows(message(longest), NAMING_COLUMNS)["subject_id"].to_pylist() == [longest]
    with pytest.raises(DecodeError, match="longer than"):
        parse_rows(message(longest + "e"), NAMING_COLUMNS)


def test_an_id_has_sixteen_bytes() -> None:
    assert parse_delivery_id(bytes(16)) == bytes(16)
    for wrong in (b"", bytes(15), bytes(17)):
        with pytest.raises(DecodeError):
            parse_delivery_id(wrong)


def test_a_silent_delivery_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrollment_service, "SILENCE_SECONDS", 0.05)

    async def silent() -> AsyncIterator[pb.EnrollRequest]:
        yield pb.EnrollRequest()
        await asyncio.sleep(60)

    async def read() -> None:
        messages = enrollment_service.parts_in_time(silent())
        assert await anext(messages) == pb.EnrollRequest()
        with pytest.raises(UnavailableError, match="nothing came"):
            await anext(messages)

    asyncio.run(read())
