"""The commands of the platform: what they print for people and for programs, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
from platforms import PLATFORM_ID, LivePlatform, assertion, operator, write_csv

from purposematch.protocol.agreement import Agreement


@pytest.fixture(scope="module")
def hamlet(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    platform = LivePlatform.create(tmp_path_factory.mktemp("hamlet"))
    platform.publish()
    return platform


def _commands(hamlet: LivePlatform, folder: Path, name: str) -> list[list[str]]:
    data_dir = ["--data-dir", str(hamlet.data_dir)]
    return [
        ["init", "--data-dir", str(folder / name), "--region", "us"],
        ["publish", *data_dir],
        ["advertiser", "add", name, *data_dir, "--disclosure", "both", "--out", str(folder / f"a-{name}")],
        ["operator", "add", name, *data_dir, "--out", str(folder / f"o-{name}")],
        ["policy", "check", str(hamlet.data_dir / "policy.toml")],
    ]


@pytest.mark.parametrize("number", range(5))
def test_what_a_command_says_to_people_is_in_its_json_document_too(
    hamlet: LivePlatform, tmp_path: Path, number: int
) -> None:
    done = operator(*_commands(hamlet, tmp_path, "acme")[number], "--json")
    assert (done.code, done.stdout.count("\n")) == (0, 1), done.stderr
    text = operator(*_commands(hamlet, tmp_path, "bolt")[number]).stdout
    names = {line.split("  ")[0] for line in text.splitlines()[1:] if line}

    def flat(document: dict[str, Any]) -> set[str]:
        own = {name.replace("_", " ") for name, value in document.items() if not isinstance(value, dict)}
        return own.union(*(flat(value) for value in document.values() if isinstance(value, dict)))

    assert names == flat(done.document)


def test_the_document_of_publish_is_as_the_contract_says(hamlet: LivePlatform) -> None:
    done = operator("publish", "--data-dir", hamlet.data_dir, "--json")
    document = json.loads(done.stdout)
    assert list(document) == ["generation", "scope", "count"]
    assert list(document["scope"]) == ["platform_id", "purpose", "profile", "epoch"]


def test_the_fingerprint_of_a_new_advertiser_is_shown(hamlet: LivePlatform, tmp_path: Path) -> None:
    out = tmp_path / "acme"
    arguments = ("--data-dir", hamlet.data_dir, "--disclosure", "both", "--out", out)
    done = operator("advertiser", "add", "shown", *arguments)
    ((fingerprint, agreement),) = hamlet.rows(
        "SELECT hex(fingerprint), content FROM certificate JOIN agreement ON advertiser = name "
        "WHERE role = 'advertiser' AND name = 'shown'"
    )
    assert fingerprint.lower() in done.stdout
    assert Agreement.decode(agreement).platform_id == PLATFORM_ID


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["taken", "--disclosure", "both"], "there is an advertiser taken already"),
        (["new", "--disclosure", "both", "--release-epsilon", "0.2"], "both has no release_epsilon"),
        (
            ["new", "--disclosure", "platform", "--identifiers-per-subject", "2"],
            "has no identifiers_per_subject",
        ),
        (["new", "--disclosure", "count", "--release-epsilon", "0,5"], "a decimal number such as 0.25"),
        (
            ["new", "--disclosure", "count", "--release-epsilon", "11"],
            "above budget.release = 0.25",
        ),
        (
            ["new", "--disclosure", "count", "--identifiers-per-subject", "17"],
            "identifiers_per_subject of an",
        ),
        (["new", "--disclosure", "count", "--legal-entity", "New"], "a legal entity's name is"),
        (["new", "--disclosure", "count", "--legal-entity", "taken"], "with taken (legal entity taken"),
        (["new", "--disclosure", "both", "--min-list", "999"], "below limits.min_list_elements = 1000"),
        (["New", "--disclosure", "both"], "an advertiser's name is"),
    ],
)
def test_an_advertiser_that_cannot_be_admitted_gets_no_folder(
    hamlet: LivePlatform, tmp_path: Path, arguments: list[str], said: str
) -> None:
    if not hamlet.rows("SELECT * FROM advertiser WHERE name = 'taken'"):
        hamlet.admit("taken")
    before = hamlet.rows("SELECT * FROM advertiser")
    done = operator("advertiser", "add", *arguments, "--data-dir", hamlet.data_dir, "--out", tmp_path / "out")
    assert (done.code, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert hamlet.rows("SELECT * FROM advertiser") == before


def test_what_was_refused_is_said_with_what_the_reason_means(hamlet: LivePlatform, tmp_path: Path) -> None:
    rows = [
        assertion("ada", "email", "ada@example.com"),
        assertion("ben", "phone", "+15550100001", origin="two_factor"),
    ]
    shown = operator("enroll", write_csv(tmp_path / "rows.csv", rows), "--data-dir", hamlet.data_dir).stdout
    assert "an origin that never grants" in " ".join(shown.split())
    assert "given for this use" not in shown


def test_the_region_given_to_init_is_one_that_enroll_takes(tmp_path: Path) -> None:
    data_dir = tmp_path / "platform"
    rows = write_csv(tmp_path / "rows.csv", [assertion("s", "phone", "(415) 555-0123")])
    assert operator("init", "--data-dir", data_dir, "--region", "XX").code == 1
    assert not data_dir.exists()
    assert operator("init", "--data-dir", data_dir, "--region", "us").code == 0
    assert operator("enroll", rows, "--data-dir", data_dir, "--json").document["enrolled"] == 1


def test_verbose_alone_is_wrong_usage() -> None:
    done = operator("--verbose")
    assert (done.code, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: Invalid value: --verbose goes with --version (see purposematch-platform --help)\n"
    )
