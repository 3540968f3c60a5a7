"""The throughput tuner: which batch size, window and number of threads are fastest on this machine.

    python -m benchmarks.tune                     # everything, minutes
    python -m benchmarks.tune --quick             # a short look, about a minute

Two paths are swept. `hashing` is what the advertiser computes before anything is sent: raw strings to
canonical form, SHA-256, hash to group, blind; digests are made at most a window of batches ahead. `match` is
a whole match over TLS on loopback, a server and a client process with the installed commands; it decides,
since it is what people wait for. It includes the start of the client and the reading and writing of its
files, which with --quick is most of it: a quick look shows that everything works, not what to use.

Not shown: a network between the two sides. With latency a larger window gains more than here.
"""

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.back_end import add_group_flag, environment, make_group
from benchmarks.loopback import (
    SEED,
    check_matched,
    end_cleanly,
    enroll,
    initialize,
    match,
    publish,
    serving,
    set_limits,
    write_lists,
)
from benchmarks.sweep import (
    MAX_TOLERANCE,
    Configuration,
    Measurement,
    as_csv,
    as_mapping,
    as_toml,
    choose,
    grid,
    noise,
    table,
    thread_counts,
    trust,
)
from purposematch.client.rates import measure_rates
from purposematch.console import emit_json, progress
from purposematch.protocol.additive_blinding import additive_blind
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.group import Group
from purposematch.protocol.identifiers import Kind, Profile, digest_raw, private_inputs
from purposematch.protocol.poprf import SessionSeed, expand_blinds
from purposematch.protocol.scalars import random_scalar

SIZE, QUICK_SIZE = 131_072, 5_000
SMALLEST_SIZE = 1_000
"""What an agreement demands of a list."""
REPEATS, QUICK_REPEATS = 3, 1
BATCHES, QUICK_BATCHES = (2_048, 8_192, 16_384, 32_768, 65_535), (1_024, 4_096)
WINDOWS, QUICK_WINDOWS = (1, 2, 4, 8), (1, 4)

Run = Callable[[Configuration], float]
"""Runs one configuration and returns the seconds."""


