"""A whole match against a platform in the same process: over TLS, honest and not."""

import asyncio
import csv
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_platform import FakePlatform, agreement, certify, enrolled
from hypothesis import given, settings
from hypothesis import strategies as st

from purposematch.client import Column, Credentials, Kind, MatchClient, MatchResult, match
from purposematch.client.reconnect import Patience
from purposematch.protocol.agreement import Disclosure
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange, AudienceMode
from purposematch.protocol.errors import (
    BrokenOffError,
    ConfigurationError,
    InputError,
    NotAuthenticatedError,
    OutcomeUnknownError,
    PeerError,
    PurposematchError,
    RefusedError,
    StateError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.signing import identity_public_key
from purposematch.v1 import matching_pb2 as v1

NOW = datetime.now(UTC)
IMPATIENT = Patience(reconnect_seconds=0)
ON_BOTH = [f"both{i}@example.com" for i in range(9)]
ENROLLED = [*ON_BOTH, *(f"platform{i}@example.com" for i in range(30))]
LIST = [*ON_BOTH, *(f"advertiser{i}@example.com" for i in range(12))]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "purposematch" / "segments"


@pytest.fixture
def list_file(tmp_path: Path) -> Path:
    return write_list(tmp_path / "list.csv", LIST)


def write_list(path: Path, emails: list[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "email"], *enumerate(emails)])
    return path


def run(platform: FakePlatform, list_file: Path, **options: Any) -> MatchResult:
    folder = list_file.parent
    with platform.serving():
        return match(
            list_file,
            platform=platform.address,
            credentials=platform.write_credentials(folder / "credentials"),
            output=folder / "out.csv",
            patience=IMPATIENT,
            **options,
        )


def fails(platform: FakePlatform, list_file: Path, kind: type[PurposematchError], text: str = ".") -> None:
    """The match fails, leaves no output and nothing temporary, and closes the session that was opened.

    A session that broke off is kept instead, and nothing else is."""
    with pytest.raises(kind, match=text) as failure:
        run(platform, list_file)
    folder = list_file.parent
    left = {entry.name for entry in folder.iterdir()} - {list_file.name, "credentials", "cache"}
    assert not any(email.split("@")[0] in str(failure.value) for email in ENROLLED + LIST)
    if isinstance(failure.value, BrokenOffError):
        assert left == {"out.csv.resume"}
        assert "CloseSession" not in platform.calls
        return
    assert not left
    if "Evaluate" in platform.calls or "FetchSegment" in platform.calls:
        assert platform.calls[-1] == "CloseSession"


def resumes(platform: FakePlatform, list_file: Path) -> list[str]:
    """The same match goes on with its session and ends well; the calls that it made."""
    calls = list(platform.calls)
    result = run(platform, list_file, resume=True)
    assert (result.session, result.matched_rows) == (platform.grant.session.hex(), 9)
    assert matched_emails(list_file.parent / "out.csv") == set(ON_BOTH)
    assert not (list_file.parent / "out.csv.resume").exists()
    return platform.calls[len(calls) :]


def matched_emails(path: Path) -> set[str]:
    with path.open(newline="") as file:
        return {row["email"] for row in csv.DictReader(file) if row["matched"] == "true"}


@pytest.mark.parametrize(
    "granted", [USUAL_CHANGE, AudienceChange("loyal"), AudienceChange("other", AudienceMode.ADD)]
)
def test_a_session_that_is_to_change_another_audience_is_refused(
    list_file: Path, granted: AudienceChange
) -> None:
    platform = FakePlatform(enrolled(ENROLLED), change_grant=lambda fields: fields | {"audience": granted})
    wanted = AudienceChange("loyal", AudienceMode.ADD)
    with pytest.raises(VerificationError, match="differs in the audience"):
        run(platform, list_file, audience=wanted)
    platform = FakePlatform(enrolled(ENROLLED), change_grant=lambda fields: fields | {"audience": wanted})
    assert run(platform, list_file, audience=wanted).audience == wanted


def test_a_match_finds_exactly_what_both_have_and_commits_it(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    result = run(platform, list_file)
    assert result.to_mapping() == {
        "session": platform.grant.session.hex(),
        "rows": 21,
        "usable": 21,
        "invalid": {},
        "duplicates": 0,
        "matched_rows": 9,
        "matched_identifiers": 9,
        "match_rate": 9 / 21,
        "disclosure": "both",
        "engine": "oprf",
        "audience": {"name": "default", "mode": "replace"},
    }
    assert matched_emails(list_file.parent / "out.csv") == set(ON_BOTH)
    assert len(platform.committed) == 9
    assert platform.calls[-2:] == ["Commit", "CloseSession"]


def test_disclosure_advertiser_commits_nothing(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED), agreement(disclosure=Disclosure.ADVERTISER))
    result = run(platform, list_file)
    assert (result.matched_rows, result.disclosure) == (9, Disclosure.ADVERTISER)
    assert "Commit" not in platform.calls


