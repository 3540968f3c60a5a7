"""The numbers and the figure of docs/noise.md, computed again."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

from purposematch.protocol.epsilon import epsilon_text
from purposematch.server.budget_limits import BudgetLimits

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def within(epsilon: float) -> int:
    """The least distance that the noise of 19 counts in 20 stays within."""
    ratio, distance = math.exp(-epsilon), 0
    while 2 * ratio ** (distance + 1) / (1 + ratio) > 0.05:
        distance += 1
    return distance


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.25, 0.5, 1])
def test_the_table_is_what_the_formulas_give(figures: ModuleType, epsilon: float) -> None:
    limits = BudgetLimits()
    cells = [f"{epsilon:g}", f"{1 / epsilon:g}", str(within(epsilon)), f"{figures.allowed(epsilon):.1%}"]
    for budget in (limits.entity_30_days / 1e6, limits.entity_365_days / 1e6):
        answers = round(budget / epsilon)
        cells += [f"{answers}: {figures.reached(epsilon, answers):.1%}", f"{figures.allowed(budget):.1%}"]
    row = "| " + " | ".join(cell.replace("%", " %") for cell in cells) + " |"
    assert row in (DOCS / "noise.md").read_text().splitlines()


def test_the_settings_are_the_defaults() -> None:
    page = (DOCS / "noise.md").read_text()
    limits = BudgetLimits()
    for name in ("release", "entity_30_days", "entity_365_days", "scope_30_days"):
        assert f"| `{name}` | {epsilon_text(getattr(limits, name))} |" in page
    for name, questions in (("entity_30_days", 4), ("entity_365_days", 16), ("scope_30_days", 80)):
        assert getattr(limits, name) // limits.release == questions
        (row,) = [each for each in page.splitlines() if each.startswith(f"| `{name}`")]
        assert f": {questions} questions" in row


def test_the_best_guess_is_that_of_the_most_likely_case(figures: ModuleType) -> None:
    """Against the sum over all pairs of noisy counts."""
    for answers in (1, 2):
        told = range(-120, 121)
        pairs = [(a, b) for a in told for b in (told if answers == 2 else [None])]
        total = 0.0
        for pair in pairs:
            shares = [
                math.prod(figures.probability(z - present, 0.25) for z in pair if z is not None)
                for present in (0, 1)
            ]
            total += max(shares) / 2
        assert math.isclose(total, figures.reached(0.25, answers), abs_tol=1e-9)


def test_the_figure_is_what_its_script_draws(figures: ModuleType) -> None:
    assert (DOCS / "noise.svg").read_text() == figures.figure()
    assert "noise.svg" in (DOCS / "noise.md").read_text()
