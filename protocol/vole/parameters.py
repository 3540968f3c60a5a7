"""All sizes of one match by the VOLE engine, computed from the two declared sizes by one function.

Statement: `parameters(n_receiver, n_sender)` fixes everything that either side may know beforehand: the bits
of a value, the code, the slots of the key-value store, and the length of every message. Nothing of it can be
set by a user, and nothing depends on what is in the lists, so the sizes on the wire tell the declared sizes
and no more.

Where the numbers come from:

* A value has l >= 40 + log2(n_receiver) + log2(n_sender) bits, so that a false match has a probability of
  about 2^-40 (RR22, ePrint 2022/320); never fewer than 80, and whole bytes.
* Trees of depth k = 5 and a code of distance d = 26, so that k * d = 130 >= 128: a difference of values
  touches that many unknown bits of the sender's secret (SoftSpokenOT, ePrint 2022/192, with the code of OOS,
  ePrint 2016/933). The step from there to 128 bits a slot, and the bound of 122 bits of entropy after it,
  are the authors' own argument.
* The store has m = 1.1 n + 256 slots and bands of 256 bits (RB-OKVS, ePrint 2023/903): measurements at 2^20
  and up to 88 bits, extrapolated, give a failure of the encoding about every 2^50 matches.

Semi-honest, experimental, no published proof.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

from purposematch.protocol.errors import LimitError
from purposematch.protocol.vole.code import check_bits

__all__ = [
    "BAND",
    "BASE_TRANSFERS",
    "BLOCK",
    "CHUNK_COLUMNS",
    "CHUNK_OUTPUTS",
    "COLUMN",
    "DIGEST",
    "DISTANCE",
    "LEAVES",
    "MAX_CHUNK",
    "MAX_LABEL",
    "MAX_RECEIVER",
    "MAX_SENDER",
    "NONCE_LENGTH",
    "TREE_DEPTH",
    "Message",
    "Parameters",
    "Role",
    "parameters",
]

BLOCK: Final = 16
"""Bytes of a block: a node of a tree, a slot after compression, an AES block."""
BASE_TRANSFERS: Final = 128
"""Base oblivious transfers, which is the computational security in bits."""
STATISTICAL: Final = 40
"""A false match or a failure has a probability of about 2 to the minus this."""
TREE_DEPTH: Final = 5
"""k: levels of a tree, bits of one symbol of the sender's secret."""
LEAVES: Final = 1 << TREE_DEPTH
"""Leaves of a tree."""
DISTANCE: Final = 26
"""d: the minimum distance of the code; TREE_DEPTH * DISTANCE is at least 128."""
BAND: Final = 256
"""w: bits of a row of the key-value store."""
COLUMN: Final = 512
"""Slots that are computed together; corrections come in whole columns."""
NONCE_LENGTH: Final = 32
"""Random bytes that either side adds to what the session's keys are derived from."""
ELEMENT: Final = 32
"""Bytes of an encoded element of ristretto255."""
DIGEST: Final = 32
"""Bytes of a digest of the transcript."""
MIN_VALUE_BITS: Final = 80
MAX_RECEIVER: Final = 1 << 24
"""Items of the receiver at most."""
MAX_SENDER: Final = 1 << 32
"""Items of the sender at most; with 2^24 of the receiver, values have 96 bits, the most there are."""
MAX_CHUNK: Final = 1 << 20
"""Bytes of one chunk at most."""
CHUNK_COLUMNS: Final = 64
"""Columns whose corrections are one chunk."""
CHUNK_OUTPUTS: Final = 65_536
"""Outputs that are one chunk."""
MAX_LABEL: Final = 32
"""Bytes of a label at most."""