def test_a_match_without_matches_commits_nothing_but_gets_a_receipt(tmp_path: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    result = run(platform, write_list(tmp_path / "list.csv", [f"x{i}@example.com" for i in range(8)]))
    assert (result.matched_rows, result.match_rate) == (0, 0.0)
    assert len(platform.committed) == 0


def test_rows_with_several_identifiers_duplicates_and_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "mail;other;idfa\n"
        "Both0@Example.com;nobody@example.com;\n"
        "nobody@example.com;both1@example.com;\n"
        "nobody@example.com;;00000000-0000-0000-0000-000000000000\n"
        "both0@example.com;nobody@example.com;\n"
        "someone@example.com;;\n"
        ";;\n"
        "nonsense;;\n"
    )
    columns = (Column("mail", Kind.EMAIL), Column("other", Kind.EMAIL), Column("idfa", Kind.MAID))
    result = run(FakePlatform(enrolled(ENROLLED)), path, columns=columns)
    assert (result.rows, result.usable, result.duplicates) == (7, 5, 2)
    assert result.invalid == {"empty": 1, "email_syntax": 1}
    assert (result.matched_rows, result.matched_identifiers, result.match_rate) == (3, 2, 0.6)
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == [
        "Both0@Example.com;nobody@example.com;;true;",
        "nobody@example.com;both1@example.com;;true;",
        "nobody@example.com;;00000000-0000-0000-0000-000000000000;false;",
        "both0@example.com;nobody@example.com;;true;",
        "someone@example.com;;;false;",
        ";;;;empty",
        "nonsense;;;;email_syntax",
    ]


def test_the_list_is_read_under_the_profile_of_the_agreement(tmp_path: Path) -> None:
    emails = ["b.oth0+news@gmail.com", "B.Oth1@gmail.com", "x@example.com"]
    platform = FakePlatform(enrolled(["both0@gmail.com", "both1@gmail.com"]), agreement(profile=Profile.UID2))
    assert run(platform, write_list(tmp_path / "list.csv", emails)).matched_rows == 2


@settings(max_examples=15)
@given(
    st.sets(st.integers(0, 40)),
    st.sets(st.integers(0, 40), min_size=3),
    st.integers(1, 30),
    st.integers(1, 4),
)
def test_a_match_is_the_plain_intersection(
    tmp_path_factory: pytest.TempPathFactory, platforms: set[int], own: set[int], batch: int, window: int
) -> None:
    folder = tmp_path_factory.mktemp("match")
    path = write_list(folder / "list.csv", [f"p{i}@example.com" for i in own])
    inputs = enrolled([f"p{i}@example.com" for i in platforms])
    result = run(FakePlatform(inputs, batch=batch, window=window), path)
    assert result.matched_rows == len(platforms & own)
    assert matched_emails(folder / "out.csv") == {f"p{i}@example.com" for i in platforms & own}


