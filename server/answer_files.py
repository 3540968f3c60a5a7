"""Writes the lists behind an answer into a folder: CSV files and one JSON document.

The files hold subject ids, so the folder and they are private (modes 0700 and 0600).

Not protected against: what happens to the files afterwards.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from purposematch.protocol.errors import ConfigurationError
from purposematch.server.impact_result import MEMBERSHIP_SCHEMA, Impact
from purposematch.server.private_files import fresh_folder, write_new
from purposematch.server.times import iso
from purposematch.tables import create_table

__all__ = ["demand_fresh", "write_impact"]


def demand_fresh(folder: Path | None) -> None:
    """Finds out before anything is done whether `folder`, if there is one, could be written into.

    Raises:
        ConfigurationError: it has content, or is no folder.
    """
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not a new or empty folder; nothing was done")


def write_impact(folder: Path, found: Impact, document: Mapping[str, object]) -> None:
    """Writes the lists of `found`, and `document` as `summary.json`, into a new or empty folder.

    Raises:
        ConfigurationError: the folder has content or can not be written; then nothing is left in it.
    """
    generations = found.recorded.generations
    keyed = pa.array([key.hex() for key in found.enrolments["identifier"].to_pylist()], pa.string())
    tables = {
        "identifiers": found.enrolments.set_column(1, "identifier", keyed),
        "subjects": found.subjects,
        "generations": _table(
            ("number", "generation", "published_at"),
            (
                (int(generations.numbers[at]), generations.names[at], iso(int(generations.published_at[at])))
                for at in found.generations.tolist()
            ),
        ),
        "sessions": _table(
            ("session", "advertiser", "partner", "generation", "disclosure", "opened_at"),
            (
                (
                    each.id,
                    each.advertiser,
                    each.partner or "",
                    int(generations.numbers[each.generation]),
                    each.disclosure and each.disclosure.value,
                    iso(each.opened_at),
                )
                for each in found.sessions
            ),
        ),
        "advertisers": _table(
            ("advertiser", "sessions", "subjects_in_audiences", "subjects_may_have_learned_of"),
            (
                (
                    each.advertiser,
                    each.sessions,
                    each.subjects_in_audiences,
                    each.subjects_may_have_learned_of,
                )
                for each in found.advertisers
            ),
        ),
    }
    with fresh_folder(folder):
        for name, table in tables.items():
            _write(folder / f"{name}.csv", table.schema, table.to_batches())
        _write(folder / "audiences.csv", MEMBERSHIP_SCHEMA, found.membership_rows())
        write_new(folder / "summary.json", json.dumps(document, indent=2).encode() + b"\n")


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with create_table(path, schema) as writer:
        for batch in batches:
            writer.write(batch)


def _table(names: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    # Without a value there is no type to be seen.
    arrays = [pa.array(column) if column else pa.array(column, pa.string()) for column in columns]
    return pa.table(arrays, names=list(names))
