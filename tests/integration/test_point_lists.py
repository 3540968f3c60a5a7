"""The lists of points of a generation: who is in them, what is computed again, and what an audit finds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slow_set_exchange as slow
from hypothesis import given
from hypothesis import strategies as st
from platforms import LivePlatform, assertion, grants, operator
from raw_client import email_inputs

from purposematch.protocol.canary import CANARY_COUNT, canary_inputs
from purposematch.protocol.errors import ConfigurationError, VerificationError
from purposematch.protocol.group import Bytes, Elements, SodiumGroup
from purposematch.protocol.point_segments import MAX_POINT_LISTS, PLANTED_COUNT
from purposematch.protocol.secret import reveal
from purposematch.server.evaluation import Enrolled
from purposematch.server.generations import StoredGeneration
from purposematch.server.platform import Platform
from purposematch.server.point_lists import first_identifiers
from purposematch.server.publish import publish


class CountingGroup(SodiumGroup):
    """Counts the inputs that are hashed to the group: everything that is evaluated is."""

    def __init__(self) -> None:
        super().__init__(1)
        self.hashed = 0

    def map_to_group(self, uniform: Bytes) -> Elements:
        self.hashed += len(uniform)
        return super().map_to_group(uniform)


@pytest.fixture
def hamlet(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path / "hamlet", max_batch_elements=100)
    platform.enroll(grants(5))
    return platform


def _published(platform: Platform) -> StoredGeneration:
    """The generation that is published now, as it is loaded from the disk."""
    published = publish(platform)
    loaded = platform.store.load(published.manifest.name)
    platform.store.check(loaded)
    assert loaded.manifest == published.manifest
    return loaded


def _evaluated(hamlet: LivePlatform) -> int:
    with hamlet.opened() as platform:
        group = CountingGroup()
        _published(replace(platform, group=group))
    return group.hashed


def _points(platform: Platform, stored: StoredGeneration, name: str) -> list[bytes]:
    return [row.tobytes() for row in platform.store.points(stored.manifest, name)]


def test_no_list_is_built_that_no_agreement_needs(hamlet: LivePlatform) -> None:
    with hamlet.opened() as platform:
        assert _published(platform).manifest.point_lists == {}
        assert not platform.data_dir.epoch_secret(1).exists()
    hamlet.admit("shop", "both")
    with hamlet.opened() as platform:
        assert _published(platform).manifest.point_lists == {}
    hamlet.admit("store", "platform")
    with hamlet.opened() as platform:
        assert list(_published(platform).manifest.point_lists) == ["platform"]
    hamlet.admit("kiosk", "count")
    hamlet.admit("stand", "count", "--identifiers-per-subject", "1")
    with hamlet.opened() as platform:
        assert list(_published(platform).manifest.point_lists) == ["count-1", "count-2", "platform"]
    hamlet.operate("agreement", "end", "store")
    with hamlet.opened() as platform:
        assert list(_published(platform).manifest.point_lists) == ["count-1", "count-2"]


def test_more_lists_than_a_generation_can_have_are_refused(hamlet: LivePlatform) -> None:
    for number in range(1, MAX_POINT_LISTS + 2):
        hamlet.admit(f"shop{number}", "count", "--identifiers-per-subject", str(number))
    with hamlet.opened() as platform, pytest.raises(ConfigurationError, match="fewer numbers"):
        publish(platform)


def test_the_points_are_those_of_the_slow_implementation(hamlet: LivePlatform) -> None:
    hamlet.admit("store", "platform")
    hamlet.admit("kiosk", "count")
    with hamlet.opened() as platform:
        stored = _published(platform)
        secret = reveal(platform.key_store.load_epoch_secret(1))
        own = [row.tobytes() for row in email_inputs([f"user{i}@example.com" for i in range(5)])]
        canaries = [row.tobytes() for row in canary_inputs(stored.manifest.generation)]
        info = stored.manifest.scope.info()
        for name in ("platform", "count-2"):
            points, rows = _points(platform, stored, name), stored.table.point_rows[name].tolist()
            # An identifier is known by its row, a canary by its number.
            places = {row: place for place, row in enumerate(rows)}
            made = [slow.point(secret, name, info, canary, canary[1:17]) for canary in canaries]
            assert [points[places[-1 - number]] for number in range(64)] == made
            keyed = [stored.table.identifiers[row].tobytes() for row in rows if row >= 0]
            for content in own:
                possible = [slow.point(secret, name, info, content, of) for of in keyed]
                number = next(i for i, point in enumerate(possible) if point in points)
                row = rows[points.index(possible[number])]
                assert len(stored.table.granting_of(np.array([row]))) == 1
                if name == "platform":
                    assert stored.table.identifiers[row].tobytes() == keyed[number]
                made.append(possible[number])
            planted = [] if name == "platform" else slow.planted(secret, name)
            made += [slow.slow.encode(slow.slow.multiply(r, slow.slow.GENERATOR)) for r in planted]
            assert sorted(made) == points
    # Segments hold as many points as a batch may, but for the last.
    segments = stored.manifest.point_lists["count-2"]
    assert [segment.count for segment in segments] == [100, 97]


def test_only_what_is_new_is_evaluated(hamlet: LivePlatform) -> None:
    hamlet.admit("store", "platform")
    every_time = 2 * CANARY_COUNT
    assert _evaluated(hamlet) == 5 + 5 + every_time
    assert _evaluated(hamlet) == every_time
    hamlet.enroll(grants(3, first=5))
    assert _evaluated(hamlet) == 3 + 3 + every_time
    hamlet.enroll([assertion("s0", "email", "user0@example.com", status="withdrawn")])
    assert _evaluated(hamlet) == every_time
    # A list of its own is made of its own points.
    hamlet.admit("kiosk", "count")
    assert _evaluated(hamlet) == 7 + every_time + CANARY_COUNT


def test_points_stay_for_the_epoch_and_who_left_is_gone(hamlet: LivePlatform) -> None:
    hamlet.admit("store", "platform")
    hamlet.admit("kiosk", "count")
    before, after = {}, {}
    with hamlet.opened() as platform:
        stored = _published(platform)
        before = {name: {*_points(platform, stored, name)} for name in stored.manifest.point_lists}
    hamlet.enroll([assertion("s0", "email", "user0@example.com", status="withdrawn")])
    with hamlet.opened() as platform:
        stored = _published(platform)
        after = {name: {*_points(platform, stored, name)} for name in stored.manifest.point_lists}
    assert len(before["platform"]) == 5 + CANARY_COUNT
    assert len(before["platform"] & after["platform"]) == 4
    assert len(before["count-2"] & after["count-2"]) == 4 + PLANTED_COUNT
    hamlet.operate("epoch", "rotate")
    with hamlet.opened() as platform:
        (latest,) = hamlet.rows("SELECT id FROM generation ORDER BY number DESC LIMIT 1")[0]
        stored = platform.store.load(latest)
        for name in stored.manifest.point_lists:
            assert not after[name] & {*_points(platform, stored, name)}
        # The secret of the epoch that ended is destroyed with its key.
        assert stored.manifest.scope.epoch == 2
        assert not platform.data_dir.epoch_secret(1).exists()
        assert platform.data_dir.epoch_secret(2).exists()


def test_a_lost_secret_makes_new_points(hamlet: LivePlatform) -> None:
    hamlet.admit("store", "platform")
    with hamlet.opened() as platform:
        first = _published(platform)
        points = {*_points(platform, first, "platform")}
        platform.data_dir.epoch_secret(1).unlink()
        again = _published(platform)
        assert not points & {*_points(platform, again, "platform")}


def test_at_most_so_many_identifiers_of_a_subject_are_counted(hamlet: LivePlatform) -> None:
    hamlet.enroll([assertion("many", "email", f"many{i}@example.com") for i in range(6)])
    hamlet.enroll([assertion("other", "email", "many0@example.com")])
    hamlet.admit("kiosk", "count")
    hamlet.admit("stand", "count", "--identifiers-per-subject", "1")
    with hamlet.opened() as platform:
        stored = _published(platform)
        sizes = {
            name: sum(segment.count for segment in segments) - CANARY_COUNT - PLANTED_COUNT
            for name, segments in stored.manifest.point_lists.items()
        }
        # `other` has one, which is counted whether or not it is among the first of `many`.
        assert sizes["count-1"] - 5 in (1, 2)
        assert sizes["count-2"] - 5 in (2, 3)
        # The same ones are chosen again.
        rows = [stored.table.identifiers[r] for r in stored.table.point_rows["count-2"] if r >= 0]
        again = _published(platform)
        chosen = [again.table.identifiers[r] for r in again.table.point_rows["count-2"] if r >= 0]
        assert {row.tobytes() for row in rows} == {row.tobytes() for row in chosen}


@given(
    st.lists(st.sets(st.integers(0, 6), min_size=1, max_size=4), max_size=25),
    st.integers(1, 4),
)
def test_one_subject_changes_a_count_by_so_many_at_most(owners: Sequence[set[int]], most: int) -> None:
    """`owners` are the subjects of every identifier, in the order of keyed digests."""

    def chosen(without: int | None) -> set[int]:
        # Identifiers that nobody has any more are not enrolled; numbers are kept to compare.
        left = [(i, sorted(of - {without})) for i, of in enumerate(owners) if of - {without}]
        enrolled = Enrolled(
            keyed=np.zeros((len(left), 16), np.uint8),
            inputs=np.arange(len(left)),
            granting_ends=np.cumsum([len(of) for _, of in left], dtype=np.int64),
            granting=np.zeros(sum(len(of) for _, of in left), np.int64),
            subjects=np.array([subject for _, of in left for subject in of], np.int64),
            expires_at=0,
        )
        return {left[at][0] for at in first_identifiers(enrolled, most).tolist()}

    everything = chosen(None)
    expected = set()
    for subject in range(7):
        expected |= {*[i for i, of in enumerate(owners) if subject in of][:most]}
    assert everything == expected
    for subject in range(7):
        assert len(everything ^ chosen(subject)) <= most


@pytest.mark.parametrize("what", ["rows", "segment"])
def test_the_audit_finds_a_list_that_was_altered(hamlet: LivePlatform, what: str) -> None:
    hamlet.admit("store", "platform")
    hamlet.publish()
    done = operator("audit", "--data-dir", hamlet.data_dir, "--json")
    assert done.code == 0, done.stderr
    with hamlet.opened() as platform:
        (name,) = hamlet.rows("SELECT id FROM generation")[0]
        manifest = platform.store.load(name).manifest
    folder = hamlet.data_dir / "generations"
    if what == "rows":
        path = folder / name / "rows-platform"
        rows = np.fromfile(path, np.int64)
        path.write_bytes(rows[::-1].tobytes())
    else:
        path = folder / "segments" / manifest.point_lists["platform"][0].name
        content = bytearray(path.read_bytes())
        content[40] ^= 1
        path.write_bytes(bytes(content))
        with hamlet.opened() as platform, pytest.raises(VerificationError):
            platform.store.check(platform.store.load(name))
    done = operator("audit", "--data-dir", hamlet.data_dir, "--json")
    assert done.code == 1
    assert ("rows-" if what == "rows" else path.name) in done.stderr


def test_an_audit_says_when_a_destroyed_secret_is_still_there(hamlet: LivePlatform) -> None:
    hamlet.admit("store", "platform")
    hamlet.publish()
    kept = (hamlet.data_dir / "keys" / "epoch-1-lists.sealed").read_bytes()
    hamlet.operate("epoch", "rotate")
    assert operator("audit", "--data-dir", hamlet.data_dir).code == 0
    (hamlet.data_dir / "keys" / "epoch-1-lists.sealed").write_bytes(kept)
    done = operator("audit", "--data-dir", hamlet.data_dir)
    assert done.code == 1
    assert "epoch-1-lists.sealed" in done.stderr
