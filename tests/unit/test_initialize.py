"""Creating a platform, and the credentials folder of an advertiser."""

import os
import secrets
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from purposematch.protocol.agreement import LATEST_EXPIRY, Agreement, Disclosure
from purposematch.protocol.agreement_document import AgreementDocument
from purposematch.protocol.credentials import PlatformPin
from purposematch.protocol.errors import ConfigurationError, InputError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.policy import DEFAULT_POLICY_TOML
from purposematch.protocol.secret import reveal
from purposematch.protocol.signing import AdvertiserSeed, IdentitySeed, identity_public_key
from purposematch.server import initialize as initialize_module
from purposematch.server.config import PlatformConfig, load_config
from purposematch.server.credentials import issue_certificate, write_credentials
from purposematch.server.data_dir import DataDir
from purposematch.server.initialize import initialize, load_platform_keys
from purposematch.server.key_store import KeyStore
from purposematch.server.pki import PeerIdentity, Role, load_certified_key, peer_identity

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def _initialize(folder: Path, **changes: Any) -> PlatformConfig:
    arguments: dict[str, Any] = {
        "platform_id": "example",
        "profile": Profile.PLAIN,
        "region": None,
        "hosts": ["match.example.com"],
        "now": NOW,
        "random_bytes": secrets.token_bytes,
    }
    return initialize(DataDir(folder), **{**arguments, **changes})


def _tree(folder: Path) -> dict[str, int]:
    """Every path under `folder` with its mode."""
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*")}


def test_a_new_platform_has_everything_and_only_its_owner_may_enter(tmp_path: Path) -> None:
    _initialize(tmp_path / "platform")
    assert (tmp_path / "platform").stat().st_mode & 0o777 == 0o700
    assert _tree(tmp_path / "platform") == {
        "platform.toml": 0o600,
        "policy.toml": 0o600,
        "keys": 0o700,
        "keys/root.key": 0o600,
        "keys/identity.sealed": 0o600,
        "tls": 0o700,
        "tls/ca.pem": 0o644,
        "tls/ca.key": 0o600,
        "tls/server.pem": 0o644,
        "tls/server.key": 0o600,
        "generations": 0o700,
        "log.checkpoint": 0o600,
    }


def test_the_settings_and_the_policy_are_what_was_asked_for(tmp_path: Path) -> None:
    config = _initialize(tmp_path / "platform", profile=Profile.META, region="CH")
    data_dir = DataDir(tmp_path / "platform")
    assert load_config(data_dir.config) == config
    assert (config.platform_id, config.profile, config.region) == ("example", Profile.META, "CH")
    assert data_dir.policy.read_text() == DEFAULT_POLICY_TOML
    assert tomllib.loads(data_dir.policy.read_text())


def test_the_region_is_stored_in_capital_letters(tmp_path: Path) -> None:
    assert _initialize(tmp_path / "platform", region="us").region == "US"


@pytest.mark.parametrize("region", ["XX", "usa", "", "1"])
def test_a_region_without_phone_numbers_is_refused_and_nothing_is_made(tmp_path: Path, region: str) -> None:
    with pytest.raises(InputError, match="two-letter country code"):
        _initialize(tmp_path / "platform", region=region)
    assert not (tmp_path / "platform").exists()


def test_the_server_certificate_carries_the_extra_host(tmp_path: Path) -> None:
    _initialize(tmp_path / "platform")
    data_dir = DataDir(tmp_path / "platform")
    server = load_certified_key(data_dir.server_certificate, data_dir.server_key)
    names = server.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "match.example.com" in names.get_values_for_type(x509.DNSName)


def test_two_platforms_share_no_key(tmp_path: Path) -> None:
    seeds = []
    for name in ("one", "two"):
        config = _initialize(tmp_path / name)
        keys = load_platform_keys(DataDir(tmp_path / name), config, {})
        store = KeyStore(DataDir(tmp_path / name), "example", keys.wrapping)
        seeds += [reveal(keys.identifier), reveal(keys.sealing), reveal(store.load_identity())]
    assert len(set(seeds)) == 6


def test_a_root_key_that_was_moved_to_the_environment_opens_the_same_files(tmp_path: Path) -> None:
    config = _initialize(tmp_path / "platform")
    data_dir = DataDir(tmp_path / "platform")
    before = load_platform_keys(data_dir, config, {})
    text = data_dir.config.read_text().replace("file:keys/root.key", "env:PLATFORM_ROOT")
    data_dir.config.write_text(text)
    environ = {"PLATFORM_ROOT": data_dir.root_key.read_text()}
    data_dir.root_key.unlink()
    after = load_platform_keys(data_dir, load_config(data_dir.config), environ)
    seeds = [KeyStore(data_dir, "example", keys.wrapping).load_identity() for keys in (before, after)]
    assert seeds[0] == seeds[1]
    with pytest.raises(ConfigurationError, match="PLATFORM_ROOT"):
        load_platform_keys(data_dir, load_config(data_dir.config), {})


