"""Files and folders that somebody else made, or a disk spoiled: read, or one of our errors says why not."""

import gc
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from budget import check_text, fuzz
from hypothesis import strategies as st
from mutations import spoil
from readers import READERS, spoiled_folder

from purposematch.protocol.errors import PurposematchError

SECONDS = 3.0
"""Of this thread's own time, for one folder."""

GROWTH_BYTES = 131_072


@pytest.mark.parametrize("name", READERS)
def test_a_spoiled_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    whole = tmp_path / "whole"
    contents = {path.relative_to(whole): path.read_bytes() for path in reader.files(whole)}
    reader.read(whole)

    def check(spoiled: tuple[Path, bytes]) -> None:
        with spoiled_folder(whole, *spoiled) as folder:
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


@pytest.mark.parametrize("name", READERS)
def test_reading_leaves_nothing_in_memory(name: str, tmp_path: Path) -> None:
    reader, random = READERS[name], Random(name)
    whole = tmp_path / "whole"
    contents = [(path.relative_to(whole), path.read_bytes()) for path in reader.files(whole)]
    chosen = [random.choice(contents) for _ in range(6)]
    spoiled = [(path, spoil(content, random)) for path, content in chosen]

    def run() -> int:
        reader.read(whole)
        for path, content in spoiled:
            with suppress(PurposematchError), spoiled_folder(whole, path, content) as folder:
                reader.read(folder)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes()

    tracemalloc.start()
    try:
        # Whatever is made once, such as a compiled expression, is made by now.
        run()
        before = run()
        assert run() - before < GROWTH_BYTES
    finally:
        tracemalloc.stop()
