"""The credentials folder: what is wrong with it is said before anything is connected."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from fake_platform import FakePlatform, enrolled
from samples import without_key

from purposematch.client.credentials import Credentials
from purposematch.protocol.errors import ConfigurationError

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def platform() -> FakePlatform:
    return FakePlatform(enrolled(["ann@example.com"]))


@pytest.fixture
def folder(platform: FakePlatform, tmp_path: Path) -> Path:
    return platform.write_credentials(tmp_path / "credentials")


def test_a_whole_folder_is_loaded(platform: FakePlatform, folder: Path) -> None:
    credentials = Credentials.load(folder, NOW)
    assert credentials.agreement == platform.agreement
    assert credentials.fingerprint == platform.client.certificate.fingerprint(SHA256())


def test_the_private_key_is_not_shown(platform: FakePlatform, folder: Path) -> None:
    shown = repr(Credentials.load(folder, NOW)) + str(Credentials.load(folder, NOW).key)
    assert "PRIVATE" not in shown
    assert platform.client.key_pem.decode().splitlines()[1] not in shown


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such credentials folder"):
        Credentials.load(tmp_path / "nowhere", NOW)


@pytest.mark.parametrize("name", ["platform.json", "ca.pem", "client.pem", "client.key"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ConfigurationError, match=f"{name}: the file is missing"):
        Credentials.load(folder, NOW)


@pytest.mark.parametrize("name", ["platform.json", "ca.pem", "client.pem", "client.key"])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\n", b"\xff\x00", b"x" * 70_000])
def test_a_damaged_file_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"{name}: .*fresh credentials"):
        Credentials.load(folder, NOW)


@pytest.mark.parametrize("name", ["ca.pem", "client.pem"])
def test_a_certificate_without_a_key_is_named(folder: Path, name: str) -> None:
    whole = x509.load_pem_x509_certificate((folder / name).read_bytes())
    (folder / name).write_bytes(without_key(whole))
    with pytest.raises(ConfigurationError, match=f"{name}: .*fresh credentials"):
        Credentials.load(folder, NOW)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_private_key_that_others_can_read_is_refused(folder: Path, mode: int) -> None:
    (folder / "client.key").chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Credentials.load(folder, NOW)


def test_a_key_of_another_certificate_is_refused(platform: FakePlatform, folder: Path) -> None:
    (folder / "client.key").write_bytes(platform.server.key_pem)
    with pytest.raises(ConfigurationError, match=r"does not belong to client\.pem"):
        Credentials.load(folder, NOW)


def test_an_expired_certificate_is_refused_with_its_date(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"expired on .*fresh credentials"):
        Credentials.load(folder, NOW + timedelta(days=3))


def test_a_clock_that_is_far_behind_is_suspected(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="clock"):
        Credentials.load(folder, NOW - timedelta(days=30))


def test_a_pin_with_another_field_is_refused(folder: Path) -> None:
    pin = json.loads((folder / "platform.json").read_text())
    (folder / "platform.json").write_text(json.dumps(pin | {"more": 1}))
    with pytest.raises(ConfigurationError, match=r"platform\.json"):
        Credentials.load(folder, NOW)
