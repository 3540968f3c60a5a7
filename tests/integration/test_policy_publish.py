"""`policy publish`: whom a change drops and admits, what it leaves alone, and that it is in force then."""

import csv
from pathlib import Path

import pytest
from platforms import LivePlatform, assertion, operator, write_csv

from purposematch.protocol.policy import DEFAULT_POLICY_TOML
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
