"""The whole job through the command lines, against an intersection computed here in plain Python."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from platforms import (
    PLATFORM_ID,
    PURPOSE,
    LivePlatform,
    Row,
    assertion,
    operator,
    program,
    read_csv,
    write_csv,
)

SECURITY = "essential.service.security"

# Who is enrolled in `city`, told a second time below as sets of canonical values.
EMAILS = [f"citizen.{i}@example.com" for i in range(700)]
PHONES = [f"+1415555{i:04d}" for i in range(700)]
TWO_FACTOR = [f"+1415556{i:04d}" for i in range(150)]
RECOVERY = [f"recovery{i}@example.com" for i in range(100)]
CONTACTS = [f"friend{i}@example.com" for i in range(100)]
EXPIRED = [f"expired{i}@example.com" for i in range(50)]
WITHDRAWN = [f"withdrawn{i}@example.com" for i in range(50)]
FAMILY_PHONE = "+14155570000"
PERMITTED = {*EMAILS, *PHONES, FAMILY_PHONE}


def _accounts() -> list[Row]:
    rows = [
        assertion(f"c{i}", "email", value, ("profile", "signup", "newsletter", "purchase")[i % 4])
        for i, value in enumerate(EMAILS)
    ]
    rows += [assertion(f"c{i}", "phone", value, "profile") for i, value in enumerate(PHONES)]
    rows += [
        # Whatever is written beside it, what was given for two-factor stays out.
        assertion(f"t{i}", "phone", value, "two_factor", purposes=PURPOSE if i % 2 else SECURITY)
        for i, value in enumerate(TWO_FACTOR)
    ]
    rows += [assertion(f"r{i}", "email", value, "account_recovery") for i, value in enumerate(RECOVERY)]
    rows += [assertion(f"f{i}", "email", value, "contact_import") for i, value in enumerate(CONTACTS)]
    rows += [
        assertion(f"x{i}", "email", value, expires_at="2020-01-01T00:00:00+00:00")
        for i, value in enumerate(EXPIRED)
    ]
    rows += [assertion(f"w{i}", "email", value) for i, value in enumerate(WITHDRAWN)]
    rows += [assertion(f"w{i}", "email", value, status="withdrawn") for i, value in enumerate(WITHDRAWN)]
    rows.append(assertion("mother", "phone", FAMILY_PHONE, "two_factor", purposes=SECURITY))
    rows.append(assertion("daughter", "phone", FAMILY_PHONE, "signup"))
    return rows


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(tmp_path_factory.mktemp("city"), max_batch_elements=300)
    path = write_csv(platform.folder / "accounts.csv", _accounts())
    done = program("purposematch-platform", "enroll", "--data-dir", platform.data_dir, path, "--json")
    platform.enroll_report = done.document  # type: ignore[attr-defined]
    done = program("purposematch-platform", "publish", "--data-dir", platform.data_dir, "--json")
    platform.publish_report = done.document  # type: ignore[attr-defined]
    with platform.serving():
        yield platform


@pytest.fixture(scope="module")
def shop(city: LivePlatform) -> Path:
    return city.admit("shop")


def _mixed_list() -> list[Row]:
    """Rows of every sort: odd spelling, several identifiers, duplicates, none, invalid."""
    rows = [{"name": f"a {i}", "email": f"  {EMAILS[i].upper()} ", "phone": ""} for i in range(300)]
    rows += [
        {"name": f"b, {i}", "email": "", "phone": f"{p[:2]} {p[2:5]}-{p[5:]}"}
        for i, p in enumerate(PHONES[:200])
    ]
    # One of two identifiers is enough, whichever it is.
    rows += [
        {"name": f'c "{i}"', "email": f"nobody{i}@example.com", "phone": PHONES[300 + i]} for i in range(100)
    ]
    rows += [{"name": "d", "email": EMAILS[400 + i], "phone": f"+1415558{i:04d}"} for i in range(100)]
    rows += [{"name": "e", "email": f"stranger{i}@example.com", "phone": ""} for i in range(250)]
    rows += [{"name": "f", "email": "", "phone": value} for value in TWO_FACTOR]
    rows += [
        {"name": "g", "email": value, "phone": ""} for value in (*RECOVERY, *CONTACTS, *EXPIRED, *WITHDRAWN)
    ]
    rows += [{"name": "h", "email": EMAILS[i], "phone": ""} for i in range(40)]
    rows += [{"name": "i", "email": "not-an-address", "phone": ""} for _ in range(7)]
    rows += [{"name": "j", "email": "", "phone": "4155550001"} for _ in range(5)]
    rows += [{"name": "k", "email": "", "phone": ""} for _ in range(3)]
    rows += [{"name": "l", "email": "no-at-sign", "phone": FAMILY_PHONE}]
    return rows


def _identifiers(row: Row) -> list[str]:
    """What is usable in a row of the mixed list; written anew, for these values only."""
    email, phone = row["email"].strip().lower(), row["phone"].replace(" ", "").replace("-", "")
    usable = [email] if email.count("@") == 1 and " " not in email else []
    return usable + ([phone] if phone.startswith("+") else [])


def _expected(rows: list[Row], permitted: set[str]) -> tuple[list[str], dict[str, Any]]:
    """The column `matched` and the counts, as anybody would compute them."""
    matched, seen, duplicates, found = [], set[str](), 0, set[str]()
    for row in rows:
        own = _identifiers(row)
        hits = permitted.intersection(own)
        found |= hits
        matched.append("" if not own else "true" if hits else "false")
        duplicates += bool(own) and seen.issuperset(own)
        seen.update(own)
    usable = len(rows) - matched.count("")
    counts = {
        "rows": len(rows),
        "usable": usable,
        "duplicates": duplicates,
        "matched_rows": matched.count("true"),
        "matched_identifiers": len(found),
        "match_rate": matched.count("true") / usable,
    }
    return matched, counts


def test_the_platform_reports_as_the_contract_says(city: LivePlatform) -> None:
    enrolled: dict[str, Any] = city.enroll_report  # type: ignore[attr-defined]
    published: dict[str, Any] = city.publish_report  # type: ignore[attr-defined]
    assert list(enrolled) == ["read", "enrolled", "refused"]
    assert enrolled["read"] == len(_accounts()) == enrolled["enrolled"] + sum(enrolled["refused"].values())
    assert enrolled["enrolled"] == len(EMAILS) + len(PHONES) + 1
    assert enrolled["refused"]["EXPIRED"] == len(EXPIRED)
    assert list(published) == ["generation", "scope", "count"]
    assert published["count"] == len(PERMITTED)
    assert published["scope"] == {
        "platform_id": PLATFORM_ID,
        "purpose": PURPOSE,
        "profile": "plain-v1",
        "epoch": 1,
    }


def test_a_match_is_the_plain_intersection_with_what_was_permitted(
    city: LivePlatform, shop: Path, tmp_path: Path
) -> None:
    rows = _mixed_list()
    listed, output = write_csv(tmp_path / "list.csv", rows), tmp_path / "out.csv"
    done = program("purposematch", *city.match_arguments(listed, output, shop))
    document = done.document
    assert done.stdout.count("\n") == 1
    assert list(document) == [
        *("session", "rows", "usable", "invalid", "duplicates", "matched_rows", "matched_identifiers"),
        *("match_rate", "disclosure", "engine", "audience", "status"),
    ]
    matched, counts = _expected(rows, PERMITTED)
    assert {name: document[name] for name in counts} == counts
    assert document["disclosure"] == "both"
    assert document["rows"] == document["usable"] + sum(document["invalid"].values())
    assert document["invalid"] == {"empty": 3, "email_syntax": 7, "phone_region_missing": 5}
    assert len(document["session"]) == 32
    written = read_csv(output)
    assert [{name: row[name] for name in rows[0]} for row in written] == rows
    assert list(written[0]) == ["name", "email", "phone", "matched", "reason"]
    assert [row["matched"] for row in written] == matched
    assert all(bool(row["reason"]) == (row["matched"] == "") for row in written)
    # The leak sheet is shown even with --yes, and on stderr.
    assert "What this match gives away" in done.stderr


def test_what_was_given_for_security_or_by_others_never_matches(
    city: LivePlatform, shop: Path, tmp_path: Path
) -> None:
    kept_out = [*TWO_FACTOR, *RECOVERY, *CONTACTS]
    rows = [{"email": "" if v[0] == "+" else v, "phone": v if v[0] == "+" else ""} for v in kept_out]
    rows += [{"email": f"filler{i}@example.com", "phone": ""} for i in range(700)]
    output = tmp_path / "out.csv"
    done = city.match(write_csv(tmp_path / "list.csv", rows), output, shop)
    assert done.document["matched_rows"] == 0
    assert done.document["match_rate"] == 0.0
    assert {row["matched"] for row in read_csv(output)} == {"false"}
    assert city.audience(done.document["session"]) == []


def test_an_audience_holds_exactly_the_permitted_subjects_behind_the_matches(
    city: LivePlatform, shop: Path, tmp_path: Path
) -> None:
    rows = _mixed_list()
    done = city.match(write_csv(tmp_path / "list.csv", rows), tmp_path / "out.csv", shop)
    listed = {value for row in rows for value in _identifiers(row)}
    expected = {f"c{i}" for i in range(700) if EMAILS[i] in listed or PHONES[i] in listed}
    # The mother's number is on the list, and enrolled by her daughter alone.
    assert city.audience(done.document["session"]) == sorted({*expected, "daughter"})


def test_a_shared_phone_brings_in_only_who_permitted_it(
    city: LivePlatform, shop: Path, tmp_path: Path
) -> None:
    rows = [{"phone": FAMILY_PHONE}] + [{"phone": f"+1415559{i:04d}"} for i in range(1_000)]
    output = tmp_path / "out.csv"
    done = city.match(write_csv(tmp_path / "list.csv", rows), output, shop)
    assert done.document["matched_rows"] == 1
    assert read_csv(output)[0]["matched"] == "true"
    assert city.audience(done.document["session"]) == ["daughter"]


def test_disclosure_advertiser_tells_the_platform_nothing_but_the_size(
    city: LivePlatform, tmp_path: Path
) -> None:
    rows = _mixed_list()
    output = tmp_path / "out.csv"
    done = city.match(write_csv(tmp_path / "list.csv", rows), output, city.admit("quiet", "advertiser"))
    matched, counts = _expected(rows, PERMITTED)
    assert done.document["disclosure"] == "advertiser"
    assert {name: done.document[name] for name in counts} == counts
    assert [row["matched"] for row in read_csv(output)] == matched
    session = done.document["session"]
    assert city.rows('SELECT count(*) FROM "commit" WHERE session = ?', session) == [(0,)]
    assert city.audience(session) == []
    distinct = len({value for row in rows for value in _identifiers(row)})
    assert city.rows("SELECT elements, state FROM session WHERE id = ?", session) == [(distinct, "closed")]


def test_parquet_keeps_types_and_order(city: LivePlatform, shop: Path, tmp_path: Path) -> None:
    emails = [*EMAILS[:500], *(f"stranger{i}@example.com" for i in range(700)), None, "broken"]
    table = pa.table({"id": pa.array(range(1_202), pa.int32()), "e-mail": pa.array(emails, pa.string())})
    listed, output = tmp_path / "list.parquet", tmp_path / "out.parquet"
    pq.write_table(table, listed)
    done = city.match(listed, output, shop, "--email-column", "e-mail")
    assert done.document["invalid"] == {"empty": 1, "email_syntax": 1}
    written = pq.read_table(output)
    assert written.schema.names == ["id", "e-mail", "matched", "reason"]
    assert written.select(["id", "e-mail"]).equals(table)
    assert written["matched"].to_pylist() == [True] * 500 + [False] * 700 + [None, None]
    assert written["reason"].to_pylist()[-2:] == ["empty", "email_syntax"]


def test_standard_input_is_matched_too(city: LivePlatform, shop: Path, tmp_path: Path) -> None:
    lines = ["email", *EMAILS[:600], *(f"stranger{i}@example.com" for i in range(500))]
    output = tmp_path / "out.csv"
    content = "\n".join(lines).encode()
    done = program("purposematch", *city.match_arguments("-", output, shop), stdin=content)
    assert done.document["matched_rows"] == 600
    assert [row["email"] for row in read_csv(output)] == lines[1:]


def test_a_list_of_digests_matches_raw_accounts(city: LivePlatform, shop: Path, tmp_path: Path) -> None:
    def digest(value: str) -> str:
        return hashlib.sha256(value.encode()).hexdigest()

    values = [*EMAILS[:550], *(f"stranger{i}@example.com" for i in range(550))]
    rows = [{"email": digest(v) if i % 2 else digest(v).upper()} for i, v in enumerate(values)]
    rows.append({"email": hashlib.md5(b"someone").hexdigest()})
    output = tmp_path / "out.csv"
    done = city.match(write_csv(tmp_path / "list.csv", rows), output, shop, "--prehashed")
    assert done.document["invalid"] == {"hash_md5": 1}
    assert [row["matched"] for row in read_csv(output)] == ["true"] * 550 + ["false"] * 550 + [""]


def test_a_region_makes_national_phone_numbers_usable(city: LivePlatform, shop: Path, tmp_path: Path) -> None:
    # 555-01xx and others are judged possible, not assigned.
    rows = [{"phone": value.removeprefix("+1")} for value in PHONES[:600]]
    rows += [{"phone": f"415558{i:04d}"} for i in range(500)]
    done = city.match(write_csv(tmp_path / "list.csv", rows), tmp_path / "out.csv", shop, "--region", "US")
    assert (done.document["usable"], done.document["matched_rows"]) == (1_100, 600)


def test_enrolling_from_standard_input_and_parquet_gives_the_same_report(tmp_path: Path) -> None:
    rows = [assertion(f"s{i}", "email", f"user{i}@example.com") for i in range(50)]
    rows += [assertion("s", "phone", "+14155550000", "two_factor")]
    path = write_csv(tmp_path / "accounts.csv", rows)
    table = pa.Table.from_pylist([dict(row) for row in rows])
    pq.write_table(table, tmp_path / "accounts.parquet")
    reports = []
    for name, source in (("csv", path), ("parquet", tmp_path / "accounts.parquet")):
        reports.append(LivePlatform.create(tmp_path / name).operate("enroll", source))
    piped = LivePlatform.create(tmp_path / "piped")
    arguments = ("enroll", "--data-dir", piped.data_dir, "-", "--json")
    reports.append(program("purposematch-platform", *arguments, stdin=path.read_bytes()).document)
    assert reports == [{"read": 51, "enrolled": 50, "refused": {"ORIGIN_NOT_PERMITTED": 1}}] * 3


def test_the_profile_of_the_platform_rules_the_match(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "google", profile="google-v1")
    platform.enroll([assertion(f"g{i}", "email", f"first.last{i}@gmail.com") for i in range(600)])
    assert platform.publish()["scope"]["profile"] == "google-v1"
    rows = [{"email": f"firstlast{i}@gmail.com"} for i in range(300)]
    rows += [{"email": f"F.irst.Last{i}+shoes@GoogleMail.com"} for i in range(300, 600)]
    # Dots count everywhere else.
    rows += [{"email": f"firstlast{i}@example.com"} for i in range(500)]
    output = tmp_path / "out.csv"
    with platform.serving():
        done = platform.match(write_csv(tmp_path / "list.csv", rows), output, platform.admit("acme"))
    matched = [row["matched"] for row in read_csv(output)]
    assert matched[:300] == ["true"] * 300
    assert done.document["rows"] == 1_100
    assert set(matched[600:]) == {"false"}


def test_there_is_no_disclosure_by_default(city: LivePlatform) -> None:
    """Without one there are credentials and no agreement."""
    done = operator("agreement", "add", "other", "--data-dir", city.data_dir, "--out", city.folder / "no")
    assert done.code == 2
    out = city.folder / "none"
    done = operator("advertiser", "add", "none", "--data-dir", city.data_dir, "--out", out)
    assert done.code == 0
    assert not list(out.glob("agreement-*"))
    assert not (out / "signing.key").exists()


def test_a_list_below_the_minimum_is_refused_before_anything_is_sent(
    city: LivePlatform, shop: Path, tmp_path: Path
) -> None:
    before = city.rows("SELECT count(*) FROM session")
    listed = write_csv(tmp_path / "list.csv", [{"email": value} for value in EMAILS])
    done = city.match(listed, tmp_path / "out.csv", shop)
    assert done.code == 1
    assert done.stderr.startswith("error: the list has 700 distinct usable identifiers")
    assert not (tmp_path / "out.csv").exists()
    assert city.rows("SELECT count(*) FROM session") == before


def test_the_policy_that_init_writes_is_accepted_and_shown(city: LivePlatform) -> None:
    done = operator("policy", "check", city.data_dir / "policy.toml", "--json")
    assert done.document["required_purpose"] == PURPOSE
    assert done.document["permitted_origins"] == ["newsletter", "profile", "purchase", "signup"]
    assert json.load(io.StringIO(done.stdout)) == done.document
