"""The log service on gRPC: checkpoints and proofs for whoever holds a certificate of the platform.

The transaction that reads a checkpoint's size and root sees one moment: no half-appended log is signed.

Not protected against: a copy of an older data directory put in place of the current one, whose checkpoints
would be signed like any others. Readers that keep the last checkpoint notice it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc

from purposematch.protocol.errors import DecodeError, NotFoundError
from purposematch.protocol.log.tree import MAX_LEAVES
from purposematch.server import wire
from purposematch.server.checkpoints import sign_checkpoint
from purposematch.server.peer import admit, demand_admitted, peer_of
from purposematch.server.pki import PeerIdentity, Role
from purposematch.server.platform import Platform
from purposematch.server.registry import log
from purposematch.server.statuses import aborting
from purposematch.v1 import log_pb2 as pb
from purposematch.v1 import log_pb2_grpc

__all__ = ["LogService"]

_Result = TypeVar("_Result")
_Context = grpc.aio.ServicerContext[Any, Any]


class LogService(log_pb2_grpc.LogServiceServicer):
    """Serves `purposematch.v1.LogService`.

    Args:
        platform: the open platform.
        pool: where the database is asked.
    """

    def __init__(self, platform: Platform, pool: ThreadPoolExecutor) -> None:
        self._platform = platform
        self._pool = pool

    async def GetCheckpoint(
        self, request: pb.GetCheckpointRequest, context: _Context
    ) -> pb.GetCheckpointResponse:
        """Signs the state of the log."""
        async with aborting(context, "GetCheckpoint"):
            return await self._run(self._checkpoint, peer_of(context))
        raise AssertionError("aborting always raises")

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, context: _Context
    ) -> pb.GetInclusionProofResponse:
        """Proves that a leaf is in the log."""
        async with aborting(context, "GetInclusionProof"):
            return await self._run(self._inclusion, peer_of(context), request)
        raise AssertionError("aborting always raises")

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: _Context
    ) -> pb.GetConsistencyProofResponse:
        """Proves that the log was only added to."""
        async with aborting(context, "GetConsistencyProof"):
            return await self._run(self._consistency, peer_of(context), request)
        raise AssertionError("aborting always raises")

    def _checkpoint(self, peer: PeerIdentity) -> pb.GetCheckpointResponse:
        admit(self._platform, peer, *Role)
        return pb.GetCheckpointResponse(checkpoint=sign_checkpoint(self._platform))

    def _inclusion(
        self, peer: PeerIdentity, request: pb.GetInclusionProofRequest
    ) -> pb.GetInclusionProofResponse:
        with self._platform.registry.reading() as connection:
            demand_admitted(self._platform, connection, peer, *Role)
            size = _known(request.tree_size)
            match request.WhichOneof("leaf"):
                case "index":
                    index = _known(request.index)
                case "leaf_hash":
                    index = log.leaf_index(connection, wire.parse_digest(request.leaf_hash))
                case _:
                    raise DecodeError("a request for a proof names no leaf")
            return pb.GetInclusionProofResponse(
                index=index, hashes=log.inclusion_proof(connection, index, size)
            )

    def _consistency(
        self, peer: PeerIdentity, request: pb.GetConsistencyProofRequest
    ) -> pb.GetConsistencyProofResponse:
        with self._platform.registry.reading() as connection:
            demand_admitted(self._platform, connection, peer, *Role)
            old, new = _known(request.old_size), _known(request.new_size)
            return pb.GetConsistencyProofResponse(hashes=log.consistency_proof(connection, old, new))

    async def _run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def _known(number: int) -> int:
    """A number that the log could have; the database can not be asked about larger ones."""
    if number > MAX_LEAVES:
        raise NotFoundError("the log does not have so many leaves")
    return number
