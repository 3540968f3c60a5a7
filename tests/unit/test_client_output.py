"""The output: the list as it was, and two columns."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.client.columns import Column
from purposematch.client.customer_list import CustomerList
from purposematch.client.output import create_output, write_rows
from purposematch.protocol.errors import InputError, TableError
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.tables import create_table, open_table

EMAIL = Column("email", Kind.EMAIL)


def write_output(source: Path, target: Path, matched: list[bool]) -> None:
    with open_table(source) as table:
        customers = CustomerList.read(table, (EMAIL,), Profile.PLAIN)
        with create_output(target, table) as writer:
            write_rows(writer, table, customers, np.array(matched, np.bool_), lambda consumed: None)


def test_csv_gets_true_false_or_the_reason(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("name;email\nAnn;ann@example.com\nB;b@example.com\nC;\nD;no\n")
    write_output(tmp_path / "list.csv", tmp_path / "out.csv", [True, False, False, False])
    assert (tmp_path / "out.csv").read_text() == (
        "name;email;matched;reason\nAnn;ann@example.com;true;\nB;b@example.com;false;\n"
        "C;;;empty\nD;no;;email_syntax\n"
    )
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o600


def test_parquet_keeps_types_and_gets_null_where_unusable(tmp_path: Path) -> None:
    source = pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int16()),
            "email": ["ann@example.com", None, "no"],
            "tags": [["a"], [], None],
        }
    )
    pq.write_table(source, tmp_path / "list.parquet")
    write_output(tmp_path / "list.parquet", tmp_path / "out.parquet", [True, False, False])
    result = pq.read_table(tmp_path / "out.parquet")
    assert result.select(source.column_names) == source
    assert result["matched"].type == pa.bool_()
    assert result["matched"].to_pylist() == [True, None, None]
    assert result["reason"].to_pylist() == ["", "empty", "email_syntax"]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)


@settings(max_examples=50)
@given(st.lists(st.tuples(cells, cells, st.booleans()), min_size=1, max_size=12))
def test_every_cell_comes_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("output")
    names = ["note", "email"]
    arrays = [pa.array([row[i] for row in rows], pa.string()) for i in range(2)]
    with create_table(folder / "list.csv", names) as writer:
        writer.write(pa.record_batch(arrays, names=names))
    write_output(folder / "list.csv", folder / "out.parquet", [row[2] for row in rows])
    with open_table(folder / "list.csv") as table:
        expected = pa.Table.from_batches(table.batches(), table.schema)
    result = pq.read_table(folder / "out.parquet")
    assert result.select(names) == expected
    for row, matched, reason in zip(
        rows, result["matched"].to_pylist(), result["reason"].to_pylist(), strict=True
    ):
        assert (matched is None) == bool(reason)
        assert matched in (None, row[2])


def test_rows_of_several_batches_stay_in_order(tmp_path: Path) -> None:
    count = 150_000
    emails = pa.array([f"p{i}@example.com" if i % 3 else "" for i in range(count)])
    with create_table(tmp_path / "list.csv", ["email"]) as writer:
        writer.write(pa.record_batch([emails], names=["email"]))
    write_output(tmp_path / "list.csv", tmp_path / "out.csv", [i % 2 == 0 for i in range(count)])
    result = pa_csv.read_csv(
        tmp_path / "out.csv",
        convert_options=pa_csv.ConvertOptions(column_types={"matched": pa.string(), "email": pa.string()}),
    )
    assert result["email"].to_pylist() == emails.to_pylist()
    assert result["matched"].to_pylist() == [
        "" if not i % 3 else ("true" if i % 2 == 0 else "false") for i in range(count)
    ]


@pytest.mark.parametrize("name", ["matched", "reason"])
def test_a_list_with_a_column_of_the_output_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.csv").write_text(f"email,{name}\nann@example.com,1\n")
    with pytest.raises(InputError, match=f'"{name}"'):
        write_output(tmp_path / "list.csv", tmp_path / "out.csv", [True])
    assert not (tmp_path / "out.csv").exists()


def test_the_list_itself_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("email\nann@example.com\n")
    with pytest.raises(TableError, match="also the input"):
        write_output(tmp_path / "list.csv", tmp_path / "list.csv", [True])
    assert (tmp_path / "list.csv").read_text() == "email\nann@example.com\n"


def test_a_list_that_changed_in_between_leaves_no_output(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("email\nann@example.com\n")
    with open_table(path) as table:
        customers = CustomerList.read(table, (EMAIL,), Profile.PLAIN)
        path.write_text("email\nann@example.com\nbob@example.com\n")
        with (
            pytest.raises(TableError, match="changed"),
            create_output(tmp_path / "out.csv", table) as writer,
        ):
            write_rows(writer, table, customers, np.array([True]), lambda consumed: None)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["list.csv"]
