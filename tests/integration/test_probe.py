"""One synthetic person per origin, through every entrance that the platform has; then a list of all of them.

Each person is enrolled through one entrance under one origin, with an identifier of their own; others
beside them with a purpose that does not permit. The advertiser's list holds all of them. Only those whose
origin may grant are matched, whichever way they came in.
"""

import ast
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from platforms import (
    PLATFORM_ID,
    PURPOSE,
    LivePlatform,
    Row,
    advertiser,
    assertion,
    grants,
    iso,
    operator,
    program,
    read_csv,
    write_csv,
)
from raw_client import connected, issued, load

import purposematch.server
from purposematch.protocol.delivery import COLUMNS
from purposematch.protocol.evidence import CollectedAssertion, CollectorKey, sign_assertion, sign_batch
from purposematch.protocol.identifiers import Kind, Profile, canonical_value
from purposematch.protocol.purpose import FORBIDDEN_ORIGINS, Origin, Status
from purposematch.protocol.vole.engine import why_unavailable
from purposematch.server.pki import Role
from purposematch.tables.opening import CSV_SUFFIXES, PARQUET_SUFFIXES
from purposematch.v1 import enrollment_pb2 as v1

ORIGINS = [origin for origin in Origin if origin is not Origin.UNKNOWN]
SECURITY = "essential.service.security"
SCREENS = CollectorKey(b"\1" * 32)
KINDS = {"phones": "phone", "maids": "maid"}
"""What an entrance's name says of its rows; e-mail addresses otherwise."""
FILLERS = 1_000
"""A list has at least so many identifiers; these are enrolled and match."""


