"""Matches whose connection is spoiled, and whose processes are killed, anywhere: what both sides hold then.

Every case runs `purposematch match` against a real server through a proxy, and goes on until it is done: the
result must be the plain intersection, both sides must know of the same commits, and each batch must be
counted once.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_matches import BROKEN_OFF, Scene, broken_platform, finished, kill_client, kill_server
from fault_proxy import Action, Fault, FaultProxy, Side, fault_proxy
from platforms import advertiser

from purposematch.server.registry import ledger, sessions


class CutScene(Scene):
    """One whose proxy sees records of TLS.

    Attributes:
        records: how many an undisturbed match has, by side.
    """

    proxy: FaultProxy
    records: dict[Side, int]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CutScene]:
    folder = tmp_path_factory.mktemp("cuts")
    with fault_proxy() as proxy, broken_platform(folder, 128) as (platform, credentials):
        scene = CutScene(platform, proxy, credentials, folder)
        scene.records = {}
        yield scene


@pytest.fixture(autouse=True)
def _private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def counted(scene: CutScene, tmp_path: Path) -> dict[Side, int]:
    """How many records an undisturbed match has in each direction."""
    if not scene.records:
        scene.proxy.plan(scene.platform.address)
        finished(scene, tmp_path / "undisturbed.csv", scene.match(tmp_path / "undisturbed.csv", 5))
        scene.records = dict(scene.proxy.counts)
    return scene.records


def commits_are_known(scene: CutScene) -> None:
    """Both sides know of the same commits."""
    assert {of for (of,) in scene.platform.rows('SELECT session FROM "commit"')} == scene.known


def spoiled(scene: CutScene, tmp_path: Path, seed: int, drops: bool = False) -> None:
    """One seeded run: some faults anywhere, with a patient client or one that gives up at once."""
    choice, counts = random.Random(seed), counted(scene, tmp_path)
    faults = []
    # What is dropped without a word is only noticed by keepalive, after a minute.
    actions = [action for action in Action if drops or action is not Action.DROP]
    for _ in range(choice.choice((1, 1, 2, 4))):
        side = choice.choice(list(Side))
        faults.append(Fault(side, choice.randrange(counts[side]), choice.choice(actions)))
    scene.proxy.plan(scene.platform.address, *faults)
    output = tmp_path / f"spoiled-{seed}.csv"
    patience = choice.choice((0, 5))
    codes = finished(scene, output, scene.match(output, patience), patience=5)
    benign = all(fault.action is Action.DELAY for fault in scene.proxy.happened)
    assert codes == [0] or not benign
    commits_are_known(scene)


@pytest.mark.parametrize("seed", range(24))
def test_a_spoiled_connection_leaves_the_right_result(scene: CutScene, tmp_path: Path, seed: int) -> None:
    spoiled(scene, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1_000, 1_230))
def test_many_spoiled_connections_leave_the_right_result(scene: CutScene, tmp_path: Path, seed: int) -> None:
    spoiled(scene, tmp_path, seed, drops=seed % 10 == 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_client_goes_on_where_it_died(scene: CutScene, tmp_path: Path, seed: int) -> None:
    scene.proxy.plan(scene.platform.address)
    kill_client(scene, tmp_path / "killed.csv", seed)
    commits_are_known(scene)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_killed_clients_go_on(scene: CutScene, tmp_path: Path, seed: int) -> None:
    scene.proxy.plan(scene.platform.address)
    kill_client(scene, tmp_path / "killed.csv", seed)
    commits_are_known(scene)


@pytest.mark.parametrize("seed", range(2))
def test_another_server_goes_on_for_one_that_was_killed(scene: CutScene, tmp_path: Path, seed: int) -> None:
    scene.proxy.plan(scene.platform.address)
    kill_server(scene, tmp_path / "server.csv", seed)
    commits_are_known(scene)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 230))
def test_other_servers_go_on_for_many_that_were_killed(scene: CutScene, tmp_path: Path, seed: int) -> None:
    scene.proxy.plan(scene.platform.address)
    kill_server(scene, tmp_path / "server.csv", seed)
    commits_are_known(scene)


def test_a_changed_list_is_refused_by_name_and_another_output_is_its_own(
    scene: CutScene, tmp_path: Path
) -> None:
    counts = counted(scene, tmp_path)
    output = tmp_path / "changed.csv"
    middle = Fault(Side.SERVER, counts[Side.SERVER] - 8, Action.CUT)
    scene.proxy.plan(scene.platform.address, middle)
    listed = scene.folder / "list.csv"
    before = listed.read_bytes()
    done = scene.match(output, 0)
    assert done.code == BROKEN_OFF, done.stderr
    try:
        listed.write_bytes(before + b"user9999@example.com\n")
        changed = scene.match(output, 0)
    finally:
        listed.write_bytes(before)
    assert changed.code == 1
    assert "list.csv is not the list of the session that broke off" in changed.stderr
    nothing = advertiser(*scene.arguments(tmp_path / "other.csv", 0), "--resume")
    assert nothing.code == 1
    assert "there is no session to resume" in nothing.stderr
    again = advertiser(*scene.arguments(output, 5), "--resume")
    assert finished(scene, output, again) == [0]


def test_a_session_that_ended_meanwhile_says_so_and_the_next_match_is_a_new_one(
    scene: CutScene, tmp_path: Path
) -> None:
    counts = counted(scene, tmp_path)
    output = tmp_path / "ended.csv"
    scene.proxy.plan(scene.platform.address, Fault(Side.CLIENT, counts[Side.CLIENT] // 2, Action.CUT))
    done = scene.match(output, 0)
    assert done.code == BROKEN_OFF, done.stderr
    session = json.loads(done.stdout)["session"]
    with scene.platform.opened() as platform, platform.registry.writing() as connection:
        sessions.close_session(connection, session, sessions.SessionState.ENDED, platform.clock())
        ledger.record_session_ends(connection, [session], platform.random_bytes)
    ended = scene.match(output, 5)
    assert ended.code == 1
    assert "can not go on, and nothing of it was committed" in ended.stderr
    assert not output.with_name("ended.csv.resume").exists()
    finished(scene, output, scene.match(output, 5))
