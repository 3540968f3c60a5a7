"""Documents of answers: whatever is not of its shape is refused, and whatever is can be printed."""

import contextlib
import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import answer_documents
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purposematch.client.answer_shapes import AUDIT, IMPACT, STATUS, SUBJECTS, Shape
from purposematch.console import emit_json, report
from purposematch.console.answers import report_impact, report_status, report_subjects
from purposematch.protocol.errors import DecodeError

Show = Callable[[dict[str, Any]], object]
KINDS: dict[str, tuple[Shape, dict[str, Any], Show]] = {
    "subject": (SUBJECTS, answer_documents.SUBJECTS, report_subjects),
    "impact": (IMPACT, answer_documents.IMPACT, lambda each: report_impact("Impact", each)),
    "status": (STATUS, answer_documents.STATUS, report_status),
    "audit": (AUDIT, answer_documents.AUDIT, lambda each: report("Audit", each, False)),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Everywhere in a document where something can be changed: a container, and a key or position in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield value, key
        yield from places(each)


def shown(show: Show, document: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        show(document)
        emit_json(document)
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_document_is_accepted_and_printed(kind: str) -> None:
    shape, document, show = KINDS[kind]
    shape(document, "answer")
    assert shown(show, document)


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_a_document_that_was_changed_is_refused_or_can_be_printed(kind: str, data: st.DataObject) -> None:
    shape, document, show = KINDS[kind]
    changed = copy.deepcopy(document)
    container, key = data.draw(st.sampled_from(list(places(changed))))
    container[key] = data.draw(JSON)
    try:
        shape(changed, "answer")
    except DecodeError:
        return
    text = shown(show, changed)
    assert all(each.isprintable() or each == "\n" for each in text)


@pytest.mark.parametrize("kind", ["subject", "impact", "status"])
def test_no_field_may_be_missing_and_none_may_be_more(kind: str) -> None:
    shape, document, _ = KINDS[kind]
    # Which states of sessions there are, and which fields a selection has, is not the reader's to say.
    free = [document.get("sessions"), document.get("selection")]
    objects = 0
    for container, key in list(places({"document": document})):
        if not isinstance(container[key], dict) or container[key] in free:
            continue
        objects += 1
        for name in container[key]:
            lacking, more = copy.deepcopy(document), copy.deepcopy(document)
            for changed, act in ((lacking, dict.pop), (more, dict.setdefault)):
                found = next(
                    inner[at]
                    for inner, at in places({"document": changed})
                    if inner[at] == container[key] and isinstance(inner[at], dict)
                )
                act(found, name if changed is lacking else "surplus", None)
                with pytest.raises(DecodeError):
                    shape(changed, "answer")
    assert objects > 1


@pytest.mark.parametrize(
    ("kind", "path", "value", "says"),
    [
        ("subject", ("subjects", 0, "assertions", 0, "assertion"), -1, "is not a count"),
        ("subject", ("subjects", 0, "assertions", 0, "assertion"), True, "is not a count"),
        ("subject", ("subjects", 0, "assertions", 0, "purposes"), "text", "is not an array"),
        ("subject", ("subjects", 0, "sessions", 0, "advertiser_may_have_learned"), 1, "true nor false"),
        ("impact", ("assertions",), 2**63, "is not a count"),
        ("impact", ("assertions",), 1.0, "is not a count"),
        ("impact", ("selection",), {"planted": []}, "not one of"),
        ("impact", ("selection",), [], "not a JSON object"),
        ("status", ("sessions", "open"), "1", "is not a count"),
        ("status", ("generation",), {}, "has no id"),
        ("audit", ("leaves",), None, "is not a count"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(
    kind: str, path: tuple[Any, ...], value: Any, says: str
) -> None:
    shape, document, _ = KINDS[kind]
    changed: Any = copy.deepcopy(document)
    inner = changed
    for each in path[:-1]:
        inner = inner[each]
    inner[path[-1]] = value
    with pytest.raises(DecodeError, match=says) as caught:
        shape(changed, "answer")
    assert "planted" not in str(caught.value)