@dataclass(frozen=True)
class Entrances:
    """Everything that brings assertions in.

    Attributes:
        platform: the running platform.
        folder: for files.
        collector: a collector's credentials.
    """

    platform: LivePlatform
    folder: Path
    collector: Path

    def all(self) -> dict[str, Callable[[str, Sequence[Row]], None]]:
        """The entrances by name; each takes that name and rows."""
        return {
            "cli-csv": lambda name, rows: self._command(write_csv(self.folder / f"{name}.csv", rows)),
            "cli-txt": lambda name, rows: self._command(write_csv(self.folder / f"{name}.txt", rows)),
            "cli-semicolons": lambda name, rows: self._command(self._delimited(name, rows, ".csv", ";")),
            "cli-tabs": lambda name, rows: self._command(self._delimited(name, rows, ".tsv", "\t")),
            "cli-parquet": lambda name, rows: self._command(self._parquet(name, rows)),
            "cli-pq": lambda name, rows: self._command(self._parquet(name, rows, ".pq")),
            "cli-no-suffix": lambda name, rows: self._command(
                self._parquet(name, rows).rename(self.folder / name)
            ),
            "cli-pipe": self._pipe,
            "cli-stdin-csv": lambda name, rows: self._stdin(
                "purposematch-platform", write_csv(self.folder / f"{name}.csv", rows)
            ),
            "cli-stdin-parquet": lambda name, rows: self._stdin(
                "purposematch-platform", self._parquet(name, rows)
            ),
            "wire-csv": lambda name, rows: self._deliver(write_csv(self.folder / f"{name}.csv", rows)),
            "wire-parquet": lambda name, rows: self._deliver(self._parquet(name, rows)),
            "wire-stdin": lambda name, rows: self._stdin("purposematch", self._parquet(name, rows)),
            "wire-messages": self._messages,
            "cli-prehashed": lambda name, rows: self._command(self._parquet(name, prehashed(rows))),
            "wire-prehashed": lambda name, rows: self._messages(name, prehashed(rows)),
            "cli-phones": lambda name, rows: self._command(self._parquet(name, rows)),
            "wire-maids": self._messages,
            "cli-renewed": self._renewed,
            "cli-signed": lambda name, rows: self._signed(name, rows, self._command, "default"),
            "wire-signed": lambda name, rows: self._signed(name, rows, self._deliver, "probe-app"),
            "cli-batch": lambda name, rows: self._batch(name, rows, self._command, "default"),
            "wire-batch": lambda name, rows: self._batch(name, rows, self._deliver, "probe-app"),
        }

    def _delimited(self, name: str, rows: Sequence[Row], suffix: str, delimiter: str) -> Path:
        path = self.folder / f"{name}{suffix}"
        pa_csv.write_csv(table(rows), path, pa_csv.WriteOptions(delimiter=delimiter))
        return path

    def _parquet(self, name: str, rows: Sequence[Row], suffix: str = ".parquet") -> Path:
        path = self.folder / f"{name}{suffix}"
        pq.write_table(table(rows), path)
        return path

    def _command(self, file: Path, *options: str | Path) -> None:
        self.platform.operate("enroll", file, *options)

    def _renewed(self, name: str, rows: Sequence[Row]) -> None:
        """They withdraw, and change their minds."""
        listed = write_csv(
            self.folder / f"{name}-leave.csv", [{"subject_id": row["subject_id"]} for row in rows]
        )
        self.platform.operate("withdraw", listed)
        # Later than the withdrawal, to the millisecond that it is written to, and then past.
        again = {"status": "renewed", "not_before": iso(0.002)}
        time.sleep(0.01)
        self._command(write_csv(self.folder / f"{name}.csv", [{**row, **again} for row in rows]))

    def _signed(self, name: str, rows: Sequence[Row], bring: Callable[[Path], None], source: str) -> None:
        said = [collected(row, source) for row in rows]
        evidence = [sign_assertion(SCREENS, PLATFORM_ID, Profile.PLAIN, each) for each in said]
        signed = [{**row, **one.cells(each)} for row, one, each in zip(rows, said, evidence, strict=True)]
        bring(write_csv(self.folder / f"{name}.csv", signed))

    def _batch(self, name: str, rows: Sequence[Row], bring: Callable[..., None], source: str) -> None:
        said = [collected(row, source) for row in rows]
        batch, evidence = sign_batch(SCREENS, PLATFORM_ID, Profile.PLAIN, said)
        file = self.folder / f"{name}.json"
        file.write_bytes(batch.to_bytes())
        signed = [{**row, **one.cells(each)} for row, one, each in zip(rows, said, evidence, strict=True)]
        bring(write_csv(self.folder / f"{name}.csv", signed), "--evidence", file)

    def _pipe(self, name: str, rows: Sequence[Row]) -> None:
        content = write_csv(self.folder / f"{name}.csv", rows).read_bytes()
        reader, writer = os.pipe()
        os.write(writer, content)
        os.close(writer)
        try:
            self.platform.operate("enroll", Path(f"/dev/fd/{reader}"))
        finally:
            os.close(reader)

    def _stdin(self, name: str, file: Path) -> None:
        where: list[str | Path] = ["enroll", "-", "--data-dir", self.platform.data_dir]
        if name == "purposematch":
            where = ["deliver", "-", "--platform", self.platform.address, "--credentials", self.collector]
        done = program(name, *where, stdin=file.read_bytes())
        assert done.code == 0, done.stderr

    def _deliver(self, file: Path, *options: str | Path) -> None:
        where = ("--platform", self.platform.address, "--credentials", self.collector)
        done = advertiser("deliver", file, *where, *options)
        assert done.code == 0, done.stderr

    def _messages(self, name: str, rows: Sequence[Row]) -> None:
        known = load(self.platform.folder / "credentials-acme")
        shown = issued(self.platform, Role.COLLECTOR, "probe-app")
        with connected(self.platform.address, known, shown) as client:
            parts = [v1.EnrollRequest(header=v1.DeliveryHeader(delivery_id=os.urandom(16)))]
            for row in rows:
                cells = [v1.Column(name=column, cells=[row[column]]) for column in COLUMNS]
                parts.append(v1.EnrollRequest(rows=v1.Rows(columns=cells)))
            parts.append(v1.EnrollRequest(end=v1.DeliveryEnd(rows=len(rows))))
            assert client.enrollment.Enroll(iter(parts), timeout=60).read == len(rows)


def table(rows: Sequence[Row]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in COLUMNS})


