"""What a running server shows: the metrics page and the dashboard on it, traces, and JSON logs."""

import json
import os
import re
import secrets
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from platforms import BIN, LivePlatform, customers, grants, operator, program
from prometheus_client.parser import text_string_to_metric_families
from raw_client import connected, email_inputs, fails, load

from purposematch.server.metrics import ELEMENT_STEPS

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "dashboards" / "purposematch.json"
ENROLLED, LISTED = 1_100, 1_000
CANARIES = 64


@pytest.fixture(scope="module")
def hamlet(tmp_path_factory: pytest.TempPathFactory) -> LivePlatform:
    platform = LivePlatform.create(tmp_path_factory.mktemp("observed"), max_batch_elements=256)
    platform.enroll(grants(ENROLLED))
    platform.publish()
    platform.admit("acme")
    customers(platform.folder / "list.csv", LISTED)
    return platform


@pytest.fixture(autouse=True)
def _environment(hamlet: LivePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    hamlet.log.unlink(missing_ok=True)
    monkeypatch.setenv("PURPOSEMATCH_TELEMETRY_METRICS_LISTEN", "127.0.0.1:0")
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def _page(hamlet: LivePlatform) -> str:
    found = re.search(r"metrics on (127\.0\.0\.1:[0-9]+)", hamlet.log.read_text())
    assert found is not None
    with urllib.request.urlopen(f"http://{found[1]}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def _values(page: str) -> dict[tuple[str, frozenset[str]], float]:
    """Every sample, by its name and the values of its labels."""
    families = text_string_to_metric_families(page)
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def _match(hamlet: LivePlatform, output: Path) -> Any:
    acme = hamlet.folder / "credentials-acme"
    done = program("purposematch", *hamlet.match_arguments(hamlet.folder / "list.csv", output, acme))
    assert done.code == 0, done.stderr
    return done


def test_the_page_counts_what_happened(hamlet: LivePlatform, tmp_path: Path) -> None:
    with hamlet.serving():
        before = _values(_page(hamlet))
        assert all(before["purposematch_elements_total", frozenset({step})] == 0 for step in ELEMENT_STEPS)
        done = _match(hamlet, tmp_path / "out.csv")
        with connected(hamlet.address, load(hamlet.folder / "credentials-acme")) as client:
            with fails(grpc.StatusCode.FAILED_PRECONDITION):
                client.open(3)
            session = client.open()
            session.run(email_inputs([f"user{i}@example.com" for i in range(LISTED)]))
            with fails(grpc.StatusCode.INVALID_ARGUMENT):
                session.send(session.message(90, b"\xff" * 32))
        after = _values(_page(hamlet))
        status = hamlet.operate("status")

    def count(name: str, *labels: str) -> float:
        return after[name, frozenset(labels)]

    elements = 2 * (LISTED + CANARIES)
    assert count("purposematch_elements_total", "received") == elements + 1
    assert count("purposematch_elements_total", "evaluated") == elements
    assert count("purposematch_elements_total", "committed") == LISTED == done.document["matched_rows"]
    # A commit takes a turn, too.
    assert count("purposematch_evaluation_seconds_count", "computing") == 12
    assert count("purposematch_evaluation_seconds_count", "waiting") == 12
    assert count("purposematch_batches", "waiting") == count("purposematch_batches", "computing") == 0
    assert count("purposematch_refusals_total", "OpenSession", "refused") == 1
    assert count("purposematch_refusals_total", "Evaluate", "decode") == 1
    assert count("purposematch_call_seconds_count", "Commit") == 1
    assert count("purposematch_call_seconds_count", "OpenSession") == 3
    assert count("purposematch_ready") == count("purposematch_registry_readable") == 1
    assert count("purposematch_log_leaves") == status["log"]["size"]
    assert count("purposematch_generation_identifiers") == ENROLLED
    for state, number in status["sessions"].items():
        assert count("purposematch_sessions", state) == number
    left = {
        ("acme", each["quota"]): each["left"] for each in status["quotas"] if each["advertiser"] == "acme"
    }
    assert len(left) == len(status["quotas"]) == 3
    for labels, number in left.items():
        assert count("purposematch_quota_left", *labels) == number
    for quota, fewer in ("daily_elements", 2 * LISTED), ("daily_sessions", 2):
        labels = frozenset({"acme", quota})
        assert before["purposematch_quota_left", labels] - left["acme", quota] == fewer
    assert 0 < count("purposematch_generation_age_seconds") < 3_600
    assert count("purposematch_epoch") == 1


def test_every_metric_of_the_dashboard_is_on_the_page_and_every_one_of_ours_in_it(
    hamlet: LivePlatform, tmp_path: Path
) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [each["query"] for each in dashboard["templating"]["list"]]
    asked = {name for query in queries for name in re.findall(r"\b(?:purposematch|process)_\w+", query)}
    # Where nobody may ask for a noisy count, there is no budget to show.
    hamlet.admit("bolt", "count")
    with hamlet.serving():
        _match(hamlet, tmp_path / "out.csv")
        acme = load(hamlet.folder / "credentials-acme")
        with connected(hamlet.address, acme) as client, fails(grpc.StatusCode.FAILED_PRECONDITION):
            client.open(3)
        page = _page(hamlet)
    assert _values(page)["purposematch_budget_left", frozenset({"legal_entity", "bolt", "365"})] == 4
    shown = {name for name, _ in _values(page)}
    assert asked - shown == set()
    families = {family.name for family in text_string_to_metric_families(page)}
    ours = {name for name in families if name.startswith("purposematch")}
    ours = {name for name in ours if not name.endswith("_created")} - {"purposematch_epoch"}
    assert all(any(each.startswith(name) for each in asked) for name in ours), ours
    # Labels by which queries group are there, too.
    labels = {
        label for family in text_string_to_metric_families(page) for s in family.samples for label in s.labels
    }
    for query in queries:
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            assert {label.strip() for label in grouped.split(",")} <= labels


def test_the_picture_on_the_page_has_every_panel() -> None:
    titles = [panel["title"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    picture = (ROOT / "docs" / "dashboard.svg").read_text()
    assert all(f">{title}</text>" in picture for title in titles)
    assert "dashboard.svg" in (ROOT / "docs" / "operations.md").read_text()


def test_nothing_listens_unless_it_is_asked_for(
    hamlet: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PURPOSEMATCH_TELEMETRY_METRICS_LISTEN")
    with hamlet.serving():
        pass
    assert "metrics on" not in hamlet.log.read_text()


def test_an_address_for_metrics_that_is_in_use_is_refused_in_one_line(
    hamlet: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hamlet.serving():
        taken = re.search(r"metrics on (\S+)", hamlet.log.read_text())
        assert taken is not None
        monkeypatch.setenv("PURPOSEMATCH_TELEMETRY_METRICS_LISTEN", taken[1])
        done = program(
            "purposematch-platform", "serve", "--data-dir", hamlet.data_dir, "--listen", "127.0.0.1:0"
        )
    assert done.code == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot listen on {taken[1]} for metrics")


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OpenTelemetry collector that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


def test_one_trace_goes_through_client_and_server(
    hamlet: LivePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    try:
        with hamlet.serving():
            session = _match(hamlet, tmp_path / "out.csv").document["session"]
    finally:
        server.stop(None)
    (root,) = [span for _, span in collector.spans if span.name == "match"]
    own = [(service, span) for service, span in collector.spans if span.trace_id == root.trace_id]
    names = {(service, span.name) for service, span in own}
    assert {("purposematch", name) for name in ("match", "index", "exchange", "commit")} <= names
    served = {"OpenSession", "FetchSegment", "Evaluate", "Commit", "CloseSession", "batch"}
    assert {("purposematch-platform", name) for name in served} <= names
    ids = {span.span_id: span for _, span in own}
    parents = {span.name: ids[span.parent_span_id].name for _, span in own if span.parent_span_id}
    assert parents["Evaluate"] == "exchange"
    assert parents["batch"] == "Evaluate"
    assert parents["Commit"] == "commit"
    assert parents["OpenSession"] == "match"
    assert sum(span.name == "batch" for _, span in own) == 5
    (evaluate,) = [span for _, span in own if span.name == "Evaluate"]
    assert session in {each.value.string_value for each in evaluate.attributes}


def test_a_call_cannot_bring_anything_but_two_numbers_along(
    hamlet: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    planted, trace = "zanzibar-quagga", secrets.token_hex(16)
    parent = f"00-{trace}-{secrets.token_hex(8)}-01"
    with hamlet.serving(), connected(hamlet.address, load(hamlet.folder / "credentials-acme")) as client:
        for header in (parent, f"{planted}", "00-zz"):
            metadata = (("traceparent", header), ("tracestate", f"a={planted}"), ("baggage", f"b={planted}"))
            with fails(grpc.StatusCode.INVALID_ARGUMENT):
                client.stub.CloseSession(
                    _pb().CloseSessionRequest(session_id=b"short"), timeout=60, metadata=metadata
                )
    log = hamlet.log.read_text()
    assert trace in log
    assert log.count('"name": "CloseSession"') == 3
    assert '"error.type": "DecodeError"' in log
    assert planted not in log


def _pb() -> Any:
    from purposematch.v1 import matching_pb2

    return matching_pb2


def test_without_an_exporter_or_opentelemetry_nothing_is_traced_and_all_works(
    hamlet: LivePlatform, tmp_path: Path
) -> None:
    without = (
        "import sys; sys.modules['opentelemetry'] = None; "
        "from purposematch.client.cli import main; sys.exit(main())"
    )
    with hamlet.serving():
        arguments = hamlet.match_arguments(
            hamlet.folder / "list.csv", tmp_path / "out.csv", hamlet.folder / "credentials-acme"
        )
        done = subprocess.run(
            [sys.executable, "-c", without, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        failing = subprocess.run(
            [sys.executable, "-c", without, *map(str, arguments)],
            env=os.environ | {"OTEL_TRACES_EXPORTER": "otlp"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert failing.returncode == 1
    assert "purposematch[traces]" in failing.stderr
    assert "TraceId" not in hamlet.log.read_text()


def test_an_unknown_exporter_is_refused(hamlet: LivePlatform) -> None:
    done = subprocess.run(
        [str(BIN / "purposematch-platform"), "serve", "--data-dir", hamlet.data_dir],
        env=os.environ | {"OTEL_TRACES_EXPORTER": "zipkin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: OTEL_TRACES_EXPORTER must be otlp, console or none\n",
    )


def test_every_line_of_a_json_log_is_an_object_and_names_its_session(
    hamlet: LivePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURPOSEMATCH_TELEMETRY_LOG_FORMAT", "json")
    with hamlet.serving():
        # A page is asked for in plain text too.
        matched = _match(hamlet, tmp_path / "out.csv").document["session"]
        with connected(hamlet.address, load(hamlet.folder / "credentials-acme")) as client:
            session = client.open()
            with fails(grpc.StatusCode.INVALID_ARGUMENT):
                session.send(session.message(0, b"\xff" * 32))
        operator("status", "--data-dir", hamlet.data_dir)
    lines = [json.loads(line) for line in hamlet.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    said = [line["message"] for line in lines if line.get("session") == matched]
    assert said == [
        f"opened a session for {LISTED} identifiers",
        f"committed {LISTED} matches",
        "closed a session",
    ]
    said = [line["message"] for line in lines if line.get("session") == session.id.hex()]
    assert len(said) == 2
    assert said[1].startswith("Evaluate answered INVALID_ARGUMENT: DecodeError")
    assert any(line["message"] == "stopping" and "session" not in line for line in lines)
