"""What somebody who means harm finds: who may call what, certificates, sessions of others, replays, paths,
links, open keys, bombs, and what answers tell.

Messages that nobody expects are in tests/fuzz; a platform that lies in test_tampering.py; a client that does
not keep to the protocol in test_dishonest_client.py; files that cannot be used in test_bad_input.py.
"""

import json
import os
import re
import secrets
import shutil
import sqlite3
import stat
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from platforms import (
    BIN,
    PLATFORM_ID,
    PROGRAM_SECONDS,
    PURPOSE,
    Done,
    LivePlatform,
    advertiser,
    assertion,
    customers,
    grants,
    operator,
)
from raw_client import (
    GROUP,
    SECONDS,
    RawClient,
    RawSession,
    connected,
    email_inputs,
    fails,
    issued,
    load,
    tls,
)
from samples import IDENTITY, manifest, uniform

from purposematch.client.credentials import Credentials
from purposematch.protocol.ciphersuite import MANIFEST_DOMAIN
from purposematch.protocol.errors import DecodeError, IntegrityError, VerificationError
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.signing import identity_public_key, sign_document
from purposematch.server.pki import Role, create_authority
from purposematch.v1 import (
    administration_pb2,
    answers_pb2,
    enrollment_pb2,
    log_pb2,
    matching_pb2,
    one_shot_matching_pb2,
    set_matching_pb2,
)

