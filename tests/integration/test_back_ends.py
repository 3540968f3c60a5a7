"""Both back ends of the group in one match: whoever publishes, serves and asks, the same comes out."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from platforms import LivePlatform, customers, grants, program

from purposematch.protocol.group import GROUP_VARIABLE
from purposematch.protocol.secret import reveal_array
from purposematch.protocol.simd.processor import INSTRUCTIONS
from purposematch.server.registry import generations

# Where the kernels can not be compiled, libsodium is all there is.
BACK_ENDS = ["sodium"] if INSTRUCTIONS is None else ["sodium", "simd"]
ENROLLED = 1_500
LISTED = range(300, 1_800)
"""Enough of both for digests to be computed in lanes too."""
ADVERTISER = "acme"
MATCHED = range(LISTED.start, ENROLLED)
EXPECTED = {
    "rows": len(LISTED),
    "usable": len(LISTED),
    "invalid": {},
    "duplicates": 0,
    "matched_rows": len(MATCHED),
    "matched_identifiers": len(MATCHED),
    "match_rate": len(MATCHED) / len(LISTED),
    "disclosure": "both",
    "engine": "oprf",
    "audience": {"name": "default", "mode": "replace"},
    "status": "done",
}
"""What the client says of a match, apart from the session."""
OUTPUT = "email,matched,reason\n" + "".join(
    f"user{i}@example.com,{'true' if i in MATCHED else 'false'},\n" for i in LISTED
)


@contextmanager
def computing_on(back_end: str) -> Iterator[None]:
    """Processes that are started meanwhile compute on this back end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(GROUP_VARIABLE, back_end)
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LivePlatform]:
    """One platform, copied once it had its keys: each back end has published the copy of its name."""
    folder = tmp_path_factory.mktemp("back-ends")
    # Batches are small, so that a list takes several.
    original = LivePlatform.create(folder / "original", max_batch_elements=256)
    original.enroll(grants(1))
    # The epoch and its key are made when something is published for the first time.
    original.publish()
    original.admit(ADVERTISER)
    original.enroll(grants(ENROLLED - 1, first=1))
    copies = {}
    for back_end in BACK_ENDS:
        shutil.copytree(original.folder, folder / back_end)
        copies[back_end] = LivePlatform(folder / back_end)
        with computing_on(back_end):
            arguments = ("publish", "--data-dir", copies[back_end].data_dir, "--json")
            assert program("purposematch-platform", *arguments).document["count"] == ENROLLED
    return copies


def _table(platform: LivePlatform) -> dict[bytes, tuple[bytes, bytes]]:
    """The tag and token of every identifier in service; canaries, which are random, have none."""
    with platform.opened() as opened:
        with opened.registry.reading() as connection:
            latest = generations.latest_generation(connection)
        assert latest is not None
        table = opened.store.load(latest.name).table
        columns = table.identifiers, table.tags, reveal_array(table.tokens)
        rows = [tuple(row.tobytes() for row in entry) for entry in zip(*columns, strict=True)]
    return {identifier: (tag, token) for identifier, tag, token in rows if any(identifier)}


@pytest.mark.parametrize("back_end", BACK_ENDS)
@pytest.mark.parametrize("name", ["purposematch", "purposematch-platform"])
def test_a_process_computes_on_the_back_end_that_its_environment_names(name: str, back_end: str) -> None:
    with computing_on(back_end):
        done = program(name, "--version", "--verbose")
    assert done.code == 0, done.stderr
    assert f"\ngroup: {back_end}" in done.stdout


def test_a_server_whose_environment_names_an_unknown_back_end_does_not_serve(
    published: dict[str, LivePlatform],
) -> None:
    with computing_on("abacus"):
        arguments = ("serve", "--data-dir", published["sodium"].data_dir, "--listen", "127.0.0.1:0")
        done = program("purposematch-platform", *arguments)
    assert done.code != 0
    assert GROUP_VARIABLE in done.stderr


def test_every_back_end_publishes_the_same_tags_and_tokens(published: dict[str, LivePlatform]) -> None:
    tables = [_table(platform) for platform in published.values()]
    assert len(tables[0]) == ENROLLED
    assert all(table == tables[0] for table in tables)


@pytest.mark.parametrize("server", BACK_ENDS)
@pytest.mark.parametrize("publisher", BACK_ENDS)
def test_a_match_is_the_same_whichever_back_end_published_serves_and_asks(
    published: dict[str, LivePlatform],
    tmp_path: Path,
    publisher: str,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The platforms are copies of one another: to a client that remembers one log, the others are forks of it.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    platform = published[publisher]
    listed = customers(tmp_path / "list.csv", len(LISTED), first=LISTED.start)
    credentials = platform.folder / f"credentials-{ADVERTISER}"
    with computing_on(server), platform.serving():
        for client in BACK_ENDS:
            output = tmp_path / f"{client}.csv"
            with computing_on(client):
                done = program("purposematch", *platform.match_arguments(listed, output, credentials))
            document: dict[str, Any] = done.document
            session = document.pop("session")
            assert document == EXPECTED
            assert output.read_text() == OUTPUT
            assert platform.audience(session) == sorted(f"s{i}" for i in MATCHED)
