"""Operator queries: each is a leaf that says who asked and what kind, and not about whom; else no answer."""

import getpass
import os
import time

import pytest
from platforms import LivePlatform, grants, operator

from purposematch.protocol.log.events import Event, EventKind
from purposematch.server import operator_queries
from purposematch.server.audit import audit
from purposematch.server.lookup import identifier_keys
from purposematch.server.operator_queries import (
    Query,
    is_about,
    record_query,
    subject_parameters,
    system_user,
)
from purposematch.server.registry import log

QUESTIONS = {
    ("subject", "--subject-id", "s1"): "subject",
    ("subject", "--identifier", "user1@example.com"): "subject",
    ("impact", "--notice", "n7"): "impact",
    ("correct", "--notice", "n7", "--origin", "two_factor"): "correct",
    ("removals",): "removals",
    ("audit",): "audit",
}


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    platform = LivePlatform.create(tmp_path_factory.mktemp("village"))
    platform.enroll(grants(5))
    platform.publish()
    return platform


def _asked(platform: LivePlatform) -> list[Event]:
    with platform.opened() as opened, opened.registry.reading() as connection:
        events = [leaf.event() for leaf in log.leaves(connection)]
    return [each for each in events if each.kind is EventKind.OPERATOR_QUERY]


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_is_a_leaf_that_tells_nothing_of_whom(
    village: LivePlatform, question: tuple[str, ...]
) -> None:
    before = len(_asked(village))
    village.operate(*question)
    (asked,) = _asked(village)[before:]
    assert asked.fields["query"] == QUESTIONS[question]
    assert asked.fields["by"] == f"user:{getpass.getuser()}"
    assert asked.fields.keys() == {"by", "query", "salt", "parameters"}
    for word in question[2:]:
        assert word not in asked.content.decode().replace('"subject"', "")


def test_the_same_question_twice_can_not_be_seen(village: LivePlatform) -> None:
    for _ in range(2):
        village.operate("subject", "--subject-id", "s2")
    first, second = _asked(village)[-2:]
    assert first.fields["parameters"] != second.fields["parameters"]


def test_the_platform_can_test_whom_a_question_was_about(village: LivePlatform) -> None:
    village.operate("subject", "--identifier", " User3@example.com")
    by_identifier = _asked(village)[-1]
    village.operate("subject", "--subject-id", "s3")
    by_subject = _asked(village)[-1]
    with village.opened() as platform:
        key = platform.registry.identifier_key
        keys = identifier_keys(platform.registry, "user3@example.com", None, None)
        others = identifier_keys(platform.registry, "user4@example.com", None, None)
    assert is_about(key, by_identifier, subject_parameters(None, keys))
    assert not is_about(key, by_identifier, subject_parameters(None, others))
    assert is_about(key, by_subject, subject_parameters("s3", []))
    assert not is_about(key, by_subject, subject_parameters("s4", []))


@pytest.mark.parametrize(
    "question",
    [
        ("subject",),
        ("subject", "--identifier", "+1"),
        ("impact", "--from", "yesterday"),
        ("correct", "--notice", "n", "--origin", "phone_book"),
    ],
)
def test_what_is_no_question_is_not_logged(village: LivePlatform, question: tuple[str, ...]) -> None:
    before = len(_asked(village))
    assert operator(*question, "--data-dir", village.data_dir).code in (1, 2)
    assert len(_asked(village)) == before


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_can_not_be_logged_is_not_answered(
    village: LivePlatform, question: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = operator_queries.ledger.record_operator_query

    def on_a_full_or_read_only_disk(connection, *arguments, **named):  # type: ignore[no-untyped-def]
        connection.exec_driver_sql("PRAGMA query_only = ON")
        return recorded(connection, *arguments, **named)

    monkeypatch.setattr(operator_queries.ledger, "record_operator_query", on_a_full_or_read_only_disk)
    before = len(_asked(village))
    done = operator(*question, "--data-dir", village.data_dir, "--json")
    assert (done.code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "nothing was answered" in done.stderr
    assert "writable" in done.stderr
    assert len(_asked(village)) == before


def test_somebody_with_a_certificate_is_named_by_it(village: LivePlatform) -> None:
    with village.opened() as platform:
        index = record_query(platform, Query.REMOVALS, {}, by="certificate:auditor7")
        with platform.registry.reading() as connection:
            (leaf,) = log.leaves(connection, index, index + 1)
        assert leaf.event().fields["by"] == "certificate:auditor7"
        assert audit(platform).queries == len(_asked(village))


def test_the_system_says_who_asks_and_not_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = system_user()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody")
    assert system_user() == honest
    monkeypatch.setattr(os, "getuid", lambda: 4_242_424)
    assert system_user() == "user:4242424"


def test_every_question_is_a_leaf_of_its_own(village: LivePlatform) -> None:
    before = len(_asked(village))
    with village.opened() as platform:
        seconds = []
        for number in range(30):
            started = time.process_time()
            record_query(platform, Query.SUBJECT, subject_parameters(f"s{number}", []))
            seconds.append(time.process_time() - started)
    print(f"one operator query logged: {sorted(seconds)[15] * 1000:.2f} ms of CPU; reach 10 ms")
    assert len(_asked(village)) == before + 30
