"""The root key, the keys derived from it, sealing, and the key files."""

import base64
import copy
import hashlib
import hmac
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from purposematch.protocol.errors import ConfigurationError, IntegrityError
from purposematch.protocol.group import SecretScalar
from purposematch.protocol.secret import Secret, reveal
from purposematch.protocol.signing import IdentitySeed, identity_public_key
from purposematch.server.data_dir import DataDir
from purposematch.server.key_store import KeyStore
from purposematch.server.keys import (
    SEAL_BYTES,
    KeyReference,
    RootKey,
    SealingKey,
    WrappingKey,
    derive_keys,
    encode_root_key,
    load_root_key,
    seal,
    unseal,
)
from purposematch.server.private_files import write_new

CONTENT = bytes(range(100, 132))
ROOT = RootKey(CONTENT)
KEYS = derive_keys(ROOT)
SEALING = KEYS.sealing


@pytest.mark.parametrize(
    "text",
    [
        CONTENT.hex(),
        CONTENT.hex().upper(),
        base64.b64encode(CONTENT).decode(),
        f"  {CONTENT.hex()}\n",
    ],
)
def test_the_root_key_is_read_from_a_file_and_from_the_environment(tmp_path: Path, text: str) -> None:
    write_new(tmp_path / "root.key", text.encode())
    assert load_root_key(KeyReference.parse("file:root.key"), tmp_path, {}) == ROOT
    assert load_root_key(KeyReference.parse("env:ROOT"), tmp_path, {"ROOT": text}) == ROOT


def test_an_absolute_path_lies_outside_the_data_directory(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.key"
    write_new(elsewhere, encode_root_key(ROOT))
    reference = KeyReference.parse(f"file:{elsewhere}")
    assert load_root_key(reference, tmp_path / "data", {}) == ROOT
    assert str(reference) == f"file:{elsewhere}"


@pytest.mark.parametrize(
    "text",
    ["", "00" * 31, "00" * 33, "zz" * 32, base64.b64encode(bytes(31)).decode(), "x" * 44, "é" * 64, "\udcff"],
)
def test_a_text_that_is_not_a_root_key_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_root_key(KeyReference.parse("env:ROOT"), tmp_path, {"ROOT": text})
    assert str(caught.value) == "env:ROOT holds neither 64 hexadecimal digits nor the base64 of 32 bytes"


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"variable ROOT .* is not set"):
        load_root_key(KeyReference.parse("env:ROOT"), tmp_path, {"OTHER": CONTENT.hex()})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_root_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    write_new(tmp_path / "root.key", encode_root_key(ROOT), mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_root_key(KeyReference.parse("file:root.key"), tmp_path, {})


@pytest.mark.parametrize(
    "text",
    ["", "root.key", "file:", "env:", "env:A B", "env:1A", "FILE:a", "kms:a", "file:a\0b", CONTENT.hex()],
)
def test_a_reference_of_another_form_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="file:PATH or env:NAME") as caught:
        KeyReference.parse(text)
    assert CONTENT.hex() not in str(caught.value)


