"""Members of audiences in chunks: loaded as stored, found by assertion, and refused once they are damaged."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from registry_life import Life
from sqlalchemy import select

from purposematch.protocol.errors import IntegrityError
from purposematch.server.registry.audiences import end_change, memberships
from purposematch.server.registry.members import load_members, member_changes, store_members
from purposematch.server.registry.row_digests import audience_digest
from purposematch.server.registry.schema import CHUNK_MEMBERS, audience_change, member_chunk


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """A registry with one advertiser and one generation, in which nobody is."""
    life = Life(tmp_path)
    life.admit("acme")
    life.publish()
    yield life
    life.registry.close()


def _change(life: Life, granting: np.ndarray) -> int:
    """Makes a change with these members; its number."""
    session = life.open("acme")
    life.commit(session, [])
    with life.registry.writing() as connection:
        number = life.last_change(connection)
        store_members(connection, number, granting)
    return number


def _ids(count: int, first: int = 1, step: int = 3) -> np.ndarray:
    return np.arange(first, first + count * step, step)


@pytest.mark.parametrize(
    "count", [0, 1, CHUNK_MEMBERS - 1, CHUNK_MEMBERS, CHUNK_MEMBERS + 1, 3 * CHUNK_MEMBERS]
)
def test_members_are_loaded_as_they_were_stored(life, count):
    before, number = _change(life, _ids(10)), _change(life, _ids(count, 2**40))
    with life.registry.reading() as connection:
        assert load_members(connection, before).tolist() == _ids(10).tolist()
        assert load_members(connection, number).tolist() == _ids(count, 2**40).tolist()
        chunks = connection.execute(member_chunk.select().where(member_chunk.c.change == number)).all()
    assert len(chunks) == -(-count // CHUNK_MEMBERS)


def test_the_changes_of_an_assertion_are_those_that_have_not_ended(life):
    granting = _ids(2 * CHUNK_MEMBERS + 1)
    every = [_change(life, granting), _change(life, _ids(5, 2)), _change(life, granting)]
    with life.registry.reading() as connection:
        for place in (0, 1, CHUNK_MEMBERS - 1, CHUNK_MEMBERS, 2 * CHUNK_MEMBERS):
            assert sorted(member_changes(connection, int(granting[place]))) == [every[0], every[2]]
        assert member_changes(connection, 2) == [every[1]]
        for missing in (0, 3, int(granting[CHUNK_MEMBERS]) - 1, int(granting[-1]) + 3):
            assert member_changes(connection, missing) == []
    with life.registry.writing() as connection:
        end_change(connection, every[0], "somebody", life.now)
    with life.registry.reading() as connection:
        assert member_changes(connection, 1) == [every[2]]
        assert not len(load_members(connection, every[0]))


DAMAGED = {
    "nothing": b"",
    "no whole number of assertions": _ids(CHUNK_MEMBERS).astype(">i8").tobytes()[:-1],
    "too many": _ids(CHUNK_MEMBERS + 1).astype(">i8").tobytes(),
    "one twice": np.repeat(_ids(250), 2).astype(">i8").tobytes(),
    "another first": _ids(CHUNK_MEMBERS, 2).astype(">i8").tobytes(),
    "text": "text",
    "a number": 7,
}
APART = {
    "a first chunk that is not full": _ids(CHUNK_MEMBERS - 1).astype(">i8").tobytes(),
    "one that reaches into the next": _ids(CHUNK_MEMBERS, step=4).astype(">i8").tobytes(),
}


@pytest.mark.parametrize("content", [*DAMAGED.values(), *APART.values()], ids=[*DAMAGED, *APART])
def test_damaged_chunks_are_named(life, content):
    number = _change(life, _ids(CHUNK_MEMBERS + 1))
    with life.registry.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE member_chunk SET granting = ? WHERE change = ? AND first = 1", (content, number)
        )
    with life.registry.reading() as connection:
        with pytest.raises(IntegrityError, match=rf"table member_chunk row {number} \d+: .* damaged"):
            load_members(connection, number)
        if content in DAMAGED.values():
            with pytest.raises(IntegrityError, match=f"table member_chunk row {number} 1: .* damaged"):
                member_changes(connection, 4)


@pytest.mark.parametrize("content", [*DAMAGED.values(), *APART.values()], ids=[*DAMAGED, *APART])
def test_damaged_members_go_when_their_time_has_come(life, content):
    """And the digest that stays is not theirs, so that it is noticed later, too."""
    number, other = _change(life, _ids(CHUNK_MEMBERS + 1)), _change(life, _ids(CHUNK_MEMBERS + 1))
    with life.registry.writing() as connection:
        said = audience_digest(connection, number)
        connection.exec_driver_sql(
            "UPDATE member_chunk SET granting = ? WHERE change = ? AND first = 1", (content, number)
        )
        for each in (number, other):
            end_change(connection, each, "retention", life.now)
        assert not connection.execute(member_chunk.select()).all()
        digests = dict(connection.execute(select(audience_change.c.number, audience_change.c.sha256)).all())
    assert digests[number] != said == digests[other]


def test_memberships_are_what_looking_at_all_members_finds(life):
    random = np.random.default_rng(1)
    for count in (1, 3, CHUNK_MEMBERS, 2_000, 5_000):
        _change(life, np.sort(random.choice(6_000, count, replace=False)) + 1)
    asked = [1, 5, 3_000, 5_999, 6_000, 6_001]
    with life.registry.reading() as connection:
        found = memberships(connection, asked)
    assert len(found) == sum(len(_found(life, id_)) for id_ in asked) > 0


def _found(life: Life, id_: int) -> list[int]:
    """The changes of an assertion, by looking at all members."""
    with life.registry.reading() as connection:
        numbers = connection.execute(audience_change.select()).scalars().all()
        return [number for number in numbers if id_ in load_members(connection, number)]
