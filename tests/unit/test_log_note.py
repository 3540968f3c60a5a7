"""Signed notes and checkpoints: Go's vector, an independent writer, and everything that is not a note."""

import base64
import hashlib
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from purposematch.protocol.errors import DecodeError, InputError, PurposematchError, VerificationError
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.note import MAX_NOTE_BYTES, key_id, open_note, sign_note
from purposematch.protocol.log.tree import EMPTY_ROOT
from purposematch.protocol.signing import IdentitySeed, identity_public_key

# golang.org/x/mod/sumdb/note, note_test.go: keys and the note that they sign.
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER = "PeterNeumann"
PETER_SEED = IdentitySeed(base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:])
PETER_KEY = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]
PETER_LINE = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH = "EnochRoot"
ENOCH_KEY = base64.b64decode("ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop")[1:]
ENOCH_LINE = (
    "— EnochRoot "
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)

SEED = IdentitySeed(b"s" * 32)
KEY = identity_public_key(SEED)
ORIGIN = log_origin("birdsite.example")
ROOT = hashlib.sha256(b"root").digest()


def test_go_s_note_opens_and_is_signed_to_the_same_bytes() -> None:
    assert key_id(PETER, PETER_KEY).hex() == "c74f20a3"
    assert key_id(ENOCH, ENOCH_KEY).hex() == "af0cfe78"
    assert identity_public_key(PETER_SEED) == PETER_KEY
    note = f"{TEXT}\n{PETER_LINE}".encode()
    assert open_note(note, PETER, PETER_KEY) == TEXT
    assert sign_note(PETER_SEED, PETER, TEXT) == note


def test_signatures_of_others_are_ignored_and_one_s_own_must_hold() -> None:
    both = f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}".encode()
    assert open_note(both, PETER, PETER_KEY) == open_note(both, ENOCH, ENOCH_KEY) == TEXT
    # Somebody else's name with one's own key id, and the reverse, are other keys.
    for line in (PETER_LINE.replace(PETER, "Peter"), ENOCH_LINE.replace(ENOCH, PETER)):
        assert open_note(f"{TEXT}\n{line}{PETER_LINE}".encode(), PETER, PETER_KEY) == TEXT
        with pytest.raises(VerificationError, match="not signed by the expected key"):
            open_note(f"{TEXT}\n{line}".encode(), PETER, PETER_KEY)
    spoiled = PETER_LINE[:60] + "ABCD" + PETER_LINE[60:]
    for lines in (spoiled, spoiled + PETER_LINE, PETER_LINE + spoiled):
        with pytest.raises(VerificationError, match="does not hold"):
            open_note(f"{TEXT}\n{lines}".encode(), PETER, PETER_KEY)
    with pytest.raises(VerificationError, match="does not hold"):
        open_note(both.replace(b"cryptography", b"cryptographY"), PETER, PETER_KEY)


@pytest.mark.parametrize(
    "note",
    [
        # The table of note_test.go.
        TEXT,
        TEXT + "\n",
        TEXT + "\n" + PETER_LINE[:-1],
        "\x01" + TEXT + "\n" + PETER_LINE,
        b"\xff" + (TEXT + "\n" + PETER_LINE).encode(),
        TEXT + "\n— Bad Name x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng=\n",
        TEXT + "\n" + PETER_LINE + "Unexpected line.\n",
        TEXT + "\n" + PETER_LINE * 101,
        # And more.
        "",
        "\n\n",
        TEXT + PETER_LINE,
        TEXT + "\n" + PETER_LINE + "\n",
        TEXT + "\n" + PETER_LINE.replace("\n", "\r\n"),
        TEXT + "\n" + PETER_LINE.replace("—", "-"),
        TEXT + "\n" + PETER_LINE.replace("— ", "—"),
        TEXT + "\n" + PETER_LINE.replace("— ", "—  "),
        TEXT + "\n" + PETER_LINE.replace(PETER, ""),
        TEXT + "\n" + PETER_LINE.replace(PETER, "Peter+Neumann"),
        TEXT + "\n" + PETER_LINE.replace(PETER, "Peter\u2003Neumann"),
        TEXT + "\n" + PETER_LINE.replace("AM=", "AN="),
        TEXT + "\n" + PETER_LINE.replace("AM=", "AM"),
        TEXT + "\n" + PETER_LINE.replace("/", "_"),
        TEXT + "\n" + f"— {PETER} {base64.b64encode(bytes(4)).decode()}\n",
        "x" * MAX_NOTE_BYTES + TEXT + "\n" + PETER_LINE,
    ],
)
def test_what_is_not_a_note_is_not_read(note: str | bytes) -> None:
    with pytest.raises(DecodeError):
        open_note(note if isinstance(note, bytes) else note.encode(), PETER, PETER_KEY)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(DecodeError):
        open_note(f"{TEXT}\n{PETER_LINE}".encode(), PETER, PETER_KEY[:31])


