"""A bad file is refused with one clear line that never shows what is in its cells."""

import io
import os
import re
import resource
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from purposematch.protocol.errors import TableError
from purposematch.tables import open_table, require_columns
from purposematch.tables.delimited import MAX_LINE_BYTES


def refusal(path: Path, columns: list[str] | None = None) -> str:
    """The text with which `path` is refused, the way a command reads it."""
    with pytest.raises(TableError) as caught, open_table(path) as table:
        for _ in table.batches(columns):
            pass
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    assert text.startswith(str(path))
    # Nothing of the error's history may show a row either.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "list.csv"


def test_a_missing_file_is_refused(file: Path) -> None:
    assert "there is no such file" in refusal(file)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_an_empty_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "the file is empty" in refusal(file)


@pytest.mark.parametrize("content", [b"   \n1\n", b",,\n1,2,3\n", b'""\n1\n'])
def test_a_header_without_names_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "no column has a name" in refusal(file)


def test_a_missing_column_is_named_and_the_present_ones_are_listed(file: Path) -> None:
    file.write_bytes(b"mail,tel\n1,2\n")
    text = refusal(file, ["email", "tel"])
    assert 'column "email" missing' in text
    assert '"mail", "tel"' in text
    with open_table(file) as table:
        require_columns(table, ["tel", "mail"])


def test_a_long_list_of_columns_is_cut(file: Path) -> None:
    file.write_bytes(b",".join(b"column %d" % number for number in range(3000)) + b"\n")
    assert "and 2980 more" in refusal(file, ["email"])


@pytest.mark.parametrize(
    "first_line", [b"planted@example.com,x", b"x,+49 151 1234", b"x,planted@example.com,x", b"f" * 65]
)
def test_a_file_without_a_header_is_refused_without_showing_its_first_row(
    file: Path, first_line: bytes
) -> None:
    file.write_bytes(first_line + b"\n")
    text = refusal(file, ["email"])
    assert "looks like data" in text
    assert "planted" not in text
    assert "1234" not in text


def test_a_name_that_a_terminal_would_obey_is_not_repeated(file: Path) -> None:
    file.write_bytes(b"\x1b[2Ja,b\n1,2\n")
    assert refusal(file, ["email"]).endswith('the file has "?[2Ja", "b"')


