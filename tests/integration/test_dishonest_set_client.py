"""Clients of a set exchange that do not keep to it, against a real server: refused by name."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from platforms import LivePlatform, grants
from raw_client import connected, email_inputs, fails, load
from raw_set_client import RawSetSession, set_stub

from purposematch.protocol.dleq import Proof
from purposematch.protocol.group import Bytes
from purposematch.protocol.noisy_report import NoisyReport
from purposematch.v1 import matching_pb2 as v1
from purposematch.v1 import set_matching_pb2 as sets_v1

LISTED = 1_000
DISCLOSURES = ("platform", "count")
both = pytest.mark.parametrize("disclosure", DISCLOSURES)
ENDED = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture(scope="module")
def inn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    platform = LivePlatform.create(tmp_path_factory.mktemp("inn"), max_batch_elements=500)
    platform.enroll(grants(700))
    for name in (*DISCLOSURES, "both"):
        options = ("--release-epsilon", "0.001") if name != "both" else ()
        platform.admit(name, name, "--daily-elements", "100000000", *options)
    platform.publish()
    with platform.serving():
        yield platform


@pytest.fixture
def inputs() -> Bytes:
    """700 of these are enrolled."""
    return email_inputs([f"user{i}@example.com" for i in range(LISTED)])


@pytest.fixture
def session(inn: LivePlatform, inputs: Bytes, disclosure: str) -> Iterator[RawSetSession]:
    credentials = load(inn.folder / f"credentials-{disclosure}")
    with connected(inn.address, credentials) as client, set_stub(inn.address, credentials) as stub:
        yield RawSetSession(client, stub, inputs)


def _put(batch: Any, place: int, element: Bytes) -> Any:
    elements = batch.elements.copy()
    elements[place] = element
    return replace(batch, elements=elements)


def _state(inn: LivePlatform, session: RawSetSession) -> str:
    ((state,),) = inn.rows("SELECT state FROM session WHERE id = ?", session.id.hex())
    return str(state)


def _logged(inn: LivePlatform, text: str) -> bool:
    return text in inn.log.read_text()


def _nothing_stored(inn: LivePlatform, session: RawSetSession) -> None:
    """No audience, no answer, and nothing is told afterwards."""
    assert inn.rows('SELECT 1 FROM "commit" WHERE session = ?', session.id.hex()) == []
    assert inn.rows("SELECT 1 FROM release WHERE session = ?", session.id.hex()) == []
    assert inn.audience(session.id.hex()) == []
    with fails(grpc.StatusCode.NOT_FOUND):
        session.find_commit()


@both
def test_an_honest_exchange_is_finished_once_and_answered_again(
    inn: LivePlatform, session: RawSetSession, disclosure: str
) -> None:
    report = session.run()
    assert report.disclosure == disclosure
    # The same id gives the same answer, whatever became of the session.
    assert session.finish() == report
    stored = session.find_commit()
    assert NoisyReport.open(stored, session.client.credentials.pin.identity_key) == report
    with fails(ENDED):
        session.finish(b"\x08" * 16)
    expected = sorted(f"s{i}" for i in range(700)) if disclosure == "platform" else []
    assert inn.audience(session.id.hex()) == expected


@pytest.mark.parametrize("disclosure", ["platform"])
@pytest.mark.parametrize(
    "cheat", ["wrong order", "another client's points", "another exponent", "the points themselves"]
)
def test_platform_refuses_points_that_are_not_its_list_multiplied(
    inn: LivePlatform, session: RawSetSession, cheat: str
) -> None:
    session.send(session.own())
    points = session.points()
    first = session.returned(points)[0]
    other = session.returned(points, session.exchange(b"\x55" * 32))[0]
    elements = {
        "wrong order": first.elements[::-1].copy(),
        "another client's points": other.elements,
        "another exponent": _put(first, 3, other.elements[3]).elements,
        "the points themselves": points[: len(first.elements)],
    }[cheat]
    for proof in (first.proof, other.proof):
        with fails(grpc.StatusCode.INVALID_ARGUMENT):
            session.give_back([replace(first, elements=elements, proof=proof)])
    assert _logged(inn, "returned points are not those of the list in their order, all multiplied alike")
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        session.give_back([replace(first, proof=None)])
    # Nothing of it was stored: the honest batch is taken.
    assert session.give_back([first]) == [0]
    with fails(ENDED):
        session.finish()
    _nothing_stored(inn, session)


@both
def test_an_invalid_element_or_a_batch_of_another_length_is_refused(
    inn: LivePlatform, session: RawSetSession, disclosure: str
) -> None:
    own = session.own()
    for wrong in (b"\0" * 32, b"\xff" * 32):
        with fails(grpc.StatusCode.INVALID_ARGUMENT):
            session.send([_put(own[0], 7, np.frombuffer(wrong, np.uint8))])
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
        session.send([replace(own[0], elements=own[0].elements[:-1])])
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
        session.send([replace(own[0], number=len(own))])
    assert inn.rows("SELECT 1 FROM batch WHERE session = ?", session.id.hex()) == []
    session.send(own)
    back = session.returned(session.points())
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        session.give_back([_put(back[0], 7, np.zeros(32, np.uint8))])
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
        session.give_back([replace(back[0], elements=back[0].elements[:-1])])
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
        session.give_back([replace(back[0], number=len(back))])
    assert _state(inn, session) == "open"


@both
@pytest.mark.parametrize("what", ["own elements", "exponent", "points"])
def test_other_bytes_under_a_used_number_end_the_session(
    inn: LivePlatform, session: RawSetSession, disclosure: str, what: str
) -> None:
    own = session.own()
    assert session.send([own[0]]) == session.send([own[0], own[0]])[:1] == [0]
    counted = inn.rows("SELECT sum(charged) FROM batch WHERE session = ?", session.id.hex())
    assert counted == [(500,)]
    if what == "own elements":
        with fails(ENDED):
            session.send([_put(own[0], 0, own[0].elements[1])])
    elif what == "exponent":
        other = session.exchange(b"\x55" * 32).exponent
        with fails(ENDED):
            session.send([replace(own[1], exponent=other)])
    else:
        back = session.returned(session.points())
        assert session.give_back([back[0], back[0]]) == [0, 0]
        with fails(ENDED):
            session.give_back([_put(back[0], 0, back[0].elements[1])])
    assert _state(inn, session) == "ended"
    assert inn.rows("SELECT 1 FROM exchange_part WHERE session = ?", session.id.hex()) == []
    with fails(ENDED):
        session.send([own[1]])


@both
def test_points_come_after_an_element_and_a_finish_after_everything(
    inn: LivePlatform, session: RawSetSession, disclosure: str
) -> None:
    with fails(ENDED):
        session.finish()
    session.send(session.own()[:-1])
    back = session.returned(session.points())
    session.give_back(back)
    with fails(ENDED):
        session.finish()
    session.send(session.own()[-1:])
    session.finish()


@both
def test_points_before_any_element_end_the_session(
    inn: LivePlatform, session: RawSetSession, disclosure: str
) -> None:
    back = session.returned(session.points())
    with fails(ENDED):
        session.give_back(back[:1])
    assert _state(inn, session) == "ended"


@both
@pytest.mark.parametrize("cheat", ["a guess in a canary's place", "an element twice"])
def test_own_elements_that_do_not_fit_are_found_at_the_end(
    inn: LivePlatform, session: RawSetSession, disclosure: str, cheat: str
) -> None:
    own = session.own()
    if cheat == "an element twice":
        own[1] = _put(own[1], 0, own[0].elements[0])
    else:
        own[-1] = _put(own[-1], -1, session.exchange(b"\x55" * 32).own(0, _some(session)).elements[0])
    session.send(own)
    session.give_back(session.returned(session.points()))
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        session.finish()
    named = "came twice" if cheat == "an element twice" else "only 63 of 64 canaries"
    assert _logged(inn, named)
    assert _state(inn, session) == "ended"
    _nothing_stored(inn, session)


def _some(session: RawSetSession) -> Bytes:
    """As many inputs as the first batch has."""
    return session.inputs[: session.protocol.shape.own_bounds(0)[1]]


@pytest.mark.parametrize("disclosure", ["count"])
@pytest.mark.parametrize("cheat", ["another exponent for half", "a point twice", "a proof"])
def test_count_refuses_what_its_planted_points_show(
    inn: LivePlatform, session: RawSetSession, cheat: str
) -> None:
    session.send(session.own())
    points = session.points()
    back = session.returned(points)
    if cheat == "a proof":
        with fails(grpc.StatusCode.INVALID_ARGUMENT):
            session.give_back([replace(back[0], proof=Proof(b"\1" * 32, b"\1" * 32))])
        return
    if cheat == "a point twice":
        back[0] = _put(back[0], 0, back[1].elements[0])
    else:
        other = session.returned(points, session.exchange(b"\x55" * 32))
        for number, batch in enumerate(back):
            elements = batch.elements.copy()
            elements[::2] = other[number].elements[::2]
            back[number] = replace(batch, elements=elements)
    session.give_back(back)
    with fails(grpc.StatusCode.INVALID_ARGUMENT) as told:
        session.finish()
    # How many were missing tells about the planted points: the log alone has it.
    assert "128" not in told[0]
    assert _logged(inn, "planted points did not come back") or _logged(inn, "a point came back twice")
    assert _state(inn, session) == "ended"
    _nothing_stored(inn, session)


@both
def test_a_session_of_one_exchange_can_not_be_used_for_the_other(
    inn: LivePlatform, session: RawSetSession, disclosure: str
) -> None:
    stub = session.client.stub
    elements = session.own()[0].elements
    request = v1.EvaluateRequest(session_id=session.id, blinded_elements=elements.tobytes())
    # It would show which rows match.
    with fails(ENDED) as told:
        list(stub.Evaluate(iter([request]), timeout=60))
    assert "shows no matches" in told[0]
    tags = session.manifest.segments[0]
    with fails(grpc.StatusCode.NOT_FOUND):
        session.client.parts(session.id, tags.sha256)
    commit = v1.CommitRequest(session_id=session.id, commit_id=b"\1" * 16)
    with fails(ENDED):
        stub.Commit(iter([commit]), timeout=60)
    assert inn.rows("SELECT 1 FROM batch WHERE session = ?", session.id.hex()) == []
    # And the other way round.
    with connected(inn.address, load(inn.folder / "credentials-both")) as client:
        poprf = client.open(LISTED)
        message = sets_v1.SendElementsRequest(
            session_id=poprf.id, exponent=session.protocol.exponent, elements=elements.tobytes()
        )
        with set_stub(inn.address, client.credentials) as sets, fails(ENDED) as told:
            list(sets.SendElements(iter([message]), timeout=60))
        assert "is no set exchange" in told[0]
        points = session.manifest.point_lists[session.name][0]
        with fails(grpc.StatusCode.NOT_FOUND):
            client.parts(poprf.id, points.sha256)


@both
def test_a_stranger_s_session_looks_like_none(
    inn: LivePlatform, session: RawSetSession, disclosure: str, inputs: Bytes
) -> None:
    other = "count" if disclosure == "platform" else "platform"
    credentials = load(inn.folder / f"credentials-{other}")
    with connected(inn.address, credentials) as client, set_stub(inn.address, credentials) as stub:
        stranger = RawSetSession(client, stub, inputs)
        own = stranger.own()
        mine = stranger.grant
        stranger.grant = replace(mine, session=session.id)
        for call in (lambda: stranger.send(own[:1]), stranger.finish):
            with fails(grpc.StatusCode.NOT_FOUND):
                call()


@pytest.mark.parametrize("disclosure", ["platform"])
@pytest.mark.parametrize("label", [b"", b"\1" * 31, b"\1" * 33])
def test_a_label_has_its_length(inn: LivePlatform, session: RawSetSession, label: bytes) -> None:
    agreement = session.client.credentials.agreement.digest
    request = v1.OpenSessionRequest(agreement_digest=agreement, list_size=LISTED, label=label)
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        session.client.stub.OpenSession(request, timeout=60)


def test_nothing_of_all_this_breaks_the_log(inn: LivePlatform) -> None:
    assert inn.operate("audit")["sessions"] > 10