def probes(entrance: str) -> list[Row]:
    """One person per origin, one whose identifier was given for security, and one for both."""
    kind = KINDS.get(entrance.rpartition("-")[2], "email")
    purposes = {"": PURPOSE, "-sec": SECURITY, "-mix": f"{PURPOSE};{SECURITY}"}
    return [
        assertion(name, kind, identifier(kind, name), origin.label, purposes=said)
        for origin in ORIGINS
        for what, said in purposes.items()
        for name in [f"{entrance}-{origin.label}{what}"]
    ]


def identifier(kind: str, name: str) -> str:
    """An identifier of somebody's own."""
    match kind:
        case "phone":
            return f"+1555{int.from_bytes(sha256(name.encode()).digest()[:8], 'big') % 10**7:07}"
        case "maid":
            return str(uuid5(NAMESPACE_DNS, name))
    return f"{name}@example.com"


def digest(row: Row) -> bytes:
    kinds = {kind.label: kind for kind in Kind}
    return sha256(canonical_value(row["value"], kinds[row["kind"]], Profile.PLAIN).encode()).digest()


def prehashed(rows: Sequence[Row]) -> list[Row]:
    return [{**row, "value": digest(row).hex(), "value_format": "sha256"} for row in rows]


def collected(row: Row, source: str) -> CollectedAssertion:
    """What `screens` signs, which it would not have to: it says two-factor where it was two-factor."""
    return CollectedAssertion(
        issuer="screens",
        source=source,
        subject=row["subject_id"],
        kind=Kind.EMAIL,
        digest=digest(row),
        purposes=tuple(row["purposes"].split(";")),
        origin=Origin.parse(row["origin"]),
        status=Status.GRANTED,
        notice=row["notice_id"],
        collected_at=time.time_ns() // 1_000,
    )


@pytest.fixture(scope="module")
def entrances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entrances]:
    folder = tmp_path_factory.mktemp("probe")
    platform = LivePlatform.create(folder)
    # As permissive as a policy can be: every source may claim every origin, and all that may grant do.
    every = json.dumps([origin.label for origin in ORIGINS])
    granting = json.dumps([origin.label for origin in ORIGINS if origin not in FORBIDDEN_ORIGINS])
    policy = platform.data_dir / "policy.toml"
    content = re.sub(
        r"(?m)^permitted_origins = \[[^]]*\]", f"permitted_origins = {granting}", policy.read_text()
    )
    content = re.sub(r"(?m)^default = \[[^]]*\]", f"default = {every}\nprobe-app = {every}", content)
    issuer = f"""
[issuers.screens]
key = "{SCREENS.public_key.hex()}"
permitted_purposes = ["{PURPOSE}"]
permitted_origins = {granting}
"""
    policy.write_text(content + issuer)
    platform.enroll(grants(FILLERS))
    collector = folder / "probe-app"
    added = operator("collector", "add", "probe-app", "--data-dir", platform.data_dir, "--out", collector)
    assert added.code == 0, added.stderr
    platform.admit("acme")
    platform.publish()
    (folder / "files").mkdir()
    with platform.serving():
        yield Entrances(platform, folder / "files", collector)


@dataclass(frozen=True)
class Matched:
    """What became of the probes: all rows, the identifiers that matched, and the audience."""

    rows: list[Row]
    values: set[str]
    audience: set[str]


def match(entrances: Entrances, output: Path) -> tuple[set[str], str]:
    """Matches the list of everybody; the identifiers that matched, and the session."""
    platform = entrances.platform
    done = platform.match(entrances.folder / "list.csv", output, platform.folder / "credentials-acme")
    session = done.document["session"]
    matched = [row for row in read_csv(output) if row["matched"] == "true"]
    return {row["email"] or row["phone"] or row["maid"] for row in matched}, session


@pytest.fixture(scope="module")
def matched(entrances: Entrances) -> Matched:
    rows: list[Row] = []
    for name, enter in entrances.all().items():
        enter(name, probes(name))
        rows += probes(name)
    entrances.platform.publish()
    listed = [{row["kind"]: row["value"]} for row in rows]
    listed += [{"email": f"user{i}@example.com"} for i in range(FILLERS)]
    write_csv(entrances.folder / "list.csv", listed)
    values, session = match(entrances, entrances.folder / "matched.csv")
    return Matched(rows, values, set(entrances.platform.audience(session)))


