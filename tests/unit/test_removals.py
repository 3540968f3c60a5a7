"""The signed list of removals, the sidecar of an output, and what the client refuses by itself."""

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_platform import FakePlatform, agreement, enrolled
from hypothesis import given
from hypothesis import strategies as st

from purposematch.client import apply_removals
from purposematch.client.columns import Column
from purposematch.client.customer_list import CustomerList
from purposematch.client.session import Outcome
from purposematch.client.sidecar import Sidecar, sidecar_path, staged_sidecar
from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.errors import DecodeError, InputError, RefusedError, VerificationError
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.index import order_by_tag
from purposematch.protocol.match_engine import MatchEngine
from purposematch.protocol.removals import RemovalList
from purposematch.protocol.scope import Scope
from purposematch.protocol.signing import IdentitySeed, SignedDocument, identity_public_key
from purposematch.tables import open_table

SCOPE = Scope("fake.example", "marketing.advertising", Profile.PLAIN, 3)
SEED = IdentitySeed(bytes(range(32)))
KEY = identity_public_key(SEED)


def some_tags(count: int) -> Any:
    tags = np.frombuffer(secrets.token_bytes(16 * count), np.uint8).reshape(count, 16)
    return np.ascontiguousarray(tags[order_by_tag(tags)])


@given(st.integers(0, 40), st.booleans())
def test_a_list_is_opened_as_it_was_signed(count: int, final: bool) -> None:
    tags = some_tags(count)
    listed = RemovalList.of(SCOPE, b"g" * 16, tags, final)
    document = listed.sign(SEED)
    assert document == listed.sign(SEED)
    opened = RemovalList.open(document, KEY)
    assert opened == listed
    assert (opened.check(tags.tobytes()) == tags).all()


def test_a_list_that_was_changed_is_refused() -> None:
    tags = some_tags(9)
    listed = RemovalList.of(SCOPE, b"g" * 16, tags, False)
    document = listed.sign(SEED)
    content = document.content.replace(b'"count":9', b'"count":8')
    assert content != document.content
    with pytest.raises(VerificationError):
        RemovalList.open(SignedDocument(content, document.signature), KEY)
    with pytest.raises(VerificationError):
        RemovalList.open(document, identity_public_key(IdentitySeed(b"\7" * 32)))
    for changed in (tags[:-1], tags[::-1], np.zeros_like(tags), np.concatenate([tags, tags[-1:]])):
        with pytest.raises(VerificationError, match="not those"):
            listed.check(changed.tobytes())
    for wrong in (tags[::-1], tags[[0, 0]]):
        with pytest.raises(VerificationError, match="order"):
            RemovalList.of(SCOPE, b"g" * 16, wrong, False).check(wrong.tobytes())


@pytest.mark.parametrize(
    "change",
    [{"count": -1}, {"final": 1}, {"sha256": b"short"}, {"generation": b"short"}, {"count": 2**41}],
)
def test_a_list_with_a_field_out_of_range_is_refused(change: dict[str, Any]) -> None:
    listed = replace(RemovalList.of(SCOPE, b"g" * 16, some_tags(1), False), **change)
    with pytest.raises(DecodeError):
        RemovalList.open(listed.sign(SEED), KEY)


def read(path: Path, text: str, *columns: Column) -> CustomerList:
    path.write_text(text)
    with open_table(path) as table:
        return CustomerList.read(table, columns, Profile.PLAIN)


