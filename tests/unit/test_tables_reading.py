"""CSV, Parquet and standard input are read alike, batch by batch, as often as one likes."""

import csv
import hashlib
import io
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.protocol.errors import TableError
from purposematch.tables import MAX_BATCH_ROWS, Table, open_table
from purposematch.tables.delimited import MAX_LINE_BYTES


def rows(table: Table, columns: list[str] | None = None) -> list[list[str]]:
    return [list(row.values()) for batch in table.batches(columns) for row in batch.to_pylist()]


def read(folder: Path, content: bytes, name: str = "list.csv") -> list[list[str]]:
    path = folder / name
    path.write_bytes(content)
    with open_table(path) as table:
        return [list(table.columns), *rows(table)]


def test_a_csv_file_is_read_as_text(tmp_path: Path) -> None:
    content = b"id,email,phone\n007,ann@example.com,+4915100\n2,,1e5\n"
    assert read(tmp_path, content) == [
        ["id", "email", "phone"],
        ["007", "ann@example.com", "+4915100"],
        ["2", "", "1e5"],
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_the_delimiter_is_found_in_the_header(tmp_path: Path, delimiter: str, ending: str) -> None:
    lines = [delimiter.join(cells) for cells in (["a", "b", "c"], ["1", "x y", ""])]
    assert read(tmp_path, ending.join(lines).encode()) == [["a", "b", "c"], ["1", "x y", ""]]


def test_a_delimiter_in_quotes_is_not_the_delimiter(tmp_path: Path) -> None:
    assert read(tmp_path, b'"Name, first, last";email\n"Lee, Ann";a\n') == [
        ["Name, first, last", "email"],
        ["Lee, Ann", "a"],
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffemail;ö\nx;ü\n".encode()) == [["email", "ö"], ["x", "ü"]]


def test_quoted_cells_may_hold_line_breaks_quotes_and_delimiters(tmp_path: Path) -> None:
    assert read(tmp_path, b'a,b\n"x\r\ny","say ""hi"", Bob"\n') == [["a", "b"], ["x\r\ny", 'say "hi", Bob']]


def test_empty_lines_are_no_rows_but_quoted_empty_cells_are(tmp_path: Path) -> None:
    assert read(tmp_path, b'\n\na\n""\n\nx\n\n') == [["a"], [""], ["x"]]


def test_a_header_without_rows_is_an_empty_table(tmp_path: Path) -> None:
    assert read(tmp_path, b"email,phone") == [["email", "phone"]]


def test_a_row_that_looks_like_the_end_mark_is_kept(tmp_path: Path) -> None:
    assert read(tmp_path, b"a,b\n\x1e,\x1e\n\x1e,\x1e") == [["a", "b"], ["\x1e", "\x1e"], ["\x1e", "\x1e"]]


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    for name in ("list.csv", "list.parquet"):
        path = tmp_path / name
        if name.endswith("csv"):
            path.write_bytes(b"a,b,c.d\n1,2,3\n")
        else:
            pq.write_table(pa.table({"a": ["1"], "b": ["2"], "c.d": ["3"]}), path)
        with open_table(path) as table:
            assert rows(table, ["c.d", "a"]) == [["3", "1"]]


def test_a_table_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"a\n" + b"".join(b"%d\n" % number for number in range(300_000)))
    with open_table(path) as table:
        batches = list(table.batches())
        assert max(len(batch) for batch in batches) <= MAX_BATCH_ROWS
        first = pa.Table.from_batches(batches)
        assert first["a"].to_pylist() == [str(number) for number in range(300_000)]
        assert pa.Table.from_batches(table.batches()).equals(first)
        # A pass that is given up halfway leaves nothing that disturbs the next one.
        next(table.batches())
        assert pa.Table.from_batches(table.batches()).equals(first)


def test_parquet_batches_are_small_and_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "LIST.PQ"
    content = pa.table({"id": pa.array(range(200_000), pa.int32()), "email": ["x"] * 200_000})
    pq.write_table(content, path)
    with open_table(path) as table:
        assert (table.format, table.delimiter, table.columns) == ("parquet", None, ("id", "email"))
        batches = list(table.batches())
        assert max(len(batch) for batch in batches) <= MAX_BATCH_ROWS
        assert pa.Table.from_batches(batches).equals(content)


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_progress_adds_up_to_the_size_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_bytes(b"a\n" + b"x" * 99 * 1 + b"\n" + (b"y" * 99 + b"\n") * 40_000)
    else:
        pq.write_table(pa.table({"a": [str(number) for number in range(200_000)]}), path)
    consumed: list[int] = []
    with open_table(path) as table:
        for _ in table.batches(advance=consumed.append):
            pass
        assert sum(consumed) == table.size_bytes == path.stat().st_size
    assert len(consumed) > 2
    assert min(consumed) >= 0


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"a\n1\n")
    with open_table(path) as table:
        assert table.sha256 == hashlib.sha256(b"a\n1\n").hexdigest()


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
@pytest.mark.parametrize("whole", [True, False])
def test_the_digest_is_the_same_after_a_pass(tmp_path: Path, name: str, whole: bool) -> None:
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_bytes(
            b"\xef\xbb\xbfa\r\n" + b"".join(b"%d\r\n" % number for number in range(300_000)) + b"1"
        )
    else:
        pq.write_table(pa.table({"a": range(300_000)}), path)
    with open_table(path) as table:
        batches = table.batches()
        next(batches)
        assert not whole or sum(map(len, batches))
        batches.close()
        assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert sum(map(len, table.batches())) >= 300_000
        assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("path", [None, Path("-")])
