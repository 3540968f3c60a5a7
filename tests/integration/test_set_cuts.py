"""Set exchanges whose connection is spoiled, and whose processes are killed, anywhere: what both sides hold.

Every case runs `purposematch match` against a real server through a proxy, and goes on until it is done: the
audience must be the plain intersection, every batch counted once, and nothing of the exchange left.
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
from platforms import BIN, Done, LivePlatform, advertiser, customers, first_line, grants, operator

ENROLLED = 1_200
FIRST = 400
"""The list holds `user400` to `user1399`: the first 800 are enrolled."""
LISTED = 1_000
CANARIES = 64
ATTEMPTS = 12
BROKEN_OFF = 75
DISCLOSURES = ("platform", "count")


@dataclass
class Scene:
    """A served platform, an advertiser for each disclosure, and what is between them."""

    platform: LivePlatform
    proxy: FaultProxy
    credentials: dict[str, Path]
    folder: Path
    records: dict[str, dict[Side, int]]

    def arguments(self, output: Path, disclosure: str, patience: float) -> list[str | Path]:
        """The arguments of a match through the proxy."""
        return [
            *("match", self.folder / "list.csv", "--platform", self.proxy.address, "--yes", "--json"),
            *("--credentials", self.credentials[disclosure], "--output", output),
            *("--patience", str(patience)),
        ]

    def match(self, output: Path, disclosure: str, patience: float) -> Done:
        """Runs a match through the proxy in this process."""
        return advertiser(*self.arguments(output, disclosure, patience))

    def begin(self, disclosure: str) -> None:
        """Gives the list another label, so that it is not answered without a session."""
        (self.credentials[disclosure] / "label.key").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("cuts")
    platform = LivePlatform.create(folder, max_batch_elements=128, batches_in_flight=2)
    platform.enroll(grants(ENROLLED))
    # Noise does not matter here, and the budget must last.
    options = ("--daily-elements", "100000000", "--release-epsilon", "0.001")
    credentials = {name: platform.admit(name, name, *options) for name in DISCLOSURES}
    platform.publish()
    customers(folder / "list.csv", LISTED, first=FIRST)
    with fault_proxy() as proxy, platform.serving():
        yield Scene(platform, proxy, credentials, folder, {})
    audited = operator("audit", "--data-dir", platform.data_dir, "--json")
    assert audited.code == 0, audited.stderr


@pytest.fixture(autouse=True)
def _private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # Segments come over the wire every time.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def counted(scene: Scene, tmp_path: Path, disclosure: str) -> dict[Side, int]:
    """How many records an undisturbed match has in each direction."""
    if disclosure not in scene.records:
        scene.proxy.plan(scene.platform.address)
        scene.begin(disclosure)
        output = tmp_path / "undisturbed.json"
        finished(scene, output, disclosure, scene.match(output, disclosure, 5))
        scene.records[disclosure] = dict(scene.proxy.counts)
    return scene.records[disclosure]


def finished(scene: Scene, output: Path, disclosure: str, done: Done) -> list[int]:
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
        done = scene.match(output, disclosure, 5)
        codes.append(done.code)
    assert not resume.exists()
    (session,) = _last_commit(scene)
    if done.document["session"] is not None:
        assert done.document["session"] == session
    batches = scene.platform.rows("SELECT number, elements, charged FROM batch WHERE session = ?", session)
    assert sorted(number for number, *_ in batches) == list(range(len(batches)))
    assert sum(elements for _, elements, _ in batches) == LISTED + CANARIES
    assert sum(charged for *_, charged in batches) == LISTED
    expected = sorted(f"s{i}" for i in range(FIRST, ENROLLED)) if disclosure == "platform" else []
    assert scene.platform.audience(session) == expected
    # Nothing of it is kept, whether or not its end still reached the platform.
    assert scene.platform.rows("SELECT 1 FROM exchange WHERE session = ?", session) == []
    assert _parts(scene, session) == []
    return codes


def _last_commit(scene: Scene) -> tuple[str]:
    rows = scene.platform.rows('SELECT session FROM "commit" ORDER BY committed_at DESC LIMIT 1')
    return (str(rows[0][0]),)


def _parts(scene: Scene, session: str) -> list[tuple[int, int]]:
    """The batches of an exchange that is under way: side and number."""
    return scene.platform.rows("SELECT side, number FROM exchange_part WHERE session = ?", session)


def spoiled(scene: Scene, tmp_path: Path, disclosure: str, seed: int) -> None:
    """One seeded run: some faults anywhere, with a patient client or one that gives up at once."""
    choice, counts = random.Random(seed), counted(scene, tmp_path, disclosure)
    actions = [action for action in Action if action is not Action.DROP]
    faults = []
    for _ in range(choice.choice((1, 1, 2, 4))):
        side = choice.choice(list(Side))
        faults.append(Fault(side, choice.randrange(counts[side]), choice.choice(actions)))
    scene.proxy.plan(scene.platform.address, *faults)
    scene.begin(disclosure)
    output = tmp_path / f"spoiled-{seed}.json"
    codes = finished(scene, output, disclosure, scene.match(output, disclosure, choice.choice((0, 5))))
    benign = all(fault.action is Action.DELAY for fault in scene.proxy.happened)
    assert codes == [0] or not benign


@pytest.mark.parametrize("disclosure", DISCLOSURES)
@pytest.mark.parametrize("seed", range(8))
def test_a_spoiled_connection_leaves_the_right_audience(
    scene: Scene, tmp_path: Path, disclosure: str, seed: int
) -> None:
    spoiled(scene, tmp_path, disclosure, seed)


@pytest.mark.slow
@pytest.mark.parametrize("disclosure", DISCLOSURES)
@pytest.mark.parametrize("seed", range(1_000, 1_060))
def test_many_spoiled_connections_leave_the_right_audience(
    scene: Scene, tmp_path: Path, disclosure: str, seed: int
) -> None:
    spoiled(scene, tmp_path, disclosure, seed)


@pytest.mark.parametrize("disclosure", DISCLOSURES)
@pytest.mark.parametrize("seed", range(2))
def test_a_killed_client_goes_on_where_it_died(
    scene: Scene, tmp_path: Path, disclosure: str, seed: int
) -> None:
    scene.proxy.plan(scene.platform.address)
    scene.begin(disclosure)
    output = tmp_path / "killed.json"
    command = [str(BIN / "purposematch"), *map(str, scene.arguments(output, disclosure, 5))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        resume = output.with_name(f"{output.name}.resume")
        deadline = time.monotonic() + 60
        while process.poll() is None and not resume.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(random.Random(seed).uniform(0, 0.2))
        process.kill()
        out, err = process.communicate()
    done = Done(process.returncode, out.decode(), err.decode())
    if done.code != 0 and output.exists():
        # It died when all was in its place: the same command asks about the same list again.
        output.unlink()
    finished(scene, output, disclosure, done)


@pytest.mark.parametrize("disclosure", DISCLOSURES)
def test_another_server_goes_on_for_one_that_was_killed(
    scene: Scene, tmp_path: Path, disclosure: str
) -> None:
    platform, output = scene.platform, tmp_path / "server.json"
    scene.begin(disclosure)
    command = [str(BIN / "purposematch-platform"), "serve", "--data-dir", str(platform.data_dir)]
    with platform.log.open("ab") as log:
        dying = subprocess.Popen([*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=log)
        try:
            scene.proxy.plan(first_line(dying).removeprefix("serving on "))
            client = subprocess.Popen(
                [str(BIN / "purposematch"), *map(str, scene.arguments(output, disclosure, 20))],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            resume = output.with_name(f"{output.name}.resume")
            deadline = time.monotonic() + 60
            while client.poll() is None and not resume.exists() and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(0.1)
        finally:
            dying.kill()
            dying.communicate()
        scene.proxy.target = platform.address
        out, err = client.communicate(timeout=60)
    finished(scene, output, disclosure, Done(client.returncode, out.decode(), err.decode()))


@pytest.mark.parametrize("disclosure", DISCLOSURES)
def test_a_match_that_broke_off_goes_on_with_the_same_secret(
    scene: Scene, tmp_path: Path, disclosure: str
) -> None:
    counts, output = counted(scene, tmp_path, disclosure), tmp_path / "broken.json"
    # Records are not the same in number every time: a cut that finds the exchange under way.
    for record in range(counts[Side.SERVER] - 6, counts[Side.SERVER] // 2, -2):
        scene.begin(disclosure)
        scene.proxy.plan(scene.platform.address, Fault(Side.SERVER, record, Action.CUT))
        done = scene.match(output, disclosure, 0)
        if done.code == BROKEN_OFF and _parts(scene, json.loads(done.stdout)["session"]):
            break
        finished(scene, output, disclosure, done)
        output.unlink()
    assert done.code == BROKEN_OFF, done.stderr
    session = json.loads(done.stdout)["session"]
    before = scene.platform.rows("SELECT exponent FROM exchange WHERE session = ?", session)
    assert before[0][0] is not None
    again = advertiser(*scene.arguments(output, disclosure, 5), "--resume")
    assert finished(scene, output, disclosure, again) == [0]
    assert again.document["session"] == session
    assert scene.platform.rows("SELECT 1 FROM exchange WHERE session = ?", session) == []
