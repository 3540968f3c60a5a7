"""What an advertiser sees of a set exchange can be made up from the sizes and the noisy count alone.

A simulator writes the platform's messages without knowing anybody's identifiers: ids, keys and signatures are
random, points are random elements in ascending order. A real transcript has the same messages in the same
order, of the same shapes, whether everybody on the list matches or nobody does.
"""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from platforms import LivePlatform, grants
from raw_client import GROUP, connected, email_inputs, load
from raw_set_client import RawSetSession, set_stub

from purposematch.protocol.agreement import Agreement
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.group import Bytes
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.protocol.point_segments import PLANTED_COUNT, PointSegment, cut_points
from purposematch.protocol.set_exchange.points import order_of_encodings

ENROLLED = 1_300
LISTED = 1_000
BATCH = 400
DISCLOSURES = ("platform", "count")
SEGMENT_PART = 1_048_576

Shape = Any
"""A message without its random values: bytes as their length, documents by the fields that are public."""

PUBLIC = {
    *("list_size", "max_batch_elements", "window", "agreement", "count", "scope", "version", "disclosure"),
    *("unit", "value", "epsilon", "scale", "sensitivity", "legal_entity", "policy", "taxonomy"),
}
"""Fields whose values the simulator is given: sizes, what was agreed on, and the noisy count."""


@pytest.fixture(scope="module")
def inn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(tmp_path_factory.mktemp("inn"), max_batch_elements=BATCH)
    platform.enroll(grants(ENROLLED))
    for name in DISCLOSURES:
        platform.admit(name, name)
    platform.publish()
    with platform.serving():
        yield platform


def _document(content: bytes) -> Shape:
    fields = json.loads(content)
    shown = {}
    for name, value in fields.items():
        if name in PUBLIC:
            shown[name] = value
        elif name == "point_lists":
            shown[name] = {each: [s["count"] for s in segments] for each, segments in value.items()}
        elif name in ("segments", "additions"):
            shown[name] = sum(segment["count"] for segment in value)
        else:
            shown[name] = len(value) if isinstance(value, str) else type(value).__name__
    return shown


def _shape(call: str, message: Any) -> Shape:
    """A message of the platform without its random values."""
    shapes: dict[str, Shape] = {"call": call}
    for field, value in message.ListFields():
        if field.name in ("grant", "manifest", "report"):
            shapes[field.name] = (_document(value.content), len(value.signature))
        elif field.name == "proof":
            # It is of the log, which grows by every session of everybody.
            shapes[field.name] = "proof"
        else:
            shapes[field.name] = len(value) if isinstance(value, bytes) else value
    return shapes


