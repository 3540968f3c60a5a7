"""The platform's root key, the keys derived from it, and sealing: encryption of what is kept at rest.

The root key is 32 random bytes, named in `platform.toml` by a reference: a file, which may and should
lie outside the data directory, or an environment variable. HKDF-SHA256 (RFC 5869) derives from it one
key for each use, each of its own type:

* `IdentifierKey` stands between an identifier and the registry (HMAC-SHA-256);
* `SealingKey` encrypts the digests that the match needs (AES-256-GCM, NIST SP 800-38D);
* `WrappingKey` encrypts the key files: the identity key and the keys of the epochs.

Not protected against: somebody who has the root key and the data directory. With both in one folder,
which is what `init` writes, sealing keeps a stray copy of the database alone from telling anything, and
does no more than that.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from purposematch.protocol.errors import ConfigurationError, IntegrityError
from purposematch.protocol.secret import Secret, reveal
from purposematch.server.private_files import read_private

__all__ = [
    "SEAL_BYTES",
    "EncryptionKey",
    "IdentifierKey",
    "KeyReference",
    "PlatformKeys",
    "RootKey",
    "SealingKey",
    "WrappingKey",
    "derive_keys",
    "encode_root_key",
    "load_root_key",
    "seal",
    "unseal",
]

NONCE_BYTES: Final = 12
"""The length of an AES-GCM nonce."""

SEAL_BYTES: Final = NONCE_BYTES + 16
"""How much longer a sealed text is than the plain one: nonce and authentication tag, in bytes."""

_HKDF_INFO: Final = b"purposematch root key v1 "
_ROOT_KEY_HEX: Final = re.compile(rb"[0-9a-fA-F]{64}")
_MAX_ROOT_KEY_TEXT: Final = 256
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class RootKey(Secret):
    """The key from which all others at rest are derived."""

    __slots__ = ()


class IdentifierKey(Secret):
    """The HMAC-SHA-256 key of the keyed digests that stand for identifiers in the registry."""

    __slots__ = ()


class EncryptionKey(Secret):
    """An AES-256-GCM key, the kind that `seal` takes."""

    __slots__ = ()


class SealingKey(EncryptionKey):
    """The key under which the registry keeps the digests that the match needs."""

    __slots__ = ()


class WrappingKey(EncryptionKey):
    """The key under which the key files of the data directory are kept."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class KeyReference:
    """Where the root key is: `file:PATH`, relative to the data directory, or `env:NAME`.

    Attributes:
        source: `file` or `env`.
        name: the path of the file or the name of the environment variable.
    """

    source: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a reference.

        Raises:
            ConfigurationError: it is neither `file:PATH` nor `env:NAME`.
        """
        source, _, name = text.partition(":")
        if source == "file" and name and "\0" not in name:
            return cls(source, name)
        if source == "env" and _VARIABLE.fullmatch(name):
            return cls(source, name)
        # The text is not repeated: somebody may have put the key itself there.
        raise ConfigurationError("the reference to the root key must be file:PATH or env:NAME")

    def __str__(self) -> str:
        """The reference as `parse` reads it."""
        return f"{self.source}:{self.name}"


@dataclass(frozen=True, slots=True)
class PlatformKeys:
    """The keys derived from the root key, one for each use."""

    identifier: IdentifierKey
    sealing: SealingKey
    wrapping: WrappingKey


def load_root_key(reference: KeyReference, folder: Path, environ: Mapping[str, str]) -> RootKey:
    """Reads the root key: 64 hexadecimal digits or the base64 of 32 bytes, white space around it allowed.

    Args:
        reference: where the key is.
        folder: the data directory, to which a relative path refers.
        environ: the environment variables.

    Raises:
        ConfigurationError: the key is missing, is not 32 bytes in one of the two spellings, or its file
            is open to others.
    """
    if reference.source == "env":
        value = environ.get(reference.name)
        if value is None:
            raise ConfigurationError(
                f"the environment variable {reference.name} with the platform's root key is not set"
            )
        text = value.encode("utf-8", "surrogateescape")
    else:
        text = read_private(folder / reference.name, _MAX_ROOT_KEY_TEXT)
    key = _decode_root_key(text.strip())
    if key is None:
        raise ConfigurationError(
            f"{reference} holds neither 64 hexadecimal digits nor the base64 of 32 bytes"
        )
    return key


def encode_root_key(key: RootKey) -> bytes:
    """The content of a root key file: 64 hexadecimal digits and a newline."""
    return reveal(key).hex().encode("ascii") + b"\n"


def derive_keys(root: RootKey) -> PlatformKeys:
    """Derives the keys of the platform from its root key, always the same ones."""
    return PlatformKeys(
        identifier=IdentifierKey(_expand(root, b"identifier")),
        sealing=SealingKey(_expand(root, b"sealing")),
        wrapping=WrappingKey(_expand(root, b"wrapping")),
    )


def seal(key: EncryptionKey, plaintext: bytes | bytearray | memoryview, associated_data: bytes) -> bytes:
    """Encrypts and authenticates: nonce (12 bytes), ciphertext, tag (16 bytes).

    The nonce is random, so one key may seal at most 2**32 texts (SP 800-38D section 8.3); the registry
    seals chunks of up to 65,536 digests, which is far from it.

    Args:
        key: the key.
        plaintext: what to encrypt.
        associated_data: what the text is and where it belongs; `unseal` demands the same, so that a
            sealed text cannot be moved to another place.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(reveal(key)).encrypt(nonce, plaintext, associated_data)


def unseal(key: EncryptionKey, sealed: bytes, associated_data: bytes) -> bytes:
    """The plain text of what `seal` returned for the same key and associated data.

    Raises:
        IntegrityError: the text was altered or cut, or belongs to another key or place.
    """
    if len(sealed) < SEAL_BYTES:
        raise IntegrityError("a sealed text is too short: it was cut")
    try:
        return AESGCM(reveal(key)).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)
    except InvalidTag:
        raise IntegrityError(
            "a sealed text does not open: it was altered, moved, or sealed under another root key"
        ) from None


def _decode_root_key(text: bytes) -> RootKey | None:
    if _ROOT_KEY_HEX.fullmatch(text):
        return RootKey(bytes.fromhex(text.decode("ascii")))
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return RootKey(content) if len(content) == RootKey.LENGTH else None


def _expand(root: RootKey, use: bytes) -> bytes:
    # The root key is uniformly random, so that no salt is needed (RFC 5869 section 3.1).
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_HKDF_INFO + use).derive(reveal(root))
