"""A written table is complete or not there, and gives back every value that went in."""

import datetime
import hashlib
import io
import os
import random
import resource
import stat
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.protocol.errors import TableError
from purposematch.tables import Table, create_table, open_table, replaced_file, text_column


def write(
    path: Path,
    columns: list[str],
    batches: list[pa.RecordBatch],
    like: Table | None = None,
    then: BaseException | None = None,
) -> None:
    with create_table(path, columns, like=like) as writer:
        for batch in batches:
            writer.write(batch)
        if then is not None:
            raise then


def written(path: Path, columns: dict[str, list[str]], delimiter: str = ",") -> bytes:
    with open_table(None, stdin=io.BytesIO(f"a{delimiter}b\n".encode())) as like:
        write(path, list(columns), [pa.RecordBatch.from_pydict(columns)], like)
    return path.read_bytes()


def test_a_csv_file_quotes_only_what_needs_it(tmp_path: Path) -> None:
    columns = {"a": ["1", "", 'say "hi"', "x,y"], "b;": ["a;b", "ü", "line\nbreak", "\r"]}
    assert written(tmp_path / "out.csv", columns).decode() == (
        'a,"b;"\n1,"a;b"\n,ü\n"say ""hi""","line\nbreak"\n"x,y","\r"\n'
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_the_input_is_taken_over(tmp_path: Path, delimiter: str) -> None:
    content = written(tmp_path / "out.csv", {"a": ["1"], "b": [f"x{delimiter}y"]}, delimiter)
    assert content == f'a{delimiter}b\n1{delimiter}"x{delimiter}y"\n'.encode()
    assert written(tmp_path / "out.tsv", {"a": ["1"], "b": ["2"]}, delimiter) == b"a\tb\n1\t2\n"


def test_an_empty_cell_in_a_single_column_is_still_a_row(tmp_path: Path) -> None:
    assert written(tmp_path / "out.csv", {"a": ["", "x", ""]}) == b'a\n""\nx\n""\n'


def test_lines_are_the_same_whether_or_not_others_of_their_batch_have_quotes(tmp_path: Path) -> None:
    plain = {"a": ["1", "", " x ", "ü"], "b": ["", "", "'", "\ufeff"]}
    lines = written(tmp_path / "plain.csv", plain)
    assert lines.decode() == "a,b\n1,\n,\n x ,'\nü,\ufeff\n"
    quoted = {name: [*cells, '"'] for name, cells in plain.items()}
    assert written(tmp_path / "quoted.csv", quoted) == lines + b'"""",""""\n'


def test_a_batch_without_rows_writes_nothing(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"a": ['"', "x"]})
    write(tmp_path / "out.csv", ["a"], [batch.slice(1, 0), batch.slice(1), batch.slice(2)])
    assert (tmp_path / "out.csv").read_bytes() == b"a\nx\n"


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_finished_table_tells_its_digest(tmp_path: Path, name: str) -> None:
    with create_table(tmp_path / name, ["a", "b"]) as writer:
        for cell in ("x", "a,b"):
            writer.write(pa.RecordBatch.from_pydict({"a": [cell], "b": [""]}))
        digest = writer.finish()
        assert writer.finish() == digest
    assert hashlib.sha256((tmp_path / name).read_bytes()).digest() == digest


def test_a_table_without_rows_has_its_header(tmp_path: Path) -> None:
    for name in ("out.csv", "out.parquet"):
        with create_table(tmp_path / name, ["a", "b"]):
            pass
        with open_table(tmp_path / name) as table:
            assert table.columns == ("a", "b")
            assert not [batch for batch in table.batches() if batch.num_rows]


