"""How fast this machine matches by VOLE: both parties on made-up items, one step of them after the other.

What a match takes grows in lines with the sizes of both lists, from a start that every match has. So a few
small matches are timed that differ in one size each, and what a size adds is its rate. A party computes on
one thread, whatever the machine has; the time of that thread is what counts, because a difference of times
would mean nothing on a busy machine.

Not protected against: long lists, for which memory is slower than for those that are measured.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import numpy as np

from purposematch.protocol.group import Bytes, RandomBytes
from purposematch.protocol.vole.engine import Engine
from purposematch.protocol.vole.parameters import MAX_LABEL, Role, parameters
from purposematch.protocol.vole.party import ITEM_LENGTH, Party, Turn

__all__ = ["VoleRates", "VoleStep", "measure_vole", "play"]

MEASURED_ITEMS: Final = 65_536
"""Items of a list that is not empty."""
ROUNDS: Final = 3
"""How often each match is made; for each side the fastest counts."""
LEAST_SECONDS: Final = 1e-9
"""What an item takes at least: less cannot be told from nothing."""


class VoleStep(StrEnum):
    """What a match by VOLE consists of, on either side; the labels are in files."""

    START = "start"
    """Base transfers, extension and trees: once a match."""
    RECEIVER_ITEM = "receiver_item"
    """An item of the receiver's list."""
    SENDER_ITEM = "sender_item"
    """An item of the sender's list."""
    LABEL = "label"
    """The label of an item of the sender."""
    OPENED = "opened"
    """A label that the receiver reads, because it has the item as well."""


VoleRates = Mapping[Role, Mapping[VoleStep, float]]
"""Steps a second of each side."""

_MATCHES: Final = {
    VoleStep.START: (0, 0, 0),
    VoleStep.RECEIVER_ITEM: (MEASURED_ITEMS, 0, 0),
    VoleStep.SENDER_ITEM: (0, MEASURED_ITEMS, 0),
    VoleStep.LABEL: (0, MEASURED_ITEMS, MAX_LABEL),
    VoleStep.OPENED: (MEASURED_ITEMS, MEASURED_ITEMS, MAX_LABEL),
}
"""The match that a step is measured by: items of the receiver, of the sender, bytes of a label. Each has what
some of the others have, and the step itself."""


def measure_vole(engine: Engine, random_bytes: RandomBytes, clock: Callable[[], float]) -> VoleRates:
    """Measures this machine.

    Args:
        engine: of this machine.
        random_bytes: of made-up items and secrets.
        clock: seconds that this thread has computed.
    """
    engine.prepare()
    items = np.frombuffer(random_bytes(MEASURED_ITEMS * ITEM_LENGTH), np.uint8).reshape(-1, ITEM_LENGTH)
    fastest = {(step, role): float("inf") for step in _MATCHES for role in Role}
    for _ in range(ROUNDS):
        for step, match in _MATCHES.items():
            for role, seconds in _timed(engine, items, *match, random_bytes, clock).items():
                fastest[step, role] = min(fastest[step, role], seconds)
    return {role: _rates({step: fastest[step, role] for step in _MATCHES}) for role in Role}


def _rates(seconds: Mapping[VoleStep, float]) -> dict[VoleStep, float]:
    """Rates of the steps of one side, from the seconds of the matches that they are measured by."""
    start, receiver, sender = (
        seconds[step] for step in (VoleStep.START, VoleStep.RECEIVER_ITEM, VoleStep.SENDER_ITEM)
    )
    added = {
        VoleStep.RECEIVER_ITEM: receiver - start,
        VoleStep.SENDER_ITEM: sender - start,
        VoleStep.LABEL: seconds[VoleStep.LABEL] - sender,
        VoleStep.OPENED: seconds[VoleStep.OPENED] - seconds[VoleStep.LABEL] - (receiver - start),
    }
    each = {step: max(of_all / MEASURED_ITEMS, LEAST_SECONDS) for step, of_all in added.items()}
    return {step: 1 / one for step, one in ({VoleStep.START: max(start, LEAST_SECONDS)} | each).items()}


def _timed(
    engine: Engine,
    items: Bytes,
    receivers: int,
    senders: int,
    label_length: int,
    random_bytes: RandomBytes,
    clock: Callable[[], float],
) -> dict[Role, float]:
    """One match in which all that can match does: the seconds of each side."""
    sizes = parameters(receivers, senders, label_length)
    labels = np.zeros((senders, label_length), np.uint8) if label_length else None
    receiver = engine.receiver(sizes, items[:receivers], b"", random_bytes)
    sender = engine.sender(sizes, items[:senders], b"", random_bytes, labels)
    return play(receiver, sender, clock)


def play(receiver: Party, sender: Party, clock: Callable[[], float]) -> dict[Role, float]:
    """Takes both new sides of a match to its end, in this thread; the seconds of each.

    Args:
        receiver, sender: of one match.
        clock: seconds, such as the processor time of the thread.
    """
    parties = {Role.RECEIVER: receiver, Role.SENDER: sender}
    spent = dict.fromkeys(Role, 0.0)
    began = clock()

    def charge(role: Role) -> None:
        nonlocal began
        now = clock()
        spent[role] += now - began
        began = now

    own, other = Role.SENDER, Role.RECEIVER
    while parties[own].turn is Turn.SPEAK:
        for chunk in parties[own].outgoing():
            charge(own)
            parties[other].receive(chunk)
            charge(other)
        parties[own].prepare()
        charge(own)
        own, other = other, own
    return spent
