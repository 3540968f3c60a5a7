"""Reading a customer list: columns, distinct identifiers, reasons and duplicates."""

import itertools
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from purposematch.client.columns import Column, UnnamedColumnsError, choose_columns
from purposematch.client.customer_list import CustomerList
from purposematch.client.distinct import distinct_rows
from purposematch.client.growing import Growing
from purposematch.protocol.errors import IdentifierError, InputError, TableError
from purposematch.protocol.identifiers import (
    IdentifierReason,
    Kind,
    Profile,
    digest_of_prehashed,
    digest_raw,
)
from purposematch.tables import create_table, open_table

EMAIL = Column("email", Kind.EMAIL)
OTHER_EMAIL = Column("second", Kind.EMAIL)
PHONE = Column("phone", Kind.PHONE)
DIGEST = Column("digest", Kind.EMAIL, hashed=True)
HEX = digest_raw(pa.array(["ann@example.com"]), Kind.EMAIL, Profile.PLAIN).digests.tobytes().hex()

values = st.sampled_from(
    [
        *("", " ", "ann@example.com", " Ann@Example.com", "bob@example.com", "cy@example.com"),
        *("+4915112345678", "+49 151 12345678", "+15550100100", "0151", "not one", "null", "a b@example.com"),
        *(HEX, HEX.upper(), HEX[:-1], HEX[:32]),
    ]
)


def write(path: Path, columns: tuple[Column, ...], rows: list[tuple[str, ...]]) -> Path:
    names = ["id", *(column.name for column in columns)]
    with create_table(path, names) as writer:
        if rows:
            cells = [[str(number), *row] for number, row in enumerate(rows)]
            arrays = [pa.array(column, pa.string()) for column in zip(*cells, strict=True)]
            writer.write(pa.record_batch(arrays, names=names))
    return path


def read(path: Path, columns: tuple[Column, ...], region: str | None = None) -> CustomerList:
    with open_table(path) as table:
        return CustomerList.read(table, columns, Profile.PLAIN, region)


def one_value(value: str, column: Column) -> bytes | IdentifierReason:
    """The identifier in one cell, or why there is none; one value at a time."""
    if column.hashed:
        try:
            return bytes([column.kind]) + digest_of_prehashed(value)
        except IdentifierError as error:
            return IdentifierReason(error.reason)
    got = digest_raw(pa.array([value]), column.kind, Profile.PLAIN)
    return IdentifierReason(got.reasons[0]) or bytes([column.kind]) + got.digests.tobytes()


@settings(max_examples=40)
@given(st.lists(st.tuples(values, values, values, values), max_size=30))
def test_a_list_is_what_a_row_by_row_reading_with_dictionaries_says(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
) -> None:
    columns = (EMAIL, PHONE, OTHER_EMAIL, DIGEST)
    customers = read(write(tmp_path_factory.mktemp("list") / "list.csv", columns, rows), columns)

    seen: set[bytes] = set()
    invalid: Counter[str] = Counter()
    duplicates = 0
    for number, row in enumerate(rows):
        cells = [one_value(value, column) for value, column in zip(row, columns, strict=True)]
        own = {cell for cell in cells if isinstance(cell, bytes)}
        for cell, numbers in zip(cells, customers.numbers, strict=True):
            at = int(numbers[number])
            assert (
                (at == -1)
                if isinstance(cell, IdentifierReason)
                else (customers.inputs(at, at + 1).tobytes() == cell)
            )
        if own:
            duplicates += own <= seen
            assert customers.reasons[number] == IdentifierReason.USABLE
        else:
            reasons = [cell for cell in cells if cell != IdentifierReason.EMPTY]
            reason = reasons[0] if reasons else IdentifierReason.EMPTY
            assert isinstance(reason, IdentifierReason)
            invalid[reason.label] += 1
            assert customers.reasons[number] == reason
        seen |= own

    assert customers.rows == len(rows)
    assert customers.invalid == invalid
    assert customers.duplicates == duplicates
    assert customers.rows == customers.usable + sum(customers.invalid.values())
    distinct = customers.inputs(0, len(customers))
    assert {row.tobytes() for row in distinct} == seen
    assert len(customers) == len(seen)