def test_parquet_columns_keep_their_types_and_metadata(tmp_path: Path) -> None:
    utc = datetime.UTC
    content = pa.table(
        {
            "id": pa.array([1, None, 3], pa.uint16()),
            "when": pa.array([datetime.datetime(2026, 1, 2, tzinfo=utc)] * 3, pa.timestamp("ms", "UTC")),
            "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
            "tags": pa.array([["x"], [], None]),
            "blob": pa.array([b"\0\xff", b"", None]),
        }
    ).replace_schema_metadata({"origin": "crm"})
    pq.write_table(content, tmp_path / "in.parquet")
    with open_table(tmp_path / "in.parquet") as table:
        schema = table.schema.append(pa.field("matched", pa.bool_()))
        with create_table(tmp_path / "out.parquet", schema, like=table) as writer:
            for batch in table.batches():
                matched = pa.array([True] * len(batch))
                writer.write(
                    pa.RecordBatch.from_arrays([*batch.columns, matched], [*table.columns, "matched"])
                )
    result = pq.read_table(tmp_path / "out.parquet")
    assert result.drop_columns(["matched"]).equals(content)
    assert result.schema.metadata[b"origin"] == b"crm"
    assert result["matched"].to_pylist() == [True] * 3


def test_many_batches_make_few_row_groups(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"a": ["x"] * 10_000})
    with create_table(tmp_path / "out.parquet", ["a"]) as writer:
        for _ in range(30):
            writer.write(batch)
    metadata = pq.read_metadata(tmp_path / "out.parquet")
    assert (metadata.num_rows, metadata.num_row_groups) == (300_000, 3)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(TEXT, min_size=width, max_size=width), max_size=8)
    ),
    st.sampled_from(",;\t|"),
    st.integers(0, 3),
)
def test_every_text_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, body: list[list[str]], delimiter: str, start: int
) -> None:
    names = [f"column {number}" for number in range(len(body[0]) if body else 1)]
    batch = pa.RecordBatch.from_arrays(
        [pa.array([row[number] for row in body], pa.string()) for number in range(len(names))], names
    )
    # A slice shares its buffers with the rows before it.
    batch = batch.slice(min(start, len(body)))
    folder = tmp_path_factory.mktemp("round")
    with open_table(None, stdin=io.BytesIO(f"a{delimiter}b\n".encode())) as like:
        for name in ("out.csv", "out.parquet"):
            with create_table(folder / name, names, like=like) as writer:
                writer.write(batch)
            with open_table(folder / name) as table:
                read = [list(row.values()) for part in table.batches() for row in part.to_pylist()]
            assert read == body[start:]


def test_the_file_is_private_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with create_table(path, ["a"]):
        assert path.read_text() == "old"
    assert path.read_text() == "a\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("real.csv")
    with create_table(tmp_path / "link.csv", ["a"]):
        pass
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "a\n"


def test_a_link_that_is_not_to_be_followed_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("mine")
    for target in ("real", "nowhere", "."):
        link = tmp_path / "link"
        link.symlink_to(target)
        with replaced_file(link, follow=False) as (_, file):
            file.write(b"new")
        assert not link.is_symlink()
        assert link.read_text() == "new"
        link.unlink()
    assert (tmp_path / "real").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError, TableError])
