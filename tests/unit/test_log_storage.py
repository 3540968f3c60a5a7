"""The log in the registry: appending, proofs from tiles, openings and their erasure, salts of assertions."""

import secrets
import sqlite3

import numpy as np
import pytest
import slow_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from purposematch.protocol.errors import IntegrityError, NotFoundError, VerificationError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.log.checkpoint import Checkpoint
from purposematch.protocol.log.events import Event, EventKind
from purposematch.protocol.log.proofs import verify_consistency, verify_inclusion
from purposematch.protocol.log.tree import EMPTY_ROOT
from purposematch.protocol.signing import IdentitySeed, identity_public_key
from purposematch.server.keys import RootKey, derive_keys
from purposematch.server.registry import log, open_registry
from purposematch.server.registry.assertion_salts import (
    erase_salts,
    load_salts,
    store_salts,
)
from purposematch.server.registry.erasures import add_erased, erased_commitments
from purposematch.server.registry.schema import (
    CHUNK_ASSERTIONS,
    assertion_salt,
    erased_assertion,
    log_leaf,
    log_tile,
)

KEYS = derive_keys(RootKey(b"r" * 32))
PLATFORM = "birdsite"


def opened(folder):
    return open_registry(folder / "registry.sqlite", KEYS.identifier, KEYS.sealing, Profile.PLAIN)


@pytest.fixture
def registry(tmp_path):
    made = opened(tmp_path)
    yield made
    made.close()


def events_of(count: int, start: int = 0) -> list[Event]:
    return [
        Event(EventKind.SESSION, 10 + number, {"number": number}) for number in range(start, start + count)
    ]


def append(registry, count: int, start: int = 0) -> range:
    with registry.writing() as connection:
        return log.append(connection, events_of(count, start), secrets.token_bytes)


def commitments(connection) -> list[bytes]:
    """The data of all leaves."""
    return [leaf.opening.commitment() for leaf in log.leaves(connection)]


def test_an_empty_log_has_a_root_and_no_leaf(registry) -> None:
    assert append(registry, 0) == range(0, 0)
    with registry.reading() as connection:
        assert log.size(connection) == 0
        assert log.root(connection) == EMPTY_ROOT
        assert log.checkpoint(connection, PLATFORM) == Checkpoint("birdsite/purposematch-log", 0, EMPTY_ROOT)
        assert log.consistency_proof(connection, 0, 0) == ()
        assert list(log.leaves(connection)) == []
        with pytest.raises(NotFoundError):
            log.inclusion_proof(connection, 0, 0)


def test_positions_follow_one_another_also_after_opening_again(tmp_path) -> None:
    registry = opened(tmp_path)
    assert append(registry, 3) == range(3)
    registry.close()
    registry = opened(tmp_path)
    assert append(registry, 2, 3) == range(3, 5)
    with registry.reading() as connection:
        stored = list(log.leaves(connection))
        assert [leaf.event() for leaf in stored] == events_of(5)
        assert [leaf.index for leaf in stored] == [*range(5)]
        assert {leaf.kind for leaf in stored} == {"session"}
        assert [leaf.at for leaf in stored] == [10, 11, 12, 13, 14]
        assert log.root(connection) == slow_tree.root(commitments(connection))
        assert len({leaf.opening.salt for leaf in stored}) == 5
        assert [leaf.index for leaf in log.leaves(connection, 1, 3)] == [1, 2]
    registry.close()


def test_a_transaction_that_fails_appends_nothing(registry) -> None:
    append(registry, 300)

    def fail() -> None:
        with registry.writing() as connection:
            log.append(connection, events_of(300, 300), secrets.token_bytes)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert append(registry, 1, 300) == range(300, 301)
    with registry.reading() as connection:
        assert log.root(connection) == slow_tree.root(commitments(connection))


