"""Files, folders and addresses that cannot be used: one line on stderr, exit 1 or 2, nothing half-done."""

import os
import shutil
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from platforms import (
    ASSERTION_COLUMNS,
    Done,
    LivePlatform,
    advertiser,
    assertion,
    customers,
    grants,
    operator,
    program,
    read_csv,
    write_csv,
)

HEADER = ",".join(ASSERTION_COLUMNS)
LIST_ROWS = [f"user{i}@example.com,{i}" for i in range(1_000)]
ACCOUNT_ROWS = [",".join(row.values()) for row in grants(50, first=5_000)]


def _text(header: str, rows: list[str]) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def _long_line(path: Path, header: str) -> None:
    """A row of 1 GB that takes no room on the disk, in a file that can be read as text as far as it goes."""
    path.write_bytes(f"{header}\n".encode() + b"a" * (3 << 20))


def _huge_hole(path: Path, header: str) -> None:
    path.write_bytes(f"{header}\n".encode())
    os.truncate(path, 1 << 30)


def _damaged_parquet(path: Path, header: str) -> None:
    names = header.split(",")
    pq.write_table(pa.table({name: ["x"] * 1_000 for name in names}), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = os.urandom(64)
    path.write_bytes(content[: len(content) - 5])


Make = Callable[[Path, str, list[str]], None]
BAD_FILES: dict[str, tuple[str, Make]] = {
    "empty": ("csv", lambda p, h, r: p.write_bytes(b"") and None),
    "white space only": ("csv", lambda p, h, r: p.write_bytes(b"\n\r\n\n") and None),
    "a BOM only": ("csv", lambda p, h, r: p.write_bytes(b"\xef\xbb\xbf") and None),
    "a missing column": ("csv", lambda p, h, r: p.write_bytes(_text("colour,size", ["red,1"])) and None),
    "a column twice": ("csv", lambda p, h, r: p.write_bytes(_text(f"{h},{h.split(',')[0]}", [])) and None),
    "UTF-16 LE with BOM": (
        "csv",
        lambda p, h, r: p.write_text("\ufeff" + _text(h, r).decode(), "utf-16-le") and None,
    ),
    "UTF-16 BE with BOM": (
        "csv",
        lambda p, h, r: p.write_text("\ufeff" + _text(h, r).decode(), "utf-16-be") and None,
    ),
    "UTF-16 LE": ("csv", lambda p, h, r: p.write_text(_text(h, r).decode(), "utf-16-le") and None),
    "UTF-16 BE": ("csv", lambda p, h, r: p.write_text(_text(h, r).decode(), "utf-16-be") and None),
    "UTF-32": ("csv", lambda p, h, r: p.write_text(_text(h, r).decode(), "utf-32") and None),
    "Latin-1": (
        "csv",
        lambda p, h, r: p.write_bytes(_text(h, r).replace(b"example", b"ex\xe4mple")) and None,
    ),
    "a long line": ("csv", lambda p, h, r: _long_line(p, h)),
    "a hole of 1 GB": ("csv", lambda p, h, r: _huge_hole(p, h)),
    "a long first line": ("csv", lambda p, h, r: p.write_bytes(b"x" * (2 << 20)) and None),
    "a NUL byte": (
        "csv",
        lambda p, h, r: p.write_bytes(_text(h, r)[:-40] + b"\0" + _text(h, r)[-40:]) and None,
    ),
    "cut in a row": ("csv", lambda p, h, r: p.write_bytes(_text(h, [*r, "cut"])) and None),
    "cut in a quote": ("csv", lambda p, h, r: p.write_bytes(_text(h, [*r, '"cut']).rstrip()) and None),
    "a cell too many": ("csv", lambda p, h, r: p.write_bytes(_text(h, [*r, r[0] + ",more"])) and None),
    "binary junk": ("csv", lambda p, h, r: p.write_bytes(os.urandom(100_000)) and None),
    "junk named Parquet": ("parquet", lambda p, h, r: p.write_bytes(os.urandom(100_000)) and None),
    "empty Parquet": ("parquet", lambda p, h, r: p.write_bytes(b"") and None),
    "damaged Parquet": ("parquet", lambda p, h, r: _damaged_parquet(p, h)),
    "Parquet named CSV": ("csv", lambda p, h, r: pq.write_table(pa.table({"email": ["a"]}), p)),
    "gzip": ("csv", lambda p, h, r: p.write_bytes(b"\x1f\x8b\x08" + os.urandom(1_000)) and None),
    "a directory": ("csv", lambda p, h, r: p.mkdir()),
    "nothing there": ("csv", lambda p, h, r: None),
}


def _one_line(done: Done) -> str:
    """The only line of a command that failed."""
    assert done.code in (1, 2), done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert len(done.stderr) < 600
    return done.stderr


@pytest.fixture(params=BAD_FILES)
def bad_file(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, list[str]], Path]:
    """Makes the bad file that is asked for."""
    suffix, make = BAD_FILES[request.param]

    def made(header: str, rows: list[str]) -> Path:
        path = tmp_path / f"input.{suffix}"
        make(path, header, rows)
        return path

    return made


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    """A platform that nothing may be added to."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("small"))
    platform.enroll(grants(10))
    return platform


@pytest.fixture
def unchanged(small: LivePlatform) -> Iterator[None]:
    """The registry has the same rows after the test."""
    tables = ("assertion_chunk", "delivery", "decision", "digest_chunk", "mention", "policy", "terms")

    def counts() -> list[object]:
        return [small.rows(f"SELECT count(*) FROM {table}") for table in tables]

    before = counts()
    yield
    assert counts() == before


def _enroll(small: LivePlatform, path: Path, *options: str) -> Done:
    return operator("enroll", path, "--data-dir", small.data_dir, "--json", *options)


def test_a_file_that_cannot_be_enrolled_changes_nothing(
    small: LivePlatform, unchanged: None, bad_file: Callable[[str, list[str]], Path]
) -> None:
    path = bad_file(HEADER, ACCOUNT_ROWS)
    assert path.name in _one_line(_enroll(small, path))


def test_a_list_that_cannot_be_matched_leaves_no_output(
    plain: LivePlatform, acme: Path, bad_file: Callable[[str, list[str]], Path], tmp_path: Path
) -> None:
    path = bad_file("email,number", LIST_ROWS)
    folder = tmp_path / "out"
    folder.mkdir()
    before = plain.rows("SELECT count(*) FROM session")
    line = _one_line(plain.match(path, folder / "out.csv", acme))
    assert path.name in line
    assert not list(folder.iterdir())
    assert plain.rows("SELECT count(*) FROM session") == before


def test_a_list_that_cannot_be_checked_is_named(bad_file: Callable[[str, list[str]], Path]) -> None:
    path = bad_file("email,number", LIST_ROWS)
    assert path.name in _one_line(advertiser("check", path, "--json"))


def test_a_hole_of_a_gigabyte_takes_no_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"email\n" + b"a" * (64 << 20))
    tracemalloc.start()
    try:
        _one_line(advertiser("check", path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20


def test_a_header_without_rows_is_too_short_to_match_and_enrolls_nobody(
    small: LivePlatform, plain: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    path = tmp_path / "list.csv"
    path.write_text("email\n")
    done = plain.match(path, tmp_path / "out.csv", acme)
    assert "0 distinct usable identifiers" in _one_line(done)
    assert advertiser("check", path, "--json").document["rows"] == 0
    path.write_text(f"{HEADER}\n")
    assert _enroll(small, path).document == {"read": 0, "enrolled": 0, "refused": {}}


def test_a_byte_order_mark_and_semicolons_are_tolerated(
    small: LivePlatform, plain: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    path, output = tmp_path / "list.csv", tmp_path / "out.csv"
    text = _text("email,number", LIST_ROWS).decode().replace(",", ";")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert plain.match(path, output, acme).document["matched_rows"] == 1_000
    assert output.read_text().splitlines()[0].lstrip("\ufeff") == "email;number;matched;reason"
    accounts = tmp_path / "accounts.csv"
    rows = _text(HEADER, ACCOUNT_ROWS[:2]).decode().replace(",", ";")
    accounts.write_bytes(b"\xef\xbb\xbf" + rows.encode())
    assert _enroll(small, accounts).document["enrolled"] == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"purposes": "marketing.advertising.no_such_thing"}, "UNKNOWN_PURPOSE"),
        ({"origin": "rumour"}, "UNKNOWN_ORIGIN"),
        ({"status": "perhaps"}, None),
        ({"kind": "fax"}, "MALFORMED_ROW"),
        ({"value": "not an address"}, "INVALID_IDENTIFIER"),
        ({"value_format": "md5"}, "MALFORMED_ROW"),
        ({"not_before": "2024-01-01T00:00:00"}, "MALFORMED_ROW"),
        ({"expires_at": "soon"}, "MALFORMED_ROW"),
        ({"subject_id": ""}, "MALFORMED_ROW"),
    ],
)
def test_a_grant_that_is_not_understood_is_counted_and_grants_nothing(
    small: LivePlatform, tmp_path: Path, change: dict[str, str], reason: str | None
) -> None:
    row = dict(assertion("odd", "email", "odd@example.com")) | change
    report = _enroll(small, write_csv(tmp_path / "accounts.csv", [row])).document
    assert (report["read"], report["enrolled"], sum(report["refused"].values())) == (1, 0, 1)
    if reason:
        assert report["refused"] == {reason: 1}


def test_a_refusal_that_names_nobody_stops_the_whole_file(
    small: LivePlatform, unchanged: None, tmp_path: Path
) -> None:
    rows = [*grants(5, first=7000), assertion("", "email", "unreadable", status="withdrawn")]
    line = _one_line(_enroll(small, write_csv(tmp_path / "accounts.csv", rows)))
    assert "unreadable" not in line


def test_a_source_that_the_policy_does_not_list_may_claim_nothing(
    small: LivePlatform, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "accounts.csv", grants(5, first=8_000))
    assert _enroll(small, path, "--source", "hearsay").document["refused"] == {"SOURCE_NOT_PERMITTED": 5}


def test_a_region_that_is_none_is_refused(
    small: LivePlatform, unchanged: None, plain: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "accounts.csv", grants(5, first=8_000))
    _one_line(_enroll(small, path, "--region", "ZZ"))
    listed = customers(tmp_path / "list.csv")
    _one_line(plain.match(listed, tmp_path / "out.csv", acme, "--region", "ZZ"))
    _one_line(advertiser("check", listed, "--region", "Atlantis"))
    assert not (tmp_path / "out.csv").exists()


def test_a_data_directory_that_is_none_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "accounts.csv", grants(5))
    for data_dir in (tmp_path / "nothing", tmp_path, path):
        for command in (("enroll", path), ("publish",), ("serve", "--listen", "127.0.0.1:0")):
            line = _one_line(operator(*command, "--data-dir", data_dir))
            assert str(data_dir) in line
    assert not (tmp_path / "nothing").exists()


def test_a_registry_that_is_none_is_refused_and_left_alone(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "p")
    path = write_csv(tmp_path / "accounts.csv", grants(5))
    (platform.data_dir / "registry.sqlite").unlink(missing_ok=True)
    junk = os.urandom(100_000)
    (platform.data_dir / "registry.sqlite").write_bytes(junk)
    _one_line(operator("enroll", path, "--data-dir", platform.data_dir))
    assert (platform.data_dir / "registry.sqlite").read_bytes() == junk


def test_a_second_platform_in_the_same_folder_is_refused(small: LivePlatform, unchanged: None) -> None:
    _one_line(operator("init", "--data-dir", small.data_dir))


def test_an_address_that_is_taken_cannot_be_served(small: LivePlatform) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = program("purposematch-platform", "serve", "--data-dir", small.data_dir, "--listen", address)
    assert address in _one_line(done)


# The advertiser's surroundings


def _match_fails(
    plain: LivePlatform, folder: Path, credentials: Path, *, output: Path | None = None, address: str = ""
) -> str:
    listed = customers(folder / "list.csv")
    target = output or folder / "out.csv"
    held = target.read_bytes() if target.is_file() else None
    there = sorted(path.name for path in folder.iterdir())
    done = advertiser(
        *("match", listed, "--platform", address or plain.address, "--credentials", credentials),
        *("--output", target, "--yes", "--json"),
    )
    assert done.code in (1, 2)
    assert done.stdout == ""
    assert sorted(path.name for path in folder.iterdir()) == there
    assert (target.read_bytes() if target.is_file() else None) == held
    # The leak sheet may stand before it, where the list was read already.
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert len(lines) == 1 or lines[0] == "What this match gives away"
    return lines[-1]


def test_an_output_that_cannot_be_written_is_found_first(
    plain: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    before = plain.rows("SELECT count(*) FROM session")
    listed = customers(tmp_path / "list.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(listed)
    for output in (
        tmp_path / "missing" / "out.csv",
        tmp_path / "folder.csv",
        tmp_path / "out.xlsx",
        listed,
        tmp_path / "link.csv",
        tmp_path / "." / "list.csv",
    ):
        _match_fails(plain, tmp_path, acme, output=output)
    assert len(read_csv(listed)) == 1_000
    assert plain.rows("SELECT count(*) FROM session") == before


def test_a_list_with_the_columns_of_the_output_is_refused(
    plain: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    listed = write_csv(tmp_path / "list.csv", [{"email": "a@example.com", "matched": "yes"}])
    assert "matched" in _one_line(plain.match(listed, tmp_path / "out.csv", acme))


def test_a_column_that_is_not_there_is_named(plain: LivePlatform, acme: Path, tmp_path: Path) -> None:
    listed = customers(tmp_path / "list.csv")
    line = _one_line(plain.match(listed, tmp_path / "out.csv", acme, "--email-column", "mail"))
    assert "mail" in line


Damage = Callable[[Path], object]
BAD_CREDENTIALS: dict[str, Damage] = {
    "no folder": shutil.rmtree,
    "no pin": lambda folder: (folder / "platform.json").unlink(),
    "no authority": lambda folder: (folder / "ca.pem").unlink(),
    "no certificate": lambda folder: (folder / "client.pem").unlink(),
    "no key": lambda folder: (folder / "client.key").unlink(),
    "key readable by the group": lambda folder: (folder / "client.key").chmod(0o640),
    "key readable by others": lambda folder: (folder / "client.key").chmod(0o604),
    "pin cut": lambda folder: (folder / "platform.json").write_bytes(
        (folder / "platform.json").read_bytes()[:-10]
    ),
    "pin of junk": lambda folder: (folder / "platform.json").write_bytes(os.urandom(1_000)),
    "pin without end": lambda folder: (folder / "platform.json").write_bytes(b"[" * 60_000),
    "pin with another identity": lambda folder: _other_identity(folder / "platform.json"),
    "authority of junk": lambda folder: (folder / "ca.pem").write_bytes(os.urandom(1_000)),
    "certificate is the authority's": lambda folder: shutil.copy(folder / "ca.pem", folder / "client.pem"),
    "key is a certificate": lambda folder: (folder / "client.key").write_bytes(
        (folder / "client.pem").read_bytes()
    ),
}


def _other_identity(path: Path) -> None:
    text = path.read_text()
    (key,) = (part for part in text.split('"') if len(part) == 64)
    path.write_text(text.replace(key, key[::-1]))


@pytest.mark.parametrize("damage", BAD_CREDENTIALS)
def test_credentials_that_cannot_be_used_are_refused(
    plain: LivePlatform, acme: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "credentials"
    shutil.copytree(acme, folder)
    BAD_CREDENTIALS[damage](folder)
    line = _match_fails(plain, tmp_path, folder)
    assert "internal" not in line


def test_a_server_that_is_not_there_is_said_to_be(plain: LivePlatform, acme: Path, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    assert address in _match_fails(plain, tmp_path, acme, address=address)


def test_a_server_of_something_else_is_refused(plain: LivePlatform, acme: Path, tmp_path: Path) -> None:
    with LivePlatform.create(tmp_path / "other" / "p").serving() as other:
        work = tmp_path / "work"
        work.mkdir()
        assert other.address in _match_fails(plain, work, acme, address=other.address)


@pytest.mark.parametrize(
    "address", ["", "localhost", "localhost:", ":1", "h:0", "h:65536", "h:1:2", "h:x", "a b:1"]
)
def test_an_address_of_another_form_is_wrong(acme: Path, tmp_path: Path, address: str) -> None:
    listed = customers(tmp_path / "list.csv")
    done = advertiser(
        *("match", listed, "--platform", address, "--credentials", acme),
        *("--output", tmp_path / "out.csv", "--yes"),
    )
    _one_line(done)
    assert not (tmp_path / "out.csv").exists()


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    for arguments in (("match",), ("match", "x.csv"), ("check", "x.csv", "--no-such-option"), ("dance",)):
        done = program("purposematch", *arguments) if arguments == ("match",) else advertiser(*arguments)
        assert done.code == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
