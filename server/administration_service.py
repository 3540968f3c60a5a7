"""The administration service on gRPC: what an operator may ask of a running platform."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import grpc

from purposematch.protocol.errors import IntegrityError, VerificationError
from purposematch.server import wire
from purposematch.server.peer import admit, peer_of
from purposematch.server.pki import Role
from purposematch.server.platform import Platform
from purposematch.server.publisher import Publisher
from purposematch.server.registry.sessions import SessionState
from purposematch.server.status import platform_state, status_document
from purposematch.server.statuses import aborting
from purposematch.v1 import administration_pb2 as pb
from purposematch.v1 import administration_pb2_grpc

__all__ = ["AdministrationService"]

_Context = grpc.aio.ServicerContext[Any, Any]


class AdministrationService(administration_pb2_grpc.AdministrationServiceServicer):
    """Serves `purposematch.v1.AdministrationService`.

    Args:
        platform: the open platform.
        publisher: publishes when asked.
        pool: where the database is asked.
    """

    def __init__(self, platform: Platform, publisher: Publisher, pool: ThreadPoolExecutor) -> None:
        self._platform = platform
        self._publisher = publisher
        self._pool = pool

    async def GetStatus(self, request: pb.GetStatusRequest, context: _Context) -> pb.GetStatusResponse:
        """Tells what is being served."""
        async with aborting(context, "GetStatus"):
            await self._admit(context)
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._status)
        raise AssertionError("aborting always raises")

    async def Publish(self, request: pb.PublishRequest, context: _Context) -> pb.PublishResponse:
        """Publishes a generation."""
        async with aborting(context, "Publish"):
            await self._admit(context)
            published = await self._publisher.publish()
            return pb.PublishResponse(generation=wire.format_generation(published.manifest))
        raise AssertionError("aborting always raises")

    async def _admit(self, context: _Context) -> None:
        peer, loop = peer_of(context), asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, admit, self._platform, peer, Role.OPERATOR)

    def _status(self) -> pb.GetStatusResponse:
        platform = self._platform
        state = platform_state(platform)
        generation, problem = None, state.problem
        if state.generation is not None and not problem:
            try:
                generation = wire.format_generation(platform.store.load(state.generation.name).manifest)
            except (IntegrityError, VerificationError) as error:
                problem = str(error)
        return pb.GetStatusResponse(
            platform_id=platform.config.platform_id,
            generation=generation,
            open_sessions=state.sessions[SessionState.OPEN],
            group=platform.group.name,
            version=version("purposematch"),
            problem=problem,
            quotas=[pb.AdvertiserQuota(**asdict(quota)) for quota in state.quotas],
            document=wire.format_json(status_document(platform, state)),
        )
