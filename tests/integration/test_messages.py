"""Matches whose messages are late, lost, repeated, out of order, cut and changed: what both sides hold then.

Bytes that break off are in test_cuts.py. Here whoever stands between both sides is inside of TLS, as no
network is: even then the result is the plain intersection or there is a clear error, what was evaluated is
counted once, and the log holds.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from broken_matches import Scene, broken_platform, finished
from fault_proxy import Side
from message_proxy import MessageFault, MessageProxy, Spoil, message_proxy
from raw_client import load

from purposematch.client import cli
from purposematch.client.reconnect import Patience

SILENCE_SECONDS = 2
"""After so long without a message both sides give a stream up, so that what was dropped is missed soon."""
CHANGED = (Spoil.TRUNCATE, Spoil.CORRUPT)
"""What TLS rules out: the receiver sees something else than was sent."""


class MessageScene(Scene):
    """One whose proxy sees messages.

    Attributes:
        messages: the methods of the messages of an undisturbed match, by side.
    """

    proxy: MessageProxy
    messages: dict[Side, list[str]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MessageScene]:
    folder = tmp_path_factory.mktemp("messages")
    with (
        broken_platform(folder, 256, silence_seconds=SILENCE_SECONDS) as (platform, credentials),
        message_proxy(platform.data_dir, load(credentials)) as proxy,
    ):
        scene = MessageScene(platform, proxy, credentials, folder)
        scene.messages = {}
        yield scene


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(cli, "Patience", partial(Patience, silence_seconds=SILENCE_SECONDS))


def counted(scene: MessageScene, tmp_path: Path) -> dict[Side, list[str]]:
    """The messages of an undisturbed match."""
    if not scene.messages:
        scene.proxy.plan(scene.platform.address)
        output = tmp_path / "undisturbed.csv"
        assert finished(scene, output, scene.match(output, 5)) == [0]
        scene.messages = dict(scene.proxy.methods)
    return scene.messages


def spoiled(scene: MessageScene, output: Path, *faults: MessageFault, patience: float = 5) -> list[int]:
    """A match with these faults, until it is done."""
    scene.proxy.plan(scene.platform.address, *faults)
    codes = finished(scene, output, scene.match(output, patience))
    happened = {fault.spoil for fault in scene.proxy.happened}
    if happened <= {Spoil.DELAY}:
        assert codes == [0]
    stored = {of for (of,) in scene.platform.rows('SELECT session FROM "commit"')}
    assert stored >= scene.known
    if not happened & {*CHANGED}:
        assert stored == scene.known
    scene.known |= stored
    return codes


def test_the_messages_of_a_match_are_known(scene: MessageScene, tmp_path: Path) -> None:
    messages = counted(scene, tmp_path)
    for side in Side:
        assert {"OpenSession", "Evaluate", "FetchSegment", "Commit", "CloseSession"} <= {*messages[side]}
        assert messages[side].count("Evaluate") == 5


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("spoil", Spoil)
def test_every_message_may_be_spoiled(scene: MessageScene, tmp_path: Path, side: Side, spoil: Spoil) -> None:
    count = len(counted(scene, tmp_path)[side])
    for number in range(count):
        output = tmp_path / f"{number}.csv"
        fault = MessageFault(side, number, spoil, number)
        codes = spoiled(scene, output, fault)
        assert scene.proxy.happened == [fault]
        print(side, number, scene.messages[side][number], spoil, codes)
