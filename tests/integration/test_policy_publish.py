"""`policy publish`: whom a change drops and admits, what it leaves alone, and that it is in force then."""

import csv
import fcntl
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from platforms import LivePlatform, assertion, operator, write_csv
from signed import PURPOSE, SCREENS, add_issuer, signed_rows

from purposematch.protocol.ciphersuite import POLICY_DOMAIN
from purposematch.protocol.evidence import CollectorKey
from purposematch.protocol.policy import DEFAULT_POLICY_TOML
from purposematch.server import policy_cli
from purposematch.server.policy_change import lint_policy
from purposematch.server.policy_file import parse_policy
from purposematch.server.taxonomy import load_taxonomy

PERMITTED = 'permitted_origins = ["profile", "signup", "newsletter", "purchase"]'


def changed(origins: str) -> str:
    assert PERMITTED in DEFAULT_POLICY_TOML
    return DEFAULT_POLICY_TOML.replace(PERMITTED, f"permitted_origins = [{origins}]")


@pytest.fixture
def hamlet(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path / "hamlet")
    rows = [
        assertion("ada", "email", "ada@example.com", origin="profile"),
        assertion("ben", "email", "ben@example.com", origin="newsletter"),
        assertion("cleo", "email", "cleo@example.com", origin="data_broker"),
        assertion("dan", "phone", "+15550100004", origin="two_factor"),
    ]
    file = write_csv(tmp_path / "accounts.csv", rows)
    assert operator("enroll", file, "--data-dir", platform.data_dir, "--json").document["enrolled"] == 2
    platform.publish()
    return platform


