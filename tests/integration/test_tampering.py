"""Whatever a platform changes in its answers, the advertiser refuses it: exit 1, one line, no output."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from platforms import LivePlatform, assertion, customers, first_line, grants, program

from purposematch.client import MatchResult, apply_removals, cli
from purposematch.protocol.errors import (
    DecodeError,
    PeerError,
    PurposematchError,
    StateError,
    VerificationError,
)

HERE = Path(__file__).parent

LIES: dict[str, type[PurposematchError]] = {
    # What opens the session.
    "grant bit": VerificationError,
    "grant signature bit": VerificationError,
    "grant of a stranger": VerificationError,
    "grant is a manifest": VerificationError,
    "grant is empty": PeerError,
    "another agreement": VerificationError,
    "another client certificate": VerificationError,
    "another list size": VerificationError,
    "a window of nothing": DecodeError,
    "an unknown field": DecodeError,
    # What is shown of the log, before anything of the list is sent.
    "log: nothing": DecodeError,
    "log: checkpoint bit": PeerError,
    "log: checkpoint of a stranger": VerificationError,
    "log: another root": VerificationError,
    "log: leaves swapped": VerificationError,
    "log: session leaf elsewhere": VerificationError,
    "log: session leaf outside": DecodeError,
    "log: session salt": VerificationError,
    "log: session event": VerificationError,
    "log: session proof": VerificationError,
    "log: session proof cut": VerificationError,
    "log: manifest leaf elsewhere": VerificationError,
    "log: manifest salt": VerificationError,
    "log: manifest event": VerificationError,
    "log: manifest proof": VerificationError,
    "log: manifest proof cut": VerificationError,
    # And when the session ends.
    "log at the end: nothing": DecodeError,
    "log at the end: another root": VerificationError,
    "log at the end: session event": VerificationError,
    "log at the end: manifest proof": VerificationError,
    # What is matched against.
    "manifest bit": VerificationError,
    "manifest signature bit": VerificationError,
    "manifest of another time": VerificationError,
    "another key for one client, another identity": VerificationError,
    "another key in the manifest": VerificationError,
    "no key in the manifest": DecodeError,
    "another purpose": VerificationError,
    "another epoch": VerificationError,
    "another platform": VerificationError,
    "another profile": VerificationError,
    "another count": DecodeError,
    "a segment less": DecodeError,
    "an old manifest": VerificationError,
    "another generation": VerificationError,
    "no canaries": VerificationError,
    "segment missing": PurposematchError,
    "segment empty": VerificationError,
    "segment bit": VerificationError,
    "segment too short": VerificationError,
    "segment too long": VerificationError,
    "segment without end": VerificationError,
    "segment out of order": VerificationError,
    "segment with a tag twice": VerificationError,
    "segments of each other's ranges": VerificationError,
    # What is evaluated: the second of several batches.
    "element bit": PeerError,
    "elements swapped": VerificationError,
    "the identity": DecodeError,
    "the request itself": VerificationError,
    "too few elements": DecodeError,
    "too many elements": DecodeError,
    "half an element": DecodeError,
    "proof bit": VerificationError,
    "no proof": DecodeError,
    "proof of zeros": VerificationError,
    "proof not canonical": DecodeError,
    "another key for one batch": VerificationError,
    "a wrong batch number": StateError,
    "another batch's number": StateError,
    "twice": StateError,
    "another batch's answer": VerificationError,
    "the stream ends": StateError,
    # What is committed.
    "receipt bit": VerificationError,
    "receipt signature bit": VerificationError,
    "receipt of a stranger": VerificationError,
    "no receipt": PeerError,
    "receipt with another count": VerificationError,
    "session": VerificationError,
    "commit": VerificationError,
    "generation": VerificationError,
    "agreement": VerificationError,
    "transcript": VerificationError,
}

NO_SESSION = {
    *("grant bit", "grant signature bit", "grant of a stranger", "grant is a manifest", "grant is empty"),
    *("a window of nothing", "an unknown field", "log: nothing", "log: session leaf outside"),
}
"""Lies whose first answer cannot be read, so that nobody knows which session to close."""


def _open_sessions(liar: LivePlatform) -> int:
    return int(liar.rows("SELECT count(*) FROM session WHERE state = 'open'")[0][0])


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(tmp_path_factory.mktemp("liar"), max_batch_elements=256)
    platform.enroll(grants(300))
    platform.publish()
    mode = platform.folder / "mode"
    mode.write_text("honest")
    command = [sys.executable, str(HERE / "dishonest_platform.py"), str(platform.data_dir), str(mode)]
    with (
        platform.log.open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as server,
    ):
        try:
            platform.address = first_line(server).removeprefix("serving on ")
            yield platform
        finally:
            server.kill()


@pytest.fixture(scope="module")
def credentials(liar: LivePlatform) -> Path:
    return liar.admit("acme")


@pytest.fixture(scope="module")
def listed(liar: LivePlatform) -> Path:
    return customers(liar.folder / "list.csv")


def test_the_platform_of_these_tests_can_answer_honestly(
    liar: LivePlatform, credentials: Path, listed: Path, tmp_path: Path
) -> None:
    (liar.folder / "mode").write_text("honest")
    done = liar.match(listed, tmp_path / "out.csv", credentials)
    assert done.document["matched_rows"] == 300


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What the library raised inside the command line."""
    caught: list[BaseException] = []
    original = cli.run_match

    def noting(*arguments: Any, **options: Any) -> MatchResult:
        try:
            return original(*arguments, **options)
        except BaseException as error:
            caught.append(error)
            raise

    monkeypatch.setattr(cli, "run_match", noting)
    return caught


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_and_leaves_no_output(
    liar: LivePlatform,
    credentials: Path,
    listed: Path,
    tmp_path: Path,
    raised: list[BaseException],
    lie: str,
) -> None:
    (liar.folder / "mode").write_text(lie)
    before = _open_sessions(liar)
    folder = tmp_path / "out"
    folder.mkdir()
    done = liar.match(listed, folder / "out.csv", credentials)
    (error,) = raised
    assert isinstance(error, LIES[lie]), repr(error)
    assert done.code == 1
    sheet, line = done.stderr.rsplit("\n", 2)[:2]
    assert line == f"error: {' '.join(str(error).split())}"
    assert "error" not in sheet
    assert done.stdout == ""
    assert not list(folder.iterdir())
    # A session is closed if it is known which one it is.
    assert _open_sessions(liar) == before + (lie in NO_SESSION)


