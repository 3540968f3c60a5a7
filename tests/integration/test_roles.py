"""Who may call what: every RPC of every service, by every role, by nobody, by another platform's people."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from platforms import LivePlatform
from raw_client import SECONDS, issued, load

from purposematch.client.credentials import Credentials
from purposematch.server.pki import Role
from purposematch.v1 import administration_pb2, answers_pb2, enrollment_pb2, log_pb2, matching_pb2

FILES: Any = (administration_pb2, answers_pb2, enrollment_pb2, log_pb2, matching_pb2)
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
    "MatchingService": {Role.ADVERTISER},
}
OF_A_SESSION = {"Commit", "GetCommit", "CloseSession"}
"""What is asked of a session: for everybody but its advertiser, there is none."""
DENIED, UNKNOWN = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
# A request that says nothing may be refused for what it lacks, before anybody is looked at.
FIELDS: dict[str, dict[str, Any]] = {
    "OpenSession": {"agreement_digest": bytes(32), "list_size": 1_000},
    "Evaluate": {"session_id": bytes(16), "blinded_elements": b"\xe2" * 32},
    "FetchSegment": {"session_id": bytes(16), "sha256": bytes(32)},
    "Commit": {"session_id": bytes(16), "commit_id": bytes(16)},
    "GetCommit": {"session_id": bytes(16), "commit_id": bytes(16)},
    "CloseSession": {"session_id": bytes(16)},
    "FetchRemovals": {"epoch": 1},
    "AcknowledgeRemovals": {"epoch": 1, "sha256": bytes(32)},
}


def allowed(method: MethodDescriptor) -> set[Role]:
    service = method.containing_service.name
    return ALLOWED.get(f"{service}.{method.name}") or ALLOWED[service]


def outcome(channel: grpc.Channel, method: MethodDescriptor) -> grpc.StatusCode:
    """Calls a method with one message; how that ended."""
    kind = ("stream" if method.client_streaming else "unary") + (
        "_stream" if method.server_streaming else "_unary"
    )
    request = GetMessageClass(method.input_type)(**FIELDS.get(method.name, {}))
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
        code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
        return code
    return grpc.StatusCode.OK


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
            refusal = UNKNOWN if role in allowed(method) else DENIED
            assert outcome(opened, method) is refusal, method.full_name


def test_nobody_may_call_anything(plain: LivePlatform, known: Credentials) -> None:
    with channel(plain, known, grpc.ssl_channel_credentials(known.authority)) as opened:
        # The handshake fails: there is no connection on which something could be asked.
        assert outcome(opened, METHODS[0]) is grpc.StatusCode.UNAVAILABLE
