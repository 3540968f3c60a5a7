"""The engines that a match can be computed with, and when the experimental one is chosen.

The usual engine is that of the elliptic curve: the POPRF, or the set exchange under noisy disclosures. The
other one is the VOLE engine (`purposematch.protocol.vole`): semi-honest, experimental, no published proof. It
is never used but under an agreement that allows it. Quotas bound guessing only on the curve: by VOLE whoever
receives, and cheats, tests what it likes in one session.

`is_cheaper` is the whole rule of `auto`. Its figures are seconds of both sides together, on one core,
rounded; they only have to be right in their proportions. Generations are published already, whatever the
engine.

Not protected against: figures of another machine. A wrong choice costs time and nothing else.
"""

from enum import StrEnum
from typing import Final

__all__ = ["ENGINES_OF_CHOICE", "EXPERIMENTAL", "EngineChoice", "MatchEngine", "is_cheaper"]

EXPERIMENTAL: Final = "semi-honest, experimental, no published proof"
"""What every surface says of the VOLE engine."""

LIST_ON_CURVE: Final = 20e-6
"""Seconds for an identifier of the list by POPRF: to blind, evaluate, prove, verify and unblind it."""
POINT_ON_CURVE: Final = 12e-6
"""Seconds for an enrolled identifier in a set exchange: to give its point back, and to check that."""
FETCHED_TAG: Final = 0.1e-6
"""Seconds for an enrolled identifier whose tag is fetched, and not cached."""
BY_VOLE: Final = 0.8e-6
"""Seconds for an identifier of either list by VOLE."""
VOLE_START: Final = 0.05
"""Seconds of a match by VOLE of two empty lists: base transfers, extension, trees, and more round trips."""


class MatchEngine(StrEnum):
    """What a session is computed with, as its grant says."""

    OPRF = "oprf"
    """The POPRF, or the set exchange under a noisy disclosure."""
    VOLE = "vole"
    """The VOLE engine."""


class EngineChoice(StrEnum):
    """What the advertiser asks for."""

    OPRF = "oprf"
    VOLE = "vole"
    AUTO = "auto"
    """VOLE where the agreement allows it, both sides have it, and it is cheaper; else the other one."""


ENGINES_OF_CHOICE: Final = {
    EngineChoice.OPRF: frozenset({MatchEngine.OPRF}),
    EngineChoice.VOLE: frozenset({MatchEngine.VOLE}),
    EngineChoice.AUTO: frozenset(MatchEngine),
}
"""What a session may be computed with that was asked for so."""


def is_cheaper(list_size: int, enrolled: int, cached: int, *, noisy: bool) -> bool:
    """Whether a match is cheaper by VOLE than on the curve.

    By POPRF every identifier of the list is worked on, and the tags that are not cached are fetched; in a
    set exchange both whole lists are worked on. By VOLE both whole lists are, much faster, and nothing can
    be cached. So a short list against a large index that is cached is better off on the curve.

    Args:
        list_size: distinct identifiers in the list.
        enrolled: identifiers in the generation.
        cached: tags, or points, that the advertiser has kept of earlier generations.
        noisy: whether the other way is the set exchange.
    """
    curve = LIST_ON_CURVE * list_size + FETCHED_TAG * max(0, enrolled - cached)
    if noisy:
        curve += POINT_ON_CURVE * enrolled
    return VOLE_START + BY_VOLE * (list_size + enrolled) < curve
