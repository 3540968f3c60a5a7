"""Issuers: what a policy may say of them, and how the commands edit the file."""

import base64
import json
import re
import shutil
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.console import run
from purposematch.protocol.errors import PolicyError
from purposematch.protocol.evidence import CollectorKey
from purposematch.protocol.policy import DEFAULT_POLICY_TOML, Policy
from purposematch.protocol.purpose import (
    ADVERTISING_ROOT,
    DEFAULT_PURPOSE,
    FORBIDDEN_ORIGINS,
    SECURITY_ROOTS,
    Origin,
    is_under,
)
from purposematch.server import private_files
from purposematch.server.cli import app
from purposematch.server.issuers import revoke_issuer
from purposematch.server.platform import open_platform
from purposematch.server.registry.policies import load_policies
from purposematch.server.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy()
KEY, OTHER = (CollectorKey(bytes([n]) * 32).public_key.hex() for n in (1, 2))
SINCE = datetime(2026, 11, 1, tzinfo=UTC)


def issuer(**changes: Any) -> dict[str, Any]:
    table = {"key": KEY, "permitted_purposes": [DEFAULT_PURPOSE], "permitted_origins": ["signup"]} | changes
    return {key: value for key, value in table.items() if value is not None}


def load(**issuers: Any) -> Policy:
    return Policy.from_mapping(tomllib.loads(DEFAULT_POLICY_TOML) | {"issuers": issuers}, TAXONOMY)


def test_an_issuer_is_read_with_everything_it_may_have() -> None:
    policy = load(screens=issuer(expires_at=SINCE, revoked_at=SINCE, compromised_since=SINCE))
    screens = policy.issuers["screens"]
    assert screens.key.hex() == KEY
    assert screens.permitted_purposes == (DEFAULT_PURPOSE,)
    assert screens.permitted_origins == {Origin.SIGNUP}
    assert {screens.expires_at, screens.revoked_at, screens.compromised_since} == {1_793_491_200_000_000}
    in_base64 = load(screens=issuer(key=base64.b64encode(bytes.fromhex(KEY)).decode()))
    assert in_base64 == load(screens=issuer())


def test_a_security_service_may_be_an_issuer_for_what_it_does() -> None:
    policy = load(
        login=issuer(permitted_purposes=["essential.service.security"], permitted_origins=["two_factor"])
    )
    assert policy.issuers["login"].permitted_origins == {Origin.TWO_FACTOR}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"key": None}, "issuers.screens lacks key"),
        ({"key": 7}, "issuers.screens: key is no Ed25519 public key"),
        ({"key": KEY[:-2]}, "no Ed25519 public key"),
        ({"key": "zz" * 32}, "no Ed25519 public key"),
        ({"key": "é" * 64}, "no Ed25519 public key"),
        ({"key": "00" * 32}, "no Ed25519 public key"),
        ({"key": "01" + "00" * 31}, "no Ed25519 public key"),
        ({"key": "ff" * 32}, "no Ed25519 public key"),
        ({"permitted_purposes": []}, "at least one purpose and one origin"),
        ({"permitted_purposes": DEFAULT_PURPOSE}, "permitted_purposes must be a list of strings"),
        ({"permitted_purposes": ["marketing.ads"]}, "'marketing.ads' is not a purpose of the taxonomy"),
        ({"permitted_origins": []}, "at least one purpose and one origin"),
        ({"permitted_origins": ["unknown"]}, "issuers.screens.permitted_origins names the unknown origin"),
        ({"expires_at": "2027-01-01T00:00:00Z"}, "expires_at must be a time with offset and without quotes"),
        ({"expires_at": datetime(2027, 1, 1)}, "expires_at must be a time with offset"),
        ({"revoked_at": SINCE}, "belong together"),
        ({"compromised_since": SINCE}, "belong together"),
        (
            {"revoked_at": SINCE, "compromised_since": SINCE.replace(day=2)},
            "compromised_since is after revoked_at",
        ),
        ({"name": "screens"}, "unknown key 'name'"),
    ],
)
def test_an_issuer_that_breaks_a_rule_is_refused_and_told_why(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        load(screens=issuer(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        *({"permitted_origins": ["signup", origin.label]} for origin in sorted(FORBIDDEN_ORIGINS)),
        *({"permitted_purposes": [DEFAULT_PURPOSE, root]} for root in SECURITY_ROOTS),
        {"permitted_purposes": ["marketing.advertising", "essential.service"]},
        {"permitted_purposes": ["marketing", "essential"]},
        {"permitted_purposes": ["marketing"], "permitted_origins": ["two_factor"]},
    ],
    ids=str,
)
def test_a_security_services_key_can_not_sign_an_advertising_purpose(changes: dict[str, Any]) -> None:
    with pytest.raises(
        PolicyError, match=r"issuers.screens: a key that may sign .* may not sign .* in 2019 Twitter"
    ):
        load(screens=issuer(**changes))


def test_one_key_has_one_name() -> None:
    security = issuer(permitted_purposes=["essential.service.security"], permitted_origins=["two_factor"])
    with pytest.raises(PolicyError, match="login and screens have the same key"):
        load(login=security, screens=issuer())
    assert load(login=security | {"key": OTHER}, screens=issuer())


@pytest.mark.parametrize("name", ["", "A", "a b", "é", "-a", "a" * 64])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="the name of an issuer"):
        load(**{name: issuer()})