def test_the_sheet_is_shown_before_the_platform_hears_anything(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    shown: list[tuple[str, list[str]]] = []
    run(platform, list_file, show_sheet=lambda sheet: shown.append((sheet, list(platform.calls))))
    ((sheet, calls),) = shown
    assert calls == []
    assert "learns" in sheet
    assert "21" in sheet


def test_whoever_refuses_the_sheet_sends_nothing(list_file: Path) -> None:
    class No(Exception):
        pass

    def refuse(sheet: str) -> None:
        raise No

    platform = FakePlatform(enrolled(ENROLLED))
    with pytest.raises(No):
        run(platform, list_file, show_sheet=refuse)
    assert platform.calls == []
    assert not (list_file.parent / "out.csv").exists()


def test_segments_are_fetched_once_and_damaged_ones_again(list_file: Path, cache_folder: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    assert run(platform, list_file).matched_rows == 9
    assert platform.calls.count("FetchSegment") == 4
    platform.calls.clear()
    assert run(platform, list_file).matched_rows == 9
    assert platform.calls.count("FetchSegment") == 0
    (folder,) = cache_folder.iterdir()
    damaged = next(folder.iterdir())
    damaged.write_bytes(bytes(damaged.stat().st_size))
    assert run(platform, list_file).matched_rows == 9
    assert platform.calls.count("FetchSegment") == 1


def test_one_client_runs_several_matches_over_one_connection(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    folder = list_file.parent

    async def twice() -> list[MatchResult]:
        credentials = platform.write_credentials(folder / "credentials")
        async with MatchClient(platform.address, str(credentials)) as client:
            return [await client.match(list_file, output=folder / f"out{i}.parquet") for i in range(2)]

    with platform.serving():
        first, second = asyncio.run(twice())
    assert first.matched_rows == second.matched_rows == 9
    assert first.session != second.session


def test_the_clock_of_a_client_judges_certificates_and_generations(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    folder = platform.write_credentials(list_file.parent / "credentials")
    with pytest.raises(ConfigurationError, match="expired"):
        MatchClient("127.0.0.1:1", folder, clock=lambda: NOW + timedelta(days=3))
    platform.manifest = replace(
        Manifest.open(platform.manifest, identity_public_key(platform.identity)),
        published_at=0,
        valid_until=3_600_000_000,
    ).sign(platform.identity)

    async def late(minutes: int) -> MatchResult:
        credentials = Credentials.load(folder)
        clock = datetime(1970, 1, 1, 1, minutes, tzinfo=UTC)
        async with MatchClient(platform.address, credentials, clock=lambda: clock) as client:
            return await client.match(list_file, output=list_file.parent / "out.csv")

    with platform.serving():
        assert asyncio.run(late(9)).matched_rows == 9
        with pytest.raises(VerificationError, match="out of date"):
            asyncio.run(late(10))


def test_a_match_that_is_cancelled_closes_its_session_and_leaves_nothing(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    folder = list_file.parent

    async def cancelled() -> None:
        credentials = Credentials.load(platform.write_credentials(folder / "credentials"))
        async with MatchClient(platform.address, credentials) as client:
            task = asyncio.create_task(client.match(list_file, output=folder / "out.csv"))
            loop = asyncio.get_running_loop()

            def change(message: v1.EvaluateResponse) -> v1.EvaluateResponse:
                loop.call_soon_threadsafe(task.cancel)
                return message

            platform.change_reply = change
            with pytest.raises(asyncio.CancelledError):
                await task

    with platform.serving():
        asyncio.run(cancelled())
    assert "CloseSession" in platform.calls
    assert "Commit" not in platform.calls
    assert {entry.name for entry in folder.iterdir()} == {"list.csv", "credentials", "cache"}


def test_nothing_of_the_list_is_logged(list_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    platform = FakePlatform(enrolled(ENROLLED))
    run(platform, list_file)
    planted = [*LIST, *(row[1:].tobytes().hex() for row in enrolled(LIST)), platform.tags[0].tobytes().hex()]
    assert not [value for value in planted if value in caplog.text]


def flip(position: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        place = position % len(content)
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    return change


@pytest.mark.parametrize("position", [0, 31, 32, 100, -1])
def test_a_flipped_bit_in_an_evaluated_element_is_refused(list_file: Path, position: int) -> None:
    def change(message: v1.EvaluateResponse) -> v1.EvaluateResponse:
        if message.batch_number == 3:
            message.evaluated_elements = flip(position)(message.evaluated_elements)
        return message

    fails(FakePlatform(enrolled(ENROLLED), change_reply=change), list_file, PeerError)


@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_a_flipped_bit_in_a_proof_is_refused(list_file: Path, position: int) -> None:
    def change(message: v1.EvaluateResponse) -> v1.EvaluateResponse:
        message.proof = flip(position)(message.proof)
        return message

    fails(FakePlatform(enrolled(ENROLLED), change_reply=change), list_file, PeerError)


@pytest.mark.parametrize("field", ["evaluated_elements", "proof"])
@pytest.mark.parametrize("content", [b"", bytes(31), bytes(32), bytes(64 * 32)])
def test_an_answer_of_another_shape_is_refused(list_file: Path, field: str, content: bytes) -> None:
    def change(message: v1.EvaluateResponse) -> v1.EvaluateResponse:
        setattr(message, field, content)
        return message

    fails(FakePlatform(enrolled(ENROLLED), change_reply=change), list_file, PeerError)


def test_an_answer_to_another_batch_is_refused(list_file: Path) -> None:
    def change(message: v1.EvaluateResponse) -> v1.EvaluateResponse:
        message.batch_number += 1_000
        return message

    fails(FakePlatform(enrolled(ENROLLED), change_reply=change), list_file, StateError)


def test_another_key_for_one_batch_is_caught(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    honest, other = platform.key, FakePlatform(enrolled(ENROLLED)).key

    def change(message: v1.EvaluateResponse) -> v1.EvaluateResponse:
        platform.key = other if message.batch_number == 1 else honest
        return message

    platform.change_reply = change
    fails(platform, list_file, VerificationError, "proof")


@pytest.mark.parametrize(
    "change",
    [flip(0), flip(-1), lambda content: content[:-16], lambda content: content + bytes(16), lambda _: b""],
)
def test_an_altered_segment_is_refused(list_file: Path, change: Callable[[bytes], bytes]) -> None:
    platform = FakePlatform(enrolled(ENROLLED), change_segment=change)
    fails(platform, list_file, VerificationError, "segment")
    assert "Evaluate" not in platform.calls


def test_an_index_without_a_canary_is_refused(list_file: Path) -> None:
    platform = FakePlatform(enrolled([*ENROLLED, "more@example.com"]), left_out=1)
    fails(platform, list_file, VerificationError, "canaries")
    assert "Commit" not in platform.calls


@pytest.mark.parametrize("document", ["grant", "manifest"])
@pytest.mark.parametrize("part", ["content", "signature"])
@pytest.mark.parametrize("position", [0, 40, -1])
def test_a_flipped_bit_in_a_signed_document_is_refused(
    list_file: Path, document: str, part: str, position: int
) -> None:
    def change(message: v1.OpenSessionResponse) -> v1.OpenSessionResponse:
        signed = getattr(message, document)
        setattr(signed, part, flip(position)(getattr(signed, part)))
        return message

    platform = FakePlatform(enrolled(ENROLLED), change_open=change)
    fails(platform, list_file, VerificationError, "identity key")
    assert "Evaluate" not in platform.calls


def test_a_platform_with_another_identity_key_is_refused(list_file: Path) -> None:
    platform, other = FakePlatform(enrolled(ENROLLED)), FakePlatform(enrolled(ENROLLED))

    def change(message: v1.OpenSessionResponse) -> v1.OpenSessionResponse:
        message.grant.signature = platform.grant.sign(other.identity).signature
        return message

    platform.change_open = change
    fails(platform, list_file, VerificationError, "identity key")


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("agreement", bytes(32), "the agreement"),
        ("manifest", bytes(32), "the manifest"),
        ("client_certificate", bytes(32), "the client certificate"),
        ("list_size", 20, "the list size"),
    ],
)
def test_a_grant_for_something_else_is_refused(list_file: Path, field: str, value: Any, text: str) -> None:
    platform = FakePlatform(enrolled(ENROLLED), change_grant=lambda fields: fields | {field: value})
    fails(platform, list_file, VerificationError, text)
    assert platform.calls == ["OpenSession", "CloseSession"]


def test_a_manifest_of_another_profile_is_refused(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED), profile=Profile.META)
    fails(platform, list_file, VerificationError, "the profile")
    assert platform.calls == ["OpenSession", "CloseSession"]


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("session", bytes(16), "the session"),
        ("commit", bytes(16), "the commit"),
        ("generation", bytes(16), "the generation"),
        ("agreement", bytes(32), "the agreement"),
        ("transcript", bytes(32), "the transcript"),
        ("received", 8, "the number of matches"),
    ],
)
def test_a_receipt_for_something_else_is_refused(list_file: Path, field: str, value: Any, text: str) -> None:
    platform = FakePlatform(enrolled(ENROLLED), change_receipt=lambda fields: fields | {field: value})
    fails(platform, list_file, VerificationError, f"{text}.*may have the matches of session")


def test_a_commit_whose_answer_was_lost_is_asked_for(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED), lose_commit="on the way back")
    assert run(platform, list_file).matched_rows == 9
    assert platform.calls[-3:] == ["Commit", "GetCommit", "CloseSession"]


def test_a_commit_that_never_arrived_is_made_when_the_match_goes_on(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED), lose_commit="on the way")
    fails(
        platform,
        list_file,
        OutcomeUnknownError,
        "unknown.*Run the same command again",
    )
    platform.lose_commit = None
    assert resumes(platform, list_file) == ["GetCommit", "Commit", "CloseSession"]


def test_a_commit_that_nobody_can_be_asked_about_has_an_unknown_outcome(list_file: Path) -> None:
    platform = FakePlatform(
        enrolled(ENROLLED),
        lose_commit="on the way back",
        refuse={"GetCommit": grpc.StatusCode.UNAVAILABLE},
    )
    fails(platform, list_file, OutcomeUnknownError, "outcome is unknown")
    platform.refuse.clear()
    assert resumes(platform, list_file) == ["GetCommit", "CloseSession"]


@pytest.mark.parametrize("call", ["OpenSession", "FetchSegment", "Evaluate", "Commit"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, NotAuthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, RefusedError),
        (grpc.StatusCode.NOT_FOUND, RefusedError),
        (grpc.StatusCode.FAILED_PRECONDITION, RefusedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RefusedError),
        (grpc.StatusCode.INVALID_ARGUMENT, RefusedError),
        (grpc.StatusCode.UNIMPLEMENTED, RefusedError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.INTERNAL, UnavailableError),
        (grpc.StatusCode.UNKNOWN, UnavailableError),
    ],
)
def test_every_refusal_of_the_platform_has_its_error(
    list_file: Path, call: str, code: grpc.StatusCode, kind: type[PurposematchError]
) -> None:
    platform = FakePlatform(enrolled(ENROLLED), refuse={call: code})
    # A certificate can be replaced while the session waits.
    goes_on = kind in (UnavailableError, NotAuthenticatedError) and call != "OpenSession"
    fails(platform, list_file, BrokenOffError if goes_on else kind)
    if goes_on:
        platform.refuse.clear()
        assert "OpenSession" not in resumes(platform, list_file)