def _simulated(
    agreement: Agreement, given: dict[str, Any], sizes: dict[str, int], value: int
) -> Iterator[Shape]:
    """The platform's messages, from sizes, public terms and the noisy count; and not from anybody's list.

    Args:
        agreement: both sides have it.
        given: the public fields of the manifest that do not depend on anybody: scope, policy, taxonomy.
        sizes: of the list, of everything enrolled, and of each list of points.
        value: what the noisy report says.
    """
    points = {name: _random_points(count) for name, count in sizes.items() if name not in ("own", "enrolled")}
    cut = {name: cut_points(rows, BATCH) for name, rows in points.items()}
    grant = {
        "session": secrets.token_hex(16),
        "agreement": agreement.digest.hex(),
        "manifest": secrets.token_hex(32),
        "client_certificate": secrets.token_hex(32),
        "server_certificate": secrets.token_hex(32),
        "list_size": sizes["own"],
        "max_batch_elements": BATCH,
        "window": 8,
    }
    manifest = given | {
        "version": 2,
        "generation": secrets.token_hex(16),
        "public_key": secrets.token_hex(32),
        "count": sizes["enrolled"],
        "watermark": secrets.token_hex(32),
        "published_at": 1,
        "valid_until": 2,
        "segments": [{"count": sizes["enrolled"] + CANARY_COUNT}],
        "additions": [],
        "point_lists": {
            name: [PointSegment.of(part).to_mapping() for part in parts] for name, parts in cut.items()
        },
    }
    signature = len(secrets.token_bytes(64))
    shown = {"grant": grant, "manifest": manifest}
    opened = {name: (_document(json.dumps(each).encode()), signature) for name, each in shown.items()}
    yield {"call": "OpenSession", **opened, "proof": "proof"}
    for number in range(-(-(sizes["own"] + CANARY_COUNT) // BATCH)):
        yield _answer("SendElements", number)
    mine = cut["platform" if agreement.disclosure == "platform" else "count-2"]
    for part in mine:
        for start in range(0, part.nbytes, SEGMENT_PART):
            yield {"call": "FetchSegment", "content": min(SEGMENT_PART, part.nbytes - start)}
    for number in range(len(mine)):
        yield _answer("ReturnPoints", number)
    report = NoisyReport(
        session=secrets.token_bytes(16),
        agreement=agreement.digest,
        legal_entity=agreement.legal_entity,
        label=secrets.token_bytes(32),
        generation=secrets.token_bytes(16),
        policy=bytes.fromhex(given["policy"]),
        disclosure=agreement.disclosure,
        sensitivity=agreement.sensitivity,
        epsilon=agreement.release_epsilon or 0,
        list_size=sizes["own"],
        value=value,
        released_at=3,
    )
    fields = {name: getattr(report, name) for name in _REPORT}
    content = {name: each.hex() if isinstance(each, bytes) else each for name, each in fields.items()}
    yield {
        "call": "FinishExchange",
        "report": (_document(json.dumps(content).encode()), signature),
    }
    yield {"call": "CloseSession", "proof": "proof"}


_REPORT = (
    *("agreement", "disclosure", "epsilon", "generation", "label", "legal_entity", "list_size", "policy"),
    *("released_at", "scale", "sensitivity", "session", "unit", "value"),
)


def _answer(call: str, number: int) -> Shape:
    # A field of zero is not on the wire.
    return {"call": call} | ({"batch_number": number} if number else {})


def _random_points(count: int) -> Bytes:
    wide = np.frombuffer(secrets.token_bytes(64 * count), np.uint8).reshape(-1, 64)
    points = GROUP.encode(GROUP.map_to_group(wide))
    return points[order_of_encodings(points)]


@pytest.mark.parametrize("disclosure", DISCLOSURES)
@pytest.mark.parametrize("matching", [LISTED, 0, 400])
def test_the_view_of_an_advertiser_is_that_of_a_simulator(
    inn: LivePlatform, disclosure: str, matching: int
) -> None:
    emails = [f"user{i}@example.com" for i in range(matching)]
    emails += [f"stranger{i}@example.com" for i in range(LISTED - matching)]
    credentials = load(inn.folder / f"credentials-{disclosure}")
    with connected(inn.address, credentials) as client, set_stub(inn.address, credentials) as stub:
        session = RawSetSession(client, stub, email_inputs(emails))
        report = session.run()
    manifest = json.loads(session.answer.manifest.content)
    sizes = {
        "own": LISTED,
        "enrolled": ENROLLED,
        "platform": ENROLLED + CANARY_COUNT,
        "count-2": ENROLLED + CANARY_COUNT + PLANTED_COUNT,
    }
    given = {name: manifest[name] for name in ("scope", "policy", "taxonomy")}
    real = [_shape(call, message) for call, message in session.heard]
    assert real == list(_simulated(credentials.agreement, given, sizes, report.value))
    # The points themselves: elements in ascending order, each once, none of them this side's own.
    content = b"".join(message.content for call, message in session.heard if call == "FetchSegment")
    points = np.frombuffer(content, np.uint8).reshape(-1, 32)
    GROUP.decode(points)
    assert np.array_equal(order_of_encodings(points), np.arange(len(points)))
    rows = {row.tobytes() for row in points}
    assert len(rows) == len(points)
    assert not rows & {row.tobytes() for batch in session.own() for row in batch.elements}