FILES: Any = (
    *(administration_pb2, answers_pb2, enrollment_pb2, log_pb2, matching_pb2),
    *(one_shot_matching_pb2, set_matching_pb2),
)
METHODS: list[MethodDescriptor] = [
    method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
ALLOWED = {
    "AdministrationService": {Role.OPERATOR},
    "AnswerService": {Role.OPERATOR, Role.AUDITOR},
    "EnrollmentService.Enroll": {Role.COLLECTOR},
    "EnrollmentService.Withdraw": {Role.COLLECTOR, Role.OPERATOR},
    "LogService": {*Role},
    "MatchingService": {Role.ADVERTISER, Role.PARTNER},
    "OneShotMatchingService": {Role.ADVERTISER, Role.PARTNER},
    "SetMatchingService": {Role.ADVERTISER, Role.PARTNER},
    "MatchingService.FetchRemovals": {Role.ADVERTISER},
    "MatchingService.AcknowledgeRemovals": {Role.ADVERTISER},
}
OF_A_SESSION = {"Commit", "GetCommit", "CloseSession", "Exchange"}
"""What is asked of a session: for everybody but its advertiser, there is none."""
TIMED = 12
"""Requests of each kind that are compared."""
GROSS = 3.0
"""What two medians may differ by at most: a machine of many tenants makes smaller differences by itself."""
MOST_BYTES = 6 * 2**30
UNAVAILABLE, INVALID = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT
DENIED, UNKNOWN = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
# A request that says nothing may be refused for what it lacks, before anybody is looked at.
FIELDS: dict[str, dict[str, Any]] = {
    "OpenSession": {"agreement_digest": bytes(32), "list_size": 1_000},
    "Evaluate": {"session_id": bytes(16), "blinded_elements": b"\xe2" * 32},
    "FetchSegment": {"session_id": bytes(16), "sha256": bytes(32)},
    "Commit": {"session_id": bytes(16), "commit_id": bytes(16)},
    "Exchange": {"begin": {"session_id": bytes(16), "commit_id": bytes(16)}},
    "SendElements": {"session_id": bytes(16), "exponent": b"\xe2" * 32, "elements": b"\xe2" * 32},
    "ReturnPoints": {"session_id": bytes(16), "elements": b"\xe2" * 32, "proof": bytes(64)},
    "FinishExchange": {"session_id": bytes(16), "commit_id": bytes(16)},
    "GetCommit": {"session_id": bytes(16), "commit_id": bytes(16)},
    "CloseSession": {"session_id": bytes(16)},
    "FetchRemovals": {"epoch": 1},
    "AcknowledgeRemovals": {"epoch": 1, "sha256": bytes(32)},
}


def allowed(method: MethodDescriptor) -> set[Role]:
    service = method.containing_service.name
    return ALLOWED.get(f"{service}.{method.name}") or ALLOWED[service]


def answered(channel: grpc.Channel, method: MethodDescriptor, **fields: Any) -> tuple[grpc.StatusCode, str]:
    """Calls a method with one message; how that ended, and what was said."""
    kind = ("stream" if method.client_streaming else "unary") + (
        "_stream" if method.server_streaming else "_unary"
    )
    request = GetMessageClass(method.input_type)(**FIELDS.get(method.name, {}) | fields)
    call = getattr(channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    try:
        answer = call(iter([request]) if method.client_streaming else request, timeout=SECONDS)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        failed: Any = error
        return failed.code(), failed.details()
    return grpc.StatusCode.OK, ""


def outcome(channel: grpc.Channel, method: MethodDescriptor) -> grpc.StatusCode:
    """Calls a method with one message; how that ended."""
    return answered(channel, method)[0]


# ---- Roles.


@pytest.fixture(scope="module")
def known(acme: Path) -> Credentials:
    return load(acme)


@pytest.fixture(scope="module", params=list(Role))
def somebody(
    plain: LivePlatform, known: Credentials, request: pytest.FixtureRequest
) -> Iterator[tuple[Role, grpc.Channel]]:
    role: Role = request.param
    with channel(plain, known, issued(plain, role, "somebody")) as opened:
        yield role, opened


def channel(plain: LivePlatform, known: Credentials, shown: grpc.ChannelCredentials) -> grpc.Channel:
    options = [("grpc.ssl_target_name_override", known.pin.server_name), ("grpc.enable_http_proxy", 0)]
    return grpc.secure_channel(plain.address, shown, options)


@pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: method.full_name.removeprefix("purposematch.v1.")
)
def test_a_role_may_call_what_is_for_it_and_nothing_else(
    somebody: tuple[Role, grpc.Channel], method: MethodDescriptor
) -> None:
    role, opened = somebody
    code = outcome(opened, method)
    if role not in allowed(method):
        assert code is DENIED
    elif method.name in OF_A_SESSION:
        assert code is grpc.StatusCode.NOT_FOUND
    else:
        assert code not in (DENIED, UNKNOWN)


def test_every_rpc_is_in_the_table() -> None:
    assert len(METHODS) >= 18
    for method in METHODS:
        assert allowed(method)


@pytest.mark.parametrize("role", list(Role))
def test_another_platforms_people_may_call_nothing(
    plain: LivePlatform, known: Credentials, role: Role
) -> None:
    shown = issued(plain, role, "somebody", platform_id="otherbirds")
    with channel(plain, known, shown) as opened:
        for method in METHODS:
            assert outcome(opened, method) is UNKNOWN, method.full_name


@pytest.mark.parametrize("role", list(Role))
def test_whom_nobody_admitted_may_call_nothing(plain: LivePlatform, known: Credentials, role: Role) -> None:
    """The authority's signature alone opens nothing: the certificate must be recorded."""
    shown = issued(plain, role, "somebody", recorded=False)
    with channel(plain, known, shown) as opened:
        for method in METHODS:
            assert outcome(opened, method) is UNKNOWN, method.full_name


@pytest.mark.parametrize("role", list(Role))
def test_whose_certificate_was_revoked_may_call_nothing(
    plain: LivePlatform, known: Credentials, role: Role
) -> None:
    name = f"revoked-{role}"
    with channel(plain, known, issued(plain, role, name)) as opened:
        log = next(method for method in METHODS if method.name == "GetCheckpoint")
        assert outcome(opened, log) is grpc.StatusCode.OK
        plain.operate("certificate", "revoke", "--role", role, "--name", name, "--reason", "key_compromise")
        # On the connection that is open already, too.
        for method in METHODS:
            assert outcome(opened, method) is UNKNOWN, method.full_name


# ---- Certificates. Whoever is refused is refused by TLS, before any message is read, or by what is recorded.


Shown = Callable[[LivePlatform], grpc.ChannelCredentials]


def _expired(plain: LivePlatform) -> grpc.ChannelCredentials:
    then = datetime.now(UTC) - timedelta(days=4_000)
    return issued(plain, Role.ADVERTISER, "acme", now=then, recorded=False)


def _not_yet_valid(plain: LivePlatform) -> grpc.ChannelCredentials:
    return issued(plain, Role.ADVERTISER, "acme", now=datetime.now(UTC) + timedelta(days=20))


def _of_a_stranger(plain: LivePlatform) -> grpc.ChannelCredentials:
    # It has the name of the platform's own authority, and another key.
    return issued(plain, Role.ADVERTISER, "acme", authority=create_authority(PLATFORM_ID, datetime.now(UTC)))


def _of_the_server(plain: LivePlatform) -> grpc.ChannelCredentials:
    tls = plain.data_dir / "tls"
    return grpc.ssl_channel_credentials(
        *((tls / name).read_bytes() for name in ("ca.pem", "server.key", "server.pem"))
    )


def _none(plain: LivePlatform) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials((plain.data_dir / "tls" / "ca.pem").read_bytes())


def _never_recorded(plain: LivePlatform) -> grpc.ChannelCredentials:
    return issued(plain, Role.ADVERTISER, "acme", recorded=False)


CERTIFICATES: dict[str, tuple[Shown, grpc.StatusCode]] = {
    "none": (_none, UNAVAILABLE),
    "expired": (_expired, UNAVAILABLE),
    "not valid yet": (_not_yet_valid, UNAVAILABLE),
    "of another authority of the same name": (_of_a_stranger, UNAVAILABLE),
    "of the server itself": (_of_the_server, UNAVAILABLE),
    "of the right name, and never recorded": (_never_recorded, UNKNOWN),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_that_does_not_hold_opens_nothing(
    plain: LivePlatform, known: Credentials, name: str
) -> None:
    make, refusal = CERTIFICATES[name]
    with channel(plain, known, make(plain)) as opened:
        for method in METHODS:
            if refusal is UNAVAILABLE or method.name == "OpenSession":
                assert outcome(opened, method) is refusal, method.full_name


def test_nothing_is_served_without_tls(plain: LivePlatform) -> None:
    with grpc.insecure_channel(plain.address, [("grpc.enable_http_proxy", 0)]) as opened:
        assert outcome(opened, METHODS[0]) is UNAVAILABLE


def test_who_was_recorded_and_who_was_not_are_told_the_same(plain: LivePlatform, known: Credentials) -> None:
    told = set()
    for name in ("acme", "nobody"):
        with connected(plain.address, known, issued(plain, Role.ADVERTISER, name, recorded=False)) as client:
            with fails(UNKNOWN) as details:
                client.open()
            # Each is told its own name.
            told.update(text.replace(name, "NAME") for text in details)
    assert len(told) == 1


# ---- Sessions of others.

OF_SESSIONS = [method for method in METHODS if {"session_id", "begin"} & {*method.input_type.fields_by_name}]


def naming(method: MethodDescriptor, session: bytes) -> dict[str, Any]:
    """The fields that make a call one about a session."""
    if "begin" in method.input_type.fields_by_name:
        return {"begin": {"session_id": session, "commit_id": bytes(16)}}
    return {"session_id": session}


@pytest.fixture(scope="module")
def rival(plain: LivePlatform) -> Iterator[RawClient]:
    with connected(plain.address, load(plain.admit("rival-of-acme"))) as client:
        yield client


@pytest.fixture(scope="module")
def honest(plain: LivePlatform, known: Credentials) -> Iterator[RawClient]:
    with connected(plain.address, known) as client:
        yield client


@pytest.mark.parametrize("method", OF_SESSIONS, ids=lambda method: method.name)
def test_a_session_of_another_advertiser_is_like_none(
    plain: LivePlatform, known: Credentials, honest: RawClient, rival: RawClient, method: MethodDescriptor
) -> None:
    theirs = honest.open()
    told = []
    for session in (theirs.id, secrets.token_bytes(16)):
        with channel(plain, known, tls(rival.credentials)) as opened:
            told.append(answered(opened, method, **naming(method, session)))
    assert told[0] == told[1]
    assert told[0][0] is grpc.StatusCode.NOT_FOUND
    assert plain.rows("SELECT state FROM session WHERE id = ?", theirs.id.hex()) == [("open",)]
    assert plain.rows("SELECT * FROM batch WHERE session = ?", theirs.id.hex()) == []
    theirs.close()


def test_every_rpc_that_takes_a_session_is_in_the_list() -> None:
    assert {method.name for method in OF_SESSIONS} == {
        *("Evaluate", "FetchSegment", "Commit", "GetCommit", "CloseSession"),
        *("Exchange", "SendElements", "ReturnPoints", "FinishExchange"),
    }


# ---- Replays. What is sent twice is stored, counted and answered once.


def test_a_commit_can_not_be_replayed(plain: LivePlatform, honest: RawClient, rival: RawClient) -> None:
    inputs = email_inputs([f"user{i}@example.com" for i in range(1_000)])
    session, later, theirs = honest.open(), honest.open(), rival.open()
    tags, tokens = session.run(inputs)
    for other in (later, theirs):
        other.send(other.message(0, GROUP.encode(GROUP.map_to_group(uniform(64, 64))).tobytes()))
    entries, fewer = session.entries(tags, tokens, range(20)), session.entries(tags, tokens, range(19))
    first = session.commit(entries, b"r" * 16)
    precondition, invalid = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
    assert session.commit(entries, b"r" * 16) == first
    cases = [
        ("other entries under its id", session, fewer, b"r" * 16, precondition),
        ("the same entries under another id", session, entries, b"s" * 16, precondition),
        ("in another session of the same advertiser", later, entries, b"r" * 16, invalid),
        ("in a session of another advertiser", theirs, entries, b"r" * 16, invalid),
    ]
    for name, at, sent, id_, code in cases:
        with fails(code):
            at.commit(sent, id_)
        assert plain.rows('SELECT count(*) FROM "commit" WHERE session = ?', at.id.hex()) == [
            (int(at is session),)
        ], name
    session.close()
    assert session.commit(entries, b"r" * 16) == first
    assert plain.audience(session.id.hex()) == sorted(f"s{i}" for i in range(20))
    assert plain.audience(later.id.hex()) == plain.audience(theirs.id.hex()) == []
    for other in (later, theirs):
        other.close()


def test_a_batch_that_is_replayed_counts_once(plain: LivePlatform, honest: RawClient) -> None:
    session = honest.open()
    message = session.message(0, GROUP.encode(GROUP.map_to_group(uniform(200, 64))).tobytes())
    before = plain.rows("SELECT sum(elements) FROM usage")
    for _ in range(3):
        session.send(message, message)
    ((counted,),) = plain.rows("SELECT sum(elements) FROM usage")
    assert counted == before[0][0] + 200
    session.close()


# ---- Paths. No name that comes from somebody else becomes one.

EVIL_NAMES = (
    "../evil",
    "..",
    ".",
    "/tmp/evil",
    "a/b",
    "a\\b",
    "evil\n",
    "evil\0",
    "-evil",
    "",
    "e" * 300,
    "Evil",
)
ISSUER_KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
"""The public key of RFC 8032 section 7.1, test 1."""
NAMING: dict[str, list[str]] = {
    "init": ["init", "--platform-id", "NAME"],
    "advertiser": ["advertiser", "add", "NAME", "--disclosure", "both", "--out", "OUT"],
    "collector": ["collector", "add", "NAME", "--out", "OUT"],
    "operator": ["operator", "add", "NAME", "--out", "OUT"],
    "auditor": ["auditor", "add", "NAME", "--out", "OUT"],
    "agreement": ["agreement", "add", "NAME", "--disclosure", "both", "--out", "OUT"],
    "agreement in force": ["agreement", "show", "NAME"],
    "end of an agreement": ["agreement", "end", "NAME"],
    "issuer": ["issuer", "add", "NAME", "--key", ISSUER_KEY, "--purpose", PURPOSE, "--origin", "signup"],
}


def files_below(folder: Path) -> set[tuple[str, int]]:
    """Every file, with its size."""
    return {(str(path), path.lstat().st_size) for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    """A platform that nobody serves, and nothing is enrolled in; `evil` is an advertiser of it."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("idle") / "p")
    platform.admit("evil")
    # Whoever changes the policy makes policy.lock first, also where the change is then refused.
    platform.operate("policy", "publish", platform.data_dir / "policy.toml")
    return platform


@pytest.mark.parametrize("command", NAMING)
def test_a_name_that_is_a_path_is_refused(
    idle: LivePlatform, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files_below(idle.folder)

    def named(name: str) -> Done:
        given = {"NAME": name, "OUT": "out"}
        at = tmp_path / "new" if command == "init" else idle.data_dir
        return operator(*(given.get(each, each) for each in NAMING[command]), "--data-dir", at)

    for name in EVIL_NAMES:
        done = named(name)
        assert done.code in (1, 2), (name, done)
        assert "internal error" not in done.stderr
        assert "Missing option" not in done.stderr
        assert files_below(idle.folder) == before
        assert os.listdir(tmp_path) == []
    # It was the name and nothing else.
    good = "evil" if "agreement" in command else "good"
    assert named(good).code == 0


@pytest.mark.parametrize("path", ["../../../../../etc/passwd", "/etc/passwd\0", "platform.toml"])
def test_a_segment_s_address_is_no_path(honest: RawClient, path: str) -> None:
    session = honest.open()
    address = path.encode().ljust(32, b"\0")[:32]
    with fails(grpc.StatusCode.NOT_FOUND) as details:
        honest.parts(session.id, address)
    assert details == ["the session's generation has no such segment"]
    session.close()


@pytest.mark.parametrize("field", ["generation", "segments", "additions", "policy", "watermark"])
def test_a_manifest_names_no_path(field: str) -> None:
    fields = json.loads(manifest().sign(IDENTITY).content)
    evil = "../" * 21 + "x"
    fields[field] = [{"count": 100, "sha256": evil}] if isinstance(fields[field], list) else evil
    with pytest.raises(DecodeError, match="hexadecimal"):
        Manifest.open(sign_document(IDENTITY, MANIFEST_DOMAIN, fields), identity_public_key(IDENTITY))


def test_a_generation_s_name_in_the_database_is_no_path(tmp_path: Path) -> None:
    # Whoever can write the database could name any folder: what is in it must be signed for that name.
    platform = LivePlatform.create(tmp_path / "p")
    platform.enroll(grants(3))
    name = platform.publish()["generation"]
    shutil.copytree(platform.data_dir / "generations" / name, tmp_path / "elsewhere")
    evil = "../../../elsewhere"
    with closing(sqlite3.connect(platform.data_dir / "registry.sqlite")) as database, database:
        database.execute("UPDATE generation SET id = ?", (evil,))
    audited = operator("audit", "--data-dir", platform.data_dir)
    assert audited.code == 1
    assert "internal error" not in audited.stderr
    with platform.opened() as opened, pytest.raises((IntegrityError, VerificationError)):
        opened.store.load(evil)


# ---- Links. Where somebody else can write, a link leads nowhere.


def test_what_is_made_is_closed_to_others(plain: LivePlatform, acme: Path) -> None:
    for top in (plain.data_dir, acme):
        for path in (top, *top.rglob("*")):
            mode = stat.S_IMODE(path.lstat().st_mode)
            if path.is_dir():
                # Nobody else can put a link, or anything, into it.
                assert mode == 0o700, path
            else:
                assert not mode & 0o022, path
                assert path.suffix in (".pem", ".json") or not mode & 0o077, path


@pytest.mark.parametrize("beside", ["receipt", "tags", "resume"])
def test_a_link_beside_an_output_is_not_written_through(
    plain: LivePlatform, acme: Path, tmp_path: Path, beside: str
) -> None:
    victim, output = tmp_path / "victim", tmp_path / "out.csv"
    victim.write_text("mine")
    (tmp_path / f"out.csv.{beside}").symlink_to(victim)
    listed = customers(tmp_path / "list.csv")
    done = plain.match(listed, output, acme)
    assert victim.read_text() == "mine"
    assert done.code in (0, 1)
    assert done.code == 0 or "out.csv" in done.stderr
    assert (done.code == 0) is output.exists()


def test_a_link_to_a_key_that_others_can_read_is_refused(
    plain: LivePlatform, acme: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "credentials"
    shutil.copytree(acme, copy)
    shared = tmp_path / "shared.key"
    (copy / "client.key").rename(shared)
    shared.chmod(0o644)
    (copy / "client.key").symlink_to(shared)
    done = plain.match(customers(tmp_path / "list.csv"), tmp_path / "out.csv", copy)
    assert done.code == 1
    assert "client.key: the private key is open to others" in done.stderr
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("command", ["advertiser", "operator", "collector", "auditor"])
def test_credentials_are_not_written_through_a_link(idle: LivePlatform, tmp_path: Path, command: str) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "file").write_text("mine")
    out = tmp_path / "out"
    out.symlink_to(there)
    given = {"NAME": "linked", "OUT": str(out)}
    done = operator(*(given.get(each, each) for each in NAMING[command]), "--data-dir", idle.data_dir)
    assert done.code == 1, done
    assert os.listdir(there) == ["file"]


# ---- Keys that others can read are refused, whichever it is.

PRIVATE = {
    "keys/root.key": ["publish"],
    "keys/identity.sealed": ["publish"],
    "keys/epoch-1.sealed": ["publish"],
    "tls/ca.key": ["operator", "add", "somebody", "--out", "/nowhere/out"],
    "tls/server.key": ["serve", "--listen", "127.0.0.1:0"],
}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    """A platform with every kind of key."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("keyed") / "p")
    platform.enroll(grants(3))
    platform.publish()
    return platform


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
@pytest.mark.parametrize("name", PRIVATE)
def test_a_key_of_the_platform_that_others_can_read_is_refused(
    keyed: LivePlatform, name: str, mode: int
) -> None:
    path = keyed.data_dir / name
    path.chmod(mode)
    try:
        done = operator(*PRIVATE[name], "--data-dir", keyed.data_dir)
    finally:
        path.chmod(0o600)
    assert done.code == 1
    assert path.name in done.stderr
    assert "chmod 600" in done.stderr


@pytest.mark.parametrize("name", ["keys/root.key", "keys/identity.sealed"])
def test_a_key_of_the_platform_behind_a_link_is_looked_at_where_it_is(
    keyed: LivePlatform, tmp_path: Path, name: str
) -> None:
    path, there = keyed.data_dir / name, tmp_path / "there"
    path.rename(there)
    path.symlink_to(there)
    try:
        there.chmod(0o644)
        done = operator("publish", "--data-dir", keyed.data_dir)
    finally:
        there.chmod(0o600)
        there.rename(path)
    assert done.code == 1
    assert f"{path.name} is open to other users" in done.stderr


def test_every_private_file_of_a_platform_is_in_the_list(keyed: LivePlatform) -> None:
    folders = (keyed.data_dir / "keys", keyed.data_dir / "tls")
    found = {path for folder in folders for path in folder.iterdir() if path.suffix != ".pem"}
    assert {str(path.relative_to(keyed.data_dir)) for path in found} == {*PRIVATE}


@pytest.fixture(scope="module")
def members(keyed: LivePlatform) -> dict[str, Path]:
    """Credentials of an advertiser, with another agreement on offer, and of a collector."""
    out = keyed.folder / "collector"
    offer = ("--out", keyed.folder / "offer.json", "--data-dir", keyed.data_dir)
    folders = {"advertiser": keyed.admit("acme"), "collector": out}
    for arguments in (
        ["collector", "add", "signup", "--out", out, "--data-dir", keyed.data_dir],
        ["agreement", "add", "acme", "--disclosure", "advertiser", *offer],
    ):
        done = operator(*arguments)
        assert done.code == 0, done.stderr
    return folders


NOWHERE = ("--platform", "127.0.0.1:1")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
@pytest.mark.parametrize(
    ("whose", "name", "command"),
    [
        ("advertiser", "client.key", ["match", "list.csv", *NOWHERE, "--output", "out.csv", "--yes"]),
        ("advertiser", "signing.key", ["agreement", "accept", "OFFER", "--yes"]),
        ("collector", "client.key", ["withdraw", *NOWHERE, "--subject-id", "s1"]),
    ],
)
def test_a_key_of_a_client_that_others_can_read_is_refused(
    keyed: LivePlatform,
    members: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whose: str,
    name: str,
    command: list[str],
    mode: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    customers(tmp_path / "list.csv")
    path = members[whose] / name
    path.chmod(mode)
    offer = str(keyed.folder / "offer.json")
    try:
        done = advertiser(
            *(offer if each == "OFFER" else each for each in command), "--credentials", path.parent
        )
    finally:
        path.chmod(0o600)
    assert done.code == 1
    assert name in done.stderr
    assert "chmod 600" in done.stderr


def test_every_private_file_of_a_client_is_in_the_list(members: dict[str, Path]) -> None:
    found = {(whose, path.name) for whose, folder in members.items() for path in folder.glob("*.key")}
    assert found == {("advertiser", "client.key"), ("advertiser", "signing.key"), ("collector", "client.key")}


# ---- Bombs. A message, or a file, does not grow beyond what is allowed.

BOMB_BYTES = 64 * 2**20
BOMBED = ("OpenSession", "Evaluate", "Enroll", "GetSubject")
"""A method of every kind: one message or a stream, in and out."""


def large_message(
    plain: LivePlatform, known: Credentials, method: MethodDescriptor, size: int, **options: Any
) -> grpc.StatusCode:
    """Sends a message of so many zeros; how the call ended."""
    channel_options = [
        *(("grpc.ssl_target_name_override", known.pin.server_name), ("grpc.enable_http_proxy", 0)),
        ("grpc.max_send_message_length", -1),
    ]
    with grpc.secure_channel(plain.address, tls(known), channel_options) as opened:
        call = opened.stream_stream(f"/{method.containing_service.full_name}/{method.name}")(
            iter([bytes(size)]), timeout=SECONDS, **options
        )
        with pytest.raises(grpc.RpcError):
            list(call)
        code: grpc.StatusCode = call.code()
        return code


# Who may not call at all may be told so first.
TOO_LARGE = (grpc.StatusCode.RESOURCE_EXHAUSTED, DENIED)


@pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: method.full_name.removeprefix("purposematch.v1.")
)
def test_a_message_that_is_too_large_is_refused(
    plain: LivePlatform, known: Credentials, method: MethodDescriptor
) -> None:
    assert large_message(plain, known, method, 2**22) in TOO_LARGE


@pytest.mark.parametrize("name", BOMBED)
def test_a_message_that_becomes_too_large_is_refused_before_it_does(
    plain: LivePlatform, known: Credentials, name: str
) -> None:
    (method,) = (method for method in METHODS if method.name == name)
    before = peak_bytes(plain.server)
    code = large_message(plain, known, method, BOMB_BYTES, compression=grpc.Compression.Gzip)
    assert code in TOO_LARGE
    assert peak_bytes(plain.server) - before < BOMB_BYTES // 4


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab"])
@pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: method.full_name.removeprefix("purposematch.v1.")
)
def test_bytes_that_are_no_message_are_refused_like_a_malformed_one(
    plain: LivePlatform, known: Credentials, method: MethodDescriptor, content: bytes
) -> None:
    if method.name in ("GetCheckpoint", "GetStatus", "Publish", "Audit") and content[:1] == b"\x0a":
        content = b"\xff\xff"
    with channel(plain, known, tls(known)) as opened:
        call = opened.stream_stream(f"/{method.containing_service.full_name}/{method.name}")(
            iter([content]), timeout=SECONDS
        )
        with pytest.raises(grpc.RpcError):
            list(call)
    said = {grpc.StatusCode.INVALID_ARGUMENT: "a field of the message is malformed"}
    if call.code() is DENIED:
        said = {DENIED: call.details()}
        assert method.name == "Enroll"
    assert said == {call.code(): call.details()}


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever occupied."""
    found = re.search(r"^VmHWM:\s+([0-9]+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1_024


@pytest.mark.parametrize("stored", ["with its dictionary", pytest.param("as text", marks=pytest.mark.slow)])
def test_a_parquet_file_that_grows_without_bound_ends_the_command_and_not_the_machine(
    tmp_path: Path, stored: str
) -> None:
    # One value of a megabyte, ten thousand times: ten gigabytes in a file of some kilobytes.
    path = tmp_path / "list.parquet"
    bomb = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000, np.int32)), pa.array(["x" * 2**20]))
    pq.write_table(pa.table({"email": bomb}), path, compression="zstd", store_schema=stored != "as text")
    assert path.stat().st_size < 2**20
    # The shell sets the limit: nothing may run in Python between a fork and a program while gRPC has threads.
    limited = ["sh", "-c", 'ulimit -v "$0" && exec "$@"', str(MOST_BYTES // 1_024)]
    done = subprocess.run(
        [*limited, BIN / "purposematch", "check", path],
        # Threads of a large machine would take addresses of their own.
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )
    assert done.returncode == 1, done
    assert done.stderr.startswith(b"error: "), done.stderr
    assert done.stderr.count(b"\n") == 1


# ---- What is told. Nobody learns from an answer, or from how long it takes, what is enrolled and refused.


UNKNOWN_EMAILS = [f"unknown{i}@example.com" for i in range(1_000)]
REFUSED_EMAILS = [f"mfa{i}@example.com" for i in range(500)] + [f"gone{i}@example.com" for i in range(500)]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A served platform that enrolled 300 and refused a thousand."""
    platform = LivePlatform.create(tmp_path_factory.mktemp("refusing"), max_batch_elements=256)
    refused = [assertion(f"t{i}", "email", f"mfa{i}@example.com", "two_factor") for i in range(500)]
    refused += [assertion(f"w{i}", "email", f"gone{i}@example.com", status="withdrawn") for i in range(500)]
    platform.enroll(grants(300) + refused)
    platform.publish()
    with platform.serving():
        yield platform
    log = platform.log.read_text().splitlines()
    assert all("mfa" not in line and "gone" not in line for line in log)


def test_an_answer_takes_as_long_for_who_is_unknown_as_for_who_is_refused(refusing: LivePlatform) -> None:
    lists = {"unknown": email_inputs(UNKNOWN_EMAILS), "refused": email_inputs(REFUSED_EMAILS)}
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    with connected(refusing.address, load(refusing.admit("timer"))) as client:
        acts: dict[tuple[str, str], Callable[[], object]] = {}
        for name, inputs in lists.items():
            session = client.open()
            tags, tokens = session.run(inputs)
            entries = session.entries(tags, tokens, range(400)).encode()
            acts["commit", name] = partial(refused_commit, session, entries)
            again = client.open()
            batch = again.message(0, again.protocol.request(0, inputs[:256]).blinded.tobytes())
            acts["evaluate", name] = partial(again.send, batch)
        for number in range(2 * TIMED):
            # Now the one first, and now the other: what the machine does meanwhile meets both.
            for key in sorted(acts, reverse=bool(number % 2)):
                began = time.perf_counter()
                acts[key]()
                seconds[key].append(time.perf_counter() - began)
    for what in ("evaluate", "commit"):
        # The faster half of each is what the machine disturbed least.
        unknown, known = (sorted(seconds[what, name])[:TIMED] for name in ("unknown", "refused"))
        ratio = statistics.median(unknown) / statistics.median(known)
        assert 1 / GROSS < ratio < GROSS, (what, ratio)


def refused_commit(session: RawSession, entries: bytes) -> None:
    """A commit of somebody who is not in the index."""
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        session.commit(entries, b"t" * 16)


def test_unknown_and_refused_identifiers_cannot_be_told_apart(refusing: LivePlatform) -> None:
    with connected(refusing.address, load(refusing.admit("reader"))) as client:
        shapes = []
        for emails in (UNKNOWN_EMAILS, REFUSED_EMAILS):
            session = client.open()
            tags, tokens = session.run(email_inputs(emails))
            (segment,) = session.manifest.segments
            index = client.parts(session.id, segment.sha256)
            enrolled = {index[i : i + 16] for i in range(0, len(index), 16)}
            found = sum(row.tobytes() in enrolled for row in tags)
            # One message, that the canaries alone are known by.
            with fails(INVALID) as details:
                session.commit(session.entries(tags, tokens, [0]), b"p" * 16)
            empty = session.receipt(session.commit(b"", b"q" * 16))
            session.close()
            lengths = (len(index), len(session.answer.grant.content))
            shapes.append((found, session.manifest.count, details, empty.received, *lengths))
        assert shapes[0] == shapes[1]
        assert shapes[0][0] == 64
