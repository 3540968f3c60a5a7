"""What the documents of a platform's answers must look like before anybody reads them.

A shape is a function that refuses whatever is not of it: a missing or an unknown field, another type, a
number out of range. So whoever prints a document, or reads a field of it, finds what it expects.

Not protected against: a platform that tells something untrue in a document of the right shape.
"""

from collections.abc import Callable
from typing import Final

from purposematch.protocol.errors import DecodeError
from purposematch.protocol.strict_json import MAX_INTEGER, Fields

__all__ = ["AUDIT", "IMPACT", "STATUS", "SUBJECTS", "Shape"]

Shape = Callable[[object, str], None]
"""Checks a value; the text says in errors which one. Raises `DecodeError`."""


def text(value: object, what: str) -> None:
    """A string."""
    if type(value) is not str:
        raise DecodeError(f"the {what} is not a string")


def count(value: object, what: str) -> None:
    """A whole number that is not negative."""
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise DecodeError(f"the {what} is not a count")


def flag(value: object, what: str) -> None:
    """True or false."""
    if type(value) is not bool:
        raise DecodeError(f"the {what} is neither true nor false")


def optional(shape: Shape) -> Shape:
    """Null, or a value of a shape."""

    def check(value: object, what: str) -> None:
        if value is not None:
            shape(value, what)

    return check


def array(shape: Shape) -> Shape:
    """An array of values of one shape."""

    def check(value: object, what: str) -> None:
        if not isinstance(value, list):
            raise DecodeError(f"the {what} is not an array")
        for each in value:
            shape(each, f"entry of {what}")

    return check


def fields(**shapes: Shape) -> Shape:
    """An object with exactly these fields, each of its shape."""

    def check(value: object, what: str) -> None:
        found = Fields(value, what, tuple(shapes))
        for name, shape in shapes.items():
            shape(found.value(name), f"{name} of the {what}")

    return check


def counts(value: object, what: str) -> None:
    """An object whose fields are counts, whatever their names."""
    if not isinstance(value, dict):
        raise DecodeError(f"the {what} is not a JSON object")
    for each in value.values():
        count(each, f"number in the {what}")


_LABELS: Final = {"origin": text, "purposes": array(text)}

_ASSERTION: Final = fields(
    assertion=count,
    subject_id=optional(text),
    identifier=optional(text),
    kind=optional(text),
    **_LABELS,
    status=text,
    source=text,
    issuer=optional(text),
    notice_id=optional(text),
    delivery=count,
    received_at=text,
    not_before=optional(text),
    expires_at=optional(text),
    reason_at_receipt=text,
    corrections=array(fields(correction=count, corrected_at=text, why=text, **_LABELS)),
)

_AUDIENCE: Final = {"advertiser": text, "partner": optional(text), "audience": text}

SUBJECTS: Final = fields(
    subjects=array(
        fields(
            subject_id=text,
            assertions=array(_ASSERTION),
            withdrawals=array(count),
            receipts=array(
                fields(
                    assertion=count,
                    delivery=count,
                    log_leaf=count,
                    log_size=count,
                    log_root=text,
                    position=count,
                )
            ),
            decisions=array(
                fields(
                    identifier=text,
                    reason=text,
                    through_assertion=optional(count),
                    decided_at=text,
                    policy=text,
                    policy_version=count,
                )
            ),
            enrolled=array(
                fields(identifier=text, assertion=count, first_generation=count, last_generation=count)
            ),
            sessions=array(
                fields(
                    session=text,
                    advertiser=text,
                    partner=optional(text),
                    disclosure=text,
                    generation=count,
                    opened_at=text,
                    advertiser_may_have_learned=flag,
                )
            ),
            advertisers=array(text),
            may_have_learned=array(text),
            partners=array(text),
            audiences=array(
                fields(
                    **_AUDIENCE,
                    mode=text,
                    session=text,
                    identifier=text,
                    assertion=count,
                    expires_at=text,
                    member=flag,
                )
            ),
        )
    ),
    suppressed=array(fields(identifier=text, erasure=count, erased_at=text, log_leaf=count, why=text)),
)
"""The document of `subject`."""

_SELECTION: Final = {
    **dict.fromkeys(("origins", "purposes", "sources", "issuers", "notices"), array(text)),
    **dict.fromkeys(("received_from", "received_to"), text),
}


def selection(value: object, what: str) -> None:
    """An object with some of the fields of a selection."""
    given = {name: _SELECTION[name] for name in _SELECTION if isinstance(value, dict) and name in value}
    fields(**given)(value, what)


IMPACT: Final = fields(
    as_of=optional(text),
    advertiser=optional(text),
    selection=selection,
    assertions=count,
    identifiers=count,
    subjects=count,
    generations=count,
    sessions=count,
    audiences=count,
    advertisers=array(text),
    partners=array(text),
    subjects_in_audiences=count,
    subjects_advertisers_may_have_learned_of=count,
    erased_assertions=count,
    erased_memberships=count,
    expired_audiences=count,
    by_advertiser=array(
        fields(
            advertiser=text, sessions=count, subjects_in_audiences=count, subjects_may_have_learned_of=count
        )
    ),
    by_audience=array(fields(**_AUDIENCE, subjects=count)),
)
"""The document of `impact`."""

STATUS: Final = fields(
    platform_id=text,
    version=text,
    ready=flag,
    generation=optional(
        fields(
            id=text,
            purpose=text,
            profile=text,
            epoch=count,
            count=count,
            published_at=text,
            age_seconds=count,
            valid_until=text,
        )
    ),
    epoch_ends=optional(text),
    sessions=counts,
    log=fields(size=count, checkpoint_size=optional(count), checkpoint_signed_at=optional(text)),
    quotas=array(fields(advertiser=text, quota=text, left=count, of=count)),
    budgets=array(
        fields(holder=text, name=text, days=count, spent=text, left=text, of=text, returns_at=optional(text))
    ),
    audiences=array(fields(**_AUDIENCE, sessions=count, changed_at=text, expires_at=text)),
    certificates=array(fields(role=text, name=text, not_after=text)),
    problems=array(fields(problem=text, remedy=text)),
)
"""The document of `status`."""

AUDIT: Final = counts
"""The document of `audit`: how much was checked, by name."""
