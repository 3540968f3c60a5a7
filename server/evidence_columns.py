"""Reads the evidence columns of a file, and judges what they hold.

Source: docs/gate.md, *Evidence*. The columns are `issuer`, `collected_at`, `evidence_salt` and
`evidence_signature`, all optional. A row with a salt and no signature belongs to the batch whose one
signature came in a file of its own. Whatever can not be read makes the evidence of its row INVALID, nothing
worse: refusals do not need any.

Not protected against: time that is spent on signatures that do not hold. A file is enrolled by the platform's
own people.
"""

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.assertions import Terms
from purposematch.protocol.delivery import EVIDENCE_COLUMNS
from purposematch.protocol.errors import DecodeError, InputError, VerificationError
from purposematch.protocol.evidence import (
    MAX_BATCH_FILE_BYTES,
    BatchEvidence,
)
from purposematch.protocol.evidence_bytes import SALT_LENGTH, EvidenceColumns, evidence_bytes
from purposematch.protocol.evidence_checks import verify_batch, verify_signatures
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.issuers import Issuer
from purposematch.protocol.log.tree import string_leaf_hashes
from purposematch.protocol.purpose import Evidence
from purposematch.protocol.signing import SIGNATURE_LENGTH
from purposematch.server.registry.evidence import EvidenceRows
from purposematch.server.times import read_times

__all__ = ["EVIDENCE_COLUMNS", "UNKNOWN_ISSUER", "EvidenceCells", "EvidenceReader", "read_batch_evidence"]

UNKNOWN_ISSUER: Final = "?"
"""Stored in place of a name that the policy does not list: a shifted column may hold an identifier there."""

# The value of every ASCII hexadecimal digit; 0xFF for every other byte.
_NIBBLES: Final = np.full(256, 0xFF, np.uint8)
for _digit in "0123456789abcdefABCDEF":
    _NIBBLES[ord(_digit)] = int(_digit, 16)


@dataclass(frozen=True, eq=False)
class EvidenceCells:
    """What the evidence columns of n rows hold.

    Attributes:
        issuer: (n,) strings: a name of the policy, `UNKNOWN_ISSUER`, or empty.
        collected_at: (n,) int64, microseconds since 1970-01-01 UTC.
        salts: (n, 16) uint8.
        signatures: (n, 64) uint8.
        given: (n,) bool, there is a salt or a signature, readable or not.
        readable: (n,) bool, everything can be read; a signature may be empty.
        signed: (n,) bool, there is a signature.
    """

    issuer: pa.StringArray
    collected_at: NDArray[np.int64]
    salts: NDArray[np.uint8] = field(repr=False)
    signatures: NDArray[np.uint8] = field(repr=False)
    given: NDArray[np.bool_]
    readable: NDArray[np.bool_]
    signed: NDArray[np.bool_]


