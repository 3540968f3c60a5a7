"""What tests share: the back ends of the group, the published vectors, and Hypothesis without a clock."""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from purposematch.protocol.group import Group, SodiumGroup, default_group, sodium
from purposematch.protocol.simd.choice import CACHE_VARIABLE, cache_root
from purposematch.protocol.simd.processor import INSTRUCTIONS
from purposematch.protocol.vole.engine import Engine, open_engine, why_unavailable

HERE = Path(__file__).parent
# Tests import the helpers next to this file, such as `slow_poprf`; pytest's importlib mode adds no path.
sys.path.insert(0, str(HERE))

# Tests that have a cache of segments to themselves share the kernels that were compiled once.
os.environ.setdefault(CACHE_VARIABLE, cache_root(os.environ))

# Tests start hundreds of programs: what one of them has compiled of the sources, the next one need not.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A slow machine is not a failing test.
settings.register_profile("purposematch", deadline=None)
settings.load_profile("purposematch")


def pytest_collection_finish() -> None:
    """What is there now stays to the end: looking for garbage among it takes as long as some tests do."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the client remembers of logs is remembered for the tests of this run alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


BackEnd = Callable[[int | None], Group]


def _sodium_with_lanes(threads: int | None = None) -> Group:
    """As a command has it where libsodium computes, but for sums of any length in lanes."""
    group = default_group(threads, {**os.environ, "PURPOSEMATCH_GROUP": "sodium"})
    group.prepare()
    return group


# It says when kernels that are ready are used: only that back end has any.
sodium.SUMS_FROM_READY = 1


def _simd(threads: int | None = None) -> Group:
    return default_group(threads, {**os.environ, "PURPOSEMATCH_GROUP": "simd"})


BACK_ENDS: dict[str, BackEnd] = {"sodium": SodiumGroup, "sodium with lanes": _sodium_with_lanes}
# Where secrets must not meet the kernels, there is nothing to say about most of them.
collect_ignore_glob: list[str] = []
if INSTRUCTIONS is None:
    collect_ignore_glob.append("unit/test_simd_*.py")
else:
    BACK_ENDS["simd"] = _simd
if why_unavailable({}) is not None:
    collect_ignore_glob.append("unit/test_vole_*.py")


@pytest.fixture(scope="session", params=list(BACK_ENDS))
def back_end(request: pytest.FixtureRequest) -> BackEnd:
    """Makes a group of so many threads, on every back end that this machine has."""
    return BACK_ENDS[request.param]


@pytest.fixture(scope="session")
def group(back_end: BackEnd) -> Group:
    """Every test that computes in the group runs on every back end."""
    return back_end(None)


@pytest.fixture(scope="session")
def vole() -> Engine:
    """The VOLE engine, its kernels ready."""
    environ = {name: value for name, value in os.environ.items() if name != "PURPOSEMATCH_GROUP"}
    engine = open_engine(default_group(1, environ), environ)
    engine.prepare()
    return engine


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], Any]:
    """Reads one file of tests/vectors by its name."""

    def read(name: str) -> Any:
        return json.loads((HERE / "vectors" / name).read_text())

    return read
