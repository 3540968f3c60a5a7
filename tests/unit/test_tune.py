"""The tuner's grid, table, choice and files, from synthetic measurements; its hashing path against one call;
and the ratios that the comparison with peers prints."""

import csv
import io
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from benchmarks import back_end, end_to_end, loopback, sweep, tune
from benchmarks.loopback import Measured
from benchmarks.sweep import Configuration, Measurement
from purposematch.protocol import poprf
from purposematch.protocol.additive_blinding import additive_blind
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.group import SodiumGroup
from purposematch.protocol.identifiers import Kind, Profile, digest_raw, private_inputs
from purposematch.protocol.scalars import scalar_reduce
from purposematch.server.config import Limits, config_text, load_config

COUNTS = st.lists(st.integers(1, 100_000), min_size=1, max_size=5, unique=True)


def measurement(batch: int, window: int, threads: int, *seconds: float, path: str = "match") -> Measurement:
    return Measurement(path, Configuration(batch, window, threads), 1_000, seconds)


def printed(table: Table) -> list[list[str]]:
    console = Console(width=200, file=io.StringIO())
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.split() for line in text.splitlines() if line.strip()]


def test_the_grid_holds_every_combination_once() -> None:
    found = sweep.grid((1_024, 4_096), (1, 4), (1, 2), 100_000)

    assert len(found) == len(set(found)) == 8
    assert Configuration(4_096, 4, 2) in found


def test_the_grid_leaves_out_what_a_short_list_cannot_tell_apart() -> None:
    # 5,000 identifiers are two batches of 4,096 and one of 16,384 or more.
    found = {
        (batch, window) for batch, window, _ in sweep.grid((4_096, 16_384, 65_535), (1, 2, 4), (1,), 5_000)
    }

    assert found == {(4_096, 1), (4_096, 2), (16_384, 1)}


@given(batches=COUNTS, windows=COUNTS, threads=COUNTS, identifiers=st.integers(1_000, 10**6))
def test_every_configuration_left_out_behaves_like_one_in_the_grid(
    batches: list[int], windows: list[int], threads: list[int], identifiers: int
) -> None:
    def behaviour(batch: int, window: int, count: int) -> tuple[int, int, int]:
        batch = min(batch, identifiers)
        return batch, min(window, -(-identifiers // batch)), count

    found = [behaviour(*one) for one in sweep.grid(batches, windows, threads, identifiers)]

    assert len(found) == len(set(found))
    assert set(found) == {behaviour(b, w, t) for b in batches for w in windows for t in threads}


@pytest.mark.parametrize(
    ("cores", "expected"),
    [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))],
)
def test_thread_counts_double_up_to_the_number_of_cores(cores: int, expected: tuple[int, ...]) -> None:
    assert sweep.thread_counts(cores) == expected


def test_the_fastest_configuration_is_chosen_when_the_noise_is_small() -> None:
    small, large = measurement(1_024, 1, 1, 2.0, 2.01), measurement(16_384, 4, 2, 1.0, 1.01)

    assert sweep.choose([small, large]) is large


def test_the_smallest_configuration_is_chosen_among_those_that_the_noise_cannot_tell_apart() -> None:
    measured = [
        measurement(16_384, 4, 2, 1.00, 1.04),
        measurement(4_096, 4, 2, 1.03, 1.07),
        measurement(1_024, 4, 2, 1.50, 1.56),
    ]

    assert sweep.choose(measured) is measured[1]


def test_fewer_threads_are_smaller_whatever_the_batch() -> None:
    measured = [measurement(1_024, 1, 2, 1.00, 1.04), measurement(16_384, 4, 1, 1.02, 1.06)]

    assert sweep.choose(measured) is measured[1]


def test_a_noisy_machine_does_not_make_a_slow_configuration_the_choice() -> None:
    measured = [measurement(16_384, 4, 2, 1.0, 2.0), measurement(1_024, 1, 1, 1.5, 3.0)]

    assert sweep.noise(measured) == pytest.approx(1.0)
    assert sweep.choose(measured) is measured[0]


def test_one_run_of_each_says_nothing_about_the_noise() -> None:
    measured = [measurement(1_024, 1, 1, 1.0), measurement(1_024, 1, 2, 2.0)]

    assert sweep.noise(measured) is None
    assert "unknown" in sweep.trust(measured)
    assert sweep.choose(measured) is measured[0]


def test_the_trust_counts_what_cannot_be_told_apart() -> None:
    alike = [
        measurement(1_024, 1, 1, 1.0, 1.2),
        measurement(2_048, 1, 1, 1.1, 1.3),
        measurement(1, 1, 1, 2, 2.2),
    ]

    assert "2 of 3 can not be told apart" in sweep.trust(alike)
    assert "the best is clear" in sweep.trust([alike[0], alike[2]])


def rows(measured: Sequence[Measurement]) -> list[dict[str, object]]:
    best, chosen = min(measured, key=lambda one: one.fastest), sweep.choose(measured)
    return [sweep.as_mapping(one, best, chosen) for one in measured]


def test_the_csv_has_a_row_for_every_configuration_and_its_fastest_run() -> None:
    text = sweep.as_csv(rows([measurement(1_024, 1, 1, 4.0, 2.0), measurement(4_096, 4, 2, 1.0)]))

    assert text.splitlines()[0] == (
        "path,batch,window,threads,runs,seconds,identifiers_per_second,ratio_to_best,noise,chosen"
    )
    first, second = csv.DictReader(io.StringIO(text))
    assert first == {
        **{"path": "match", "batch": "1024", "window": "1", "threads": "1", "runs": "2", "seconds": "2.0"},
        **{"identifiers_per_second": "500", "ratio_to_best": "0.5", "noise": "1.0", "chosen": "False"},
    }
    assert (second["ratio_to_best"], second["noise"], second["chosen"]) == ("1.0", "", "True")


