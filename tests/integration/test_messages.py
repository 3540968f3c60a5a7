"""Matches whose messages are late, lost, repeated, out of order, cut and changed: what both sides hold then.

Bytes that break off are in test_cuts.py. Here whoever stands between both sides is inside of TLS, as no
network is: even then the result is the plain intersection or there is a clear error, what was evaluated is
counted once, and the log holds.
"""

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from broken_matches import CANARIES, LISTED, Scene, broken_platform, finished, kill_client, kill_server
from fault_proxy import Side
from message_proxy import MessageFault, MessageProxy, Spoil, message_proxy
from raw_client import load

from purposematch.client import cli
from purposematch.client.reconnect import Patience

SILENCE_SECONDS = 2
"""After so long without a message both sides give a stream up, so that what was dropped is missed soon."""
BATCH = 256
BATCHES = -(-(LISTED + CANARIES) // BATCH)
CHANGED = (Spoil.TRUNCATE, Spoil.CORRUPT, Spoil.DROP)
"""What TLS rules out: the receiver sees something else than was sent, or a call that lacks its message."""


Kill = Callable[[Scene, Path, int], None]
KILLS: dict[str, Kill] = {"client": kill_client, "server": kill_server}


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
        broken_platform(folder, BATCH, silence_seconds=SILENCE_SECONDS) as (platform, credentials),
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
    for attempt in range(6):
        # A machine that stalls for as long as a stream may be silent disturbs it, too.
        if scene.messages:
            break
        scene.proxy.plan(scene.platform.address)
        output = tmp_path / f"undisturbed-{attempt}.csv"
        codes = finished(scene, output, scene.match(output, 5))
        methods = dict(scene.proxy.methods)
        if codes == [0] and all(methods[side].count("Evaluate") == BATCHES for side in Side):
            scene.messages = methods
    assert scene.messages
    return scene.messages


def spoiled(scene: MessageScene, output: Path, *faults: MessageFault, patience: float = 5) -> None:
    """A match with these faults, until it is done."""
    scene.told.clear()
    scene.proxy.plan(scene.platform.address, *faults)
    finished(scene, output, scene.match(output, patience))
    happened = {fault.spoil for fault in scene.proxy.happened}
    stored = {of for (of,) in scene.platform.rows('SELECT session FROM "commit"')}
    assert stored >= scene.known
    unknown, scene.known = stored - scene.known, stored
    # With an answer that does not hold, all that can be said is whose matches the platform may have.
    assert not unknown or happened & {*CHANGED}
    for session in unknown:
        assert any(f"session {session}" in text for text in scene.told)


def seeded(scene: MessageScene, tmp_path: Path, seed: int) -> None:
    """One seeded run: some faults anywhere, with a patient client or one that gives up at once."""
    choice, messages = random.Random(seed), counted(scene, tmp_path)
    faults = []
    for _ in range(choice.choice((1, 1, 2, 4))):
        side = choice.choice(list(Side))
        number = choice.randrange(len(messages[side]))
        faults.append(MessageFault(side, number, choice.choice(list(Spoil)), choice.randrange(2**32)))
    spoiled(scene, tmp_path / "seeded.csv", *faults, patience=choice.choice((0, 5)))


def test_the_messages_of_a_match_are_known(scene: MessageScene, tmp_path: Path) -> None:
    messages = counted(scene, tmp_path)
    for side in Side:
        assert {"OpenSession", "Evaluate", "FetchSegment", "Commit", "CloseSession"} <= {*messages[side]}
        assert messages[side].count("Evaluate") == BATCHES


@pytest.mark.parametrize("side", Side)
def test_every_message_may_be_spoiled(scene: MessageScene, tmp_path: Path, side: Side) -> None:
    for number in range(len(counted(scene, tmp_path)[side])):
        # Two of the six for each message, others for the next one and in the other direction.
        for spoil in list(Spoil)[(number + (side is Side.SERVER)) % 3 :: 3]:
            fault = MessageFault(side, number, spoil, number)
            spoiled(scene, tmp_path / f"{number}-{spoil}.csv", fault)
            assert scene.proxy.happened == [fault]


@pytest.mark.slow
@pytest.mark.parametrize("spoil", Spoil)
@pytest.mark.parametrize("side", Side)
def test_every_message_may_be_spoiled_in_every_way(
    scene: MessageScene, tmp_path: Path, side: Side, spoil: Spoil
) -> None:
    for number in range(len(counted(scene, tmp_path)[side])):
        spoiled(scene, tmp_path / f"{number}.csv", MessageFault(side, number, spoil, number + 100))


@pytest.mark.parametrize("seed", range(8))
def test_some_messages_are_spoiled(scene: MessageScene, tmp_path: Path, seed: int) -> None:
    seeded(scene, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1_000, 1_250))
def test_many_messages_are_spoiled(scene: MessageScene, tmp_path: Path, seed: int) -> None:
    seeded(scene, tmp_path, seed)


def killed(scene: MessageScene, tmp_path: Path, seed: int, kill: Kill) -> None:
    """One seeded run in which messages are late and repeated, and one of the processes dies."""
    choice = random.Random(seed)
    faults = [
        MessageFault(
            choice.choice(list(Side)), choice.randrange(10), choice.choice((Spoil.DELAY, Spoil.REORDER))
        )
        for _ in range(3)
    ]
    scene.proxy.plan(scene.platform.address, *faults)
    kill(scene, tmp_path / "killed.csv", seed)
    stored = {of for (of,) in scene.platform.rows('SELECT session FROM "commit"')}
    known, scene.known = scene.known, stored
    assert stored == known


@pytest.mark.parametrize("kill", KILLS)
def test_a_process_dies_while_messages_are_late(scene: MessageScene, tmp_path: Path, kill: str) -> None:
    killed(scene, tmp_path, 0, KILLS[kill])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 125))
@pytest.mark.parametrize("kill", KILLS)
def test_processes_die_while_messages_are_late(
    scene: MessageScene, tmp_path: Path, kill: str, seed: int
) -> None:
    killed(scene, tmp_path, seed, KILLS[kill])
