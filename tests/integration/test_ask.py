"""`purposematch ask` and `publish`: what the platform's own commands say, to those who may ask, elsewhere."""

import contextlib
import json
import re
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from platforms import BIN, PLATFORM_ID, Done, LivePlatform, advertiser, assertion, customers, grants, operator

from purposematch.client import answers as answers_module
from purposematch.client import ask_audit, ask_impact, ask_status, ask_subject, publish
from purposematch.client.credentials import MemberCredentials
from purposematch.protocol.errors import (
    InputError,
    IntegrityError,
    PurposematchError,
    RefusedError,
    UnavailableError,
)
from purposematch.server.pki import Role, issue_client, load_certified_key

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
HOSTILE = "s\x1b[2J\x9b\u202e"
"""A subject id that the registry takes and a terminal would obey."""


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A platform on which everything has happened that there is to tell of."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("village"))
    platform.enroll(
        [
            *grants(1_000),
            assertion("s1", "phone", "+15551234567", "two_factor", notice_id="login"),
            assertion("s2", "phone", "+15551234567", notice_id="ads-7"),
            assertion(HOSTILE, "email", "hostile@example.com", notice_id="\x1b]0;notice"),
            assertion("gone", "email", "gone@example.com"),
        ]
    )
    platform.publish()
    credentials = platform.admit("acme")
    with platform.serving():
        done = platform.match(customers(platform.folder / "l.csv"), platform.folder / "m.csv", credentials)
        assert done.code == 0, done.stderr
        platform.operate("correct", "--notice", "ads-7", "--origin", "two_factor", "--apply")
        platform.operate("withdraw", "--subject-id", "s3")
        platform.operate("erase", "--subject-id", "gone", "--apply")
        platform.publish()
        for role in ("operator", "auditor", "collector"):
            out = platform.folder / role
            platform.operate(role, "add", f"the-{role}", "--out", out)
        yield platform


def ask(village: LivePlatform, question: str, *options: str | Path, role: str = "operator") -> Done:
    command = ("publish",) if question == "publish" else ("ask", question)
    return advertiser(
        *command, "--platform", village.address, "--credentials", village.folder / role, *options
    )


def local(village: LivePlatform, question: str, *options: str | Path) -> Done:
    return operator(question, "--data-dir", village.data_dir, *options)


