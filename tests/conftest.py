"""What tests share: the back ends of the group, the published vectors, and Hypothesis without a clock."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from purposematch.protocol.group import Group, SodiumGroup

HERE = Path(__file__).parent
# Tests import the helpers next to this file, such as `slow_poprf`; pytest's importlib mode adds no path.
sys.path.insert(0, str(HERE))

# A slow machine is not a failing test.
settings.register_profile("purposematch", deadline=None)
settings.load_profile("purposematch")

BACK_ENDS: dict[str, Callable[[], Group]] = {"sodium": SodiumGroup}


@pytest.fixture(scope="session", params=list(BACK_ENDS))
def group(request: pytest.FixtureRequest) -> Group:
    """Every test that computes in the group runs on every back end."""
    return BACK_ENDS[request.param]()


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], Any]:
    """Reads one file of tests/vectors by its name."""

    def read(name: str) -> Any:
        return json.loads((HERE / "vectors" / name).read_text())

    return read
