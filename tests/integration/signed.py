"""Rows with evidence, as the collecting system `screens` signs them."""

from hashlib import sha256

from platforms import PLATFORM_ID, PURPOSE, LivePlatform, Row, assertion

from purposematch.protocol.evidence import (
    AssertionEvidence,
    BatchEvidence,
    CollectedAssertion,
    CollectorKey,
    sign_assertion,
    sign_batch,
)
from purposematch.protocol.identifiers import Kind, Profile
from purposematch.protocol.purpose import Origin, Status

SCREENS = CollectorKey(b"\1" * 32)


def add_issuer(platform: LivePlatform) -> None:
    """Lets the signatures of `screens` count."""
    platform.operate(
        *("issuer", "add", "screens", "--key", SCREENS.public_key.hex()),
        *("--purpose", PURPOSE, "--origin", "signup"),
    )


def signed_rows(count: int, source: str = "default") -> list[Row]:
    """Grants of `signed<i>`, each with a signature of its own."""
    rows = []
    for number in range(count):
        one = _collected(number, source)
        rows.append(_row(one, number, sign_assertion(SCREENS, PLATFORM_ID, Profile.PLAIN, one)))
    return rows


def batch_rows(count: int, source: str = "default", first: int = 0) -> tuple[BatchEvidence, list[Row]]:
    """The same from `signed<first>` on, under one signature for all of them."""
    every = [_collected(number, source) for number in range(first, first + count)]
    batch, evidence = sign_batch(SCREENS, PLATFORM_ID, Profile.PLAIN, every)
    return batch, [
        {**_row(one, number, each), "issuer": ""}
        for number, (one, each) in enumerate(zip(every, evidence, strict=True), first)
    ]


def _collected(number: int, source: str) -> CollectedAssertion:
    return CollectedAssertion(
        issuer="screens",
        source=source,
        subject=f"signed{number}",
        kind=Kind.EMAIL,
        digest=sha256(b"signed%d@example.com" % number).digest(),
        purposes=(PURPOSE,),
        origin=Origin.SIGNUP,
        status=Status.GRANTED,
        notice="ads-7",
        collected_at=1_764_028_800_000_000,
    )


def _row(one: CollectedAssertion, number: int, evidence: AssertionEvidence) -> Row:
    row = assertion(one.subject, "email", f"signed{number}@example.com", notice_id="ads-7")
    return {**row, **one.cells(evidence)}