def test_the_table_shows_the_fastest_first_and_marks_the_choice() -> None:
    measured = [measurement(1_024, 1, 1, 2.0, 2.2), measurement(4_096, 4, 2, 1.0, 1.1)]

    lines = printed(sweep.table("match", measured, measured[1]))

    assert lines[-2:] == [
        ["4,096", "4", "2", "1,000", "1.00", "10%", "chosen"],
        ["1,024", "1", "1", "500", "0.50", "10%"],
    ]


def test_the_fragment_is_what_platform_toml_has() -> None:
    limits = Limits(**tomllib.loads(sweep.as_toml(Configuration(32_768, 8, 2)))["limits"])

    assert limits == Limits(max_batch_elements=32_768, batches_in_flight=8, evaluation_threads=2)


def test_limits_are_set_in_the_settings_that_init_writes(tmp_path: Path) -> None:
    settings = tmp_path / "platform" / "platform.toml"
    settings.parent.mkdir()
    settings.write_text(config_text("bench", Profile.PLAIN, None), encoding="utf-8")

    loopback.set_limits(tmp_path, {"max_batch_elements": 2_048, "batches_in_flight": 2})
    loopback.set_limits(tmp_path, {"max_batch_elements": 1_024})

    expected = {**asdict(Limits()), "max_batch_elements": 1_024, "batches_in_flight": 2}
    assert asdict(load_config(settings).limits) == expected
    with pytest.raises(SystemExit, match="no_such_limit"):
        loopback.set_limits(tmp_path, {"no_such_limit": 1})


@pytest.mark.parametrize(("batch", "window"), [(7, 1), (7, 3), (50, 1), (64, 4)])
def test_the_hashing_path_blinds_every_string_in_its_place(
    monkeypatch: pytest.MonkeyPatch, batch: int, window: int
) -> None:
    seed = bytes(range(32))
    monkeypatch.setattr(tune.secrets, "token_bytes", lambda length: (2 * seed)[:length])
    group = SodiumGroup(1)
    values = pa.array([f" Person.{i}@Example.com" for i in range(50)])
    digests = digest_raw(values, Kind.EMAIL, Profile.PLAIN).digests
    inputs = private_inputs(np.full(50, Kind.EMAIL, np.uint8), digests)
    blinds = poprf.expand_blinds(group, poprf.SessionSeed(seed), 0, 50)

    found = tune.hash_list(group, values, batch, window)

    key = group.multiply_generator(scalar_reduce(2 * seed))
    assert (found == group.encode(additive_blind(group, POPRF, inputs, blinds, key))).all()


def test_a_back_end_is_forced_on_commands_by_their_environment() -> None:
    assert back_end.environment("default") == {}
    assert back_end.environment("sodium") == {"PURPOSEMATCH_GROUP": "sodium"}
    assert back_end.make_group("sodium", 1).name == "sodium"


def test_the_lists_have_half_of_the_smaller_one_in_common(tmp_path: Path) -> None:
    common = loopback.write_lists(tmp_path, enrolled=30, listed=50)

    accounts, customers = (
        (tmp_path / name).read_text().splitlines() for name in ("accounts.txt", "customers.txt")
    )
    assert (len(set(accounts)), len(set(customers))) == (30, 50)
    assert len(set(accounts) & set(customers)) == common == 15
    assert (tmp_path / "customers.csv").read_text().splitlines() == ["email", *customers]


def ours(publish: float, match: float) -> end_to_end.Match:
    return end_to_end.Match(
        enroll=Measured(1.0, 1.0, 1.0, {}),
        publish=Measured(publish, 2.0, 1.0, {}),
        match=Measured(match, 3.0, 1.0, {}),
        server_processor=5.0,
        server_peak=1.0,
        start=0.4,
    )


PEER = {"name": "Peer PSI", "version": "1.2", "seconds": 4.0, "processor_seconds": 20.0, "matched": 7}


def test_ratios_count_publishing_in_one_and_leave_it_out_of_the_other() -> None:
    found = end_to_end.beside(ours(publish=1.0, match=2.0), PEER)

    assert found == {
        **PEER,
        **{"ratio_publish_included": 0.75, "ratio_publish_excluded": 0.5, "ratio_start_excluded": 0.4},
        "ratio_processor": 0.5,
    }


def test_the_ratios_of_every_peer_stand_side_by_side() -> None:
    lines = printed(end_to_end.ratios(ours(publish=1.0, match=2.0), [PEER, {**PEER, "seconds": 1.0}]))

    assert lines[-2:] == [
        ["Peer", "PSI", "1.2", "4.00", "0.75", "0.50", "0.40", "0.50"],
        ["Peer", "PSI", "1.2", "1.00", "3.00", "2.00", "1.60", "0.50"],
    ]


def test_of_every_process_the_fastest_run_counts() -> None:
    found = end_to_end.fastest([ours(publish=1.0, match=4.0), ours(publish=3.0, match=2.0)])

    assert (found.publish.seconds, found.match.seconds) == (1.0, 2.0)


def test_every_peer_has_a_script_and_an_environment_of_its_own() -> None:
    for script, *_ in end_to_end.SCRIPTS.values():
        assert (end_to_end.PEERS / f"{script}.py").is_file()
        requirements = (end_to_end.PEERS / f"requirements-{script}.txt").read_text().split()
        assert all("==" in requirement for requirement in requirements)
