"""People who left the index are taken out of stored results: real server, TLS and files."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest
from platforms import (
    PURPOSE,
    LivePlatform,
    Row,
    advertiser,
    assertion,
    customers,
    grants,
    operator,
    read_csv,
    write_csv,
)
from raw_client import connected, email_inputs, fails, load

from purposematch.client.sidecar import Sidecar, sidecar_path, staged_sidecar
from purposematch.protocol.removals import RemovalList
from purposematch.protocol.signing import SignedDocument
from purposematch.v1 import matching_pb2 as v1

NOTHING = {"outputs": 1, "rows_removed": 0, "removed_tags": 0, "acknowledged": True}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(tmp_path / "town")
    platform.enroll(grants(300))
    platform.publish()
    with platform.serving():
        yield platform


@pytest.fixture
def acme(town: LivePlatform) -> Path:
    return town.admit("acme")


def withdrawal(i: int, status: str = "withdrawn", **other: str) -> Row:
    return assertion(f"s{i}", "email", f"user{i}@example.com", status=status, **other)


def removals(town: LivePlatform, credentials: Path, *outputs: Path) -> Any:
    arguments = ("--platform", town.address, "--credentials", credentials, "--json")
    return advertiser("removals", *outputs, *arguments)


def matched(path: Path) -> set[str]:
    return {row["email"] for row in read_csv(path) if row["matched"] == "true"}


def open_acknowledgements(town: LivePlatform) -> Any:
    return town.operate("removals")["open"]


def fetch(town: LivePlatform, credentials: Path, epoch: int = 1) -> tuple[Any, bytes]:
    with connected(town.address, load(credentials)) as client:
        parts = list(client.stub.FetchRemovals(v1.FetchRemovalsRequest(epoch=epoch)))
    return parts[0].list, b"".join(part.tags for part in parts)


def test_exactly_the_row_of_who_withdrew_is_taken_out(town: LivePlatform, acme: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    assert town.match(customers(tmp_path / "list.csv"), output, acme).code == 0
    assert sidecar_path(output).stat().st_mode & 0o777 == 0o600
    before = output.read_text().splitlines()
    assert removals(town, acme, output).document == NOTHING
    assert open_acknowledgements(town) == []
    town.enroll([withdrawal(7)])
    town.publish()
    (waiting,) = open_acknowledgements(town)
    assert waiting.pop("oldest_age_seconds") < 60
    assert waiting == {"advertiser": "acme", "epoch": 1, "open_tags": 1}
    shown = operator("removals", "--data-dir", town.data_dir).stdout
    assert re.search(r"^acme +1 +1 +0 h [0-9]+ min *$", shown, re.MULTILINE), shown
    output.chmod(0o640)
    assert removals(town, acme, output).document == NOTHING | {"rows_removed": 1, "removed_tags": 1}
    after = output.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    # As if it had never matched.
    assert changed == [("user7@example.com,true,", "user7@example.com,false,")]
    assert output.stat().st_mode & 0o777 == 0o640
    assert open_acknowledgements(town) == []
    content, stored = output.read_bytes(), sidecar_path(output).read_bytes()
    assert removals(town, acme, output).document == NOTHING
    assert (output.read_bytes(), sidecar_path(output).read_bytes()) == (content, stored)
    # What follows is told apart from what was acknowledged.
    town.enroll([withdrawal(8), withdrawal(9, "objected")])
    town.publish()
    assert open_acknowledgements(town)[0]["open_tags"] == 2
    assert removals(town, acme, output).document["rows_removed"] == 2


def test_the_list_is_the_same_for_everybody_and_holds_no_canary(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    globex = town.admit("globex", "advertiser")
    town.enroll([withdrawal(i) for i in range(5)])
    town.publish()
    town.publish()
    document, tags = fetch(town, acme)
    assert (document, tags) == fetch(town, globex)
    with town.opened() as platform:
        signed = SignedDocument(document.content, document.signature)
        listed = RemovalList.open(signed, platform.identity_key)
        assert (listed.count, listed.final) == (5, False)
        listed.check(tags)
    # Canaries leave with every generation.
    assert len(tags) == 5 * 16
    # Whoever matched only afterwards has nothing to remove.
    assert town.match(customers(tmp_path / "list.csv"), tmp_path / "out.csv", acme).code == 0
    assert open_acknowledgements(town) == []


def test_impact_counts_whom_only_the_list_showed(town: LivePlatform, acme: Path) -> None:
    """An advertiser that keeps the tags of its whole list finds who joined and left between its sessions."""
    town.admit("globex", "platform")
    listed = [f"user{i}@example.com" for i in range(1_000)]
    with connected(town.address, load(acme)) as client:
        session = client.open()
        tags, _ = session.run(email_inputs(listed))
        session.close()
    town.enroll([dict(row, notice_id="join-4") for row in grants(1, first=700)])
    town.publish()
    asked = ("impact", "--notice", "join-4")
    found = town.operate(*asked)
    assert (found["subjects"], found["sessions"], found["subjects_advertisers_may_have_learned_of"]) == (
        1,
        0,
        0,
    )
    town.operate("withdraw", "--subject-id", "s700")
    town.publish()
    content = fetch(town, acme)[1]
    assert content == tags[700].tobytes()
    found = town.operate(*asked)
    assert found["subjects_advertisers_may_have_learned_of"] == 1
    told = {"advertiser": "acme", "sessions": 0, "subjects_in_audiences": 0}
    assert found["by_advertiser"] == [told | {"subjects_may_have_learned_of": 1}]
    (about,) = town.operate("subject", "--subject-id", "s700")["subjects"]
    assert (about["sessions"], about["advertisers"]) == ([], ["acme"])


def test_who_comes_back_leaves_the_list_and_the_row_stays_out(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    town.match(customers(tmp_path / "list.csv"), output, acme)
    town.enroll([withdrawal(1), withdrawal(2)])
    town.publish()
    assert len(fetch(town, acme)[1]) == 32
    (when,) = town.rows("SELECT received_at FROM delivery ORDER BY id DESC LIMIT 1")[0]
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=when + 1)
    town.enroll([withdrawal(1, "renewed", not_before=moment.isoformat())])
    town.publish()
    assert len(fetch(town, acme)[1]) == 16
    # Of who came back nothing is asked.
    assert open_acknowledgements(town)[0]["open_tags"] == 1
    assert removals(town, acme, output).document["rows_removed"] == 1
    assert "user1@example.com" in matched(output)
    assert "user2@example.com" not in matched(output)
    town.enroll([withdrawal(1)])
    town.publish()
    assert open_acknowledgements(town)[0]["open_tags"] == 1
    assert removals(town, acme, output).document["rows_removed"] == 1
    assert "user1@example.com" not in matched(output)


def test_a_row_stays_while_one_of_its_identifiers_does(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    rows = [{"email": f"user{i}@example.com", "e_mail": f"user{i + 1}@example.com"} for i in range(1_000)]
    output = tmp_path / "out.csv"
    town.match(write_csv(tmp_path / "list.csv", rows), output, acme)
    # The last of the enrolled is in a row of its own and in one with its neighbour.
    town.enroll([withdrawal(299), withdrawal(100)])
    town.publish()
    assert removals(town, acme, output).document == NOTHING | {"rows_removed": 1, "removed_tags": 4}
    assert matched(output) == {f"user{i}@example.com" for i in range(299)}


def test_several_outputs_parquet_and_links(town: LivePlatform, acme: Path, tmp_path: Path) -> None:
    listed = customers(tmp_path / "list.csv")
    outputs = [tmp_path / "a.csv", tmp_path / "b.parquet", tmp_path / "c.tsv"]
    for output in outputs:
        assert town.match(listed, output, acme).code == 0
    (tmp_path / "link.parquet").symlink_to(outputs[1])
    before = pq.read_table(outputs[1])
    town.enroll([withdrawal(3)])
    town.publish()
    done = removals(town, acme, outputs[0], tmp_path / "link.parquet", outputs[1], outputs[2])
    assert done.document == {"outputs": 3, "rows_removed": 3, "removed_tags": 3, "acknowledged": True}
    after = pq.read_table(outputs[1])
    assert after.schema == before.schema
    assert after.drop_columns("matched") == before.drop_columns("matched")
    assert after["matched"].to_pylist() == [i < 300 and i != 3 for i in range(1_000)]
    assert (tmp_path / "link.parquet").is_symlink()
    assert outputs[2].read_text().splitlines()[4] == "user3@example.com\tfalse\t"


def test_what_cannot_be_applied_is_refused_and_nothing_is_written(
    town: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    listed = customers(tmp_path / "list.csv")
    for output in (good, bad):
        town.match(listed, output, acme)
    town.enroll([withdrawal(3)])
    town.publish()
    content, lines = good.read_bytes(), bad.read_text()

    def refused(text: str) -> None:
        done = removals(town, acme, good, bad)
        assert (done.code, done.stdout) == (1, "")
        assert text in done.stderr
        assert "bad.csv" in done.stderr
        assert good.read_bytes() == content
        assert open_acknowledgements(town)[0]["open_tags"] == 1

    bad.write_text(lines.replace("user5@", "user6@"))
    refused("match the list again")
    bad.write_text(lines)
    stored = sidecar_path(bad).read_bytes()
    sidecar_path(bad).write_bytes(stored[:-100])
    refused("damaged")
    sidecar_path(bad).unlink()
    refused("match the list again")
    sidecar_path(bad).write_bytes(stored)
    longer = replace(Sidecar.load(bad), rows=1_001)
    with staged_sidecar(bad) as store:
        store(longer)
    done, before = removals(town, acme, bad), bad.read_bytes()
    assert (done.code, "another number of rows" in done.stderr) == (1, True)
    assert bad.read_bytes() == before
    sidecar_path(bad).write_bytes(stored)
    bad.unlink()
    refused("bad.csv")
    # There is no output on stdout, and so nothing to remove from.
    done = advertiser(*town.match_arguments(listed, Path("-"), acme))
    assert done.code == 1
    assert not Path("-.tags").exists()
    assert removals(town, acme, Path("-")).code == 1


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("after", ["sidecar", "output"])
def test_a_run_that_is_killed_is_completed_by_the_next(
    town: LivePlatform, acme: Path, tmp_path: Path, after: str, more: bool
) -> None:
    output = tmp_path / "out.csv"
    town.match(customers(tmp_path / "list.csv"), output, acme)
    before = output.read_bytes()
    town.enroll([withdrawal(3), withdrawal(4)])
    town.publish()
    # Killed when the new sidecar is in place, or when the output is and the platform does not know it.
    renames = 1 if after == "sidecar" else 2
    program = f"""
