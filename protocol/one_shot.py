"""A match by the VOLE engine as one session runs it: sizes, binding, items, labels and the result.

Who receives follows from the disclosure: the advertiser for `both` and `advertiser`, the platform for
`platform`. Each side puts the 64 canaries of the generation behind its items and declares so many more; the
receiver refuses the result unless all of them are found.

Labels go to an advertiser that receives. They are what it would have of the POPRF: the tag of each match,
which `purposematch removals` needs later, and for `both` the MAC that commits it, HMAC-SHA-256(token,
transcript hash) as in `transcript`. So a commit proves that its items were matched in this session, and is
checked in the same way whatever the engine.

The binding holds what both sides must agree about, so that another scope, purpose, epoch, agreement or
session can not meet. ::

    "purposematch one-shot v1"                  24 bytes
    u16 length || scope, see `Scope.info`       all integers big-endian
    digest of the agreement                     32 bytes, as each side holds it
    session                                     16 bytes
    SHA-256 of the client's certificate         32 bytes
    SHA-256 of the platform's certificate       32 bytes

Semi-honest, experimental, no published proof. Not protected against: a side that cheats. It can cause wrong
results; a sender can leave items out; and a receiver can test in one session whatever it can think of against
the sender's whole list, so that an advertiser's quota bounds honest ones only, see `vole.sender`.
"""

from itertools import takewhile
from typing import Final

import numpy as np
from numpy.typing import NDArray

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.ciphersuite import ONE_SHOT_DOMAIN, TAG_LENGTH
from purposematch.protocol.errors import RefusedError, VerificationError
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.match_engine import MatchEngine, is_cheaper
from purposematch.protocol.messages import MAC_LENGTH, SessionGrant
from purposematch.protocol.scope import Scope
from purposematch.protocol.vole.parameters import MAX_RECEIVER, MAX_SENDER, Parameters, Role, parameters

__all__ = [
    "auto_engine",
    "binding",
    "demand_canaries",
    "first_result_chunk",
    "label_length",
    "receives",
    "sizes",
    "sizes_for",
    "why_not",
    "why_too_large",
]

_LABEL_LENGTHS: Final = {Disclosure.BOTH: TAG_LENGTH + MAC_LENGTH, Disclosure.ADVERTISER: TAG_LENGTH}


def receives(disclosure: Disclosure) -> bool:
    """Whether the advertiser receives, and not the platform.

    Raises:
        RefusedError: the disclosure can not be matched by VOLE.
    """
    if disclosure is Disclosure.COUNT:
        raise RefusedError("disclosure `count` can not be matched by VOLE: it would show which rows match")
    return not disclosure.noisy


def label_length(disclosure: Disclosure) -> int:
    """Bytes of a label."""
    return _LABEL_LENGTHS.get(disclosure, 0)


def why_too_large(disclosure: Disclosure, list_size: int, enrolled: int) -> str | None:
    """Why lists of these sizes can not be matched by VOLE; None if they can."""
    sides = (list_size, enrolled) if receives(disclosure) else (enrolled, list_size)
    for size, most in zip(sides, (MAX_RECEIVER, MAX_SENDER), strict=True):
        if size + CANARY_COUNT > most:
            return f"a match by VOLE has at most {most - CANARY_COUNT:,} identifiers here, and not {size:,}"
    return None


def why_not(agreement: Agreement, list_size: int, enrolled: int) -> str | None:
    """Why a session can not be matched by VOLE, wherever it is computed; None if it can."""
    if not agreement.allow_experimental:
        return "the agreement does not allow experimental engines"
    return why_too_large(agreement.disclosure, list_size, enrolled)


def auto_engine(agreement: Agreement, list_size: int, enrolled: int, cached: int) -> MatchEngine:
    """What `auto` chooses where both sides have the VOLE engine.

    Args:
        agreement: of the session.
        list_size: distinct identifiers in the list.
        enrolled: identifiers in the generation.
        cached: see `is_cheaper`.
    """
    if why_not(agreement, list_size, enrolled) is None and is_cheaper(
        list_size, enrolled, cached, noisy=agreement.disclosure.noisy
    ):
        return MatchEngine.VOLE
    return MatchEngine.OPRF


def sizes(disclosure: Disclosure, grant: SessionGrant, manifest: Manifest) -> Parameters:
    """The parameters of a session; see `sizes_for`."""
    return sizes_for(disclosure, grant.list_size, manifest.count)


def sizes_for(disclosure: Disclosure, list_size: int, enrolled: int) -> Parameters:
    """The parameters of a match of lists of these sizes, canaries not counted.

    Raises:
        LimitError: a list is too large.
        RefusedError: the disclosure can not be matched by VOLE.
    """
    own, others = list_size + CANARY_COUNT, enrolled + CANARY_COUNT
    if receives(disclosure):
        return parameters(own, others, label_length(disclosure))
    return parameters(others, own)


def first_result_chunk(parameters: Parameters) -> int:
    """The number of the sender's first chunk that results follow from."""
    before = takewhile(lambda message: message.name != "outputs", parameters.messages)
    return sum(message.chunks for message in before if message.speaker is Role.SENDER)


def binding(scope: Scope, agreement: bytes, grant: SessionGrant) -> bytes:
    """What both sides must agree about.

    Args:
        scope: of the session's generation.
        agreement: the digest of the agreement that this side holds, 32 bytes.
        grant: of the session.
    """
    info = scope.info()
    return b"".join(
        [
            ONE_SHOT_DOMAIN,
            len(info).to_bytes(2, "big") + info,
            agreement,
            grant.session,
            grant.client_certificate,
            grant.server_certificate,
        ]
    )


def demand_canaries(rows: NDArray[np.int64], own: int) -> NDArray[np.bool_]:
    """Which matched rows are no canaries, (k,), once all canaries were found.

    Args:
        rows: (k,), the matched items of a side.
        own: its private inputs; the canaries come behind them.

    Raises:
        VerificationError: a canary is missing: the sides have other generations, or items are missing.
    """
    listed: NDArray[np.bool_] = rows < own
    found = int(np.count_nonzero(~listed))
    if found != CANARY_COUNT:
        raise VerificationError(
            f"only {found} of {CANARY_COUNT} canaries match: the sides do not have the same generation, "
            "scope or agreement, or a list is not whole"
        )
    return listed
