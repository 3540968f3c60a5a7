"""The budget for noisy counts against a slow model, under clocks that jump, and against dp-accounting."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from opendp.combinators import make_composition
from opendp.domains import atom_domain
from opendp.measurements import make_laplace
from opendp.metrics import absolute_distance
from opendp.mod import enable_features
from registry_life import DAY, TARGETED, Life
from samples import AGREEMENT

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.errors import BudgetError, ConfigurationError, QuotaError, RefusedError
from purposematch.protocol.signing import SignedDocument
from purposematch.server.budget_limits import BudgetLimits
from purposematch.server.noise import noise_scale
from purposematch.server.registry.budget import Budget, Holder, budgets, demand_budget
from purposematch.server.registry.releases import Question, add_release, find_answer, release_time

LIMITS = BudgetLimits(
    release=300_000, entity_30_days=1_000_000, entity_365_days=2_000_000, scope_30_days=2_500_000
)
ANSWER = SignedDocument(b"{}", bytes(64))


def agreed(entity: str = "acme", epsilon: int = 250_000, purpose: str = TARGETED) -> Agreement:
    """A noisy agreement of a legal entity."""
    return replace(
        AGREEMENT,
        legal_entity=entity,
        purpose=purpose,
        disclosure=Disclosure.PLATFORM,
        release_epsilon=epsilon,
    )


class Told:
    """A registry in which noisy counts are told."""

    def __init__(self, folder: Path) -> None:
        self.life = Life(folder)
        self.life.publish()
        self.life.admit("acme")
        self.now = self.life.now
        self.count = 0

    def tell(self, agreement: Agreement, limits: BudgetLimits = LIMITS) -> int:
        """Pays for a count; when it counts as told."""
        session = self.life.open("acme")
        with self.life.registry.writing() as connection:
            epsilon = demand_budget(connection, limits, agreement, self.now)
            at = release_time(connection, self.now)
            self.count += 1
            label = self.count.to_bytes(32, "big")
            question = Question(agreement.legal_entity, label, f"{1:032x}", bytes(32), agreement.disclosure)
            add_release(
                connection,
                question,
                session=session,
                purpose=agreement.purpose,
                policy_id=1,
                epsilon=epsilon,
                released_at=at,
                answer=ANSWER,
            )
        return at

    def budgets(self, limits: BudgetLimits = LIMITS) -> dict[tuple[str, int], Budget]:
        """All budgets by name and days."""
        with self.life.registry.reading() as connection:
            return {(each.name, each.days): each for each in budgets(connection, limits, self.now)}


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    told = Told(tmp_path)
    yield told
    told.life.registry.close()


class Spending(RuleBasedStateMachine):
    """Three entities and two purposes under a clock that goes forwards, and now and then back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.told = Told(Path(self.folder.name))
        self.published = self.told.life.now
        self.paid: list[tuple[int, str, str, int]] = []

    def teardown(self) -> None:
        self.told.life.registry.close()
        self.folder.cleanup()

    def ledgers(self, entity: str, purpose: str) -> list[tuple[int, int, list[tuple[int, int]]]]:
        """Days, budget, and everything that was ever paid, of the three budgets that count."""
        own = [(at, epsilon) for at, who, _, epsilon in self.paid if who == entity]
        all_ = [(at, epsilon) for at, _, what, epsilon in self.paid if what == purpose]
        return [(30, 1_000_000, own), (365, 2_000_000, own), (30, 2_500_000, all_)]

    def fits(self, entity: str, purpose: str, epsilon: int, now: int) -> bool:
        return all(
            sum(each for at, each in paid if at > now - days * DAY) + epsilon <= of
            for days, of, paid in self.ledgers(entity, purpose)
        )

    @rule(hours=st.integers(-24 * 50, 24 * 90), microseconds=st.integers(0, 59_999_999))
    def set_the_clock(self, hours: int, microseconds: int) -> None:
        self.told.now += hours * 3_600_000_000 + microseconds

    @rule(
        entity=st.sampled_from(["acme", "bolt", "cove"]),
        purpose=st.sampled_from([TARGETED, "marketing.advertising"]),
        epsilon=st.sampled_from([1_000, 100_000, 249_999, 250_000, 300_000]),
    )
    def ask(self, entity: str, purpose: str, epsilon: int) -> None:
        now = self.told.now
        fits = self.fits(entity, purpose, epsilon, now)
        try:
            at = self.told.tell(agreed(entity, epsilon, purpose))
        except BudgetError as error:
            assert not fits
            # It returns when it is said to, and not a second before.
            back = now + error.retry_seconds * 1_000_000
            assert self.fits(entity, purpose, epsilon, back)
            assert not self.fits(entity, purpose, epsilon, back - 1_000_000)
        else:
            assert fits
            assert at >= max(now, self.published, *(each for each, *_ in self.paid), 0)
            self.paid.append((at, entity, purpose, epsilon))

    @invariant()
    def no_window_that_ever_was_holds_more_than_the_budget(self) -> None:
        for entity in ("acme", "bolt", "cove"):
            for purpose in (TARGETED, "marketing.advertising"):
                for days, of, paid in self.ledgers(entity, purpose):
                    for start, _ in paid:
                        assert sum(each for at, each in paid if start <= at < start + days * DAY) <= of

    @invariant()
    def what_is_shown_is_what_the_model_says(self) -> None:
        shown = self.told.budgets()
        now = self.told.now
        for entity in ("acme", "bolt", "cove"):
            for days, of, paid in self.ledgers(entity, TARGETED)[:2]:
                spent = [(at, each) for at, each in paid if at > now - days * DAY]
                budget = shown.get((entity, days))
                if budget is None:
                    assert not [at for at, _ in paid if at > now - 365 * DAY]
                    continue
                assert (budget.spent, budget.of) == (sum(each for _, each in spent), of)
                # Under a clock that fell back, two windows may count at once.
                assert budget.left == max(0, of - budget.spent)
                assert budget.returns_at == (min(at for at, _ in spent) + days * DAY if spent else None)


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_a_spent_budget_says_whose_it_is_and_when_it_returns(told: Told) -> None:
    first = told.tell(agreed())
    told.now = first + 7 * DAY
    for _ in range(3):
        told.tell(agreed())
    told.now += DAY
    with pytest.raises(BudgetError) as caught:
        told.tell(agreed())
    assert str(caught.value) == (
        "the budget of legal entity acme for noisy counts, epsilon 1 in 30 days, is spent; it returns at "
        "2025-07-15 15:08 UTC"
    )
    assert caught.value.retry_seconds == 22 * 86_400
    # Another entity has its own, and a cheaper count has to wait as long.
    told.tell(agreed("bolt"))
    with pytest.raises(BudgetError, match="2025-07-15 15:08"):
        told.tell(agreed(epsilon=1_000))
    # Its time is not told before it has come.
    told.now = first + 30 * DAY - 1
    with pytest.raises(BudgetError) as caught:
        told.tell(agreed())
    assert caught.value.retry_seconds == 1
    told.now += 1
    told.tell(agreed())
    with pytest.raises(BudgetError, match="in 30 days"):
        told.tell(agreed())


