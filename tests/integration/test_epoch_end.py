"""The end of a key epoch is in the log: once, also after an interruption, and the key must be gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from platforms import LivePlatform, grants

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.log.events import EventKind
from purposematch.server.audit import audit
from purposematch.server.platform import Platform
from purposematch.server.publish import publish
from purposematch.server.registry import log

START = 1_900_000_000_000_000
EPOCH = 30 * 86_400_000_000


@pytest.fixture
def clock() -> list[int]:
    return [START]


@pytest.fixture
def dated(tmp_path: Path, clock: list[int]) -> Iterator[Platform]:
    village = LivePlatform.create(tmp_path / "village")
    with village.opened(clock=lambda: clock[0]) as platform:
        village.enroll(grants(3))
        publish(platform)
        yield platform


def _epochs(platform: Platform) -> list[dict[str, object]]:
    with platform.registry.reading() as connection:
        events = [leaf.event() for leaf in log.leaves(connection)]
    return [
        {name: value for name, value in each.fields.items() if name != "public_key"}
        for each in events
        if each.kind is EventKind.EPOCH
    ]


def test_the_end_of_an_epoch_is_a_leaf(dated: Platform, clock: list[int]) -> None:
    key = dated.data_dir.epoch_key(1).read_bytes()
    assert _epochs(dated) == [{"number": 1}]
    clock[0] += EPOCH
    publish(dated)
    assert _epochs(dated) == [{"number": 1}, {"number": 2}, {"number": 1, "destroyed": True}]
    publish(dated)
    assert len(_epochs(dated)) == 3
    audit(dated)
    # A backup that was put back: the log says that this key does not exist.
    dated.data_dir.epoch_key(1).write_bytes(key)
    with pytest.raises(IntegrityError, match=r"epoch-1\.sealed: the log says"):
        audit(dated)


def test_an_interrupted_end_is_completed_and_logged_once(
    dated: Platform, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = dated.data_dir.epoch_key(1)
    length = len(key.read_bytes())
    clock[0] += EPOCH
    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", _power_cut_at_the_key)
        with pytest.raises(KeyboardInterrupt):
            publish(dated)
    assert key.read_bytes() == bytes(length)
    audit(dated)
    publish(dated)
    assert not key.exists()
    assert _epochs(dated)[2:] == [{"number": 1, "destroyed": True}]
    audit(dated)


def test_a_key_that_was_lost_is_not_said_to_be_destroyed(dated: Platform) -> None:
    dated.data_dir.epoch_key(1).unlink()
    publish(dated)
    assert _epochs(dated) == [{"number": 1}, {"number": 2}]
    audit(dated)


_unlink = Path.unlink


def _power_cut_at_the_key(path: Path, missing_ok: bool = False) -> None:
    if path.name == "epoch-1.sealed":
        raise KeyboardInterrupt
    _unlink(path, missing_ok)
