"""Labels: the receiver learns those of its matches, exactly, and they are covered by the transcript."""

import os

import numpy as np
import pytest
from vole_match import BINDING, Pair, exchange, items, stream

from purposematch.protocol.errors import LimitError, VerificationError
from purposematch.protocol.group import default_group
from purposematch.protocol.vole.engine import Engine, open_engine, why_unavailable
from purposematch.protocol.vole.parameters import MAX_CHUNK, MAX_LABEL, Role, parameters
from purposematch.protocol.vole.party import Chunk

pytestmark = pytest.mark.skipif(why_unavailable(os.environ) is not None, reason="no VOLE engine here")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_engine(default_group(1, os.environ), os.environ)


def labelled(engine: Engine, own: range, others: range, width: int, spare: int = 0) -> Pair:
    """Both sides; the label of item i is i, and then zeros."""
    labels = np.zeros((len(others), width), np.uint8)
    labels[:, :8] = np.array(others, np.int64).reshape(-1, 1).view(np.uint8)
    sizes = parameters(len(own), len(others) + spare, width)
    receiver = engine.receiver(sizes, items(own), BINDING, stream("receiver"))
    return Pair(receiver, engine.sender(sizes, items(others), BINDING, stream("sender"), labels))


@pytest.mark.parametrize("width", [16, 32])
@pytest.mark.parametrize(
    ("own", "others"),
    [
        (range(0, 100), range(50, 150)),
        (range(0, 1), range(0, 1)),
        (range(0, 10), range(20, 30)),
        (range(70), range(MAX_CHUNK // 16 + 100)),
        (range(30), range(0)),
        (range(0), range(30)),
    ],
)
def test_the_receiver_learns_the_labels_of_its_matches(
    engine: Engine, own: range, others: range, width: int
) -> None:
    both = exchange(labelled(engine, own, others, width, spare=5))
    matched, labels = both.receiver.matches().rows, both.receiver.labels()
    expected = sorted(set(own) & set(others))
    assert [own[row] for row in matched] == expected
    assert labels.shape == (len(expected), width)
    assert labels[:, :8].copy().view(np.int64).reshape(-1).tolist() == expected
    assert not labels[:, 8:].any()


def test_what_is_sent_for_others_looks_random(engine: Engine) -> None:
    both = exchange(labelled(engine, range(0, 10), range(5_000, 15_000), 32))
    sent = [chunk.content for role, chunk in both.said if role is Role.SENDER][-2]
    assert len(sent) == 10_000 * 32
    counts = np.bincount(np.frombuffer(sent, np.uint8), minlength=256)
    expected = len(sent) / 256
    # 255 degrees of freedom: beyond 400 with a probability below 1e-7.
    assert ((counts - expected) ** 2 / expected).sum() < 400


def test_a_label_that_was_altered_on_the_way_is_noticed(engine: Engine) -> None:
    def flip(role: Role, chunk: Chunk) -> list[Chunk]:
        if role is Role.SENDER and len(chunk.content) == 100 * 16:
            spoiled = bytes([chunk.content[0] ^ 1]) + chunk.content[1:]
            return [Chunk(chunk.number, spoiled)]
        return [chunk]

    both = labelled(engine, range(0, 100), range(50, 150), 16)
    with pytest.raises(VerificationError):
        exchange(both, flip)


def test_labels_must_fit_the_parameters(engine: Engine) -> None:
    with pytest.raises(LimitError):
        parameters(1, 1, MAX_LABEL + 1)
    sizes = parameters(1, 1, 16)
    for wrong in (None, np.zeros((1, 8), np.uint8), np.zeros((2, 16), np.uint8)):
        with pytest.raises(ValueError, match="labels"):
            engine.sender(sizes, items(range(1)), BINDING, stream("sender"), wrong)
