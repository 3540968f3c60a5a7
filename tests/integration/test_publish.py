"""Publishing: what is computed again, what is sent again, what a crash leaves, and how epochs end."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platforms import LivePlatform, admitted_peer, assertion, customers, grants, operator, program, read_csv

from purposematch.client.channel import PlatformChannel
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.errors import NotAuthenticatedError, StateError, UnavailableError
from purposematch.protocol.group import Bytes, Elements, SodiumGroup
from purposematch.protocol.index import find
from purposematch.protocol.messages import EvaluateRequest
from purposematch.protocol.poprf import SessionSeed, blind, expand_blinds
from purposematch.protocol.strict_json import decode_json
from purposematch.server import generations as store_module
from purposematch.server import publish as publish_module
from purposematch.server.certificates import revoke_certificates
from purposematch.server.freshness import freshness
from purposematch.server.matching import Matching
from purposematch.server.opening import OpenedSession
from purposematch.server.pki import PeerIdentity, Role
from purposematch.server.platform import Platform
from purposematch.server.publish import publish
from purposematch.server.registry import generations, sessions
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.certificates import RevocationReason

HOUR = 3600 * 1_000_000
DAY = 24 * HOUR
KILLED = """
import os, signal, sys
from pathlib import Path
from purposematch.server import generations
from purposematch.server.platform import open_platform
from purposematch.server.publish import publish

generations.os.rename = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
with open_platform(Path(sys.argv[1])) as platform:
    publish(platform)
