"""The leak sheet: in plain words, who learns what under an agreement.

It is printed from the agreement before it is accepted and before every session, so that nobody finds out
afterwards what a disclosure gave away.

Not protected against: everything that the sheet itself lists under "not protected".
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.delegation import OnBehalf
from purposematch.protocol.epsilon import EPSILON_ONE, epsilon_text
from purposematch.protocol.match_engine import EXPERIMENTAL

__all__ = ["expiry_text", "leak_sheet", "who_learns"]

EPOCH_DAYS: Final = 30
"""The longest life of a key epoch, in days."""

_ENROLLED_NUMBER: Final = "how many identifiers the platform has enrolled for this purpose"
_WHICH_ROWS: Final = (
    "which rows of its list match, now and in every later generation of the key epoch (at most 30 days), "
    "without asking again"
)

_ADVERTISER_LEARNS: Final = {
    Disclosure.BOTH: (_WHICH_ROWS, _ENROLLED_NUMBER),
    Disclosure.ADVERTISER: (_WHICH_ROWS, _ENROLLED_NUMBER),
    Disclosure.PLATFORM: (_ENROLLED_NUMBER,),
    Disclosure.COUNT: (_ENROLLED_NUMBER,),
}

_UNITS: Final = {
    Disclosure.PLATFORM: "the subjects (people) who match",
    Disclosure.COUNT: "the identifiers that match, at most {most} of a subject (person)",
}

_PLATFORM_LEARNS: Final = {
    Disclosure.BOTH: (
        "the subjects (people) behind the tags that the advertiser commits, one tag for each match; it keeps "
        "them as an audience",
    ),
    Disclosure.ADVERTISER: (),
    Disclosure.PLATFORM: ("which of its subjects (people) match; it keeps them as an audience",),
    Disclosure.COUNT: ("the exact count of the identifiers that match, not which",),
}

_HIDDEN: Final = "Stays hidden"
_FROM_THE_HONEST: Final = ", by VOLE only from a side that does not cheat"

_ALWAYS_OPEN: Final = (
    "Sizes: the size of the list and the enrolled number are shown, not hidden.",
    "Omission: the platform is trusted to publish everybody the gate permits. Proofs show that one key was "
    "used for everything; they do not show that nobody was left out.",
)
_GUESSING: Final = (
    "Guessing: an advertiser can put invented identifiers on its list to find out {found}: under this "
    "agreement {day} a day at most, {epoch} in a key epoch (30 days). The smallest list size does not bound "
    "it."
)
_UNBOUNDED: Final = " Nothing of this holds for one that cheats by VOLE, see Experimental."
_WHICH_ENROLLED: Final = "which of them are enrolled"
_HOW_MANY_ENROLLED: Final = "how many of them are enrolled, within the noise"
_REPETITION: Final = (
    "Repetition: counts of lists that differ in one row can tell about that row; noise bounds how much."
)
_NOISE: Final = (
    "a noisy count of {unit}, not which rows: below 100 it is told only that it is, above in tens. The noise "
    "has scale {scale} (epsilon {epsilon}); in 95 of 100 counts it is less than {most}"
)
_ONE_EXPONENT: Final = (
    "Honest platform: the platform is trusted to use one secret for its whole list. With a secret for each "
    "identifier it could tell which of them match."
)
_INVENTED: Final = (
    "Invented entries: the platform can publish identifiers that nobody enrolled, and find out whether they "
    "match, too. What it publishes it signs, with their number, and every advertiser gets the same."
)
_BUDGET: Final = (
    "Budget: every new count costs epsilon {epsilon} of what legal entity {entity} has; once it is spent, "
    "nothing is answered until it returns. The same list on the same generation costs nothing again."
)
_EXPERIMENTAL: Final = (
    f"Experimental: sessions may be matched by the VOLE engine, which is {EXPERIMENTAL}: it protects from a "
    "side that runs what it should, and from no other. {cheats} Either side, if it cheats, can cause wrong "
    "results, and nothing proves that the platform used the list that it published."
)
_ADVERTISER_CHEATS: Final = (
    "An advertiser that cheats can find out in one session of any identifier that it can think of, such as "
    "every phone number, whether it is enrolled: neither the size of its list nor its quota bounds that."
)
_PLATFORM_CHEATS: Final = (
    "A platform that cheats can find out of any identifier that it can think of whether it is on the list."
)
_AGAIN: Final = (
    "Again: a match by VOLE that breaks off is made anew. When the platform had begun to send what results "
    "follow from, that counts as another list against the quota: else it would be a way to guess for free."
)
_MEMORY: Final = (
    "Memory: the advertiser keeps what it learned. `purposematch removals` takes people who leave out of "
    "stored results, and shows which of its rows they were; copies made elsewhere stay."
)
_OPEN: Final = {
    Disclosure.BOTH: (
        "Later use: the platform sees from the ads it then shows who of the audience reacted.",
        _INVENTED,
        _MEMORY,
    ),
    Disclosure.ADVERTISER: (
        "Later use: the platform sees who matched as soon as the advertiser uses the result there, by a "
        "campaign or by leaving people out of one.",
        _MEMORY,
    ),
    Disclosure.PLATFORM: (
        "Later use: the advertiser may learn who is in the audience when a person reacts to an ad.",
        _INVENTED,
        _REPETITION,
    ),
    Disclosure.COUNT: (_INVENTED, _REPETITION, _ONE_EXPONENT),
}


def expiry_text(agreement: Agreement) -> str:
    """When an agreement ends, in UTC, to the second."""
    return _moment_text(agreement.expires_at)


def _moment_text(time: int) -> str:
    end = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)
    return f"{end:%Y-%m-%d %H:%M:%S} UTC".replace(" 00:00:00 UTC", "")


def who_learns(agreement: Agreement, list_size: int | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the advertiser and what the platform learns in a session, in plain words.

    Args:
        agreement: that the session runs under.
        list_size: the distinct identifiers in the list, or None if they are not counted yet.
    """
    size = "the size of the list, in distinct identifiers"
    if list_size is not None:
        size += f": {list_size:,}"
    disclosure = agreement.disclosure
    return (
        (*_noise(agreement), *_ADVERTISER_LEARNS[disclosure]),
        (*_PLATFORM_LEARNS[disclosure], size),
    )


