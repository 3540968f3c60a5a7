"""Files and folders that somebody else made, or a disk spoiled: read, or one of our errors says why not."""

import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from budget import check_text, fuzz
from hypothesis import strategies as st
from mutations import spoil
from readers import READERS, spoiled_folder

from purposematch.protocol.errors import PurposematchError

SECONDS = 3.0
"""Of this thread's own time, for one folder."""


@pytest.mark.parametrize("name", READERS)
def test_a_spoiled_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    whole = tmp_path / "whole"
    contents = {path.relative_to(whole): path.read_bytes() for path in reader.files(whole)}
    reader.read(whole)
    again = contextmanager(spoiled_folder)

    def check(spoiled: tuple[Path, bytes]) -> None:
        with again(whole, *spoiled) as folder:
            began = time.thread_time()
            try:
                reader.read(folder)
            except PurposematchError as error:
                check_text(error)
            assert time.thread_time() - began < SECONDS

    def one_file(path: Path) -> st.SearchStrategy[tuple[Path, bytes]]:
        spoiled = st.builds(spoil, st.just(contents[path]), st.randoms(use_true_random=False))
        return st.tuples(st.just(path), spoiled | st.binary(max_size=100))

    fuzz(st.sampled_from(sorted(contents)).flatmap(one_file), check, reader.examples)
