"""The audit's last part: published generations against the registry, and the index against the gate.

Of every generation the signed manifest is checked. Of those whose files are needed, because they are served,
everything is: the gate decides again under the generation's policy, on the assertions and at the time that it
was made, and exactly what it permits must be indexed. About identifiers that a later erasure suppressed the
gate can not be asked again: of these only the digest of the table speaks, which is in the log.

Not protected against: tags that were another identifier's from the beginning. The log holds the digest of the
table that was computed, and the epoch's key, which could compute it again, is destroyed with the epoch.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, select

from purposematch.protocol.canary import CANARY_COUNT
from purposematch.protocol.errors import DecodeError, IntegrityError, PurposematchError, VerificationError
from purposematch.protocol.gate import decide
from purposematch.protocol.index import find, order_by_tag
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.point_segments import PLANTED_COUNT, identifiers_in
from purposematch.protocol.policy import Policy
from purposematch.protocol.signing import SignedDocument
from purposematch.server.evaluation import enrolled_identifiers
from purposematch.server.generations import GenerationTable, ranges, table_digest
from purposematch.server.platform import Platform
from purposematch.server.publish import watermark_commitment
from purposematch.server.registry import log
from purposematch.server.registry.chunks import load_chunks
from purposematch.server.registry.columns import naming
from purposematch.server.registry.corrections import correct_terms
from purposematch.server.registry.erasures import suppressing
from purposematch.server.registry.gate_input import GateInput
from purposematch.server.registry.generations import generations_in_use
from purposematch.server.registry.load import Stored, gate_input_of
from purposematch.server.registry.rows import keyed_bytes
from purposematch.server.registry.schema import KEYED_DIGEST_BYTES, generation
from purposematch.server.registry.terms_rows import load_terms

__all__ = ["GenerationAudit"]


class GenerationAudit:
    """Checks the generations of a platform.

    Args:
        platform: the open platform.
        connection: a snapshot whose tables were checked already.
        stored: all assertions.
        policies: all policies, by id.

    Attributes:
        checked: generations whose files were checked.
        indexed: identifiers in them.
        gates: generations of these that the gate was asked about again. It can not be where the taxonomy of
            that time is not the one that is installed.
    """

    def __init__(
        self, platform: Platform, connection: Connection, stored: Stored, policies: dict[int, Policy]
    ) -> None:
        self._platform = platform
        self._connection = connection
        self._stored = stored
        self._policies = policies
        self._keys: dict[int, bytes] = {}
        self.checked = self.indexed = self.gates = 0

    def run(self) -> None:
        """Checks every generation.

        Raises:
            IntegrityError: something was altered or removed; the text names the first row or file.
        """
        rows = self._connection.execute(select(generation).order_by(generation.c.number)).all()
        needed = generations_in_use(self._connection) | {row.id for row in rows[-1:]}
        for row in rows:
            manifest = self._manifest(row)
            if row.id in needed:
                self._files(row, manifest)
                self.checked += 1
                self.indexed += manifest.count

    def _manifest(self, row: Row[tuple[object, ...]]) -> Manifest:
        platform, where = self._platform, f"table generation row {row.number}"
        folder = platform.data_dir.generations / row.id
        try:
            document = SignedDocument(
                (folder / "manifest.json").read_bytes(), (folder / "manifest.sig").read_bytes()
            )
        except OSError:
            raise IntegrityError(f"file generations/{row.id}/manifest.json or manifest.sig is lost") from None
        if document.content != row.manifest:
            raise IntegrityError(f"file generations/{row.id}/manifest.json was altered, or {where}")
        try:
            manifest = Manifest.open(document, platform.identity_key)
        except (DecodeError, VerificationError):
            raise IntegrityError(
                f"file generations/{row.id}/manifest.sig does not sign manifest.json"
            ) from None
        policy = self._policies[row.policy]
        said = (
            *(manifest.name, manifest.scope.purpose, str(manifest.scope.profile), manifest.scope.epoch),
            *(manifest.count, manifest.published_at, manifest.valid_until, manifest.policy),
            *(manifest.taxonomy, manifest.watermark, manifest.scope.platform_id, manifest.public_key),
        )
        stored = (
            *(row.id, row.purpose, row.profile, row.epoch),
            *(row.elements, row.published_at, row.valid_until, policy.digest),
            *(policy.taxonomy_digest, watermark_commitment(platform, row.watermark)),
            *(platform.config.platform_id, self._keys.setdefault(row.epoch, manifest.public_key)),
        )
        if said != stored or log.root(self._connection, row.log_size) != row.log_root:
            raise IntegrityError(f"{where} is not what its manifest or the log says")
        return manifest

    def _files(self, row: Row[tuple[object, ...]], manifest: Manifest) -> None:
        store, where = self._platform.store, f"generations/{row.id}"
        for segment in manifest.every_segment:
            try:
                segment.check(store.segment(segment).data.cast("B"))
            except PurposematchError:
                raise IntegrityError(
                    f"file generations/segments/{segment.name} was altered or lost"
                ) from None
        try:
            table = store.load(row.id).table
            index = store.index(manifest)
        except PurposematchError as error:
            raise IntegrityError(f"a file of {where}: {error}") from None
        if not index.contains(np.ascontiguousarray(table.tags)).all():
            raise IntegrityError(f"file {where}/tags is not what the segments hold")
        self._gate(row, table, where)
        for name, rows in table.point_rows.items():
            _check_rows(table, name, rows, f"file {where}/rows-{name}")
        digest = table_digest(table)
        if digest != row.table_sha256:
            raise IntegrityError(f"file {where}/tokens, tags, identifiers, granting or rows-* was altered")
        try:
            whole = (self._platform.data_dir.generations / row.id / "checksum").read_bytes() == digest
        except OSError:
            whole = False
        if not whole:
            raise IntegrityError(f"file {where}/checksum was altered or lost")

    def _gate(self, row: Row[tuple[object, ...]], table: GenerationTable, where: str) -> None:
        """Checks that exactly what the gate permits is indexed, through the assertions that permit it."""
        policy, taxonomy = self._policies[row.policy], self._platform.taxonomy
        if policy.taxonomy_digest != taxonomy.digest:
            return
        given = self._given(row)
        permitted = decide(given.assertions, policy, taxonomy, row.published_at).permitted()
        enrolled = enrolled_identifiers(given, permitted, policy, row.published_at)
        touched = self._suppressed_after(row.watermark)
        members = np.flatnonzero(table.identifiers.any(axis=1))
        members = members[order_by_tag(np.ascontiguousarray(table.identifiers[members]))]
        members = members[find(touched, np.ascontiguousarray(table.identifiers[members])) < 0]
        expected = np.flatnonzero(find(touched, enrolled.keyed) < 0)
        if not np.array_equal(table.identifiers[members], enrolled.keyed[expected]):
            raise IntegrityError(f"file {where}/identifiers is not what the gate permits")
        lengths = np.diff(table.granting_ends, prepend=0)[members]
        wanted = np.diff(enrolled.granting_ends, prepend=0)[expected]
        granting = enrolled.granting[ranges(enrolled.granting_ends[expected] - wanted, wanted)]
        if not np.array_equal(lengths, wanted) or not np.array_equal(table.granting_of(members), granting):
            raise IntegrityError(f"file {where}/granting or granting_ends is not what the gate permits")
        self.gates += 1

    def _suppressed_after(self, watermark: int) -> NDArray[np.uint8]:
        """Identifiers that an erasure after this assertion has to do with: (t, 16), ascending."""
        ids = [id_ for each in suppressing(self._connection, watermark) for id_ in each.assertions]
        if not ids:
            return np.empty((0, KEYED_DIGEST_BYTES), np.uint8)
        _, entries = load_chunks(self._connection, np.array(ids, np.int64))
        keys = entries["identifier"].to_pylist()
        _, others = load_chunks(self._connection, naming(self._connection, [], keys))
        keyed = np.unique(keyed_bytes(others["identifier"].drop_null()), axis=0)
        return np.ascontiguousarray(keyed[order_by_tag(keyed)])

    def _given(self, row: Row[tuple[object, ...]]) -> GateInput:
        """What the gate was given for a generation: later corrections did not count yet."""
        stored = self._stored.until(row.watermark)
        _, said = load_chunks(self._connection, stored.ids)
        terms = correct_terms(self._connection, stored.ids, said["terms"].to_numpy(), decisions=row.decisions)
        table, ids = load_terms(self._connection)
        return gate_input_of(replace(stored, rows=replace(stored.rows, terms=terms)), table, ids)


def _check_rows(table: GenerationTable, name: str, rows: NDArray[np.int64], file: str) -> None:
    """Checks that a list of points has every enrolled identifier once, or for `count` none twice."""
    own, others = np.sort(rows[rows >= 0]), np.sort(-rows[rows < 0])
    enrolled = np.flatnonzero(table.identifiers.any(axis=1))
    most = identifiers_in(name)
    fits = np.array_equal(own, enrolled) if most is None else bool((own[1:] > own[:-1]).all())
    if not fits or not np.isin(own, enrolled).all():
        raise IntegrityError(f"{file} does not name the identifiers of its list once each")
    expected = CANARY_COUNT + (0 if most is None else PLANTED_COUNT)
    if not np.array_equal(others, np.arange(1, expected + 1)):
        raise IntegrityError(f"{file} names too few or too many points of nobody")