@settings(max_examples=40)
@given(st.lists(st.tuples(values, values), min_size=1, max_size=20), st.data())
def test_a_row_matches_if_any_of_its_identifiers_does(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], data: st.DataObject
) -> None:
    columns = (EMAIL, PHONE)
    customers = read(write(tmp_path_factory.mktemp("list") / "list.csv", columns, rows), columns)
    flags = data.draw(st.lists(st.booleans(), min_size=len(customers), max_size=len(customers)))
    found = {customers.inputs(i, i + 1).tobytes() for i, flag in enumerate(flags) if flag}
    matched = customers.matched_rows(np.array(flags, np.bool_))
    for row, is_matched in zip(rows, matched, strict=True):
        cells = [one_value(value, column) for value, column in zip(row, columns, strict=True)]
        assert is_matched == any(cell in found for cell in cells)


def test_all_inputs_stand_before_others(tmp_path: Path) -> None:
    rows = [("ann@example.com", "+4915112345678"), ("bob@example.com", ""), ("ann@example.com", "")]
    customers = read(write(tmp_path / "list.csv", (EMAIL, PHONE), rows), (EMAIL, PHONE))
    others = np.arange(66, dtype=np.uint8).reshape(2, 33)
    inputs = customers.inputs_before(others)
    assert inputs.flags.c_contiguous
    assert (inputs == np.concatenate([customers.inputs(0, 3), others])).all()


@pytest.mark.parametrize("region", ["Germany", None])
def test_no_thread_goes_on_after_a_list_was_read_or_refused(tmp_path: Path, region: str | None) -> None:
    rows = [(f"+49151{number:08}",) for number in range(150_000)]
    path, before = write(tmp_path / "list.csv", (PHONE,), rows), threading.active_count()
    try:
        read(path, (PHONE,), region=region)
    except InputError:
        assert region is not None
        # The error still holds the frames that read.
        assert threading.active_count() == before
    assert threading.active_count() == before


def test_a_list_of_several_batches_keeps_its_numbers_apart(tmp_path: Path) -> None:
    rows = [(f"person{i % 90_000}@example.com",) for i in range(150_000)]
    customers = read(write(tmp_path / "list.csv", (EMAIL,), rows), (EMAIL,))
    assert (customers.rows, len(customers), customers.duplicates) == (150_000, 90_000, 60_000)
    (numbers,) = customers.numbers
    assert (numbers[:60_000] == numbers[90_000:]).all()
    assert len(np.unique(numbers)) == 90_000


def test_a_parquet_list_with_nulls_reads_like_csv(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"email": ["ann@example.com", None], "phone": [None, 4915112345678]}), path)
    customers = read(path, (EMAIL, PHONE), region="DE")
    assert customers.usable == 2
    assert len(customers) == 2


def test_a_list_without_rows_has_no_identifiers(tmp_path: Path) -> None:
    customers = read(write(tmp_path / "list.csv", (EMAIL, PHONE), []), (EMAIL, PHONE))
    assert (customers.rows, customers.usable, len(customers), customers.duplicates) == (0, 0, 0, 0)
    assert customers.invalid == {}


def test_an_unknown_region_is_refused_once(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", (PHONE,), [("0151 12345678",)])
    with pytest.raises(InputError, match="two-letter"):
        read(path, (PHONE,), region="Germany")


def numbered_one_by_one(rows: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[list[int], list[bytes]]:
    """What `distinct_rows` gives, with a dictionary."""
    known: dict[bytes, int] = {}
    numbers = [known.setdefault(row.tobytes(), len(known)) for row in rows]
    return numbers, list(known)


# Digests that begin alike in their first 16, 32 and 64 bits, and differ at their end.
digests = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 1), st.integers(0, 2)), max_size=60
)


@given(digests)
@example([])
@example([(1, 1, 1, 1)] * 5)
@example([(0, 0, 0, 2), (1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 2), (1, 0, 0, 0)])
def test_equal_digests_get_one_number_in_the_order_in_which_they_appear(
    parts: list[tuple[int, int, int, int]],
) -> None:
    rows = np.zeros((len(parts), 32), np.uint8)
    rows[:, [1, 3, 7, 31]] = np.array(parts, np.uint8).reshape(-1, 4)
    numbers, distinct = distinct_rows(rows)
    assert (numbers.tolist(), [row.tobytes() for row in distinct]) == numbered_one_by_one(rows)


