"""Daily quotas: counted in the registry, as a slow model counts them from all that happened."""

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from registry_life import Life, said

from purposematch.protocol.agreement import LATEST_EXPIRY, Agreement, Disclosure
from purposematch.protocol.agreement_document import Acceptance, AgreementDocument
from purposematch.protocol.errors import IntegrityError, QuotaError, RefusedError
from purposematch.protocol.identifiers import Profile
from purposematch.server.registry import agreements, quota, sessions
from purposematch.server.registry.schema import session
from purposematch.server.registry.sessions import Batch, SessionState

DAY = 86_400_000_000
TERMS = Agreement(
    "town",
    "acme",
    "acme",
    1,
    "marketing.advertising",
    Profile.PLAIN,
    Disclosure.BOTH,
    LATEST_EXPIRY,
    min_list_elements=1,
    max_list_elements=100,
    daily_elements=100,
    daily_sessions=6,
    concurrent_sessions=3,
)


@dataclass
class Opened:
    """A session of the model: what it declared, when, what it sent, and whether it is open."""

    id: str
    size: int
    opened_at: int
    sent: list[tuple[int, int]] = field(default_factory=list)
    open: bool = True

    def counted(self) -> int:
        return sum(count for _, count in self.sent)


class Counting(RuleBasedStateMachine):
    """One advertiser under a clock that goes forwards, and now and then back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.life = Life(Path(self.folder.name))
        self.life.enroll([said("s1", "a@example.com")])
        self.life.publish()
        self.life.admit("acme")
        self.now = self.life.now
        self.opened: list[Opened] = []

    def teardown(self) -> None:
        self.life.registry.close()
        self.folder.cleanup()

    # The slow model: everything that happened is looked through for every question.
    def used(self, day: int) -> tuple[int, int]:
        elements = sum(n for each in self.opened for at, n in each.sent if at // DAY >= day)
        return elements, sum(each.opened_at // DAY >= day for each in self.opened)

    def alive(self) -> list[Opened]:
        return [each for each in self.opened if each.open and each.opened_at > self.now - DAY]

    def reserved(self) -> int:
        return sum(each.size - each.counted() for each in self.alive())

    @rule(hours=st.integers(-30, 30), minutes=st.integers(0, 59))
    def set_the_clock(self, hours: int, minutes: int) -> None:
        self.now += (hours * 60 + minutes) * 60_000_000

    @rule(size=st.integers(1, 100))
    def open(self, size: int) -> None:
        elements, count = self.used(self.now // DAY)
        fits = len(self.alive()) < 3 and count < 6 and elements + self.reserved() + size <= 100
        id_ = f"{len(self.opened):032x}"
        try:
            with self.life.registry.writing() as connection:
                quota.charge_session(connection, TERMS, size, self.now)
                connection.execute(
                    session.insert().values(
                        id=id_,
                        advertiser="acme",
                        fingerprint=bytes(32),
                        agreement=self.life._agreements["acme"],
                        generation=f"{1:032x}",
                        elements=size,
                        grant=b"",
                        log_size=0,
                        state=SessionState.OPEN,
                        opened_at=self.now,
                        heard_at=self.now,
                    )
                )
        except QuotaError as error:
            assert not fits
            self.holds(error, size)
        else:
            assert fits
            self.opened.append(Opened(id_, size, self.now))

    def holds(self, error: QuotaError, size: int) -> None:
        """When it says that the quota returns, nothing but open sessions is in the way."""
        assert error.retry_seconds > 0
        if error.retry_seconds == quota.OPEN_RETRY_SECONDS and "returns" not in str(error):
            return
        back = self.now + error.retry_seconds * 1_000_000
        elements, count = self.used(back // DAY)
        assert elements + size <= 100
        assert count < 6
        assert back // DAY > self.now // DAY

    @rule(data=st.data(), part=st.integers(1, 100))
    def send(self, data: st.DataObject, part: int) -> None:
        alive = [each for each in self.alive() if each.counted() < each.size]
        if not alive:
            return
        chosen = data.draw(st.sampled_from(alive))
        count = min(part, chosen.size - chosen.counted())
        elements, _ = self.used(self.now // DAY)
        batch = Batch(len(chosen.sent), bytes(32), count, count, self.now)
        try:
            with self.life.registry.writing() as connection:
                quota.charge_elements(connection, TERMS, count, self.now)
                sessions.add_batch(connection, chosen.id, batch)
        except QuotaError:
            assert elements + count > 100
        else:
            assert elements + count <= 100
            chosen.sent.append((self.now, count))

    @rule()
    def fail(self) -> None:
        """A transaction that is rolled back after it counted leaves nothing."""
        if not self.opened:
            return
        with suppress(ZeroDivisionError), self.life.registry.writing() as connection:
            quota._count(connection, "acme", self.now, elements=1, sessions=1)
            raise ZeroDivisionError

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        if alive := self.alive():
            chosen = data.draw(st.sampled_from(alive))
            chosen.open = False
            with self.life.registry.writing() as connection:
                assert sessions.close_session(connection, chosen.id, SessionState.CLOSED, self.now)

    @invariant()
    def what_is_left_is_what_the_model_says(self) -> None:
        elements, count = self.used(self.now // DAY)
        with self.life.registry.reading() as connection:
            left = quota.quota_left(connection, TERMS, self.now)
            kept = quota.used_by_day(connection)
        assert left.reserved == self.reserved()
        assert left.elements == max(0, 100 - elements - self.reserved())
        assert left.sessions == max(0, 6 - count)
        assert left.concurrent == max(0, 3 - len(self.alive()))
        assert left.returns_at == (self.now // DAY + 1) * DAY
        days = {at // DAY for each in self.opened for at, _ in [(each.opened_at, 0), *each.sent]}
        assert set(kept) == {("acme", day) for day in days}
        for day in days:
            # Whatever the clock did, no day has more than its quota.
            assert kept["acme", day][0] <= 100
            assert kept["acme", day][1] <= 6
            assert kept["acme", day] == tuple(
                now - later for now, later in zip(self.used(day), self.used(day + 1), strict=True)
            )


TestCounting = Counting.TestCase
TestCounting.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.fixture
def life(tmp_path: Path) -> Life:
    life = Life(tmp_path)
    life.admit("acme")
    return life


def test_a_quota_says_when_it_returns(life: Life) -> None:
    noon = 20_000 * DAY + DAY // 2
    with life.registry.writing() as connection:
        quota.charge_elements(connection, TERMS, 100, noon)
        with pytest.raises(QuotaError, match="returns at 2024-10-05 00:00 UTC") as caught:
            quota.charge_session(connection, TERMS, 1, noon)
        assert caught.value.retry_seconds == 12 * 3_600
        # A clock that jumps back to the day before gives nothing back, and the wait is longer.
        with pytest.raises(QuotaError, match="returns at 2024-10-05 00:00 UTC") as caught:
            quota.charge_session(connection, TERMS, 1, noon - DAY)
        assert caught.value.retry_seconds == 36 * 3_600
        quota.charge_session(connection, TERMS, 100, noon + DAY // 2)


def test_what_was_used_is_of_the_advertiser_and_not_of_the_agreement(life: Life) -> None:
    now = 20_000 * DAY
    larger = replace(TERMS, number=2, daily_elements=150)
    with life.registry.writing() as connection:
        quota.charge_elements(connection, TERMS, 100, now)
        assert quota.quota_left(connection, larger, now).elements == 50
        assert quota.quota_left(connection, replace(larger, advertiser="bolt"), now).elements == 150


def test_quotas_are_told_of_every_agreement_in_force_and_of_no_other(life: Life) -> None:
    """Against the question that a session asks, one advertiser at a time, at every moment that matters."""
    now = life.now
    names = ["acme", "bolt", "cove", "dune", "echo"]
    for name in names[1:]:
        life.admit(name)
    with life.registry.writing() as connection:
        for terms in (
            replace(TERMS, number=2),
            # Replaced by one that ends first, after which the earlier one is not in force again.
            replace(TERMS, number=2, advertiser="bolt", expires_at=now + 10, daily_elements=500),
            replace(TERMS, number=2, advertiser="dune"),
        ):
            document = AgreementDocument(terms, bytes(64))
            agreements.add_agreement(connection, document, Acceptance(bytes(32), bytes(64)), now)
        agreements.end_agreement(connection, "cove", 1, now)
        # The one that was ended was replaced before.
        agreements.end_agreement(connection, "dune", 1, now)
        quota.charge_elements(connection, TERMS, 30, now)
        quota.charge_session(connection, replace(TERMS, advertiser="bolt"), 1, now)
    told = []
    for moment in (now, now + 9, now + 10, now + DAY, LATEST_EXPIRY):
        expected = []
        with life.registry.reading() as connection:
            for name in names:
                try:
                    terms = agreements.agreement_in_force(connection, name, moment)
                except RefusedError:
                    continue
                left = quota.quota_left(connection, terms, moment)
                expected += [
                    (name, "daily_elements", left.elements, terms.daily_elements),
                    (name, "daily_sessions", left.sessions, terms.daily_sessions),
                    (name, "concurrent_sessions", left.concurrent, terms.concurrent_sessions),
                ]
            found = quota.quotas_left(connection, moment)
        assert [(each.advertiser, each.quota, each.left, each.of) for each in found] == expected
        told.append({(each.advertiser, each.quota): each.left for each in found})
    assert [sorted({name for name, _ in each}) for each in told] == [
        ["acme", "bolt", "dune", "echo"],
        ["acme", "bolt", "dune", "echo"],
        ["acme", "dune", "echo"],
        ["acme", "dune", "echo"],
        [],
    ]
    first, tomorrow = told[0], told[3]
    assert (first["acme", "daily_elements"], tomorrow["acme", "daily_elements"]) == (70, 100)
    assert first["bolt", "daily_sessions"] == 5


def test_nothing_is_counted_for_somebody_unknown(life: Life) -> None:
    with pytest.raises(IntegrityError, match="CONSTRAINT"), life.registry.writing() as connection:
        quota.charge_elements(connection, replace(TERMS, advertiser="nobody"), 1, 0)