def expected(matched: Matched) -> list[Row]:
    """The rows that may be matched."""
    return [
        row
        for row in matched.rows
        if row["purposes"] == PURPOSE and Origin.parse(row["origin"]) not in FORBIDDEN_ORIGINS
    ]


def test_only_what_may_grant_is_matched_whatever_it_came_through(
    entrances: Entrances, matched: Matched
) -> None:
    rows = expected(matched)
    assert len(rows) == len(entrances.all()) * (len(ORIGINS) - len(FORBIDDEN_ORIGINS))
    assert matched.values == {row["value"] for row in rows} | {f"user{i}@example.com" for i in range(FILLERS)}
    assert matched.audience == {row["subject_id"] for row in rows} | {f"s{i}" for i in range(FILLERS)}
    assert operator("audit", "--data-dir", entrances.platform.data_dir).code == 0


@pytest.mark.parametrize("engine", ["oprf", "vole"])
def test_the_other_exchanges_match_the_same_people(
    entrances: Entrances, matched: Matched, tmp_path: Path, engine: str
) -> None:
    if engine == "vole" and why_unavailable(os.environ) is not None:
        pytest.skip("no VOLE engine here")
    platform = entrances.platform
    credentials = platform.admit(f"quiet-{engine}", "platform", "--allow-experimental")
    listed = entrances.folder / "list.csv"
    done = platform.match(listed, tmp_path / "report.json", credentials, "--engine", engine)
    assert set(platform.audience(done.document["session"])) == matched.audience


def test_a_withdrawal_through_any_entrance_takes_them_out(entrances: Entrances, matched: Matched) -> None:
    platform = entrances.platform
    arguments = ("--platform", platform.address, "--credentials", entrances.collector)
    platform.operate("withdraw", "--subject-id", "wire-csv-signup")
    platform.operate("object", "--identifier", "wire-parquet-signup@example.com")
    listed = write_csv(entrances.folder / "leave.csv", [{"subject_id": "cli-csv-signup"}])
    platform.operate("withdraw", listed)
    assert advertiser("withdraw", "--subject-id", "cli-parquet-signup", *arguments).code == 0
    refusal = {"status": "withdrawn", "kind": "", "value": "", "value_format": ""}
    rows = [{**assertion("cli-tabs-signup", "", ""), **refusal}]
    entrances.all()["wire-messages"]("leaving", rows)
    gone = {
        f"{name}-signup@example.com"
        for name in ("wire-csv", "wire-parquet", "cli-csv", "cli-parquet", "cli-tabs")
    }
    # Nobody publishes by hand: a session opens on nothing that does not cover them.
    now, _ = match(entrances, entrances.folder / "again.csv")
    assert matched.values - now == gone
    assert now < matched.values


def importers(name: str) -> set[str]:
    """The modules of the server that import something of this name."""
    (root,) = purposematch.server.__path__
    return {
        str(path.relative_to(root))
        for path in Path(root).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}
    }


def test_the_probe_knows_every_entrance(entrances: Entrances) -> None:
    """Whoever builds another one is told here to send somebody through it."""
    # Rows are stored by one function, which is called with what was enrolled or with what an erasure keeps.
    assert importers("store_chunks") == {"registry/deliveries.py"}
    assert importers("store_delivery") == {"registry/__init__.py", "enroll.py"}
    assert importers("deliver") == {"erase.py"}
    # Files are enrolled by `enroll` and `withdraw`, and what comes over the wire by one service.
    assert importers("enroll") == {"cli.py", "withdraw.py"}
    assert importers("Enrollment") == {"enrollment_service.py"}
    service = v1.DESCRIPTOR.services_by_name["EnrollmentService"]
    assert [method.name for method in service.methods] == ["Enroll", "Withdraw"]
    # And every kind of file is among the probes.
    suffixes = {path.suffix for path in entrances.folder.iterdir()}
    assert {*CSV_SUFFIXES, *PARQUET_SUFFIXES} <= suffixes
