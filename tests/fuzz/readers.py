"""Every reader of a file or folder that somebody else made, with one valid sample of each of its files."""

import hashlib
import io
import itertools
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import samples
from decoders import KEY, ORIGIN, POLICY, TAXONOMY, saved_session
from fake_platform import FakePlatform, enrolled
from registry_life import Life

from purposematch.client.bundle import open_bundle
from purposematch.client.checkpoints import LastCheckpoint
from purposematch.client.columns import choose_columns
from purposematch.client.credentials import Credentials, load_pin
from purposematch.client.customer_list import CustomerList
from purposematch.client.receipt import SessionReceipt
from purposematch.client.resume_file import open_resume_file, resume_path
from purposematch.client.saved_session import BatchResult
from purposematch.client.segment_cache import SegmentCache
from purposematch.client.sidecar import Sidecar, sidecar_path
from purposematch.protocol.evidence import BatchEvidence
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.index import Segment
from purposematch.protocol.log.bundle import BundleHead, OpenedLeaf, tile_path
from purposematch.protocol.log.checkpoint import Checkpoint
from purposematch.protocol.log.events import Event, EventKind, Opening
from purposematch.protocol.log.proofs import in_memory
from purposematch.protocol.log.tiles import grown_tiles
from purposematch.protocol.policy import DEFAULT_POLICY_TOML
from purposematch.server.config import config_text, load_config
from purposematch.server.enroll import enroll
from purposematch.server.evidence_columns import read_batch_evidence
from purposematch.server.pki import load_certified_key
from purposematch.server.policy_file import load_policy
from purposematch.server.withdraw import file_named
from purposematch.tables import open_table

Make = Callable[[Path], None]
Read = Callable[[Path], Any]

_NAMES = itertools.count()


@dataclass(frozen=True)
class Reader:
    """What reads a folder, and how the folder is made. Every file in it is spoiled in turn.

    Attributes:
        make: fills a folder.
        read: reads what is in it.
        examples: how many spoiled folders are read.
    """

    make: Make
    read: Read
    examples: int = 40

    def files(self, folder: Path) -> list[Path]:
        """The files of a new folder, filled."""
        folder.mkdir()
        self.make(folder)
        return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def spoiled_folder(whole: Path, at: Path, content: bytes) -> Iterator[Path]:
    """A copy of a folder with another content in one file."""
    folder = whole.with_name(f"copy-{next(_NAMES)}")
    shutil.copytree(whole, folder)
    target = folder / at
    target.write_bytes(content)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _resume(folder: Path) -> None:
    tags = samples.uniform(4, 16)
    with open_resume_file(folder / "out.csv") as file:
        file.begin(saved_session())
        for number in range(3):
            places = np.array([1, 5], np.uint16)
            file.append(BatchResult(number, 3, places, tags[:2], tags[2:]))


def _resumed(folder: Path) -> None:
    path = resume_path(folder / "out.csv")
    path.chmod(0o600)
    with open_resume_file(folder / "out.csv") as file:
        list(file.results(True))


def _sidecar(folder: Path) -> None:
    sidecar = Sidecar(
        samples.SCOPE, "ab" * 16, 1_000, "cd" * 32, "", np.arange(40, dtype=np.int64), samples.uniform(40, 16)
    )
    with sidecar_path(folder / "out.csv").open("wb") as file:
        sidecar.write(file)


def _loaded_sidecar(folder: Path) -> None:
    sidecar = Sidecar.load(folder / "out.csv")
    assert sidecar.row.shape == (len(sidecar.tags),)
    assert sidecar.tags.shape[1:] == (16,)
    assert len(sidecar.row) == 0 or 0 <= sidecar.row.min() <= sidecar.row.max() < sidecar.rows


_PLATFORM = FakePlatform(enrolled(["ann@example.com"]))


def _credentials(folder: Path) -> None:
    _PLATFORM.write_credentials(folder)


def _loaded_credentials(folder: Path) -> None:
    (folder / "client.key").chmod(0o600)
    load_pin(folder)
    Credentials.load(folder, datetime.now(UTC))


def _certified(folder: Path) -> None:
    (folder / "client.key").chmod(0o600)
    load_certified_key(folder / "client.pem", folder / "client.key")


def _checkpoint(folder: Path) -> None:
    (folder / "checkpoint").write_bytes(Checkpoint(ORIGIN, 12, bytes(range(32))).sign(samples.IDENTITY))


