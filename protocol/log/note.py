"""Signed notes: a text, and lines with signatures of whoever vouches for it.

Source: C2SP signed-note, signature type 0x01 (Ed25519, RFC 8032). ::

    text, its last line ending in a newline
                                                    an empty line
    — name base64(key id, 4 bytes || signature)     one line or several

The key id is SHA-256(name || 0x0A || 0x01 || public key)[:4]. Signatures by keys that the reader does not
know are ignored, so that witnesses may add theirs; one by the key it knows must hold.

The identity key signs notes and documents (`signing`) alike. No bytes are both: a document's message
begins with the length of its domain, whose first byte is zero, and a note has no such byte.

Not protected against: a signer who signs two truths.
"""

import base64
import binascii
from hashlib import sha256
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from purposematch.protocol.errors import DecodeError, InputError, VerificationError
from purposematch.protocol.secret import reveal
from purposematch.protocol.signing import IdentitySeed, identity_public_key

__all__ = ["MAX_NOTE_BYTES", "decode_base64", "key_id", "open_note", "sign_note"]

MAX_NOTE_BYTES: Final = 262_144
"""Bytes of a note at most: sixteen signatures of 5 kB, which every reader must accept, are half of it."""
MAX_SIGNATURES: Final = 100
"""Signatures of a note at most."""
KEY_LENGTH: Final = 32
SIGNATURE_LENGTH: Final = 64

_ED25519: Final = b"\1"
_DASH: Final = "\N{EM DASH}"
_KEY_ID_LENGTH: Final = 4


def key_id(name: str, public_key: bytes) -> bytes:
    """What a signature line names a key by beside its name, 4 bytes."""
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:_KEY_ID_LENGTH]


def sign_note(seed: IdentitySeed, name: str, text: str) -> bytes:
    """Signs a text.

    Args:
        seed: the signer's key.
        name: the key's name, without spaces and plus signs.
        text: ends in a newline.

    Raises:
        InputError: the name or the text can not be written.
    """
    if not _is_name(name) or not text.endswith("\n") or _has_controls(text):
        raise InputError(
            "a note's text ends in a newline and has no control characters, its key a plain name"
        )
    signature = SigningKey(reveal(seed)).sign(text.encode()).signature
    line = base64.b64encode(key_id(name, identity_public_key(seed)) + signature).decode()
    return f"{text}\n{_DASH} {name} {line}\n".encode()


def open_note(note: bytes, name: str, public_key: bytes) -> str:
    """The text of a note, after checking its form and the signature of one key.

    Args:
        note: what arrived.
        name: the name of the key that must have signed.
        public_key: that key, 32 bytes.

    Raises:
        DecodeError: it is not a note.
        VerificationError: this key has not signed it, or a signature in its name does not hold.
    """
    text, lines = _parse(note)
    if len(public_key) != KEY_LENGTH:
        raise DecodeError(f"a note's key is not {KEY_LENGTH} bytes long")
    known = (name, key_id(name, public_key))
    signatures = [signature for *key, signature in lines if tuple(key) == known]
    if not signatures:
        raise VerificationError("a note is not signed by the expected key")
    for signature in signatures:
        if len(signature) != SIGNATURE_LENGTH:
            raise VerificationError("a note's signature does not hold")
        try:
            VerifyKey(public_key).verify(text.encode(), signature)
        except BadSignatureError:
            raise VerificationError("a note's signature does not hold") from None
    return text


def _parse(note: bytes) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text, and of every signature line the name, the key id and the signature."""
    if len(note) > MAX_NOTE_BYTES:
        raise DecodeError(f"a note is longer than {MAX_NOTE_BYTES} bytes")
    try:
        content = note.decode()
    except UnicodeDecodeError:
        raise DecodeError("a note is not UTF-8") from None
    if _has_controls(content):
        raise DecodeError("a note holds a control character")
    # The text may have empty lines; the last one of all separates it from the signatures.
    text, separator, signatures = content.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise DecodeError("a note has no signatures, or its last line does not end")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise DecodeError(f"a note has more than {MAX_SIGNATURES} signatures")
    return text + "\n", [_parse_line(line) for line in lines]


def _parse_line(line: str) -> tuple[str, bytes, bytes]:
    match line.split(" "):
        case [dash, name, encoded] if dash == _DASH and _is_name(name):
            content = decode_base64(encoded, "a note's signature")
            if len(content) > _KEY_ID_LENGTH:
                return name, content[:_KEY_ID_LENGTH], content[_KEY_ID_LENGTH:]
    raise DecodeError("a note's signature line is malformed")


def decode_base64(encoded: str, what: str) -> bytes:
    """The bytes of base64 as RFC 4648 section 4 has it, padded, and with zeros in the unused bits.

    Raises:
        DecodeError: it is anything else; `what` names it.
    """
    try:
        content = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise DecodeError(f"{what} is not base64") from None
    if base64.b64encode(content).decode() != encoded:
        # Python's reader does not look at the unused bits: another spelling of the same bytes.
        raise DecodeError(f"{what} is not base64 in its one spelling")
    return content


def _is_name(name: str) -> bool:
    return name != "" and "+" not in name and not any(letter.isspace() for letter in name)


def _has_controls(text: str) -> bool:
    return any(letter < " " and letter != "\n" for letter in text)
