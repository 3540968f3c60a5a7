"""Makes one-shot-v1.json, the vectors of what a match by VOLE is bound to.

Run in the folder `tests`::

    python -m vectors.make_one_shot

A binding that differs from these meets nothing of this release.
"""

import hashlib
import json
from pathlib import Path

from purposematch.protocol.identifiers import Profile
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.one_shot import binding
from purposematch.protocol.scope import Scope

FILE = Path(__file__).with_name("one-shot-v1.json")
ABOUT = {
    "what": "What a match by VOLE is bound to, version 1. Byte strings are lower-case hexadecimal.",
    "binding": "'purposematch one-shot v1'; the scope's info (see purposematch-v1.json) after its length in "
    "2 bytes, big-endian; agreement, session, client_certificate, server_certificate.",
}
TARGETED = "marketing.advertising.third_party.targeted"
NAMED = {
    "first": (Scope("ads.example", TARGETED, Profile.PLAIN, 1), 1),
    "another epoch": (Scope("ads.example", TARGETED, Profile.PLAIN, 2**63 - 1), 1),
    "another purpose and profile": (Scope("ads.example", "marketing.advertising", Profile.UID2, 1), 1),
    "other digests": (Scope("a", "b", Profile.PLAIN, 0), 100),
}


def vectors() -> dict[str, object]:
    """Everything in the file."""
    made = []
    for name, (scope, first) in NAMED.items():
        agreement, session, manifest, client, server = (
            bytes(range(first + each, first + each + length))
            for each, length in enumerate((32, 16, 32, 32, 32))
        )
        grant = SessionGrant(session, agreement, manifest, client, server, 1_000, 1_000, 8)
        bound = binding(scope, agreement, grant)
        made.append(
            {
                "name": name,
                "scope": scope.to_mapping(),
                "agreement": agreement.hex(),
                "session": session.hex(),
                "client_certificate": client.hex(),
                "server_certificate": server.hex(),
                "binding": bound.hex(),
                "sha256": hashlib.sha256(bound).hexdigest(),
            }
        )
    return {**ABOUT, "bindings": made}


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
