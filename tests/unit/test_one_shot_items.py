"""The platform's items of a match by VOLE: exactly those that a generation pins, or a refusal."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from purposematch.protocol.errors import IntegrityError
from purposematch.protocol.group import Bytes
from purposematch.protocol.identifiers import Profile
from purposematch.server.generations import GenerationTable
from purposematch.server.keys import RootKey, derive_keys
from purposematch.server.one_shot_items import load_items
from purposematch.server.registry import Registry, chunks, digests, load_digests, open_registry
from purposematch.server.registry.schema import assertion_chunk, digest_chunk

CANARIES = np.full((2, 33), 7, np.uint8)
KEYS = derive_keys(RootKey(bytes(range(32))))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """One whose chunks are short, so that there are many."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 7)
    monkeypatch.setattr(digests, "CHUNK_ASSERTIONS", 5)
    opened = open_registry(tmp_path / "registry.sqlite", KEYS.identifier, KEYS.sealing, Profile.GOOGLE)
    yield opened
    opened.close()


def keyed(person: int) -> bytes:
    return bytes([person, *range(15)])


def digest(person: int) -> bytes:
    return bytes([person, *range(31)])


def kind(person: int) -> int:
    return person % 3 + 1


def enroll(
    connection: Connection,
    people: list[int],
    erased: Iterable[int] = (),
    first: int = 1,
) -> None:
    """Stores an assertion of each of these people, by their numbers; some are erased, by their places."""
    rows = [
        {
            **{"subject": f"s{place}", "identifier": keyed(person), "others": [], "kind": kind(person)},
            **{"terms": 1, "notice": None, "not_before": 0, "expires_at": 0, "flaw": 0, "evidence": 0},
            "reason": 0,
        }
        for place, person in enumerate(people)
    ]
    chunks.store_chunks(connection, first, pa.RecordBatch.from_pylist(rows, chunks.COLUMNS))
    content = np.frombuffer(b"".join(map(digest, people)), np.uint8).reshape(-1, 32)
    digests.store_digests(connection, KEYS.sealing, first, content)
    gone = np.array(sorted(first + place for place in erased), np.int64)
    if len(gone):
        chunks.erase_rows(connection, gone)
        digests.erase_digests(connection, KEYS.sealing, gone)


def pinning(pinned: list[tuple[int, list[int]]]) -> GenerationTable:
    """The table of a generation with these people, and the assertions that permit each."""
    content = b"".join(keyed(person) for person, _ in pinned)
    table = SimpleNamespace(
        granting=np.array([each for _, ids in pinned for each in ids], np.int64),
        granting_ends=np.cumsum([len(ids) for _, ids in pinned], dtype=np.int64),
        identifiers=np.frombuffer(content, np.uint8).reshape(-1, 16),
    )
    return cast("GenerationTable", cast("Any", table))


def load(connection: Connection, table: GenerationTable) -> tuple[Bytes, NDArray[np.int64]]:
    return load_items(connection, KEYS.sealing, table, CANARIES)


@pytest.mark.parametrize("first", [1, 5_000_000])
@pytest.mark.parametrize("seed", range(25))
def test_items_are_those_that_a_dictionary_finds(registry: Registry, seed: int, first: int) -> None:
    random = np.random.default_rng(seed)
    people = random.integers(0, 40, int(random.integers(1, 60))).tolist()
    erased = set(np.flatnonzero(random.random(len(people)) < random.choice([0, 0.2, 0.9])).tolist())
    by_person: dict[int, list[int]] = {}
    for place, person in enumerate(people):
        by_person.setdefault(person, []).append(first + place)
    order = random.permutation(40).tolist()
    pinned = [
        (person, random.permutation(by_person.get(person, []))[: int(random.integers(0, 4))].tolist())
        for person in order
    ]
    with registry.writing() as connection:
        enroll(connection, people, erased, first)
        items, rows = load(connection, pinning(pinned))
    expected = {
        row: bytes([kind(person)]) + digest(person)
        for row, (person, ids) in enumerate(pinned)
        if any(each - first not in erased for each in ids)
    }
    assert np.array_equal(items[len(rows) :], CANARIES)
    found = [item.tobytes() for item in items[: len(rows)]]
    assert dict(zip(rows.tolist(), found, strict=True)) == expected
    assert len(rows) == len(expected)


