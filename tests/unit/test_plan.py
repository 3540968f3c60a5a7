"""`plan`: bytes against an independent count, times by hand, rates, and what a person sees."""

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.client import one_shot, plan_traffic, vole_rates
from purposematch.client.cli import app
from purposematch.client.plan import EXCHANGES, Exchange, Plan, chosen_by_auto, plan_match
from purposematch.client.plan_traffic import Sizes, Traffic
from purposematch.client.rates import NO_VOLE_RATES, Rates, Step, measure_rates
from purposematch.client.vole_rates import MEASURED_ITEMS, VoleRates, VoleStep, measure_vole
from purposematch.client.wire import exchange_begin, exchange_chunk
from purposematch.console import run
from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.errors import InputError
from purposematch.protocol.group.sodium import SodiumGroup
from purposematch.protocol.match_engine import EXPERIMENTAL, MatchEngine
from purposematch.protocol.vole.engine import open_engine, why_unavailable
from purposematch.protocol.vole.parameters import MAX_CHUNK, MAX_RECEIVER, Role, parameters
from purposematch.protocol.vole.party import Chunk
from purposematch.server.one_shot_wire import format_chunk
from purposematch.v1 import matching_pb2 as v1

RATES = Rates(
    "made up",
    dict(zip(Step, (1_000, 2_000, 2_500, 4_000, 5_000), strict=True)),
    dict(zip(Step, (500, 1_000, 800, 2_000, 2_500), strict=True)),
)
VOLE: VoleRates = {
    Role.RECEIVER: dict(zip(VoleStep, (2, 1_000, 10_000, 20_000, 500), strict=True)),
    Role.SENDER: dict(zip(VoleStep, (4, 5_000, 2_000, 1_000, 50_000), strict=True)),
}
WITH_VOLE = replace(RATES, vole=VOLE)
ROWS = [(each.disclosure, each.engine) for each in EXCHANGES]
BY_VOLE = [Disclosure.BOTH, Disclosure.ADVERTISER, Disclosure.PLATFORM]
SODIUM = {"PURPOSEMATCH_GROUP": "sodium"}


def planned(
    disclosure: Disclosure,
    sizes: Sizes,
    mbit: float = 100.0,
    engine: MatchEngine = MatchEngine.OPRF,
    rates: Rates = WITH_VOLE,
) -> Plan:
    (exchange,) = (each for each in EXCHANGES if (each.disclosure, each.engine) == (disclosure, engine))
    return plan_match(exchange, sizes, rates, mbit * 1e6)


def test_every_disclosure_has_a_row_for_each_engine_that_can_run_it() -> None:
    assert len(set(ROWS)) == len(ROWS)
    assert set(ROWS) == {(each, MatchEngine.OPRF) for each in Disclosure} | {
        (each, MatchEngine.VOLE) for each in BY_VOLE
    }


@given(st.integers(0, 40_000), st.integers(1, 50), st.integers(0, 17_000))
@settings(max_examples=25)
def test_a_stream_of_batches_is_as_long_as_its_messages(elements: int, batch: int, begin: int) -> None:
    """Against every message made one by one."""

    def make(number: int, count: int) -> Any:
        return v1.EvaluateRequest(batch_number=number, blinded_elements=bytes(count))

    total = {"bytes": 0, "messages": 0}

    def add(message: Any, count: int) -> None:
        total["bytes"] += message.ByteSize() * count
        total["messages"] += count

    end = plan_traffic._batches(add, elements, batch, make, begin)
    lengths = [min(batch, elements - first) for first in range(0, elements, batch)]
    assert (end - begin, total["messages"]) == (len(lengths), len(lengths))
    assert total["bytes"] == sum(
        make(number, count).ByteSize() for number, count in enumerate(lengths, begin)
    )


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