def main() -> int:
    """Sweeps, prints and writes."""
    options = _options()
    end_cleanly()
    if find_spec("matplotlib") is None:
        print("the chart needs matplotlib: pip install --group tune", file=sys.stderr)
        return 1
    cores = os.cpu_count() or 1
    batches, windows = (QUICK_BATCHES, QUICK_WINDOWS) if options.quick else (BATCHES, WINDOWS)
    configurations = grid(batches, windows, thread_counts(cores), options.size)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="purposematch-") as scratch:
        folder = Path(scratch)
        common = write_lists(folder, enrolled=options.size, listed=options.size)
        paths = {
            "hashing": _hashing_path(folder, options.group),
            "match": _match_path(folder, options.group, common),
        }
        measurements = _sweep(paths, configurations, options.size, options.repeats)
    _report(options, cores, measurements)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tune",
        description="Measures which batch size, window and number of threads are fastest on this machine.",
        epilog="example: python -m benchmarks.tune --size 50000 --group sodium --output tuning",
    )
    parser.add_argument(
        "--size", type=int, help=f"identifiers on each side ({SIZE:,}; with --quick {QUICK_SIZE:,})"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few configurations, a short list, one run of each"
    )
    parser.add_argument(
        "--repeats", type=int, help=f"runs of each configuration ({REPEATS}; with --quick {QUICK_REPEATS})"
    )
    add_group_flag(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("tuning"),
        help="of tune.csv, tune.png, and rates.json for `purposematch plan` (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args()
    options.size = options.size or (QUICK_SIZE if options.quick else SIZE)
    options.repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    if options.size < SMALLEST_SIZE:
        parser.error(f"--size is {SMALLEST_SIZE:,} at least: an agreement admits no smaller list")
    if options.repeats < 1:
        parser.error("--repeats is 1 at least")
    return options


def _sweep(
    paths: dict[str, Run], configurations: list[Configuration], identifiers: int, repeats: int
) -> list[Measurement]:
    """Runs everything once in every round, in another order each, so that a slow minute hits all alike."""
    runs = [(path, configuration) for path in paths for configuration in configurations]
    seconds: dict[tuple[str, Configuration], list[float]] = {run: [] for run in runs}
    order = random.Random(SEED)  # noqa: S311 - an order, not a secret
    with progress("Measuring", len(runs) * repeats, "runs") as advance:
        for _ in range(repeats):
            for path, configuration in order.sample(runs, len(runs)):
                seconds[path, configuration].append(paths[path](configuration))
                advance(1)
    return [
        Measurement(path, configuration, identifiers, tuple(seconds[path, configuration]))
        for path, configuration in runs
    ]


def _hashing_path(folder: Path, group_name: str) -> Run:
    values = pa.array((folder / "customers.txt").read_text(encoding="utf-8").splitlines(), pa.string())

    @cache
    def group(threads: int) -> Group:
        made = make_group(group_name, threads)
        # Kernels are compiled and threads started before the clock runs.
        hash_list(made, values[:SMALLEST_SIZE], SMALLEST_SIZE, 1)
        return made

    def run(configuration: Configuration) -> float:
        back_end = group(configuration.threads)
        began = time.perf_counter()
        hash_list(back_end, values, configuration.batch, configuration.window)
        return time.perf_counter() - began

    return run


def hash_list(group: Group, values: pa.StringArray, batch: int, window: int) -> NDArray[np.uint8]:
    """What an advertiser would send for raw strings, (n, 32).

    One more thread makes digests ahead of the group, so that at most `window` batches are under way; with a
    window of 1 the two take turns.
    """
    seed = SessionSeed(secrets.token_bytes(SessionSeed.LENGTH))
    key = group.multiply_generator(random_scalar(secrets.token_bytes))
    blinded = np.empty((len(values), 32), np.uint8)
    ahead: deque[tuple[int, Future[NDArray[np.uint8]]]] = deque()

    def blind_next() -> None:
        start, hashed = ahead.popleft()
        inputs = hashed.result()
        blinds = expand_blinds(group, seed, start, len(inputs))
        elements = additive_blind(group, POPRF, inputs, blinds, key)
        blinded[start : start + len(inputs)] = group.encode(elements)
        blinds.wipe()

    with ThreadPoolExecutor(1, "digests") as pool:
        for start in range(0, len(values), batch):
            if len(ahead) == window:
                blind_next()
            ahead.append((start, pool.submit(_inputs, values[start : start + batch])))
        while ahead:
            blind_next()
    seed.wipe()
    return blinded


def _inputs(values: pa.StringArray) -> NDArray[np.uint8]:
    digests = digest_raw(values, Kind.EMAIL, Profile.PLAIN).digests
    return private_inputs(np.full(len(digests), Kind.EMAIL, np.uint8), digests)


def _match_path(folder: Path, group_name: str, common: int) -> Run:
    variables = environment(group_name)
    initialize(folder)
    enroll(folder, variables)
    publish(folder, variables)

    def run(configuration: Configuration) -> float:
        limits = {
            "max_batch_elements": configuration.batch,
            "batches_in_flight": configuration.window,
            "evaluation_threads": configuration.threads,
        }
        set_limits(folder, limits)
        with serving(folder, variables) as server:
            measured = match(folder, server.address, variables, threads=configuration.threads)
        check_matched(measured.answer["matched_identifiers"], common)
        return measured.seconds

    # The first match fetches the index into the cache, and compiles kernels where there are any.
    run(Configuration(min(QUICK_BATCHES), 1, 1))
    return run


def _report(options: argparse.Namespace, cores: int, measurements: list[Measurement]) -> None:
    # Only here, because it needs what nothing else does.
    from benchmarks.chart import draw

    name = make_group(options.group, 1).name
    by_path: dict[str, list[Measurement]] = {}
    for measured in measurements:
        by_path.setdefault(measured.path, []).append(measured)
    best = {path: min(of_path, key=lambda m: m.fastest) for path, of_path in by_path.items()}
    chosen = {path: choose(of_path) for path, of_path in by_path.items()}
    rows = [as_mapping(m, best[m.path], chosen[m.path]) for m in measurements]
    heading = f"{options.size:,} identifiers, group {name}, {cores} cores"
    files = [options.output / each for each in ("tune.csv", "tune.png", "rates.json")]
    csv_file, chart_file, rates_file = files
    variables = {**os.environ, **environment(options.group)}
    rates = measure_rates(make_group(options.group, cores), secrets.token_bytes, variables)
    rates_file.write_text(f"{json.dumps(rates.to_mapping(), indent=2)}\n")
    csv_file.write_text(as_csv(rows), encoding="utf-8")
    draw(chart_file, heading, measurements)
    use = chosen["match"].configuration
    known = noise(by_path["match"])
    reliable = not options.quick and known is not None and known <= MAX_TOLERANCE
    if options.json:
        emit_json(
            {
                "group": name,
                "cores": cores,
                "identifiers": options.size,
                "noise": {path: noise(of_path) for path, of_path in by_path.items()},
                "use": use._asdict(),
                "reliable": reliable,
                "measurements": rows,
                "files": [*map(str, files)],
            }
        )
        return
    console = Console(highlight=False, markup=False)
    console.print(heading, style="bold")
    for path, of_path in by_path.items():
        console.print(table(path, of_path, chosen[path]))
        console.print(f"{trust(of_path)}\n", soft_wrap=True)
    if not reliable:
        why = "this was a quick look" if options.quick else "the machine was busy"
        console.print(f"Not to be relied on, since {why}: measure at length, while nothing else runs.\n")
    console.print("In platform.toml:\n", style="bold")
    console.print(as_toml(use))
    console.print(f"and on the advertiser's side: purposematch match --threads {use.threads}\n")
    console.print(f"Written: {csv_file}, {chart_file} and {rates_file}")


if __name__ == "__main__":
    raise SystemExit(main())
