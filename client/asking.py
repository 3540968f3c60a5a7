"""How a platform is asked: over one connection, once, and what its documents and statuses mean.

Not protected against: a platform that answers untruly.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from purposematch.client.answer_shapes import Shape
from purposematch.client.connection import check_address, connected
from purposematch.client.credentials import MemberCredentials
from purposematch.client.refusals import Texts
from purposematch.protocol.errors import (
    DecodeError,
    InputError,
    LimitError,
    NotAuthorizedError,
    RefusedError,
)
from purposematch.protocol.strict_json import decode_json

__all__ = [
    "ANSWER",
    "ASKING_TEXTS",
    "MAX_DOCUMENT_BYTES",
    "SAME_VERSIONS",
    "TOO_LONG",
    "WORK_SECONDS",
    "asked",
    "given",
    "loaded_credentials",
    "read_document",
    "unicode_texts",
]

MAX_DOCUMENT_BYTES: Final = 32 * 2**20
"""The longest document that is read, in bytes; what an answer costs in memory is a multiple of it."""
WORK_SECONDS: Final = 86_400.0
"""How long a platform may work on an answer for which it reads or evaluates everything that it has. That the
connection is lost is noticed long before."""

ANSWER: Final = "platform's answer"
"""What errors call a document."""
SAME_VERSIONS: Final = "use the same version of purposematch on both sides; if it is, tell the platform"
"""What to do about a document that is not of the expected form."""
TOO_LONG: Final = "the answer is longer than this program reads; ask on the platform's own machine"
"""What to do about a document that is longer than `MAX_DOCUMENT_BYTES`, or than a message."""

ASKING_TEXTS: Final[Texts] = {
    grpc.StatusCode.PERMISSION_DENIED: (
        NotAuthorizedError,
        "these credentials are not for this; ask the platform for those of an operator or an auditor",
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (RefusedError, "the platform refused and does not say why; ask it"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (LimitError, TOO_LONG),
    grpc.StatusCode.NOT_FOUND: (RefusedError, f"the platform does not know this question; {SAME_VERSIONS}"),
}
"""What the statuses of every question mean, as `translate` takes them."""

_Answer = TypeVar("_Answer")


def loaded_credentials(credentials: Path | str | MemberCredentials) -> MemberCredentials:
    """The credentials themselves, or those in a folder.

    Raises:
        ConfigurationError: as `MemberCredentials.load`.
    """
    if isinstance(credentials, MemberCredentials):
        return credentials
    return MemberCredentials.load(credentials)


def asked(
    platform: str,
    credentials: Path | str | MemberCredentials,
    ask: Callable[[grpc.aio.Channel], Awaitable[_Answer]],
) -> _Answer:
    """What a platform answers on a connection of its own.

    Args:
        platform: HOST:PORT.
        credentials: who asks.
        ask: makes the call.

    Raises:
        InputError: the address is malformed, or the credentials can not be used.
        UnavailableError: the platform was not reached.
    """
    check_address(platform)
    known = loaded_credentials(credentials)

    async def once() -> _Answer:
        async with connected(platform, known) as channel:
            return await ask(channel)

    return asyncio.run(once())


def read_document(content: bytes, shape: Shape) -> dict[str, Any]:
    """The document of an answer.

    Raises:
        DecodeError: it is no JSON object of that shape; the text says what to do.
    """
    try:
        document: Any = decode_json(content, ANSWER, MAX_DOCUMENT_BYTES)
        shape(document, ANSWER)
    except DecodeError as error:
        raise DecodeError(f"{error}; {SAME_VERSIONS}") from None
    checked: dict[str, Any] = document
    return checked


def given(name: str, text: str | None) -> str:
    """A text as it is sent, where an empty one means that there is none.

    Raises:
        InputError: it is empty, or no Unicode.
    """
    if text == "":
        raise InputError(f"the {name} is empty; give it a value, or leave it out")
    return "" if text is None else unicode_texts([text])[0]


def unicode_texts(texts: Sequence[str]) -> list[str]:
    """Texts as they are sent.

    Raises:
        InputError: one of them is no Unicode.
    """
    try:
        for each in texts:
            each.encode()
    except UnicodeEncodeError:
        raise InputError("a text in the question is not Unicode") from None
    return list(texts)
