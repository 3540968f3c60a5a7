"""The documents of `subject`, `impact` and `audience`, as people see them on a terminal of 80 columns."""

import copy

import pytest
from answer_documents import SUBJECTS, TIME

from purposematch.console.answers import report_audience, report_audiences, report_subjects

WIDTH = 80
SHOWN_TIME = f"{TIME[:19]}Z"
OF = {
    "advertiser": "shoe-shop",
    "partner": None,
    "audience": "default",
    "subjects": 1_490_000,
    "sessions": 12,
}
TIMES = {"changed_at": TIME, "expires_at": TIME}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def test_no_row_of_an_answer_about_a_subject_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(SUBJECTS)
    (about, *_) = document["subjects"]
    about["assertions"][0]["issuer"] = "signup-service"
    about["decisions"][0] |= {"reason": "PURPOSE_NOT_PERMITTED", "through_assertion": 1_234_567}
    about["may_have_learned"] = []
    report_subjects(document)
    lines = capsys.readouterr().out.splitlines()
    assert "may have learned  none" in lines
    assert "issuer             signup-service" in [" ".join(line.split(" ", 1)) for line in lines]
    (decided,) = (line for line in lines if "PURPOSE_NOT_PERMITTED" in line and "1,234,567" in line)
    assert decided.startswith(SHOWN_TIME)


def test_no_row_of_a_list_of_audiences_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    report_audiences([OF | TIMES])
    _, header, row, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "advertiser",
        "partner",
        "audience",
        "subjects",
        "sessions",
        "changed",
        "expires",
    ]
    assert row.split() == ["shoe-shop", "default", "1,490,000", "12", TIME[:10], TIME[:10]]


def test_no_row_of_an_audience_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    change = {"session": "ab" * 16, "mode": "replace", "purpose": "marketing." * 4, "made_at": TIME}
    export = {"exported_at": TIME, "count": 7, "format": "parquet", "by": "user:ops", "log_leaf": 9}
    document = {**OF, **TIMES, "changes": [change | {"expires_at": TIME}], "exports": [export]}
    report_audience("Audience default", document)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"{('ab' * 16)[:12]} replace {SHOWN_TIME} {SHOWN_TIME}" in lines
    assert f"{SHOWN_TIME} 7 parquet user:ops 9" in lines