@pytest.mark.parametrize(
    ("name", "text"),
    [("", TEXT), ("a b", TEXT), ("a+b", TEXT), (PETER, "no newline"), (PETER, "\x00\n"), (PETER, "")],
)
def test_what_can_not_be_read_is_not_signed(name: str, text: str) -> None:
    with pytest.raises(InputError):
        sign_note(SEED, name, text)


def test_a_text_may_have_empty_lines() -> None:
    text = "Ognuno sta solo\n\ned è subito sera.\n"
    assert open_note(sign_note(SEED, "a/b", text), "a/b", KEY) == text


def independent(origin: str, size: str, root: str, extension: str = "") -> bytes:
    """A checkpoint written from the specification with another library."""
    key = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    public = key.public_key().public_bytes_raw()
    text = f"{origin}\n{size}\n{root}\n{extension}".encode()
    number = hashlib.sha256(ORIGIN.encode() + b"\x0a\x01" + public).digest()[:4]
    line = base64.b64encode(number + key.sign(text))
    return text + b"\n" + b"\xe2\x80\x94 " + ORIGIN.encode() + b" " + line + b"\n"


@given(size=st.integers(0, 2**63 - 1), root=st.binary(min_size=32, max_size=32))
def test_a_checkpoint_is_what_an_independent_writer_writes(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    note = checkpoint.sign(SEED)
    assert note == independent(ORIGIN, str(size), base64.b64encode(root).decode())
    assert Checkpoint.open(note, ORIGIN, KEY) == checkpoint


def test_an_empty_log_has_a_checkpoint() -> None:
    text = Checkpoint(ORIGIN, 0, EMPTY_ROOT).text()
    assert text == "birdsite.example/purposematch-log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"


@pytest.mark.parametrize(
    ("origin", "size", "root", "extension"),
    [
        ("other.example/purposematch-log", "7", ROOT, ""),
        ("", "7", ROOT, ""),
        (ORIGIN, "07", ROOT, ""),
        (ORIGIN, "-7", ROOT, ""),
        (ORIGIN, "+7", ROOT, ""),
        (ORIGIN, " 7", ROOT, ""),
        (ORIGIN, "7_0", ROOT, ""),
        (ORIGIN, "\N{ARABIC-INDIC DIGIT SEVEN}", ROOT, ""),
        (ORIGIN, "", ROOT, ""),
        (ORIGIN, str(2**63), ROOT, ""),
        (ORIGIN, "9" * 5_000, ROOT, ""),
        (ORIGIN, "7", ROOT[:31], ""),
        (ORIGIN, "7", ROOT + b"x", ""),
        (ORIGIN, "7", ROOT, "extension\n"),
    ],
)
def test_a_signed_note_that_is_no_checkpoint_of_this_log(
    origin: str, size: str, root: bytes, extension: str
) -> None:
    note = independent(origin, size, base64.b64encode(root).decode(), extension)
    with pytest.raises(DecodeError):
        Checkpoint.open(note, ORIGIN, KEY)


def test_a_root_has_one_spelling() -> None:
    spelled = base64.b64encode(ROOT).decode()
    # The last letter before "=" carries two unused bits.
    other = spelled[:-2] + chr(ord(spelled[-2]) + 1) + "="
    assert base64.b64decode(other) == ROOT
    with pytest.raises(DecodeError, match="one spelling"):
        Checkpoint.open(independent(ORIGIN, "7", other), ORIGIN, KEY)


def test_every_flipped_bit_of_a_checkpoint_is_refused() -> None:
    note = Checkpoint(ORIGIN, 20_852_163, ROOT).sign(SEED)
    for place in range(8 * len(note)):
        changed = bytearray(note)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises((DecodeError, VerificationError)):
            Checkpoint.open(bytes(changed), ORIGIN, KEY)


@given(note=st.binary(max_size=300))
@example(b"\n\n")
@example(TEXT.encode() + b"\n" + "— a b\n".encode())
def test_nothing_but_our_errors_comes_of_any_bytes(note: bytes) -> None:
    with pytest.raises(PurposematchError):
        Checkpoint.open(note, ORIGIN, KEY)


def test_the_origin_is_the_platform_s() -> None:
    assert re.fullmatch(r"[a-z0-9.-]+/purposematch-log", ORIGIN)
    with pytest.raises(DecodeError):
        log_origin("two\nlines")


@pytest.mark.parametrize(("size", "root"), [(-1, ROOT), (2**63, ROOT), (1, b"")])
def test_a_checkpoint_out_of_range_is_not_made(size: int, root: bytes) -> None:
    with pytest.raises(DecodeError):
        Checkpoint(ORIGIN, size, root)
