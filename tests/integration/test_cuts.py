"""Matches whose connection is spoiled, and whose processes are killed, anywhere: what both sides hold then.

Every case runs `purposematch match` against a real server through a proxy, and goes on until it is done: the
result must be the plain intersection, both sides must know of the same commits, and each batch must be
counted once.
"""

import json
import random
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault_proxy import Action, Fault, FaultProxy, Side, fault_proxy
from platforms import BIN, Done, LivePlatform, advertiser, customers, first_line, grants, operator, read_csv

from purposematch.server.registry import ledger, sessions

ENROLLED = 1_200
FIRST = 400
"""The list holds `user400` to `user1399`: the first 800 are enrolled."""
LISTED = 1_000
CANARIES = 64
ATTEMPTS = 12
BROKEN_OFF = 75


@dataclass
class Scene:
    """A served platform, an advertiser, and what is between them."""

    platform: LivePlatform
    proxy: FaultProxy
    credentials: Path
    folder: Path
    records: dict[Side, int]
    known: set[str]
    """The sessions whose commit the advertiser knows of."""

    def arguments(self, output: Path, patience: float) -> list[str | Path]:
        """The arguments of a match through the proxy."""
        return [
            *("match", self.folder / "list.csv", "--platform", self.proxy.address, "--yes", "--json"),
            *("--credentials", self.credentials, "--output", output, "--patience", str(patience)),
        ]

    def match(self, output: Path, patience: float) -> Done:
        """Runs a match through the proxy in this process."""
        return advertiser(*self.arguments(output, patience))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("cuts")
    platform = LivePlatform.create(folder, max_batch_elements=128, batches_in_flight=2)
    platform.enroll(grants(ENROLLED))
    platform.publish()
    credentials = platform.admit("acme", "both", "--daily-elements", "100000000")
    customers(folder / "list.csv", LISTED, first=FIRST)
    with fault_proxy() as proxy, platform.serving():
        scene = Scene(platform, proxy, credentials, folder, {}, set())
        yield scene
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.code == 0, audited.stderr


@pytest.fixture(autouse=True)
def _private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def counted(scene: Scene, tmp_path: Path) -> dict[Side, int]:
    """How many records an undisturbed match has in each direction."""
    if not scene.records:
        scene.proxy.plan(scene.platform.address)
        finished(scene, tmp_path / "undisturbed.csv", scene.match(tmp_path / "undisturbed.csv", 5))
        scene.records = dict(scene.proxy.counts)
    return scene.records


def finished(scene: Scene, output: Path, done: Done, patience: float = 5) -> list[int]:
    """Goes on with a match until it is done, and checks what both sides hold; the exit codes."""
    codes = [done.code]
    resume = output.with_name(f"{output.name}.resume")
    while done.code != 0:
        assert len(codes) < ATTEMPTS, codes
        assert not output.exists()
        if done.code == BROKEN_OFF:
            document = json.loads(done.stdout)
            assert document["status"] in ("interrupted", "unknown")
            assert document["resume"] == str(resume)
            assert stat.S_IMODE(resume.stat().st_mode) == 0o600
        else:
            # A clear error: of one line, and either nothing was begun or a killed process left its file.
            assert done.code in (1, -signal.SIGKILL)
            assert done.code != 1 or (done.stderr.splitlines()[-1].startswith("error: "), done.stderr)[0]
        done = scene.match(output, patience)
        codes.append(done.code)
    document = done.document
    assert document["status"] == "done"
    assert not resume.exists()
    session = document["session"]
    matched = {row["email"] for row in read_csv(output) if row["matched"] == "true"}
    assert matched == {f"user{i}@example.com" for i in range(FIRST, ENROLLED)}
    assert document["matched_identifiers"] == ENROLLED - FIRST
    batches = scene.platform.rows("SELECT number, elements FROM batch WHERE session = ?", session)
    assert sorted(number for number, _ in batches) == list(range(len(batches)))
    assert sum(elements for _, elements in batches) == LISTED + CANARIES
    ((stored,),) = scene.platform.rows('SELECT receipt FROM "commit" WHERE session = ?', session)
    own = json.loads(output.with_name(f"{output.name}.receipt").read_bytes())
    assert own["commit"]["content"] == json.loads(stored)
    assert scene.platform.audience(session) == sorted(f"s{i}" for i in range(FIRST, ENROLLED))
    scene.known.add(session)
    assert {of for (of,) in scene.platform.rows('SELECT session FROM "commit"')} == scene.known
    return codes


