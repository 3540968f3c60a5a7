"""Runs the platform's server: TLS with client certificates, and all of its services.

The server stops on SIGTERM or SIGINT: it takes no new calls, gives those under way a grace period, and
leaves sessions in the registry where another process can go on with them. Work that does not end is given up:
whatever is stored is stored whole or not at all.

Not protected against: denial of service by somebody who holds a valid client certificate, beyond the bounds
on memory and batches under way.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from purposematch.protocol.ciphersuite import ELEMENT_LENGTH
from purposematch.protocol.errors import ConfigurationError, PurposematchError
from purposematch.protocol.vole.engine import open_engine, why_unavailable
from purposematch.protocol.vole.parameters import MAX_CHUNK
from purposematch.server.administration_service import AdministrationService
from purposematch.server.answer_service import AnswerService
from purposematch.server.calls import CountingInterceptor
from purposematch.server.config import ListenAddress
from purposematch.server.enrollment_service import EnrollmentService
from purposematch.server.entrance import Entrance
from purposematch.server.log_service import LogService
from purposematch.server.matching import Matching
from purposematch.server.matching_service import MatchingService
from purposematch.server.metrics import Metrics, serving_metrics
from purposematch.server.one_shot_matching import OneShotMatching
from purposematch.server.one_shot_service import OneShotMatchingService
from purposematch.server.peer_calls import PeerCalls
from purposematch.server.platform import Platform
from purposematch.server.processor import Processor
from purposematch.server.publisher import Publisher
from purposematch.server.readiness import Readiness
from purposematch.server.registry.agreements import agreements_in_force
from purposematch.server.removals import Removals
from purposematch.server.served_certificate import LOOK_SECONDS, ServedCertificate
from purposematch.server.set_matching import SetMatching
from purposematch.server.set_matching_service import SetMatchingService
from purposematch.server.times import moment
from purposematch.v1 import (
    administration_pb2,
    administration_pb2_grpc,
    answers_pb2,
    answers_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    log_pb2,
    log_pb2_grpc,
    matching_pb2,
    matching_pb2_grpc,
    one_shot_matching_pb2,
    one_shot_matching_pb2_grpc,
    set_matching_pb2,
    set_matching_pb2_grpc,
)

__all__ = ["serve"]

GRACE_SECONDS: Final = 10.0
"""Seconds that calls under way may take to finish when the server stops."""
WORK_SECONDS: Final = 5.0
"""Seconds that work under way may take to end after the calls have."""
LEAST_MESSAGE_BYTES: Final = MAX_CHUNK + 4_096
"""Bytes that one message may have whatever the batches: a chunk of a match by VOLE, and what is around it."""
MAX_CALLS_OF_A_CONNECTION: Final = 16
"""Calls of one connection under way at most; a client needs three."""
MAX_CALLS_OF_A_CLIENT: Final = 48
"""Calls of one client under way at most, over all connections: three for every session and some to spare."""
MAX_CALLS: Final = 256
"""Calls of all connections under way at most; more are refused with RESOURCE_EXHAUSTED. Each may hold some
messages, so this bounds the memory that certified clients can take."""
KEEPALIVE_SECONDS: Final = 60
"""Seconds without anything from a client after which it is asked whether it is still there."""
KEEPALIVE_ANSWER_SECONDS: Final = 20
"""Seconds within which a client must answer that, else its connection is closed and what it held is freed."""
LEAST_PING_SECONDS: Final = 30
"""Seconds between two such questions of a client at least; this project's client asks every 60."""
IDLE_SECONDS: Final = 900
"""Seconds after which a connection without a call is closed; a client makes another one when it needs it."""
SPARE_TURNS: Final = 1
"""Batches under way beside one a thread: one that waits for the registry, as every batch does once."""
CALL_THREADS: Final = 4
"""Threads for everything of a match but its batches and its commit."""
REGISTRY_THREADS: Final = 5
"""Threads for deliveries, withdrawals, questions and an audit: two deliveries and an audit leave two."""

_log = logging.getLogger("purposematch.server")


def load_engine(platform: Platform) -> None:
    """Compiles the kernels of the VOLE engine, or loads them, if an agreement in force allows matches by it.

    Without this the first of these matches has to wait for them.
    """
    try:
        with platform.registry.reading() as connection:
            agreements = agreements_in_force(connection, platform.clock())
    except PurposematchError:
        # Whom it concerns hears of it; the others are served.
        return
    if any(each.allow_experimental for each in agreements) and why_unavailable(os.environ) is None:
        open_engine(platform.group, os.environ).prepare()