class Role(Enum):
    """Which of the two somebody is."""

    RECEIVER = "receiver"
    SENDER = "sender"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the exchange: who sends it, and how it is cut.

    Attributes:
        name: for texts of errors, and for people.
        speaker: who sends it.
        length: its bytes; 0 for a message that is left out.
        chunk: bytes of every chunk but the last, which has what is left.
    """

    name: str
    speaker: Role
    length: int
    chunk: int

    @property
    def chunks(self) -> int:
        """How many chunks it has."""
        return -(-self.length // self.chunk)

    def chunk_length(self, index: int) -> int:
        """Bytes of the chunk of this index, from 0."""
        return min(self.chunk, self.length - index * self.chunk)


@dataclass(frozen=True)
class Parameters:
    """The sizes of one match; made by `parameters`.

    Attributes:
        n_receiver: items that the receiver declares.
        n_sender: items that the sender declares.
        label_length: bytes of a label of the sender's items; 0 where they have none, see `labels`.
    """

    n_receiver: int
    n_sender: int
    label_length: int = 0

    @cached_property
    def value_length(self) -> int:
        """Bytes of a value of the store and of an output: 10 to 12."""
        bits = STATISTICAL + _log2_up(self.n_receiver) + _log2_up(self.n_sender)
        return -(-max(bits, MIN_VALUE_BITS) // 8)

    @property
    def value_bits(self) -> int:
        """l: the bits of a value."""
        return 8 * self.value_length

    @cached_property
    def code_length(self) -> int:
        """n_C: the bits of a code word, and the number of trees."""
        return self.value_bits + check_bits(DISTANCE)

    @property
    def slots(self) -> int:
        """m: the slots of the store."""
        return self.n_receiver + -(-self.n_receiver // 10) + BAND

    @property
    def columns(self) -> int:
        """Columns of `COLUMN` slots, the last one filled up."""
        return -(-self.slots // COLUMN)

    @property
    def transfers(self) -> int:
        """Oblivious transfers that the trees take, one a level."""
        return TREE_DEPTH * self.code_length

    @property
    def extended(self) -> int:
        """The same, rounded up to whole blocks: what the extension makes."""
        return -(-self.transfers // BASE_TRANSFERS) * BASE_TRANSFERS

    @property
    def column_length(self) -> int:
        """Bytes of the corrections of a column."""
        return self.code_length * COLUMN // 8

    @property
    def labels_of_a_chunk(self) -> int:
        """Labels that are one chunk; only where there are any."""
        return MAX_CHUNK // self.label_length

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """All messages, in the order in which they are sent; both sides know them beforehand."""
        sender, receiver, width = Role.SENDER, Role.RECEIVER, self.label_length
        bits = BASE_TRANSFERS * self.extended // 8
        trees = 2 * BLOCK * self.transfers
        corrections = self.columns * self.column_length
        labels = []
        if width:
            labels = [Message("labels", sender, self.n_sender * width, self.labels_of_a_chunk * width)]
        return (
            Message("opening", sender, NONCE_LENGTH + ELEMENT, MAX_CHUNK),
            Message("choices", receiver, NONCE_LENGTH + BASE_TRANSFERS * ELEMENT, MAX_CHUNK),
            Message("extension", sender, bits, MAX_CHUNK),
            Message("trees", receiver, trees, MAX_CHUNK),
            Message("corrections", receiver, corrections, CHUNK_COLUMNS * self.column_length),
            Message("outputs", sender, self.n_sender * self.value_length, CHUNK_OUTPUTS * self.value_length),
            *labels,
            Message("closing", sender, DIGEST, MAX_CHUNK),
            Message("confirmation", receiver, DIGEST, MAX_CHUNK),
        )

    def bytes_from(self, role: Role) -> int:
        """Bytes of all that a side sends, without any framing."""
        return sum(message.length for message in self.messages if message.speaker is role)

    def chunks_from(self, role: Role) -> int:
        """Chunks of all that a side sends."""
        return sum(message.chunks for message in self.messages if message.speaker is role)


def parameters(n_receiver: int, n_sender: int, label_length: int = 0) -> Parameters:
    """The parameters of a match of lists of these declared sizes.

    Args:
        n_receiver: items of the receiver, 0 to `MAX_RECEIVER`.
        n_sender: items of the sender, 0 to `MAX_SENDER`.
        label_length: bytes of a label, 0 to `MAX_LABEL`; 0 for none.

    Raises:
        LimitError: a size is out of range.
    """
    if not 0 <= n_receiver <= MAX_RECEIVER:
        raise LimitError(f"the receiver of a match by VOLE has at most {MAX_RECEIVER} items")
    if not 0 <= n_sender <= MAX_SENDER:
        raise LimitError(f"the sender of a match by VOLE has at most {MAX_SENDER} items")
    if not 0 <= label_length <= MAX_LABEL:
        raise LimitError(f"a label has at most {MAX_LABEL} bytes")
    return Parameters(n_receiver, n_sender, label_length)


def _log2_up(count: int) -> int:
    return max(count - 1, 0).bit_length()