@settings(max_examples=25)
@given(steps=st.lists(st.integers(0, 300), min_size=1, max_size=5), data=st.data())
def test_proofs_are_those_of_the_rfc_and_verify(tmp_path_factory, steps, data) -> None:
    registry = opened(tmp_path_factory.mktemp("log"))
    for step in steps:
        append(registry, step, 0)
    with registry.reading() as connection:
        every = commitments(connection)
        now = log.size(connection)
        assert now == len(every) == sum(steps)
        assert log.root(connection) == slow_tree.root(every)
        if now:
            new = data.draw(st.integers(1, now))
            index = data.draw(st.integers(0, new - 1))
            root = log.root(connection, new)
            path = log.inclusion_proof(connection, index, new)
            assert list(path) == slow_tree.path(index, every[:new])
            leaf = next(log.leaves(connection, index))
            assert log.leaf_index(connection, leaf.hash) == index
            verify_inclusion(leaf.hash, index, new, path, root)
            proof = log.consistency_proof(connection, index, new)
            verify_consistency(index, log.root(connection, index), new, root, proof)
            if index:
                assert list(proof) == slow_tree.proof(index, every[:new])
    registry.close()


def test_what_the_log_does_not_have_is_refused_by_name(registry) -> None:
    append(registry, 5)
    with registry.reading() as connection:
        for index, size in ((5, 5), (0, 6), (-1, 5), (0, -1), (0, 0)):
            with pytest.raises(NotFoundError):
                log.inclusion_proof(connection, index, size)
        for old, new in ((4, 3), (0, 6), (-1, 5)):
            with pytest.raises(NotFoundError):
                log.consistency_proof(connection, old, new)
        with pytest.raises(NotFoundError):
            log.leaf_index(connection, bytes(32))
        with pytest.raises(NotFoundError):
            log.root(connection, 6)


def test_a_checkpoint_is_signed_and_extended(registry) -> None:
    seed = IdentitySeed(b"s" * 32)
    append(registry, 7)
    with registry.reading() as connection:
        note = log.checkpoint(connection, PLATFORM).sign(seed)
    last = Checkpoint.open(note, "birdsite/purposematch-log", identity_public_key(seed))
    append(registry, 300, 7)
    with registry.reading() as connection:
        now = log.checkpoint(connection, PLATFORM)
        log.check_extends(connection, last)
        log.check_extends(connection, now)
        proof = log.consistency_proof(connection, last.size, now.size)
        verify_consistency(last.size, last.root, now.size, now.root, proof)
        for other in (
            Checkpoint(last.origin, 7, bytes(32)),
            Checkpoint(last.origin, 308, now.root),
            Checkpoint(last.origin, 0, bytes(32)),
        ):
            with pytest.raises(IntegrityError):
                log.check_extends(connection, other)


def erase_openings(connection, *indexes: int) -> None:
    here = log_leaf.c.index.in_(indexes)
    assert connection.execute(update(log_leaf).where(here).values(salt=None, content=None)).rowcount


def test_leaves_without_openings_leave_the_tree_as_it_is(registry) -> None:
    append(registry, 600)
    with registry.reading() as connection:
        root, leaf = log.root(connection), next(log.leaves(connection, 5))
    with registry.writing() as connection:
        erase_openings(connection, 5, 599)
    with registry.reading() as connection:
        stored = list(log.leaves(connection))
        assert [one.index for one in stored if one.opening is None] == [5, 599]
        assert stored[5].hash == leaf.hash
        assert log.root(connection) == root
        verify_inclusion(leaf.hash, 5, 600, log.inclusion_proof(connection, 5, 600), root)
        with pytest.raises(NotFoundError):
            stored[5].event()
        assert stored[6].event() == events_of(1, 6)[0]


def test_an_erased_opening_is_not_in_the_file_any_more(tmp_path) -> None:
    registry = opened(tmp_path)
    secret = "a-word-that-is-nowhere-else"
    with registry.writing() as connection:
        event = Event(EventKind.OPERATOR_QUERY, 1, {"words": [secret] * 40})
        log.append(connection, [event], secrets.token_bytes)
        log.append(connection, events_of(3), secrets.token_bytes)
    with registry.writing() as connection:
        erase_openings(connection, 0)
    registry.close()
    with sqlite3.connect(tmp_path / "registry.sqlite") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_altered_openings_are_noticed(registry) -> None:
    changes = (
        *({"content": b"{}"}, {"salt": bytes(16)}, {"salt": bytes(15)}, {"salt": None}, {"content": None}),
        *({"kind": "commit"}, {"at": 9}, {"hash": bytes(32)}),
    )
    append(registry, len(changes))
    for index, change in enumerate(changes):
        with registry.writing() as connection:
            connection.execute(update(log_leaf).where(log_leaf.c.index == index).values(**change))
        with registry.reading() as connection, pytest.raises(IntegrityError, match=f"leaf {index} "):
            next(log.leaves(connection, index)).event()


