"""Delivers assertions to a platform, and tells it that people take them back; for a platform's own systems.

::

    from purposematch.client import deliver

    report = deliver("signups.parquet", platform="match.example.com:8443", credentials="signup-app/")
    print(f"{report.enrolled} of {report.read} rows permit; refused: {report.refused}")

A delivery has an id. When the connection breaks off it is sent again under the same id, so that it is stored
once whatever was lost on its way; whoever gives up keeps the id and goes on with it later.

Memory: some messages of at most half a megabyte, whatever the size of the file.

Not protected against: what the file says. The platform hears raw values where the file has them: it is a
collecting system's own platform, never an advertiser's.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import grpc
import pyarrow as pa

from purposematch.client.connection import check_address, connected
from purposematch.client.credentials import MemberCredentials
from purposematch.client.progress import Advance, Progress, silent
from purposematch.client.reconnect import SILENCE_SECONDS
from purposematch.client.refusals import CallStatus, translate
from purposematch.client.sent_rows import texts_of
from purposematch.client.streams import Ending
from purposematch.client.wire import received
from purposematch.protocol.delivery import (
    COLUMNS,
    DELIVERY_ID_BYTES,
    MAX_DELIVERY_BYTES,
    MAX_DELIVERY_ROWS,
    MAX_WITHDRAWN_ROWS,
    OPTIONAL_COLUMNS,
)
from purposematch.protocol.errors import (
    DecodeError,
    InputError,
    NotAuthorizedError,
    PurposematchError,
    RefusedError,
    UnavailableError,
)
from purposematch.protocol.evidence import BatchEvidence
from purposematch.protocol.strict_json import decode_json
from purposematch.tables import Table, open_table, require_columns
from purposematch.v1 import enrollment_pb2 as v1
from purposematch.v1.enrollment_pb2_grpc import EnrollmentServiceStub

__all__ = ["Delivered", "deliver", "withdraw"]

ATTEMPTS: Final = 3
"""How often a delivery is sent before it is given up."""
PAUSE_SECONDS: Final = 1.0
"""How long the first pause between two attempts is; each is twice the one before."""
MESSAGE_ROWS: Final = 4_096
"""Rows of one message at most."""
MESSAGE_BYTES: Final = 524_288
"""Bytes of the cells of one message at most; a single row always fits."""

MAX_RECEIPT_BYTES: Final = 4 * 2**20
"""The longest receipt of a withdrawal, in bytes: what one message holds."""

_TEXTS: Final[dict[grpc.StatusCode, tuple[type[PurposematchError], str]]] = {
    grpc.StatusCode.PERMISSION_DENIED: (
        NotAuthorizedError,
        "these credentials are not for this; ask the platform for those of a collector",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        RefusedError,
        f"more than {MAX_DELIVERY_ROWS:,} rows, or too many bytes; deliver the file in parts",
    ),
}

_DELIVERING: Final = "delivering"

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of the rows of a delivery: read = enrolled + the sum of refused.

    Attributes:
        delivery_id: under which it was sent.
        read: rows that the platform read.
        enrolled: rows that permit.
        refused: rows that do not, by the name of the reason.
    """

    delivery_id: bytes
    read: int
    enrolled: int
    refused: Mapping[str, int]

    def to_mapping(self) -> dict[str, object]:
        """The stable document of `purposematch deliver --json`."""
        return {
            "delivery_id": self.delivery_id.hex(),
            "read": self.read,
            "enrolled": self.enrolled,
            "refused": dict(self.refused),
        }


def deliver(
    file: Path | str | None,
    *,
    platform: str,
    credentials: Path | str | MemberCredentials,
    evidence: BatchEvidence | None = None,
    region: str | None = None,
    delivery_id: bytes | None = None,
    stdin: BinaryIO | None = None,
    progress: Progress = silent,
) -> Delivered:
    """Sends the assertions of a file, and waits until they are stored.

    Args:
        file: CSV or Parquet with the columns of docs/gate.md, others are left out; None for standard input.
        platform: HOST:PORT.
        credentials: the credentials folder of a collector, or what was loaded from it.
        evidence: one signature over the rows that have a salt and no signature of their own.
        region: two-letter country code of phones without `+`; the platform's own if None.
        delivery_id: the id of a delivery that was begun before, 16 bytes; a new one if None.
        stdin: what standard input is; the process's own if None.
        progress: shows how far it is.

    Raises:
        InputError: the file can not be read or is too large for one delivery.
        RefusedError: the platform declined, the text says which row or why; nothing was stored.
        UnavailableError: the platform was not reached, or the answer was lost; the text has the id to go on
            with.
    """
    id_ = _checked_id(delivery_id)
    header = v1.DeliveryHeader(
        delivery_id=id_, batch_evidence=evidence.to_bytes() if evidence else b"", region=region or ""
    )
    with open_table(None if file is None else Path(file), stdin=stdin) as table:
        require_columns(table, COLUMNS)

        async def send(stub: Any) -> v1.EnrollResponse:
            with progress("Delivering", table.size_bytes, "bytes") as advance:
                return await _stream(stub.Enroll(), _messages(header, table, advance))

        answer = _sent(platform, credentials, id_, send)
    return Delivered(id_, answer.read, answer.enrolled, dict(answer.refused))