def test_a_dry_run_names_every_pair_and_changes_nothing(hamlet: LivePlatform, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(changed('"profile", "data_broker"'))
    before = (hamlet.data_dir / "policy.toml").read_bytes()
    arguments = ("--data-dir", hamlet.data_dir, "--dry-run", "--output", tmp_path / "pairs.csv", "--json")
    document = operator("policy", "publish", new, *arguments).document
    assert document["kept"] == 1
    assert document["dropped"] == {"ORIGIN_NOT_PERMITTED": 1}
    assert document["admitted"] == {"ORIGIN_NOT_PERMITTED": 1}
    assert (document["in_force"], document["generation"]) == (False, None)
    with (tmp_path / "pairs.csv").open() as file:
        pairs = [(row["subject_id"], row["before"], row["after"]) for row in csv.DictReader(file)]
    assert pairs == [
        ("ben", "PERMITTED", "ORIGIN_NOT_PERMITTED"),
        ("cleo", "ORIGIN_NOT_PERMITTED", "PERMITTED"),
    ]
    assert (hamlet.data_dir / "policy.toml").read_bytes() == before
    assert len(hamlet.rows("SELECT id FROM generation")) == 1


def test_a_published_policy_is_in_force_and_recorded(hamlet: LivePlatform, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(changed('"profile"'))
    document = operator("policy", "publish", new, "--data-dir", hamlet.data_dir, "--json").document
    ((digest, elements),) = hamlet.rows(
        "SELECT lower(hex(policy.digest)), elements"
        " FROM generation JOIN policy ON policy.id = generation.policy"
        f" WHERE generation.id = '{document['generation']}'"
    )
    assert (digest, elements) == (document["policy"]["digest"], 1)
    assert (hamlet.data_dir / "policy.toml").read_text() == new.read_text()


def test_a_policy_that_names_two_factor_is_refused_and_nothing_changes(
    hamlet: LivePlatform, tmp_path: Path
) -> None:
    new = tmp_path / "new.toml"
    new.write_text(changed('"profile", "two_factor"'))
    before = (hamlet.data_dir / "policy.toml").read_bytes()
    done = operator("policy", "publish", new, "--data-dir", hamlet.data_dir)
    assert done.code == 1
    assert "two_factor" in done.stderr
    assert (hamlet.data_dir / "policy.toml").read_bytes() == before


def test_a_list_of_pairs_is_never_written_over_a_file(hamlet: LivePlatform, tmp_path: Path) -> None:
    kept = tmp_path / "pairs.csv"
    kept.write_text("mine")
    policy = hamlet.data_dir / "policy.toml"
    done = operator("policy", "publish", policy, "--data-dir", hamlet.data_dir, "--dry-run", "--output", kept)
    assert (done.code, kept.read_text()) == (1, "mine")


def test_a_policy_is_logged_when_it_is_published_though_nothing_was_ever_decided(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "village")
    new = tmp_path / "new.toml"
    new.write_text(changed('"profile"'))
    assert platform.operate("policy", "publish", new)["generation"] is None
    (listed,) = platform.operate("policy", "list")["policies"]
    assert (listed["version"], listed["in_force"]) == (1, True)
    assert platform.operate("audit")["policies"] == 1
    # What is in force already is not logged twice.
    platform.operate("policy", "publish", new)
    assert platform.operate("audit")["policies"] == 1


def test_every_version_is_listed_and_shown_as_its_digest_has_it(hamlet: LivePlatform, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(changed('"profile"'))
    hamlet.operate("policy", "publish", new)
    versions = hamlet.operate("policy", "list")["policies"]
    assert [(each["version"], each["in_force"]) for each in versions] == [(1, False), (2, True)]
    for each in versions:
        for name in (str(each["version"]), each["digest"], each["digest"][:16]):
            shown = operator("policy", "show", name, "--data-dir", hamlet.data_dir).stdout.rstrip("\n")
            assert sha256(POLICY_DOMAIN + shown.encode()).hexdigest() == each["digest"]
    assert json.loads(shown)["permitted_origins"] == ["profile"]
    for name in ("3", "0", "", "ab", versions[0]["digest"][:15]):
        done = operator("policy", "show", name, "--data-dir", hamlet.data_dir)
        assert (done.code, done.stdout) == (1, "")
        assert "`policy list` shows" in done.stderr
    table = operator("policy", "list", "--data-dir", hamlet.data_dir).stdout
    assert all(each["digest"][:16] in table for each in versions)


def test_a_file_that_was_edited_in_place_is_compared_with_what_is_in_service(hamlet: LivePlatform) -> None:
    policy = hamlet.data_dir / "policy.toml"
    policy.write_text(changed('"newsletter"'))
    document = hamlet.operate("policy", "publish", policy, "--dry-run")
    assert (document["kept"], document["dropped"]) == (1, {"ORIGIN_NOT_PERMITTED": 1})
    document = hamlet.operate("policy", "publish", policy)
    assert document["dropped"] == {"ORIGIN_NOT_PERMITTED": 1}
    assert hamlet.operate("policy", "publish", policy, "--dry-run")["dropped"] == {}


def test_a_good_policy_takes_the_place_of_a_broken_one(hamlet: LivePlatform, tmp_path: Path) -> None:
    (hamlet.data_dir / "policy.toml").write_text("permitted_origins = [")
    assert operator("publish", "--data-dir", hamlet.data_dir).code == 1
    new = tmp_path / "new.toml"
    new.write_text(changed('"profile"'))
    document = hamlet.operate("policy", "publish", new)
    # What it is compared with is what was served last.
    assert (document["kept"], document["dropped"]) == (1, {"ORIGIN_NOT_PERMITTED": 1})
    assert document["generation"] is not None


def test_what_is_compared_is_what_is_replaced(
    hamlet: LivePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`issuer revoke` takes the same lock, so that no revocation gets lost between the two.

    It is not the one that every session takes to sign a checkpoint, and whoever only looks takes none.
    """

    def is_held(path: Path) -> bool:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def comparing(*arguments: Any) -> Any:
        compared.append((is_held(hamlet.data_dir), is_held(hamlet.data_dir / "policy.lock")))
        return compare(*arguments)

    compared: list[tuple[bool, bool]] = []
    compare = policy_cli.compare_policies
    monkeypatch.setattr(policy_cli, "compare_policies", comparing)
    new = tmp_path / "new.toml"
    new.write_text(changed('"profile"'))
    hamlet.operate("policy", "publish", new)
    assert compared == [(False, True)]
    hamlet.operate("policy", "publish", new, "--dry-run")
    assert compared[1:] == [(False, False)]


@pytest.fixture
def screened(hamlet: LivePlatform) -> LivePlatform:
    """Two people of whom the system `screens` signed."""
    add_issuer(hamlet)
    assert hamlet.enroll(signed_rows(2))["enrolled"] == 2
    hamlet.publish()
    return hamlet


def test_a_revocation_that_a_stale_copy_would_undo_is_asked_about(
    screened: LivePlatform, tmp_path: Path
) -> None:
    stale = tmp_path / "new.toml"
    stale.write_bytes((screened.data_dir / "policy.toml").read_bytes())
    # So early that its number in microseconds is none to trust as a truth value.
    screened.operate("issuer", "revoke", "screens", "--compromised-since", "1970-01-01T00:00:00Z")
    asked = screened.operate("policy", "publish", stale, "--dry-run")
    assert asked["admitted"] == {"ISSUER_NOT_AUTHORIZED": 2}
    assert "screens was revoked from 1970-01-01T00:00:00Z on" in asked["policy"]["questions"][0]
    # Also where the revocation is not in the file any more, and its policy is one of the past.
    screened.publish()
    screened.operate("policy", "publish", stale)
    again = screened.operate("policy", "publish", stale, "--dry-run")["policy"]["questions"][0]
    assert "screens was revoked" in again
    later = tmp_path / "later.toml"
    times = "revoked_at = 2019-10-08T00:00:00Z\ncompromised_since = 2019-10-08T00:00:00Z\n"
    later.write_text(stale.read_text() + times)
    for how in ([], ["--dry-run"]):
        questions = screened.operate("policy", "publish", later, *how)["policy"]["questions"]
        assert "screens was revoked from 1970" in questions[0]
    earlier = tmp_path / "earlier.toml"
    earlier.write_text(later.read_text().replace("since = 2019", "since = 1969"))
    questions = screened.operate("policy", "publish", earlier, "--dry-run")["policy"]["questions"]
    assert not [each for each in questions if "screens" in each]


def test_a_revoked_issuer_that_a_policy_left_out_is_not_added_again(
    screened: LivePlatform, tmp_path: Path
) -> None:
    since = "1970-01-01T00:00:00Z"
    screened.operate("issuer", "revoke", "screens", "--compromised-since", since)
    without = tmp_path / "new.toml"
    without.write_text(DEFAULT_POLICY_TOML)
    screened.operate("policy", "publish", without)
    policy = screened.data_dir / "policy.toml"
    arguments = ("screens", "--key", SCREENS.public_key.hex(), "--purpose", PURPOSE, "--origin", "signup")
    done = operator("issuer", "add", *arguments, "--data-dir", screened.data_dir)
    assert (done.code, done.stdout) == (1, "")
    assert "the key of issuer screens was revoked; a new key needs a new name" in done.stderr
    assert policy.read_text() == DEFAULT_POLICY_TOML


OTHER = CollectorKey(b"\2" * 32).public_key.hex()
REPLACED = {
    "another key": (SCREENS.public_key.hex(), OTHER, "give the new key a new name"),
    "another name": ("[issuers.screens]", "[issuers.front]", "was that of screens in an earlier policy"),
}


@pytest.mark.parametrize("change", REPLACED)
def test_a_name_stands_for_one_key_in_all_versions(
    screened: LivePlatform, tmp_path: Path, change: str
) -> None:
    """What another key signed would be believed, and a key that was revoked would be back."""
    policy = screened.data_dir / "policy.toml"
    before, (old, new, text) = policy.read_text(), REPLACED[change]
    other = tmp_path / "new.toml"
    other.write_text(before.replace(old, new))
    for how in (["--dry-run"], []):
        done = operator("policy", "publish", other, "--data-dir", screened.data_dir, *how)
        assert (done.code, done.stdout) == (1, "")
        assert text in " ".join(done.stderr.split())
        assert policy.read_text() == before
    # Nor does it help to take the issuer out in between, or to write into the file itself.
    (tmp_path / "without.toml").write_text(before.partition("[issuers.screens]")[0])
    screened.operate("policy", "publish", tmp_path / "without.toml")
    policy.write_text(other.read_text())
    file = write_csv(tmp_path / "signed.csv", signed_rows(1))
    for command in (("publish",), ("enroll", file)):
        done = operator(*command, "--data-dir", screened.data_dir)
        assert (done.code, done.stdout) == (1, "")
        assert text in " ".join(done.stderr.split())
    policy.write_text(before)
    assert screened.publish()["count"] == 4


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (changed('"profile", "messenger"'), "messenger: did its people give"),
        (DEFAULT_POLICY_TOML, "a consent counts for ever"),
        (DEFAULT_POLICY_TOML, "a number also given for two-factor may match"),
        (DEFAULT_POLICY_TOML, "sources.default may claim every origin"),
        (changed('"profile", "purchase"').split("[sources]")[0] + '[sources]\ndefault = ["profile"]\n',
         "purchase, which no source may claim"),
    ],
)  # fmt: skip
def test_a_policy_that_is_accepted_may_leave_questions(policy: str, asked: str) -> None:
    questions = lint_policy(parse_policy(policy, Path("policy.toml"), load_taxonomy()))
    assert [question for question in questions if asked in question]


def test_a_careful_policy_leaves_no_questions() -> None:
    policy = (
        changed('"profile"').split("[sources]")[0].replace("strict_origins = false", "strict_origins = true")
        + 'max_consent_age_days = 730\n[sources]\ndefault = []\naccounts = ["profile"]\n'
    )
    assert lint_policy(parse_policy(policy, Path("policy.toml"), load_taxonomy())) == []
