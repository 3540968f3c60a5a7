"""The label of a list: what it depends on and what it does not, and the file of its key."""

import hmac
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import private_inputs, rows

from purposematch.client.label import label_of
from purposematch.protocol.audience import USUAL_CHANGE, AudienceChange, AudienceMode
from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.label import LabelKey, list_label

KEY = LabelKey(bytes(range(32)))
GOLDEN = "f69edf57ee1ba80a10080bc42af513ca4885be7956c7a775c828a794a9551e91"
GOLDEN_LOYAL = "74a103f3b25a05a0f4a4d10127300ea47a34a003bc70cc431f4ad76e4e486969"
# Few values, so that rows repeat and end in zeros.
lists = st.lists(st.binary(min_size=33, max_size=33) | st.sampled_from([bytes(33), b"\1" + bytes(32)]))


@given(lists)
def test_a_label_is_the_hmac_of_the_sorted_digests(inputs: list[bytes]) -> None:
    """Against the same in plain Python."""
    expected = hmac.digest(
        bytes(range(32)), b"purposematch label v1" + b"".join(sorted(set(inputs))), "sha256"
    )
    assert list_label(KEY, rows(inputs, 33)) == expected


@given(lists, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(inputs: list[bytes], shuffler: object) -> None:
    other = inputs + inputs[:2]
    shuffler.shuffle(other)  # type: ignore[attr-defined]
    assert list_label(KEY, rows(other, 33)) == list_label(KEY, rows(inputs, 33))


def test_one_identifier_more_or_less_or_another_key_changes_it() -> None:
    labels = {
        list_label(key, private_inputs(range(count)))
        for key in (KEY, LabelKey(bytes(32)))
        for count in (0, 1, 999, 1_000)
    }
    assert len(labels) == 8


def test_the_label_does_not_change_what_is_labelled() -> None:
    inputs = private_inputs(range(100))[::-1].copy()
    before = inputs.copy()
    list_label(KEY, inputs)
    assert np.array_equal(inputs, before)


def test_the_golden_label() -> None:
    assert list_label(KEY, private_inputs(range(1_000))).hex() == GOLDEN


def test_the_key_is_made_once_and_is_nobody_else_s(tmp_path: Path) -> None:
    inputs = private_inputs(range(10))
    first = label_of(tmp_path, inputs, lambda n: b"\7" * n)
    file = tmp_path / "label.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["label.key"]
    assert file.read_text() == "07" * 32 + "\n"
    assert label_of(tmp_path, inputs, os.urandom) == first == list_label(LabelKey(b"\7" * 32), inputs)


def test_a_key_that_somebody_else_made_meanwhile_counts(tmp_path: Path) -> None:
    def late(count: int) -> bytes:
        (tmp_path / "label.key").touch(0o600)
        (tmp_path / "label.key").write_text("08" * 32)
        return b"\7" * count

    inputs = private_inputs(range(10))
    assert label_of(tmp_path, inputs, late) == list_label(LabelKey(b"\10" * 32), inputs)


@pytest.mark.parametrize("content", ["", "07" * 31, "07" * 33, "0g" * 32, "07" * 32 + "\n\n", "AB" * 32])
def test_a_file_without_a_key_is_not_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "label.key"
    file.touch(0o600)
    file.write_text(content)
    with pytest.raises(ConfigurationError, match="is no label key; put back a copy"):
        label_of(tmp_path, private_inputs(range(10)), os.urandom)
    assert file.read_text() == content


def test_a_key_that_others_can_read_labels_nothing(tmp_path: Path) -> None:
    (tmp_path / "label.key").write_text("07" * 32)
    (tmp_path / "label.key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        label_of(tmp_path, private_inputs(range(10)), os.urandom)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        label_of(tmp_path / "none", private_inputs(range(10)), os.urandom)


names = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True)
changes = st.builds(AudienceChange, names, st.sampled_from(AudienceMode))


@given(lists, changes)
def test_another_change_of_an_audience_is_in_the_label(inputs: list[bytes], change: AudienceChange) -> None:
    """Against the same in plain Python; the usual change gives the label of a list alone."""
    name = change.name.encode()
    begin = b"purposematch audience label v1" + bytes([len(name)]) + name + change.mode.value.encode()
    if change == AudienceChange("default", AudienceMode.REPLACE):
        begin = b"purposematch label v1"
    expected = hmac.digest(bytes(range(32)), begin + b"".join(sorted(set(inputs))), "sha256")
    assert list_label(KEY, rows(inputs, 33), change) == expected


@given(changes, changes)
def test_two_changes_are_two_questions(one: AudienceChange, other: AudienceChange) -> None:
    inputs = private_inputs(range(10))
    assert (list_label(KEY, inputs, one) == list_label(KEY, inputs, other)) is (one == other)


def test_the_golden_labels_of_changes() -> None:
    inputs = private_inputs(range(1_000))
    assert list_label(KEY, inputs, USUAL_CHANGE).hex() == GOLDEN
    assert list_label(KEY, inputs, AudienceChange("loyal", AudienceMode.ADD)).hex() == GOLDEN_LOYAL
