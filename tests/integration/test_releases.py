"""Noisy counts on a real platform: known questions; budgets over restarts, processes and threads; the log."""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from noisy_sessions import ask, finish, finish_in, open_session, report_of
from platforms import PURPOSE, LivePlatform, advertiser, grants, operator

from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.errors import BudgetError, IntegrityError, RefusedError
from purposematch.protocol.log.events import EventKind
from purposematch.server.audit import audit
from purposematch.server.registry import log
from purposematch.server.registry.agreements import agreement_in_force
from purposematch.server.registry.generations import latest_generation
from purposematch.server.release import known_answer
from purposematch.server.statuses import status_of
from purposematch.server.times import iso as iso_of

DAY = 86_400_000_000
TESTS = Path(__file__).parent


def label(number: int) -> bytes:
    """The label of an invented list."""
    return number.to_bytes(32, "big")


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    """A platform with two advertisers of one legal entity, one of another, and a generation."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("founded"), min_list_elements=10)
    platform.enroll(grants(20))
    platform.publish()
    for name, disclosure, entity in (
        ("acme", "platform", "holding"),
        ("bolt", "count", "holding"),
        ("cove", "count", "cove"),
    ):
        platform.admit(name, disclosure, "--min-list", "10", "--legal-entity", entity)
    return platform


@pytest.fixture
def town(founded: LivePlatform, tmp_path: Path) -> LivePlatform:
    shutil.copytree(founded.data_dir, tmp_path / "platform")
    return LivePlatform(tmp_path)


def spent(platform: LivePlatform, entity: str = "holding") -> int:
    """What a legal entity has paid, by the database itself."""
    question = "SELECT COALESCE(SUM(epsilon), 0) FROM release WHERE legal_entity = ?"
    (row,) = platform.rows(question, entity)
    return int(row[0])


def test_a_report_says_what_was_asked_and_paid(town: LivePlatform) -> None:
    with town.opened() as platform:
        session = open_session(platform, "bolt", 1_234)
        release = finish(platform, session, label(1), 1_000)
        report = report_of(platform, release.document)
        with platform.registry.reading() as connection:
            latest = latest_generation(connection)
            agreement = agreement_in_force(connection, "bolt", platform.clock())
            (leaf,) = [each for each in log.leaves(connection) if each.kind == EventKind.RELEASE]
            event = leaf.event()
        assert latest is not None
        assert (report.session, report.label, report.list_size) == (session, label(1), 1_234)
        assert report.generation.hex() == latest.name
        assert report.policy == latest.policy == platform.policy().digest
        assert (report.agreement, report.disclosure) == (agreement.digest, Disclosure.COUNT)
        assert (report.legal_entity, report.epsilon, report.sensitivity) == ("holding", 250_000, 2)
        assert report.scale == 8_000_000
        # 30 scales away is seen once in 10^13 times.
        assert abs(report.value - 1_000) <= 30 * 8
        report.check_answers(agreement, label(1), bytes.fromhex(latest.name))
        assert event.at == report.released_at
        assert event.fields["epsilon"] == 250_000
        # What was counted is nowhere, but for the value that was told.
        assert "value" not in event.fields
        assert audit(platform).releases == 1


def test_a_known_question_is_answered_alike_and_costs_nothing(town: LivePlatform) -> None:
    with town.opened() as platform:
        first = ask(platform, "acme", label(1), exact=500)
        assert first.new
        # Whatever would be counted now; and by the other advertiser of the entity, it is another disclosure.
        for exact in (500, 501, 0, 10**6):
            again = ask(platform, "acme", label(1), exact)
            assert (again.new, again.document) == (False, first.document)
        assert spent(town) == 250_000
        with platform.registry.reading() as connection:
            now, policy = platform.clock(), platform.policy()
            latest = latest_generation(connection)
            assert latest is not None
            agreements = {
                name: agreement_in_force(connection, name, now) for name in ("acme", "bolt", "cove")
            }

            def known(name: str, number: int) -> object:
                return known_answer(
                    platform, connection, agreements[name], label(number), latest.name, policy, now
                )

            assert known("acme", 1) == first.document
            assert known("acme", 2) is known("bolt", 1) is known("cove", 1) is None
        # After the next publication it is another question.
        town.enroll(grants(1, first=100))
        town.publish()
        assert ask(platform, "acme", label(1)).new
        # And under another policy, too.
        assert spent(town) == 500_000
        audit(platform)


def test_a_spent_budget_still_answers_what_is_known(town: LivePlatform) -> None:
    with town.opened() as platform:
        documents = [ask(platform, "acme", label(number)).document for number in range(3)]
        # The other advertiser of the legal entity pays from the same budget.
        documents.append(ask(platform, "bolt", label(3)).document)
        before = town.rows("SELECT * FROM release"), town.rows("SELECT COUNT(*) FROM log_leaf")
        for name in ("acme", "bolt"):
            session = open_session(platform, name)
            with pytest.raises(BudgetError, match=r"legal entity holding .* it returns at"):
                finish(platform, session, label(4), 500)
        assert ask(platform, "acme", label(2)).document == documents[2]
        assert ask(platform, "bolt", label(3)).document == documents[3]
        assert ask(platform, "cove", label(4)).new
        assert town.rows("SELECT * FROM release WHERE legal_entity = 'holding'") == before[0]
        # The look-up before an exchange says the same.
        with platform.registry.reading() as connection:
            now = platform.clock()
            agreement, latest = agreement_in_force(connection, "acme", now), latest_generation(connection)
            assert latest is not None
            with pytest.raises(BudgetError) as caught:
                known_answer(platform, connection, agreement, label(4), latest.name, platform.policy(), now)
        code, text = status_of(caught.value)
        assert code.name == "RESOURCE_EXHAUSTED"
        assert text == str(caught.value)
        assert 29 * 86_400 < caught.value.retry_seconds <= 30 * 86_400
        assert audit(platform).releases == 5


def test_what_is_rolled_back_was_neither_paid_nor_told(town: LivePlatform) -> None:
    with town.opened() as platform:
        session = open_session(platform, "acme")
        before = town.rows("SELECT COUNT(*) FROM log_leaf")
        with suppress(ZeroDivisionError), platform.registry.writing() as connection:
            assert finish_in(platform, connection, session, label(1), 500, platform.clock()).new
            raise ZeroDivisionError
        assert spent(town) == 0
        assert town.rows("SELECT COUNT(*) FROM log_leaf") == before
        assert finish(platform, session, label(1), 500).new
        audit(platform)


def test_a_restart_and_a_clock_that_falls_back_give_nothing_back(town: LivePlatform) -> None:
    for number in range(4):
        with town.opened() as platform:
            assert ask(platform, "acme", label(number)).new
            right = platform.clock()
    for days in (0, 1, 400):
        with town.opened(clock=lambda: right - days * DAY) as platform:  # noqa: B023
            session = open_session(platform, "acme")
            with pytest.raises(BudgetError):
                finish(platform, session, label(5), 500)
    assert spent(town) == 10**6
    with town.opened() as platform:
        assert audit(platform).releases == 4


def test_two_processes_pay_from_one_budget(town: LivePlatform) -> None:
    command = [sys.executable, str(TESTS / "budget_driver.py"), str(town.data_dir)]
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    drivers = [
        subprocess.Popen(
            [*command, name, str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        for name, first in (("acme", 100), ("bolt", 200))
    ]
    try:
        for driver in drivers:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "ready\n"
        for driver in drivers:
            assert driver.stdin is not None
            driver.stdin.write("go\n")
            driver.stdin.flush()
        counted = [tuple(map(int, driver.communicate(timeout=120)[0].split())) for driver in drivers]
    finally:
        for driver in drivers:
            driver.kill()
            driver.communicate()
    assert sum(paid for paid, _ in counted) == 4
    assert sum(refused for _, refused in counted) == 8
    assert spent(town) == 10**6
    with town.opened() as platform:
        assert audit(platform).releases == 4


def test_concurrent_requests_pay_from_one_budget_and_once_for_one_question(town: LivePlatform) -> None:
    with town.opened() as platform:
        opened = [open_session(platform, name) for name in ("acme", "bolt") * 8]
        barrier, answers, refused = threading.Barrier(len(opened)), [], []

        def run(number: int, session: bytes) -> None:
            barrier.wait()
            try:
                # Two advertisers, each asking four questions twice.
                answers.append((number % 8, finish(platform, session, label(number % 8 // 2), 500)))
            except BudgetError as error:
                refused.append(error)

        threads = [threading.Thread(target=run, args=each) for each in enumerate(opened)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) + len(refused) == 16
        assert sum(release.new for _, release in answers) == 4
        assert len({(number, release.document.content) for number, release in answers}) == 4
        assert spent(town) == 10**6
        assert audit(platform).releases == 4


def test_a_question_is_answered_in_a_session_of_its_agreement(
    founded: LivePlatform, town: LivePlatform
) -> None:
    credentials = town.folder / "credentials-acme"
    shutil.copytree(founded.folder / credentials.name, credentials)
    with town.opened() as platform:
        session = open_session(platform, "acme")
        offer = town.folder / "offer.json"
        terms = ("--disclosure", "platform", "--min-list", "10", "--legal-entity", "holding")
        town.operate("agreement", "add", "acme", *terms, "--out", offer)
        done = advertiser("agreement", "accept", offer, "--credentials", credentials, "--yes", "--json")
        town.operate("agreement", "record", done.document["file"])
        with pytest.raises(RefusedError, match="replaced meanwhile"):
            finish(platform, session, label(1), 500)
        assert spent(town) == 0


def test_an_advertiser_keeps_its_legal_entity_while_it_has_spent(town: LivePlatform) -> None:
    terms = ("--disclosure", "platform", "--min-list", "10", "--out", town.folder / "offer.json")
    other = ("agreement", "add", "acme", *terms, "--legal-entity", "renamed", "--data-dir", town.data_dir)
    assert operator(*other).code == 0
    (town.folder / "offer.json").unlink()
    with town.opened() as platform:
        ask(platform, "acme", label(1))
    done = operator(*other)
    assert done.code == 1
    assert "legal entity holding has paid for noisy counts of acme" in done.stderr
    assert not (town.folder / "offer.json").exists()
    # Others may, and the same entity goes on.
    assert operator(*other[:-3], "holding", *other[-2:]).code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "UPDATE session SET agreement = (SELECT digest FROM agreement WHERE advertiser = 'cove')",
            "session",
        ),
        ("UPDATE release SET content = CAST(REPLACE(content, '250000', '250001') AS BLOB)", "release"),
    ],
)
def test_a_count_that_does_not_fit_its_agreement_is_named(town: LivePlatform, change: str, said: str) -> None:
    with town.opened() as platform:
        ask(platform, "bolt", label(1))
        with platform.registry.writing() as connection:
            connection.exec_driver_sql(change)
        with pytest.raises(IntegrityError, match=f"table {said}"):
            audit(platform)


def test_a_cheaper_answer_than_agreed_on_does_not_pass_the_audit(
    town: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored and logged consistently by a server that charges too little."""
    with town.opened() as platform:
        monkeypatch.setattr("purposematch.server.release.demand_budget", lambda *_: 100_000)
        ask(platform, "bolt", label(1))
        with pytest.raises(
            IntegrityError, match="release row 1 is not what its session and its agreement say"
        ):
            audit(platform)


