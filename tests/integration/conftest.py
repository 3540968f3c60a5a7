"""Fixtures of the integration tests: nothing outside pytest's own folders is read or written."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# gRPC reads this when it is first imported; `purposematch` sets it for itself.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Tests import the helpers next to this file; pytest's importlib mode adds no path.
sys.path.insert(0, str(Path(__file__).parent))

from platforms import LivePlatform, grants


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a segment cache of its own, so that none gets an index without asking for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PURPOSEMATCH_TRACEBACK", raising=False)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A served platform for whoever changes nothing in it: `user0` to `user1199` are enrolled; batches are
    small, so that a list of a thousand takes several."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("plain"), max_batch_elements=256)
    platform.enroll(grants(1_200))
    platform.publish()
    with platform.serving():
        yield platform


@pytest.fixture(scope="session")
def acme(plain: LivePlatform) -> Path:
    """Credentials of an advertiser at `plain`, disclosure `both`."""
    return plain.admit("acme")