def leak_sheet(agreement: Agreement, list_size: int | None, on_behalf: OnBehalf | None = None) -> str:
    """What a session under `agreement` gives away, in plain words, several lines without a final newline.

    Args:
        agreement: the agreement that the session runs under.
        list_size: the distinct identifiers in the list, or None if they are not counted yet.
        on_behalf: for whom a partner brings which list; None where the advertiser brings it.
    """
    advertiser_learns, platform_learns = who_learns(agreement, list_size)
    disclosure = agreement.disclosure
    unmatched = "identifiers of the list that do not match"
    if disclosure in (Disclosure.ADVERTISER, Disclosure.COUNT):
        unmatched = "identifiers of the list, matching or not"
    guesses = agreement.daily_guesses
    guessing = _GUESSING.format(
        found=_HOW_MANY_ENROLLED if disclosure.noisy else _WHICH_ENROLLED,
        day=f"{guesses:,}",
        epoch=f"{guesses * EPOCH_DAYS:,}",
    )
    if agreement.allow_experimental and not disclosure.noisy:
        guessing += _UNBOUNDED
    sections = [
        (f"The advertiser ({agreement.advertiser}) learns", advertiser_learns),
        (f"The platform ({agreement.platform_id}) learns", platform_learns),
        (
            _HIDDEN + (_FROM_THE_HONEST if agreement.allow_experimental else ""),
            (
                f"from the platform: the {unmatched}",
                "from the advertiser: every enrolled identifier that is not on its list",
                "from the advertiser: whether somebody is unknown to the platform or gave no permission",
            ),
        ),
        (
            "Not protected",
            (*_ALWAYS_OPEN, guessing, *_OPEN[disclosure], *_budget(agreement), *_experimental(agreement)),
        ),
    ]
    lines = [
        "What this match gives away",
        f"  purpose {agreement.purpose}, disclosure {disclosure.value}",
        f"  legal entity {agreement.legal_entity}",
        f"  agreement {agreement.number}, until {expiry_text(agreement)}; lists of "
        f"{agreement.min_list_elements:,} to {agreement.max_list_elements:,} identifiers",
        f"  each day (UTC) {agreement.daily_elements:,} identifiers in {agreement.daily_sessions:,} "
        f"sessions, {agreement.concurrent_sessions:,} at a time",
    ]
    if agreement.allow_experimental:
        lines.append(f"  the VOLE engine is allowed: {EXPERIMENTAL}")
    if on_behalf is not None:
        sections.insert(1, _partner(on_behalf))
    for heading, points in sections:
        lines.append(heading)
        lines.extend(f"  - {point}" for point in points)
    return "\n".join(lines)


def _partner(on_behalf: OnBehalf) -> tuple[str, tuple[str, ...]]:
    delegation = on_behalf.delegation
    return (
        f"A partner ({delegation.partner}) brings the list {on_behalf.list_name} for {delegation.advertiser}",
        (
            f"under delegation {delegation.number}, until {_moment_text(delegation.expires_at)}; lists of at "
            f"most {delegation.max_list_elements:,} identifiers",
            "the partner learns what the advertiser learns, and has the list itself",
            "the platform learns who brought the list, and for whom; quotas are the advertiser's",
        ),
    )


def _noise(agreement: Agreement) -> tuple[str, ...]:
    """What the advertiser learns through noise, if anything."""
    epsilon = agreement.release_epsilon
    if epsilon is None:
        return ()
    scale = agreement.sensitivity * EPSILON_ONE / epsilon
    unit = _UNITS[agreement.disclosure].format(most=agreement.identifiers_per_subject)
    # A two-sided exponential is beyond scale * ln 20 with probability 1/20.
    most = math.ceil(scale * math.log(20)) + 1
    return (_NOISE.format(unit=unit, scale=f"{scale:.4g}", epsilon=epsilon_text(epsilon), most=most),)


def _experimental(agreement: Agreement) -> tuple[str, ...]:
    if not agreement.allow_experimental:
        return ()
    cheats = _PLATFORM_CHEATS if agreement.disclosure.noisy else _ADVERTISER_CHEATS
    points = [_EXPERIMENTAL.format(cheats=cheats)]
    if not agreement.disclosure.noisy:
        points.append(_AGAIN)
    return tuple(points)


def _budget(agreement: Agreement) -> tuple[str, ...]:
    if agreement.release_epsilon is None:
        return ()
    epsilon = epsilon_text(agreement.release_epsilon)
    return (_BUDGET.format(epsilon=epsilon, entity=agreement.legal_entity),)