def test_a_sidecar_has_an_entry_for_every_matched_identifier_of_every_row(tmp_path: Path) -> None:
    text = "a,b\nx@example.com,y@example.com\ny@example.com,\n,\nz@example.com,x@example.com\n"
    customers = read(tmp_path / "list.csv", text, Column("a", Kind.EMAIL), Column("b", Kind.EMAIL))
    x, y, z = customers.numbers[0][[0, 1, 3]]
    tags = some_tags(2)
    found = np.zeros(3, np.bool_)
    found[[y, x]] = True
    outcome = Outcome(b"s" * 16, SCOPE, MatchEngine.OPRF, found, np.array([y, x]), tags)
    sidecar = Sidecar.of(customers, outcome, b"\1" * 32)
    entries = sorted((int(row), tag.tobytes()) for row, tag in zip(sidecar.row, sidecar.tags, strict=True))
    tag_of = {"y": tags[0].tobytes(), "x": tags[1].tobytes()}
    assert entries == sorted((row, tag_of[name]) for row, name in [(0, "x"), (0, "y"), (1, "y"), (3, "x")])
    assert (sidecar.rows, sidecar.session, z in outcome.numbers) == (4, "73" * 16, False)
    output = tmp_path / "out.csv"
    with staged_sidecar(output) as store:
        store(sidecar)
        assert not sidecar_path(output).exists()
    loaded = Sidecar.load(output)
    assert replace(loaded, row=sidecar.row, tags=sidecar.tags) == sidecar
    assert (loaded.row == sidecar.row).all()
    assert (loaded.tags == sidecar.tags).all()
    assert sidecar_path(output).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("count", [0, 1, 65_536, 200_000])
def test_a_sidecar_of_any_size_is_read_back(tmp_path: Path, count: int) -> None:
    row, tags = np.arange(count, dtype=np.int64), some_tags(count)
    with staged_sidecar(tmp_path / "out.csv") as store:
        store(Sidecar(SCOPE, "00" * 16, max(count, 1), "11" * 32, "", row, tags))
    loaded = Sidecar.load(tmp_path / "out.csv")
    assert (loaded.row == row).all()
    assert (loaded.tags == tags).all()


def test_a_sidecar_of_something_else_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with pytest.raises(InputError, match="match the list again"):
        Sidecar.load(output)
    sound = Sidecar(SCOPE, "00" * 16, 2, "11" * 32, "", np.arange(2), some_tags(2))
    for rows in (1, -1):
        with staged_sidecar(output) as store:
            store(replace(sound, rows=rows))
        with pytest.raises(InputError, match="no file of tags"):
            Sidecar.load(output)
    with staged_sidecar(output) as store:
        store(sound)
    content = sidecar_path(output).read_bytes()
    for end in (0, 8, len(content) // 2, len(content) - 1):
        sidecar_path(output).write_bytes(content[:end])
        with pytest.raises(InputError):
            Sidecar.load(output)


def test_a_match_that_fails_leaves_the_old_sidecar(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    sidecar_path(output).write_bytes(b"old")
    sound = Sidecar(SCOPE, "00" * 16, 1, "11" * 32, "", np.arange(1), some_tags(1))

    def fail() -> None:
        with staged_sidecar(output) as store:
            store(sound)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert sidecar_path(output).read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv.tags"]


@pytest.mark.parametrize("disclosure", [Disclosure.PLATFORM, Disclosure.COUNT])
def test_disclosures_without_results_are_refused(tmp_path: Path, disclosure: Disclosure) -> None:
    platform = FakePlatform(enrolled(["a@example.com"]), agreement(disclosure=disclosure))
    credentials = platform.write_credentials(tmp_path / "credentials")
    with pytest.raises(RefusedError, match=f"`{disclosure}`, which leaves no results"):
        apply_removals([tmp_path / "out.csv"], platform="127.0.0.1:1", credentials=credentials)


def test_results_of_another_platform_are_refused(tmp_path: Path) -> None:
    platform = FakePlatform(enrolled(["a@example.com"]))
    credentials = platform.write_credentials(tmp_path / "credentials")
    with pytest.raises(InputError, match="at least one"):
        apply_removals([], platform="127.0.0.1:1", credentials=credentials)
    with staged_sidecar(tmp_path / "out.csv") as store:
        store(Sidecar(SCOPE, "00" * 16, 1, "11" * 32, "", np.arange(1), some_tags(1)))
    with pytest.raises(InputError, match="another platform or purpose"):
        apply_removals([tmp_path / "out.csv"], platform="127.0.0.1:1", credentials=credentials)