def withdraw(
    named: pa.Table,
    *,
    platform: str,
    credentials: Path | str | MemberCredentials,
    objected: bool = False,
    purpose: str | None = None,
    region: str | None = None,
    delivery_id: bytes | None = None,
) -> dict[str, Any]:
    """Tells a platform that people withdraw or object; the receipt as `withdraw` of the platform gives it.

    Args:
        named: rows of some of the columns `subject_id`, `kind`, `value`, `value_format`, `hash_profile`, as
            `one_named` and `file_named` give them.
        platform: HOST:PORT.
        credentials: the credentials folder of a collector or operator, or what was loaded from it.
        objected: they object, which nothing lifts; else they withdraw.
        purpose: the use that is refused, a data-use key; None for every use.
        region: as for `deliver`.
        delivery_id: as for `deliver`.

    Raises:
        InputError: there is nobody, or there are more than `MAX_WITHDRAWN_ROWS` rows.
        RefusedError: the platform declined; nothing was stored.
        UnavailableError: as for `deliver`.
    """
    if not 0 < len(named) <= MAX_WITHDRAWN_ROWS:
        raise InputError(f"a withdrawal names 1 to {MAX_WITHDRAWN_ROWS:,} people; send more in parts")
    id_ = _checked_id(delivery_id)
    batch = named.combine_chunks().to_batches()[0]
    request = v1.WithdrawRequest(
        delivery_id=id_,
        refusal=v1.REFUSAL_OBJECTED if objected else v1.REFUSAL_WITHDRAWN,
        purpose=purpose or "",
        region=region or "",
        named=_rows(batch),
    )

    async def send(stub: Any) -> v1.WithdrawResponse:
        answer: v1.WithdrawResponse = await _answer(
            stub.Withdraw(request, timeout=SILENCE_SECONDS), "withdrawing"
        )
        return answer

    answer = _sent(platform, credentials, id_, send)
    receipt = decode_json(answer.receipt, "receipt of the withdrawal", MAX_RECEIPT_BYTES)
    if not isinstance(receipt, dict):
        raise DecodeError("the receipt of the withdrawal is not a JSON object")
    return receipt


def _checked_id(delivery_id: bytes | None) -> bytes:
    if delivery_id is None:
        return secrets.token_bytes(DELIVERY_ID_BYTES)
    if len(delivery_id) != DELIVERY_ID_BYTES:
        raise InputError(f"a delivery id has {2 * DELIVERY_ID_BYTES} hexadecimal digits")
    return delivery_id


def _sent(
    platform: str,
    credentials: Path | str | MemberCredentials,
    delivery_id: bytes,
    send: Callable[[Any], Awaitable[_Answer]],
) -> _Answer:
    """Sends something under an id until it is answered, or given up."""
    check_address(platform)
    if not isinstance(credentials, MemberCredentials):
        credentials = MemberCredentials.load(credentials)

    async def once() -> _Answer:
        async with connected(platform, credentials) as channel:
            return await send(EnrollmentServiceStub(channel))

    async def until_answered() -> _Answer:
        for attempt in range(ATTEMPTS):
            try:
                return await once()
            except UnavailableError as error:
                if attempt == ATTEMPTS - 1:
                    raise UnavailableError(
                        f"{error}; it may have been stored or not: send the same again with --delivery-id "
                        f"{delivery_id.hex()}"
                    ) from None
            await asyncio.sleep(PAUSE_SECONDS * 2**attempt)
        raise AssertionError("every attempt ends")

    return asyncio.run(until_answered())


async def _answer(call: Any, doing: str) -> Any:
    ending = Ending(call)
    try:
        return received(await call)
    except grpc.aio.AioRpcError:
        status = await ending.status()
    raise translate(status, doing, _TEXTS)


async def _stream(call: Any, messages: Iterator[v1.EnrollRequest]) -> v1.EnrollResponse:
    try:
        # Reading a file and making messages would keep the event loop from sending them.
        while (message := await asyncio.to_thread(next, messages, None)) is not None:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await call.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # It has ended, and the answer says why.
                break
        else:
            with suppress(asyncio.InvalidStateError):
                await call.done_writing()
        async with asyncio.timeout(SILENCE_SECONDS):
            answer: v1.EnrollResponse = await _answer(call, _DELIVERING)
        return answer
    except TimeoutError:
        raise translate(CallStatus(grpc.StatusCode.DEADLINE_EXCEEDED), _DELIVERING) from None
    finally:
        # What was not sent to its end is not stored.
        call.cancel()


def _messages(header: v1.DeliveryHeader, table: Table, advance: Advance) -> Iterator[v1.EnrollRequest]:
    yield v1.EnrollRequest(header=header)
    rows, size = 0, 0
    names = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in table.columns]
    with closing(table.batches(names, advance=advance)) as batches:
        for batch in batches:
            for part in _parts(texts_of(batch, names)):
                rows, size = rows + len(part), size + part.nbytes
                if rows > MAX_DELIVERY_ROWS or size > MAX_DELIVERY_BYTES:
                    raise InputError(
                        f"{table.name}: a delivery has at most {MAX_DELIVERY_ROWS:,} rows and "
                        f"{MAX_DELIVERY_BYTES:,} bytes; deliver the file in parts"
                    )
                yield v1.EnrollRequest(rows=_rows(part))
    yield v1.EnrollRequest(end=v1.DeliveryEnd(rows=rows))


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces that fit into messages."""
    for start in range(0, len(batch), MESSAGE_ROWS):
        waiting = [batch.slice(start, MESSAGE_ROWS)]
        while waiting:
            part = waiting.pop()
            if part.nbytes <= MESSAGE_BYTES or len(part) == 1:
                yield part
            else:
                half = len(part) // 2
                waiting += [part.slice(half), part.slice(0, half)]


def _rows(batch: pa.RecordBatch) -> v1.Rows:
    columns = [
        v1.Column(name=name, cells=cells.to_pylist())
        for name, cells in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return v1.Rows(columns=columns)
