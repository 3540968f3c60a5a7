"""Shows a session's advertiser that its session and its manifest are in the log.

Two leaves are opened: what is in them the advertiser knows, or every advertiser is given. No other opening
leaves the platform here.

Not protected against: a platform that shows different logs; readers who compare checkpoints find it.
"""

from sqlalchemy import Connection

from purposematch.protocol.errors import IntegrityError, NotFoundError
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.session_proof import LeafProof, SessionProof
from purposematch.server.checkpoints import sign_checkpoint
from purposematch.server.platform import Platform
from purposematch.server.registry import log
from purposematch.server.registry.generations import manifest_leaf
from purposematch.server.registry.sessions import find_session

__all__ = ["session_proof"]


def session_proof(platform: Platform, session_id: bytes) -> SessionProof:
    """A checkpoint signed now, and the proofs for a session that is in the registry already.

    Raises:
        NotFoundError: there is no such session.
        ConfigurationError, IntegrityError: no checkpoint can be signed, see `sign_checkpoint`; or a leaf
            was altered, or its opening erased.
    """
    note = sign_checkpoint(platform)
    origin = log_origin(platform.config.platform_id)
    size = Checkpoint.open(note, origin, platform.identity_key).size
    with platform.registry.reading() as connection:
        row = find_session(connection, session_id)
        if row is None:
            raise NotFoundError("no such session")
        return SessionProof(
            checkpoint=note,
            session=_leaf_proof(connection, row.leaf, size),
            manifest=_leaf_proof(connection, manifest_leaf(connection, row.generation), size),
        )


def _leaf_proof(connection: Connection, index: int, size: int) -> LeafProof:
    leaf = next(log.leaves(connection, index, index + 1), None)
    if leaf is None or leaf.opening is None:
        raise IntegrityError(f"table log_leaf row {index} has no opening")
    return LeafProof(index, leaf.opening, log.inclusion_proof(connection, index, size))
