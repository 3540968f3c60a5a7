"""Makes set-exchange-v1.json, the vectors of the commutative set exchange.

Run in the folder `tests`::

    python -m vectors.make_set_exchange

Everything is computed with the package; tests/unit/test_set_exchange_vectors.py computes all of it again with
the slow implementation (tests/slow_set_exchange.py) and fails when the committed file differs.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from purposematch.client.wire import own_request, returned_request
from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.group import Bytes, Group, SodiumGroup
from purposematch.protocol.identifiers import Kind, Profile, private_inputs
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.point_segments import PointSegment, cut_points
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.scope import Scope
from purposematch.protocol.secret import reveal, reveal_array
from purposematch.protocol.set_exchange.advertiser import AdvertiserExchange, secret_order
from purposematch.protocol.set_exchange.points import (
    MASK_INPUT_LENGTH,
    EpochSecret,
    canary_mask_inputs,
    list_points,
    list_secret,
    order_of_encodings,
    planted_points,
    planted_scalars,
)
from purposematch.protocol.transcript import transcript_hash

FILE = Path(__file__).with_name("set-exchange-v1.json")

ABOUT = {
    "what": "Vectors of the commutative set exchange of purposematch, version 1; docs/protocol.md says what "
    "they are. Byte strings are lower-case hexadecimal, scalars little-endian (RFC 9496).",
    "source": "This project: computed by tests/vectors/make_set_exchange.py with the libsodium back end, and "
    "verified value by value against tests/slow_set_exchange.py, which is written from docs/protocol.md, RFC "
    "5869, 8439, 9380, 9496 and 9497 alone.",
    "points": "For `count-2`, b*H(scope, list, input) of the private inputs, then of the 64 canaries of the "
    "generation, then the 128 planted points. For `platform`, H(scope, list, input) + r*G, with r made of "
    "`mask_inputs` in the same order, with those of the canaries behind them. Sorted, and cut into segments "
    "of `segment` points.",
    "exchange": "What an advertiser with this seed sends for the list `listed`: own elements in batches of "
    "max_batch_elements, with the canaries behind them; then the points multiplied by a, in batches of a "
    "segment, for `platform` with a proof each. `messages` are the first batches as they are on the wire.",
}
TARGETED = "marketing.advertising.third_party.targeted"
SCOPE = Scope("birdsite", TARGETED, Profile.PLAIN, 1)
ENROLLED = ["alice@example.com", "bob@example.com", "carol@example.com"]
LISTED = ["bob@example.com", "carol@example.com", "dave@example.com", "erin@example.com"]
SECRET = hashlib.sha256(b"purposematch test epoch secret").digest()
SEED = hashlib.sha256(b"purposematch test seed").digest()
GENERATION = hashlib.sha256(b"purposematch test generation").digest()[:16]
BATCH, SEGMENT = 40, 100
NAMES = ("platform", "count-2")


def build(group: Group) -> dict[str, Any]:
    """All vectors."""
    return {"about": ABOUT, **{name: _case(group, name) for name in NAMES}}


def text(vectors: dict[str, Any]) -> str:
    """The file's content."""
    return json.dumps(vectors, indent=1) + "\n"


def _inputs(emails: list[str]) -> Bytes:
    digests = b"".join(hashlib.sha256(email.encode()).digest() for email in emails)
    kinds = np.full(len(emails), Kind.EMAIL, np.uint8)
    return private_inputs(kinds, np.frombuffer(digests, np.uint8).reshape(-1, 32))


def _keyed(email: str) -> bytes:
    """What stands for an identifier in its mask: the platform's keyed digest, here an invented one."""
    return hashlib.sha256(b"purposematch test keyed digest " + email.encode()).digest()[:MASK_INPUT_LENGTH]


def _hexed(rows: Bytes) -> list[str]:
    return [row.tobytes().hex() for row in rows]


def _case(group: Group, name: str) -> dict[str, Any]:
    epoch, in_order = EpochSecret(SECRET), name == "platform"
    secret = list_secret(epoch, name)
    inputs = np.concatenate([_inputs(ENROLLED), canary_inputs(GENERATION)])
    keyed = np.frombuffer(b"".join(map(_keyed, ENROLLED)), np.uint8).reshape(-1, MASK_INPUT_LENGTH)
    mask_inputs = np.concatenate([keyed, canary_mask_inputs(GENERATION)])
    points = group.encode(list_points(group, name, SCOPE.info(), secret, inputs, mask_inputs))
    scalars = planted_scalars(group, epoch, name)
    if not in_order:
        points = np.concatenate([points, group.encode(planted_points(group, scalars))])
    points = points[order_of_encodings(points)]
    segments = tuple(map(PointSegment.of, cut_points(points, SEGMENT)))
    names = ("agreement", "session", "manifest", "client_certificate", "server_certificate")
    bound = {each: hashlib.sha256(b"purposematch test " + each.encode()).digest() for each in names}
    bound["session"] = bound["session"][:16]
    grant = SessionGrant(**bound, list_size=len(LISTED), max_batch_elements=BATCH, window=4)
    manifest = Manifest(
        generation=GENERATION,
        scope=SCOPE,
        public_key=bytes(32),
        count=len(ENROLLED),
        watermark=bytes(32),
        published_at=0,
        valid_until=0,
        policy=bytes(32),
        taxonomy=bytes(32),
        segments=(),
        additions=(),
        point_lists={name: segments},
    )
    seed = SessionSeed(SEED)
    client = AdvertiserExchange(group, name, grant, manifest, seed, in_order=in_order)
    listed, own = _inputs(LISTED), []
    for number in range(client.shape.own_batches):
        rows = np.concatenate([listed[client.own_numbers(number)], client.own_canaries(number)])
        own.append(client.own(number, rows))
    returned = [
        client.give_back(number, points[client.returned_places(number)]) for number in range(len(segments))
    ]
    # Whole messages would repeat all elements: two elements are enough to show the form.
    first_own = replace(own[0], elements=own[0].elements[:2])
    first_back = replace(returned[-1], elements=returned[-1].elements[:2])
    return {
        "scope": SCOPE.to_mapping(),
        "generation": GENERATION.hex(),
        "enrolled": _hexed(_inputs(ENROLLED)),
        "epoch_secret": SECRET.hex(),
        "mask_key" if in_order else "exponent": reveal(secret).hex(),
        "mask_inputs": _hexed(keyed) if in_order else [],
        "planted": [] if in_order else _hexed(reveal_array(scalars)),
        "segment": SEGMENT,
        "points": _hexed(points),
        "exchange": {
            "grant": {each: getattr(grant, each).hex() for each in names},
            "transcript_hash": transcript_hash(grant).hex(),
            "seed": SEED.hex(),
            "listed": _hexed(listed),
            "max_batch_elements": BATCH,
            "order_of_the_list": secret_order(seed, "order of the list", len(LISTED)).tolist(),
            "order_of_the_points": secret_order(seed, "order of the points", len(points)).tolist()
            if not in_order
            else [],
            "exponent": client.exponent.hex(),
            "own": [_hexed(batch.elements) for batch in own],
            "returned": [_hexed(batch.elements) for batch in returned],
            "proofs": [batch.proof.encode().hex() for batch in returned if batch.proof is not None],
            "matching": 2,
            "messages": {
                "SendElementsRequest": own_request(grant.session, first_own).SerializeToString().hex(),
                "ReturnPointsRequest": returned_request(grant.session, first_back).SerializeToString().hex(),
            },
        },
    }


if __name__ == "__main__":
    FILE.write_text(text(build(SodiumGroup())))