@pytest.mark.parametrize("call", ["OpenSession", "FetchSegment", "Evaluate", "Commit"])
def test_the_platform_s_reason_for_a_refusal_is_shown(list_file: Path, call: str) -> None:
    refuse = {call: grpc.StatusCode.FAILED_PRECONDITION}
    platform = FakePlatform(enrolled(ENROLLED), refuse=refuse, said="the session has \x1b[2Jended")
    fails(platform, list_file, RefusedError, r": the platform refused: the session has \?\[2Jended$")


def test_the_platform_s_reason_not_to_tell_of_a_commit_is_shown(list_file: Path) -> None:
    platform = FakePlatform(
        enrolled(ENROLLED),
        lose_commit="on the way back",
        refuse={"GetCommit": grpc.StatusCode.FAILED_PRECONDITION},
        said="another agreement is in force",
    )
    fails(platform, list_file, OutcomeUnknownError, "another agreement is in force.*outcome is unknown")


@pytest.mark.parametrize("answered", [0, 3])
def test_a_stream_that_ends_early_is_refused(list_file: Path, answered: int) -> None:
    platform = FakePlatform(enrolled(ENROLLED), end_evaluation_after=answered)
    fails(platform, list_file, StateError, "the end of the stream")


def test_a_session_that_cannot_be_closed_does_not_spoil_the_match(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED), refuse={"CloseSession": grpc.StatusCode.UNAVAILABLE})
    assert run(platform, list_file).matched_rows == 9