def test_ids_may_be_far_apart(registry: Registry) -> None:
    with registry.writing() as connection:
        # A whole chunk, so that the next delivery begins one of its own.
        enroll(connection, list(range(7)))
        enroll(connection, [14, 15], first=10**12)
        items, rows = load(connection, pinning([(15, [10**12 + 1]), (2, [3])]))
    assert rows.tolist() == [1, 0]
    assert [item.tobytes()[1:] for item in items[:2]] == [digest(2), digest(15)]


@pytest.mark.parametrize("people", [[], [1, 2, 3]])
def test_a_generation_of_nobody_has_canaries_alone(registry: Registry, people: list[int]) -> None:
    with registry.writing() as connection:
        if people:
            enroll(connection, people)
        items, rows = load(connection, pinning([(9, [])]))
        assert len(rows) == 0
        assert np.array_equal(items, CANARIES)
        assert load_digests(connection, KEYS.sealing, np.empty(0, np.int64)).shape == (0, 32)


@pytest.mark.parametrize("ids", [[0], [31], [40], [10**9], [-5]])
def test_an_assertion_that_is_not_there_is_refused(registry: Registry, ids: list[int]) -> None:
    with registry.writing() as connection:
        enroll(connection, list(range(30)))
        with pytest.raises(IntegrityError, match="lacks some assertions"):
            load(connection, pinning([(3, [4]), (9, ids)]))


def test_an_assertion_of_somebody_else_is_refused(registry: Registry) -> None:
    with registry.writing() as connection:
        enroll(connection, list(range(30)))
        with pytest.raises(IntegrityError, match="of another identifier"):
            load(connection, pinning([(3, [4]), (9, [11])]))


@pytest.mark.parametrize("far", [[], [(29, [30])]])
def test_an_assertion_of_two_rows_is_refused(registry: Registry, far: list[tuple[int, list[int]]]) -> None:
    with registry.writing() as connection:
        enroll(connection, list(range(30)))
        with pytest.raises(IntegrityError, match="for two identifiers"):
            load(connection, pinning([(3, [4]), (3, [4]), *far]))


@pytest.mark.parametrize("number", range(4))
def test_a_missing_chunk_of_assertions_is_refused(registry: Registry, number: int) -> None:
    with registry.writing() as connection:
        enroll(connection, list(range(28)))
        first = connection.execute(select(assertion_chunk.c.first)).scalars().all()[number]
        connection.execute(assertion_chunk.delete().where(assertion_chunk.c.first == first))
        with pytest.raises(IntegrityError, match="lacks some assertions"):
            load(connection, pinning([(person, [person + 1]) for person in range(28)]))


@pytest.mark.parametrize("number", range(4))
def test_a_missing_or_altered_chunk_of_digests_is_refused(registry: Registry, number: int) -> None:
    table = pinning([(person, [person + 1]) for person in range(20)])
    with registry.writing() as connection:
        enroll(connection, list(range(20)))
        first, sealed = connection.execute(select(digest_chunk.c.first, digest_chunk.c.sealed)).all()[number]
        here = digest_chunk.c.first == first
        spoiled = sealed[:-1] + bytes([sealed[-1] ^ 1])
        connection.execute(digest_chunk.update().where(here).values(sealed=spoiled))
        with pytest.raises(IntegrityError, match="does not open"):
            load(connection, table)
        connection.execute(digest_chunk.delete().where(here))
        with pytest.raises(IntegrityError, match="lacks the digests"):
            load(connection, table)
