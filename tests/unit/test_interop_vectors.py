"""The committed vectors of the project: unchanged, and right according to the slow implementation."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
import slow_poprf as slow
from vectors.make_interop import FILE, build, text

from purposematch.protocol.group import Group

KIND_BYTES = {"email": 1, "phone": 2, "maid": 3}


@pytest.fixture(scope="module")
def committed(vectors: Callable[[str], Any]) -> Any:
    return vectors(FILE.name)


def scalar(content: str) -> int:
    return int.from_bytes(bytes.fromhex(content), "little")


def test_the_committed_vectors_are_what_this_release_computes(group: Group) -> None:
    assert FILE.read_text() == text(build(group))


def test_outputs_tags_and_tokens_are_those_of_the_slow_implementation(committed: Any) -> None:
    cases = committed["poprf"]
    assert len({case["tag"] for case in cases}) == len(cases) == 16
    assert {case["kind"] for case in cases} == set(KIND_BYTES)
    for case in cases:
        scope, key = case["scope"], scalar(case["key"])
        fields = (scope[name].encode() for name in ("platform_id", "purpose", "profile"))
        info = b"purposematch scope v1" + b"".join(map(slow.prefixed, fields))
        info += scope["epoch"].to_bytes(8, "big")
        assert info.hex() == case["info"]
        content = bytes([KIND_BYTES[case["kind"]]]) + hashlib.sha256(case["canonical"].encode()).digest()
        assert content.hex() == case["private_input"]
        assert slow.encode(slow.multiply(key, slow.GENERATOR)).hex() == case["public_key"]
        output = slow.evaluate(key, info, content)
        assert output.hex() == case["output"]
        assert output[:16].hex() == case["tag"]
        assert output[16:48].hex() == case["token"]


def test_blinds_are_those_of_the_slow_implementation(committed: Any) -> None:
    seed = bytes.fromhex(committed["blinds"]["seed"])
    for case in committed["blinds"]["blinds"]:
        block = slow.chacha20_block(seed, case["number"], b"blinds v1\0\0\0")
        assert slow.scalar_bytes(int.from_bytes(block, "little")).hex() == case["blind"]


def test_the_exchange_is_that_of_the_slow_implementation(committed: Any) -> None:
    exchange = committed["exchange"]
    key, info = scalar(exchange["key"]), bytes.fromhex(exchange["info"])
    contents = [bytes.fromhex(content) for content in exchange["private_inputs"]]
    seed = bytes.fromhex(exchange["seed"])
    blinds = [
        int.from_bytes(slow.chacha20_block(seed, i, b"blinds v1\0\0\0"), "little") % slow.L
        for i in range(len(contents))
    ]
    blinded = [slow.blind(2, content, r) for content, r in zip(contents, blinds, strict=True)]
    assert [slow.encode(point).hex() for point in blinded] == exchange["blinded"]
    evaluated, proof = slow.blind_evaluate(key, info, blinded, scalar(exchange["nonce"]))
    assert [slow.encode(point).hex() for point in evaluated] == exchange["evaluated"]
    assert proof.hex() == exchange["proof"]
    tweaked = slow.multiply(key + slow.info_scalar(info), slow.GENERATOR)
    assert slow.encode(tweaked).hex() == exchange["tweaked_key"]
    slow.verify(2, tweaked, evaluated, blinded, proof)
    outputs = [
        slow.finalize(content, info, slow.unblind(r, point)).hex()
        for content, r, point in zip(contents, blinds, evaluated, strict=True)
    ]
    assert outputs == exchange["outputs"] == [case["output"] for case in committed["poprf"][:4]]


def test_canaries_follow_from_the_generation(committed: Any) -> None:
    generation = bytes.fromhex(committed["canaries"]["generation"])
    expected = [
        "ff" + hashlib.sha256(b"purposematch canary v1" + generation + bytes([0, number])).hexdigest()
        for number in range(64)
    ]
    assert committed["canaries"]["private_inputs"] == expected


def test_the_commit_is_an_hmac_over_the_transcript_hash(committed: Any) -> None:
    commit = committed["commit"]
    names = ("agreement", "session", "manifest", "client_certificate", "server_certificate")
    bound = b"".join(bytes.fromhex(commit["grant"][name]) for name in names)
    transcript = hashlib.sha256(b"purposematch transcript v1" + bound).digest()
    assert transcript.hex() == commit["transcript_hash"]
    assert commit["token"] == committed["poprf"][0]["token"]
    mac = hmac.new(bytes.fromhex(commit["token"]), transcript, hashlib.sha256).digest()
    assert mac[:16].hex() == commit["mac"]