def test_a_folder_that_holds_a_platform_is_refused_and_left_alone(tmp_path: Path) -> None:
    _initialize(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationError, match="already holds a platform"):
        _initialize(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_with_other_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        _initialize(tmp_path)
    assert os.listdir(tmp_path) == ["letter.txt"]


@pytest.mark.parametrize(
    "changes",
    [
        {"platform_id": "Example"},
        {"platform_id": "a..b"},
        {"platform_id": "../a"},
        {"region": "Switzerland"},
        {"region": 'US"\nlisten = "0.0.0.0:1'},
        {"hosts": ["a b"]},
    ],
)
def test_a_wrong_argument_leaves_nothing_behind(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        _initialize(tmp_path / "a" / "platform", **changes)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("step", range(1, 6))
def test_a_failure_at_any_step_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    steps = ["encode_root_key", "KeyStore", "create_authority", "issue_server", "load_config"]

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(initialize_module, steps[step - 1], fail)
    with pytest.raises(KeyboardInterrupt):
        _initialize(tmp_path / "platform")
    assert os.listdir(tmp_path) == []


AGREEMENT = Agreement(
    platform_id="example",
    advertiser="acme",
    legal_entity="acme",
    purpose="marketing.advertising.third_party.targeted",
    profile=Profile.PLAIN,
    disclosure=Disclosure.BOTH,
    number=1,
    expires_at=LATEST_EXPIRY,
)
SIGNING = AdvertiserSeed(b"a" * 32)
ACCEPTED = (AgreementDocument.offer(AGREEMENT, IdentitySeed(b"i" * 32)).accept(SIGNING), SIGNING)


@pytest.fixture
def issue(tmp_path: Path) -> Callable[..., bytes]:
    """Issues the credentials of `acme`, with its first agreement, into a folder of the test's."""
    data_dir = DataDir(tmp_path / "platform")
    config = _initialize(data_dir.root)
    keys = load_platform_keys(data_dir, config, {})
    identity_key = identity_public_key(KeyStore(data_dir, "example", keys.wrapping).load_identity())

    def issue_to(out: Path) -> bytes:
        client = issue_certificate(data_dir, config.platform_id, Role.ADVERTISER, "acme", NOW)
        write_credentials(data_dir, identity_key, client, out, *ACCEPTED)
        return client.holder.fingerprint

    return issue_to


def test_the_credentials_folder_holds_what_the_client_needs(
    tmp_path: Path, issue: Callable[..., bytes]
) -> None:
    out = tmp_path / "acme"
    fingerprint = issue(out)
    assert out.stat().st_mode & 0o777 == 0o700
    public = {"ca.pem": 0o644, "client.pem": 0o644, "platform.json": 0o644, "agreement-1.json": 0o644}
    assert _tree(out) == public | {"client.key": 0o600, "signing.key": 0o600}
    assert (out / "ca.pem").read_bytes() == (tmp_path / "platform/tls/ca.pem").read_bytes()
    identity = peer_identity((out / "client.pem").read_bytes())
    assert identity == PeerIdentity("example", Role.ADVERTISER, "acme", fingerprint)
    pin = PlatformPin.decode((out / "platform.json").read_bytes())
    assert (pin.platform_id, pin.server_name) == ("example", "example.purposematch.internal")
    assert pin.advertiser == "acme"
    assert AgreementDocument.decode((out / "agreement-1.json").read_bytes()) == ACCEPTED[0]
    assert (out / "signing.key").read_bytes() == (b"a" * 32).hex().encode() + b"\n"


def test_the_pinned_identity_key_is_that_of_the_platform(tmp_path: Path, issue: Callable[..., bytes]) -> None:
    issue(tmp_path / "acme")
    data_dir = DataDir(tmp_path / "platform")
    keys = load_platform_keys(data_dir, load_config(data_dir.config), {})
    seed = KeyStore(data_dir, "example", keys.wrapping).load_identity()
    pin = PlatformPin.decode((tmp_path / "acme/platform.json").read_bytes())
    assert pin.identity_key == identity_public_key(seed)


def test_existing_credentials_are_not_overwritten(tmp_path: Path, issue: Callable[..., bytes]) -> None:
    out = tmp_path / "acme"
    issue(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigurationError, match="not empty"):
        issue(out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_empty_folder_is_filled(tmp_path: Path, issue: Callable[..., bytes]) -> None:
    (tmp_path / "acme").mkdir()
    issue(tmp_path / "acme")
    assert (tmp_path / "acme/platform.json").exists()


def test_without_the_authority_nothing_is_written(tmp_path: Path, issue: Callable[..., bytes]) -> None:
    (tmp_path / "platform/tls/ca.key").unlink()
    with pytest.raises(ConfigurationError, match=r"ca\.key is missing"):
        issue(tmp_path / "acme")
    assert not (tmp_path / "acme").exists()