@pytest.mark.parametrize(
    "changes",
    [
        {"key": OTHER},
        {"permitted_purposes": ["marketing.advertising"]},
        {"permitted_origins": ["profile"]},
        {"expires_at": SINCE},
        {"revoked_at": SINCE, "compromised_since": SINCE},
    ],
    ids=str,
)
def test_every_part_of_an_issuer_is_in_the_digest_of_the_policy(changes: dict[str, Any]) -> None:
    assert len({load().digest, load(screens=issuer()).digest, load(screens=issuer(**changes)).digest}) == 3
    assert load(other=issuer()).digest != load(screens=issuer()).digest
    asked = tomllib.loads(DEFAULT_POLICY_TOML) | {"require_evidence": True}
    assert Policy.from_mapping(asked, TAXONOMY).digest != load().digest


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from([KEY, DEFAULT_PURPOSE, SINCE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
LISTS = st.lists(st.sampled_from(sorted(TAXONOMY.keys)), max_size=3)
ORIGINS = st.lists(st.sampled_from([origin.label for origin in Origin]), max_size=3)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*issuer(), "expires_at", "revoked_at", "compromised_since", "x"]),
        JUNK | LISTS | ORIGINS,
    )
)
def test_whatever_an_issuer_holds_security_and_advertising_stay_apart(changes: dict[str, Any]) -> None:
    try:
        policy = load(screens=issuer() | changes)
    except PolicyError:
        return
    for each in policy.issuers.values():
        advertising = any(
            is_under(key, ADVERTISING_ROOT) or is_under(ADVERTISING_ROOT, key)
            for key in each.permitted_purposes
        )
        security = each.permitted_origins & FORBIDDEN_ORIGINS or any(
            is_under(key, root) or is_under(root, key)
            for key in each.permitted_purposes
            for root in SECURITY_ROOTS
        )
        assert not (advertising and security)


# The commands.


@pytest.fixture(scope="module")
def new_platform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("issuers") / "platform"
    assert run(app, ["init", "--data-dir", str(folder), "--platform-id", "birdsite"]) == 0
    return folder


