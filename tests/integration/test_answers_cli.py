"""The commands that answer, correct and withdraw, on a platform that serves: what they print and refuse."""

import json
import stat
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from platforms import LivePlatform, assertion, customers, grants, operator, read_csv, write_csv
from raw_client import connected, email_inputs, load

from purposematch.server.publish_lock import publishing_alone

LISTED = [f"user{i}@example.com" for i in range(1_000)]


def _mislabelled(first: int, count: int) -> list[dict[str, str]]:
    return [dict(row, notice_id="join-4") for row in grants(count, first=first)]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """`user0` to `user19`, and `user100` to `user119` through a notice that will turn out to be wrong."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("town"))
    platform.enroll([*grants(20), *_mislabelled(100, 20)])
    platform.publish()
    with platform.serving():
        yield platform


@pytest.fixture(scope="module")
def acme(town: LivePlatform) -> Path:
    return town.admit("acme")


def test_correct_finds_exactly_the_planted_and_none_of_them_matches_again(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    listed = customers(tmp_path / "list.csv", 1_000, first=110)  # `user110` to `user119` of the planted
    output = tmp_path / "out.csv"
    first = town.match(listed, output, acme).document
    assert first["matched_rows"] == 10
    planted = [f"s{i}" for i in range(100, 120)]
    matched = [f"s{i}" for i in range(110, 120)]
    assert town.audience(first["session"]) == matched

    # A session that is open when the correction comes commits nobody whom it concerns.
    with connected(town.address, load(acme)) as client:
        session = client.open()
        tags, tokens = session.run(email_inputs(LISTED))
        lists = tmp_path / "affected"
        done = town.operate(
            *("correct", "--notice", "join-4", "--origin", "two_factor", "--apply", "--output", lists)
        )
        document = session.commit(session.entries(tags, tokens, [10, 11, 105]), b"c" * 16)
        assert session.receipt(document).received == 3
        assert town.audience(session.id.hex()) == ["s10", "s11"]
        session.close()

    assert done["assertions"] == done["subjects"] == done["pairs"] == 20
    assert (done["subjects_in_audiences"], done["sessions"], done["audiences"]) == (10, 2, 1)
    assert done["subjects_advertisers_may_have_learned_of"] == 20
    assert [row["subject_id"] for row in read_csv(lists / "subjects.csv")] == planted
    audiences = read_csv(lists / "audiences.csv")
    assert [row["subject_id"] for row in audiences] == matched
    assert {row["session"] for row in audiences} == {first["session"]}
    sessions = {row["session"] for row in read_csv(lists / "sessions.csv")}
    assert sessions == {first["session"], session.id.hex()}
    assert [row["advertiser"] for row in read_csv(lists / "advertisers.csv")] == ["acme"]
    assert [row["number"] for row in read_csv(lists / "generations.csv")] == ["1"]
    assert len(read_csv(lists / "identifiers.csv")) == 20
    summary = json.loads((lists / "summary.json").read_text())
    assert summary == {name: value for name, value in done.items() if name != "generation"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in lists.iterdir()} == {0o600}

    again = town.match(listed, output, acme).document
    assert again["matched_rows"] == 0
    assert done["generation"] == town.rows("SELECT id FROM generation ORDER BY number DESC")[0][0]
    assert town.match(customers(tmp_path / "list.csv"), output, acme).document["matched_rows"] == 20


def test_a_correction_of_another_process_is_in_force_before_anybody_publishes(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    town.enroll(_mislabelled(200, 5))
    town.publish()
    town.operate(
        "correct", "--notice", "join-4", "--was-origin", "signup", "--origin", "two_factor", "--apply"
    )
    # What a publisher that was overtaken by the correction leaves behind: an older generation in front.
    with town.opened() as platform, platform.registry.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE generation SET decisions = 0 WHERE number = (SELECT max(number) FROM generation)"
        )
    before = town.rows("SELECT max(number) FROM generation")[0][0]
    town.match(customers(tmp_path / "list.csv"), tmp_path / "out.csv", acme)
    assert town.rows("SELECT max(number) FROM generation")[0][0] == before + 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["impact", "--origin", "phone_book"], 1, "no such origin"),
        (["impact", "--from", "2019-09-17"], 1, "ISO 8601"),
        (["impact", "--as-of", "yesterday"], 1, "ISO 8601"),
        (["impact", "--advertiser", "nobody"], 1, "no advertiser of that name"),
        (["impact", "--output", "FULL"], 1, "not a new or empty folder"),
        (["subject"], 2, "one of --subject-id and --identifier"),
        (["subject", "--subject-id", "a", "--identifier", "b"], 2, "one of"),
        (["subject", "--identifier", "+1"], 1, "can not be read as one of the kind phone"),
        (["subject", "--identifier", "a@example.com", "--kind", "fax"], 1, "no such kind"),
        (["subject", "--identifier", "ab" * 32], 1, "--kind"),
        (["correct", "--origin", "two_factor"], 1, "without a filter"),
        (["correct", "--notice", "n"], 1, "--origin, --purposes"),
        (["correct", "--notice", "n", "--purposes", "marketing.ads"], 1, "taxonomy"),
        (
            ["correct", "--notice", "n", "--origin", "signup", "--output", "FULL", "--apply"],
            1,
            "nothing was done",
        ),
        (["withdraw"], 2, "one of FILE, --subject-id and --identifier"),
        (["withdraw", "x.csv", "--subject-id", "a"], 2, "one of"),
        (["withdraw", "--subject-id", "a", "--kind", "email"], 2, "--kind goes with"),
        (["withdraw", "--subject-id", " "], 1, "neither its subject nor its identifier"),
        (["withdraw", "--identifier", "no address", "--kind", "email"], 1, "neither its subject nor its"),
        (["withdraw", "--identifier", "ab" * 32], 1, "--kind"),
        (["object", "--subject-id", "a", "--purpose", "marketing.ads"], 1, "not a data-use key"),
        (["object", "missing.csv"], 1, "no such file"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line_and_nothing_is_stored(
    town: LivePlatform, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    (tmp_path / "taken").write_text("")
    counts = "SELECT (SELECT count(*) FROM assertion_chunk), (SELECT count(*) FROM correction)"
    before = town.rows(counts)
    named = [str(tmp_path) if each == "FULL" else each for each in arguments]
    done = operator(*named, "--data-dir", town.data_dir, "--json")
    assert (done.code, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert says in done.stderr
    assert town.rows(counts) == before


@pytest.fixture
def village(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path / "village")
    platform.enroll(
        [*grants(5), assertion("s0", "phone", "+15550100001"), assertion("x", "email", "user0@example.com")]
    )
    platform.publish()
    return platform


@pytest.mark.parametrize("command", ["withdraw", "object"])
def test_a_receipt_says_what_is_stored_and_whom_it_takes_out(village: LivePlatform, command: str) -> None:
    status = {"withdraw": "withdrawn", "object": "objected"}[command]
    receipt = village.operate(command, "--subject-id", "s0")
    checkpoint, root = receipt.pop("checkpoint"), receipt.pop("log_root")
    assert receipt["log_size"] == int(checkpoint.split("\n")[1])
    assert b64encode(bytes.fromhex(root)).decode() == checkpoint.split("\n")[2]
    assert receipt | {"received_at": ""} == {
        "status": status,
        "purpose": None,
        "delivery": 2,
        "received_at": "",
        "first_assertion": 8,
        "assertions": 1,
        "pairs": 2,
        "generations": [1],
        "log_leaf": 5,
        "log_size": 6,
        "receipts": [{"assertion": 8, "log_leaf": 5, "position": 0}],
    }
    # The other person who has the address stays, until it is withdrawn by identifier.
    assert village.publish()["count"] == 5
    receipt = village.operate(command, "--identifier", " User0@example.com")
    assert (receipt["pairs"], receipt["generations"]) == (1, [1, 2])
    assert village.publish()["count"] == 4
    assert village.operate(command, "--identifier", "user0@example.com")["pairs"] == 0
    stranger = operator(command, "--subject-id", "stranger", "--data-dir", village.data_dir)
    assert (stranger.code, "check how what was named is spelt" in stranger.stderr) == (0, True)


def test_a_withdrawal_of_one_use_leaves_the_others(village: LivePlatform) -> None:
    other = village.operate("withdraw", "--subject-id", "s1", "--purpose", "analytics")
    assert other["pairs"] == 0
    assert village.publish()["count"] == 6
    row = {"subject_id": "s1", "kind": "email", "value": "user1@example.com", "value_format": "raw"}
    named = write_csv(village.folder / "named.csv", [row])
    other = village.operate("withdraw", named, "--purpose", "analytics")
    assert (other["pairs"], other["generations"]) == (0, [])
    ancestor = village.operate("withdraw", "--subject-id", "s1", "--purpose", "marketing.advertising")
    assert (ancestor["pairs"], ancestor["purpose"]) == (1, "marketing.advertising")


@pytest.mark.parametrize(
    ("rows", "pairs"),
    [
        ([{"subject_id": "s0"}, {"subject_id": "s1"}], 3),
        ([{"kind": "email", "value": "user1@example.com", "value_format": "raw"}], 1),
        (
            [
                {"subject_id": "s2", "kind": "", "value": "", "value_format": ""},
                {"subject_id": "", "kind": "email", "value": "user0@example.com", "value_format": "raw"},
            ],
            3,
        ),
    ],
)
def test_a_file_of_withdrawals_is_one_delivery(
    village: LivePlatform, tmp_path: Path, rows: list[dict[str, str]], pairs: int
) -> None:
    receipt = village.operate("withdraw", write_csv(tmp_path / "people.csv", rows))
    assert (receipt["assertions"], receipt["pairs"], receipt["delivery"]) == (len(rows), pairs, 2)


def test_a_correction_while_another_publisher_is_at_work_is_in_force(village: LivePlatform) -> None:
    with village.opened() as platform, publishing_alone(platform):
        done = village.operate("correct", "--source", "default", "--origin", "two_factor", "--apply")
        assert (done["correction"], done["pairs"], done["generation"]) == (1, 7, None)
    assert village.publish()["count"] == 0


def test_an_issuer_that_signed_what_was_not_so_is_corrected(village: LivePlatform) -> None:
    document = village.operate("correct", "--issuer", "screens", "--origin", "two_factor", "--apply")
    assert (document["assertions"], document["selection"]) == (0, {"issuers": ["screens"]})
    chosen = ("--issuer", "", "--was-origin", "signup", "--origin", "two_factor")
    assert village.operate("correct", *chosen)["pairs"] == 7


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("colour\nred\n", "a column subject_id"),
        ("kind,value\nemail,user1@example.com\n", "a column subject_id"),
        ("subject_id\n", "nobody in it"),
        ('subject_id\n""\n', "neither its subject"),
    ],
)
def test_a_file_that_names_nobody_is_refused(
    village: LivePlatform, tmp_path: Path, content: str, says: str
) -> None:
    (tmp_path / "people.csv").write_text(content)
    done = operator("withdraw", tmp_path / "people.csv", "--data-dir", village.data_dir)
    assert (done.code, done.stderr.count("\n")) == (1, 1)
    assert says in done.stderr
    assert "people.csv" in done.stderr


def test_subject_and_impact_say_to_people_what_they_say_to_programs(village: LivePlatform) -> None:
    data_dir = ("--data-dir", village.data_dir)
    text = operator("subject", "--identifier", "user0@example.com", *data_dir)
    assert text.code == 0
    assert "Subject s0" in text.stdout
    assert "Subject x" in text.stdout
    # Whole words on a narrow terminal, too: an assertion has a line for each of its labels.
    assert "\npurposes           marketing.advertising.third_party.targeted\n" in text.stdout
    assert "…" not in text.stdout
    found = village.operate("subject", "--identifier", "user0@example.com")["subjects"]
    assert [each["subject_id"] for each in found] == ["s0", "x"]
    assert [len(each["assertions"]) for each in found] == [2, 1]
    assert [said["issuer"] for each in found for said in each["assertions"]] == [None, None, None]
    assert village.operate("subject", "--subject-id", "stranger") == {
        "subjects": [],
        "suppressed": [],
    }
    assert "Nothing is known" in operator("subject", "--subject-id", "stranger", *data_dir).stdout
    numbers = village.operate("impact", "--origin", "signup")
    assert (numbers["assertions"], numbers["identifiers"], numbers["subjects"]) == (7, 6, 6)
    assert village.operate("impact", "--issuer", "")["assertions"] == 7
    assert village.operate("impact", "--issuer", "screens")["assertions"] == 0
    shown = operator("impact", "--origin", "signup", *data_dir).stdout
    assert "subjects advertisers may have learned of (upper bound)" in shown
    asked = operator("correct", "--notice", "no-such", "--origin", "two_factor", *data_dir)
    assert "or it was corrected before" in asked.stderr
    generations = village.rows("SELECT count(*) FROM generation")
    done = operator("correct", "--notice", "no-such", "--origin", "two_factor", "--apply", *data_dir)
    assert (done.code, "Nothing was changed" in done.stdout, "In force" in done.stdout) == (0, True, False)
    assert village.rows("SELECT count(*) FROM generation") == generations
    told = operator("withdraw", "--subject-id", "s3", *data_dir).stdout
    assert "\npurpose                          every use\n" in told
    assert "\npairs that stop being permitted  1\n" in told
    assert "\ngenerations                      1\n" in told
    told = operator("withdraw", "--subject-id", "s3", "--purpose", "analytics", *data_dir).stdout
    assert "\npurpose                          analytics\n" in told
    assert "\ngenerations                      none\n" in told
    village.operate("erase", "--subject-id", "s3", "--apply")
    again = operator("erase", "--identifier", "user3@example.com", "--apply", *data_dir).stdout
    assert again.startswith("Everything of it was erased before\n")
    assert "none" not in again