@pytest.mark.parametrize("disclosure", BY_VOLE)
def test_a_match_by_vole_sends_what_its_chunks_take(disclosure: Disclosure) -> None:
    """Against every message of the wire made one by one; both ways have several chunks of a message."""
    sizes = Sizes(list_size=70_000, enrolled=2 * MAX_CHUNK // 16 + 5, matching=1_000)
    own, others = sizes.list_size + 64, sizes.enrolled + 64
    if disclosure is Disclosure.PLATFORM:
        role, shape = Role.SENDER, parameters(others, own)
    else:
        role, shape = Role.RECEIVER, parameters(own, others, 32 if disclosure is Disclosure.BOTH else 16)
    lengths: dict[Role, list[int]] = {each: [] for each in Role}
    for message in shape.messages:
        lengths[message.speaker] += [message.chunk_length(index) for index in range(message.chunks)]
    assert {each: sum(lengths[each]) for each in Role} == {each: shape.bytes_from(each) for each in Role}
    expected = Traffic()
    expected.call()
    expected.send(exchange_begin(bytes(16), bytes(16)))
    for each, of_each in lengths.items():
        for number, length in enumerate(of_each):
            if each is role:
                expected.send(exchange_chunk(Chunk(number, bytes(length))))
            else:
                expected.receive(format_chunk(Chunk(number, bytes(length))))
    counted = Traffic()
    plan_traffic.one_shot_traffic(counted, sizes, disclosure)
    sent, received = (mine - his for mine, his in zip(counted.bytes, expected.bytes, strict=True))
    assert sent == 0
    # The signed report comes behind the last chunk.
    assert (received == 0) if role is Role.RECEIVER else (900 < received < 1_200)


@pytest.mark.parametrize("disclosure", BY_VOLE)
def test_a_match_by_vole_sends_what_the_formula_says(disclosure: Disclosure) -> None:
    """By hand: 40 + 21 + 20 bits are 11 bytes, and a code word of 88 bits has 181."""
    sizes = Sizes(list_size=2_000_000, enrolled=1_000_000, matching=500_000)
    plan = planned(disclosure, sizes, engine=MatchEngine.VOLE)
    if disclosure is Disclosure.PLATFORM:
        sent, received = 2_000_000 * 11, 1_100_000 * 181 / 8
    else:
        commit, label = (500_000 * 32, 32) if disclosure is Disclosure.BOTH else (0, 16)
        sent, received = 2_200_000 * 181 / 8 + commit, 1_000_000 * (11 + label)
    assert plan.bytes_sent is not None
    assert plan.bytes_received is not None
    assert sent < plan.bytes_sent < sent * 1.006
    assert received < plan.bytes_received < received * 1.006


def test_times_of_a_match_by_vole_are_those_of_its_roles_and_add_up() -> None:
    sizes = Sizes(list_size=936, enrolled=1_936, matching=436)
    both = planned(Disclosure.BOTH, sizes, engine=MatchEngine.VOLE)
    receiver, sender = 1 / 2 + 1 + 0.2 + 0.1 + 1, 1 / 4 + 0.2 + 1 + 2 + 0.01
    assert both.advertiser_seconds == pytest.approx(receiver)
    assert both.platform_seconds == pytest.approx(sender)
    assert both.seconds == pytest.approx(receiver + sender)
    # The platform receives, the sizes change places, and nothing has a label.
    exact = planned(Disclosure.PLATFORM, sizes, engine=MatchEngine.VOLE)
    assert exact.platform_seconds == pytest.approx(1 / 2 + 2 + 0.1)
    assert exact.advertiser_seconds == pytest.approx(1 / 4 + 0.4 + 0.5)
    slow = planned(Disclosure.BOTH, sizes, mbit=0.1, engine=MatchEngine.VOLE)
    assert slow.seconds == slow.transfer_seconds


def test_what_is_not_known_of_a_match_by_vole_is_said() -> None:
    sizes = Sizes(list_size=1_000, enrolled=5_000, matching=10)
    untimed = planned(Disclosure.BOTH, sizes, engine=MatchEngine.VOLE, rates=RATES)
    timed = planned(Disclosure.BOTH, sizes, engine=MatchEngine.VOLE)
    assert untimed == replace(timed, advertiser_seconds=None, platform_seconds=None, missing=NO_VOLE_RATES)
    assert untimed.seconds is None
    # The receiver's list is the shorter one at most.
    for disclosure, listed, enrolled in (
        (Disclosure.BOTH, MAX_RECEIVER, 5),
        (Disclosure.PLATFORM, 5, MAX_RECEIVER),
    ):
        large = Sizes(listed, enrolled, 5)
        plan = planned(disclosure, large, engine=MatchEngine.VOLE)
        assert (plan.bytes_sent, plan.bytes_received, plan.seconds) == (None, None, None)
        assert plan.missing is not None
        assert f"and not {MAX_RECEIVER:,}" in plan.missing
        assert plan.warning == EXPERIMENTAL
        assert planned(disclosure, large).missing is None


@pytest.mark.parametrize("disclosure", BY_VOLE)
def test_who_learns_what_is_the_same_whatever_computes(disclosure: Disclosure) -> None:
    """The command says it once for a disclosure."""
    sizes = Sizes(1_000, 5_000, 10)
    first, second = (planned(disclosure, sizes, engine=engine) for engine in MatchEngine)
    assert first.advertiser_learns == second.advertiser_learns
    assert first.platform_learns == second.platform_learns


def test_auto_is_the_rule_of_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = Sizes(1_000_000, 5_000_000, 1_000_000), Sizes(1_000, 5_000, 1_000)

    def chosen(disclosure: Disclosure, sizes: Sizes, *, allowed: bool) -> MatchEngine:
        return chosen_by_auto(disclosure, sizes, os.environ, allow_experimental=allowed)

    monkeypatch.setattr(one_shot, "why_unavailable", lambda environ: None)
    for disclosure in Disclosure:
        assert chosen(disclosure, long, allowed=False) is MatchEngine.OPRF
        expected = MatchEngine.VOLE if disclosure in BY_VOLE else MatchEngine.OPRF
        assert chosen(disclosure, long, allowed=True) is expected
    assert chosen(Disclosure.BOTH, short, allowed=True) is MatchEngine.OPRF
    # For the platform's list of so many points the curve takes longer, but VOLE can not do it.
    assert chosen(Disclosure.PLATFORM, Sizes(5, MAX_RECEIVER, 5), allowed=True) is MatchEngine.OPRF
    monkeypatch.undo()
    assert chosen_by_auto(Disclosure.BOTH, long, SODIUM, allow_experimental=True) is MatchEngine.OPRF


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(1, 65_535), st.sampled_from(EXCHANGES))
def test_more_costs_more(listed: int, enrolled: int, batch: int, exchange: Exchange) -> None:
    if exchange.engine is MatchEngine.VOLE:
        listed, enrolled = 1 + listed // 100, enrolled // 100
    costs: list[tuple[Any, ...]] = []
    for more in (0, 1_000_000):
        sizes = Sizes(listed + more, enrolled + more, min(listed, enrolled), max(batch, 256))
        plan = plan_match(exchange, sizes, WITH_VOLE, 1e8)
        costs.append((plan.bytes_sent, plan.bytes_received, plan.advertiser_seconds, plan.platform_seconds))
    assert all(less < more for less, more in zip(*costs, strict=True))


