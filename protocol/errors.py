"""The errors of purposematch, one small tree.

::

    PurposematchError
    ├── InputError            what the caller gave cannot be used: a file, an option, a value
    │   ├── TableError        a table file cannot be read or written
    │   ├── IdentifierError   one raw value has no canonical form; carries its reason
    │   ├── PolicyError       a policy is refused
    │   └── ConfigurationError  a data directory, credentials folder or key is missing or wrong
    ├── PeerError             the other side of the wire sent something that must not be accepted
    │   ├── DecodeError       bytes are not the canonical encoding of anything
    │   ├── VerificationError a proof, signature, digest, MAC or canary does not hold
    │   │   └── ForkError     two checkpoints that the platform signed contradict each other
    │   ├── StateError        a message that this state of the session does not allow
    │   └── LimitError        a message is larger, or a count higher, than agreed
    ├── RefusedError          the platform declined: list too small, another agreement; says why
    │   ├── NotAuthenticatedError  nobody that the platform knows
    │   ├── NotAuthorizedError     somebody who may not do this
    │   ├── NotFoundError          no such session, segment or commit
    │   └── QuotaError             the agreement's quota is used up; says when it returns
    │       └── BudgetError        the budget for noisy counts is spent; says when it returns
    ├── UnavailableError      the platform cannot be reached or is not ready; try again later
    │   ├── BusyError         the platform serves as many as it can; says when to try again
    │   └── BrokenOffError    a session broke off and can be resumed
    │       └── OutcomeUnknownError  the same, and the platform may have stored its commit
    └── IntegrityError        our own stored data is damaged or was altered

A failing check raises; nothing returns False. A parser of untrusted bytes raises nothing outside this
tree. Texts never hold an identifier, a digest, a tag or a key.
"""

__all__ = [
    "BrokenOffError",
    "BudgetError",
    "BusyError",
    "ConfigurationError",
    "DecodeError",
    "ForkError",
    "IdentifierError",
    "InputError",
    "IntegrityError",
    "LimitError",
    "NotAuthenticatedError",
    "NotAuthorizedError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PeerError",
    "PolicyError",
    "PurposematchError",
    "QuotaError",
    "RefusedError",
    "StateError",
    "TableError",
    "UnavailableError",
    "VerificationError",
]


class PurposematchError(Exception):
    """Base class of every error that purposematch raises on purpose."""


class InputError(PurposematchError):
    """What the caller gave cannot be used."""


class TableError(InputError):
    """A table file cannot be read or written."""


class IdentifierError(InputError):
    """A raw value has no canonical form.

    Attributes:
        reason: the `IdentifierReason` that says why, an IntEnum member.
    """

    def __init__(self, reason: int) -> None:
        super().__init__(getattr(reason, "name", str(reason)))
        self.reason = reason


class PolicyError(InputError):
    """A policy is refused when it is loaded."""


class ConfigurationError(InputError):
    """A data directory, credentials folder, key or setting is missing or wrong."""


class PeerError(PurposematchError):
    """The other side sent something that must not be accepted."""


class DecodeError(PeerError):
    """Bytes are not the canonical encoding of what they should be."""


class VerificationError(PeerError):
    """A proof, signature, digest, MAC or canary does not hold."""


class ForkError(VerificationError):
    """The platform's log forked: it does not extend what the platform showed and signed before."""


class StateError(PeerError):
    """A message arrived that the session's state does not allow.

    Attributes:
        found: what arrived.
        expected: what the state allows.
    """

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"found {found}, expected {expected}")
        self.found = found
        self.expected = expected


class LimitError(PeerError):
    """A message is larger, or a count higher, than what was agreed."""


class RefusedError(PurposematchError):
    """The platform declined to serve, for a reason that it may tell its peer: the text is sent to it."""


class NotAuthenticatedError(RefusedError):
    """The peer showed no certificate that the platform knows."""


class NotAuthorizedError(RefusedError):
    """The peer's role, or the owner of a session, does not allow this."""


class NotFoundError(RefusedError):
    """There is no such session, segment or commit."""


class QuotaError(RefusedError):
    """What the agreement allows is used up for now.

    Attributes:
        retry_seconds: seconds until the same request may be admitted.
    """

    def __init__(self, text: str, retry_seconds: int) -> None:
        super().__init__(text)
        self.retry_seconds = retry_seconds


class BudgetError(QuotaError):
    """The budget for noisy counts, of the legal entity or of the scope, is spent for now."""


class UnavailableError(PurposematchError):
    """The platform cannot be reached or is not ready; trying again later may help."""


class BusyError(UnavailableError):
    """The platform serves as many as it can at the moment.

    Attributes:
        retry_seconds: seconds until it is worth to try again.
    """

    def __init__(self, text: str, retry_seconds: int) -> None:
        super().__init__(text)
        self.retry_seconds = retry_seconds


class BrokenOffError(UnavailableError):
    """A session broke off before its end and can be resumed.

    Attributes:
        session: its id, 32 hexadecimal digits.
    """

    def __init__(self, text: str, session: str) -> None:
        super().__init__(text)
        self.session = session


class OutcomeUnknownError(BrokenOffError):
    """A session broke off when it was to be committed: only the platform knows whether it stored that."""


class IntegrityError(PurposematchError):
    """Our own stored data is damaged, or was altered behind our back."""
