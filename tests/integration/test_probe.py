"""One synthetic person per origin, through every entrance that the platform has; then a list of all of them.

Each person is enrolled through one entrance under one origin, with an e-mail address of their own; others
beside them with a purpose that does not permit. The advertiser's list holds all of them. Only those whose
origin may grant are matched, whichever way they came in.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from platforms import (
    PURPOSE,
    LivePlatform,
    Row,
    advertiser,
    assertion,
    grants,
    operator,
    program,
    read_csv,
    write_csv,
)
from raw_client import connected, issued, load

from purposematch.protocol.delivery import COLUMNS
from purposematch.protocol.purpose import FORBIDDEN_ORIGINS, Origin
from purposematch.server.pki import Role
from purposematch.v1 import enrollment_pb2 as v1

ORIGINS = [origin for origin in Origin if origin is not Origin.UNKNOWN]
SECURITY = "essential.service.security"
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
            "cli-semicolons": lambda name, rows: self._command(self._delimited(name, rows, ".csv", ";")),
            "cli-tabs": lambda name, rows: self._command(self._delimited(name, rows, ".tsv", "\t")),
            "cli-parquet": lambda name, rows: self._command(self._parquet(name, rows)),
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
        }

    def _delimited(self, name: str, rows: Sequence[Row], suffix: str, delimiter: str) -> Path:
        path = self.folder / f"{name}{suffix}"
        pa_csv.write_csv(table(rows), path, pa_csv.WriteOptions(delimiter=delimiter))
        return path

    def _parquet(self, name: str, rows: Sequence[Row]) -> Path:
        path = self.folder / f"{name}.parquet"
        pq.write_table(table(rows), path)
        return path

    def _command(self, file: Path) -> None:
        self.platform.operate("enroll", file)

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

    def _deliver(self, file: Path) -> None:
        done = advertiser(
            "deliver", file, "--platform", self.platform.address, "--credentials", self.collector
        )
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
    """One person per origin, and one per origin whose identifier was given for security."""
    rows = []
    for origin in ORIGINS:
        name = f"{entrance}-{origin.label}"
        rows.append(assertion(name, "email", f"{name}@example.com", origin.label))
        rows.append(
            assertion(f"{name}-sec", "email", f"{name}-sec@example.com", origin.label, purposes=SECURITY)
        )
        mixed = f"{PURPOSE};{SECURITY}"
        rows.append(
            assertion(f"{name}-mix", "email", f"{name}-mix@example.com", origin.label, purposes=mixed)
        )
    return rows


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
    policy.write_text(content)
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
    """What became of the probes: all rows, the e-mail addresses that matched, and the audience."""

    rows: list[Row]
    emails: set[str]
    audience: set[str]


def match(entrances: Entrances, output: Path) -> tuple[set[str], str]:
    """Matches the list of everybody; the addresses that matched, and the session."""
    platform = entrances.platform
    done = platform.match(entrances.folder / "list.csv", output, platform.folder / "credentials-acme")
    matched = {row["email"] for row in read_csv(output) if row["matched"] == "true"}
    return matched, done.document["session"]


@pytest.fixture(scope="module")
def matched(entrances: Entrances) -> Matched:
    rows: list[Row] = []
    for name, enter in entrances.all().items():
        enter(name, probes(name))
        rows += probes(name)
    entrances.platform.publish()
    listed = [{"email": row["value"]} for row in rows]
    listed += [{"email": f"user{i}@example.com"} for i in range(FILLERS)]
    write_csv(entrances.folder / "list.csv", listed)
    emails, session = match(entrances, entrances.folder / "matched.csv")
    return Matched(rows, emails, set(entrances.platform.audience(session)))


def test_only_what_may_grant_is_matched_whatever_it_came_through(
    entrances: Entrances, matched: Matched
) -> None:
    expected = {
        row["value"]
        for row in matched.rows
        if row["purposes"] == PURPOSE and Origin.parse(row["origin"]) not in FORBIDDEN_ORIGINS
    }
    assert len(expected) == len(entrances.all()) * (len(ORIGINS) - len(FORBIDDEN_ORIGINS))
    assert matched.emails == expected | {f"user{i}@example.com" for i in range(FILLERS)}
    people = {value.removesuffix("@example.com") for value in expected}
    assert matched.audience == people | {f"s{i}" for i in range(FILLERS)}
    assert operator("audit", "--data-dir", entrances.platform.data_dir).code == 0


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
    assert matched.emails - now == gone
    assert now < matched.emails