async def serve(
    platform: Platform,
    listen: ListenAddress,
    ready: Callable[[str], None],
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serves until SIGTERM or SIGINT; some threads may still run then, whose work is given up.

    Args:
        platform: the open platform.
        listen: where; port 0 picks a free one.
        ready: told HOST:PORT when calls are taken.
        stopping: called when the signal has come.

    Raises:
        ConfigurationError: the address cannot be bound, or a certificate is missing.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    limits = platform.config.limits
    threads = limits.evaluation_threads or os.cpu_count() or 1
    # What takes turns has its own threads, one a turn, so that no queue lies behind the turns. What may take
    # long must not keep short calls waiting.
    batches, publishing = ThreadPoolExecutor(threads + SPARE_TURNS, "batch"), ThreadPoolExecutor(1, "publish")
    calls, asking = ThreadPoolExecutor(CALL_THREADS, "call"), ThreadPoolExecutor(REGISTRY_THREADS, "registry")
    metrics = Metrics(platform)
    try:
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", _message_bytes(limits.max_batch_elements)),
                ("grpc.max_concurrent_streams", MAX_CALLS_OF_A_CONNECTION),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1_000),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_SECONDS * 1_000),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_SECONDS * 1_000),
                ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1_000),
            ],
            maximum_concurrent_rpcs=MAX_CALLS,
            interceptors=[
                CountingInterceptor(metrics),
                Entrance(platform, calls, PeerCalls(MAX_CALLS_OF_A_CLIENT), limits.silence_seconds),
            ],
        )
        healthy = health.aio.HealthServicer()
        readiness = Readiness(
            healthy,
            _name(matching_pb2, "MatchingService"),
            (
                _name(administration_pb2, "AdministrationService"),
                _name(log_pb2, "LogService"),
                _name(enrollment_pb2, "EnrollmentService"),
                _name(answers_pb2, "AnswerService"),
                _name(set_matching_pb2, "SetMatchingService"),
                _name(one_shot_matching_pb2, "OneShotMatchingService"),
            ),
        )
        publisher = Publisher(platform, publishing, readiness.note)
        served = ServedCertificate(
            platform.data_dir, platform.config.platform_id, lambda: moment(platform.clock())
        )
        missing = why_unavailable(os.environ)
        # Its kernels are compiled when it is first used, or see `load_engine`.
        vole = open_engine(platform.group, os.environ) if missing is None else None
        door = Matching(platform, lambda: served.fingerprint, has_vole=vole is not None)
        processor = Processor(batches, threads + SPARE_TURNS, limits.least_rate, metrics)
        matching = MatchingService(
            door,
            publisher,
            Removals(platform),
            calls,
            metrics,
            processor,
            batches_per_stream=limits.batches_in_flight,
            silence_seconds=limits.silence_seconds,
        )
        matching_pb2_grpc.add_MatchingServiceServicer_to_server(matching, server)
        set_matching = SetMatchingService(
            SetMatching(platform, door.sessions),
            calls,
            metrics,
            processor,
            batches_per_stream=limits.batches_in_flight,
            silence_seconds=limits.silence_seconds,
        )
        set_matching_pb2_grpc.add_SetMatchingServiceServicer_to_server(set_matching, server)
        one_shot = OneShotMatchingService(
            OneShotMatching(platform, door.sessions, vole),
            calls,
            metrics,
            processor,
            silence_seconds=limits.silence_seconds,
        )
        one_shot_matching_pb2_grpc.add_OneShotMatchingServiceServicer_to_server(one_shot, server)
        administration = AdministrationService(platform, publisher, calls)
        administration_pb2_grpc.add_AdministrationServiceServicer_to_server(administration, server)
        log_pb2_grpc.add_LogServiceServicer_to_server(LogService(platform, calls), server)
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
            EnrollmentService(platform, asking), server
        )
        answers_pb2_grpc.add_AnswerServiceServicer_to_server(AnswerService(platform, asking), server)
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        port = _bind(server, served, listen)
        shown = serving_metrics(
            metrics, platform.config.telemetry.metrics_listen, partial(_log.info, "metrics on %s")
        )
        if missing is not None:
            _log.info("no matches by VOLE: %s", missing)
        await server.start()
        await readiness.begin()
        upkeep = (asyncio.create_task(publisher.run()), asyncio.create_task(_look(served)))
        try:
            with shown:
                ready(f"{listen.host}:{port}")
                await stop.wait()
        finally:
            _log.info("stopping")
            stopping()
            for task in upkeep:
                task.cancel()
            publisher.stop()
            await readiness.end()
            await _stop(server)
    finally:
        _end(batches, publishing, calls, asking)


async def _look(served: ServedCertificate) -> None:
    """Has new files noticed, and told of, before somebody connects."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await asyncio.to_thread(served.look)


async def _stop(server: grpc.aio.Server) -> None:
    try:
        await asyncio.wait_for(server.stop(GRACE_SECONDS), GRACE_SECONDS + WORK_SECONDS)
    except TimeoutError:
        _log.warning("some calls did not end")


def _end(*pools: ThreadPoolExecutor) -> None:
    """Drops what is queued, and waits for what is under way, but not for ever."""
    for pool in pools:
        pool.shutdown(wait=False, cancel_futures=True)

    def wait() -> None:
        for pool in pools:
            pool.shutdown()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(WORK_SECONDS)
    if waiting.is_alive():
        _log.warning("work under way did not end and is given up")


def _bind(server: grpc.aio.Server, served: ServedCertificate, listen: ListenAddress) -> int:
    credentials = served.credentials()
    try:
        return server.add_secure_port(str(listen), credentials)
    except RuntimeError:
        raise ConfigurationError(
            f"cannot listen on {listen}: the address is in use or not this machine's"
        ) from None


def _name(module: ModuleType, service: str) -> str:
    """The full name of a service of a module of ours."""
    return str(module.DESCRIPTOR.services_by_name[service].full_name)


def _message_bytes(elements: int) -> int:
    """Bytes of one message at most: a batch of this many elements, and what is around it."""
    return max(LEAST_MESSAGE_BYTES, elements * ELEMENT_LENGTH + 4_096)
