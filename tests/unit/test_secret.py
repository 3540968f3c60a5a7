"""Secrets show nothing, whatever is done with them by accident."""

import copy
import dataclasses
import json
import logging
import string
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.group import SecretScalar
from purposematch.protocol.label import LabelKey
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.secret import Secret, SecretArray, reveal, reveal_array
from purposematch.protocol.signing import IdentitySeed

CONTENT = bytes(range(0x41, 0x61))
KINDS = [Secret, SecretScalar, SessionSeed, IdentitySeed, LabelKey]
TEXTS: dict[str, Callable[[object], str]] = {
    "repr": repr,
    "str": str,
    "f-string": lambda secret: f"{secret}",
    "f-string with conversion": lambda secret: f"{secret!r:>40}",
    "ascii": ascii,
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "str.format": lambda secret: "{}".format(secret),  # noqa: UP032
    "template": lambda secret: string.Template("$x").substitute(x=secret),
    "in a list": lambda secret: str([secret]),
    "log record": lambda secret: logging.LogRecord("x", 20, "x", 1, "%s", (secret,), None).getMessage(),
}


@dataclasses.dataclass
class Holder:
    secret: object


def leaks(text: str, content: bytes) -> bool:
    """Whether four bytes in a row of the content are in a text, as characters, hexadecimal or numbers."""
    parts = [content[i : i + 4] for i in range(len(content) - 3)]
    forms = [part.decode("latin-1") for part in parts] + [part.hex() for part in parts]
    forms += [", ".join(map(str, part)) for part in parts] + [" ".join(map(str, part)) for part in parts]
    return any(form in text for form in forms)


def test_the_leak_detector_of_these_tests_finds_leaks() -> None:
    for text in (str(CONTENT), CONTENT.hex(), str(list(CONTENT)), str(np.frombuffer(CONTENT, np.uint8)[:8])):
        assert leaks(text, CONTENT)
    assert not leaks("Secret(..)", CONTENT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_no_text_of_a_secret_shows_it(kind: type[Secret], text: Callable[[object], str]) -> None:
    shown = text(kind(CONTENT)) + text(Holder(kind(CONTENT)))
    assert kind.__name__ in shown
    assert not leaks(shown, CONTENT)


@pytest.mark.parametrize("spec", ["", "x", ">80", "032d", "s"])
def test_a_format_specification_shows_nothing(spec: str) -> None:
    assert format(SecretScalar(CONTENT), spec) == "SecretScalar(..)"


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_no_text_of_an_array_of_secrets_shows_it(text: Callable[[object], str]) -> None:
    secret = SecretArray(np.frombuffer(CONTENT, np.uint8).reshape(1, 32))
    assert "SecretArray" in text(secret)
    assert not leaks(text(secret) + text(Holder(secret)), CONTENT)


@pytest.mark.parametrize("secret", [Secret(CONTENT), SecretArray(np.ones((2, 32), np.uint8))])
@pytest.mark.parametrize(
    "attempt",
    [
        *(lambda secret, protocol=protocol: secret.__reduce_ex__(protocol) for protocol in range(6)),
        copy.copy,
        copy.deepcopy,
        lambda secret: dataclasses.asdict(Holder(secret)),
        json.dumps,
        bytes,
        iter,
    ],
)
def test_a_secret_is_not_pickled_copied_or_converted(
    secret: object, attempt: Callable[[Any], object]
) -> None:
    with pytest.raises(TypeError) as caught:
        attempt(secret)
    assert not leaks("".join(traceback.format_exception(caught.value)), CONTENT)


def test_a_secret_is_not_hashable() -> None:
    with pytest.raises(TypeError):
        hash(Secret(CONTENT))
    with pytest.raises(TypeError):
        {Secret(CONTENT): 1}


def test_secrets_compare_by_content_within_one_type_only() -> None:
    assert Secret(CONTENT) == Secret(bytearray(CONTENT))
    assert Secret(CONTENT) != Secret(bytes(32))
    assert SecretScalar(CONTENT) != SessionSeed(CONTENT)
    assert Secret(CONTENT) != CONTENT
    for byte in range(32):
        other = bytearray(CONTENT)
        other[byte] ^= 1
        assert Secret(CONTENT) != Secret(other)


def test_the_comparison_is_the_constant_time_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        seen.append((bytes(a), bytes(b)))
        return True

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert Secret(CONTENT) == Secret(bytes(32))
    assert seen == [(CONTENT, bytes(32))]


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_secret_of_another_length_is_refused_without_being_shown(length: int) -> None:
    content = (CONTENT * 2)[:length]
    with pytest.raises(DecodeError, match=f"{length} bytes long, not 32") as caught:
        SecretScalar(content)
    assert not leaks(str(caught.value), content)


def test_a_secret_keeps_its_own_copy() -> None:
    content = bytearray(CONTENT)
    secret = Secret(content)
    content[:] = bytes(32)
    assert reveal(secret) == CONTENT


def test_a_wiped_secret_is_zero_and_is_not_revealed() -> None:
    secret = Secret(CONTENT)
    secret.wipe()
    assert bytes(secret._content) == bytes(32)
    with pytest.raises(RuntimeError, match="wiped"):
        reveal(secret)


def test_wiping_rows_wipes_the_array_that_they_share() -> None:
    content = np.full((4, 32), 7, np.uint8)
    secrets = SecretArray(content)
    secrets.rows(1, 3).wipe()
    assert content.any(axis=1).tolist() == [True, False, False, True]
    assert len(secrets.rows(1, 3)) == 2
    secrets.wipe()
    assert not content.any()
    assert reveal_array(secrets) is content
