"""The command line `purposematch`: documents, reports, one clear line for everything wrong."""

import io
import json
import sys
from pathlib import Path

import pytest
from fake_platform import FakePlatform, enrolled

from purposematch.client import cli
from purposematch.console import run
from purposematch.protocol.group import SodiumGroup

EMAILS = [f"person{i}@example.com" for i in range(20)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.fixture
def list_file(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text("id,email\n" + "".join(f"{i},{email}\n" for i, email in enumerate(EMAILS)))
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run(cli.app, [str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def match_arguments(platform: FakePlatform, list_file: Path, *more: object) -> list[object]:
    folder = list_file.parent
    return [
        *("match", list_file, "--platform", platform.address or "127.0.0.1:1"),
        *("--credentials", platform.write_credentials(folder / "credentials")),
        *("--output", folder / "out.csv", *more),
    ]


def test_match_prints_one_document_on_stdout_and_the_sheet_on_stderr(
    capsys: pytest.CaptureFixture[str], list_file: Path
) -> None:
    with FakePlatform(enrolled(EMAILS[:5])).serving() as platform:
        code, out, err = call(capsys, *match_arguments(platform, list_file, "--yes", "--json"))
    assert code == 0
    assert out.count("\n") == 1
    assert list(json.loads(out)) == [
        *("session", "rows", "usable", "invalid", "duplicates", "matched_rows", "matched_identifiers"),
        *("match_rate", "disclosure", "engine", "audience", "status"),
    ]
    assert json.loads(out)["matched_rows"] == 5
    assert "Not protected" in err
    assert "learns" in err


def test_match_reports_to_people(capsys: pytest.CaptureFixture[str], list_file: Path) -> None:
    with list_file.open("a") as file:
        file.write("20,nonsense\n")
    with FakePlatform(enrolled(EMAILS[:5])).serving() as platform:
        code, out, _ = call(capsys, *match_arguments(platform, list_file, "--yes"))
    assert code == 0
    assert "5 (25.0% of the usable)" in out
    assert "email_syntax" in out


def test_the_number_of_threads_is_chosen_on_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, list_file: Path
) -> None:
    made: list[int | None] = []

    def group(threads: int | None) -> SodiumGroup:
        made.append(threads)
        return SodiumGroup(threads)

    monkeypatch.setattr(cli, "announced_group", group)
    with FakePlatform(enrolled(EMAILS[:5])).serving() as platform:
        arguments = match_arguments(platform, list_file, "--yes", "--json")
        assert call(capsys, *arguments)[0] == 0
        code, out, _ = call(capsys, *arguments, "--threads", "1")
    assert code == 0
    assert json.loads(out)["matched_rows"] == 5
    assert made == [None, 1]
    code, _, err = call(capsys, *arguments, "--threads", "0")
    assert code == 2
    assert "--threads" in err


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_the_question_comes_after_the_sheet_and_must_be_answered_with_yes(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    list_file: Path,
    answer: str,
    code: int,
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    with FakePlatform(enrolled(EMAILS[:5])).serving() as platform:
        got, out, err = call(capsys, *match_arguments(platform, list_file, "--json"))
    assert got == code
    assert err.index("Not protected") < err.index("Go on?")
    assert bool(platform.calls) == (code == 0)
    assert (list_file.parent / "out.csv").exists() == (code == 0)
    assert ("session" in out) == (code == 0)


def test_nobody_to_ask_is_wrong_usage(capsys: pytest.CaptureFixture[str], list_file: Path) -> None:
    platform = FakePlatform(enrolled(EMAILS[:5]))
    code, out, err = call(capsys, *match_arguments(platform, list_file))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "--yes" in err


def test_a_list_comes_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, list_file: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(list_file.read_bytes())))
    with FakePlatform(enrolled(EMAILS[:5])).serving() as platform:
        arguments = match_arguments(platform, list_file, "--yes", "--json")
        arguments[1] = "-"
        code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert json.loads(out)["matched_rows"] == 5
    assert (list_file.parent / "out.csv").read_text().count("true") == 5


def test_prehashed_columns_are_named_by_their_own_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    inputs = enrolled(EMAILS)
    path = tmp_path / "list.csv"
    rows = [f"{EMAILS[i]},{inputs[i + 5, 1:].tobytes().hex().upper()}\n" for i in range(5)]
    path.write_text("a,b\n" + "".join(rows))
    with FakePlatform(enrolled(EMAILS[:7])).serving() as platform:
        arguments = match_arguments(platform, path, "--yes", "--json")
        code, out, _ = call(capsys, *arguments, "--email-column", "a", "--email-sha256-column", "b")
        assert code == 0
        assert json.loads(out)["matched_identifiers"] == 7
        code, out, _ = call(capsys, *arguments, "--email-column", "b", "--prehashed")
        assert code == 0
        assert json.loads(out)["matched_identifiers"] == 2


@pytest.mark.parametrize(
    ("content", "options", "text"),
    [
        (b"", [], "empty"),
        (b"id,name\n1,2\n", [], '"id", "name"; name the columns that hold identifiers with --email-column, '),
        (b"email\nann@example.com\n", ["--email-column", "mail"], '"mail" missing'),
        (b"email\nann@example.com\n", ["--region", "XX"], "two-letter"),
        ("email\nann@example.com\n".encode("utf-16"), [], "UTF-16"),
        (b"email,id\nann@example.com,\0\n", [], "NUL"),
        (b"email,id\nann@example.com\n", [], "row 1 has 1 cell"),
        (b'email,id\n"ann@example.com,1\n', [], "quote"),
        (b"email,matched\nann@example.com,1\n", [], '"matched"'),
        (b"email\nann@example.com\n", [], "at least 3"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, options: list[str], text: str
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    platform = FakePlatform(enrolled(EMAILS))
    code, out, err = call(capsys, *match_arguments(platform, path, "--yes", "--json", *options))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert text in err
    assert "ann@" not in err
    assert {entry.name for entry in tmp_path.iterdir()} == {"list.csv", "credentials"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"--output": "nowhere/out.csv"}, "cannot be written"),
        ({"--output": "list.csv"}, "also the input"),
        ({"--output": "out.xls"}, "must end with"),
        ({"--output": "-"}, "must end with"),
        ({"--credentials": "nowhere"}, "no such credentials folder"),
        ({"--platform": "nowhere"}, "HOST:PORT"),
        ({"--platform": "127.0.0.1:1"}, "no connection to 127.0.0.1:1"),
    ],
)
def test_a_wrong_option_is_one_clear_line(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    list_file: Path,
    change: dict[str, str],
    text: str,
) -> None:
    monkeypatch.chdir(list_file.parent)
    arguments = match_arguments(FakePlatform(enrolled(EMAILS)), list_file, "--yes", "--json")
    for option, value in change.items():
        arguments[arguments.index(option) + 1] = value
    before = list_file.read_bytes()
    code, out, err = call(capfd, *arguments)
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert text in last
    # Only a connection is tried after the sheet.
    assert ("Not protected" in err) == ("no connection" in text)
    assert list_file.read_bytes() == before
    assert not (list_file.parent / "out.csv").exists()


def test_check_counts_and_advises_in_a_document(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    digest = enrolled(EMAILS)[0, 1:].tobytes().hex()
    path.write_text(f"email,phone\nann@example.com,\nANN@example.com,0151\n{digest},\n,030 1\n,\n")
    code, out, _ = call(capsys, "check", path, "--json")
    document = json.loads(out)
    advice = document.pop("advice")
    assert code == 0
    assert document == {
        "rows": 5,
        "usable": 2,
        "invalid": {"empty": 1, "looks_prehashed": 1, "phone_region_missing": 1},
        "duplicates": 1,
        "distinct_identifiers": 1,
        "minimum": 1000,
        "reaches_minimum": False,
        "profile": "plain-v1",
        "columns": [
            {
                "name": "email",
                "kind": "email",
                "hashed": False,
                "refused": {"empty": 2, "looks_prehashed": 1},
            },
            {
                "name": "phone",
                "kind": "phone",
                "hashed": False,
                "refused": {"empty": 3, "phone_region_missing": 2},
            },
        ],
    }
    assert set(advice) == {"looks_prehashed", "phone_region_missing"}
    assert all(text.endswith(".") for text in advice.values())


def test_check_reports_to_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    digest = enrolled(EMAILS)[0, 1:].tobytes().hex()
    path.write_text(f"email\nann@example.com\n{digest}\n")
    code, out, err = call(capsys, "check", path, "--profile", "uid2-v1")
    assert (code, err) == (0, "")
    assert "Under profile uid2-v1" in out
    assert "looks_prehashed" in out
    assert "Declare the column as pre-hashed" in out
    assert "ann@" not in out
    assert digest not in out


def test_check_reads_prehashed_lists(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    digests = [row[1:].tobytes().hex() for row in enrolled(EMAILS)]
    path.write_text("email\n" + "\n".join([*digests, digests[0][:32], "ann@example.com"]) + "\n")
    code, out, _ = call(capsys, "check", path, "--prehashed", "--json")
    assert code == 0
    assert json.loads(out)["invalid"] == {"hash_md5": 1, "hash_syntax": 1}


def test_check_of_a_long_list_reaches_the_minimum(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("email\n" + "".join(f"p{i}@example.com\n" for i in range(1_000)))
    _, out, _ = call(capsys, "check", path, "--json")
    assert json.loads(out)["reaches_minimum"] is True


def test_the_version_names_the_back_end_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURPOSEMATCH_GROUP", "sodium")
    code, out, _ = call(capsys, "--version")
    assert code == 0
    assert out.startswith("purposematch ")
    assert out.count("\n") == 1
    _, out, _ = call(capsys, "--version", "--verbose")
    assert out.splitlines()[1:] == [f"group: {SodiumGroup().description}"]


@pytest.mark.parametrize("command", ["match", "check"])
def test_every_command_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert "Example:" in out
    assert f"$ purposematch {command}" in out


@pytest.mark.parametrize(
    "arguments", [["match"], ["check"], ["nothing"], ["check", "x", "--profile", "none"], ["--verbose"]]
)
def test_wrong_usage_has_its_own_code(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert err.count("\n") == 1
