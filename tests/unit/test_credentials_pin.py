"""The pin of a platform: the format of platform.json."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.protocol.credentials import MAX_PIN_BYTES, PlatformPin
from purposematch.protocol.errors import DecodeError

PIN = PlatformPin("example", bytes(range(32)), "example.purposematch.internal", "acme")
DOCUMENT = json.loads(PIN.encode())


def test_a_pin_survives_its_encoding() -> None:
    assert PlatformPin.decode(PIN.encode()) == PIN


def test_the_encoding_is_the_documented_one() -> None:
    assert json.loads(PIN.encode()) == {
        "version": 2,
        "platform_id": "example",
        "advertiser": "acme",
        "identity_key": bytes(range(32)).hex(),
        "server_name": "example.purposematch.internal",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 1),
        ("version", "2"),
        ("version", True),
        ("advertiser", "Acme"),
        ("advertiser", None),
        ("platform_id", "Example"),
        ("identity_key", "00" * 31),
        ("identity_key", "AB" * 32),
        ("identity_key", "zz" * 32),
        ("identity_key", 1),
        ("server_name", ""),
        ("server_name", "example:443"),
        ("server_name", "*.internal"),
        ("server_name", "a" * 254),
        ("server_name", None),
        ("extra", 1),
    ],
)
def test_a_pin_with_a_wrong_field_is_refused(name: str, value: object) -> None:
    with pytest.raises(DecodeError):
        PlatformPin.decode(json.dumps({**DOCUMENT, name: value}).encode())


@pytest.mark.parametrize("name", list(DOCUMENT))
def test_a_pin_without_a_field_is_refused(name: str) -> None:
    shorter = {key: value for key, value in DOCUMENT.items() if key != name}
    with pytest.raises(DecodeError, match=name):
        PlatformPin.decode(json.dumps(shorter).encode())


def test_an_identity_key_of_another_length_is_refused() -> None:
    with pytest.raises(DecodeError, match="32 bytes"):
        replace(PIN, identity_key=bytes(31))


def test_a_pin_that_is_too_long_is_refused() -> None:
    with pytest.raises(DecodeError, match="longer than"):
        PlatformPin.decode(PIN.encode() + b" " * MAX_PIN_BYTES)


@given(st.integers(0, len(PIN.encode()) - 1))
def test_a_pin_that_was_cut_is_refused(length: int) -> None:
    # The last byte is the final newline, which is white space to JSON.
    with pytest.raises(DecodeError):
        PlatformPin.decode(PIN.encode()[: min(length, len(PIN.encode()) - 2)])


@given(st.integers(0, len(PIN.encode()) - 1), st.integers(1, 255))
def test_a_changed_byte_raises_nothing_but_the_error_tree(position: int, difference: int) -> None:
    changed = bytearray(PIN.encode())
    changed[position] ^= difference
    try:
        pin = PlatformPin.decode(bytes(changed))
    except DecodeError:
        return
    assert PlatformPin.decode(pin.encode()) == pin


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_never_a_pin(data: bytes) -> None:
    with pytest.raises(DecodeError):
        PlatformPin.decode(data)