def test_altered_tiles_are_noticed(registry) -> None:
    append(registry, 600)
    with registry.reading() as connection:
        root, leaf = log.root(connection), next(log.leaves(connection, 3))
        content = connection.scalar(select(log_tile.c.hashes).where(log_tile.c.level == 0))
    first = (log_tile.c.level == 0) & (log_tile.c.index == 0)
    with registry.writing() as connection:
        changed = bytearray(content)
        changed[32 * 7] ^= 1
        connection.execute(update(log_tile).where(first).values(hashes=bytes(changed)))
    with registry.reading() as connection:
        proof = log.inclusion_proof(connection, 3, 600)
        with pytest.raises(VerificationError):
            verify_inclusion(leaf.hash, 3, 600, proof, root)
    with registry.writing() as connection:
        connection.execute(delete(log_tile).where(first))
    with registry.reading() as connection, pytest.raises(IntegrityError):
        log.inclusion_proof(connection, 3, 600)
    with registry.writing() as connection:
        connection.execute(delete(log_leaf).where(log_leaf.c.index == 599))
    with pytest.raises(IntegrityError):
        append(registry, 1)


def test_salts_of_assertions_are_kept_in_chunks_and_erased_one_by_one(registry) -> None:
    count = CHUNK_ASSERTIONS + 10
    salts = np.random.default_rng(6).integers(1, 256, size=(count, 16), dtype=np.uint8)
    kept = np.random.default_rng(7).integers(256, size=(3, 32), dtype=np.uint8)
    with registry.writing() as connection:
        store_salts(connection, 1, salts[:4])
        store_salts(connection, 5, salts[4:])
    with registry.reading() as connection:
        assert (load_salts(connection, 1, count) == salts).all()
        assert (load_salts(connection, 3, 4) == salts[2:6]).all()
        assert (load_salts(connection, count, 1) == salts[-1:]).all()
        assert load_salts(connection, 1, 0).shape == (0, 16)
        for first, wanted in ((0, 2), (1, count + 1), (count + 1, 1)):
            with pytest.raises(IntegrityError):
                load_salts(connection, first, wanted)
    erased = [count, 2, 7]
    with registry.writing() as connection:
        erase_salts(connection, np.array(erased))
        erase_salts(connection, np.zeros(0, np.int64))
        add_erased(connection, erased_assertion, 1, np.array(erased), kept)
        add_erased(connection, erased_assertion, 2, np.zeros(0, np.int64), kept[:0])
    with registry.reading() as connection:
        found = load_salts(connection, 1, count)
        zero = (found == 0).all(axis=1)
        assert np.flatnonzero(zero).tolist() == [1, 6, count - 1]
        assert (found[~zero] == salts[~zero]).all()
        places, commitments = erased_commitments(connection, erased_assertion, 1, count)
        assert places.tolist() == [1, 6, count - 1]
        assert (commitments == kept[[1, 2, 0]]).all()
        places, commitments = erased_commitments(connection, erased_assertion, 3, 4)
        assert (places.tolist(), commitments.shape) == ([], (0, 32))
    for wrong in ([2], [count + 1], [1, count + 1]):
        with pytest.raises(IntegrityError), registry.writing() as connection:
            erase_salts(connection, np.array(wrong))


def test_a_cut_chunk_of_salts_is_noticed(registry) -> None:
    with registry.writing() as connection:
        store_salts(connection, 1, np.ones((4, 16), np.uint8))
        connection.execute(update(assertion_salt).values(salts=bytes(60)))
    with registry.reading() as connection, pytest.raises(IntegrityError):
        load_salts(connection, 1, 4)
