"""Commits: only what was evaluated in this session, once each, proves a match to the platform."""

import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_match import Match, Published, publish
from samples import flip, rows, uniform

from purposematch.protocol.errors import LimitError, PeerError, VerificationError
from purposematch.protocol.group import Group
from purposematch.protocol.messages import CommitEntries
from purposematch.protocol.transcript import transcript_hash


@pytest.fixture(scope="module")
def published(group: Group) -> Published:
    return publish(group, range(0, 60, 2), bits=2)


@pytest.fixture(scope="module")
def committed(group: Group, published: Published) -> tuple[Match, CommitEntries]:
    match = Match(group, published, list(range(30)))
    found, entries = match.run()
    assert sorted(match.open_commit(entries)) == sorted(found) == list(range(0, 30, 2))
    return match, entries


Committed = tuple[Match, CommitEntries]


def test_a_commit_may_leave_matches_out_and_come_in_any_order(committed: Committed) -> None:
    match, entries = committed
    for order in ([], [3], [14, 0, 7], list(range(15))[::-1]):
        part = CommitEntries(entries.tags[order], entries.macs[order])
        whole = match.open_commit(entries)
        assert match.open_commit(part) == [whole[place] for place in order]


def test_a_tag_that_is_twice_in_a_commit_is_refused(committed: Committed) -> None:
    match, entries = committed
    for place in (0, 7, 14):
        order = [*range(15), place]
        with pytest.raises(VerificationError, match="twice"):
            match.open_commit(CommitEntries(entries.tags[order], entries.macs[order]))


def test_a_tag_that_is_not_in_the_generation_is_refused(committed: Committed) -> None:
    match, entries = committed
    for place in (0, 7, 14):
        tags = entries.tags.copy()
        tags[place] = uniform(1, 16, "unknown")[0]
        with pytest.raises(VerificationError, match="not in the generation"):
            match.open_commit(CommitEntries(tags, entries.macs))


@settings(max_examples=50)
@given(bit=st.integers(0, 15 * 256 - 1))
def test_a_flipped_bit_in_a_commit_is_refused(committed: Committed, bit: int) -> None:
    match, entries = committed
    with pytest.raises(VerificationError):
        match.open_commit(CommitEntries.decode(flip(entries.encode(), bit)))


def test_macs_that_change_places_are_refused(committed: Committed) -> None:
    match, entries = committed
    with pytest.raises(VerificationError, match="MAC"):
        match.open_commit(CommitEntries(entries.tags, entries.macs[::-1]))


def test_a_tag_from_the_index_cannot_be_committed_without_its_token(committed: Committed) -> None:
    # Whoever has the index has every tag; 58 is enrolled and not on the list.
    match, entries = committed
    place = match.published.identifiers.index(58)
    tags = np.concatenate([entries.tags, match.published.tags[place : place + 1]])
    for mac in (bytes(16), entries.macs[0].tobytes(), b"\xff" * 16):
        with pytest.raises(VerificationError, match="MAC"):
            match.open_commit(CommitEntries(tags, np.concatenate([entries.macs, rows([mac], 16)])))


def test_more_entries_than_were_evaluated_are_refused(committed: Committed) -> None:
    match, entries = committed
    assert len(match.open_commit(entries, evaluated=15)) == 15
    for evaluated in (0, 1, 14):
        with pytest.raises(LimitError):
            match.open_commit(entries, evaluated=evaluated)


def test_a_commit_is_of_one_list_however_many_were_paid_for(committed: Committed) -> None:
    """By VOLE a session may have several attempts, each of which could have been another list."""
    match, entries = committed
    most = match.platform.max_elements
    made = CommitEntries(
        rows([i.to_bytes(16, "big") for i in range(most + 1)], 16), np.zeros((most + 1, 16), np.uint8)
    )
    with pytest.raises(LimitError):
        match.open_commit(made, evaluated=16 * most)
    assert len(match.open_commit(entries, evaluated=16 * most)) == 15


@pytest.mark.parametrize(
    "name", ["session", "agreement", "manifest", "client_certificate", "server_certificate"]
)
def test_a_commit_of_another_transcript_is_refused(committed: Committed, name: str) -> None:
    match, entries = committed
    grant = dataclasses.replace(match.grant, **{name: flip(getattr(match.grant, name), 3)})
    assert transcript_hash(grant) != match.advertiser.transcript
    other = dataclasses.replace(match.platform, grant=grant)
    with pytest.raises(VerificationError, match="MAC"):
        other.open_commit(entries, match.published.tags, match.published.tokens, 94)


@given(st.binary(max_size=200))
def test_arbitrary_commits_raise_nothing_outside_the_error_tree(committed: Committed, content: bytes) -> None:
    match, _ = committed
    opened: list[int] = []
    with contextlib.suppress(PeerError):
        opened = match.open_commit(CommitEntries.decode(content))
    assert opened == []
