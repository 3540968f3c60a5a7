"""Makes purposematch-v1.json, the vectors that another implementation can be checked against.

Run in the folder `tests`::

    python -m vectors.make_interop

Everything is computed with the package; tests/unit/test_interop_vectors.py computes all of it again with the
slow implementation (tests/slow_poprf.py) and the standard library, and fails when the committed file differs.
A difference means that tags and tokens of this release no longer fit those of the last one.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.group import Group, SecretScalar, SodiumGroup
from purposematch.protocol.identifiers import Kind, Profile, private_inputs
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.poprf import (
    EvaluationKey,
    SessionSeed,
    blind,
    evaluate,
    evaluate_blinded,
    expand_blinds,
    finalize,
    public_key,
)
from purposematch.protocol.scope import Scope
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.transcript import commit_macs, split_output, transcript_hash

FILE = Path(__file__).with_name("purposematch-v1.json")

ABOUT = {
    "what": "Vectors of purposematch, version 1. Byte strings are lower-case hexadecimal; lengths, "
    "numbers and epochs in them are big-endian, scalars little-endian (RFC 9496).",
    "source": "This project: computed by tests/vectors/make_interop.py with the libsodium back end, and"
    " verified value by value against tests/slow_poprf.py, which is written from RFC 8439, "
    "9380, 9496 and 9497 alone.",
    "info": "'purposematch scope v1'; platform id, purpose and profile, each after its length in 2 "
    "bytes; epoch in 8 bytes.",
    "private_input": "Kind byte (email 1, phone 2, maid 3, canary 255), then SHA-256 of the canonical "
    "value in UTF-8.",
    "output": "RFC 9497 POPRF(ristretto255, SHA-512) of private_input under key and info. The tag is "
    "its bytes 0 to 15, the token its bytes 16 to 47.",
    "blinds": "Blind i is ChaCha20 (RFC 8439) block i under the session seed and the nonce 'blinds v1' "
    "with three zero bytes, its 64 bytes reduced modulo the group order.",
    "exchange": "One batch with blinds 0 to 3: blinded elements, evaluated elements, and the proof that "
    "has this nonce as its random scalar.",
    "canaries": "Canary i is kind byte 255, then SHA-256 of 'purposematch canary v1', generation and i in"
    " 2 bytes.",
    "commit": "transcript_hash is SHA-256 of 'purposematch transcript v1', agreement, session, "
    "manifest, client_certificate, server_certificate; mac is HMAC-SHA-256 of it under the "
    "token, its first 16 bytes.",
}

TARGETED = "marketing.advertising.third_party.targeted"
SCOPES = [
    Scope("birdsite", TARGETED, Profile.PLAIN, 0),
    Scope("birdsite", TARGETED, Profile.PLAIN, 1),
    Scope("birdsite", "marketing.advertising.first_party.targeted", Profile.PLAIN, 1),
    Scope("fish.example", TARGETED, Profile.META, 2**63 - 1),
]
KEYS = [hashlib.sha256(b"purposematch test key %d" % i).digest()[:31] + b"\0" for i in range(len(SCOPES))]
VALUES = [
    (Kind.EMAIL, "alice@example.com"),
    (Kind.EMAIL, "j\u00f6rg@example.com"),
    (Kind.PHONE, "+12025550123"),
    (Kind.MAID, "6d92078a-8246-4ba4-ae5b-76104861e7dc"),
]
SEED = hashlib.sha256(b"purposematch test seed").digest()
NONCE = hashlib.sha256(b"purposematch test nonce").digest()[:31] + b"\0"
BLINDS = [0, 1, 2, 3, 255, 256, 65_535, 2**32 - 1]
GENERATION = hashlib.sha256(b"purposematch test generation").digest()[:16]


def build(group: Group) -> dict[str, Any]:
    """All vectors."""
    return {
        "about": ABOUT,
        "poprf": [
            case for scope, key in zip(SCOPES, KEYS, strict=True) for case in _outputs(group, scope, key)
        ],
        "blinds": {
            "seed": SEED.hex(),
            "blinds": [{"number": i, "blind": _blinds(group, i, 1)[0].tobytes().hex()} for i in BLINDS],
        },
        "exchange": _exchange(group),
        "canaries": {
            "generation": GENERATION.hex(),
            "private_inputs": [row.tobytes().hex() for row in canary_inputs(GENERATION)],
        },
        "commit": _commit(group),
    }


def text(vectors: dict[str, Any]) -> str:
    """The file's content."""
    return json.dumps(vectors, indent=1) + "\n"