@pytest.fixture
def folder(new_platform: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "platform"
    shutil.copytree(new_platform, folder)
    (folder / "policy.toml").chmod(0o640)
    capsys.readouterr()
    return folder


def policies(folder: Path) -> list[str]:
    """The digests of those that the registry and the log know."""
    with open_platform(folder) as platform, platform.registry.reading() as connection:
        return [each.policy.digest.hex() for each in load_policies(connection)]


ADD = ["--key", KEY, "--purpose", DEFAULT_PURPOSE, "--origin", "signup", "--origin", "profile"]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(app, ["issuer", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_an_issuer_is_added_listed_and_revoked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir, names = ["--data-dir", str(folder)], {path.name for path in folder.iterdir()}
    code, out, err = call(
        capsys, "add", "screens", *data_dir, *ADD, "--expires-at", "2028-01-01T00:00:00Z", "--json"
    )
    assert code == 0, err
    added = json.loads(out)
    assert added == {
        "issuer": "screens",
        "state": "active",
        "key": KEY,
        "permitted_purposes": [DEFAULT_PURPOSE],
        "permitted_origins": ["profile", "signup"],
        "expires_at": "2028-01-01T00:00:00+00:00",
        "revoked_at": None,
        "compromised_since": None,
        "policy_digest": added["policy_digest"],
    }
    text = (folder / "policy.toml").read_text()
    assert text.startswith(DEFAULT_POLICY_TOML)
    assert "[issuers.screens]" in text
    assert (folder / "policy.toml").stat().st_mode & 0o777 == 0o640
    assert names | {"policy.lock"} == {path.name for path in folder.iterdir()}
    assert policies(folder)[-1] == added["policy_digest"]

    since = ("--compromised-since", "2025-11-01T00:00:00+02:00")
    code, out, err = call(capsys, "revoke", "screens", *data_dir, *since, "--json")
    assert code == 0, err
    assert json.loads(out)["state"] == "revoked"
    assert json.loads(out)["policy_digest"] != added["policy_digest"]
    # Neither waits for the next publication to be known to the log.
    assert policies(folder)[-2:] == [added["policy_digest"], json.loads(out)["policy_digest"]]
    assert run(app, ["audit", *data_dir]) == 0
    capsys.readouterr()
    code, out, _ = call(capsys, "list", *data_dir, "--json")
    (listed,) = json.loads(out)["issuers"]
    assert (code, listed["compromised_since"]) == (0, "2025-10-31T22:00:00+00:00")
    code, out, _ = call(capsys, "list", *data_dir)
    assert code == 0
    assert re.search(r"state +revoked", out)


def test_a_revocation_can_reach_further_back_and_not_less_far(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = ["--data-dir", str(folder)]
    call(capsys, "add", "screens", *data_dir, *ADD)
    for since, code in (
        ("2025-06-01T00:00:00Z", 0),
        ("2025-07-01T00:00:00Z", 1),
        ("2025-05-01T00:00:00Z", 0),
    ):
        assert call(capsys, "revoke", "screens", *data_dir, "--compromised-since", since)[0] == code
    code, out, _ = call(capsys, "list", *data_dir, "--json")
    assert json.loads(out)["issuers"][0]["compromised_since"] == "2025-05-01T00:00:00+00:00"


def test_a_key_may_be_compromised_since_this_very_moment(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "add", "screens", "--data-dir", str(folder), *ADD)[0] == 0
    now = SINCE.replace(microsecond=999_999)
    with open_platform(folder) as platform:
        policy = revoke_issuer(platform, "screens", compromised_since=now, now=now)
    assert policy.issuers["screens"].compromised_since == policy.issuers["screens"].revoked_at


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["add", "screens", *ADD], "there is an issuer screens already"),
        (["add", "other", *ADD], "have the same key"),
        (["add", "Other", *ADD[2:], "--key", OTHER], "the name of an issuer"),
        (["add", "other", "--key", OTHER, "--purpose", DEFAULT_PURPOSE, "--origin", "two_factor"], "2019"),
        (["add", "other", *ADD[2:], "--key", "00"], "no Ed25519 public key"),
        (["add", "other", *ADD[2:], "--key", OTHER, "--expires-at", "2028-01-01"], "ISO 8601 with offset"),
        (["revoke", "other", "--compromised-since", "2025-05-01T00:00:00Z"], "there is no issuer other"),
        (["revoke", "screens", "--compromised-since", "2999-05-01T00:00:00Z"], "after revoked_at"),
        (["revoke", "screens", "--compromised-since", "soon"], "ISO 8601 with offset"),
    ],
)
def test_a_change_that_is_refused_leaves_the_file_untouched(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    data_dir = ["--data-dir", str(folder)]
    assert call(capsys, "add", "screens", *data_dir, *ADD)[0] == 0
    before = (folder / "policy.toml").read_bytes()
    code, out, err = call(capsys, *arguments, *data_dir)
    assert (code, out) == (1, "")
    assert text in " ".join(err.split())
    assert (folder / "policy.toml").read_bytes() == before


def test_comments_and_issuers_written_by_hand_stay_as_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = f"""
[issuers.login]   # the people downstairs
key = "{OTHER}"
permitted_purposes = ["essential.service.security"]
permitted_origins = ["two_factor"]
"""
    (folder / "policy.toml").write_text(DEFAULT_POLICY_TOML + by_hand)
    assert call(capsys, "add", "screens", "--data-dir", str(folder), *ADD)[0] == 0
    text = (folder / "policy.toml").read_text()
    assert text.startswith(DEFAULT_POLICY_TOML + by_hand)
    assert list(tomllib.loads(text)["issuers"]) == ["login", "screens"]


def test_a_crash_before_the_replacement_leaves_the_old_policy(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before, names = (folder / "policy.toml").read_text(), {path.name for path in folder.iterdir()}
    monkeypatch.setattr(private_files.os, "fsync", full)
    code, _, err = call(capsys, "add", "screens", "--data-dir", str(folder), *ADD)
    assert (code, "No space left" in err) == (1, True)
    assert (folder / "policy.toml").read_text() == before
    assert names | {"policy.lock"} == {path.name for path in folder.iterdir()}


def test_a_folder_that_is_no_platform_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "list", "--data-dir", str(tmp_path))[0] == 1
    assert call(capsys, "add", "screens", "--data-dir", str(tmp_path / "x"), *ADD)[0] == 1


@pytest.mark.parametrize("command", ["add", "list", "revoke"])
def test_the_help_of_every_command_ends_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert f"$ purposematch-platform issuer {command}" in " ".join(out.split())
