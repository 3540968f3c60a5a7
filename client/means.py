"""What sessions need besides a platform and a list."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from purposematch.client.checkpoints import LastCheckpoint
from purposematch.client.progress import Progress
from purposematch.client.reconnect import Patience, Reconnect
from purposematch.client.segment_cache import SegmentCache
from purposematch.protocol.group import Group, RandomBytes
from purposematch.protocol.match_engine import EngineChoice
from purposematch.protocol.vole.engine import Engine

__all__ = ["Means"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Means:
    """What sessions need besides a platform and a list.

    Attributes:
        cache: where index segments are kept.
        last: where the last checkpoint of the platform's log is kept.
        group: the back end of the group.
        random_bytes: the source of seeds and ids.
        progress: shows how far a session is.
        clock: the time, with a time zone.
        patience: with a platform that is away or silent.
        engine: what sessions are to be computed with.
        vole: gives the VOLE engine, or raises why there is none.
    """

    cache: SegmentCache
    last: LastCheckpoint
    group: Group
    random_bytes: RandomBytes
    progress: Progress
    clock: Callable[[], datetime]
    patience: Patience
    engine: EngineChoice
    vole: Callable[[], Engine]

    def now(self) -> int:
        """The time in microseconds since 1970."""
        return (self.clock() - _EPOCH) // timedelta(microseconds=1)

    def reconnect(self) -> Reconnect:
        """Makes the calls of a session again."""
        return Reconnect(self.patience.reconnect_seconds)
