"""Reading and writing tables: CSV, Parquet and standard input look alike behind one reader.

Both sides use it: the platform for `enroll`, the advertiser for `match` and `check`. Rows travel as
Arrow record batches of at most `MAX_BATCH_ROWS` rows, memory stays bounded whatever the file's size, and
everything that is wrong with a file is a `TableError` of one line that says what to do next.

Not protected against: somebody who can read the user's files or this process's memory. Error texts name
columns, rows and lines, never the content of a cell.
"""

from purposematch.tables.opening import open_table
from purposematch.tables.table import MAX_BATCH_ROWS, Table, require_columns
from purposematch.tables.text import text_column
from purposematch.tables.writer import TableWriter, create_table, replaced_file

__all__ = [
    "MAX_BATCH_ROWS",
    "Table",
    "TableWriter",
    "create_table",
    "open_table",
    "replaced_file",
    "require_columns",
    "text_column",
]