"""
"""A publisher that is killed at the first renaming."""
START = 1_900_000_000_000_000
"""Microseconds since 1970, later than any clock that enrolled in these tests."""


class PowerCut(BaseException):
    """Nothing catches it."""


class CountingGroup(SodiumGroup):
    """Counts the inputs that are hashed to the group: everything that is evaluated is."""

    def __init__(self) -> None:
        super().__init__(1)
        self.hashed = 0

    def map_to_group(self, uniform: Bytes) -> Elements:
        self.hashed += len(uniform)
        return super().map_to_group(uniform)


@pytest.fixture
def village(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path / "village")
    platform.enroll(grants(400))
    return platform


def _withdraw(*subjects: int) -> list[dict[str, str]]:
    return [dict(assertion(f"s{i}", "email", f"user{i}@example.com", status="withdrawn")) for i in subjects]


def _evaluated(village: LivePlatform) -> int:
    """Publishes; how many inputs were evaluated for it, canaries left out."""
    with village.opened() as platform:
        group = CountingGroup()
        publish(replace(platform, group=group))
    return group.hashed - CANARY_COUNT


def _current(platform: Platform) -> str:
    """The generation in service, all of whose files are there and whole."""
    with platform.registry.reading() as connection:
        latest = generations.latest_generation(connection)
    assert latest is not None
    manifest = platform.store.load(latest.name).manifest
    assert len(platform.store.index(manifest)) == sum(segment.count for segment in manifest.all_segments)
    return latest.name


def _open(platform: Platform, matching: Matching) -> tuple[PeerIdentity, OpenedSession, bytes]:
    """A session of the advertiser `acme`, without a network between."""
    with platform.registry.reading() as connection:
        agreement = agreement_in_force(connection, "acme", platform.clock())
    peer = admitted_peer(platform, "acme")
    opened = matching.opening.open(peer, agreement.digest, 1_000)
    session = decode_json(opened.grant.content, "grant", 65_536)
    assert isinstance(session, dict)
    return peer, opened, bytes.fromhex(session["session"])


def test_only_what_is_new_is_evaluated(village: LivePlatform) -> None:
    assert _evaluated(village) == 400
    assert _evaluated(village) == 0
    village.enroll(grants(7, first=400))
    assert _evaluated(village) == 7
    village.enroll(_withdraw(1, 2, 3))
    assert _evaluated(village) == 0
    village.enroll(_withdraw(4) + grants(2, first=500))
    assert _evaluated(village) == 2


def test_additions_keep_the_base_and_a_removal_cuts_it_anew(village: LivePlatform) -> None:
    with village.opened() as platform:
        first = publish(platform).manifest
        assert (len(first.segments), first.additions) == (1, ())
        village.enroll(grants(7, first=400))
        second = publish(platform).manifest
        assert second.segments == first.segments
        assert [segment.count for segment in second.additions] == [7 + CANARY_COUNT]
        village.enroll(_withdraw(1))
        third = publish(platform).manifest
        assert (third.count, third.additions) == (406, ())
        assert third.segments[0].count == 406 + CANARY_COUNT
        # Nobody can ask for the old segments any more.
        kept = {path.name for path in (platform.data_dir.generations / "segments").iterdir()}
        assert kept == {third.segments[0].name}


def test_the_number_of_additions_is_bounded(village: LivePlatform) -> None:
    with village.opened() as platform:
        base = publish(platform).manifest.segments
        lengths = []
        for i in range(10):
            village.enroll(grants(1, first=1_000 + i))
            manifest = publish(platform).manifest
            lengths.append(len(manifest.additions))
            assert manifest.count == 401 + i
            _current(platform)
        assert lengths == [1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
        assert manifest.segments != base


def test_a_client_with_a_cache_fetches_the_addition_alone(
    village: LivePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    fetch = PlatformChannel.fetch_segment

    async def counting(channel: PlatformChannel, session: bytes, segment: Any) -> bytes:
        fetched.append(segment.name)
        return await fetch(channel, session, segment)

    monkeypatch.setattr(PlatformChannel, "fetch_segment", counting)
    acme = village.admit("acme")
    village.publish()
    listed, output = customers(tmp_path / "list.csv"), tmp_path / "out.csv"
    with village.opened() as platform, village.serving():
        assert village.match(listed, output, acme).document["matched_rows"] == 400
        assert len(fetched) == 1
        village.enroll(grants(7, first=400))
        manifest = publish(platform).manifest
        assert village.match(listed, output, acme).document["matched_rows"] == 407
        assert fetched[1:] == [manifest.additions[0].name]
        assert village.match(listed, output, acme).document["matched_rows"] == 407
        assert len(fetched) == 2


def _crashing(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Cuts the power before the given step of writing a generation to the disk."""
    steps = iter(range(1_000_000))

    def cut(function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            if next(steps) == step:
                raise PowerCut
            return function(*arguments, **options)

        return stepping

    monkeypatch.setattr(store_module, "_write", cut(store_module._write))
    monkeypatch.setattr(store_module, "flush_folder", cut(store_module.flush_folder))
    monkeypatch.setattr(store_module.os, "rename", cut(os.rename))
    monkeypatch.setattr(publish_module.generations, "add_generation", cut(generations.add_generation))


@pytest.mark.parametrize("change", ["addition", "removal"])
def test_a_crash_at_any_step_leaves_the_old_generation_in_service(village: LivePlatform, change: str) -> None:
    with village.opened() as platform:
        old = publish(platform).manifest
        village.enroll(
            [assertion("new", "email", "new@example.com")] if change == "addition" else _withdraw(1)
        )
        step = 0
        while True:
            with pytest.MonkeyPatch.context() as patch:
                _crashing(patch, step)
                try:
                    new = publish(platform).manifest
                    break
                except PowerCut:
                    pass
            assert _current(platform) == old.name
            step += 1
        # The new segment, five files of the table, two of the manifest, flushes, renames, and the row.
        assert step >= 14
        assert _current(platform) == new.name
        assert new.count == (401 if change == "addition" else 399)
        # Whatever the crashes left is gone: two folders may have been renamed into place, without a table.
        names = {path.name for path in platform.data_dir.generations.iterdir()}
        assert not [name for name in names if name.startswith(".")]
        segments = {path.name for path in (platform.data_dir.generations / "segments").iterdir()}
        assert segments == {segment.name for segment in new.all_segments}
        tables = {path.parent.name for path in platform.data_dir.generations.glob("*/tags")}
        assert tables == {new.name}


def test_a_crash_after_the_row_leaves_the_new_generation_in_service(
    village: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with village.opened() as platform:
        old = publish(platform).manifest

        def cut(*arguments: Any) -> None:
            raise PowerCut

        with monkeypatch.context() as patch:
            patch.setattr(publish_module, "_clean_up", cut)
            with pytest.raises(PowerCut):
                publish(platform)
        assert _current(platform) != old.name
        publish(platform)
        _current(platform)
        assert len(list(platform.data_dir.generations.glob("*/tags"))) == 1


def test_a_process_that_is_killed_while_publishing_does_not_hold_the_next_one_up(
    village: LivePlatform,
) -> None:
    with village.opened() as platform:
        old = publish(platform).manifest
        village.enroll(grants(5, first=500))
        done = subprocess.run([sys.executable, "-c", KILLED, str(village.data_dir)], check=False)
        assert done.returncode == -signal.SIGKILL
        # The lock and the transaction were the system's to release.
        assert _current(platform) == old.name
        assert publish(platform).manifest.count == 405


def test_a_lost_segment_is_mended_by_publishing_again(village: LivePlatform) -> None:
    with village.opened() as platform:
        manifest = publish(platform).manifest
        (platform.data_dir.generations / "segments" / manifest.segments[0].name).unlink()
        publish(platform)
        _current(platform)


def test_an_altered_segment_is_mended_by_publishing_again(village: LivePlatform) -> None:
    with village.opened() as platform:
        manifest = publish(platform).manifest
        path = platform.data_dir.generations / "segments" / manifest.segments[0].name
        path.write_bytes(bytes(path.stat().st_size))
        publish(platform)
        _current(platform)


def test_a_lost_table_is_mended_by_publishing_again(village: LivePlatform) -> None:
    with village.opened() as platform:
        manifest = publish(platform).manifest
        (platform.data_dir.generations / manifest.name / "tags").unlink()
        assert _evaluated(village) == 400
        _current(platform)


@pytest.mark.parametrize("name", ["tags", "tokens", "identifiers", "granting_ends", "granting", "checksum"])
def test_an_altered_table_is_computed_anew(village: LivePlatform, name: str) -> None:
    with village.opened() as platform:
        manifest = publish(platform).manifest
        path = platform.data_dir.generations / manifest.name / name
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert _evaluated(village) == 400
        _current(platform)


def test_the_last_published_generation_is_in_service_when_the_clock_goes_back(
    village: LivePlatform,
) -> None:
    with village.opened() as platform:
        publish(platform)
        earlier = replace(platform, clock=lambda: platform.clock() - 3_600_000_000)
        manifest = publish(earlier).manifest
        with platform.registry.reading() as connection:
            latest = generations.latest_generation(connection)
        assert latest is not None
        assert latest.name == manifest.name


def test_a_damaged_generation_that_a_session_is_on_does_not_stop_publishing(village: LivePlatform) -> None:
    village.admit("acme")
    with village.opened() as platform:
        manifest = publish(platform).manifest
        _open(platform, Matching(platform, lambda: bytes(32)))
        (platform.data_dir.generations / manifest.name / "tags").unlink()
        new = publish(platform).manifest
        assert _current(platform) == new.name


def test_of_two_publishers_at_once_one_says_so(village: LivePlatform) -> None:
    with village.opened() as platform:
        refused: list[str] = []

        def meanwhile(count: int) -> None:
            done = program("purposematch-platform", "publish", "--data-dir", village.data_dir, "--json")
            assert (done.code, done.stdout) == (1, "")
            refused.append(done.stderr)

        publish(platform, meanwhile)
        assert refused == ["error: another publisher is at work; try again when it is done\n"]
        assert _current(platform)
        assert village.rows("SELECT count(*) FROM generation") == [(1,)]
    assert operator("publish", "--data-dir", village.data_dir).code == 0


@pytest.fixture
def clock() -> list[int]:
    """What the platform takes for the time; tests move it."""
    return [START]


@pytest.fixture
def dated(village: LivePlatform, clock: list[int]) -> Iterator[Platform]:
    village.admit("acme")
    with village.opened(clock=lambda: clock[0]) as platform:
        yield platform


def test_an_epoch_ends_after_its_days_with_a_new_key_and_new_tags(dated: Platform, clock: list[int]) -> None:
    first = publish(dated)
    tags = np.array(first.table.tags)
    key = dated.data_dir.epoch_key(1).read_bytes()
    clock[0] = START + 30 * DAY - 1
    late = publish(dated)
    assert late.manifest.scope.epoch == 1
    # Nothing is valid beyond its epoch.
    assert late.manifest.valid_until == START + 30 * DAY
    assert (find(np.array(late.table.tags), tags) >= 0).sum() == 400
    clock[0] = START + 30 * DAY
    with dated.registry.reading() as connection:
        assert freshness(dated, connection, clock[0]).problem
    second = publish(dated)
    assert second.manifest.scope.epoch == 2
    assert second.manifest.public_key != first.manifest.public_key
    assert second.manifest.additions == ()
    assert (find(np.array(second.table.tags), tags) < 0).all()
    assert not dated.data_dir.epoch_key(1).exists()
    assert dated.data_dir.epoch_key(2).read_bytes() != key


def test_a_key_outlives_its_epoch_only_as_long_as_a_session_needs_it(
    dated: Platform, clock: list[int]
) -> None:
    publish(dated)
    clock[0] = START + 30 * DAY - HOUR
    assert publish(dated).manifest.scope.epoch == 1
    matching = Matching(dated, lambda: bytes(32))
    peer, _, session = _open(dated, matching)
    clock[0] = START + 30 * DAY + HOUR
    assert publish(dated).manifest.scope.epoch == 2
    assert dated.data_dir.epoch_key(1).exists()
    # Another process, which has loaded nothing yet, can go on with the session.
    elsewhere = Matching(dated, lambda: bytes(32))
    blinded = dated.group.encode(dated.group.map_to_group(np.full((3, 64), 7, np.uint8)))
    reply = elsewhere.evaluate(peer, session, EvaluateRequest(0, blinded))
    assert len(reply.evaluated) == 3
    elsewhere.close_session(peer, session)
    publish(dated)
    assert not dated.data_dir.epoch_key(1).exists()
    assert dated.data_dir.epoch_key(2).exists()


def test_a_session_is_used_for_a_day_at_most_and_an_epoch_ends_for_good(
    dated: Platform, clock: list[int]
) -> None:
    publish(dated)
    clock[0] = START + 30 * DAY - HOUR
    publish(dated)
    matching = Matching(dated, lambda: bytes(32))
    peer, _, session = _open(dated, matching)
    blinded = dated.group.encode(dated.group.map_to_group(np.full((1, 64), 7, np.uint8)))
    for hours in range(1, 24):
        clock[0] = START + 30 * DAY + (hours - 1) * HOUR
        matching.evaluate(peer, session, EvaluateRequest(hours % 8, blinded))
    clock[0] = START + 31 * DAY - HOUR
    with pytest.raises(StateError, match="a day old"):
        matching.evaluate(peer, session, EvaluateRequest(9, blinded))
    with dated.registry.writing() as connection:
        assert sessions.end_silent_sessions(connection, clock[0] - HOUR, clock[0] - HOUR, clock[0]) == [
            session.hex()
        ]
    assert publish(dated).manifest.scope.epoch == 2
    assert not dated.data_dir.epoch_key(1).exists()


def test_an_advertiser_that_is_shut_out_is_out_of_its_open_sessions_too(
    dated: Platform, village: LivePlatform
) -> None:
    publish(dated)
    matching = Matching(dated, lambda: bytes(32))
    peer, _, session = _open(dated, matching)
    blinded = dated.group.encode(dated.group.map_to_group(np.full((1, 64), 7, np.uint8)))
    revoke_certificates(dated, RevocationReason.PRIVILEGE_WITHDRAWN, role=Role.ADVERTISER, name="acme")
    with pytest.raises(NotAuthenticatedError, match="was revoked"):
        matching.evaluate(peer, session, EvaluateRequest(0, blinded))


def test_a_generation_ends_with_the_first_renewal_that_holds_a_withdrawal_off(
    dated: Platform, clock: list[int], village: LivePlatform
) -> None:
    said = {"subject": "back", "kind": "email", "value": "back@example.com"}
    rows = [
        assertion(**said, status="withdrawn", not_before="2025-01-01T00:00:00Z"),
        assertion(
            **said, status="renewed", not_before="2025-02-01T00:00:00Z", expires_at="2030-03-17T18:00:00Z"
        ),
    ]
    village.enroll(rows)
    village.enroll([assertion(**said)])
    manifest = publish(dated).manifest
    assert manifest.valid_until == 1_900_000_800_000_000


@pytest.mark.parametrize("strict", [True, False])
def test_a_two_factor_number_makes_a_generation_stale_where_origins_are_strict(
    dated: Platform, village: LivePlatform, strict: bool
) -> None:
    path = dated.data_dir.policy
    content = path.read_text()
    assert "strict_origins = false" in content
    path.write_text(content.replace("strict_origins = false", f"strict_origins = {str(strict).lower()}"))
    publish(dated)
    village.enroll(
        [assertion("p3", "email", "p3@example.com", "two_factor", purposes="essential.service.security")]
    )
    with dated.registry.reading() as connection:
        state = freshness(dated, connection, dated.clock())
    assert bool(state.problem) is strict


def test_a_session_never_opens_on_a_generation_that_was_removed_meanwhile(
    dated: Platform, clock: list[int], village: LivePlatform
) -> None:
    village.enroll([assertion("brief", "email", "brief@example.com", expires_at="2030-03-17T18:00:00Z")])
    publish(dated)
    held: list[bool] = []

    def publishing_meanwhile(length: int) -> bytes:
        if length == 16 and not held:
            held.append(True)
            # Its consent has expired, so the base is cut anew and the old segment removed.
            with village.opened(clock=lambda: START + DAY) as other:
                publish(other)
        return os.urandom(length)

    # Nothing is to be recorded in the meantime but the session.
    admitted_peer(dated, "acme")
    slow = replace(dated, random_bytes=publishing_meanwhile)
    matching = Matching(slow, lambda: bytes(32))
    try:
        peer, opened, session = _open(slow, matching)
    except UnavailableError:
        # Told to come again, which finds the new generation.
        clock[0] = START + DAY
        peer, opened, session = _open(slow, matching)
    assert held
    manifest = decode_json(opened.manifest.content, "manifest", 2**20)
    assert isinstance(manifest, dict)
    for segment in manifest["segments"]:
        assert len(matching.segment(peer, session, bytes.fromhex(segment["sha256"]))) == segment["count"]


def test_a_generation_is_valid_for_a_day_and_no_longer_than_its_first_expiry(
    dated: Platform, clock: list[int], village: LivePlatform
) -> None:
    assert publish(dated).manifest.valid_until == START + DAY
    clock[0] = START + 2 * DAY
    village.enroll([assertion("brief", "email", "brief@example.com", expires_at="2030-03-19T18:00:00Z")])
    manifest = publish(dated).manifest
    assert manifest.count == 401
    assert START + 2 * DAY < manifest.valid_until < START + 3 * DAY
    clock[0] = manifest.valid_until
    after = publish(dated).manifest
    assert after.count == 400
    assert after.valid_until == clock[0] + DAY


def test_a_platform_that_permits_nobody_can_be_matched_with(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "empty")
    assert platform.publish()["count"] == 0
    platform.enroll([assertion("s", "email", "user1@example.com", "two_factor")])
    assert platform.publish()["count"] == 0
    output = tmp_path / "out.csv"
    with platform.serving():
        done = platform.match(customers(tmp_path / "list.csv"), output, platform.admit("acme"))
    assert (done.document["matched_rows"], done.document["matched_identifiers"]) == (0, 0)
    assert {row["matched"] for row in read_csv(output)} == {"false"}


def test_a_platform_that_never_published_serves_nothing(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "silent")
    platform.enroll(grants(10))
    output = tmp_path / "out.csv"
    with platform.serving():
        done = platform.match(customers(tmp_path / "list.csv"), output, platform.admit("acme"))
    assert done.code == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert not output.exists()


def test_the_counting_group_counts_what_is_blinded() -> None:
    # The counter above counts by `map_to_group`; if evaluation stopped using it, it would count nothing.
    group = CountingGroup()
    blinds = expand_blinds(group, SessionSeed(bytes(32)), 0, 3)
    blind(group, POPRF, np.zeros((3, 33), np.uint8), blinds)
    assert group.hashed == 3