def test_an_output_that_was_there_before_stays_as_it_was(
    liar: LivePlatform, credentials: Path, listed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    for lie in ("grant bit", "segment bit", "proof bit", "receipt bit"):
        (liar.folder / "mode").write_text(lie)
        output.write_text("before")
        assert liar.match(listed, output, credentials).code == 1
        assert output.read_text() == "before"
        assert sorted(path.name for path in tmp_path.iterdir()) in (["out.csv"], ["cache", "out.csv"])


def test_the_program_itself_ends_with_one_line_and_no_output(
    liar: LivePlatform, credentials: Path, listed: Path, tmp_path: Path
) -> None:
    (liar.folder / "mode").write_text("element bit")
    output = tmp_path / "out.csv"
    done = program("purposematch", *liar.match_arguments(listed, output, credentials))
    assert (done.code, done.stdout) == (1, "")
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        done.stderr.splitlines()[-1]
    ]
    assert not output.exists()


def test_a_cached_segment_that_was_altered_on_disk_is_fetched_again(
    liar: LivePlatform, credentials: Path, listed: Path, tmp_path: Path
) -> None:
    (liar.folder / "mode").write_text("honest")
    for _ in range(2):
        done = liar.match(listed, tmp_path / "out.csv", credentials)
        assert done.document["matched_rows"] == 300
        (segment,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
        segment.write_bytes(bytes(segment.stat().st_size))


REMOVALS: dict[str, type[PurposematchError]] = {
    "removals bit": VerificationError,
    "removals list bit": VerificationError,
    "removals signature bit": VerificationError,
    "removals of a stranger": VerificationError,
    "removals cut": VerificationError,
    "removals without tags": VerificationError,
    "removals without end": VerificationError,
    "removals without list": DecodeError,
    "no removals": DecodeError,
    "removals out of order": VerificationError,
    "removals with a tag twice": VerificationError,
    "removals of another epoch": VerificationError,
    "removals of another purpose": VerificationError,
    "removals final in words": DecodeError,
    "removals with a receipt's domain": VerificationError,
}


@pytest.fixture(scope="module")
def stored(liar: LivePlatform, credentials: Path) -> Path:
    """A result that two people left since, none of whom other tests match."""
    (liar.folder / "mode").write_text("honest")
    output = liar.folder / "stored.csv"
    liar.enroll(grants(2, first=1_500))
    liar.publish()
    others = customers(liar.folder / "others.csv", first=1_000)
    assert liar.match(others, output, credentials).document["matched_rows"] == 2
    rows = [assertion(f"s{i}", "email", f"user{i}@example.com", status="withdrawn") for i in (1_500, 1_501)]
    liar.enroll(rows)
    liar.publish()
    return output


@pytest.mark.parametrize("lie", REMOVALS)
def test_a_false_list_of_removals_changes_nothing_and_is_not_acknowledged(
    liar: LivePlatform, credentials: Path, stored: Path, lie: str
) -> None:
    (liar.folder / "mode").write_text(lie)
    sidecar = stored.with_name("stored.csv.tags")
    before = stored.read_bytes(), sidecar.read_bytes()
    with pytest.raises(REMOVALS[lie]):
        apply_removals([stored], platform=liar.address, credentials=credentials)
    assert (stored.read_bytes(), sidecar.read_bytes()) == before
    assert liar.rows("SELECT count(*) FROM removal_acknowledgement") == [(0,)]