def _inputs() -> np.ndarray[Any, np.dtype[np.uint8]]:
    digests = b"".join(hashlib.sha256(value.encode()).digest() for _, value in VALUES)
    kinds = np.array([kind for kind, _ in VALUES], np.uint8)
    return private_inputs(kinds, np.frombuffer(digests, np.uint8).reshape(-1, 32))


def _blinds(group: Group, first: int, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return reveal_array(expand_blinds(group, SessionSeed(SEED), first, count))


def _outputs(group: Group, scope: Scope, key: bytes) -> list[dict[str, Any]]:
    info, inputs = scope.info(), _inputs()
    outputs = evaluate(group, POPRF, EvaluationKey(group, POPRF, SecretScalar(key), info), inputs, info)
    tags, tokens = split_output(outputs)
    return [
        {
            "scope": scope.to_mapping(),
            "kind": kind.label,
            "canonical": value,
            "key": key.hex(),
            "public_key": public_key(group, SecretScalar(key)).hex(),
            "info": info.hex(),
            "private_input": inputs[i].tobytes().hex(),
            "output": outputs[i].tobytes().hex(),
            "tag": tags[i].tobytes().hex(),
            "token": reveal_array(tokens)[i].tobytes().hex(),
        }
        for i, (kind, value) in enumerate(VALUES)
    ]


def _exchange(group: Group) -> dict[str, Any]:
    info, inputs = SCOPES[0].info(), _inputs()
    key = EvaluationKey(group, POPRF, SecretScalar(KEYS[0]), info)
    blinds = SecretArray(_blinds(group, 0, len(inputs)))
    blinded = blind(group, POPRF, inputs, blinds)
    evaluated, proof = evaluate_blinded(group, POPRF, key, blinded, lambda n: NONCE.ljust(n, b"\0"))
    return {
        "key": KEYS[0].hex(),
        "info": info.hex(),
        "seed": SEED.hex(),
        "private_inputs": [row.tobytes().hex() for row in inputs],
        "blinded": [row.tobytes().hex() for row in group.encode(blinded)],
        "evaluated": [row.tobytes().hex() for row in group.encode(evaluated)],
        "tweaked_key": group.encode(key.public).tobytes().hex(),
        "nonce": NONCE.hex(),
        "proof": proof.encode().hex(),
        "outputs": [row.tobytes().hex() for row in finalize(group, POPRF, inputs, info, evaluated, blinds)],
    }


def _commit(group: Group) -> dict[str, Any]:
    names = ("agreement", "session", "manifest", "client_certificate", "server_certificate")
    bound = {name: hashlib.sha256(b"purposematch test " + name.encode()).digest() for name in names}
    bound["session"] = bound["session"][:16]
    grant = SessionGrant(**bound, list_size=1, max_batch_elements=1, window=1)
    token = _outputs(group, SCOPES[0], KEYS[0])[0]["token"]
    row = np.frombuffer(bytes.fromhex(token), np.uint8).reshape(1, -1)
    transcript = transcript_hash(grant)
    return {
        "grant": {name: getattr(grant, name).hex() for name in names},
        "transcript_hash": transcript.hex(),
        "token": token,
        "mac": commit_macs(SecretArray(row), transcript).tobytes().hex(),
    }


if __name__ == "__main__":
    FILE.write_text(text(build(SodiumGroup())))
