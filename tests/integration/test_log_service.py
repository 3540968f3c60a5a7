"""The log over the wire: a client verifies what the real server says of its log, and who may ask."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from platforms import PLATFORM_ID, LivePlatform
from raw_client import RawClient, connected, fails, issued, load

from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import Event, EventKind
from purposematch.protocol.log.proofs import decode_proof, verify_consistency, verify_inclusion
from purposematch.server.pki import Role
from purposematch.server.registry import log
from purposematch.v1 import log_pb2 as pb

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
CALLS = (
    ("GetCheckpoint", pb.GetCheckpointRequest()),
    ("GetInclusionProof", pb.GetInclusionProofRequest(index=0, tree_size=1)),
    ("GetConsistencyProof", pb.GetConsistencyProofRequest(old_size=0, new_size=1)),
)


@pytest.fixture(scope="module")
def client(plain: LivePlatform, acme: Path) -> Iterator[RawClient]:
    append(plain, 1)
    with connected(plain.address, load(acme)) as connection:
        yield connection


def append(plain: LivePlatform, count: int) -> list[bytes]:
    """Appends events as another process of the platform does; the hashes of their leaves."""
    events = [Event(EventKind.OPERATOR_QUERY, number, {"number": number}) for number in range(count)]
    with plain.opened() as platform, platform.registry.writing() as connection:
        places = log.append(connection, events, secrets.token_bytes)
        return [leaf.hash for leaf in log.leaves(connection, places.start)]


def checkpoint(client: RawClient) -> Checkpoint:
    note = client.log.GetCheckpoint(pb.GetCheckpointRequest()).checkpoint
    return Checkpoint.open(note, log_origin(PLATFORM_ID), client.credentials.pin.identity_key)


def test_a_client_follows_the_log(plain: LivePlatform, client: RawClient) -> None:
    before = checkpoint(client)
    hashes = append(plain, 300)
    now = checkpoint(client)
    assert now.size == before.size + 300
    request = pb.GetConsistencyProofRequest(old_size=before.size, new_size=now.size)
    proof = decode_proof(client.log.GetConsistencyProof(request).hashes)
    verify_consistency(before.size, before.root, now.size, now.root, proof)
    for number in (0, 150, 299):
        index = before.size + number
        requests = (
            pb.GetInclusionProofRequest(index=index, tree_size=now.size),
            pb.GetInclusionProofRequest(leaf_hash=hashes[number], tree_size=now.size),
        )
        for one in requests:
            answer = client.log.GetInclusionProof(one)
            assert answer.index == index
            verify_inclusion(hashes[number], index, now.size, decode_proof(answer.hashes), now.root)


def test_what_is_not_in_the_log_is_not_found(client: RawClient) -> None:
    size = checkpoint(client).size
    last = client.log.GetInclusionProof(pb.GetInclusionProofRequest(index=size - 1, tree_size=size))
    assert last.index == size - 1
    for one, code in (
        (pb.GetInclusionProofRequest(index=size, tree_size=size), NOT_FOUND),
        (pb.GetInclusionProofRequest(index=0, tree_size=size + 1), NOT_FOUND),
        (pb.GetInclusionProofRequest(index=0), NOT_FOUND),
        (pb.GetInclusionProofRequest(index=2**64 - 1, tree_size=size), NOT_FOUND),
        (pb.GetInclusionProofRequest(index=0, tree_size=2**64 - 1), NOT_FOUND),
        (pb.GetInclusionProofRequest(leaf_hash=bytes(32), tree_size=size), NOT_FOUND),
        (pb.GetInclusionProofRequest(leaf_hash=bytes(31), tree_size=size), INVALID),
        (pb.GetInclusionProofRequest(tree_size=size), INVALID),
    ):
        with fails(code):
            client.log.GetInclusionProof(one)
    for old, new in ((2, 1), (0, size + 1), (size + 1, size + 1), (2**64 - 1, 2**64 - 1), (2**63, 1)):
        with fails(NOT_FOUND):
            client.log.GetConsistencyProof(pb.GetConsistencyProofRequest(old_size=old, new_size=new))


@pytest.mark.parametrize("role", list(Role))
def test_everybody_whom_the_platform_certified_may_ask(
    plain: LivePlatform, acme: Path, client: RawClient, role: Role
) -> None:
    with connected(plain.address, load(acme), issued(plain, role, "somebody")) as other:
        for name, request in CALLS:
            getattr(other.log, name)(request)
        assert checkpoint(other) == checkpoint(client)


def test_nobody_else_may(plain: LivePlatform, acme: Path, client: RawClient) -> None:
    shown = issued(plain, Role.AUDITOR, "somebody", platform_id="otherbirds")
    with connected(plain.address, load(acme), shown) as other:
        for name, request in CALLS:
            with fails(grpc.StatusCode.UNAUTHENTICATED):
                getattr(other.log, name)(request)
