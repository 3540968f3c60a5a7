"""The demo's files say what their truth says, and its proof fails when an output says anything else."""

import csv
import hashlib
import importlib.util
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from purposematch.protocol.identifiers import Kind, Profile, canonical_value, digest_prehashed, digest_raw

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _load(name: str) -> Any:
    """Imports an example, which is in no package."""
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Under its name, where dataclasses and the other example look for it.
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


demo_data = _load("demo_data")
demo = _load("demo")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo_data.write_demo_data(folder, seed=7, accounts=4_000, customers=2_000, now=NOW)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _digests(values: list[str], kind: Kind, hashed: bool) -> list[bytes | None]:
    """The digest of every value, None where the value can not be used."""
    column = pa.array(values, pa.string())
    found = digest_prehashed(column) if hashed else digest_raw(column, kind, Profile.PLAIN, "US")
    pairs = zip(found.digests, found.reasons, strict=True)
    return [None if reason else digest.tobytes() for digest, reason in pairs]


def _truth(identifier: Any) -> bytes:
    kind = Kind[identifier.kind.upper()]
    assert canonical_value(identifier.canonical, kind, Profile.PLAIN) == identifier.canonical
    return hashlib.sha256(identifier.canonical.encode()).digest()


def test_the_files_have_the_sizes_that_were_asked_for(written: tuple[Path, Any]) -> None:
    folder, truth = written

    assert len(_rows(folder / "accounts.csv")) == 4_000
    assert len(_rows(folder / "customers.csv")) == len(truth.rows) == 2_000


def test_the_same_seed_writes_the_same_files(written: tuple[Path, Any], tmp_path: Path) -> None:
    folder, truth = written
    again = demo_data.write_demo_data(tmp_path, seed=7, accounts=4_000, customers=2_000, now=NOW)

    assert again == truth
    for name in ("accounts.csv", "customers.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_every_customer_row_reads_as_the_identifiers_that_the_truth_names(written: tuple[Path, Any]) -> None:
    folder, truth = written
    rows = _rows(folder / "customers.csv")
    columns = [
        _digests([row[kind.label + ending] for row in rows], kind, bool(ending))
        for kind in (Kind.EMAIL, Kind.PHONE)
        for ending in ("", "_sha256")
    ]

    for expected, *found in zip(truth.rows, *columns, strict=True):
        assert {digest for digest in found if digest} == {_truth(one) for one in expected.identifiers}


def test_every_permitted_identifier_stands_in_the_accounts(written: tuple[Path, Any]) -> None:
    folder, truth = written
    rows = [row for row in _rows(folder / "accounts.csv") if row["status"] in ("granted", "renewed")]
    present: set[bytes | None] = set()
    for kind in (Kind.EMAIL, Kind.PHONE):
        for form in ("raw", "sha256"):
            values = [
                row["value"] for row in rows if (row["kind"], row["value_format"]) == (kind.label, form)
            ]
            present.update(_digests(values, kind, form == "sha256"))

    assert {_truth(one) for one in truth.permitted} <= present


def test_an_identifier_given_for_two_factor_alone_is_not_permitted(written: tuple[Path, Any]) -> None:
    _, truth = written

    assert truth.two_factor_only
    assert truth.two_factor_only.isdisjoint(truth.permitted)
    assert not truth.two_factor_only.isdisjoint(truth.listed())


def test_every_story_and_every_answer_occurs(written: tuple[Path, Any]) -> None:
    folder, truth = written
    statuses = Counter(row["status"] for row in _rows(folder / "accounts.csv"))

    assert set(statuses) == {"granted", "refused", "withdrawn", "objected", "renewed"}
    assert set(truth.matched()) == {"true", "false", ""}
    assert all(story.weight > 0 for story in demo_data.STORIES)


def test_a_row_is_matched_when_one_of_its_identifiers_is_permitted() -> None:
    one, other = demo_data.Identifier("email", "a@example.com"), demo_data.Identifier("phone", "+12125550142")
    rows = tuple(demo_data.Row(held) for held in ((), (one,), (other,), (one, other)))
    truth = demo_data.Truth(frozenset({other}), frozenset({one}), rows)

    assert truth.matched() == ["", "false", "true", "true"]
    assert truth.listed() == {one, other}


def _write_output(path: Path, matched: list[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["matched"], *([answer] for answer in matched)])
    return path


def test_the_proof_holds_for_the_right_output(written: tuple[Path, Any], tmp_path: Path) -> None:
    _, truth = written
    identifiers = len(truth.permitted & truth.listed())

    assert demo.prove(truth, _write_output(tmp_path / "matched.csv", truth.matched()), identifiers)


def test_the_proof_fails_when_two_factor_alone_matched(written: tuple[Path, Any], tmp_path: Path) -> None:
    _, truth = written
    identifiers = len(truth.permitted & truth.listed())
    matched = truth.matched()
    held = [set(row.identifiers) for row in truth.rows]
    matched[next(i for i, one in enumerate(held) if one and one <= truth.two_factor_only)] = "true"

    assert not demo.prove(truth, _write_output(tmp_path / "matched.csv", matched), identifiers)


def test_the_proof_fails_when_rows_or_matches_are_missing(written: tuple[Path, Any], tmp_path: Path) -> None:
    _, truth = written
    identifiers = len(truth.permitted & truth.listed())

    assert not demo.prove(truth, _write_output(tmp_path / "cut.csv", truth.matched()[:-1]), identifiers)
    assert not demo.prove(truth, _write_output(tmp_path / "matched.csv", truth.matched()), identifiers - 1)


def test_the_demo_leaves_a_folder_alone_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(SystemExit):
        demo.clear(tmp_path)

    assert (tmp_path / "mine").exists()


def test_a_number_is_read_from_what_a_command_printed() -> None:
    report = "Generation published\ncount        2,511\nmatched identifiers  446\n"
    assert demo._number("count", report) == 2_511
    assert demo._number("matched identifiers", report) == 446
    with pytest.raises(SystemExit, match="no rows"):
        demo._number("rows", report)
