"""A whole match by the VOLE engine, both sides one after the other."""

import os
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.vole import match
from purposematch.protocol.group import Group
from purposematch.protocol.vole.engine import Engine, open_engine, why_unavailable


@pytest.fixture(scope="module")
def engine(one_core: Group) -> Engine:
    reason = why_unavailable(os.environ)
    if reason is not None:
        pytest.skip(reason)
    made = open_engine(one_core, os.environ)
    made.prepare()
    return made


def test_match(measure: Any, material: Any, size: int, engine: Engine) -> None:
    others: NDArray[np.uint8] = material.inputs[: size // 2].copy()
    distinct = len(np.unique(material.inputs, axis=0))
    found, _ = measure("VOLE match, both sides", match, engine, material.inputs, others)
    assert size // 2 <= found <= size // 2 + size - distinct
