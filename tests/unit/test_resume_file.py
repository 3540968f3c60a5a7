"""The file of a session that broke off: what comes back from it, whole, cut, damaged and in use."""

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.client.columns import Column
from purposematch.client.resume_file import open_resume_file, resume_path
from purposematch.client.saved_session import BatchResult, SavedSession
from purposematch.protocol.errors import InputError
from purposematch.protocol.identifiers import Kind
from purposematch.protocol.log.events import Event, EventKind, Opening
from purposematch.protocol.log.session_proof import LeafProof, SessionProof
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.secret import reveal
from purposematch.protocol.signing import SignedDocument

SEED = bytes(range(32))
LEAF = LeafProof(3, Opening(bytes(16), Event(EventKind.SESSION, 1, {"id": "x"}).content), (bytes(32),))


def session(**changes: Any) -> SavedSession:
    saved = SavedSession(
        seed=SessionSeed(SEED),
        input="ab" * 32,
        inputs=b"i" * 32,
        columns=(Column("mail", Kind.EMAIL), Column("digest", Kind.PHONE, True)),
        region="DE",
        commit=b"c" * 16,
        opened_at=5,
        grant=SignedDocument(b'{"a":1}', b"s" * 64),
        manifest=SignedDocument(b'{"b":2}', b"t" * 64),
        proof=SessionProof(b"note", LEAF, LEAF),
    )
    return replace(saved, **changes)


def result(number: int, places: list[int], commits: bool = True) -> BatchResult:
    rows = np.frombuffer(os.urandom(32 * len(places)), np.uint8).reshape(-1, 32)
    macs = rows[:, 16:] if commits else np.empty((0, 16), np.uint8)
    return BatchResult(number, number % 65, np.array(places, np.uint16), rows[:, :16], macs)


def same(a: BatchResult, b: BatchResult) -> bool:
    return (a.number, a.canaries) == (b.number, b.canaries) and all(
        np.array_equal(x, y) for x, y in ((a.places, b.places), (a.tags, b.tags), (a.macs, b.macs))
    )


def written(output: Path, results: list[BatchResult], **changes: Any) -> Path:
    with open_resume_file(output) as file:
        assert file.saved is None
        file.begin(session(**changes))
        for one in results:
            file.append(one)
    return resume_path(output)


@pytest.mark.parametrize("region", [None, "US"])
def test_a_session_comes_back_as_it_was(tmp_path: Path, region: str | None) -> None:
    path = written(tmp_path / "out.csv", [], region=region)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv.resume"]
    with open_resume_file(tmp_path / "out.csv") as file:
        assert file.saved is not None
        assert reveal(file.saved.seed) == SEED
        assert replace(file.saved, seed=session().seed) == session(region=region)
        assert list(file.results(True)) == []
    assert "SessionSeed(..)" not in repr(session())
    assert "000102" not in repr(session())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 65_535), max_size=5), max_size=6),
    st.booleans(),
    st.integers(0, 2_000),
)
def test_what_is_cut_off_is_lost_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, batches: list[set[int]], commits: bool, cut: int
) -> None:
    output = tmp_path_factory.mktemp("cut") / "out.csv"
    results = [result(number, sorted(places), commits) for number, places in enumerate(batches)]
    path = written(output, [])
    begin = path.stat().st_size
    path.unlink()
    path = written(output, results)
    size = max(begin, path.stat().st_size - cut)
    os.truncate(path, size)
    with open_resume_file(output) as file:
        left = list(file.results(commits))
        assert all(map(same, left, results))
        ends = [begin + sum(len(one.encode()) + 21 for one in results[: i + 1]) for i in range(len(results))]
        assert len(left) == sum(end <= size for end in ends)
        # What is appended now stands behind the last whole one.
        file.append(results[len(left)] if len(left) < len(results) else result(99, [1], commits))
        assert len(list(file.results(commits))) == len(left) + 1


@pytest.mark.parametrize("place", [0, 30, 90, 400])
def test_a_damaged_session_is_refused_and_stays(tmp_path: Path, place: int) -> None:
    path = written(tmp_path / "out.csv", [])
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"), open_resume_file(tmp_path / "out.csv"):
        pass
    assert path.exists()


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    output = tmp_path_factory.mktemp("any") / "out.csv"
    resume_path(output).write_bytes(content)
    resume_path(output).chmod(0o600)
    with pytest.raises(InputError, match="damaged"), open_resume_file(output):
        pass


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    written(tmp_path / "out.csv", []).chmod(mode)
    with pytest.raises(InputError, match="open to others"), open_resume_file(tmp_path / "out.csv"):
        pass


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "out.csv", [])
    (tmp_path / "other.csv.resume").symlink_to(path)
    with pytest.raises(InputError, match="cannot be read"), open_resume_file(tmp_path / "other.csv"):
        pass


def test_two_processes_do_not_use_one_file(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with open_resume_file(output) as early, open_resume_file(output) as late:
        early.begin(session())
        with pytest.raises(InputError, match="another process"):
            late.begin(session())
        with pytest.raises(InputError, match="another process"), open_resume_file(output):
            pass
        early.delete()
        late.begin(session(commit=b"l" * 16))
    with open_resume_file(output) as file:
        assert file.saved is not None
        assert file.saved.commit == b"l" * 16


def test_the_seed_of_a_deleted_file_is_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "out.csv", [])
    os.link(path, tmp_path / "kept")
    with open_resume_file(tmp_path / "out.csv") as file:
        file.delete()
    assert not path.exists()
    assert SEED not in (tmp_path / "kept").read_bytes()