def test_nothing_is_left_behind_after_an_error(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    batch = pa.RecordBatch.from_pydict({"a": ["x"] * 200_000})
    with pytest.raises(error) as caught:
        write(tmp_path / name, ["a"], [batch], then=error("mine"))
    assert str(caught.value) == "mine"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 100,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("rows", [3_000, 60_000])
@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
@pytest.mark.usefixtures("small_disk")
def test_nothing_is_left_behind_when_the_disk_is_full(tmp_path: Path, name: str, rows: int) -> None:
    noise = random.Random(1)
    batch = pa.RecordBatch.from_pydict({"a": [f"{noise.getrandbits(512):x}" for _ in range(rows)]})
    with pytest.raises(TableError, match=r"cannot be written: File too large"):
        write(tmp_path / name, ["a"], [batch] * 4)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_behind_when_flushing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(TableError, match=r"out\.csv: cannot be written: Input/output error"):
        write(tmp_path / "out.csv", ["a"], [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out", "out.xlsx", "out.csv.gz"])
def test_an_unknown_suffix_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=r"must end with one of \.csv"), create_table(tmp_path / name, ["a"]):
        pass
    assert not list(tmp_path.iterdir())


def test_targets_that_cannot_be_replaced_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "null.csv").symlink_to(os.devnull)
    for path, text in (
        (tmp_path / "folder.csv", "no plain file"),
        (tmp_path / "null.csv", "no plain file"),
        (tmp_path / "missing" / "out.csv", "No such file or directory"),
    ):
        with pytest.raises(TableError, match=text), create_table(path, ["a"]):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "null.csv"]


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("a\n1\n")
    (tmp_path / "link.csv").hardlink_to(path)
    with open_table(path) as table:
        for target in (path, tmp_path / "link.csv"):
            with pytest.raises(TableError, match="also the input"), create_table(target, ["a"], like=table):
                pass
    assert path.read_text() == "a\n1\n"


def test_lists_are_refused_in_csv_before_anything_is_written(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.list_(pa.string()))])
    with (
        pytest.raises(TableError, match=r'column "b" .* \.parquet'),
        create_table(tmp_path / "out.csv", schema),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_batches_with_other_columns_are_refused(tmp_path: Path) -> None:
    for name in ("out.csv", "out.parquet"):
        for columns in (["b"], ["a", "b"], []):
            batch = pa.RecordBatch.from_pydict({column: ["1"] for column in columns})
            with pytest.raises(TableError, match="columns of a batch"):
                write(tmp_path / name, ["a"], [batch])


UTC = datetime.UTC


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        (["a", None, ""], pa.string(), ["a", "", ""]),
        (["a", None], pa.large_string(), ["a", ""]),
        (["a", None, "a"], pa.dictionary(pa.int8(), pa.string()), ["a", "", "a"]),
        ([4915112345678, -1, None], pa.int64(), ["4915112345678", "-1", ""]),
        (
            [4915112345678.0, 0.5, None, float("nan"), -3.0],
            pa.float64(),
            ["4915112345678", "0.5", "", "", "-3"],
        ),
        ([True, None, False], pa.bool_(), ["true", "", "false"]),
        ([Decimal(4915112345678)], pa.decimal128(20, 0), ["4915112345678"]),
        ([datetime.date(2026, 1, 2), None], pa.date32(), ["2026-01-02", ""]),
        ([datetime.datetime(2026, 1, 2, 3, tzinfo=UTC)], pa.timestamp("s", "UTC"), ["2026-01-02T03:00:00Z"]),
        (
            [datetime.datetime(2026, 1, 2, 3, tzinfo=UTC)],
            pa.timestamp("ms", "+02:00"),
            ["2026-01-02T05:00:00.000+0200"],
        ),
        ([datetime.datetime(2026, 1, 2, 3)], pa.timestamp("s"), ["2026-01-02T03:00:00"]),
        ([b"ab", None], pa.binary(), ["ab", ""]),
        ([None, None], pa.null(), ["", ""]),
        ([], pa.float64(), []),
    ],
)
def test_any_column_can_be_read_as_text(values: list[Any], type_: pa.DataType, expected: list[str]) -> None:
    column = text_column(pa.RecordBatch.from_arrays([pa.array(values, type_)], ["a"]), "a")
    assert column.type == pa.string()
    assert column.null_count == 0
    assert column.to_pylist() == expected


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([["a"]]), "list"),
        (pa.array([{"a": 1}]), "struct"),
        (pa.array([b"\xff"]), "UTF-8"),
        (pa.array([b"\xff" * 32], pa.binary(32)), "UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(column: Any, text: str) -> None:
    batch = pa.RecordBatch.from_arrays([column], ["a"])
    with pytest.raises(TableError, match=text):
        text_column(batch, "a")
    with pytest.raises(TableError, match='column "b" is missing'):
        text_column(batch, "b")
