"""Prints results on stdout: one JSON document for programs, or a report for people.

Texts may come from anybody: what a terminal might take for a command is escaped in JSON, and shown to people
as a question mark.

Not protected against: nothing else is filtered here. Callers put counts and names into reports, never
identifiers.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["emit_json", "report", "report_counts", "report_facts", "report_table"]

_BAR_CELLS: Final = 24
"""The width of the longest bar, in characters."""


def emit_json(document: Mapping[str, object]) -> None:
    """Prints `document` as JSON on one line, keys in the order given, what is not printable escaped.

    Raises:
        ValueError: the document holds a number that JSON has no form for.
    """
    text = json.dumps(document, ensure_ascii=not _unicode_output(), allow_nan=False)
    if not text.isprintable():
        # Such characters stand only inside of strings, where every character may be escaped.
        text = "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
    print(text, flush=True)


def report(title: str, document: Mapping[str, object], as_json: bool) -> None:
    """Prints a command's result: the document itself, or what it says as facts for people.

    For people, underscores in names become spaces, the fields of an object stand among the others, and the
    items of a list are separated by commas; `none` stands for an empty list and for null.
    """
    if as_json:
        emit_json(document)
    else:
        report_facts(title, dict(_facts(document)))


def _facts(document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _facts(value)
        else:
            shown = (", ".join(map(str, value)) or None) if isinstance(value, list) else value
            yield name.replace("_", " "), "none" if shown is None else shown


def report_facts(title: str, facts: Mapping[str, object]) -> None:
    """Prints `title` and below it one line for each fact: its name, then its value.

    Whole numbers are written with thousands separators.
    """
    console = _console()
    console.print(Text(_printable(title), style="bold"))
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        # Never wrapped: keys and digests are there to be copied and compared.
        shown = Text.assemble((f"{_printable(name):{width}}  ", "dim"), _written(value))
        console.print(shown, soft_wrap=True)
    console.print()


def report_counts(title: str, counts: Mapping[str, int], total: int | None = None) -> None:
    """Prints `title` and below it one line for each count: name, number, share and a bar.

    Args:
        title: what is counted.
        counts: the counts, in the order in which they are shown; none may be negative.
        total: what a full bar stands for; the sum of the counts if None.
    """
    whole = sum(counts.values()) if total is None else total
    table = _grid()
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()
    for name, count in counts.items():
        share = count / whole if whole else 0.0
        table.add_row(Text(_printable(name)), f"{count:,}", f"{share:.1%}", Text(_bar(share), style="cyan"))
    _print(title, table)


def report_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints `title` and below it a table with a header, whole numbers to the right; `none` without rows."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    cells = [list(row) for row in rows]
    for at, name in enumerate(columns):
        numbers = all(isinstance(row[at], int) and not isinstance(row[at], bool) for row in cells)
        # On a narrow terminal a long word goes on below: nothing is left out.
        table.add_column(_printable(name), justify="right" if numbers else "left", overflow="fold")
    for row in cells:
        table.add_row(*("" if cell is None else Text(_written(cell)) for cell in row))
    _print(title, table)


def _bar(share: float) -> str:
    # A count that is not zero shows, however small its share.
    cells = max(1, round(min(share, 1.0) * _BAR_CELLS)) if share > 0 else 0
    return ("█" if _unicode_output() else "#") * cells


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else _printable(str(value))


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _grid() -> Table:
    return Table.grid(padding=(0, 2, 0, 0))


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _print(title: str, table: Table) -> None:
    console = _console()
    console.print(Text(_printable(title), style="bold"))
    console.print(table if table.row_count else Text("none"))
    console.print()


def _unicode_output() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
