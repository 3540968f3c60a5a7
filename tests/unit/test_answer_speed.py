"""Enrolling a million assertions, `impact` and `subject` over them; `pytest -m slow -s` prints figures."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from registry_life import TAXONOMY, Life

from benchmarks.collected import ISSUERS, PLATFORM_ID, Evidence, collect
from purposematch.protocol.assertions import NO_TIME, Terms
from purposematch.protocol.purpose import Origin, Status
from purposematch.server.enroll import EnrollReport, enroll
from purposematch.server.impact import impact
from purposematch.server.recorded import load_recorded, select_assertions, select_erased
from purposematch.server.registry import Delivery, highest_assertion, policy_id, store_delivery
from purposematch.server.registry.columns import assertion_columns
from purposematch.server.registry.mentions import store_mentions
from purposematch.server.registry.rows import Rows, keyed_array
from purposematch.server.registry.terms_rows import store_terms
from purposematch.server.selection import Selection
from purposematch.server.subject import about_subject
from purposematch.tables import open_table

ASSERTIONS = 1_000_000
SESSIONS = 1_000
GENERATIONS = 100
MEMBERS = 20_000
"""Drawn for the audience of each session; some twice."""
TARGETED = "marketing.advertising.third_party.targeted"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Deliveries of 10,000, a generation after each, sessions of 20 advertisers with audiences."""
    life = Life(tmp_path_factory.mktemp("city"))
    random = np.random.default_rng(1)
    for number in range(20):
        life.admit(f"advertiser{number}")
    for number in range(GENERATIONS):
        _deliver(life, random, ASSERTIONS // GENERATIONS, number)
        _publish(life)
        for each in range(SESSIONS // GENERATIONS):
            session = life.open(f"advertiser{(number + each) % 20}")
            _audience(life, session, random)
    yield life
    life.registry.close()


def _deliver(life: Life, random: np.random.Generator, count: int, number: int) -> None:
    # Nine of ten people are new; keyed digests follow the people, so that pairs repeat.
    people = random.integers(0, max(1, (number + 1) * count * 9 // 10), count)
    keyed = np.zeros((count, 16), np.uint8)
    keyed[:, :8] = (people.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).reshape(-1, 1).view(np.uint8)
    none = np.full(count, NO_TIME)
    terms = [
        Terms((TARGETED,), origin, Status.GRANTED, "default") for origin in (Origin.SIGNUP, Origin.PROFILE)
    ]
    with life.registry.writing() as connection:
        _, ids = store_terms(connection, terms)
        rows = Rows(
            subject=pa.array([f"s{person}" for person in people.tolist()]),
            identifier=keyed_array(keyed),
            kind=np.ones(count, np.uint8),
            terms=ids[random.integers(0, 2, count)],
            not_before=none,
            expires_at=none,
            flaw=np.zeros(count, np.uint8),
            evidence=np.zeros(count, np.uint8),
            spelled=np.zeros(0, np.int64),
            others=keyed_array(keyed[:0]),
        )
        life.now += 60_000_000
        first = highest_assertion(connection) + 1
        about = Delivery("default", bytes(32), life.now, first, policy_id(connection, life.policy, 1), "{}")
        notice = pa.array([f"n{each}" for each in random.integers(0, 50, count).tolist()])
        digests = np.zeros((count, 32), np.uint8)
        store_delivery(
            connection, life.registry.sealing_key, about, rows, notice, digests, np.zeros(count, np.uint8)
        )
        store_mentions(connection, first, rows)


def _publish(life: Life) -> None:
    # The gate's answers are those at receipt, so that there is nothing for a publication to decide.
    life.now += 60_000_000
    with life.registry.writing() as connection:
        number = len(life.generations) + 1
        life.add_generation(connection, number, 1, highest_assertion(connection))
    life.generations.append(set())


def _audience(life: Life, session: str, random: np.random.Generator) -> None:
    with life.registry.reading() as connection:
        highest = highest_assertion(connection)
    ids = np.unique(random.integers(1, highest + 1, MEMBERS)).tolist()
    life.commit(session, [(f"member{each}", each.to_bytes(16, "big"), each) for each in ids])


def _seconds(question: Callable[[], object], times: int = 3) -> float:
    """Processor time of the fastest run: what others do on the machine does not count."""
    best = float("inf")
    for _ in range(times):
        started = time.process_time()
        question()
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.slow
@pytest.mark.parametrize(
    "selection", [Selection(notices=("n7",)), Selection(origins=(Origin.SIGNUP,)), Selection()], ids=str
)
def test_what_impact_takes(city: Life, selection: Selection) -> None:
    def question() -> None:
        with city.registry.reading() as connection:
            recorded = load_recorded(connection)
            chosen = select_assertions(connection, recorded, selection)
            found = impact(connection, recorded, chosen, select_erased(connection, recorded, selection))
            numbers = found.to_mapping()
        everybody = selection == Selection()
        assert (numbers["assertions"] == ASSERTIONS) is everybody
        assert numbers["sessions"] == SESSIONS

    seconds = _seconds(question)
    print(
        f"impact over {ASSERTIONS:,} assertions and {SESSIONS:,} sessions: {seconds:.2f} s of CPU; reach 2 s"
    )


@pytest.mark.slow
def test_what_subject_takes(city: Life) -> None:
    def seconds_for(subject: str) -> float:
        def question() -> None:
            with city.registry.reading() as connection:
                assert about_subject(connection, subject, city.now)["assertions"]

        return _seconds(question)

    # The first of all were there from the first delivery on: few have as many assertions, or memberships.
    with city.registry.reading() as connection:
        said = assertion_columns(connection, ["subject"])["subject"].unique()
    everybody = sorted(seconds_for(said[at].as_py()) for at in range(0, len(said), len(said) // 20))
    middle, most = everybody[len(everybody) // 2] * 1000, seconds_for("s77") * 1000
    print(
        f"subject among {ASSERTIONS:,} assertions: {middle:.1f} ms of CPU in the middle, and {most:.1f} ms "
        "for one of those with most; reach 50 ms"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("evidence", "least"), [(Evidence.NONE, 100_000), (Evidence.BATCH, 100_000), (Evidence.EACH, 20_000)]
)
def test_what_enrollment_takes(tmp_path: Path, evidence: Evidence, least: int) -> None:
    life = Life(tmp_path)
    life.rule(issuers=ISSUERS, require_evidence=evidence is not Evidence.NONE)
    collected = collect(tmp_path / "assertions.csv", ASSERTIONS, evidence)

    def enrolled() -> EnrollReport:
        with open_table(collected.path) as table:
            return enroll(
                table,
                life.registry,
                life.policy,
                TAXONOMY,
                lambda: life.now,
                platform_id=PLATFORM_ID,
                evidence=collected.batch,
            )

    clock, processor = time.perf_counter(), time.process_time()
    assert enrolled().enrolled == ASSERTIONS
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    life.registry.close()
    on_two = 2 * ASSERTIONS / processor
    print(
        f"enrollment of {ASSERTIONS:,} with {evidence}: {processor:.1f} s of CPU, at most {on_two:,.0f}/s "
        f"on two cores, reach {least:,}/s; {ASSERTIONS / clock:,.0f}/s by the clock, with whatever else the "
        "machine did"
    )
