"""The key-value store: every row adds up to its value, and failures are as rare as the fit says."""

import numpy as np
import pytest
import slow_vole as slow
from vole_match import items

from purposematch.protocol.errors import UnavailableError
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.parameters import parameters
from purposematch.protocol.vole.records import sort_records
from purposematch.protocol.vole.rows import Rows, digest_items
from purposematch.protocol.vole.session import Session
from purposematch.protocol.vole.store import encode


def session_of(count: int) -> Session:
    return Session.of(parameters(count, count), b"binding", b"s" * 32, b"r" * 32)


@pytest.mark.parametrize("count", [0, 1, 2, 300, 3_000])
def test_every_row_adds_up_to_its_value(vole: Engine, count: int) -> None:
    sizes, session = parameters(count, count), session_of(count)
    own = items(range(count))
    slots = encode(session, sizes, Rows.of(sizes, digest_items(session, own)))
    integers = [int(low) | int(high) << 64 for low, high in slots]
    other = slow.Session((count, count), b"binding", (b"s" * 32, b"r" * 32))
    for item in own:
        _, value, start, band = other.row(item.tobytes())
        assert other.product(start, band, integers) == value
    assert max(integers, default=0) < 2**80
    assert not any(integers[sizes.slots :])


def test_slots_of_a_list_are_the_same_whatever_the_order(vole: Engine) -> None:
    sizes, session = parameters(500, 500), session_of(500)
    own = items(range(500))
    again = np.concatenate([own[::-1], own[:20]])
    stores = [encode(session, sizes, Rows.of(sizes, digest_items(session, rows))) for rows in (own, again)]
    assert np.array_equal(*stores)


def test_failures_at_narrow_bands_are_those_of_the_fit(vole: Engine) -> None:
    """Measured for the reference at 2^16 rows: 56 bits 3.7, 64 bits 5.8, 72 bits 8.2 (-log2 of the rate)."""
    count = 1 << 16
    sizes, session = parameters(count, count), session_of(count)
    random = np.random.default_rng(2)
    for band, trials in ((48, 150), (56, 250)):
        failed = 0
        for _ in range(trials):
            digests = random.integers(2**64, size=(count, 4), dtype=np.uint64)
            try:
                encode(session, sizes, Rows.of(sizes, digests), None, band)
            except UnavailableError:
                failed += 1
        assert failed
        assert abs(-np.log2(failed / trials) - (0.281 * band - 12.1)) < 1


def test_two_items_of_one_row_and_two_values_fail(vole: Engine) -> None:
    sizes, session = parameters(10, 10), session_of(10)
    digests = digest_items(session, items(range(10))).copy()
    digests[7, :2] = digests[3, :2]
    with pytest.raises(UnavailableError):
        encode(session, sizes, Rows.of(sizes, digests))


@pytest.mark.parametrize("count", [0, 1, 2, 5_000, 100_000])
@pytest.mark.parametrize("kinds", ["uniform", "few", "one"])
def test_records_are_sorted_by_all_their_bits(vole: Engine, count: int, kinds: str) -> None:
    if kinds != "uniform" and count == 100_000:
        count = 20_000
    random = np.random.default_rng(count)
    records = random.integers(2**64, size=(count, 2), dtype=np.uint64)
    if kinds == "few":
        records[:, 0] = random.integers(2**64, size=3, dtype=np.uint64)[random.integers(3, size=count)]
        records[:, 1] >>= np.uint64(54)
    elif kinds == "one":
        records[:] = 7
    expected = records[np.lexsort((records[:, 1], records[:, 0]))]
    sort_records(records)
    assert np.array_equal(records, expected)
