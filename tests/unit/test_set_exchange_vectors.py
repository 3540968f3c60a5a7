"""The committed vectors of the set exchange: unchanged, and right according to the slow implementation."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import slow_poprf
import slow_set_exchange as slow
from vectors.make_set_exchange import FILE, NAMES, build, text

from purposematch.protocol.group import Group

names = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def committed(vectors: Callable[[str], Any]) -> Any:
    return vectors(FILE.name)


def unhex(items: list[str]) -> list[bytes]:
    return [bytes.fromhex(item) for item in items]


def info(scope: dict[str, Any]) -> bytes:
    fields = (scope[name].encode() for name in ("platform_id", "purpose", "profile"))
    joined = b"".join(map(slow_poprf.prefixed, fields))
    return b"purposematch scope v1" + joined + scope["epoch"].to_bytes(8, "big")


def canaries(generation: str) -> list[bytes]:
    start = b"purposematch canary v1" + bytes.fromhex(generation)
    return [b"\xff" + hashlib.sha256(start + bytes([0, number])).digest() for number in range(64)]


def contents(case: Any) -> tuple[list[bytes], list[bytes]]:
    """The private inputs of a list, and what stands for each in its mask."""
    known = canaries(case["generation"])
    mask_inputs = unhex(case["mask_inputs"]) or [b""] * len(case["enrolled"])
    return unhex(case["enrolled"]) + known, mask_inputs + [canary[1:17] for canary in known]


def test_the_committed_vectors_are_what_this_release_computes(group: Group) -> None:
    assert FILE.read_text() == text(build(group))


@names
def test_secrets_and_points_are_those_of_the_slow_implementation(committed: Any, name: str) -> None:
    case = committed[name]
    secret = bytes.fromhex(case["epoch_secret"])
    if name == "platform":
        assert slow.expand(secret, "masks of platform", 32).hex() == case["mask_key"]
    else:
        assert slow_poprf.scalar_bytes(slow.list_exponent(secret, name)).hex() == case["exponent"]
    planted = [] if name == "platform" else slow.planted(secret, name)
    assert [slow_poprf.scalar_bytes(scalar).hex() for scalar in planted] == case["planted"]
    assert slow.point_list(secret, name, info(case["scope"]), *contents(case)) == unhex(case["points"])


@names
def test_the_exchange_is_that_of_the_slow_implementation(committed: Any, name: str) -> None:
    case = committed[name]
    exchange, secret = case["exchange"], bytes.fromhex(case["epoch_secret"])
    seed, points, listed = bytes.fromhex(exchange["seed"]), unhex(case["points"]), unhex(exchange["listed"])
    assert slow.secret_order(seed, "order of the list", len(listed)) == exchange["order_of_the_list"]
    a = slow.advertiser_exponent(seed)
    public = slow_poprf.encode(slow_poprf.multiply(a, slow_poprf.GENERATOR))
    assert public.hex() == exchange["exponent"]
    own = slow.own_elements(seed, name, info(case["scope"]), listed, canaries(case["generation"]))
    batch = exchange["max_batch_elements"]
    parts = [own[at : at + batch] for at in range(0, len(own), batch)]
    assert [[element.hex() for element in part] for part in parts] == exchange["own"]
    returned = slow.returned_points(seed, name, points)
    cuts = range(0, len(points), case["segment"])
    batches = [returned[at : at + case["segment"]] for at in cuts]
    assert [[element.hex() for element in part] for part in batches] == exchange["returned"]
    made = {
        slow.point(secret, name, info(case["scope"]), content, mask_input): mask_input
        for content, mask_input in zip(*contents(case), strict=True)
    }
    in_order = [made[each] for each in points] if name == "platform" else []
    met = slow.meet(secret, name, bytes.fromhex(exchange["exponent"]), own, returned, in_order)
    assert len(met) == exchange["matching"] + 64
    order = [] if name == "platform" else slow.secret_order(seed, "order of the points", len(points))
    assert order == exchange["order_of_the_points"]


def test_proofs_are_those_of_the_slow_implementation(committed: Any) -> None:
    case = committed["platform"]
    exchange, points = case["exchange"], unhex(case["points"])
    order = ("agreement", "session", "manifest", "client_certificate", "server_certificate")
    bound = b"".join(bytes.fromhex(exchange["grant"][field]) for field in order)
    transcript = hashlib.sha256(b"purposematch transcript v1" + bound).digest()
    assert transcript.hex() == exchange["transcript_hash"]
    seed, size = bytes.fromhex(exchange["seed"]), case["segment"]
    for number, elements in enumerate(exchange["returned"]):
        segment = points[number * size : (number + 1) * size]
        proof = slow.prove(transcript, seed, number, segment, unhex(elements))
        assert proof.hex() == exchange["proofs"][number]
    assert committed["count-2"]["exchange"]["proofs"] == []


@names
def test_messages_are_on_the_wire_as_the_proto_says(committed: Any, name: str) -> None:
    """Encoded here by hand: field number and wire type, length, content."""

    def field(number: int, content: bytes) -> bytes:
        length = len(content)
        varint = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
        return bytes([number << 3 | 2]) + varint + content

    exchange = committed[name]["exchange"]
    session = bytes.fromhex(exchange["grant"]["session"])
    own, returned = exchange["own"][0][:2], exchange["returned"][-1][:2]
    number = len(exchange["returned"]) - 1
    sent = field(1, session) + field(3, bytes.fromhex(exchange["exponent"])) + field(4, b"".join(unhex(own)))
    assert exchange["messages"]["SendElementsRequest"] == sent.hex()
    back = field(1, session) + (bytes([2 << 3, number]) if number else b"")
    back += field(3, b"".join(unhex(returned)))
    if exchange["proofs"]:
        back += field(4, bytes.fromhex(exchange["proofs"][-1]))
    assert exchange["messages"]["ReturnPointsRequest"] == back.hex()