def spoiled(scene: Scene, tmp_path: Path, seed: int, drops: bool = False) -> None:
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


@pytest.mark.parametrize("seed", range(24))
def test_a_spoiled_connection_leaves_the_right_result(scene: Scene, tmp_path: Path, seed: int) -> None:
    spoiled(scene, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1_000, 1_230))
def test_many_spoiled_connections_leave_the_right_result(scene: Scene, tmp_path: Path, seed: int) -> None:
    spoiled(scene, tmp_path, seed, drops=seed % 10 == 0)


def killed_client(scene: Scene, output: Path, seconds: float) -> Done:
    """A client of its own process, killed after so long unless it was done."""
    command = [str(BIN / "purposematch"), *map(str, scene.arguments(output, 5))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        resume = output.with_name(f"{output.name}.resume")
        # Until the session is open nothing can be lost.
        deadline = time.monotonic() + 60
        while process.poll() is None and not resume.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(seconds)
        process.kill()
        out, err = process.communicate()
    return Done(process.returncode, out.decode(), err.decode())


def kill_client(scene: Scene, tmp_path: Path, seed: int) -> None:
    """One seeded run of a client that dies."""
    scene.proxy.plan(scene.platform.address)
    output = tmp_path / f"killed-{seed}.csv"
    done = killed_client(scene, output, random.Random(seed).uniform(0, 0.3))
    if done.code == 0:
        # It was too late: then it is a match like any other, and again nothing to go on with.
        assert not output.with_name(f"{output.name}.resume").exists()
    if output.exists():
        own = json.loads(output.with_name(f"{output.name}.receipt").read_bytes())
        scene.known.add(own["commit"]["content"]["session"])
        output.unlink()
    finished(scene, output, done if done.code != 0 else scene.match(output, 5))


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_client_goes_on_where_it_died(scene: Scene, tmp_path: Path, seed: int) -> None:
    kill_client(scene, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_killed_clients_go_on(scene: Scene, tmp_path: Path, seed: int) -> None:
    kill_client(scene, tmp_path, seed)


def kill_server(scene: Scene, tmp_path: Path, seed: int) -> None:
    """One seeded run with a server that dies, while another one takes over."""
    platform = scene.platform
    command = [str(BIN / "purposematch-platform"), "serve", "--data-dir", str(platform.data_dir)]
    output = tmp_path / f"server-{seed}.csv"
    with platform.log.open("ab") as log:
        dying = subprocess.Popen([*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=log)
        try:
            scene.proxy.plan(first_line(dying).removeprefix("serving on "))
            client = subprocess.Popen(
                [str(BIN / "purposematch"), *map(str, scene.arguments(output, 20))],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            resume = output.with_name(f"{output.name}.resume")
            deadline = time.monotonic() + 60
            while client.poll() is None and not resume.exists() and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(random.Random(seed).uniform(0, 0.3))
        finally:
            dying.kill()
            dying.communicate()
        # The other server of the same platform knows all that this one knew.
        scene.proxy.target = platform.address
        out, err = client.communicate(timeout=60)
    finished(scene, output, Done(client.returncode, out.decode(), err.decode()))


@pytest.mark.parametrize("seed", range(2))
def test_another_server_goes_on_for_one_that_was_killed(scene: Scene, tmp_path: Path, seed: int) -> None:
    kill_server(scene, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 230))
def test_other_servers_go_on_for_many_that_were_killed(scene: Scene, tmp_path: Path, seed: int) -> None:
    kill_server(scene, tmp_path, seed)


def test_a_changed_list_is_refused_by_name_and_another_output_is_its_own(
    scene: Scene, tmp_path: Path
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
    scene: Scene, tmp_path: Path
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
