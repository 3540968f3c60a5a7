"""The report of a match under a noisy disclosure: OUTPUT, one JSON document, mode 0600.

    format      `purposematch noisy report v1`
    count       in words: `below 100`, or such as `1,230`
    unit        `subjects` or `identifiers`
    rate        of the list's size, in whole percent; empty if the count is below 100
    report      what the platform signed: content, signature

Nothing in it says which rows matched.

Not protected against: whoever changes the words beside the signed report, which is what counts.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from purposematch.client.documents import document_mapping
from purposematch.client.noisy_session import NoisyOutcome
from purposematch.protocol.errors import TableError
from purposematch.tables import Table, replaced_file

__all__ = ["staged_report"]

FORMAT: Final = "purposematch noisy report v1"


@contextmanager
def staged_report(output: Path, table: Table) -> Iterator[Callable[[NoisyOutcome], None]]:
    """Gives a function that writes the report aside; it takes its place when the block ends well.

    Args:
        output: the file.
        table: the list, which it must not replace.

    Raises:
        TableError: it cannot be written.
    """
    with replaced_file(output, like=table) as (_, file):

        def store(outcome: NoisyOutcome) -> None:
            report = outcome.report
            content = json.dumps(
                {
                    "format": FORMAT,
                    "count": report.count_text,
                    "unit": report.unit.value,
                    "rate": report.rate_text,
                    "report": document_mapping(outcome.document),
                },
                indent=2,
            ).encode()
            try:
                whole = file.write(content + b"\n") == len(content) + 1
            except OSError:
                whole = False
            if not whole:
                raise TableError(f"{output}: cannot be written: the disk may be full")

        yield store
