"""Questions to a running platform, and the order to publish, for its operators and auditors.

The documents are those of the platform's own commands with --json, such as `purposematch-platform subject`.
What comes is checked for size and shape, and for being an answer to what was asked.

Not protected against: a platform that answers untruly. Nothing here is proved: what can be checked without
trusting the platform is its log, see `audit_bundle`.
"""

import re
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from purposematch.client.answer_shapes import AUDIT, IMPACT, STATUS, SUBJECTS
from purposematch.client.asking import (
    ANSWER,
    ASKING_TEXTS,
    MAX_DOCUMENT_BYTES,
    SAME_VERSIONS,
    TOO_LONG,
    WORK_SECONDS,
    asked,
    given,
    loaded_credentials,
    read_document,
    unicode_texts,
)
from purposematch.client.credentials import MemberCredentials
from purposematch.client.reconnect import SILENCE_SECONDS
from purposematch.client.refusals import Texts, translated
from purposematch.client.streams import parts
from purposematch.client.wire import received
from purposematch.protocol.errors import (
    DecodeError,
    InputError,
    IntegrityError,
    LimitError,
    NotAuthorizedError,
    RefusedError,
    UnavailableError,
    VerificationError,
)
from purposematch.protocol.purpose import Origin
from purposematch.protocol.scope import Scope
from purposematch.v1 import administration_pb2, answers_pb2
from purposematch.v1.administration_pb2_grpc import AdministrationServiceStub
from purposematch.v1.answers_pb2_grpc import AnswerServiceStub

__all__ = ["ask_audit", "ask_impact", "ask_status", "ask_subject", "publish"]

_GENERATION: Final = re.compile(r"[0-9a-f]{32}")
_PROBLEM_CHARACTERS: Final = 1_000
"""Characters of what an audit found that are shown at most."""

_OF_SUBJECT: Final[Texts] = {
    **ASKING_TEXTS,
    grpc.StatusCode.INVALID_ARGUMENT: (
        RefusedError,
        "the platform can not read the identifier; check how it is written, and say with --kind and --region "
        "what it is: a digest needs a kind, a phone number without + a region",
    ),
}
_OF_AUDIT: Final[Texts] = {
    **ASKING_TEXTS,
    grpc.StatusCode.UNAVAILABLE: (
        UnavailableError,
        "the connection broke off, or another audit or a publication is under way; try again later",
    ),
}
_OF_OPERATORS: Final[Texts] = {
    **ASKING_TEXTS,
    grpc.StatusCode.PERMISSION_DENIED: (
        NotAuthorizedError,
        "these credentials are not for this; ask the platform for those of an operator",
    ),
}
_OF_PUBLISH: Final[Texts] = {
    **_OF_OPERATORS,
    grpc.StatusCode.UNAVAILABLE: (
        UnavailableError,
        "another publisher is at work, or the connection broke off and it may have been published or not: "
        "look with purposematch ask status",
    ),
}


