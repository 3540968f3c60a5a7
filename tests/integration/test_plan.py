"""What `plan` says a match sends, against what a network sees of a real one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import FaultProxy, Side, fault_proxy
from platforms import LivePlatform, advertiser, customers, grants

from purposematch.protocol.vole.engine import why_unavailable

ENROLLED, LISTED, MATCHING = 20_000, 15_000, 12_000
RATES = (
    '{"format": "purposematch rates v1", "group": "made up", '
    '"advertiser": {"evaluate": 1000, "own": 2000, "own_again": 2000, "return_proved": 4000, "return": 5000},'
    '"platform": {"evaluate": 500, "own": 1000, "own_again": 500, "return_proved": 2000, "return": 2500}}'
)


@pytest.fixture(scope="module")
def hill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A served platform with 20,000 identifiers."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("hill"), max_batch_elements=2_048)
    platform.enroll(grants(ENROLLED))
    for disclosure in ("both", "advertiser", "platform", "count"):
        platform.admit(f"oprf-{disclosure}", disclosure)
        if disclosure != "count":
            platform.admit(f"vole-{disclosure}", disclosure, "--allow-experimental")
    platform.publish()
    with platform.serving():
        yield platform


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with fault_proxy() as made:
        yield made


NO_VOLE = why_unavailable(os.environ)


@pytest.mark.parametrize(
    ("disclosure", "engine"),
    [(disclosure, "oprf") for disclosure in ("both", "advertiser", "platform", "count")]
    + [
        pytest.param(disclosure, "vole", marks=pytest.mark.skipif(NO_VOLE is not None, reason=str(NO_VOLE)))
        for disclosure in ("both", "advertiser", "platform")
    ],
)
def test_planned_bytes_are_those_of_a_real_match_within_one_percent(
    hill: LivePlatform,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    disclosure: str,
    engine: str,
) -> None:
    # Neither a cached segment nor a checkpoint that the log must be shown to extend.
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    rates = tmp_path / "rates.json"
    rates.write_text(RATES)
    planned = advertiser(
        *("plan", "--list-size", str(LISTED), "--enrolled", str(ENROLLED), "--matching", str(MATCHING)),
        *("--batch", "2048", "--disclosure", disclosure, "--rates", rates, "--json"),
    ).document
    (plan,) = (each for each in planned["plans"] if each["engine"] == engine)
    proxy.plan(hill.address)
    listed = customers(tmp_path / "list.csv", LISTED, first=ENROLLED - MATCHING)
    credentials = hill.folder / f"credentials-{engine}-{disclosure}"
    options = ("--platform", proxy.address, "--engine", engine)
    done = hill.match(listed, tmp_path / "out.csv", credentials, *options)
    assert (done.code, done.document["engine"]) == (0, engine), done.stderr
    if disclosure in ("both", "advertiser"):
        assert done.document["matched_rows"] == MATCHING
    assert plan["bytes_sent"] == pytest.approx(proxy.bytes[Side.CLIENT], rel=0.01)
    assert plan["bytes_received"] == pytest.approx(proxy.bytes[Side.SERVER], rel=0.01)