def read_batch_evidence(path: Path) -> BatchEvidence:
    """Reads the evidence file of a batch.

    Raises:
        InputError: the file can not be read, or is none.
    """
    try:
        with path.open("rb") as file:
            return BatchEvidence.from_bytes(file.read(MAX_BATCH_FILE_BYTES + 1))
    except OSError as error:
        raise InputError(f"the evidence file {path} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise InputError(f"{path}: {error}") from None


class EvidenceReader:
    """Reads and judges the evidence of one file, batch by batch, and then the file as a whole."""

    def __init__(
        self,
        platform_id: str,
        profile: Profile,
        issuers: Mapping[str, Issuer],
        batch: BatchEvidence | None = None,
    ) -> None:
        """Starts before the first row.

        Args:
            platform_id: of this platform.
            profile: the scope's profile.
            issuers: as the policy lists them.
            batch: the evidence that came for the whole file, if any did.
        """
        self._platform_id = platform_id
        self._profile = profile
        self._issuers = issuers
        self._batch = batch
        self._names = list(issuers)
        self._outcomes: list[NDArray[np.uint8]] = []
        self._stored: list[EvidenceRows] = []
        self._leaves: list[NDArray[np.uint8]] = [np.zeros((0, 32), np.uint8)]
        self._in_batch: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self._rows_before = 0

    def cells(self, columns: Mapping[str, pa.StringArray], count: int) -> EvidenceCells:
        """Reads the evidence columns of the next `count` rows.

        Args:
            columns: those that the file has, as texts without nulls and without white space around them.
            count: of rows.
        """
        empty = pa.repeat("", count)
        issuer, collected_at, salt, signature = (columns.get(name, empty) for name in EVIDENCE_COLUMNS)
        times, _ = read_times(collected_at)
        has_time = pc.not_equal(collected_at, "").to_numpy(zero_copy_only=False)
        salts, has_salt = _read_bytes(salt, SALT_LENGTH)
        signatures, has_signature = _read_bytes(signature, SIGNATURE_LENGTH)
        signed = pc.not_equal(signature, "").to_numpy(zero_copy_only=False)
        given = signed | pc.not_equal(salt, "").to_numpy(zero_copy_only=False)
        readable = has_salt & has_time & (times > np.iinfo(np.int64).min) & (has_signature | ~signed)
        if self._batch is not None:
            unsigned = pa.array(given & ~signed)
            issuer = pc.if_else(pc.and_(unsigned, pc.equal(issuer, "")), self._batch.issuer, issuer)
        return EvidenceCells(self._known(issuer), times, salts, signatures, given, readable, signed)

    def judge(self, cells: EvidenceCells, about: EvidenceColumns, signable: NDArray[np.bool_]) -> None:
        """Judges the rows of `cells`, which follow those judged before.

        Args:
            cells: what the columns hold.
            about: what else the rows say; its times and salts are those of `cells`.
            signable: (n,) bool, a signature may hold for the row: it has a digest under the scope's profile.
        """
        outcome = np.full(len(signable), Evidence.NONE, np.uint8)
        outcome[cells.given] = Evidence.INVALID
        usable = np.flatnonzero(cells.given & cells.readable & signable)
        if len(usable):
            messages = evidence_bytes(self._platform_id, self._profile, _taken(about, usable))
            self._judge_signed(cells, usable, messages, outcome)
            self._collect_leaves(cells, usable, messages)
            self._stored.append(
                EvidenceRows(
                    rows=usable + self._rows_before,
                    collected_at=cells.collected_at[usable],
                    salts=cells.salts[usable],
                    signatures=cells.signatures[usable],
                    signed=cells.signed[usable],
                )
            )
        outcome[cells.given & _equals(cells.issuer, UNKNOWN_ISSUER)] = Evidence.UNAUTHORIZED
        self._outcomes.append(outcome)
        self._rows_before += len(signable)

    def conclude(
        self, terms: NDArray[np.int64], terms_table: Sequence[Terms], now: int
    ) -> tuple[NDArray[np.uint8], list[EvidenceRows]]:
        """What became of the evidence of all rows, (n,) uint8, and what is to be stored of it.

        Args:
            terms: (n,) int64, positions in `terms_table`.
            terms_table: the distinct terms.
            now: the time of receipt, microseconds since 1970-01-01 UTC.
        """
        outcome = np.concatenate([np.zeros(0, np.uint8), *self._outcomes])
        if self._batch is not None and self._batch.issuer in self._issuers:
            key = self._issuers[self._batch.issuer].key
            try:
                verify_batch(key, self._platform_id, self._batch, np.concatenate(self._leaves))
                outcome[np.concatenate(self._in_batch)] = Evidence.VALID
            except VerificationError:
                # The rows stay INVALID, and the report counts them; a refusal among them acts all the same.
                pass
        expired = np.array([self._expired(each.issuer, now) for each in terms_table], bool)
        outcome[(outcome == Evidence.VALID) & expired[terms]] = Evidence.UNAUTHORIZED
        return outcome, self._stored

    def _judge_signed(
        self,
        cells: EvidenceCells,
        usable: NDArray[np.int64],
        messages: pa.BinaryArray,
        outcome: NDArray[np.uint8],
    ) -> None:
        known = pc.index_in(cells.issuer.take(pa.array(usable)), pa.array(self._names, pa.string()))
        key_of = known.fill_null(-1).to_numpy()
        places = np.flatnonzero(cells.signed[usable] & (key_of >= 0))
        if not len(places):
            return
        keys = [self._issuers[name].key for name in self._names]
        rows = usable[places]
        taken = messages.take(pa.array(places))
        holds = verify_signatures(keys, key_of[places], taken, cells.signatures[rows])
        outcome[rows[holds]] = Evidence.VALID

    def _collect_leaves(
        self, cells: EvidenceCells, usable: NDArray[np.int64], messages: pa.BinaryArray
    ) -> None:
        if self._batch is None:
            return
        written = messages.is_valid().to_numpy(zero_copy_only=False)
        mine = _equals(cells.issuer, self._batch.issuer)[usable]
        places = np.flatnonzero(~cells.signed[usable] & mine & written)
        self._leaves.append(string_leaf_hashes(messages.take(pa.array(places))))
        self._in_batch.append(usable[places] + self._rows_before)

    def _known(self, issuer: pa.StringArray) -> pa.StringArray:
        known = pc.is_in(issuer, pa.array([*self._names, ""], pa.string()))
        return pc.if_else(known, issuer, UNKNOWN_ISSUER)

    def _expired(self, name: str, now: int) -> bool:
        issuer = self._issuers.get(name)
        return issuer is not None and issuer.expires_at is not None and issuer.expires_at <= now


def _taken(about: EvidenceColumns, rows: NDArray[np.int64]) -> EvidenceColumns:
    if len(rows) == len(about.kind):
        return about
    positions = pa.array(rows)
    return replace(
        about,
        subject=about.subject.take(positions),
        kind=about.kind[rows],
        digests=about.digests[rows],
        terms=about.terms[rows],
        notice=about.notice.take(positions),
        collected_at=about.collected_at[rows],
        salts=about.salts[rows],
    )


def _read_bytes(texts: pa.StringArray, length: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Byte strings of `length` in hexadecimal or base64: (n, length) uint8, and which could be read."""
    read = np.zeros((len(texts), length), np.uint8)
    sizes = pc.binary_length(texts).to_numpy()
    hexadecimal = np.flatnonzero(sizes == 2 * length)
    if len(hexadecimal):
        _, offsets, content = texts.buffers()
        starts = np.frombuffer(offsets, np.int32, len(texts), 4 * texts.offset)[hexadecimal]
        digits = np.frombuffer(content, np.uint8)[
            starts[:, np.newaxis] + np.arange(2 * length, dtype=np.int32)
        ]
        nibbles = _NIBBLES[digits]
        # Only hexadecimal digits have no bit above the lowest four.
        good = (nibbles <= 0x0F).all(axis=1)
        hexadecimal, nibbles = hexadecimal[good], nibbles[good]
        read[hexadecimal] = nibbles[:, 0::2] << 4 | nibbles[:, 1::2]
    readable = np.zeros(len(texts), bool)
    readable[hexadecimal] = True
    for row in np.flatnonzero(sizes == 4 * -(-length // 3)).tolist():
        text = texts[row].as_py()
        try:
            content = binascii.a2b_base64(text.encode(), strict_mode=True)
        except binascii.Error:
            continue
        if len(content) == length:
            read[row] = np.frombuffer(content, np.uint8)
            readable[row] = True
    return read, readable


def _equals(texts: pa.StringArray, word: str) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = pc.equal(texts, word).to_numpy(zero_copy_only=False)
    return equal