def _shown(platform: LivePlatform, *options: str) -> dict[tuple[str, int], dict[str, object]]:
    document = platform.operate("budget", *options)
    return {(each["name"], each["days"]): each for each in document["budgets"]}


def test_budget_shows_what_is_spent_left_and_when_it_returns(town: LivePlatform) -> None:
    names = [("cove", 30), ("cove", 365), ("holding", 30), ("holding", 365), (PURPOSE, 30)]
    assert list(_shown(town)) == names
    assert all(each["spent"] == "0" and each["returns_at"] is None for each in _shown(town).values())
    with town.opened() as platform:
        told = report_of(platform, ask(platform, "acme", label(1)).document).released_at
        ask(platform, "bolt", label(1))
        ask(platform, "cove", label(1))
    shown = _shown(town)
    returns = {days: iso_of(told + days * DAY) for days in (30, 365)}
    assert shown["holding", 30] == {
        "holder": "legal_entity",
        "name": "holding",
        "days": 30,
        "spent": "0.5",
        "left": "0.5",
        "of": "1",
        "returns_at": returns[30],
        "counts_left": 2,
    }
    year, scope = shown["holding", 365], shown[PURPOSE, 30]
    assert (year["spent"], year["left"], year["returns_at"]) == ("0.5", "3.5", returns[365])
    assert (scope["holder"], scope["spent"], scope["left"]) == ("scope", "0.75", "19.25")
    assert scope["counts_left"] == 77
    assert list(_shown(town, "--legal-entity", "cove")) == [("cove", 30), ("cove", 365), (PURPOSE, 30)]
    # Status tells the same, and both say it to people in one table.
    budgets = town.operate("status")["budgets"]
    assert budgets == [
        {name: value for name, value in each.items() if name != "counts_left"} for each in shown.values()
    ]
    for command in ("budget", "status"):
        text = operator(command, "--data-dir", town.data_dir).stdout
        table = text.partition("Budgets for noisy counts, in epsilon\n")[2].partition("\n\n")[0].splitlines()
        assert len(table) == 1 + len(shown)
        assert table[3].split() == ["holding", "30", "0.5", "0.5", "1", returns[30][:10]]
        assert table[5].split() == [PURPOSE, "30", "0.75", "19.25", "20", returns[30][:10]]


