"""Questions and audits over the wire: the documents of the commands, for those who may ask."""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from platforms import LivePlatform, assertion, customers, grants, operator
from raw_client import RawClient, connected, fails, issued, load

from purposematch.server.pki import Role
from purposematch.v1 import answers_pb2 as v1

INVALID = grpc.StatusCode.INVALID_ARGUMENT
REFUSED = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(tmp_path_factory.mktemp("village"))
    platform.enroll(
        [
            *grants(1_000),
            assertion("s1", "phone", "+15551234567", "two_factor", notice_id="login"),
            assertion("s2", "phone", "+15551234567", notice_id="ads-7"),
        ]
    )
    platform.publish()
    credentials = platform.admit("acme")
    with platform.serving():
        done = platform.match(customers(platform.folder / "l.csv"), platform.folder / "m.csv", credentials)
        assert done.code == 0
        yield platform


@pytest.fixture(scope="module", params=[Role.AUDITOR, Role.OPERATOR])
def asker(village: LivePlatform, request: pytest.FixtureRequest) -> Iterator[RawClient]:
    known = load(village.folder / "credentials-acme")
    with connected(village.address, known, issued(village, request.param, "eve")) as one:
        yield one


def subject(asker: RawClient, **who: Any) -> Any:
    parts = asker.answers.GetSubject(v1.GetSubjectRequest(**who), timeout=60)
    return json.loads(b"".join(part.content for part in parts))


@pytest.mark.parametrize(
    ("who", "options", "people"),
    [
        ({"subject_id": "s1"}, ("--subject-id", "s1"), 1),
        ({"subject_id": "nobody"}, ("--subject-id", "nobody"), 0),
        ({"identifier": v1.Identifier(value="+15551234567")}, ("--identifier", "+15551234567"), 2),
        (
            {"identifier": v1.Identifier(value="(555) 123-4567", region="US")},
            ("--identifier", "(555) 123-4567", "--region", "US"),
            2,
        ),
        (
            {"identifier": v1.Identifier(value="USER3@example.com", kind="email")},
            ("--identifier", "user3@example.com"),
            1,
        ),
    ],
)
def test_subject_is_the_commands_document(
    village: LivePlatform, asker: RawClient, who: dict[str, Any], options: tuple[str, ...], people: int
) -> None:
    told = subject(asker, **who)
    assert told == village.operate("subject", *options)
    assert len(told["subjects"]) == people
    assert "example.com" not in json.dumps(told)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({}, ()),
        ({"origins": ["two_factor"]}, ("--origin", "two_factor")),
        (
            {"notices": ["ads-7", "other"], "sources": ["default"]},
            ("--notice", "ads-7", "--notice", "other", "--source", "default"),
        ),
        ({"advertiser": "acme"}, ("--advertiser", "acme")),
        ({"as_of": "2020-01-01T00:00:00Z"}, ("--as-of", "2020-01-01T00:00:00Z")),
        (
            {"received_from": "2020-01-01T00:00:00Z", "received_to": "2021-01-01T00:00:00Z"},
            ("--from", "2020-01-01T00:00:00Z", "--to", "2021-01-01T00:00:00Z"),
        ),
    ],
)
def test_impact_is_the_commands_document(
    village: LivePlatform, asker: RawClient, asked: dict[str, Any], options: tuple[str, ...]
) -> None:
    told = json.loads(asker.answers.GetImpact(v1.GetImpactRequest(**asked)).document)
    assert told == village.operate("impact", *options)
    if not asked:
        assert told["subjects_in_audiences"] == 1_000


def test_a_question_that_can_not_be_read_is_refused(asker: RawClient) -> None:
    for who in (
        {},
        {"identifier": v1.Identifier(value="planted nonsense")},
        {"identifier": v1.Identifier(value="a@example.com", kind="planted")},
        {"identifier": v1.Identifier(value="ab" * 32)},
        {"identifier": v1.Identifier(value="5551234567", region="planted")},
    ):
        with fails(INVALID) as told:
            list(asker.answers.GetSubject(v1.GetSubjectRequest(**who)))
        assert "planted" not in told[0]
    for asked in ({"origins": ["planted"]}, {"received_from": "yesterday"}, {"advertiser": "nobody"}):
        with fails(REFUSED) as told:
            asker.answers.GetImpact(v1.GetImpactRequest(**asked))
        assert "planted" not in told[0]


def test_every_question_is_in_the_log(village: LivePlatform, asker: RawClient) -> None:
    def asked() -> int:
        ((count,),) = village.rows("SELECT count(*) FROM log_leaf WHERE kind = 'operator_query'")
        return int(count)

    before = asked()
    subject(asker, subject_id="s1")
    asker.answers.GetImpact(v1.GetImpactRequest())
    assert asker.answers.Audit(v1.AuditRequest()).passed
    assert asked() == before + 3
    ((opening,),) = village.rows(
        "SELECT content FROM log_leaf WHERE kind = 'operator_query' ORDER BY \"index\" DESC LIMIT 1"
    )
    assert b"eve" in opening


def test_an_audit_counts_what_it_checked(village: LivePlatform, asker: RawClient) -> None:
    answer = asker.answers.Audit(v1.AuditRequest(), timeout=60)
    assert (answer.passed, answer.problem) == (True, "")
    checked, command = json.loads(answer.document), village.operate("audit")
    # The first audit is a leaf of the log when the second one looks.
    assert checked | {name: checked[name] + 1 for name in ("leaves", "queries")} == command | {
        "signed_leaves": checked["signed_leaves"]
    }


def test_an_audit_names_what_was_altered(village: LivePlatform, asker: RawClient) -> None:
    change = "UPDATE delivery SET source = ? WHERE id = 1"
    with contextlib.closing(sqlite3.connect(village.data_dir / "registry.sqlite")) as database:
        database.execute(change, ["default2"])
        database.commit()
        try:
            answer = asker.answers.Audit(v1.AuditRequest(), timeout=60)
            command = operator("audit", "--data-dir", village.data_dir)
        finally:
            database.execute(change, ["default"])
            database.commit()
    assert not answer.passed
    assert "delivery" in answer.problem
    assert command.stderr == f"error: {answer.problem}\n"
    assert asker.answers.Audit(v1.AuditRequest(), timeout=60).passed


def test_one_audit_at_a_time(asker: RawClient) -> None:
    calls = [asker.answers.Audit.future(v1.AuditRequest(), timeout=60) for _ in range(6)]
    codes = [call.code() for call in calls]
    assert grpc.StatusCode.OK in codes
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    # One whose asker has gone ends by itself, and another can begin.
    asker.answers.Audit.future(v1.AuditRequest(), timeout=60).cancel()
    for _ in range(100):
        with contextlib.suppress(grpc.RpcError):
            assert asker.answers.Audit(v1.AuditRequest(), timeout=60).passed
            return
        time.sleep(0.1)
    pytest.fail("no audit could begin")