QUESTIONS = [
    ("subject", "--subject-id", "s1"),
    ("subject", "--subject-id", "s3"),
    ("subject", "--subject-id", "nobody"),
    ("subject", "--subject-id", HOSTILE),
    ("subject", "--identifier", "+15551234567"),
    ("subject", "--identifier", "(555) 123-4567", "--region", "US"),
    ("subject", "--identifier", "USER3@example.com", "--kind", "email"),
    ("subject", "--identifier", "gone@example.com"),
    ("impact",),
    ("impact", "--origin", "two_factor"),
    ("impact", "--origin", " Two_Factor", "--origin", "signup"),
    ("impact", "--purpose", "marketing.advertising", "--notice", "ads-7", "--notice", "other"),
    ("impact", "--source", "default", "--issuer", ""),
    ("impact", "--issuer", "screens"),
    ("impact", "--advertiser", "acme"),
    ("impact", "--as-of", "2020-01-01T00:00:00Z"),
    ("impact", "--from", "2020-01-01T01:00:00+01:00", "--to", "2999-01-01T00:00:00Z"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
@pytest.mark.parametrize("role", ["operator", "auditor"])
def test_an_answer_is_that_of_the_platforms_own_command(
    village: LivePlatform, question: Sequence[str], role: str
) -> None:
    for form in ((), ("--json",)):
        here, there = ask(village, *question, *form, role=role), local(village, *question, *form)
        assert (here.code, here.stdout, here.stderr) == (0, there.stdout, there.stderr)
        assert here.stdout.strip()
        assert all(line.isprintable() for line in here.stdout.splitlines())


def test_the_village_has_everything_to_tell_of(village: LivePlatform) -> None:
    (told,) = ask(village, "subject", "--subject-id", "s3", "--json").document["subjects"]
    assert all(told[name] for name in told)
    assert ask(village, "subject", "--identifier", "gone@example.com", "--json").document["suppressed"]
    corrected = ask(village, "subject", "--subject-id", "s2", "--json").document["subjects"][0]
    assert any(each["corrections"] for each in corrected["assertions"])
    (hostile,) = ask(village, "subject", "--subject-id", HOSTILE, "--json").document["subjects"]
    assert hostile["subject_id"] == HOSTILE
    assert "s?[2J??" in ask(village, "subject", "--subject-id", HOSTILE).stdout
    everything = ask(village, "impact", "--json").document
    assert everything["by_advertiser"][0]["subjects_in_audiences"] == 1_000


def test_the_status_is_that_of_the_platforms_own_command(village: LivePlatform) -> None:
    here, there = (each(village, "status", "--json").document for each in (ask, local))
    for document in (here, there):
        # Two questions are never asked at the same moment.
        assert document["generation"].pop("age_seconds") >= 0
    assert here == there
    assert here["ready"] is True
    ages = r"(age seconds +)\d+"
    shown = [re.sub(ages, r"\1", each(village, "status").stdout) for each in (ask, local)]
    assert shown[0] == shown[1]
    assert "Quotas today" in shown[0]


def test_an_audit_is_that_of_the_platforms_own_command(village: LivePlatform) -> None:
    here, there = (each(village, "audit", "--json").document for each in (ask, local))
    # The first audit is a leaf of the log when the second one looks.
    assert list(here) == list(there)
    assert {name for name in here if here[name] != there[name]} <= {"leaves", "queries", "signed_leaves"}
    assert (here["leaves"] + 1, here["queries"] + 1) == (there["leaves"], there["queries"])
    numbers = r"(leaves|queries) .*"
    shown = [re.sub(numbers, r"\1", each(village, "audit").stdout) for each in (ask, local)]
    assert shown[0] == shown[1]
    assert shown[0].startswith("Everything is as it was logged\n")
    assert ask(village, "audit", role="auditor").code == 0


def test_publish_makes_a_generation_as_the_platforms_own_command_does(village: LivePlatform) -> None:
    latest = "SELECT id, number FROM generation ORDER BY number DESC LIMIT 1"
    ((_, before),) = village.rows(latest)
    published = ask(village, "publish", "--json").document
    ((name, number),) = village.rows(latest)
    assert (published["generation"], number) == (name, before + 1)
    there = local(village, "publish", "--json").document
    assert published | {"generation": there["generation"]} == there
    shown = ask(village, "publish").stdout
    assert shown.splitlines()[0] == "Generation published"
    assert village.rows(latest)[0][0] in shown


@pytest.mark.parametrize(
    ("role", "question", "whose"),
    [
        ("auditor", ("status",), "an operator"),
        ("auditor", ("publish",), "an operator"),
        ("collector", ("subject", "--subject-id", "s1"), "an operator or an auditor"),
        ("collector", ("impact",), "an operator or an auditor"),
        ("collector", ("audit",), "an operator or an auditor"),
        ("collector", ("status",), "an operator"),
        ("collector", ("publish",), "an operator"),
    ],
)
def test_another_role_is_told_whose_credentials_it_takes(
    village: LivePlatform, role: str, question: Sequence[str], whose: str
) -> None:
    done = ask(village, *question, "--json", role=role)
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.endswith(
        f": these credentials are not for this; ask the platform for those of {whose}\n"
    )


@pytest.mark.parametrize("question", [("status",), ("impact",), ("publish",)])
def test_an_advertiser_is_told_before_anybody_is_asked(
    village: LivePlatform, question: Sequence[str]
) -> None:
    done = ask(village, *question, role="credentials-acme")
    assert done.code == 1
    assert "these are the credentials of the advertiser acme; ask the platform for those of" in done.stderr


def test_the_certificate_of_an_advertiser_opens_nothing(village: LivePlatform, tmp_path: Path) -> None:
    authority = load_certified_key(village.data_dir / "tls" / "ca.pem", village.data_dir / "tls" / "ca.key")
    folder = tmp_path / "disguised"
    folder.mkdir()
    issued = issue_client(authority, PLATFORM_ID, Role.ADVERTISER, "acme", datetime.now(UTC))
    issued.write(folder / "client.pem", folder / "client.key")
    for name in ("ca.pem", "platform.json"):
        (folder / name).write_bytes((village.folder / "operator" / name).read_bytes())
    for question in (ask_audit, ask_impact, ask_status, publish):
        with pytest.raises(RefusedError, match=r"ask (it|the platform) for"):
            question(platform=village.address, credentials=folder)


def test_credentials_that_nobody_knows_are_told_so(village: LivePlatform, tmp_path: Path) -> None:
    other = LivePlatform.create(tmp_path / "other")
    out = tmp_path / "ops"
    other.operate("operator", "add", "ops", "--out", out)
    asked = ("ask", "status", "--platform", village.address, "--credentials")
    # The authority of the other platform did not sign this server.
    done = advertiser(*asked, out)
    assert done.code == 1
    assert "check the address, the network, and that the credentials are this platform's" in done.stderr
    # This platform's authority, and somebody else's certificate.
    for name in ("ca.pem", "platform.json"):
        (out / name).write_bytes((village.folder / "operator" / name).read_bytes())
    done = advertiser(*asked, out)
    assert done.code == 1
    assert "that the credentials are this platform's" in done.stderr
    assert "no such credentials folder" in advertiser(*asked, tmp_path / "missing").stderr
    done = advertiser("ask", "status", "--platform", "nowhere", "--credentials", village.folder / "operator")
    assert (done.code, "HOST:PORT" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("question", "code", "says"),
    [
        (("subject",), 2, "one of --subject-id and --identifier"),
        (("subject", "--subject-id", "a", "--identifier", "b"), 2, "one of"),
        (("subject", "--subject-id", ""), 1, "the subject is empty; give it a value, or leave it out"),
        (("subject", "--identifier", "planted nonsense"), 1, "can not read the identifier; check how"),
        (("subject", "--identifier", "ab" * 32), 1, "a digest needs a kind"),
        (("subject", "--identifier", "a@example.com", "--kind", "planted"), 1, "--kind"),
        (("subject", "--identifier", "a@example.com", "--kind", ""), 1, "the kind is empty"),
        (("subject", "--subject-id", "\udcff"), 1, "not Unicode"),
        (("impact", "--origin", "planted"), 1, "there is no such origin; choose one of "),
        (("impact", "--from", "yesterday"), 1, "a time is ISO 8601 with offset"),
        (("impact", "--as-of", "2020-01-01"), 1, "a time is ISO 8601 with offset"),
        (("impact", "--advertiser", "nobody"), 1, "there is no advertiser of that name"),
        # A variable of a script that is not set must not make an answer about everything.
        (("impact", "--from", ""), 1, "the beginning of the time of receipt is empty"),
        (("impact", "--to", ""), 1, "the end of the time of receipt is empty"),
        (("impact", "--as-of", ""), 1, "the time of the answer is empty"),
        (("impact", "--advertiser", ""), 1, "the advertiser is empty"),
        (("impact", "--notice", "\udcff"), 1, "not Unicode"),
        (("impact", "--output", "lists"), 2, "--output"),
    ],
)
def test_what_can_not_be_asked_is_refused_in_one_line(
    village: LivePlatform, question: Sequence[str], code: int, says: str
) -> None:
    done = ask(village, *question, "--json")
    assert (done.code, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert says in done.stderr
    assert "planted" not in done.stderr


def test_an_audit_that_fails_names_what_the_platforms_own_command_names(village: LivePlatform) -> None:
    change = "UPDATE delivery SET source = ? WHERE id = 1"
    with contextlib.closing(sqlite3.connect(village.data_dir / "registry.sqlite")) as database:
        database.execute(change, ["default2"])
        database.commit()
        try:
            here, there = ask(village, "audit", "--json"), local(village, "audit", "--json")
            with pytest.raises(IntegrityError, match="delivery"):
                ask_audit(platform=village.address, credentials=village.folder / "auditor")
        finally:
            database.execute(change, ["default"])
            database.commit()
    assert (here.code, here.stdout) == (there.code, there.stdout) == (1, "")
    assert here.stderr == there.stderr.replace("error: ", "error: the platform's audit failed: ")


def test_a_damaged_generation_is_told_with_what_to_do(village: LivePlatform) -> None:
    ((name,),) = village.rows("SELECT id FROM generation ORDER BY number DESC LIMIT 1")
    manifest = next((village.data_dir / "generations" / name).glob("manifest.*"))
    before = manifest.read_bytes()
    manifest.write_bytes(b"nonsense")
    try:
        told = ask(village, "status", "--json").document
    finally:
        manifest.write_bytes(before)
    # The server may have made it again meanwhile.
    assert told["ready"] is False or told["generation"]["id"] != name
    assert all(each["remedy"] for each in told["problems"])


def test_publish_says_that_the_policy_is_refused(village: LivePlatform) -> None:
    policy = village.data_dir / "policy.toml"
    before = policy.read_text()
    policy.write_text("nonsense = 1\n")
    try:
        done = ask(village, "publish")
    finally:
        policy.write_text(before)
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == "error: publishing: the platform refused: the platform's policy was refused\n"


def test_every_question_is_in_the_log_with_who_asked(village: LivePlatform) -> None:
    leaves = "SELECT content FROM log_leaf WHERE kind = 'operator_query' ORDER BY \"index\""
    before = len(village.rows(leaves))
    for question in (("subject", "--subject-id", "s1"), ("impact",), ("audit",)):
        assert ask(village, *question, role="auditor").code == 0
    asked = [json.loads(content) for (content,) in village.rows(leaves)[before:]]
    assert len(asked) == 3
    assert all("the-auditor" in json.dumps(each) for each in asked)


def test_the_commands_of_the_page_run(village: LivePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, section = PAGE.read_text().partition("### Questions from elsewhere")
    lines = re.findall(r"^\$ (.*)$", section[: section.index("\n## ")], re.MULTILINE)
    # The folders that they name are made there.
    monkeypatch.chdir(village.folder)
    for line in lines:
        program, *words = shlex.split(line.replace("127.0.0.1:7443", village.address))
        done = {"purposematch": advertiser, "purposematch-platform": operator}[program](*words)
        assert (done.code, done.stderr) == (0, ""), line
        assert done.stdout
    assert {line.split()[2] for line in lines} >= {"subject", "impact", "audit", "status"}


def test_the_program_asks_and_the_library_does(village: LivePlatform) -> None:
    where: dict[str, Any] = {"platform": village.address, "credentials": village.folder / "operator"}
    done = subprocess.run(
        [
            *(BIN / "purposematch", "ask", "impact", "--origin", "two_factor", "--json"),
            *("--platform", village.address, "--credentials", village.folder / "operator"),
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == b""
    assert json.loads(done.stdout) == ask_impact(origins=["two_factor"], **where)
    loaded = MemberCredentials.load(village.folder / "operator")
    assert ask_status(platform=village.address, credentials=loaded)["platform_id"] == PLATFORM_ID
    assert ask_subject("s1", **where)["subjects"][0]["subject_id"] == "s1"
    assert publish(**where)["count"] > 900
    for wrong in ({}, {"subject_id": "a", "identifier": "b"}):
        with pytest.raises(InputError):
            ask_subject(**wrong, **where)
    with pytest.raises(RefusedError):
        ask_impact(origins=["fax"], **where)


def test_a_platform_that_stops_is_unavailable(village: LivePlatform, monkeypatch: Any) -> None:
    monkeypatch.setattr(answers_module, "WORK_SECONDS", 0.0)
    where: dict[str, Any] = {"platform": village.address, "credentials": village.folder / "operator"}
    with pytest.raises(UnavailableError, match="did not answer in time; try again later"):
        ask_impact(**where)
    with pytest.raises(PurposematchError, match="no connection"):
        ask_status(platform="127.0.0.1:9", credentials=village.folder / "operator")
