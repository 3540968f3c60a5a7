"""What a platform says of itself: `status`, the health service, and `GetStatus`."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from platforms import LivePlatform, customers, grants, operator
from raw_client import connected, issued, load

from purposematch.server.config import load_config
from purposematch.server.freshness import Stale
from purposematch.server.pki import Role, issue_server, load_certified_key
from purposematch.server.publisher import CHECK_SECONDS
from purposematch.server.status import REMEDIES
from purposematch.v1 import administration_pb2, administration_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
MATCHING = "purposematch.v1.MatchingService"
OTHERS = [f"purposematch.v1.{name}Service" for name in ("Administration", "Log", "Enrollment", "Answer")]


@pytest.fixture
def hamlet(tmp_path: Path) -> LivePlatform:
    platform = LivePlatform.create(tmp_path / "hamlet")
    platform.enroll(grants(20))
    return platform


def _status(platform: LivePlatform) -> Any:
    return operator("status", "--data-dir", platform.data_dir, "--json").document


def _problems(platform: LivePlatform) -> list[str]:
    document = _status(platform)
    assert all(each["remedy"] for each in document["problems"])
    return [each["problem"] for each in document["problems"]]


@contextmanager
def _operators(platform: LivePlatform) -> Iterator[tuple[Any, Any]]:
    """The stubs of health and administration, on the connection of an operator."""
    name = f"{load_config(platform.data_dir / 'platform.toml').platform_id}.purposematch.internal"
    options = [("grpc.ssl_target_name_override", name), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(platform.address, issued(platform, Role.OPERATOR, "ops"), options) as channel:
        yield (
            health_pb2_grpc.HealthStub(channel),
            administration_pb2_grpc.AdministrationServiceStub(channel),
        )


def _becomes(health: Any, service: str, status: int) -> None:
    deadline = time.monotonic() + 3 * CHECK_SECONDS
    request = health_pb2.HealthCheckRequest(service=service)
    while health.Check(request, timeout=10).status != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_matching_is_ready_while_a_session_can_open_and_the_rest_always(hamlet: LivePlatform) -> None:
    with hamlet.serving(watchful=True), _operators(hamlet) as (health, administration):
        for name in ("", *OTHERS):
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status == SERVING
        _becomes(health, MATCHING, NOT_SERVING)
        answer = administration.GetStatus(administration_pb2.GetStatusRequest(), timeout=10)
        assert answer.problem == _problems(hamlet)[0] == "nothing is published yet"
        assert not answer.HasField("generation")
        # Published by another process, which the server notices.
        hamlet.publish()
        _becomes(health, MATCHING, SERVING)
        answer = administration.GetStatus(administration_pb2.GetStatusRequest(), timeout=10)
        assert (answer.problem, answer.generation.count) == ("", 20)
        assert _problems(hamlet) == []
        # A generation that is out of date and can not be made again.
        policy = hamlet.data_dir / "policy.toml"
        before = policy.read_text()
        policy.write_text("nonsense = 1\n")
        _becomes(health, MATCHING, NOT_SERVING)
        for name in ("", *OTHERS):
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status == SERVING
        answer = administration.GetStatus(administration_pb2.GetStatusRequest(), timeout=10)
        assert answer.problem == _problems(hamlet)[0] == "the policy file is refused"
        policy.write_text(before)
        _becomes(health, MATCHING, SERVING)
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="purposematch.v1.NoService"), timeout=10)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.NOT_FOUND
    said = hamlet.log.read_text()
    assert said.count("matching is not ready: nothing is published yet") == 1
    assert said.count("matching is not ready: the policy file is refused") == 1
    assert said.count("matching is ready") == 2


def test_status_counts_what_is_there(hamlet: LivePlatform, tmp_path: Path) -> None:
    hamlet.enroll(grants(1_100, first=20))
    published = hamlet.publish()
    acme = hamlet.admit("acme")
    with hamlet.serving():
        done = hamlet.match(customers(tmp_path / "list.csv"), tmp_path / "out.csv", acme)
        assert done.code == 0, done.stderr
        with connected(hamlet.address, load(acme)) as client:
            client.open()
            document = _status(hamlet)
    assert document["ready"] is True
    assert document["problems"] == []
    assert document["sessions"] == {"open": 1, "ended": 0, "closed": 1}
    generation = document["generation"]
    assert (generation["id"], generation["count"], generation["epoch"]) == (published["generation"], 1_120, 1)
    assert 0 <= generation["age_seconds"] < 600
    begins, valid, ends = (
        datetime.fromisoformat(text)
        for text in (generation["published_at"], generation["valid_until"], document["epoch_ends"])
    )
    assert valid - begins == timedelta(hours=24)
    assert ends - begins == timedelta(days=30)
    ((leaves,),) = hamlet.rows("SELECT count(*) FROM log_leaf")
    assert document["log"]["size"] == document["log"]["checkpoint_size"] == leaves


def test_status_tells_what_is_left_of_quotas(tmp_path: Path) -> None:
    platform = LivePlatform.create(tmp_path / "village")
    platform.enroll(grants(1_000))
    platform.publish()
    assert _status(platform)["quotas"] == []
    quotas = ("--daily-elements", "3500", "--daily-sessions", "7", "--concurrent", "2", "--max-list", "2000")
    acme = platform.admit("acme", "both", *quotas)
    platform.admit("bolt", "both", *quotas, "--daily-elements", "5000000")
    platform.admit("gone", "both", *quotas)
    platform.operate("agreement", "end", "gone")

    def told(*left: int) -> list[tuple[str, str, int, int]]:
        names, of = ("daily_elements", "daily_sessions", "concurrent_sessions"), (3_500, 7, 2)
        full = (5_000_000, 7, 2)
        return [
            *(("acme", *row) for row in zip(names, left, of, strict=True)),
            *(("bolt", *row) for row in zip(names, full, full, strict=True)),
        ]

    def shown() -> list[tuple[object, ...]]:
        return [tuple(each.values()) for each in _status(platform)["quotas"]]

    assert list(_status(platform)["quotas"][0]) == ["advertiser", "quota", "left", "of"]
    assert shown() == told(3_500, 7, 2)
    with platform.serving(), _operators(platform) as (_, administration):
        done = platform.match(customers(tmp_path / "list.csv", 1_000), tmp_path / "out.csv", acme)
        assert done.code == 0, done.stderr
        assert shown() == told(2_500, 6, 2)
        with connected(platform.address, load(acme)) as client:
            # What an open session declared is not left to others, though nothing was sent yet.
            client.open(2_000)
            assert shown() == told(500, 5, 1)
            answer = administration.GetStatus(administration_pb2.GetStatusRequest(), timeout=10)
            assert [(q.advertiser, q.quota, q.left, q.of) for q in answer.quotas] == told(500, 5, 1)
            text = operator("status", "--data-dir", platform.data_dir).stdout
    # A table ends with an empty line.
    table = [line.split() for line in text.partition("Quotas today\n")[2].partition("\n\n")[0].splitlines()]
    written = [[name, quota, f"{left:,}", f"{of:,}"] for name, quota, left, of in told(500, 5, 1)]
    assert table == [["advertiser", "quota", "left", "of"], *written]


def test_status_says_to_people_what_the_document_says(hamlet: LivePlatform) -> None:
    done = operator("status", "--data-dir", hamlet.data_dir)
    assert done.code == 0
    for text in ("ready        no", "nothing is published yet", "run purposematch-platform publish"):
        assert text in done.stdout
    hamlet.publish()
    done = operator("status", "--data-dir", hamlet.data_dir)
    assert "ready        yes" in done.stdout
    assert done.stdout.rstrip().endswith("Problems\nnone")


def test_every_reason_has_a_remedy() -> None:
    assert REMEDIES.keys() == set(Stale)


def test_a_registry_older_than_its_checkpoint_is_told(hamlet: LivePlatform) -> None:
    hamlet.publish()
    registry = hamlet.data_dir / "registry.sqlite"
    with closing(sqlite3.connect(registry)) as source, closing(sqlite3.connect(f"{registry}.old")) as old:
        source.backup(old)
    hamlet.enroll(grants(1, first=50))
    hamlet.publish()
    for suffix in ("-wal", "-shm"):
        Path(f"{registry}{suffix}").unlink(missing_ok=True)
    os.replace(f"{registry}.old", registry)
    registry.chmod(0o600)
    (problem,) = [each for each in _status(hamlet)["problems"] if "checkpoint" in each["problem"]]
    assert "Backup and restore" in problem["remedy"]


def test_damage_withdrawal_and_certificates_are_told(hamlet: LivePlatform) -> None:
    published = hamlet.publish()
    tags = hamlet.data_dir / "generations" / published["generation"] / "tags"
    content = tags.read_bytes()
    tags.write_bytes(content[:-1])
    assert any("publish again" in each for each in _problems(hamlet))
    assert _status(hamlet)["ready"] is False
    tags.write_bytes(content)
    assert _problems(hamlet) == []
    hamlet.operate("withdraw", "--subject-id", "s3")
    assert _problems(hamlet) == ["a withdrawal is not published yet"]
    hamlet.publish()
    tls = hamlet.data_dir / "tls"
    authority = load_certified_key(tls / "ca.pem", tls / "ca.key")
    for age, said in ((timedelta(days=350), "ends in 1"), (timedelta(days=400), "has ended")):
        (tls / "server.pem").unlink()
        (tls / "server.key").unlink()
        issued_then = issue_server(authority, "birdsite", [], datetime.now(UTC) - age)
        issued_then.write(tls / "server.pem", tls / "server.key")
        (problem,) = _problems(hamlet)
        assert f"certificate {said}" in problem
    (hamlet.data_dir / "log.checkpoint").unlink()
    assert any("log.checkpoint is missing" in each for each in _problems(hamlet))
    assert _status(hamlet)["log"]["checkpoint_size"] is None


def test_status_does_not_wait_for_a_delivery_that_is_being_written(hamlet: LivePlatform) -> None:
    with hamlet.opened() as platform, platform.registry.writing():
        before = time.monotonic()
        assert _status(hamlet)["log"]["size"] > 0
    # A writer would have waited for a minute.
    assert time.monotonic() - before < 30