def _hkdf(key: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 of one block with an empty salt, written from RFC 5869."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_the_derived_keys_are_hkdf_outputs_with_a_label_each() -> None:
    for key, label in [
        (KEYS.identifier, b"identifier"),
        (KEYS.sealing, b"sealing"),
        (KEYS.wrapping, b"wrapping"),
    ]:
        assert reveal(key) == _hkdf(CONTENT, b"purposematch root key v1 " + label)


def test_the_derived_keys_differ_from_each_other_and_between_roots() -> None:
    others = derive_keys(RootKey(bytes(32)))
    all_keys = [
        reveal(key) for keys in (KEYS, others) for key in (keys.identifier, keys.sealing, keys.wrapping)
    ]
    assert len({*all_keys, CONTENT, bytes(32)}) == 8


@pytest.mark.parametrize("secret", [ROOT, KEYS.identifier, KEYS.sealing, KEYS.wrapping])
def test_keys_do_not_show_themselves_and_cannot_be_copied(secret: Secret) -> None:
    shown = f"{secret} {secret!r} {KEYS} {KEYS!r}"
    assert reveal(secret).hex() not in shown
    assert repr(reveal(secret)) not in shown
    for door in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            door(secret)


@given(st.binary(max_size=300), st.binary(max_size=50))
def test_what_was_sealed_is_unsealed(plaintext: bytes, associated_data: bytes) -> None:
    sealed = seal(SEALING, plaintext, associated_data)
    assert len(sealed) == len(plaintext) + SEAL_BYTES
    assert unseal(SEALING, sealed, associated_data) == plaintext


def test_sealing_twice_gives_different_texts() -> None:
    assert len({seal(SEALING, b"same", b"place") for _ in range(50)}) == 50


@given(st.binary(max_size=60), st.data())
def test_a_changed_or_cut_text_does_not_unseal(plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(SEALING, plaintext, b"place"))
    cut = data.draw(st.integers(0, len(sealed) - 1))
    with pytest.raises(IntegrityError):
        unseal(SEALING, bytes(sealed[:cut]), b"place")
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(IntegrityError):
        unseal(SEALING, bytes(sealed), b"place")


def test_a_text_sealed_for_another_place_or_key_does_not_unseal() -> None:
    sealed = seal(SEALING, b"text", b"place")
    with pytest.raises(IntegrityError):
        unseal(SEALING, sealed, b"other place")
    with pytest.raises(IntegrityError):
        unseal(KEYS.wrapping, sealed, b"place")


SEED = IdentitySeed(hashlib.sha256(b"identity").digest())
EPOCH_KEY = SecretScalar(bytes([7]) + bytes(31))


def _store(folder: Path, platform_id: str = "example", wrapping_key: WrappingKey = KEYS.wrapping) -> KeyStore:
    data_dir = DataDir(folder)
    data_dir.keys.mkdir(exist_ok=True)
    return KeyStore(data_dir, platform_id, wrapping_key)


def test_key_files_are_read_back_and_private(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.store_identity(SEED)
    store.store_epoch_key(3, EPOCH_KEY)
    assert store.load_identity() == SEED
    assert store.load_epoch_key(3) == EPOCH_KEY
    assert identity_public_key(store.load_identity()) == bytes(SigningKey(reveal(SEED)).verify_key)
    for path, secret in [(store.data_dir.identity, SEED), (store.data_dir.epoch_key(3), EPOCH_KEY)]:
        assert path.stat().st_mode & 0o777 == 0o600
        assert reveal(secret) not in path.read_bytes()
    assert sorted(os.listdir(store.data_dir.keys)) == ["epoch-3.sealed", "identity.sealed"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.store_epoch_key(3, EPOCH_KEY)
    with pytest.raises(ConfigurationError, match="not overwritten"):
        store.store_epoch_key(3, SecretScalar(bytes([8]) + bytes(31)))
    assert store.load_epoch_key(3) == EPOCH_KEY


def test_key_files_cannot_be_swapped(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.store_identity(SEED)
    store.store_epoch_key(3, EPOCH_KEY)
    store.data_dir.epoch_key(4).write_bytes(store.data_dir.epoch_key(3).read_bytes())
    store.data_dir.epoch_key(5).write_bytes(store.data_dir.identity.read_bytes())
    for epoch in (4, 5):
        store.data_dir.epoch_key(epoch).chmod(0o600)
        with pytest.raises(IntegrityError, match=f"epoch-{epoch}"):
            store.load_epoch_key(epoch)


def test_key_files_of_another_platform_or_root_key_do_not_open(tmp_path: Path) -> None:
    _store(tmp_path).store_identity(SEED)
    with pytest.raises(IntegrityError, match=r"identity\.sealed"):
        _store(tmp_path, platform_id="other").load_identity()
    with pytest.raises(IntegrityError, match=r"identity\.sealed"):
        _store(tmp_path, wrapping_key=derive_keys(RootKey(bytes(32))).wrapping).load_identity()


def test_a_damaged_or_open_key_file_is_refused(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.store_identity(SEED)
    path = store.data_dir.identity
    content = path.read_bytes()
    for damaged in (content[:-1], b"", bytes([content[0] ^ 1]) + content[1:]):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            store.load_identity()
    path.write_bytes(content)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        store.load_identity()


def test_a_sealed_text_of_another_length_is_not_a_key(tmp_path: Path) -> None:
    store = _store(tmp_path)

    class Half(Secret):
        LENGTH = 16

    store._store(store.data_dir.identity, "identity", Half(bytes(16)))
    with pytest.raises(IntegrityError):
        store.load_identity()


def test_a_destroyed_epoch_key_is_overwritten_and_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path)
    store.store_epoch_key(3, EPOCH_KEY)
    store.store_epoch_key(4, EPOCH_KEY)
    path = store.data_dir.epoch_key(3)
    # A second name for the same file shows what the destroyed one held at the end.
    os.link(path, tmp_path / "witness")
    seen: list[bytes] = []
    store.destroy_epoch_key(3, lambda: seen.append(path.read_bytes()))
    assert (tmp_path / "witness").read_bytes() == bytes(32 + SEAL_BYTES) == seen[0]
    with pytest.raises(ConfigurationError, match=r"epoch-3\.sealed is missing"):
        store.load_epoch_key(3)
    assert store.load_epoch_key(4) == EPOCH_KEY
    store.destroy_epoch_key(3, bool)

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ConfigurationError, match="cannot be destroyed"):
        store.destroy_epoch_key(4, bool)


def test_a_sealing_key_is_not_equal_to_a_wrapping_key_of_the_same_bytes() -> None:
    assert SealingKey(bytes(32)) != WrappingKey(bytes(32))