def _bundle(folder: Path) -> None:
    event = Event(
        EventKind.POLICY, 5, {"digest": POLICY.digest.hex(), "taxonomy": POLICY.taxonomy_digest.hex()}
    )
    leaf = OpenedLeaf(0, Opening.of(event, bytes), POLICY.canonical_bytes())
    hashes = np.zeros((300, 32), np.uint8)
    hashes[0] = np.frombuffer(leaf.opening.leaf_hash(), np.uint8)
    (folder / "leaves").mkdir()
    (folder / leaf.path).write_bytes(leaf.encode())
    (folder / "bundle.json").write_bytes(BundleHead("birdsite", KEY).encode())
    root = in_memory(hashes)(0, 300)
    (folder / "checkpoint").write_bytes(Checkpoint(ORIGIN, 300, root).sign(samples.IDENTITY))
    for tile in grown_tiles(lambda _level, _index: b"", 0, hashes):
        path = folder / tile_path(tile.level, tile.index, len(tile.content) // 32)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tile.content)


_EMAILS = [f"user{number}@example.com" for number in range(60)]
_CSV = "email,phone,note\n" + "".join(
    f'{email},+4915112345{i:03d},"a, ""b"""\n' for i, email in enumerate(_EMAILS)
)
_ACCOUNTS = (
    "subject_id,kind,value,value_format,purposes,origin,status,notice_id,not_before,expires_at,hash_profile\n"
    + "".join(
        f"s{i},email,{email},raw,marketing.advertising.third_party.targeted,signup,granted,n1,"
        "2024-01-01T00:00:00Z,2034-01-01T00:00:00+02:00,\n"
        for i, email in enumerate(_EMAILS[:20])
    )
    + f"s90,phone,{'ab' * 32},sha256,,two_factor,withdrawn,,,,uid2-v1\n"
)


def _parquet(path: Path, text: str) -> None:
    header, *lines = text.splitlines()
    cells = zip(*(line.split(",")[: header.count(",") + 1] for line in lines), strict=True)
    columns = dict(zip(header.split(","), map(list, cells), strict=True))
    pq.write_table(pa.table(columns), path, compression="zstd", write_page_checksum=False)


def _list(folder: Path) -> CustomerList:
    (path,) = folder.iterdir()
    with open_table(path) as table:
        return CustomerList.read(table, choose_columns(table, ()), Profile.PLAIN, "DE")


def _piped_list(folder: Path) -> CustomerList:
    (path,) = folder.iterdir()
    with open_table(None, stdin=io.BytesIO(path.read_bytes())) as table:
        return CustomerList.read(table, choose_columns(table, ()), Profile.UID2, None)


def _named(folder: Path) -> None:
    file_named(next(folder.iterdir()), io.BytesIO())


class _Registry:
    """One registry in which all spoiled files are enrolled."""

    life: Life | None = None

    def enroll(self, folder: Path) -> None:
        """Enrolls the one file: every row is enrolled or refused."""
        (path,) = folder.iterdir()
        if self.life is None:
            home = folder.parent / "registry"
            home.mkdir()
            self.life = Life(home)
        life = self.life
        with open_table(path) as table:
            report = enroll(
                *(table, life.registry, life.policy, TAXONOMY, lambda: life.now),
                platform_id="birdsite",
                region="US",
            )
        assert report.read == report.enrolled + sum(report.refused.values())


_SEGMENT = samples.uniform(100, 16).tobytes()


def _cached(folder: Path) -> None:
    """What is damaged is not there; nothing else is ever loaded."""
    name = hashlib.sha256(_SEGMENT).digest()
    loaded = SegmentCache(folder).load(Segment(100, name))
    assert loaded is None or loaded.tobytes() == _SEGMENT


def _text(name: str, content: str) -> Make:
    def make(folder: Path) -> None:
        (folder / name).write_text(content)

    return make


def _bytes(name: str, content: bytes) -> Make:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return make


_EVIDENCE = BatchEvidence("signup-service", bytes(range(32)), bytes(64)).to_bytes()
_RECEIPT = SessionReceipt(
    samples.grant().sign(samples.IDENTITY), samples.receipt().sign(samples.IDENTITY), saved_session().proof
).encode()
_POLICY = (
    DEFAULT_POLICY_TOML
    + """
[issuers.signup-service]
key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
permitted_purposes = ["marketing.advertising.third_party.targeted"]
permitted_origins = ["signup"]
expires_at = 2034-01-31T00:00:00Z
"""
)
assert "signup-service" in tomllib.loads(_POLICY)["issuers"]

READERS: Mapping[str, Reader] = {
    "resume file": Reader(_resume, _resumed),
    "sidecar": Reader(_sidecar, _loaded_sidecar, 80),
    "credentials": Reader(_credentials, _loaded_credentials),
    "certificate and key": Reader(_credentials, _certified),
    "last checkpoint": Reader(_checkpoint, lambda folder: LastCheckpoint(folder, ORIGIN, KEY).load()),
    "bundle": Reader(_bundle, lambda folder: open_bundle(folder, KEY)),
    "receipt": Reader(
        _bytes("out.csv.receipt", _RECEIPT), lambda f: SessionReceipt.load(f / "out.csv.receipt")
    ),
    "segment": Reader(_bytes(hashlib.sha256(_SEGMENT).hexdigest(), _SEGMENT), _cached),
    "settings": Reader(
        _text("platform.toml", config_text("birdsite", Profile.PLAIN, "US")),
        lambda folder: load_config(folder / "platform.toml"),
        60,
    ),
    "policy": Reader(
        _text("policy.toml", _POLICY), lambda folder: load_policy(folder / "policy.toml", TAXONOMY), 60
    ),
    "evidence file": Reader(
        _bytes("evidence.json", _EVIDENCE), lambda folder: read_batch_evidence(folder / "evidence.json")
    ),
    "customer list in CSV": Reader(_text("list.csv", _CSV), _list, 60),
    "customer list in Parquet": Reader(lambda folder: _parquet(folder / "list.parquet", _CSV), _list, 100),
    "customer list through a pipe": Reader(_text("list", _CSV), _piped_list),
    "customer list through a pipe, in Parquet": Reader(
        lambda folder: _parquet(folder / "l", _CSV), _piped_list
    ),
    "people who withdraw": Reader(_text("people.csv", _ACCOUNTS), _named),
    "accounts in CSV": Reader(_text("accounts.csv", _ACCOUNTS), _Registry().enroll, 40),
    "accounts in Parquet": Reader(
        lambda folder: _parquet(folder / "accounts.parquet", _ACCOUNTS), _Registry().enroll, 60
    ),
}