def test_standard_input_is_spooled_to_a_private_file_that_vanishes(path: Path | None) -> None:
    with open_table(path, stdin=io.BytesIO(b"a;b\n1;2\n")) as table:
        assert (table.name, table.format, table.delimiter) == ("standard input", "csv", ";")
        assert rows(table) == rows(table) == [["1", "2"]]
        spool = table.path
        assert stat.S_IMODE(spool.stat().st_mode) == 0o600
        assert stat.S_IMODE(spool.parent.stat().st_mode) == 0o700
    assert not spool.parent.exists()


def test_the_spooled_copy_vanishes_after_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(TableError, match="standard input: the file is empty"),
        open_table(None, stdin=io.BytesIO()),
    ):
        pass

    def interrupted() -> None:
        with open_table(None, stdin=io.BytesIO(b"a\n")):
            assert list(tmp_path.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_parquet_on_standard_input_is_recognised() -> None:
    content = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), content)
    content.seek(0)
    with open_table(None, stdin=content) as table:
        assert table.format == "parquet"
        assert [batch.to_pydict() for batch in table.batches()] == [{"a": [1, 2]}]


def test_a_named_pipe_is_read_like_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"a,b\n1,2\n",))
    writer.start()
    with open_table(path) as table:
        assert rows(table) == rows(table) == [["1", "2"]]
    writer.join()


def test_a_file_with_another_suffix_is_known_by_its_content(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["1"]}), tmp_path / "list.data")
    with open_table(tmp_path / "list.data") as table:
        assert table.format == "parquet"
    assert read(tmp_path, b"a\n1\n", "list") == [["a"], ["1"]]


def test_quotes_inside_cells_that_are_not_quoted_are_text(tmp_path: Path) -> None:
    body = [['12" pipe', "x"], ['two "quotes"', "a\nb"], ["plain", 'q"']] * 40_000
    quoted = "".join(f'{a},"{b}"\n' if "\n" in b else f"{a},{b}\n" for a, b in body)
    assert read(tmp_path, f"a,b\n{quoted}".encode()) == [["a", "b"], *body]


def test_no_thread_reads_on_when_a_pass_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 5_000_000)
    program = (
        "import sys; from pathlib import Path; from purposematch.tables import open_table\n"
        "with open_table(Path(sys.argv[1])) as table:\n"
        "    batches = table.batches()\n"
        "    print(len(next(batches)))\n"
        "    sys.exit(7)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{MAX_BATCH_ROWS}\n", "")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    line = b"someone.with.a.name@example.com,+4915112345678,DE\n"
    with path.open("wb") as file:
        file.write(b"email,phone,country\n")
        for _ in range(100):
            file.write(line * (1_000_000 // len(line)))
    with open_table(path) as table:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert sum(len(batch) for batch in table.batches()) == 100 * (1_000_000 // len(line))
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown_bytes < 60_000_000


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    body=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=6)
    ),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_what_another_csv_writer_wrote_is_read_back(
    body: list[list[str]], delimiter: str, quoting: int, ending: str
) -> None:
    header = [f"column {number}" for number in range(len(body[0]) if body else 2)]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=ending).writerows([header, *body])
    with open_table(None, stdin=io.BytesIO(text.getvalue().encode())) as table:
        assert [list(table.columns), *rows(table)] == [header, *body]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, MAX_LINE_BYTES // 3), min_size=1, max_size=12), st.data())
def test_rows_of_any_permitted_length_survive_the_block_boundaries(
    lengths: list[int], data: st.DataObject
) -> None:
    filler = data.draw(st.sampled_from(["x", "ü", "€", "😀"]))
    body = [filler * max(1, length // len(filler.encode())) for length in lengths]
    content = "\n".join(["a", *body]).encode()
    with open_table(None, stdin=io.BytesIO(content)) as table:
        assert [row[0] for row in rows(table)] == body
