"""The segment cache: nothing damaged is ever used, and it does not grow without bound."""

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from fake_platform import FakePlatform, enrolled

from purposematch.client.credentials import Credentials
from purposematch.client.segment_cache import SegmentCache
from purposematch.protocol.errors import ConfigurationError, VerificationError
from purposematch.protocol.index import Segment


def content_of(seed: int, count: int = 4) -> bytes:
    return np.random.default_rng(seed).bytes(16 * count)


def described(content: bytes) -> Segment:
    return Segment(len(content) // 16, sha256(content).digest())


def test_a_stored_segment_is_loaded_again(tmp_path: Path) -> None:
    cache = SegmentCache(tmp_path / "segments")
    content = content_of(1)
    stored = cache.store(described(content), content)
    loaded = SegmentCache(tmp_path / "segments").load(described(content))
    assert loaded is not None
    assert stored.tobytes() == loaded.tobytes() == content
    assert loaded.shape == (4, 16)


def test_the_folder_is_closed_to_others_and_holds_nothing_but_whole_segments(tmp_path: Path) -> None:
    cache = SegmentCache(tmp_path / "segments")
    content = content_of(1)
    cache.store(described(content), content)
    assert (tmp_path / "segments").stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in (tmp_path / "segments").iterdir()] == [described(content).name]


def test_a_segment_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert SegmentCache(tmp_path / "segments").load(described(content_of(1))) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty", "other"])
def test_a_damaged_segment_is_not_loaded_and_can_be_replaced(tmp_path: Path, damage: str) -> None:
    cache = SegmentCache(tmp_path)
    content = content_of(1)
    damaged = {
        "flip": content[:-1] + bytes([content[-1] ^ 1]),
        "cut": content[:-16],
        "grow": content + bytes(16),
        "empty": b"",
        "other": content_of(2),
    }[damage]
    (tmp_path / described(content).name).write_bytes(damaged)
    assert cache.load(described(content)) is None
    assert cache.store(described(content), content).tobytes() == content
    loaded = cache.load(described(content))
    assert loaded is not None
    assert loaded.tobytes() == content


def test_bytes_of_another_segment_are_not_stored(tmp_path: Path) -> None:
    with pytest.raises(VerificationError):
        SegmentCache(tmp_path).store(described(content_of(1)), content_of(2))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_segment_needs_no_file(tmp_path: Path) -> None:
    assert SegmentCache(tmp_path).store(described(b""), b"").shape == (0, 16)
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_used_for_the_longest_time_goes_first(tmp_path: Path) -> None:
    cache = SegmentCache(tmp_path, max_bytes=128)
    contents = [content_of(seed) for seed in range(3)]
    for age, content in enumerate(contents):
        cache.store(described(content), content)
        os.utime(tmp_path / described(content).name, (age, age))
    kept = cache.load(described(contents[0]))
    cache.trim()
    assert {entry.name for entry in tmp_path.iterdir()} == {
        described(contents[0]).name,
        described(contents[2]).name,
    }
    assert kept is not None


def test_a_mapped_segment_outlives_its_file(tmp_path: Path) -> None:
    cache = SegmentCache(tmp_path, max_bytes=0)
    content = content_of(1)
    tags = cache.store(described(content), content)
    cache.trim()
    assert list(tmp_path.iterdir()) == []
    assert tags.tobytes() == content


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    content = content_of(1)
    with pytest.raises(ConfigurationError, match="XDG_CACHE_HOME"):
        SegmentCache(tmp_path / "file").store(described(content), content)


def test_the_users_cache_follows_the_environment_and_is_apart_for_every_platform(tmp_path: Path) -> None:
    content = content_of(1)
    folder = FakePlatform(enrolled(["a@example.com"])).write_credentials(tmp_path / "credentials")
    one = Credentials.load(folder)
    other = replace(one, pin=replace(one.pin, identity_key=bytes(32)))
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    SegmentCache.of_user(environ, one).store(described(content), content)
    assert len(list((tmp_path / "purposematch" / "segments").glob(f"*/{described(content).name}"))) == 1
    assert SegmentCache.of_user(environ, one).load(described(content)) is not None
    # A platform must not see from what is not fetched that this user was at another one.
    assert SegmentCache.of_user(environ, other).load(described(content)) is None
