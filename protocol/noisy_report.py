"""The platform's signed answer under a noisy disclosure: a count with noise, and what it was paid with.

The order is fixed: noise first, then everything else on the noisy value alone. A value below
`REPORT_THRESHOLD` is told as that and nothing more, others in multiples of `REPORT_STEP`. The rate is what
the reported value says of the list's size. All of this follows from the noisy value, so it costs no epsilon;
and without the noise it would protect nobody, because at an edge of the rounding one person flips it.

Not protected against: repeated questions. Each one that is new is paid from the budget of its legal entity,
and that bounds them: see docs/noise.md.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from purposematch.protocol.agreement import (
    LARGEST_EPSILON,
    LARGEST_IDENTIFIERS_PER_SUBJECT,
    LEAST_EPSILON,
    Agreement,
    Disclosure,
    check_advertiser_name,
)
from purposematch.protocol.ciphersuite import NOISY_REPORT_DOMAIN
from purposematch.protocol.epsilon import EPSILON_ONE
from purposematch.protocol.errors import DecodeError, VerificationError
from purposematch.protocol.label import LABEL_LENGTH
from purposematch.protocol.manifest import GENERATION_ID_LENGTH
from purposematch.protocol.messages import SESSION_ID_LENGTH
from purposematch.protocol.signing import IdentitySeed, SignedDocument, open_document, sign_document
from purposematch.protocol.strict_json import Fields, decode_json

__all__ = [
    "REPORT_STEP",
    "REPORT_THRESHOLD",
    "NoisyReport",
    "Unit",
    "reported_value",
]

REPORT_THRESHOLD: Final = 100
"""Noisy values below it are reported as 0, which means: below it."""

REPORT_STEP: Final = 10
"""Other values are reported in multiples of it."""

LARGEST_PERCENT: Final = 85
"""Rates above it are reported as: over it."""

_MAX_BYTES: Final = 4_096
_MAX_VALUE: Final = 2**53
_FIELDS: Final = (
    *("agreement", "disclosure", "epsilon", "generation", "label", "legal_entity", "list_size", "policy"),
    *("released_at", "scale", "sensitivity", "session", "unit", "value"),
)


class Unit(StrEnum):
    """What a count counts."""

    SUBJECTS = "subjects"
    """People, each once: of `platform`."""
    IDENTIFIERS = "identifiers"
    """Identifiers, of each subject as many as were agreed on at most: of `count`."""

    @classmethod
    def of(cls, disclosure: Disclosure) -> Self:
        """The unit of a noisy disclosure."""
        return cls.SUBJECTS if disclosure is Disclosure.PLATFORM else cls.IDENTIFIERS


def reported_value(noisy: int) -> int:
    """What is told of a noisy count: 0 for everything below `REPORT_THRESHOLD`, else the nearest step."""
    if noisy < REPORT_THRESHOLD:
        return 0
    return (noisy + REPORT_STEP // 2) // REPORT_STEP * REPORT_STEP


@dataclass(frozen=True, slots=True)
class NoisyReport:
    """What the platform signs of a noisy count.

    Attributes:
        session: the id of the session that was answered first, 16 bytes.
        agreement: digest of the agreement that it ran under, 32 bytes.
        legal_entity: who paid.
        label: the client's name for its list, 32 bytes.
        generation: the id of the generation, 16 bytes.
        policy: digest of the policy under which the gate decided, 32 bytes.
        disclosure: `platform` or `count`.
        sensitivity: by how much one subject changes the count at most.
        epsilon: what it cost, in millionths.
        list_size: distinct identifiers in the list.
        value: as `reported_value` gives it.
        released_at: microseconds since 1970.
    """

    session: bytes
    agreement: bytes
    legal_entity: str
    label: bytes
    generation: bytes
    policy: bytes
    disclosure: Disclosure
    sensitivity: int
    epsilon: int
    list_size: int
    value: int
    released_at: int

    def __post_init__(self) -> None:
        """Checks what the fields must be together.

        Raises:
            DecodeError: the disclosure is not noisy, or has another sensitivity; or the value is none that is
                reported.
        """
        if not self.disclosure.noisy:
            raise DecodeError("a noisy report is of a disclosure that is not noisy")
        if self.disclosure is Disclosure.PLATFORM and self.sensitivity != 1:
            raise DecodeError("a noisy report of subjects has another sensitivity than 1")
        if self.value and reported_value(self.value) != self.value:
            raise DecodeError("the value of a noisy report is not rounded as it should be")

    @property
    def unit(self) -> Unit:
        """What is counted."""
        return Unit.of(self.disclosure)

    @property
    def scale(self) -> int:
        """The scale of the noise, in millionths, rounded up."""
        return -(-self.sensitivity * EPSILON_ONE**2 // self.epsilon)

    @property
    def count_text(self) -> str:
        """The count in words: `below 100`, or such as `1,230`."""
        return f"{self.value:,}" if self.value else f"below {REPORT_THRESHOLD}"

    @property
    def size_text(self) -> str:
        """Whether that is enough people to show an ad to, by the noisy value alone: nobody is told more."""
        return "enough" if self.value else "too small"

    @property
    def rate_text(self) -> str:
        """What the count is of the list's size, in whole percent; empty if the count is below 100."""
        if not self.value:
            return ""
        percent = (200 * self.value + self.list_size) // (2 * self.list_size)
        return f"{percent} %" if percent <= LARGEST_PERCENT else f"over {LARGEST_PERCENT} %"

    def check_answers(self, agreement: Agreement, label: bytes, generation: bytes) -> None:
        """Checks that it is the answer to a question; the one that was stored first may be an earlier one's.

        Args:
            agreement: under which it was asked.
            label: of the list, 32 bytes.
            generation: the id of the session's generation, 16 bytes.

        Raises:
            VerificationError: it answers another question.
        """
        asked = (agreement.legal_entity, agreement.disclosure, label, generation)
        if (self.legal_entity, self.disclosure, self.label, self.generation) != asked:
            raise VerificationError("the noisy report answers another question than was asked")

    def sign(self, seed: IdentitySeed) -> SignedDocument:
        """Signs it with the platform's identity key."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        plain = {name: each.hex() if isinstance(each, bytes) else each for name, each in fields.items()}
        return sign_document(seed, NOISY_REPORT_DOMAIN, plain)

    @classmethod
    def open(cls, document: SignedDocument, public_key: bytes) -> Self:
        """Checks and parses a signed report.

        Raises:
            VerificationError: the signature does not hold.
            DecodeError: a field is missing, unknown or out of range.
        """
        return cls._from_value(open_document(public_key, NOISY_REPORT_DOMAIN, document, "noisy report"))

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Parses the content of a report that this side signed and stored itself.

        Raises:
            DecodeError: a field is missing, unknown or out of range.
        """
        return cls._from_value(decode_json(content, "noisy report", _MAX_BYTES))

    @classmethod
    def _from_value(cls, value: object) -> Self:
        fields = Fields(value, "noisy report", _FIELDS)
        legal_entity = fields.text("legal_entity")
        check_advertiser_name(legal_entity, "a legal entity's")
        report = cls(
            session=fields.hexadecimal("session", SESSION_ID_LENGTH),
            agreement=fields.hexadecimal("agreement", 32),
            legal_entity=legal_entity,
            label=fields.hexadecimal("label", LABEL_LENGTH),
            generation=fields.hexadecimal("generation", GENERATION_ID_LENGTH),
            policy=fields.hexadecimal("policy", 32),
            disclosure=fields.choice("disclosure", Disclosure),
            sensitivity=fields.integer("sensitivity", 1, LARGEST_IDENTIFIERS_PER_SUBJECT),
            epsilon=fields.integer("epsilon", LEAST_EPSILON, LARGEST_EPSILON),
            list_size=fields.integer("list_size", 1, _MAX_VALUE),
            value=fields.integer("value", 0, _MAX_VALUE),
            released_at=fields.integer("released_at", 0),
        )
        # What follows from the rest is told for whoever reads the document, and may say nothing else.
        if fields.choice("unit", Unit) is not report.unit or fields.integer("scale") != report.scale:
            raise DecodeError(
                "unit or scale of the noisy report do not follow from its disclosure and epsilon"
            )
        return report
