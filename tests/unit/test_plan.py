"""`plan`: bytes against an independent count, times by hand, rates, and what a person sees."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.client import plan as module
from purposematch.client.cli import app
from purposematch.client.plan import EXCHANGES, Exchange, Sizes, plan_match
from purposematch.client.rates import Rates, Step, measure_rates
from purposematch.console import run
from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.errors import InputError
from purposematch.protocol.group.sodium import SodiumGroup
from purposematch.v1 import matching_pb2 as v1

RATES = Rates(
    "made up",
    dict(zip(Step, (1_000, 2_000, 2_500, 4_000, 5_000), strict=True)),
    dict(zip(Step, (500, 1_000, 800, 2_000, 2_500), strict=True)),
)
ROWS = [(each.disclosure, each.engine) for each in EXCHANGES]


def planned(disclosure: Disclosure, sizes: Sizes, mbit: float = 100.0) -> module.Plan:
    (exchange,) = (each for each in EXCHANGES if each.disclosure is disclosure)
    return plan_match(exchange, sizes, RATES, mbit * 1e6)


def test_every_disclosure_has_a_row_and_no_two_are_the_same() -> None:
    assert {disclosure for disclosure, _ in ROWS} == set(Disclosure)
    assert len(set(ROWS)) == len(ROWS)


@given(st.integers(1, 40_000), st.integers(1, 50))
@settings(max_examples=25)
def test_a_stream_of_batches_is_as_long_as_its_messages(elements: int, batch: int) -> None:
    """Against every message made one by one."""

    def make(number: int, count: int) -> Any:
        return v1.EvaluateRequest(batch_number=number, blinded_elements=bytes(count))

    total = {"bytes": 0, "messages": 0}

    def add(message: Any, count: int) -> None:
        total["bytes"] += message.ByteSize() * count
        total["messages"] += count

    batches = module._batches(add, elements, batch, make)
    lengths = [min(batch, elements - first) for first in range(0, elements, batch)]
    assert (batches, total["messages"]) == (len(lengths), len(lengths))
    assert total["bytes"] == sum(make(number, count).ByteSize() for number, count in enumerate(lengths))


def test_times_are_elements_by_rates_and_the_longest_decides() -> None:
    sizes = Sizes(list_size=9_936, enrolled=19_936, matching=5_000)
    both = planned(Disclosure.BOTH, sizes)
    assert (both.advertiser_seconds, both.platform_seconds) == (10.0, 20.0)
    assert both.seconds == 20.0
    exact = planned(Disclosure.PLATFORM, sizes)
    assert (exact.advertiser_seconds, exact.platform_seconds) == (5.0 + 5.0, 10.0 + 10.0)
    count = planned(Disclosure.COUNT, sizes)
    assert count.advertiser_seconds == pytest.approx(4.0 + 20_128 / 5_000)
    assert count.platform_seconds == pytest.approx(12.5 + 20_128 / 2_500)
    slow = planned(Disclosure.BOTH, sizes, mbit=0.1)
    assert slow.transfer_seconds == slow.seconds == max(slow.bytes_sent, slow.bytes_received) * 8 / 1e5


@pytest.mark.parametrize("disclosure", list(Disclosure))
def test_elements_are_what_is_sent(disclosure: Disclosure) -> None:
    """By hand, for a size at which all else is within a tenth of a percent, and framing a fifth."""
    sizes = Sizes(list_size=2_000_000, enrolled=1_000_000, matching=500_000, batch=65_535)
    plan = planned(disclosure, sizes)
    commit = 500_000 * 32 if disclosure is Disclosure.BOTH else 0
    sent, received = {
        True: (2_000_000 * 32 + 1_000_000 * 32, 1_000_000 * 32),
        False: (2_000_000 * 32 + commit, 2_000_000 * 32 + 1_000_000 * 16),
    }[disclosure.noisy]
    assert sent < plan.bytes_sent < sent * 1.003
    assert received < plan.bytes_received < received * 1.003


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(1, 65_535), st.sampled_from(EXCHANGES))
def test_more_costs_more(listed: int, enrolled: int, batch: int, exchange: Exchange) -> None:
    costs = []
    for more in (0, 1_000_000):
        sizes = Sizes(listed + more, enrolled + more, min(listed, enrolled), max(batch, 256))
        plan = plan_match(exchange, sizes, RATES, 1e8)
        costs.append((plan.bytes_sent, plan.bytes_received, plan.advertiser_seconds, plan.platform_seconds))
    assert all(less < more for less, more in zip(*costs, strict=True))


def test_rates_are_measured_on_both_sides() -> None:
    ticks = itertools.count()
    rates = measure_rates(SodiumGroup(), np.random.default_rng(1).bytes, lambda: float(next(ticks)))
    # A clock that ticks whenever it is looked at: the advertiser computes twice in an evaluation.
    assert rates.advertiser == {step: 1_024 / (2 if step is Step.EVALUATE else 1) for step in Step}
    assert rates.platform == dict.fromkeys(Step, 1_024.0)


def shown(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(app, ["plan", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def rates_file(tmp_path: Path) -> str:
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(RATES.to_mapping()))
    return str(path)


def test_the_command_tells_every_disclosure(rates_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--list-size", "10000", "--enrolled", "50000", "--rates", rates_file)
    code, out, _ = shown(*sizes, "--json", capsys=capsys)
    document = json.loads(out)
    assert code == 0
    assert (document["list_size"], document["enrolled"], document["matching"]) == (10_000, 50_000, 10_000)
    assert [(each["disclosure"], each["engine"]) for each in document["plans"]] == ROWS
    assert document["rates"] == RATES.to_mapping()
    for each in document["plans"]:
        assert each["seconds"] == max(
            each["advertiser_seconds"], each["platform_seconds"], each["transfer_seconds"]
        )
        assert each["platform_learns"][-1].endswith("identifiers: 10,000")
    noisy = {each["disclosure"]: each["advertiser_learns"][0] for each in document["plans"]}
    assert "which rows of its list match" in noisy["both"]
    assert "a noisy count of the subjects" in noisy["platform"]
    code, out, _ = shown(*sizes, "--disclosure", "count", "--disclosure", "both", capsys=capsys)
    assert code == 0
    assert "Disclosure count" in out
    assert "Disclosure platform" not in out
    assert "the exact count of the identifiers that match" in out


def test_rates_that_were_measured_can_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURPOSEMATCH_GROUP", "sodium")
    kept = tmp_path / "kept.json"
    sizes = ("--list-size", "1000", "--enrolled", "1000", "--json")
    code, out, _ = shown(*sizes, "--save-rates", str(kept), capsys=capsys)
    assert code == 0
    assert json.loads(kept.read_text()) == json.loads(out)["rates"]
    code, again, _ = shown(*sizes, "--rates", str(kept), capsys=capsys)
    assert (code, json.loads(again)) == (0, json.loads(out) | {"plans": json.loads(again)["plans"]})


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", '{"format": "purposematch rates v1"}', "not json", "[" * 60_000]
    + [
        json.dumps(RATES.to_mapping() | change)
        for change in (
            {"format": "other"},
            {"advertiser": {}},
            {"advertiser": dict.fromkeys(Step, 0)},
            {"platform": dict.fromkeys(Step, True)},
            {"platform": dict.fromkeys(Step, "fast")},
            {"platform": dict.fromkeys(Step, 1e300)},
        )
    ],
)
def test_what_is_no_file_of_rates_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rates.json"
    path.write_text(content)
    with pytest.raises(InputError, match="no file of rates"):
        Rates.load(path)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--list-size", "0", "--enrolled", "5"), 2, "list-size"),
        (("--list-size", "10", "--enrolled", "5", "--matching", "6"), 2, "matching"),
        (("--list-size", "10", "--enrolled", "5", "--disclosure", "all"), 2, "disclosure"),
        (("--list-size", "10", "--enrolled", "5", "--mbit", "0"), 2, "mbit"),
        (("--list-size", "10", "--enrolled", "5", "--rates", "nowhere.json"), 1, "cannot be read"),
    ],
)
def test_wrong_usage_is_named(
    arguments: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, err = shown(*arguments, capsys=capsys)
    assert (ended, out) == (code, "")
    assert said in err
