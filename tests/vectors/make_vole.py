"""Makes vole-v1.json, the frozen transcripts of the VOLE engine.

Run in the folder `tests`::

    python -m vectors.make_vole

tests/unit/test_vole_slow.py checks the engine against the file, and against the slow implementation
(tests/slow_vole.py) on other lists.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from vole_match import exchange, items, labels_of, pair

from purposematch.protocol.group import SodiumGroup
from purposematch.protocol.vole.engine import Engine, open_engine

FILE = Path(__file__).with_name("vole-v1.json")

ABOUT = {
    "what": "Transcripts of matches by the VOLE engine of purposematch, version 1. An item is the byte 1, "
    "the number as 8 bytes little-endian, and 24 zeros. The binding is `scope, agreement, session`. Call i "
    "of the random source of a side, from 1, gives the first bytes of SHAKE-256 of `<seed> receiver <i>` or "
    "of `<seed> sender <i>`.",
    "source": "This project: computed by tests/vectors/make_vole.py and verified against tests/slow_vole.py, "
    "which is written from the statements of protocol/vole with Python integers.",
    "messages": "SHA-256 of each message, put together from its chunks.",
    "label_length": "Bytes of a label, 0 for none. Byte i of the label of an item is byte i modulo 8 of the "
    "number, XOR i.",
    "labels": "The labels of the first four rows.",
}
LISTS: list[tuple[list[int], list[int], tuple[int, int], int]] = [
    (list(range(0, 60)), list(range(30, 100)), (60, 70), 16),
    (list(range(2_000, 0, -1)), [*range(500, 800), 7, 7, 7], (2_100, 400), 32),
    (list(range(40)), list(range(20, 50)), (40, 30), 0),
    (list(range(5)), [], (5, 0), 0),
]


def matches(engine: Engine) -> list[dict[str, Any]]:
    """All matches."""
    made = []
    for i, (receiver, sender, declared, width) in enumerate(LISTS):
        own, others = (items(np.array(numbers, np.int64)) for numbers in (receiver, sender))
        labels = labels_of(others, width) if width else None
        both = exchange(pair(engine, own, others, f"vector {i}", declared=declared, labels=labels))
        chunks = iter([chunk.content for _, chunk in both.said])
        named = {
            message.name: hashlib.sha256(b"".join(next(chunks) for _ in range(message.chunks))).hexdigest()
            for message in both.receiver.parameters.messages[:-2]
        }
        found = both.receiver.matches()
        made.append(
            {
                "seed": f"vector {i}",
                "receiver": receiver,
                "sender": sender,
                "declared": list(declared),
                "label_length": width,
                "messages": named,
                "confirmation": both.said[-1][1].content.hex(),
                "rows": found.rows.tolist(),
                "places": found.places.tolist(),
                "labels": both.receiver.labels()[:4].tobytes().hex(),
            }
        )
    return made


def main() -> None:
    """Writes the file."""
    content = {"about": ABOUT, "matches": matches(open_engine(SodiumGroup(1), os.environ))}
    FILE.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