def random_digests(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(7).integers(0, 256, (count, 32), dtype=np.uint8)


def test_distinct_digests_are_not_copied() -> None:
    rows = random_digests(1_000)
    numbers, distinct = distinct_rows(rows)
    assert distinct is rows
    assert numbers.dtype == np.int32
    assert (numbers == np.arange(1_000)).all()


@pytest.mark.parametrize("alike", [0, 2, 4, 8, 16, 24, 31])
def test_long_lists_whose_digests_begin_alike_are_numbered_exactly(alike: int) -> None:
    rows = random_digests(140_000)
    # Some of them begin like all the others of these do, as only a list of made-up digests can.
    rows[::3, :alike] = 5
    rows[100_000:] = rows[np.random.default_rng(8).integers(0, 100_000, 40_000)]
    numbers, distinct = distinct_rows(rows)
    assert (numbers.tolist(), [row.tobytes() for row in distinct]) == numbered_one_by_one(rows)


def test_digests_that_begin_alike_by_chance_are_told_apart() -> None:
    rows = random_digests(200_000)
    assert len(np.unique(rows.view(np.uint32)[:, 0])) < len(rows)
    assert distinct_rows(rows)[1] is rows


def test_digests_that_alternate_behind_one_beginning_across_blocks_are_told_apart() -> None:
    rows = np.zeros((140_000, 32), np.uint8)
    rows[:, 31] = np.arange(140_000) % 2
    numbers, distinct = distinct_rows(rows)
    assert len(distinct) == 2
    assert (numbers == np.arange(140_000) % 2).all()


@given(st.lists(st.integers(0, 70_000), max_size=4))
def test_a_growing_array_holds_what_was_appended(lengths: list[int]) -> None:
    growing = Growing(np.int32)
    counter = itertools.count()
    parts = [np.full(length, next(counter), np.int32) for length in lengths]
    for part in parts:
        growing.append(part)
    assert len(growing) == sum(lengths)
    assert (growing.take() == np.concatenate([np.empty(0, np.int32), *parts])).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("email", Column("email", Kind.EMAIL)),
        ("E-Mail", Column("E-Mail", Kind.EMAIL)),
        (" Email Address ", Column(" Email Address ", Kind.EMAIL)),
        ("email2", Column("email2", Kind.EMAIL)),
        ("Phone Number", Column("Phone Number", Kind.PHONE)),
        ("MOBILE", Column("MOBILE", Kind.PHONE)),
        ("idfa", Column("idfa", Kind.MAID)),
        ("madid", Column("madid", Kind.MAID)),
        ("hashed_email", Column("hashed_email", Kind.EMAIL, hashed=True)),
        ("email_sha256", Column("email_sha256", Kind.EMAIL, hashed=True)),
        ("SHA256 Phone", Column("SHA256 Phone", Kind.PHONE, hashed=True)),
        ("maid_hash", Column("maid_hash", Kind.MAID, hashed=True)),
    ],
)
def test_a_column_with_a_usual_name_is_found(tmp_path: Path, name: str, expected: Column) -> None:
    with create_table(tmp_path / "list.csv", ["id", name]):
        pass
    with open_table(tmp_path / "list.csv") as table:
        assert choose_columns(table, ()) == (expected,)


def test_named_columns_win_over_usual_names(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", (EMAIL, PHONE), [])
    with open_table(path) as table:
        assert choose_columns(table, (Column("id", Kind.PHONE),)) == (Column("id", Kind.PHONE),)


def test_prehashed_says_it_of_every_column(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", (EMAIL, PHONE), [])
    with open_table(path) as table:
        assert all(column.hashed for column in choose_columns(table, (), prehashed=True))
        assert all(column.hashed for column in choose_columns(table, (EMAIL,), prehashed=True))


def test_a_list_without_any_usual_name_is_refused_with_what_there_is(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", (Column("kunde", Kind.EMAIL),), [])
    unnamed = pytest.raises(UnnamedColumnsError, match=r'"id", "kunde".*name the columns')
    with open_table(path) as table, unnamed:
        choose_columns(table, ())


def test_a_list_without_a_header_does_not_show_its_first_row(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("ann@example.com,1\nbob@example.com,2\n")
    with open_table(tmp_path / "list.csv") as table, pytest.raises(InputError) as refused:
        choose_columns(table, ())
    assert "looks like data" in str(refused.value)
    assert "ann@" not in str(refused.value)


def test_a_missing_column_is_refused_with_what_there_is(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", (EMAIL,), [])
    with open_table(path) as table, pytest.raises(TableError, match=r'"mail" missing.*"id", "email"'):
        choose_columns(table, (Column("mail", Kind.EMAIL),))


def test_a_column_named_for_two_kinds_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", (EMAIL,), [])
    with open_table(path) as table, pytest.raises(InputError, match="named twice"):
        choose_columns(table, (EMAIL, Column("email", Kind.PHONE)))
