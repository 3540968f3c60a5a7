"""Spoils valid samples the way an attacker, a bad disk or another version would: bytes, texts and JSON.

Every function takes a `random.Random`, which is Hypothesis's own where it looks for counterexamples, and one
with a seed where the same inputs are needed again.
"""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

ODD_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\ud800",
        "\udfff\ud800",
        "\ufeff",
        "\u202e",
        "\N{EM DASH}",
        "é" * 300,
        "0" * 5_000,
    ),
    *(
        "../../etc/passwd",
        "/",
        ".",
        "NaN",
        "true",
        "-1",
        "1e999",
        "%s%n",
        "'; DROP TABLE session; --",
        "a" * 70_000,
    ),
)
ODD_NUMBERS = (
    *(
        0,
        -1,
        1,
        2,
        255,
        256,
        65_535,
        65_536,
        2**31 - 1,
        2**31,
        2**32,
        2**53 + 1,
        2**63 - 1,
        2**63,
        -(2**63) - 1,
    ),
    *(10**30, 10**400, 0.0, -0.0, 1.5, 1e308),
)
ODD_BYTES = (
    *(
        b"",
        b"\0",
        b"\xff" * 8,
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\r\n\r\n",
        b"{" * 40,
    ),
    *(b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x1f\x8b\x08\0", b'"', b"\\", b",,,", b"[" * 20_000),
)
# What `json` writes for a float that no JSON can say; and a number that takes long to read.
RAW_VALUES = (
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 5_000,
    "-",
    "01",
    "tru",
    "'a'",
    "[" * 30_000,
    '{"a":' * 5_000,
)


def spoil(sample: bytes, random: Random) -> bytes:
    """A sample of any kind with one to four changes; of JSON mostly within its structure."""
    if random.randrange(4):
        try:
            value = json.loads(sample)
        except ValueError:
            pass
        else:
            return spoil_json(value, random)
    return spoil_bytes(sample, random)


def spoil_bytes(sample: bytes, random: Random) -> bytes:
    """Flips, cuts, repeats, swaps and replaces bytes."""
    content = bytearray(sample)
    for _ in range(random.randrange(1, 5)):
        random.choice(_BYTE_CHANGES)(content, random)
    return bytes(content)


def spoil_json(value: Any, random: Random) -> bytes:
    """Changes a JSON value at random places, and writes it, canonically or not."""
    for _ in range(random.randrange(1, 4)):
        value = _changed(value, random)
    text = json.dumps(value, sort_keys=bool(random.randrange(4)), separators=(",", ":"))
    match random.randrange(12):
        case 0:
            text = json.dumps(value, indent=random.randrange(3))
        case 1:
            # A name that comes twice: `dumps` writes no such thing.
            text = text.replace("{", '{"version":1,"number":1,', 1)
        case 2:
            at = text.find(":", random.randrange(len(text))) + 1
            text = text[:at] + random.choice(RAW_VALUES) + text[at:]
        case 3:
            return text.encode("utf-16")
        case 4:
            return spoil_bytes(text.encode(), random)
    return text.encode("utf-8", "surrogatepass")


def odd_value(random: Random) -> Any:
    """A JSON value that nobody expects."""
    match random.randrange(6):
        case 0:
            return random.choice(ODD_TEXTS)
        case 1:
            return random.choice(ODD_NUMBERS)
        case 2:
            return random.choice((None, True, False, [], {}, [[]], {"": {}}))
        case 3:
            return [random.choice(ODD_NUMBERS)] * random.choice((1, 2, 100, 5_000))
        case 4:
            return {text: random.choice(ODD_NUMBERS) for text in random.sample(ODD_TEXTS, 3)}
        case _:
            value: Any = random.choice(ODD_TEXTS)
            for _ in range(random.choice((1, 10, 100, 400))):
                value = [value] if random.randrange(2) else {"a": value}
            return value


def _changed(value: Any, random: Random) -> Any:
    """A copy in which one place is another."""
    if not isinstance(value, dict | list) or not value or not random.randrange(6):
        return _other(value, random)
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    key, other = random.choice(keys), random.choice(keys)
    match random.randrange(8):
        case 0:
            del changed[key]
        case 1:
            changed[key], changed[other] = changed[other], changed[key]
        case 2 if isinstance(value, dict):
            changed[random.choice(ODD_TEXTS)] = odd_value(random)
        case 2:
            changed.append(changed[key])
        case _:
            changed[key] = _changed(changed[key], random)
    return changed


def _other(value: Any, random: Random) -> Any:
    """Something else of the same kind, or of none."""
    match value:
        case bool():
            return not value
        case int() if random.randrange(2):
            return value + random.choice((-1, 1, 2**32, -(2**63), 10**20))
        case str() if value and random.randrange(2):
            at = random.randrange(len(value))
            return value[:at] + random.choice((*"0aZ_/ \0\u20ac\ud800", "")) + value[at + 1 :]
        case str() if value and random.randrange(2):
            return random.choice(
                (value.upper(), value + value, value[:-1], value[::-1], f" {value}", f"{value}\n")
            )
    return odd_value(random)


def _flip(content: bytearray, random: Random) -> None:
    if content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def _cut(content: bytearray, random: Random) -> None:
    del content[random.randrange(len(content) + 1) :]


def _remove(content: bytearray, random: Random) -> None:
    start = random.randrange(len(content) + 1)
    del content[start : start + random.choice((1, 2, 16, 32, 64))]


def _repeat(content: bytearray, random: Random) -> None:
    start = random.randrange(len(content) + 1)
    stop = start + random.choice((1, 16, 32, 200))
    content[stop:stop] = content[start:stop]


def _swap(content: bytearray, random: Random) -> None:
    width = random.choice((1, 4, 16, 32))
    a, b = (random.randrange(len(content) + 1) for _ in range(2))
    content[a : a + width], content[b : b + width] = content[b : b + width], content[a : a + width]


def _odd(content: bytearray, random: Random) -> None:
    at, odd = random.randrange(len(content) + 1), random.choice(ODD_BYTES)
    content[at : at + random.choice((0, len(odd)))] = odd


def _fill(content: bytearray, random: Random) -> None:
    at, width = random.randrange(len(content) + 1), random.choice((1, 4, 8, 32))
    content[at : at + width] = random.choice((b"\0", b"\xff", b"\x7f", b"9", b" ")) * width


def _digit(content: bytearray, random: Random) -> None:
    places = [at for at, byte in enumerate(content) if 48 <= byte <= 57]
    if places:
        at = random.choice(places)
        content[at : at + 1] = random.choice(
            (b"-1", b"0", b"99999999999999999999", b"1" * 5_000, b"1.5", b"")
        )


_BYTE_CHANGES: Sequence[Callable[[bytearray, Random], None]] = (
    _flip,
    _flip,
    _cut,
    _remove,
    _repeat,
    _swap,
    _odd,
    _fill,
    _digit,
)