def test_columns_of_the_same_name_are_refused(tmp_path: Path, file: Path) -> None:
    file.write_bytes(b"email,phone,email\n1,2,3\n")
    assert 'several columns have the name "email"' in refusal(file)
    path = tmp_path / "list.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["email", "email"]), path)
    assert 'several columns have the name "email"' in refusal(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_refused_by_name(file: Path, encoding: str) -> None:
    file.write_bytes("email;phone\nänn@example.com;1\n".encode(encoding))
    assert "UTF-16" in refusal(file) or encoding == "utf-32"


@pytest.mark.parametrize("before", [0, 10, 2_000_000])
def test_a_nul_byte_anywhere_is_refused(file: Path, before: int) -> None:
    file.write_bytes(b"email,name\n" + b"1,abcdefg\n" * (before // 10) + b"2,ab\0c\n" + b"1,x\n" * 9)
    text = refusal(file, ["email"])
    assert "NUL byte" in text
    assert before == 0 or before == 10 or f"line {before // 10 + 2} " in text


def test_a_byte_that_is_not_utf_8_is_refused_with_its_line(file: Path) -> None:
    for position in (0, 1, 150_000, 299_999):
        body = [b"1,abcdefg"] * 300_000
        body[position] = b"2,M\xfcller"
        file.write_bytes(b"\n".join([b"email,name", *body]))
        # The column with the bad byte is not even asked for.
        assert f"line {position + 2} is not UTF-8" in refusal(file, ["email"])


def test_a_character_cut_at_the_end_of_the_file_is_refused(file: Path) -> None:
    file.write_bytes("email\nänn\nü".encode()[:-1])
    assert "line 3 is not UTF-8" in refusal(file)


def test_a_header_that_is_not_utf_8_is_refused(file: Path) -> None:
    file.write_bytes(b"email,Stra\xdfe\n1,2\n")
    assert "line 1 is not UTF-8" in refusal(file)


@pytest.mark.parametrize("body", [b"3\n", b"3,4,5\n", b"3"])
def test_a_row_with_too_few_or_too_many_cells_is_refused_with_its_number(file: Path, body: bytes) -> None:
    file.write_bytes(b"a,b\n" + b"1,2\n" * 600_000 + b"\n" + body)
    text = refusal(file, ["a"])
    assert "row 600001 has" in text
    assert "where the header has 2" in text


def test_a_file_cut_inside_a_quoted_cell_is_refused(file: Path) -> None:
    whole = b'a,b\n1,"x"\n2,"y\nplanted"\n3,"z"\n'
    for end in range(5, len(whole)):
        file.write_bytes(whole[:end])
        head = whole[4:end]
        if head.count(b'"') % 2 or not re.fullmatch(rb'(\d,("[^"]*")?\n)*(\d,("[^"]*")?)?', head):
            text = refusal(file, ["a"])
            assert "cut" in text
            assert "planted" not in text
        else:
            with open_table(file) as table:
                assert sum(len(batch) for batch in table.batches(["a"])) == head.count(b",")


def test_a_quote_that_swallows_the_rest_of_the_file_is_refused(file: Path) -> None:
    for rows in (2, 1_000_000):
        file.write_bytes(b'a,b\n1,"2\n' + b"3,planted\n" * rows)
        assert "never closed" in refusal(file, ["a"])
    file.write_bytes(b'a,"b\n1,2\n')
    assert "header" in refusal(file)


@pytest.mark.parametrize(
    ("start", "place"),
    [
        (b"", "first line"),
        (b"email\n", "row 1 "),
        (b"email\n1\n2\n", "row 3 "),
        (b'email\n1\n2\n"', "row 3 "),
    ],
)
def test_a_row_that_does_not_end_is_refused_with_its_number(file: Path, start: bytes, place: str) -> None:
    file.write_bytes(start + b"x" * (3 * MAX_LINE_BYTES) + b"\n1\n")
    text = refusal(file)
    assert f"longer than {MAX_LINE_BYTES:,} bytes" in text
    assert place in text


@pytest.mark.parametrize("start", [b"", b"email\n1\n"])
def test_a_line_of_a_gigabyte_is_not_read_into_memory(file: Path, start: bytes) -> None:
    with file.open("wb") as sparse:
        sparse.write(start + b"x" * (4 * MAX_LINE_BYTES))
        # The rest is a hole. Whether its NUL bytes or the length are reported depends on who comes first.
        sparse.truncate(1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert re.search("longer than|NUL byte", refusal(file))
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown_bytes < 30_000_000


@pytest.mark.parametrize(
    ("magic", "word"),
    [(b"PAR1", "parquet"), (b"PK\x03\x04", "Excel"), (b"\x1f\x8b\x08", "gzip"), (b"(\xb5/\xfd", "zstd")],
)
def test_other_formats_are_refused_by_name(file: Path, magic: bytes, word: str) -> None:
    file.write_bytes(magic + b"\0\1\2" * 9)
    assert word in refusal(file)


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(
        pa.table({"email": [f"user{number}" for number in range(50_000)]}), path, write_page_checksum=True
    )
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for content in (
        b"",
        b"PAR1",
        whole[:-1],
        whole[: len(whole) // 2],
        whole[1000:],
        bytes(flipped),
        b"a,b\n",
    ):
        path.write_bytes(content)
        assert "damaged" in refusal(path)


def test_parquet_strings_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    offsets, data = pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")
    assert offsets is not None
    column = pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])
    path = tmp_path / "list.parquet"
    pq.write_table(pa.Table.from_arrays([column], ["email"]), path)
    assert "damaged" in refusal(path)


def test_parquet_names_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"email": ["a"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"email", b"\xffmail"))
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_file_that_changes_after_opening_is_refused(file: Path, when: str) -> None:
    file.write_bytes(b"a\n1\n")
    with open_table(file) as table:
        batches = table.batches()
        if when == "during":
            next(batches)
        other = file.with_name("other")
        other.write_bytes(b"a\n2\n")
        os.replace(other, file)
        with pytest.raises(TableError, match="has changed since it was opened"):
            list(batches)
        with pytest.raises(TableError, match="has changed since it was opened"):
            table.sha256  # noqa: B018


def test_a_file_that_vanishes_after_opening_is_refused(file: Path) -> None:
    file.write_bytes(b"a\n1\n")
    with open_table(file) as table:
        file.unlink()
        with pytest.raises(TableError, match="cannot be read"):
            list(table.batches())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('a,"\n\r;\ufeffü', max_size=40).map(str.encode))
@example(b'"')
@example(b'a\n"')
@example(b"\xef\xbb")
@example(b"a,b\n\x1e")
@example(b"PAR1PAR1")
@example(b"\xef\xbb\xbf\xef\xbb\xbf")
def test_arbitrary_bytes_give_a_table_or_a_table_error(content: bytes) -> None:
    with suppress(TableError), open_table(None, stdin=io.BytesIO(content)) as table:
        assert sum(len(batch) for batch in table.batches()) <= len(content)