def test_a_year_s_budget_outlasts_a_month_s(told: Told) -> None:
    first = told.now
    for _ in range(2):
        for _ in range(4):
            told.tell(agreed())
        told.now += 31 * DAY
    with pytest.raises(BudgetError, match="epsilon 2 in 365 days") as caught:
        told.tell(agreed())
    assert first + 365 * DAY == told.now + caught.value.retry_seconds * 1_000_000


def test_all_entities_together_have_a_budget_in_a_scope(told: Told) -> None:
    for entity in ("acme", "bolt"):
        for _ in range(4):
            told.tell(agreed(entity))
    for _ in range(2):
        told.tell(agreed("cove"))
    with pytest.raises(BudgetError, match=r"of all legal entities .* epsilon 2.5 in 30 days"):
        told.tell(agreed("cove"))
    # Another purpose is another scope; its counts are paid by the same entity all the same.
    told.tell(agreed("cove", purpose="marketing.advertising"))
    assert told.budgets()["cove", 30].spent == 750_000
    # The next epoch is the same scope: its key is another one, its people are the same.
    told.life.publish()
    with pytest.raises(BudgetError, match="all legal entities"):
        told.tell(agreed("cove"))


def test_a_clock_that_jumps_back_gives_nothing_back(told: Told) -> None:
    for _ in range(4):
        told.tell(agreed())
    right = told.now
    for back in (1, 31, 366, 5_000):
        told.now = right - back * DAY
        with pytest.raises(BudgetError) as caught:
            told.tell(agreed())
        assert caught.value.retry_seconds == (30 + back) * 86_400