def test_a_server_of_another_authority_is_no_platform(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    platform.write_credentials(list_file.parent / "credentials")
    stranger = FakePlatform(enrolled(ENROLLED))
    with stranger.serving(), pytest.raises(UnavailableError, match="no connection to"):
        match(
            list_file,
            platform=stranger.address,
            credentials=list_file.parent / "credentials",
            output=list_file.parent / "out.csv",
        )
    assert stranger.calls == []


def test_a_server_with_another_name_is_no_platform(list_file: Path) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    platform.server = certify("other.example", platform.authority)
    fails(platform, list_file, UnavailableError, "no connection to")
    assert platform.calls == []


@pytest.mark.parametrize("disclosure", [Disclosure.PLATFORM, Disclosure.COUNT])
def test_a_generation_without_the_list_that_was_agreed_on_is_refused(
    list_file: Path, disclosure: Disclosure
) -> None:
    platform = FakePlatform(enrolled(ENROLLED), agreement(disclosure=disclosure))
    fails(platform, list_file, VerificationError, "has no list")
    assert platform.calls == ["OpenSession", "CloseSession"]


@pytest.mark.parametrize(("limits", "text"), [((22, 100), "at least 22"), ((3, 20), "at most 20")])
def test_a_list_of_another_size_than_agreed_is_refused_before_it_is_declared(
    list_file: Path, limits: tuple[int, int], text: str
) -> None:
    low, high = limits
    platform = FakePlatform(enrolled(ENROLLED), agreement(min_list_elements=low, max_list_elements=high))
    fails(platform, list_file, RefusedError, text)
    assert platform.calls == []


@pytest.mark.parametrize("address", ["", "host", ":1", "host:", "host:0", "host:65536", "host:1:2", "a b:1"])
def test_an_address_that_is_none_is_refused(list_file: Path, address: str) -> None:
    platform = FakePlatform(enrolled(ENROLLED))
    with pytest.raises(InputError, match="HOST:PORT"):
        match(
            list_file,
            platform=address,
            credentials=platform.write_credentials(list_file.parent / "credentials"),
            output=list_file.parent / "out.csv",
        )
