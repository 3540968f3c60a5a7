"""The log: batches of assertions, roots, appending, and proofs from a log of ten million leaves."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from purposematch.protocol.assertions import NO_TIME
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.log.batch import AssertionColumns, batch_root, commit_rows, fresh_salts
from purposematch.protocol.log.events import Event, EventKind
from purposematch.protocol.log.proofs import verify_consistency, verify_inclusion
from purposematch.protocol.log.tree import tree_root
from purposematch.server.keys import RootKey, derive_keys
from purposematch.server.registry import Registry, log, open_registry
from purposematch.server.registry.schema import log_leaf

LARGEST_LOG = 10_000_000
"""Leaves of the log that proofs are measured on; a thousand where nothing is measured."""
PROOFS = 100
"""Proofs of one round."""
APPENDED = 100
"""Leaves appended in one round, each by itself."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: Any, pytestconfig: Any) -> Iterator[tuple[Registry, np.ndarray]]:
    """A registry with a log of random leaf hashes, and these."""
    option = pytestconfig.getoption
    measured = option("benchmark_enable") or not option("benchmark_disable")
    hashes = np.random.default_rng(7).integers(
        256, size=(LARGEST_LOG if measured else 1_000, 32), dtype=np.uint8
    )
    keys = derive_keys(RootKey(bytes(32)))
    path = tmp_path_factory.mktemp("log") / "registry.sqlite"
    registry = open_registry(path, keys.identifier, keys.sealing, Profile.PLAIN)
    with registry.writing() as connection:
        log.append_hashes(connection, 0, hashes)
        # The log counts its leaves by the last one.
        row = {"index": len(hashes) - 1, "kind": "session", "at": 0, "hash": hashes[-1].tobytes()}
        connection.execute(log_leaf.insert(), row)
    yield registry, hashes
    registry.close()


def test_commitments(measure: Any, size: int) -> None:
    columns, salts = _columns(size), fresh_salts(size, np.random.default_rng(1).bytes)
    assert measure("log: commitments of assertions", commit_rows, columns, salts).shape == (size, 32)


def test_root_of_a_batch(measure: Any, size: int) -> None:
    commitments = np.random.default_rng(2).integers(256, size=(size, 32), dtype=np.uint8)
    assert len(measure("log: root of a batch", batch_root, commitments)) == 32


def test_inclusion_proofs(benchmark: Any, large: tuple[Registry, np.ndarray]) -> None:
    registry, hashes = large
    count, root = len(hashes), tree_root(hashes)
    indexes = np.random.default_rng(3).integers(count, size=PROOFS).tolist()
    with registry.reading() as connection:
        proofs = benchmark.pedantic(
            lambda: [log.inclusion_proof(connection, index, count) for index in indexes], rounds=3
        )
    benchmark.extra_info.update(single=f"inclusion proof, {count:,} leaves", count=PROOFS)
    for index, proof in zip(indexes, proofs, strict=True):
        verify_inclusion(hashes[index].tobytes(), index, count, proof, root)


def test_consistency_proofs(benchmark: Any, large: tuple[Registry, np.ndarray]) -> None:
    registry, hashes = large
    count, root = len(hashes), tree_root(hashes)
    sizes = np.random.default_rng(4).integers(1, count, size=PROOFS).tolist()
    with registry.reading() as connection:
        proofs = benchmark.pedantic(
            lambda: [log.consistency_proof(connection, old, count) for old in sizes], rounds=3
        )
        benchmark.extra_info.update(single=f"consistency proof, {count:,} leaves", count=PROOFS)
        for old, proof in list(zip(sizes, proofs, strict=True))[:10]:
            verify_consistency(old, log.root(connection, old), count, root, proof)


def test_append(benchmark: Any, large: tuple[Registry, np.ndarray]) -> None:
    registry, hashes = large
    random_bytes = np.random.default_rng(5).bytes
    event = Event(EventKind.SESSION, 0, {"session": "ab" * 16, "generation": "cd" * 16})

    def append(connection: Any) -> None:
        for _ in range(APPENDED):
            log.append(connection, [event], random_bytes)

    with registry.writing() as connection:
        benchmark.pedantic(append, (connection,), rounds=3)
        benchmark.extra_info.update(single=f"append a leaf to {len(hashes):,}", count=APPENDED)
        assert log.size(connection) > len(hashes)


def _columns(size: int) -> AssertionColumns:
    random = np.random.default_rng(6)
    digests = random.integers(256, size=(size, 32), dtype=np.uint8)
    identifiers = pa.py_buffer(np.ascontiguousarray(digests[:, :16]))
    small, time = np.zeros(size, np.uint8), np.full(size, NO_TIME, np.int64)
    return AssertionColumns(
        id=np.arange(size),
        subject=pa.array([f"subject-{number}" for number in range(size)]),
        identifier=pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), size, [None, identifiers]),
        kind=small,
        terms=digests,
        notice=pa.array([None if number % 9 else "signup-v3" for number in range(size)], pa.string()),
        not_before=time,
        expires_at=time,
        flaw=small,
        reason=small,
        evidence=small,
        issuer=digests,
        spellings=pa.ListArray.from_arrays(np.zeros(size + 1, np.int32), pa.array([], pa.binary(16))),
        proof=digests,
    )