def ask_subject(
    subject_id: str | None = None,
    identifier: str | None = None,
    kind: str | None = None,
    region: str | None = None,
    *,
    platform: str,
    credentials: Path | str | MemberCredentials,
) -> dict[str, Any]:
    """What a platform knows of a subject, or of each subject who was named with an identifier.

    Args:
        subject_id: the platform's id of the person; or else
        identifier: raw, or SHA-256 in hexadecimal.
        kind: `email`, `phone` or `maid`; None to go by the identifier's looks.
        region: two-letter country code of phones without `+`; the platform's own if None.
        platform: HOST:PORT.
        credentials: the credentials folder of an operator or auditor, or what was loaded from it.

    Returns:
        The document of `purposematch-platform subject --json`.

    Raises:
        InputError: not exactly one of both is named, or a text is empty or no Unicode.
        RefusedError: the platform declined; the text says why.
        PeerError: what came is no answer to this.
        UnavailableError: the platform was not reached, or can not answer now.
    """
    if (subject_id is None) == (identifier is None):
        raise InputError("name either a subject or an identifier")
    if identifier is None:
        request = answers_pb2.GetSubjectRequest(subject_id=given("subject", subject_id))
    else:
        named = answers_pb2.Identifier(
            kind=given("kind", kind), value=given("identifier", identifier), region=given("region", region)
        )
        request = answers_pb2.GetSubjectRequest(identifier=named)
    doing = "asking about a subject"

    async def ask(channel: grpc.aio.Channel) -> bytes:
        content = bytearray()
        call: Any = AnswerServiceStub(channel).GetSubject(request)
        async with aclosing(parts(call, doing, SILENCE_SECONDS, _OF_SUBJECT)) as coming:
            async for part in coming:
                content += part.content
                if len(content) > MAX_DOCUMENT_BYTES:
                    raise LimitError(f"{doing}: {TOO_LONG}")
        return bytes(content)

    told = read_document(asked(platform, credentials, ask), SUBJECTS)
    if subject_id is not None and any(each["subject_id"] != subject_id for each in told["subjects"]):
        raise VerificationError("the platform told of somebody else than was asked about; tell the platform")
    return told


def ask_impact(
    *,
    platform: str,
    credentials: Path | str | MemberCredentials,
    origins: Sequence[str] = (),
    purposes: Sequence[str] = (),
    notices: Sequence[str] = (),
    sources: Sequence[str] = (),
    issuers: Sequence[str] = (),
    received_from: str | None = None,
    received_to: str | None = None,
    advertiser: str | None = None,
    as_of: str | None = None,
) -> dict[str, Any]:
    """Who was enrolled through assertions, and who learned of it: numbers, without the lists.

    Several values of a filter mean any of them; different filters must all hold. Times are ISO 8601 with
    offset.

    Args:
        platform: HOST:PORT.
        credentials: as for `ask_subject`.
        origins: assertions of these origins, such as `two_factor`.
        purposes: assertions that name one of these purposes or one below it.
        notices: assertions given at these notices.
        sources: assertions that these sources delivered.
        issuers: assertions with evidence of these issuers; "" for those without any.
        received_from: assertions received at this time or later.
        received_to: assertions received before this time.
        advertiser: sessions of this one only.
        as_of: answer as it would have been at this time.

    Returns:
        The document of `purposematch-platform impact --json`.

    Raises:
        InputError: a text is empty or no Unicode.
        RefusedError, PeerError, UnavailableError: as for `ask_subject`.
    """
    request = answers_pb2.GetImpactRequest(
        origins=unicode_texts(origins),
        purposes=unicode_texts(purposes),
        notices=unicode_texts(notices),
        sources=unicode_texts(sources),
        issuers=unicode_texts(issuers),
        received_from=given("beginning of the time of receipt", received_from),
        received_to=given("end of the time of receipt", received_to),
        advertiser=given("advertiser", advertiser),
        as_of=given("time of the answer", as_of),
    )
    doing = "asking for an impact"

    async def ask(channel: grpc.aio.Channel) -> bytes:
        with translated(doing, ASKING_TEXTS):
            answer = await AnswerServiceStub(channel).GetImpact(request, timeout=WORK_SECONDS)
        return bytes(received(answer).document)

    told = read_document(asked(platform, credentials, ask), IMPACT)
    _demand_asked(request, told)
    return told