def test_settings_of_the_budget_count_at_once_and_bind_agreements(
    town: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURPOSEMATCH_BUDGET_ENTITY_30_DAYS", "0.5")
    assert town.operate("config", "show")["budget.entity_30_days"] == {
        "value": "0.5",
        "source": "PURPOSEMATCH_BUDGET_ENTITY_30_DAYS",
    }
    with town.opened() as platform:
        for number in range(2):
            assert ask(platform, "acme", label(number)).new
        with pytest.raises(BudgetError, match=r"epsilon 0\.5 in 30 days"):
            ask(platform, "acme", label(2))
    assert _shown(town)["holding", 30]["left"] == "0"
    # What was agreed on may cost more than is allowed by now.
    monkeypatch.setenv("PURPOSEMATCH_BUDGET_RELEASE", "0.1")
    with town.opened() as platform, pytest.raises(RefusedError, match=r"the platform allows 0\.1"):
        ask(platform, "cove", label(2))
    offer = ("agreement", "add", "cove", "--disclosure", "count", "--data-dir", town.data_dir)
    done = operator(*offer, "--release-epsilon", "0.2", "--out", town.folder / "offer.json")
    assert done.code == 1
    assert "above budget.release = 0.1" in done.stderr
    offered = operator(*offer, "--out", town.folder / "offer.json", "--json").document
    assert offered["release_epsilon"] == 100_000
    monkeypatch.setenv("PURPOSEMATCH_BUDGET_RELEASE", "0.6")
    done = operator("budget", "--data-dir", town.data_dir)
    assert done.code == 1
    assert "[budget]" in done.stderr
    assert "must not fall" in done.stderr
