"""Takes people who left the platform's index out of stored results.

::

    from purposematch.client import apply_removals

    result = apply_removals(["matched.csv"], platform="match.example.com:8443", credentials="credentials/")
    print(f"{result.rows_removed} rows do not match any more")

The list of removals is the same for every advertiser, signed, and checked before anything is touched. A row
stays matched while any of its matching identifiers is in the index; else it becomes a row that never matched,
with nothing to tell the two apart. Each output is replaced whole or not at all, and the platform hears that
the list was applied when all of them are on the disk. What was interrupted is completed by running it again.

Not protected against: copies of a result that were made elsewhere, and outputs that are not named. The list
shows which matches left, never why.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from purposematch.client.channel import open_channel
from purposematch.client.connection import check_address
from purposematch.client.credentials import Credentials
from purposematch.client.output import MATCHED_COLUMN
from purposematch.client.progress import Progress, silent
from purposematch.client.sidecar import Sidecar, staged_sidecar
from purposematch.protocol.agreement import Agreement, Disclosure
from purposematch.protocol.errors import InputError, RefusedError, TableError, VerificationError
from purposematch.protocol.group import Bytes
from purposematch.protocol.index import find
from purposematch.protocol.removals import RemovalList
from purposematch.protocol.scope import Scope
from purposematch.tables import Table, create_table, open_table

__all__ = ["RemovalsResult", "apply_removals"]

# The functions of this module are made at run time, so mypy finds none of them.
pc: Any = pyarrow.compute

_RESULTS: Final = (Disclosure.BOTH, Disclosure.ADVERTISER)
"""The disclosures under which an advertiser keeps results."""


@dataclass(frozen=True, slots=True)
class RemovalsResult:
    """What applying the removals came to.

    Attributes:
        outputs: files that were looked through.
        rows_removed: rows that matched before and do not any more.
        removed_tags: entries, each a matched identifier of a row, that were on the list.
        acknowledged: whether the platform was told, which it is unless something was raised.
        ended: outputs whose key epoch has ended: nobody can say any more who leaves from now on.
    """

    outputs: int
    rows_removed: int
    removed_tags: int
    acknowledged: bool
    ended: tuple[Path, ...]

    def to_mapping(self) -> dict[str, object]:
        """The document that `purposematch removals --json` prints."""
        return {
            "outputs": self.outputs,
            "rows_removed": self.rows_removed,
            "removed_tags": self.removed_tags,
            "acknowledged": self.acknowledged,
        }


def apply_removals(
    outputs: Sequence[Path | str],
    *,
    platform: str,
    credentials: Path | str | Credentials,
    progress: Progress = silent,
) -> RemovalsResult:
    """Fetches the removals, takes them out of outputs of `match`, and acknowledges them.

    Name every output that is kept: the platform takes the acknowledgement as one for all of them.

    Args:
        outputs: files that `match` wrote, each with its .tags file beside it.
        platform: HOST:PORT.
        credentials: the credentials folder, or what was loaded from it.
        progress: shows how far it is.

    Raises:
        InputError: an output or its .tags file is missing, damaged or was changed since the match; nothing
            was written.
        RefusedError: the agreement's disclosure leaves no results, or the platform declined.
        UnavailableError: the platform cannot be reached.
        PeerError: the list is not what the platform signed; nothing was written or acknowledged.
    """
    check_address(platform)
    if not isinstance(credentials, Credentials):
        credentials = Credentials.load(credentials)
    _check_disclosure(credentials.agreement)
    paths = {Path(output).resolve(): Path(output) for output in outputs}
    if not paths:
        raise InputError("name at least one output of a match")
    sidecars = {path: Sidecar.load(path) for path in paths.values()}
    for path, sidecar in sidecars.items():
        _check_scope(path, sidecar.scope, credentials.agreement)
        with open_table(path) as table:
            _check_unchanged(path, table, sidecar)
    return asyncio.run(_apply(sidecars, platform, credentials, progress))


async def _apply(
    sidecars: Mapping[Path, Sidecar], platform: str, credentials: Credentials, progress: Progress
) -> RemovalsResult:
    identity_key = credentials.pin.identity_key
    scopes = {sidecar.scope.epoch: sidecar.scope for sidecar in sidecars.values()}
    async with open_channel(platform, credentials) as channel:
        lists: dict[int, tuple[RemovalList, Bytes]] = {}
        for epoch, scope in sorted(scopes.items()):
            listed, content = await channel.fetch_removals(epoch, identity_key)
            if listed.scope != scope:
                raise VerificationError("the list of removals is of another scope than the results")
            lists[epoch] = listed, listed.check(content)
        rows = tags = 0
        for path, sidecar in sidecars.items():
            removed = lists[sidecar.scope.epoch][1]
            changed = await asyncio.to_thread(_take_out, path, sidecar, removed, progress)
            rows, tags = rows + changed[0], tags + changed[1]
        for epoch, (listed, _) in lists.items():
            await channel.acknowledge_removals(epoch, listed.sha256)
    return RemovalsResult(
        outputs=len(sidecars),
        rows_removed=rows,
        removed_tags=tags,
        acknowledged=True,
        ended=tuple(path for path, sidecar in sidecars.items() if lists[sidecar.scope.epoch][0].final),
    )


def _check_disclosure(agreement: Agreement) -> None:
    if agreement.disclosure not in _RESULTS:
        raise RefusedError(
            f"the agreement's disclosure is `{agreement.disclosure}`, which leaves no results with you, so "
            "there is nothing to remove anybody from"
        )


def _check_scope(path: Path, scope: Scope, agreement: Agreement) -> None:
    expected = (agreement.platform_id, agreement.purpose, agreement.profile)
    if (scope.platform_id, scope.purpose, scope.profile) != expected:
        raise InputError(
            f"{path}: these credentials are for another platform or purpose than the one it was matched for; "
            "name the credentials folder of that match"
        )


def _check_unchanged(path: Path, table: Table, sidecar: Sidecar) -> None:
    if table.sha256 not in (sidecar.output, sidecar.replaces):
        raise InputError(
            f"{path}: the file was changed since `purposematch` wrote it, so nobody can say which rows are "
            "meant; match the list again"
        )


def _take_out(path: Path, sidecar: Sidecar, removed: Bytes, progress: Progress) -> tuple[int, int]:
    """Rewrites an output and its sidecar; the rows and the entries that were taken out."""
    stays = find(removed, np.ascontiguousarray(sidecar.tags)) < 0
    with ExitStack() as stack:
        table = stack.enter_context(open_table(path))
        # It was checked before, and may have been changed while the list came.
        _check_unchanged(path, table, sidecar)
        if stays.all() and table.sha256 == sidecar.output:
            return 0, 0
        matches = np.zeros(sidecar.rows, np.bool_)
        matches[sidecar.row[stays]] = True
        mode = path.stat().st_mode
        writer = stack.enter_context(create_table(path, table.schema, delimiter=table.delimiter))
        store = stack.enter_context(staged_sidecar(path))
        advance = stack.enter_context(progress(f"Writing {path.name}", table.size_bytes, "bytes"))
        start = rows = 0
        for batch in stack.enter_context(closing(table.batches(advance=advance))):
            changed, count = _without(batch, matches[start : start + batch.num_rows])
            writer.write(changed)
            start, rows = start + batch.num_rows, rows + count
        if start != sidecar.rows:
            raise TableError(f"{path}: it has another number of rows than its .tags file says")
        os.chmod(writer.aside, mode & 0o777)
        digest = writer.finish().hex()
        store(
            replace(
                sidecar,
                output=digest,
                replaces=table.sha256,
                row=sidecar.row[stays],
                tags=sidecar.tags[stays],
            )
        )
    return rows, int(np.count_nonzero(~stays))


def _without(
    batch: pa.RecordBatch, matches: np.ndarray[Any, np.dtype[np.bool_]]
) -> tuple[pa.RecordBatch, int]:
    """A batch in which only those rows are matched that still do, and the number of the others that were."""
    at = batch.schema.names.index(MATCHED_COLUMN)
    column = batch.column(at)
    text = not pa.types.is_boolean(column.type)
    matched = pc.fill_null(pc.equal(column, "true") if text else column, False)
    gone = pc.and_(matched, pa.array(~matches))
    columns = list(batch.columns)
    columns[at] = pc.if_else(gone, pa.scalar("false" if text else False, column.type), column)
    return pa.record_batch(columns, schema=batch.schema), pc.sum(gone).as_py() or 0
