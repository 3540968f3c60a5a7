"""Matches by VOLE whose chunks are lost, repeated, cut, changed, or whose calls break off at every chunk.

The result is the plain intersection or there is a clear error; the list is paid for once, and again only
where the platform had begun to send what results follow from; the log holds.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from fault_proxy import Side
from message_proxy import MessageFault, MessageProxy, Spoil, message_proxy
from platforms import Done, LivePlatform, advertiser, customers, grants, operator, read_csv
from raw_client import load

from purposematch.client import cli
from purposematch.client.reconnect import Patience
from purposematch.protocol.vole.engine import why_unavailable
from purposematch.server.one_shot_matching import MAX_ATTEMPTS

pytestmark = pytest.mark.skipif(why_unavailable(os.environ) is not None, reason="no VOLE engine here")

ENROLLED, LISTED, FIRST = 34_000, 30_000, 10_000
"""So many that corrections come in two chunks, and labels of 32 bytes as well."""
SILENCE_SECONDS = 4
BROKEN_OFF = 75
# The messages of an undisturbed exchange, by their numbers among those of each side.
CLIENT = ("begin", "choices", "trees", "corrections", "corrections", "confirmation")
SERVER = ("opening", "extension", "outputs", "labels", "labels", "closing")
# Labels of 16 bytes come in one chunk.
SERVER_TELLS_TAGS = ("opening", "extension", "outputs", "labels", "closing")
# With the parts changed around, the advertiser is the sender.
CLIENT_SENDS = ("begin", "opening", "extension", "outputs", "closing")
SERVER_RECEIVES = ("choices", "trees", "corrections", "corrections", "confirmation", "report")
SPOILS = (Spoil.DUPLICATE, Spoil.TRUNCATE, Spoil.CORRUPT)
DROPPED = (("both", Side.CLIENT, 3), ("both", Side.SERVER, 2), ("platform", Side.SERVER, 5))


@dataclass
class Scene:
    """A platform, an advertiser of each disclosure with a proxy of its own, and a list."""

    platform: LivePlatform
    credentials: dict[str, Path]
    proxies: dict[str, MessageProxy]
    listed: Path

    def match(self, disclosure: str, output: Path, patience: float, *options: str) -> Done:
        """A match through the proxy."""
        return advertiser(
            *("match", self.listed, "--platform", self.proxies[disclosure].address),
            *("--credentials", self.credentials[disclosure], "--output", output, "--yes", "--json"),
            *("--engine", "vole", "--patience", str(patience), *options),
        )

    def plan(self, disclosure: str, side: Side, message: int, spoil: Spoil) -> None:
        """Plans a fault at a message of the exchange, which follows one message that opens the session."""
        # A list under another label is not answered without a session.
        (self.credentials[disclosure] / "label.key").unlink(missing_ok=True)
        fault = MessageFault(side, 1 + message, spoil, bit=message)
        self.proxies[disclosure].plan(self.platform.address, fault)

    def check(self, disclosure: str, output: Path, done: Done) -> list[tuple[int, int]]:
        """Checks what both sides hold of a match that is done; the batches that were paid for."""
        session = done.document["session"]
        everybody = sorted(f"s{i}" for i in range(FIRST, ENROLLED))
        if disclosure != "platform":
            rows = [row["email"] for row in read_csv(output) if row["matched"] == "true"]
            assert rows == [f"user{i}@example.com" for i in range(FIRST, ENROLLED)]
        assert self.platform.audience(session) == ([] if disclosure == "advertiser" else everybody)
        return self.platform.rows(
            "SELECT elements, charged FROM batch WHERE session = ? ORDER BY number", session
        )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("one-shot-cuts")
    platform = LivePlatform.create(folder, silence_seconds=SILENCE_SECONDS)
    platform.enroll(grants(ENROLLED))
    options = ("--allow-experimental", "--daily-elements", "100000000")
    credentials = {name: platform.admit(name, name, *options) for name in ("advertiser", "both")}
    credentials["platform"] = platform.admit("platform", "platform", *options, "--release-epsilon", "0.001")
    platform.publish()
    listed = customers(folder / "list.csv", LISTED, first=FIRST)
    with (
        platform.serving(),
        message_proxy(platform.data_dir, load(credentials["advertiser"])) as one,
        message_proxy(platform.data_dir, load(credentials["both"])) as two,
        message_proxy(platform.data_dir, load(credentials["platform"])) as three,
    ):
        proxies = {"advertiser": one, "both": two, "platform": three}
        yield Scene(platform, credentials, proxies, listed)
    audited = operator("audit", "--data-dir", platform.data_dir)
    assert audited.code == 0, audited.stderr


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(cli, "Patience", partial(Patience, silence_seconds=SILENCE_SECONDS))


@pytest.mark.parametrize("disclosure", ["advertiser", "both", "platform"])
def test_undisturbed_exchanges_have_the_messages_that_faults_are_planned_for(
    scene: Scene, tmp_path: Path, disclosure: str
) -> None:
    proxy, output = scene.proxies[disclosure], tmp_path / "out.csv"
    proxy.plan(scene.platform.address)
    done = scene.match(disclosure, output, 20)
    assert scene.check(disclosure, output, done) == [(LISTED + 64, LISTED)]
    names = {Side.CLIENT: CLIENT, Side.SERVER: SERVER if disclosure == "both" else SERVER_TELLS_TAGS}
    if disclosure == "platform":
        names = {Side.CLIENT: CLIENT_SENDS, Side.SERVER: SERVER_RECEIVES}
    for side, expected in names.items():
        assert proxy.methods[side][1 : 1 + len(expected)] == ["Exchange"] * len(expected)
        assert "Exchange" not in proxy.methods[side][1 + len(expected) :]


CUTS = [
    *(("both", Side.CLIENT, at, name) for at, name in enumerate(CLIENT)),
    *(("both", Side.SERVER, at, name) for at, name in enumerate(SERVER)),
    *(("platform", Side.CLIENT, at, name) for at, name in enumerate(CLIENT_SENDS)),
    *(("platform", Side.SERVER, at, name) for at, name in enumerate(SERVER_RECEIVES)),
]


@pytest.mark.parametrize(("disclosure", "side", "at", "name"), CUTS)
def test_a_call_that_breaks_off_is_made_anew(
    scene: Scene, tmp_path: Path, disclosure: str, side: Side, at: int, name: str
) -> None:
    scene.plan(disclosure, side, at, Spoil.BREAK)
    output = tmp_path / "out.csv"
    batches = scene.check(disclosure, output, scene.match(disclosure, output, 20))
    assert len(scene.proxies[disclosure].happened) == 1
    # Results had begun to leave the platform, so this was another list.
    again = disclosure == "both" and name in ("outputs", "labels", "closing")
    assert batches == [(LISTED + 64, LISTED)] * (2 if again else 1)


@pytest.mark.parametrize(
    ("disclosure", "side", "at"),
    [
        ("both", Side.CLIENT, 3),
        ("both", Side.SERVER, 4),
        ("platform", Side.CLIENT, 3),
        ("platform", Side.SERVER, 5),
    ],
)
def test_another_process_goes_on_with_the_session(
    scene: Scene, tmp_path: Path, disclosure: str, side: Side, at: int
) -> None:
    scene.plan(disclosure, side, at, Spoil.BREAK)
    output = tmp_path / "out.csv"
    done = scene.match(disclosure, output, 0)
    assert done.code == BROKEN_OFF, done.stderr
    session = json.loads(done.stdout)["session"]
    assert not output.exists()
    again = scene.match(disclosure, output, 20, "--resume")
    assert again.document["session"] == session
    paid = scene.check(disclosure, output, again)
    assert len(paid) == (2 if (disclosure, side) == ("both", Side.SERVER) else 1)


# A third of them every time, each kind in each direction.
SPOILED = [
    pytest.param(*cut[:3], spoil, marks=[] if (cut[2] + number) % 3 == 0 else pytest.mark.slow)
    for cut in CUTS
    for number, spoil in enumerate(SPOILS)
]
# What is lost is missed in silence, which takes time.
SPOILED += [pytest.param(*each, Spoil.DROP) for each in DROPPED]
SPOILED += [
    pytest.param(*cut[:3], Spoil.DROP, marks=pytest.mark.slow) for cut in CUTS if cut[:3] not in DROPPED
]


@pytest.mark.parametrize(("disclosure", "side", "at", "spoil"), SPOILED)
def test_a_spoiled_chunk_is_an_error_or_changes_nothing(
    scene: Scene, tmp_path: Path, disclosure: str, side: Side, at: int, spoil: Spoil
) -> None:
    scene.plan(disclosure, side, at, spoil)
    output = tmp_path / "out.csv"
    done = scene.match(disclosure, output, 20)
    assert len(scene.proxies[disclosure].happened) == 1
    if done.code == 0:
        # What was lost is missed in silence, and the attempt is made anew.
        scene.check(disclosure, output, done)
        return
    assert done.code == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert not output.exists()
    # No audience was made of it.
    state = scene.platform.rows("SELECT id, state FROM session ORDER BY log_size DESC LIMIT 1")
    assert state[0][1] != "open"
    if "the platform may have the matches" not in done.stderr:
        assert scene.platform.audience(state[0][0]) == []


def test_a_commit_that_breaks_off_needs_no_other_exchange(scene: Scene, tmp_path: Path) -> None:
    proxy, output = scene.proxies["both"], tmp_path / "out.csv"
    proxy.plan(scene.platform.address, MessageFault(Side.CLIENT, 1 + len(CLIENT), Spoil.BREAK))
    done = scene.match("both", output, 0)
    assert done.code == BROKEN_OFF, done.stderr
    assert json.loads(done.stdout)["status"] == "unknown"
    again = scene.match("both", output, 20, "--resume")
    assert scene.check("both", output, again) == [(LISTED + 64, LISTED)]


def test_a_session_has_a_bounded_number_of_attempts(scene: Scene, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    scene.plan("advertiser", Side.CLIENT, 1, Spoil.BREAK)
    done = scene.match("advertiser", output, 0)
    for _ in range(20):
        if done.code != BROKEN_OFF:
            break
        session = json.loads(done.stdout)["session"]
        scene.proxies["advertiser"].plan(
            scene.platform.address, MessageFault(Side.CLIENT, 1, Spoil.BREAK, bit=1)
        )
        done = scene.match("advertiser", output, 0, "--resume")
    assert done.code == 1
    assert "a limit of the session is used up" in done.stderr
    rows = scene.platform.rows("SELECT state, attempts FROM session WHERE id = ?", session)
    assert rows == [("ended", MAX_ATTEMPTS)]
    assert scene.platform.rows("SELECT 1 FROM batch WHERE session = ?", session) == []
