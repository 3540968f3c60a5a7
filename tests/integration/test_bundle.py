"""What an outside auditor finds: in a bundle of the log, and in receipts of several advertisers."""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from noisy_sessions import open_session
from platforms import PLATFORM_ID, Done, LivePlatform, advertiser, assertion, customers, grants, operator
from sqlalchemy import Connection

from purposematch.client import audit_bundle
from purposematch.client.credentials import load_pin
from purposematch.client.receipt import SessionReceipt
from purposematch.protocol.errors import ForkError, PeerError, VerificationError
from purposematch.protocol.log.bundle import OpenedLeaf
from purposematch.protocol.log.events import Event, EventKind, Opening
from purposematch.protocol.log.session_proof import manifest_fields
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SessionGrant
from purposematch.server.bundle import write_bundle
from purposematch.server.platform import Platform
from purposematch.server.registry import events, log
from purposematch.server.registry.schema import generation
from purposematch.server.registry.schema import session as session_table
from purposematch.server.session_proofs import session_proof

ENROLLED = 1_050
PLANTED = "planted-subject"


class Audited:
    """A platform that showed two logs: acme and alone saw the one of the bundle, globex another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.platform = LivePlatform.create(folder / "one")
        self.platform.enroll(
            [
                *grants(ENROLLED),
                assertion(PLANTED, "email", "planted@example.com", notice_id="planted-notice"),
            ]
        )
        self.platform.publish()
        self.credentials = {name: self.platform.admit(name) for name in ("acme", "globex", "alone")}
        self.listed = customers(folder / "list.csv")
        shutil.copytree(self.platform.data_dir, folder / "two" / "platform")
        other = LivePlatform(folder / "two")
        self.receipts = {"acme": self.match(self.platform, "acme", "acme")}
        self.receipts["globex"] = self.match(other, "globex", "globex")
        # Its log is longer than what acme saw.
        self.receipts["globex later"] = self.match(other, "globex", "globex later")
        self.platform.operate("withdraw", "--subject-id", "s3")
        self.receipts["alone"] = self.match(self.platform, "alone", "alone")
        for _ in range(4):
            self.platform.enroll(grants(1))
        self.report = self.platform.operate("audit", "--bundle", folder / "bundle")
        self.bundle = folder / "bundle"
        self.key = load_pin(self.credentials["acme"]).identity_key

    def match(self, at: LivePlatform, name: str, output: str) -> Path:
        """A session that nobody has anything to say against; its receipt."""
        with at.serving(), pytest.MonkeyPatch.context() as own:
            # Each advertiser is somebody else, who does not see what the others were shown.
            own.setenv("XDG_STATE_HOME", str(self.folder / f"state-{name}"))
            done = at.match(self.listed, self.folder / f"{output}.csv", self.credentials[name])
        assert done.code == 0, done.stderr
        return self.folder / f"{output}.csv.receipt"

    def write(self, name: str) -> Path:
        """A bundle as of now."""
        with self.platform.opened() as platform:
            write_bundle(platform, self.folder / name)
        return self.folder / name


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    with pytest.MonkeyPatch.context() as own:
        folder = tmp_path_factory.mktemp("bundles")
        own.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield Audited(folder)


@pytest.fixture
def copy(audited: Audited, tmp_path: Path) -> Path:
    shutil.copytree(audited.bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _audit(audited: Audited, *receipts: str, bundle: Path | None = None) -> Done:
    options = [option for name in receipts for option in ("--receipt", audited.receipts[name])]
    key = ("--credentials", audited.credentials["acme"])
    return advertiser("audit", bundle or audited.bundle, *key, *options, "--json")


def test_a_bundle_and_its_receipts_pass(audited: Audited) -> None:
    document = _audit(audited, "acme", "alone").document
    assert document["platform_id"] == PLATFORM_ID
    # The audit itself is logged before its bundle is written.
    assert document["leaves"] == audited.report["leaves"] + 1 == audited.report["bundle_leaves"]
    assert (document["policies"], document["epochs"], document["manifests"]) == (1, 1, 2)
    assert audited.report["bundle_opened"] == 4
    assert [each["advertiser"] for each in document["receipts"]] == ["acme", "alone"]
    assert [each["file"] for each in document["receipts"]] == [
        str(audited.receipts[name]) for name in ("acme", "alone")
    ]
    # The key alone does, from wherever it was pinned.
    done = advertiser("audit", audited.bundle, "--platform-key", audited.key.hex())
    assert done.code == 0
    assert "manifests" in done.stdout


def test_the_same_log_gives_the_same_bundle(audited: Audited) -> None:
    again = audited.write("again")
    contents = [
        {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}
        for folder in (audited.bundle, again)
    ]
    assert contents[0] == contents[1]


def test_a_bundle_tells_of_nobody(audited: Audited) -> None:
    written = b"\n".join(str(path).encode() + path.read_bytes() for path in _files(audited.bundle))
    numbers = audited.platform.rows("SELECT id FROM session")
    assert len(numbers) == 2
    planted = [PLANTED, "planted-notice", "planted@example.com", "s3", "acme", "globex", "alone"]
    planted += [f"user{number}@example.com" for number in (0, 3, 1_049)]
    planted += [id_ for (id_,) in numbers]
    hidden = [sha256(b"planted@example.com").digest(), sha256(PLANTED.encode()).digest()]
    hidden += [row[0] for row in audited.platform.rows("SELECT fingerprint FROM certificate")]
    hidden += [row[0] for row in audited.platform.rows("SELECT agreement FROM session")]
    with audited.platform.opened() as platform, platform.registry.reading() as connection:
        leaves = list(log.leaves(connection))
    opened = {EventKind.POLICY, EventKind.EPOCH, EventKind.MANIFEST}
    hidden += [leaf.opening.salt for leaf in leaves if leaf.opening and leaf.kind not in opened]
    words = [word.encode() for word in planted if word != "s3"] + [b'"s3"']
    found = [word for word in words if word in written]
    found += [one for one in hidden if one in written or one.hex().encode() in written]
    assert found == []


def test_a_split_view_is_found_and_both_are_named(audited: Audited) -> None:
    # Each of them is content alone, and globex even followed its log to a second session.
    assert _audit(audited, "acme").code == 0
    with pytest.raises(ForkError, match="split view") as found:
        audit_bundle(
            audited.bundle, audited.key, receipts=[audited.receipts["acme"], audited.receipts["globex"]]
        )
    assert str(audited.receipts["acme"]) in str(found.value)
    assert str(audited.receipts["globex"]) in str(found.value)
    done = _audit(audited, "globex", "alone", "acme")
    assert done.code == 1
    assert "split view" in done.stderr
    assert "advertiser globex" in done.stderr
    assert "contradict each other" in done.stderr
    assert done.stdout == ""
    # What acme saw is shorter than this: that it is no beginning of it is in the proofs.
    done = _audit(audited, "acme", "globex later")
    assert done.code == 1
    assert "globex later.csv.receipt (advertiser globex" in done.stderr
    assert "acme.csv.receipt (advertiser acme" in done.stderr


def test_a_receipt_of_another_log_than_the_bundle_is_named(audited: Audited) -> None:
    for receipts in (["globex"], ["globex later"], ["globex", "globex later"]):
        done = _audit(audited, *receipts)
        assert done.code == 1
        assert "split view" in done.stderr
        assert "advertiser globex" in done.stderr
        # One followed from the other.
        assert "the bundle's checkpoint" in done.stderr


def test_every_byte_of_a_bundle_counts(audited: Audited, copy: Path) -> None:
    flips = 0
    for path in _files(copy):
        content = path.read_bytes()
        step = max(1, len(content) // 150)
        for place in {*range(0, len(content), step), len(content) - 1}:
            for bit in (1, 32, 128):
                changed = bytearray(content)
                changed[place] ^= bit
                path.write_bytes(changed)
                with pytest.raises(PeerError) as refused:
                    audit_bundle(copy, audited.key, receipts=[audited.receipts["acme"]])
                # A checkpoint is of the platform that the head names, so what is wrong there shows here.
                assert str(refused.value).startswith(("bundle.json: ", "checkpoint: ", "tile/", "leaves/"))
                flips += 1
        for changed in (content[:-1], content + b"\n", content[:-1] + b" \n", b""):
            path.write_bytes(changed)
            with pytest.raises(PeerError):
                audit_bundle(copy, audited.key)
        path.write_bytes(content)
    assert flips > 1_000
    audit_bundle(copy, audited.key, receipts=[audited.receipts["acme"]])


def test_every_byte_of_a_receipt_counts(audited: Audited, tmp_path: Path) -> None:
    content = audited.receipts["acme"].read_bytes()
    path = tmp_path / "receipt"
    for place in {*range(0, len(content), 11), len(content) - 1}:
        for bit in (1, 32):
            changed = bytearray(content)
            changed[place] ^= bit
            path.write_bytes(changed)
            with pytest.raises(PeerError, match=str(path)):
                audit_bundle(audited.bundle, audited.key, receipts=[path])
    path.write_bytes(content)
    audit_bundle(audited.bundle, audited.key, receipts=[path])


def test_parts_of_two_receipts_make_none(audited: Audited, tmp_path: Path) -> None:
    one, two = (json.loads(audited.receipts[name].read_bytes()) for name in ("globex", "globex later"))
    path = tmp_path / "mixed"
    for mixed in (
        one | {"grant": two["grant"]},
        one | {"commit": two["commit"]},
        one | {"proof": two["proof"]},
    ):
        content = json.dumps(mixed, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        path.write_bytes(content)
        assert SessionReceipt.decode(content).encode() == content
        with pytest.raises(VerificationError, match=r"another (one|session) than the grant"):
            audit_bundle(audited.bundle, audited.key, receipts=[path])


def _leaf(folder: Path, kind: str, number: int = 0) -> Path:
    files = sorted((folder / "leaves").iterdir(), key=lambda path: int(path.stem))
    return [path for path in files if json.loads(path.read_bytes())["event"]["kind"] == kind][number]


def _rename(folder: Path) -> None:
    _leaf(folder, "policy").rename(folder / "leaves" / "3.json")


ALTERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file more": (lambda folder: (folder / "more").write_bytes(b""), "more: the file is no part"),
    "a leaf with another name": (
        lambda folder: (folder / "leaves" / "01.json").write_bytes(b"{}"),
        "leaves/01.json: the file is no part",
    ),
    "a folder more": (lambda folder: (folder / "leaves" / "more").mkdir(), "leaves/more: the file is no"),
    "a link to a folder": (
        lambda folder: (folder / "more").symlink_to("leaves"),
        "more: the file is no part",
    ),
    "a leaf outside the tree": (
        lambda folder: (folder / "leaves" / "9999.json").write_bytes(
            OpenedLeaf(9_999, Opening(bytes(16), events.epoch_end_event(1, 0).content)).encode()
        ),
        "leaves/9999.json: the leaf is outside the tree",
    ),
    "a tile less": (lambda folder: _files(folder / "tile" / "0")[-1].unlink(), "tile/0/000.p/"),
    "no checkpoint": (lambda folder: (folder / "checkpoint").unlink(), "checkpoint: cannot be read"),
    "a leaf in the place of another": (_rename, "leaves/3.json"),
    "no policy": (lambda folder: _leaf(folder, "policy").unlink(), "policy that was not logged"),
    "no epoch": (lambda folder: _leaf(folder, "epoch").unlink(), "another key than its epoch"),
    "no manifest": (lambda folder: _leaf(folder, "manifest").unlink(), "leaves out the manifest"),
}


@pytest.mark.parametrize("change", ALTERED)
def test_a_bundle_that_lacks_something_or_has_too_much_is_refused(
    audited: Audited, copy: Path, change: str
) -> None:
    alter, text = ALTERED[change]
    alter(copy)
    done = _audit(audited, "acme", bundle=copy)
    assert done.code == 1
    assert text in done.stderr


def _after_the_end(platform: Platform, connection: Connection) -> list[Event]:
    return [events.epoch_end_event(1, 0), events.manifest_event(connection, 2)]


LOGGED: dict[str, tuple[Callable[[Platform, Connection], list[Event]], str]] = {
    "an epoch again": (lambda _, connection: [events.epoch_event(connection, 1)], "begins a key epoch twice"),
    "the end of another epoch": (lambda *_: [events.epoch_end_event(9, 0)], "one that it did not begin"),
    "the end of an epoch twice": (lambda *_: [events.epoch_end_event(1, 0)] * 2, "ends a key epoch twice"),
    "a manifest again": (
        lambda _, connection: [events.manifest_event(connection, 1)],
        "two manifests of one generation",
    ),
    "a manifest after the end of its epoch": (_after_the_end, "whose key was destroyed before"),
    "another manifest": (
        lambda _, connection: [
            replace(
                events.manifest_event(connection, 1),
                fields=manifest_fields(events.stored_row(connection, generation, number=1).id, b""),
            )
        ],
        "the manifest is not the one that the log names",
    ),
    "another policy": (
        lambda *_: [Event(EventKind.POLICY, 0, {"id": 1, "digest": "00" * 32, "taxonomy": "00" * 32})],
        "the policy is not the one that the log names",
    ),
}
"""What a platform logs and opens, with everything signed, that its other leaves speak against."""


@pytest.mark.parametrize("name", LOGGED)
def test_a_platform_that_logs_what_can_not_be_is_found(audited: Audited, tmp_path: Path, name: str) -> None:
    new, text = LOGGED[name]
    shutil.copytree(audited.platform.data_dir, tmp_path / "platform")
    with LivePlatform(tmp_path).opened() as platform:
        with platform.registry.writing() as connection:
            log.append(connection, new(platform, connection), platform.random_bytes)
        write_bundle(platform, tmp_path / "bundle")
    with pytest.raises(VerificationError, match=f"^leaves/[0-9]+.json: .*{text}"):
        audit_bundle(tmp_path / "bundle", audited.key)


def test_a_key_epoch_that_ended_passes(audited: Audited, tmp_path: Path) -> None:
    shutil.copytree(audited.platform.data_dir, tmp_path / "platform")
    platform = LivePlatform(tmp_path)
    platform.operate("epoch", "rotate")
    report = platform.operate("audit", "--bundle", tmp_path / "bundle")
    bundle = audit_bundle(tmp_path / "bundle", audited.key).bundle
    assert set(bundle.epochs) == {1, 2}
    assert set(bundle.ended) == {1}
    # The manifests, what began, what ended, and the policy.
    assert report["bundle_opened"] == 3 + 2 + 1 + 1


def test_a_grant_on_another_manifest_than_the_logged_one_is_found(
    audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(audited.platform.data_dir, tmp_path / "platform")
    with LivePlatform(tmp_path).opened() as platform:
        with monkeypatch.context() as other:
            other.setattr(Manifest, "digest", staticmethod(lambda _document: bytes(32)))
            session = open_session(platform, "acme")
        with platform.registry.reading() as connection:
            grant = SessionGrant.parse(events.stored_row(connection, session_table, id=session.hex()).grant)
        receipt = SessionReceipt(grant.sign(platform.identity), None, session_proof(platform, session))
        write_bundle(platform, tmp_path / "bundle")
    path = tmp_path / "receipt"
    path.write_bytes(receipt.encode())
    with pytest.raises(VerificationError, match="its grant names another manifest than the log"):
        audit_bundle(tmp_path / "bundle", audited.key, receipts=[path])


def test_a_bundle_of_another_time_key_or_platform_is_refused(
    audited: Audited, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    old = tmp_path / "old"
    with LivePlatform(audited.folder / "two").opened() as platform:
        write_bundle(platform, old)
    newer = audit_bundle(audited.bundle, audited.key).bundle.checkpoint.size
    assert audit_bundle(old, audited.key).bundle.checkpoint.size < newer
    with pytest.raises(VerificationError, match="ask the platform for a bundle of today"):
        audit_bundle(old, audited.key, receipts=[audited.receipts["alone"]])
    with pytest.raises(VerificationError, match="another identity key"):
        audit_bundle(audited.bundle, bytes(32))
    with pytest.raises(VerificationError, match="another platform"):
        audit_bundle(audited.bundle, audited.key, platform_id="otherbirds")


def test_wrong_usage_says_what_to_name(audited: Audited, tmp_path: Path) -> None:
    for options in ((), ("--platform-key", "abc"), ("--platform-key", "AB" * 32)):
        done = advertiser("audit", audited.bundle, *options)
        assert done.code == 2
        assert "--platform-key" in done.stderr
    key = ("--platform-key", audited.key.hex())
    for folder in (tmp_path / "none", audited.folder / "list.csv"):
        done = advertiser("audit", folder, *key)
        assert done.code == 1
        assert "audit --bundle" in done.stderr
    done = advertiser("audit", audited.bundle, *key, "--receipt", tmp_path / "none")
    assert done.code == 1
    assert "none: cannot be read" in done.stderr
    data_dir = ("--data-dir", audited.platform.data_dir)
    done = operator("audit", *data_dir, "--bundle", audited.bundle)
    assert done.code == 1
    assert "is not empty" in done.stderr


@pytest.mark.parametrize("leaves", [255, 256, 257, 66_000])
def test_bundles_of_many_tiles(audited: Audited, tmp_path: Path, leaves: int) -> None:
    shutil.copytree(audited.platform.data_dir, tmp_path / "platform")
    with LivePlatform(tmp_path).opened() as platform:
        with platform.registry.writing() as connection:
            count = leaves - log.size(connection)
            events = [Event(EventKind.OPERATOR_QUERY, number, {"number": number}) for number in range(count)]
            log.append(connection, events, secrets.token_bytes)
        assert write_bundle(platform, tmp_path / "bundle").leaves == leaves
    found = audit_bundle(tmp_path / "bundle", audited.key, receipts=[audited.receipts["acme"]])
    assert found.bundle.checkpoint.size == leaves
    tiles = _files(tmp_path / "bundle" / "tile")
    assert len(tiles) == {255: 1, 256: 2, 257: 3, 66_000: 258 + 2 + 1}[leaves]
    tile = tiles[-1]
    content = tile.read_bytes()
    tile.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(VerificationError, match="tile"):
        audit_bundle(tmp_path / "bundle", audited.key)