def test_what_is_told_under_a_clock_that_is_behind_counts_as_long(told: Told) -> None:
    """It was published at the right time; then the clock falls back, and is right again later."""
    right = told.now
    told.now = right - 40 * DAY
    for _ in range(4):
        assert told.tell(agreed()) == right
    told.now = right
    with pytest.raises(BudgetError):
        told.tell(agreed())
    told.now = right + 29 * DAY
    with pytest.raises(BudgetError):
        told.tell(agreed())
    told.now = right + 30 * DAY
    told.tell(agreed())


def test_budgets_of_those_who_may_ask_are_shown_before_they_do(told: Told) -> None:
    assert told.budgets() == {}
    told.life.admit("bolt", Disclosure.COUNT)
    assert set(told.budgets()) == {("bolt", 30), ("bolt", 365), (TARGETED, 30)}
    assert told.budgets()["bolt", 30] == Budget(
        Holder.LEGAL_ENTITY, "bolt", 30, 0, 1_000_000, 1_000_000, None
    )
    told.tell(agreed("cove"))
    assert set(told.budgets()) == {(name, days) for name in ("bolt", "cove") for days in (30, 365)} | {
        (TARGETED, 30)
    }
    told.now += 366 * DAY
    assert ("cove", 365) not in told.budgets()


def test_a_budget_that_was_lowered_has_nothing_left_and_not_less(told: Told) -> None:
    for _ in range(4):
        told.tell(agreed())
    lower = BudgetLimits(250_000, 250_000, 500_000, 2_500_000)
    budget = told.budgets(lower)["acme", 30]
    assert (budget.spent, budget.left, budget.of) == (1_000_000, 0, 250_000)
    with pytest.raises(BudgetError, match="in 365 days"):
        told.tell(agreed(), lower)


def test_a_count_that_costs_more_than_the_settings_allow_is_refused_and_not_put_off(told: Told) -> None:
    with pytest.raises(
        RefusedError, match=r"costs epsilon 0\.300001, and the platform allows 0\.3:"
    ) as caught:
        told.tell(agreed(epsilon=300_001))
    assert not isinstance(caught.value, QuotaError)
    with pytest.raises(RefusedError, match="no noisy counts"):
        told.tell(AGREEMENT)


def test_a_question_has_one_answer(told: Told) -> None:
    told.tell(agreed())
    with told.life.registry.reading() as connection:
        digest = told.life.policy.digest
        question = Question("acme", (1).to_bytes(32, "big"), f"{1:032x}", digest, Disclosure.PLATFORM)
        assert find_answer(connection, question) == ANSWER
        for other in (
            replace(question, legal_entity="bolt"),
            replace(question, label=bytes(32)),
            replace(question, generation=f"{2:032x}"),
            replace(question, policy=bytes(32)),
            replace(question, disclosure=Disclosure.COUNT),
        ):
            assert find_answer(connection, other) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((300_000, 200_000, 4_000_000, 4_000_000), "must not fall"),
        ((250_000, 1_000_000, 900_000, 4_000_000), "must not fall"),
        ((250_000, 1_000_000, 1_000_000, 249_999), "no scope_30_days below release"),
    ],
)
def test_budgets_that_pay_for_nothing_are_no_settings(values: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        BudgetLimits(*values)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 5]), st.integers(20_000, 1_000_000)), min_size=1, max_size=6)
)
@settings(max_examples=25, deadline=None)
def test_the_ledger_is_never_below_what_dp_accounting_and_opendp_compute(
    counts: list[tuple[int, int]],
) -> None:
    """Sensitivity and price of every count; the sum of prices is what the ledger holds."""
    ledger = sum(epsilon for _, epsilon in counts) / 1e6
    composed = None
    for sensitivity, epsilon in counts:
        one = pld.from_discrete_laplace_mechanism(
            1 / noise_scale(sensitivity, epsilon),
            sensitivity=sensitivity,
            value_discretization_interval=1e-3,
        )
        composed = one if composed is None else composed.compose(one)
    assert composed is not None
    # Its numbers are rounded up to a multiple of the interval for every count.
    rounding = 1e-3 * len(counts)
    assert composed.get_epsilon_for_delta(0) <= ledger + rounding
    # And what is paid is not for nothing: with delta 0 nobody could promise less.
    assert composed.get_epsilon_for_delta(0) >= ledger - rounding
    enable_features("contrib")
    space = atom_domain(T="i64"), absolute_distance(T="i64")
    largest = max(sensitivity for sensitivity, _ in counts)
    composition = make_composition(
        [
            make_laplace(*space, scale=noise_scale(sensitivity, epsilon) * largest / sensitivity)
            for sensitivity, epsilon in counts
        ]
    )
    assert composition.map(largest) == pytest.approx(ledger, rel=1e-9)