def test_rates_are_measured_on_both_sides() -> None:
    ticks = itertools.count()
    rates = measure_rates(SodiumGroup(), np.random.default_rng(1).bytes, SODIUM, lambda: float(next(ticks)))
    # A clock that ticks whenever it is looked at: the advertiser computes twice in an evaluation.
    assert rates.advertiser == {step: 1_024 / (2 if step is Step.EVALUATE else 1) for step in Step}
    assert rates.platform == dict.fromkeys(Step, 1_024.0)
    assert rates.vole == why_unavailable(SODIUM)


@pytest.mark.skipif(why_unavailable(os.environ) is not None, reason="no VOLE engine here")
def test_a_match_by_vole_is_measured_by_real_parties(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks when it is looked at: every chunk is sent and taken, and a turn of three ends."""
    monkeypatch.setattr(vole_rates, "ROUNDS", 1)
    ticks = itertools.count()
    random = np.random.default_rng(1).bytes
    rates = measure_vole(open_engine(SodiumGroup(), os.environ), random, lambda: float(next(ticks)))
    empty, filled = parameters(0, 0), parameters(MEASURED_ITEMS, 0)
    chunks, more = (sum(shape.chunks_from(role) for role in Role) for shape in (empty, filled))
    for role in Role:
        assert rates[role][VoleStep.START] == pytest.approx(1 / (chunks + 3))
        assert rates[role][VoleStep.RECEIVER_ITEM] == pytest.approx(MEASURED_ITEMS / (more - chunks))
    # Nothing more is said for a label that is read: less than can be told, and still a rate.
    assert rates[Role.SENDER][VoleStep.OPENED] == pytest.approx(1e9)
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(replace(RATES, vole=rates).to_mapping()))
    read = Rates.load(path).vole
    assert not isinstance(read, str)
    assert read == {role: pytest.approx(steps, abs=0.06) for role, steps in rates.items()}


def shown(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(app, ["plan", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def rates_file(tmp_path: Path) -> str:
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(WITH_VOLE.to_mapping()))
    return str(path)


def test_the_command_tells_every_disclosure(
    rates_file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_shot, "why_unavailable", lambda environ: None)
    sizes = ("--list-size", "10000", "--enrolled", "50000", "--rates", rates_file)
    code, out, _ = shown(*sizes, "--json", capsys=capsys)
    document = json.loads(out)
    assert code == 0
    assert (document["list_size"], document["enrolled"], document["matching"]) == (10_000, 50_000, 10_000)
    assert [(each["disclosure"], each["engine"]) for each in document["plans"]] == ROWS
    assert document["rates"] == WITH_VOLE.to_mapping()
    for each in document["plans"]:
        computed = [each["advertiser_seconds"], each["platform_seconds"]]
        by_vole = each["engine"] == "vole"
        longest = max(each["transfer_seconds"], sum(computed) if by_vole else max(computed))
        assert each["seconds"] == pytest.approx(longest, abs=0.002)
        assert each["warning"] == (EXPERIMENTAL if by_vole else None)
        assert each["missing"] is None
        assert each["platform_learns"][-1].endswith("identifiers: 10,000")
    noisy = {each["disclosure"]: each["advertiser_learns"][0] for each in document["plans"]}
    assert "which rows of its list match" in noisy["both"]
    assert "a noisy count of the subjects" in noisy["platform"]
    assert document["auto"] == {
        each.value: {"usual": "oprf", "allow_experimental": "vole" if each in BY_VOLE else "oprf"}
        for each in Disclosure
    }
    code, out, _ = shown(*sizes, "--disclosure", "count", "--disclosure", "both", capsys=capsys)
    assert code == 0
    assert out.count(f"vole: {EXPERIMENTAL}") == 1
    assert "takes oprf, and vole where the agreement allows experimental engines" in out
    assert "takes oprf, whatever the agreement allows" in out
    assert "Disclosure count" in out
    assert "Disclosure platform" not in out
    assert "the exact count of the identifiers that match" in out


def test_a_file_without_rates_for_vole_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(RATES.to_mapping()))
    assert "vole" not in RATES.to_mapping()
    assert Rates.load(path) == RATES
    sizes = ("--list-size", "1000", "--enrolled", "1000", "--disclosure", "both", "--rates", str(path))
    code, out, _ = shown(*sizes, "--json", capsys=capsys)
    (usual, vole) = json.loads(out)["plans"]
    assert (code, usual["missing"], vole["missing"]) == (0, None, NO_VOLE_RATES)
    assert (vole["seconds"], vole["advertiser_seconds"], vole["platform_seconds"]) == (None, None, None)
    assert vole["bytes_sent"] > 0
    code, out, _ = shown(*sizes, capsys=capsys)
    assert code == 0
    assert f"vole: {EXPERIMENTAL}; {NO_VOLE_RATES}" in out


def test_rates_that_were_measured_can_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURPOSEMATCH_GROUP", "sodium")
    kept = tmp_path / "kept.json"
    sizes = ("--list-size", "1000", "--enrolled", "1000", "--json")
    code, out, _ = shown(*sizes, "--save-rates", str(kept), capsys=capsys)
    assert code == 0
    assert json.loads(kept.read_text()) == json.loads(out)["rates"]
    reasons = {each["missing"] for each in json.loads(out)["plans"]} - {None}
    assert reasons == {why_unavailable(SODIUM)}
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
            {"vole": None},
            {"vole": {"receiver": dict.fromkeys(VoleStep, 1)}},
            {"vole": {role.value: dict.fromkeys(VoleStep, 0) for role in Role}},
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
