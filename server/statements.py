"""Reads the rows of a file of assertions into columns that the gate and the registry take.

Source: docs/gate.md, its first two rules and *Spellings*. A grant that is not understood grants nothing and
says why. A refusal is kept as far as it can be understood: without its identifier it is about the whole
subject, without a subject about the identifier, and without both it stops the file.

Raw values and digests leave this module only as keyed digests and as the digests that are sealed.

Not protected against: a file whose columns hold something else than their names say.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from purposematch.protocol.assertions import Terms
from purposematch.protocol.delivery import COLUMNS, OPTIONAL_COLUMNS
from purposematch.protocol.errors import InputError
from purposematch.protocol.evidence_bytes import EvidenceColumns
from purposematch.protocol.identifiers import (
    IdentifierReason,
    Kind,
    Profile,
    digest_prehashed,
    digest_raw,
    other_profile_digests,
)
from purposematch.protocol.purpose import GRANTS, Origin, Reason, Status
from purposematch.server.evidence_columns import EvidenceReader
from purposematch.server.keys import IdentifierKey
from purposematch.server.registry.keyed import keyed_digests
from purposematch.server.registry.rows import Rows, keyed_array
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES
from purposematch.server.times import read_times
from purposematch.tables import text_column

__all__ = ["COLUMNS", "MAX_TERMS", "OPTIONAL_COLUMNS", "Reader", "Statements"]

MAX_TERMS: Final = 65_536
"""Distinct combinations of purposes, origin, status and issuer in one file: a platform has tens."""

_RAW: Final = 1
_SHA256: Final = 2
_FORMATS: Final = {"raw": _RAW, "sha256": _SHA256}
_KINDS: Final = {kind.label: int(kind) for kind in Kind}

_NOT_A_KEY: Final = "?"
"""Stored in place of a purpose that cannot be a key: a shifted column may hold an identifier there."""

_KEY: Final = re.compile(r"[a-z_]{1,64}(\.[a-z_]{1,64}){0,15}")
"""What a key of the taxonomy looks like. Without digits: device ids, digests and phone numbers have them."""


@dataclass(frozen=True, eq=False)
class Statements:
    """The rows of one record batch.

    Attributes:
        rows: the assertions; `terms` are positions in `Reader.terms`, `evidence` is not concluded yet.
        notice: (n,) strings, null where none was given.
        digests: (n, 32) uint8 under the scope's profile, zeros where there is none.
    """

    rows: Rows
    notice: pa.StringArray
    digests: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True, eq=False)
class _Identifiers:
    """What could be read of a batch's identifiers.

    Attributes:
        named: (n, 32) uint8, the digest that stands for the row's identifier, zeros where there is none.
        readable: (n,) bool, there is one.
        scoped: (n,) bool, it is a digest under the scope's profile.
        spelled: (m,) int64 row positions, ascending.
        others: (m, 32) uint8, digests of further spellings of these rows.
    """

    named: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    scoped: NDArray[np.bool_]
    spelled: NDArray[np.int64]
    others: NDArray[np.uint8]

    def without(self, rows: NDArray[np.bool_]) -> "_Identifiers":
        """The same with the identifiers of some rows, (n,) bool, counted as unreadable."""
        kept = ~rows[self.spelled]
        return replace(
            self, readable=self.readable & ~rows, spelled=self.spelled[kept], others=self.others[kept]
        )


class Reader:
    """Reads the batches of one file, in order.

    Attributes:
        terms: the distinct terms seen so far.
    """

    def __init__(
        self,
        name: str,
        source: str,
        profile: Profile,
        region: str | None,
        key: IdentifierKey,
        evidence: EvidenceReader,
    ) -> None:
        """Starts before the first row.

        Args:
            name: what to call the file in texts for people.
            source: the source that delivers it.
            profile: the scope's profile.
            region: country of phones without `+`.
            key: makes keyed digests.
            evidence: judges the evidence of the same rows; it is concluded by the caller.
        """
        self.terms: list[Terms] = []
        self._name = name
        self._source = source
        self._profile = profile
        self._region = region
        self._key = key
        self._evidence = evidence
        self._positions: dict[Terms, int] = {}
        self._rows_before = 0

    def read(self, batch: pa.RecordBatch) -> Statements:
        """Reads the next batch.

        Raises:
            InputError: a refusal can be attached to nobody, a cell has a line break, there are more than
                `MAX_TERMS` terms, or the region does not exist.
            TableError: a column cannot be read as text.
        """
        present = [name for name in OPTIONAL_COLUMNS if name in batch.schema.names]
        columns = {name: text_column(batch, name) for name in (*COLUMNS, *present)}
        self._refuse_line_breaks(columns)
        text = {name: _trimmed(column) for name, column in columns.items() if name != "value"}
        value = columns["value"]
        subject = _null_if_empty(text["subject_id"])
        kind = _coded(text["kind"], _KINDS)
        format_ = _coded(text["value_format"], _FORMATS)
        foreign, unknown_profile = self._hash_profiles(text.get("hash_profile"), format_)
        cells = self._evidence.cells(text, batch.num_rows)
        terms = self._terms(text["purposes"], text["origin"], text["status"], cells.issuer)
        statuses = np.array([each.status for each in self.terms], np.uint8)[terms]

        malformed = (kind == 0) | (format_ == 0) | unknown_profile | _is_empty(_trimmed(value))
        found = self._identifiers(value, kind, format_, foreign, ~malformed)
        not_before, bad_begin = read_times(text["not_before"])
        expires_at, bad_end = read_times(text["expires_at"])

        grants = np.isin(statuses, GRANTS)
        # A form under another profile only (`jane @example.com`) is not what a grant in a clean spelling
        # has: a refusal that went by it would meet nothing. It reaches the subject, or stops the file.
        found = found.without(~grants & ~found.scoped & ~foreign)
        nobody = subject.is_null().to_numpy(zero_copy_only=False)
        silent = (statuses == Status.UNREADABLE) & _is_empty(text["status"])
        self._require_addressee(nobody & ~found.readable & ~grants & ~silent)
        flaw = np.zeros(batch.num_rows, np.uint8)
        flaw[grants & foreign] = Reason.PROFILE_MISMATCH
        # A refusal pre-hashed under another profile is understood; a grant needs the scope's profile.
        flaw[~found.readable | (grants & ~found.scoped & ~foreign)] = Reason.INVALID_IDENTIFIER
        flaw[malformed | (grants & (nobody | bad_begin | bad_end))] = Reason.MALFORMED_ROW
        # A refusal without kind and value is about the whole subject: nothing of it was lost.
        flaw[~grants & ~nobody & _is_empty(text["kind"]) & _is_empty(_trimmed(value))] = 0

        self._rows_before += batch.num_rows
        keyed = np.zeros((batch.num_rows, KEYED_DIGEST_BYTES), np.uint8)
        keyed[found.readable] = keyed_digests(self._key, kind[found.readable], found.named[found.readable])
        rows = Rows(
            subject=subject,
            identifier=keyed_array(keyed, found.readable),
            kind=kind,
            terms=terms,
            not_before=not_before,
            expires_at=expires_at,
            flaw=flaw,
            evidence=np.zeros(batch.num_rows, np.uint8),
            spelled=found.spelled,
            others=keyed_array(keyed_digests(self._key, kind[found.spelled], found.others)),
        )
        digests = found.named
        digests[~found.scoped] = 0
        about = EvidenceColumns(
            subject=text["subject_id"],
            kind=kind,
            digests=digests,
            terms=terms,
            terms_table=self.terms,
            notice=text["notice_id"],
            collected_at=cells.collected_at,
            salts=cells.salts,
        )
        # An old signature must not renew what was withdrawn since: `not_before` is not signed, this time is.
        late = (statuses == Status.RENEWED) & (not_before > cells.collected_at)
        self._evidence.judge(cells, about, found.readable & found.scoped & ~nobody & ~late)
        return Statements(rows, _null_if_empty(text["notice_id"]), digests)

    def _identifiers(
        self,
        value: pa.StringArray,
        kind: NDArray[np.uint8],
        format_: NDArray[np.uint8],
        foreign: NDArray[np.bool_],
        usable: NDArray[np.bool_],
    ) -> _Identifiers:
        named = np.zeros((len(value), 32), np.uint8)
        readable = np.zeros(len(value), bool)
        scoped = np.zeros(len(value), bool)
        hashed = np.flatnonzero(usable & (format_ == _SHA256))
        if len(hashed):
            column = digest_prehashed(value.take(pa.array(hashed)))
            good = hashed[column.reasons == IdentifierReason.USABLE]
            named[hashed] = column.digests
            readable[good] = True
            scoped[good] = ~foreign[good]
        spelled: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        others: list[NDArray[np.uint8]] = [np.zeros((0, 32), np.uint8)]
        for each in Kind:
            raw = np.flatnonzero(usable & (format_ == _RAW) & (kind == each))
            if not len(raw):
                continue
            values = value.take(pa.array(raw))
            column = digest_raw(values, each, self._profile, self._region)
            good = raw[column.reasons == IdentifierReason.USABLE]
            named[raw] = column.digests
            readable[good] = True
            scoped[good] = True
            places, digests = other_profile_digests(values, each, self._profile, self._region)
            # A number without + and without a country is many people's; what another profile takes it for is
            # somebody else's number, whom an erasure or an answer about this row must not reach.
            known = column.reasons[places] != IdentifierReason.PHONE_REGION_MISSING
            spelled.append(raw[places[known]])
            others.append(digests[known])
        spelled_rows, other_digests = np.concatenate(spelled), np.concatenate(others)
        order = np.argsort(spelled_rows, kind="stable")
        spelled_rows, other_digests = spelled_rows[order], other_digests[order]
        # A value with no form under the scope's profile goes by its first other one.
        adopted, first = np.unique(spelled_rows, return_index=True)
        first = first[~readable[adopted]]
        adopted = spelled_rows[first]
        named[adopted] = other_digests[first]
        readable[adopted] = True
        kept = np.ones(len(spelled_rows), bool)
        kept[first] = False
        return _Identifiers(named, readable, scoped, spelled_rows[kept], other_digests[kept])

    def _hash_profiles(
        self, column: pa.StringArray | None, format_: NDArray[np.uint8]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which pre-hashed rows are under a known profile that is not the scope's, and which under none."""
        hashed = format_ == _SHA256
        if column is None:
            return np.zeros(len(hashed), bool), np.zeros(len(hashed), bool)
        profiles = {str(profile): 1 for profile in Profile} | {str(self._profile): 2, "": 2}
        codes = _coded(column, profiles)
        return hashed & (codes == 1), hashed & (codes == 0)

    def _terms(self, *texts: pa.StringArray) -> NDArray[np.int64]:
        """The position in `terms` of each row's terms: each distinct combination is parsed once.

        Args:
            texts: (n,) columns of purposes, origin, status and issuer.
        """
        columns = [column.dictionary_encode() for column in texts]
        combined = np.zeros(len(texts[0]), np.int64)
        for column in columns:
            combined = combined * len(column.dictionary) + column.indices.to_numpy()
        _, first, inverse = np.unique(combined, return_index=True, return_inverse=True)
        positions = [self._position(*(column[row].as_py() for column in texts)) for row in first.tolist()]
        return np.array(positions, np.int64)[inverse]

    def _position(self, purposes: str, origin: str, status: str, issuer: str) -> int:
        named = [key.strip() for key in purposes.split(";") if key.strip()]
        keys = dict.fromkeys(key if _KEY.fullmatch(key) else _NOT_A_KEY for key in named)
        terms = Terms(tuple(keys), Origin.parse(origin), Status.parse(status), self._source, issuer)
        position = self._positions.setdefault(terms, len(self.terms))
        if position == len(self.terms):
            if position == MAX_TERMS:
                raise InputError(
                    f"{self._name}: more than {MAX_TERMS:,} different combinations of purposes, origin, "
                    "status and issuer; nothing was stored; see whether the column purposes holds something "
                    "else, or enroll the file in parts"
                )
            self.terms.append(terms)
        return position

    def _refuse_line_breaks(self, columns: dict[str, pa.StringArray]) -> None:
        """No column needs one, and a stray quote makes one cell of many rows: refusals vanish in it."""
        for name, column in columns.items():
            content = column.buffers()[2]
            letters = np.frombuffer(content if content is not None else b"", np.uint8)
            # Nearly no column has one, and its bytes tell sooner than its rows.
            if not ((letters == ord("\n")) | (letters == ord("\r"))).any():
                continue
            broken = pc.match_substring_regex(column, r"[\r\n]").to_numpy(zero_copy_only=False)
            if broken.any():
                number = self._rows_before + int(np.argmax(broken)) + 1
                raise InputError(
                    f"{self._name}: row {number} has a line break in {name}; a quote that is not closed may "
                    "have joined rows; nothing was stored; correct it and enroll the file again"
                )

    def _require_addressee(self, lost: NDArray[np.bool_]) -> None:
        if lost.any():
            number = self._rows_before + int(np.argmax(lost)) + 1
            raise InputError(
                f"{self._name}: row {number} refuses, but neither its subject nor its identifier can be "
                "read; nothing was stored; correct that row and enroll the file again"
            )


def _trimmed(texts: pa.StringArray) -> pa.StringArray:
    return pc.utf8_trim_whitespace(texts)


def _is_empty(texts: pa.StringArray) -> NDArray[np.bool_]:
    empty: NDArray[np.bool_] = pc.equal(texts, "").to_numpy(zero_copy_only=False)
    return empty


def _null_if_empty(texts: pa.StringArray) -> pa.StringArray:
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _coded(texts: pa.StringArray, codes: dict[str, int]) -> NDArray[np.uint8]:
    """The code of each text, ignoring ASCII case, 0 where it has none."""
    encoded = texts.dictionary_encode()
    distinct = (text.lower() if text.isascii() else text for text in encoded.dictionary.to_pylist())
    of_distinct = np.array([codes.get(text, 0) for text in distinct], np.uint8)
    values: NDArray[np.uint8] = of_distinct[encoded.indices.to_numpy()]
    return values