import os, signal, sys
from pathlib import Path
from purposematch.client import apply_removals
renamed, real = [], Path.replace
def replace(self, target):
    real(self, target)
    renamed.append(target)
    if len(renamed) == {renames}:
        os.kill(os.getpid(), signal.SIGKILL)
Path.replace = replace
apply_removals([{str(output)!r}], platform={town.address!r}, credentials={str(acme)!r})
"""
    killed = subprocess.run([sys.executable, "-c", program], env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (output.read_bytes() == before) == (after == "sidecar")
    assert len(Sidecar.load(output).tags) == 298
    assert open_acknowledgements(town)[0]["open_tags"] == 2
    if more:
        town.enroll([withdrawal(5)])
        town.publish()
    assert removals(town, acme, output).document["rows_removed"] == 2 * (after == "sidecar") + more
    assert matched(output) == {f"user{i}@example.com" for i in range(300) if i not in (3, 4, 5)[: 2 + more]}
    assert open_acknowledgements(town) == []


def test_an_epoch_that_ended_has_a_last_list(tmp_path: Path) -> None:
    town = LivePlatform.create(tmp_path / "town")
    town.enroll(grants(300))
    town.publish()
    acme = town.admit("acme")
    output = tmp_path / "out.csv"
    with town.serving():
        town.match(customers(tmp_path / "list.csv"), output, acme)
    town.enroll([withdrawal(1)])
    town.publish()
    town.enroll([withdrawal(2)])
    # A lost key ends its epoch.
    (town.data_dir / "keys" / "epoch-1.sealed").unlink()
    assert town.publish()["scope"]["epoch"] == 2
    town.enroll([withdrawal(3)])
    town.publish()
    with town.serving():
        assert len(fetch(town, acme, 2)[1]) == 16
        done = removals(town, acme, output)
        assert done.document["rows_removed"] == 2
        assert "its key epoch has ended" in done.stderr
        assert matched(output) == {f"user{i}@example.com" for i in range(300) if i not in (1, 2)}
        assert open_acknowledgements(town) == []


def test_the_platform_refuses_whoever_may_not_ask(town: LivePlatform, acme: Path) -> None:
    with connected(town.address, load(acme)) as client:
        for epoch in (0, 2, 2**63, 2**64 - 1):
            with fails(grpc.StatusCode.NOT_FOUND):
                list(client.stub.FetchRemovals(v1.FetchRemovalsRequest(epoch=epoch)))
        with fails(grpc.StatusCode.NOT_FOUND):
            client.stub.AcknowledgeRemovals(v1.AcknowledgeRemovalsRequest(epoch=1, sha256=bytes(32)))
        with fails(grpc.StatusCode.INVALID_ARGUMENT):
            client.stub.AcknowledgeRemovals(v1.AcknowledgeRemovalsRequest(epoch=1, sha256=b"short"))


def test_the_list_of_another_purpose_looks_like_none(town: LivePlatform, acme: Path) -> None:
    assert town.match(customers(town.folder / "list.csv"), town.folder / "out.csv", acme).code == 0
    policy = town.data_dir / "policy.toml"
    other = "marketing.advertising.first_party.targeted"
    policy.write_text(policy.read_text().replace(PURPOSE, other))
    town.enroll([assertion("s1", "email", "user1@example.com", purposes=other)])
    assert town.publish()["scope"]["epoch"] == 2
    with connected(town.address, load(acme)) as client:
        assert list(client.stub.FetchRemovals(v1.FetchRemovalsRequest(epoch=1)))
        with fails(grpc.StatusCode.NOT_FOUND):
            list(client.stub.FetchRemovals(v1.FetchRemovalsRequest(epoch=2)))
