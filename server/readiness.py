"""Which services can do their work: the standard gRPC health service, one answer for each.

The server as a whole, the empty name, serves as soon as it takes calls. The matching service is only ready
while a session could open. The health service has no words: why none can, the log says, and so do
`purposematch-platform status` and `GetStatus`.

Not protected against: a reader that holds no certificate; the health service is behind the same TLS.
"""

import logging
from collections.abc import Sequence

from grpc_health.v1 import health, health_pb2

__all__ = ["Readiness"]

_log = logging.getLogger("purposematch.server")

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Readiness:
    """Keeps the answers of the health service.

    Args:
        healthy: the health service.
        matching: the full name of the service that needs a generation.
        others: those of the services that need none.
    """

    def __init__(self, healthy: health.aio.HealthServicer, matching: str, others: Sequence[str]) -> None:
        self._healthy = healthy
        self._matching = matching
        self._others = others
        self._problem: str | None = None

    async def begin(self) -> None:
        """The server takes calls; whether a session can open, nobody has looked at yet."""
        for name in ("", *self._others):
            await self._healthy.set(name, _SERVING)
        await self._healthy.set(self._matching, _NOT_SERVING)

    async def note(self, problem: str) -> None:
        """Says whether sessions can open.

        Args:
            problem: why none can; empty if they can.
        """
        if problem == self._problem:
            return
        self._problem = problem
        if problem:
            _log.warning("matching is not ready: %s", problem)
        else:
            _log.info("matching is ready")
        await self._healthy.set(self._matching, _NOT_SERVING if problem else _SERVING)

    async def end(self) -> None:
        """The server is stopping: nothing is ready, and nothing becomes so."""
        await self._healthy.enter_graceful_shutdown()
