"""A receipt's position opens: from a checkpoint to the delivery's leaf, and from there to one statement."""

import json
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platforms import LivePlatform, assertion, grants, write_csv

from purposematch.protocol.errors import VerificationError
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import Event, EventKind
from purposematch.protocol.log.proofs import in_memory, inclusion_proof, verify_inclusion
from purposematch.protocol.log.tree import leaf_hash, leaf_hashes
from purposematch.protocol.purpose import Origin, Reason, Status
from purposematch.server.platform import Platform
from purposematch.server.registry import log
from purposematch.server.registry.assertion_salts import load_salts
from purposematch.server.registry.chunks import load_chunks

NO_TIME = -(2**63)
STATUSES = {"withdraw": Status.WITHDRAWN, "object": Status.OBJECTED}


@pytest.fixture
def village(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path / "village")
    platform.enroll([*grants(5), assertion("s0", "phone", "+15550100001")])
    platform.publish()
    return platform


def _row(platform: Platform, number: int, subject: str, status: Status) -> bytes:
    """What the assertion's leaf holds if it says that, as docs/log.md writes it."""
    with platform.registry.reading() as connection:
        _, said = load_chunks(connection, np.array([number]))
    (stored,) = said.to_pylist()
    terms = {"origin": int(Origin.PROFILE), "purposes": [], "source": "default", "status": int(status)}
    written = json.dumps(terms, separators=(",", ":"), sort_keys=True).encode()
    return (
        struct.pack(">qBBBBqq", number, stored["kind"], 0, stored["reason"], 0, NO_TIME, NO_TIME)
        + (stored["identifier"] or bytes(16))
        + (sha256(subject.encode()).digest() if subject else bytes(32))
        + bytes(32)
        + sha256(b"purposematch log terms v1" + written).digest()
        + bytes(32)
        + (sha256(b"".join(stored["others"])).digest() if stored["others"] else bytes(32))
        + bytes(32)
    )


def _check(platform: Platform, receipt: dict[str, Any], one: dict[str, int], row: bytes) -> Event:
    """Goes from the receipt's checkpoint to `row`; what the delivery's leaf says."""
    origin = log_origin(platform.config.platform_id)
    checkpoint = Checkpoint.open(receipt["checkpoint"].encode(), origin, platform.identity_key)
    index, first, count = one["log_leaf"], receipt["first_assertion"], receipt["assertions"]
    with platform.registry.reading() as connection:
        for size, root in (
            (checkpoint.size, checkpoint.root),
            (receipt["log_size"], bytes.fromhex(receipt["log_root"])),
        ):
            proof = log.inclusion_proof(connection, index, size)
            (leaf,) = log.leaves(connection, index, index + 1)
            verify_inclusion(leaf.hash, index, size, proof, root)
        event = leaf.event()
        salts = [salt.tobytes() for salt in load_salts(connection, first, count)]
        names = [each["subject"] or "" for each in _said(connection, first, count)]
    status = next(each for each in Status if each.label == receipt["status"])
    commitments = [
        sha256(
            b"purposematch log assertion v1" + salts[at] + _row(platform, first + at, name, status)
        ).digest()
        for at, name in enumerate(names)
    ]
    tree = np.frombuffer(b"".join(commitments), np.uint8).reshape(-1, 32)
    place = one["position"]
    path = inclusion_proof(in_memory(leaf_hashes(tree)), place, count)
    mine = sha256(b"purposematch log assertion v1" + salts[place] + row).digest()
    verify_inclusion(leaf_hash(mine), place, count, path, bytes.fromhex(str(event.fields["root"])))
    return event


def _said(connection: Any, first: int, count: int) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = load_chunks(connection, np.arange(first, first + count))[1].to_pylist()
    return said


@pytest.mark.parametrize("command", STATUSES)
def test_a_receipt_opens_to_its_withdrawal_and_to_nothing_else(village: LivePlatform, command: str) -> None:
    receipt = village.operate(command, "--subject-id", "s0")
    # Whatever comes later, the position holds.
    village.enroll(grants(3, first=50))
    village.publish()
    (one,) = receipt["receipts"]
    status = STATUSES[command]
    with village.opened() as platform:
        number = one["assertion"]
        event = _check(platform, receipt, one, _row(platform, number, "s0", status))
        assert event.kind is EventKind.DELIVERY
        assert event.fields["statuses"] == {status.label: 1}
        assert event.fields["leaf"] == one["log_leaf"]
        for other in (
            _row(platform, number, "s1", status),
            _row(platform, number, "s0", Status.GRANTED),
            _row(platform, number, "s0", status)[:-1] + b"\1",
        ):
            with pytest.raises(VerificationError):
                _check(platform, receipt, one, other)


def test_every_row_of_a_file_has_a_receipt_of_its_own(village: LivePlatform, tmp_path: Path) -> None:
    people = ["s0", "s3", "nobody", "s1"]
    file = write_csv(tmp_path / "people.csv", [{"subject_id": each} for each in people])
    receipt = village.operate("withdraw", file)
    assert [each["position"] for each in receipt["receipts"]] == [0, 1, 2, 3]
    assert len({each["log_leaf"] for each in receipt["receipts"]}) == 1
    with village.opened() as platform:
        for one, subject in zip(receipt["receipts"], people, strict=True):
            row = _row(platform, one["assertion"], subject, Status.WITHDRAWN)
            _check(platform, receipt, one, row)
            moved = one | {"position": (one["position"] + 1) % 4}
            with pytest.raises(VerificationError):
                _check(platform, receipt, moved, row)
    assert Reason.WITHDRAWN.name in str(village.operate("subject", "--subject-id", "s3"))


def test_subject_finds_the_receipts_again(village: LivePlatform, tmp_path: Path) -> None:
    village.operate("withdraw", "--subject-id", "s2")
    file = write_csv(tmp_path / "people.csv", [{"subject_id": "s1"}, {"subject_id": "s0"}])
    by_file = village.operate("withdraw", file)
    village.publish()
    by_identifier = village.operate("object", "--identifier", "user0@example.com")
    ((about,),) = (village.operate("subject", "--subject-id", "s0")["subjects"],)
    assert about["receipts"] == [
        {
            **{name: receipt[name] for name in ("delivery", "log_leaf", "log_size", "log_root")},
            "assertion": receipt["first_assertion"] + position,
            "position": position,
        }
        for receipt, position in ((by_file, 1), (by_identifier, 0))
    ]
    assert [each["assertion"] for each in about["receipts"]] == about["withdrawals"]