def ask_audit(*, platform: str, credentials: Path | str | MemberCredentials) -> dict[str, int]:
    """Has a platform verify its registry, log and generations against each other: how much was checked.

    The platform verifies itself. What it showed to others is checked by `audit_bundle`.

    Raises:
        IntegrityError: something is not as it was logged; the text names the first row or file.
        RefusedError, PeerError, UnavailableError: as for `ask_subject`.
    """
    doing = "asking for an audit"

    async def ask(channel: grpc.aio.Channel) -> answers_pb2.AuditResponse:
        with translated(doing, _OF_AUDIT):
            answer: answers_pb2.AuditResponse = await AnswerServiceStub(channel).Audit(
                answers_pb2.AuditRequest(), timeout=WORK_SECONDS
            )
        return received(answer)

    answer = asked(platform, credentials, ask)
    if answer.passed == bool(answer.problem):
        raise DecodeError(f"the platform's audit neither passed nor failed; {SAME_VERSIONS}")
    if not answer.passed:
        shown = "".join(each if each.isprintable() else "?" for each in answer.problem)
        raise IntegrityError(f"the platform's audit failed: {shown[:_PROBLEM_CHARACTERS]}")
    return read_document(answer.document, AUDIT)


def ask_status(*, platform: str, credentials: Path | str | MemberCredentials) -> dict[str, Any]:
    """What a platform serves, its sessions, quotas, and what is wrong; the credentials are an operator's.

    Returns:
        The document of `purposematch-platform status --json`.

    Raises:
        RefusedError, PeerError, UnavailableError: as for `ask_subject`.
    """
    doing = "asking for the status"
    known = loaded_credentials(credentials)

    async def ask(channel: grpc.aio.Channel) -> bytes:
        with translated(doing, _OF_OPERATORS):
            answer = await AdministrationServiceStub(channel).GetStatus(
                administration_pb2.GetStatusRequest(), timeout=SILENCE_SECONDS
            )
        return bytes(received(answer).document)

    told = read_document(asked(platform, known, ask), STATUS)
    if told["platform_id"] != known.pin.platform_id:
        raise VerificationError("the platform told the status of another platform; tell the platform")
    return told


def publish(*, platform: str, credentials: Path | str | MemberCredentials) -> dict[str, Any]:
    """Has a platform publish a generation from its registry as it is now; the credentials are an operator's.

    Returns:
        The document of `purposematch-platform publish --json`.

    Raises:
        RefusedError, PeerError, UnavailableError: as for `ask_subject`.
    """
    doing = "publishing"
    known = loaded_credentials(credentials)

    async def order(channel: grpc.aio.Channel) -> administration_pb2.Generation:
        with translated(doing, _OF_PUBLISH):
            answer = await AdministrationServiceStub(channel).Publish(
                administration_pb2.PublishRequest(), timeout=WORK_SECONDS
            )
        generation: administration_pb2.Generation = received(answer).generation
        return generation

    published = asked(platform, known, order)
    scope = {
        "platform_id": known.pin.platform_id,
        "purpose": published.purpose,
        "profile": published.profile,
        "epoch": published.epoch,
    }
    try:
        scope = Scope.from_mapping(scope).to_mapping()
    except DecodeError as error:
        raise DecodeError(f"{error}; {SAME_VERSIONS}") from None
    if _GENERATION.fullmatch(published.id) is None:
        raise DecodeError(f"the {ANSWER} names no generation; {SAME_VERSIONS}")
    return {"generation": published.id, "scope": scope, "count": published.count}


def _demand_asked(request: answers_pb2.GetImpactRequest, told: dict[str, Any]) -> None:
    """Refuses the answer to another question, such as that of a platform which knows a filter less."""
    selection = told["selection"]
    same = (
        (told["as_of"] or "", told["advertiser"] or "") == (request.as_of, request.advertiser)
        and selection.get("origins", []) == [Origin.parse(each).label for each in request.origins]
        and all(
            selection.get(name, []) == list(getattr(request, name))
            for name in ("purposes", "notices", "sources", "issuers")
        )
        and all(
            _time(selection.get(name, "")) == _time(getattr(request, name))
            for name in ("received_from", "received_to")
        )
    )
    if not same:
        raise VerificationError(f"the platform answered another question than it was asked; {SAME_VERSIONS}")


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip()) if text else None
    except ValueError:
        raise DecodeError(f"a time in the {ANSWER} is none; {SAME_VERSIONS}") from None
