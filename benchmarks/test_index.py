"""Look-up of n tags, half of which are there, in an index of n."""

from typing import Any

import numpy as np

from purposematch.protocol.ciphersuite import TAG_LENGTH
from purposematch.protocol.index import Index, cut, order_by_tag, segment_bits


def test_look_up(measure: Any, size: int) -> None:
    random = np.random.default_rng(size)
    tags = random.integers(256, size=(size, TAG_LENGTH), dtype=np.uint8)
    others = random.integers(256, size=(size - size // 2, TAG_LENGTH), dtype=np.uint8)
    index = Index(cut(tags[order_by_tag(tags)], segment_bits(size)))
    wanted = random.permutation(np.concatenate([tags[: size // 2], others]))

    assert measure("index look-up", index.contains, wanted).sum() == size // 2


def test_sort(measure: Any, size: int) -> None:
    tags = np.random.default_rng(size).integers(256, size=(size, TAG_LENGTH), dtype=np.uint8)

    order = measure("sort tags", order_by_tag, tags)
    assert (np.sort(order) == np.arange(size)).all()
