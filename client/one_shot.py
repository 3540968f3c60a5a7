"""A match by VOLE on the advertiser's side: when it can be asked for, and attempts at its exchange.

An attempt is one stream from its beginning to its end. One that breaks off is made anew by a new party with
fresh randomness: nothing of it is kept.

Semi-honest, experimental, no published proof. Not protected against: a platform that cheats can make
identifiers appear to match, or not to.
"""

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, TypeVar

from purposematch.client.channel import PlatformChannel
from purposematch.client.credentials import Credentials
from purposematch.client.customer_list import CustomerList
from purposematch.client.means import Means
from purposematch.client.opening import Opened
from purposematch.client.progress import Advance
from purposematch.client.threads import to_its_end
from purposematch.protocol.agreement import Agreement
from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.errors import (
    ConfigurationError,
    DecodeError,
    PurposematchError,
    RefusedError,
    StateError,
)
from purposematch.protocol.group import Bytes
from purposematch.protocol.match_engine import EXPERIMENTAL, EngineChoice
from purposematch.protocol.one_shot import binding, first_result_chunk, sizes
from purposematch.protocol.signing import SignedDocument
from purposematch.protocol.vole.engine import why_unavailable
from purposematch.protocol.vole.parameters import Role
from purposematch.protocol.vole.party import Chunk, Party, Turn

if TYPE_CHECKING:
    from purposematch.protocol.vole.receiver import Receiver
    from purposematch.protocol.vole.sender import Sender

__all__ = ["Attempts", "engine_to_ask_for"]

_Party = TypeVar("_Party", bound=Party)


def engine_to_ask_for(choice: EngineChoice, agreement: Agreement, environ: Mapping[str, str]) -> EngineChoice:
    """What a session can be asked to be computed with: `auto` only where VOLE is allowed, and to be had here.

    Args:
        choice: what the user said.
        agreement: that of the session.
        environ: the environment of the process.

    Raises:
        RefusedError: VOLE is wanted, and the agreement does not allow it.
        ConfigurationError: VOLE is wanted, and not to be had here; the text says why.
    """
    if choice is EngineChoice.OPRF:
        return choice
    if choice is EngineChoice.VOLE and not agreement.allow_experimental:
        raise RefusedError(
            f"agreement {agreement.number} does not allow the VOLE engine, which is {EXPERIMENTAL}: ask the "
            "platform for an agreement that does, or match with another engine"
        )
    reason = why_unavailable(environ)
    if choice is EngineChoice.VOLE and reason is not None:
        raise ConfigurationError(f"{reason}; match with another engine")
    return choice if agreement.allow_experimental and reason is None else EngineChoice.OPRF


class Attempts:
    """Makes attempts at the exchange of one session.

    Args:
        means: what else is needed.
        credentials: of this advertiser; the agreement is in them.
        opened: the session.
        customers: the list.

    Attributes:
        done: how far any attempt came, in chunks of both sides.

    Raises:
        ConfigurationError: there is no VOLE engine here.
        LimitError: a list is too large for it.
    """

    def __init__(
        self, means: Means, credentials: Credentials, opened: Opened, customers: CustomerList
    ) -> None:
        agreement, grant, manifest = credentials.agreement, opened.grant, opened.manifest
        self._engine = means.vole()
        self._random = means.random_bytes
        self._ids = (grant.session, opened.saved.commit)
        self._sizes = sizes(agreement.disclosure, grant, manifest)
        self._binding = binding(manifest.scope, agreement.digest, grant)
        self._customers, self._generation = customers, manifest.generation
        self._made: Bytes | None = None
        self.done = 0

    @property
    def chunks(self) -> int:
        """Chunks of both sides in a whole attempt."""
        return sum(self._sizes.chunks_from(role) for role in Role)

    def receiver(self) -> "Receiver":
        """A new party that learns which rows match."""
        return self._engine.receiver(self._sizes, self._items, self._binding, self._random)

    def sender(self) -> "Sender":
        """A new party that lets the platform learn it."""
        return self._engine.sender(self._sizes, self._items, self._binding, self._random)

    def _items(self) -> Bytes:
        """The items of all attempts, which are not made before one is under way."""
        if self._made is None:
            self._made = self._customers.inputs_before(canary_inputs(self._generation))
        return self._made

    async def make(
        self,
        channel: PlatformChannel,
        party_of: Callable[[], _Party],
        advance: Advance,
        told: Callable[[], object] = lambda: None,
    ) -> tuple[_Party, SignedDocument | None]:
        """Makes one attempt to its end; the party, and what the platform says behind it, if it received.

        Args:
            channel: the connection.
            party_of: makes the party, such as `receiver`, while the platform loads what it brings.
            advance: called with 1 for every chunk by which this attempt is further than all before.
            told: called before the first chunk that results of the platform follow from.

        Raises:
            PeerError: what the platform sent does not hold.
            RefusedError, UnavailableError: it ended the attempt, or is not there any more.
        """
        # Kernels may have to be compiled, and the platform would take that for silence.
        await to_its_end(self._engine.prepare)
        stream, count = channel.attempt(*self._ids), 0
        first = first_result_chunk(self._sizes)

        def note() -> None:
            nonlocal count
            count += 1
            if count > self.done:
                self.done = count
                advance(1)

        async def answer() -> Chunk | SignedDocument:
            return await stream.receive()

        try:
            await stream.send(None)
            party = await to_its_end(party_of)
            while party.turn is not Turn.DONE:
                if party.turn is Turn.LISTEN:
                    chunk = await answer()
                    if not isinstance(chunk, Chunk):
                        raise StateError("a report", "a chunk of the exchange")
                    await to_its_end(party.receive, chunk)
                    note()
                    continue
                with closing(party.outgoing()) as chunks:
                    while (own := await to_its_end(next, chunks, None)) is not None:
                        if party.role is Role.SENDER and own.number == first:
                            told()
                        if not await stream.send(own):
                            # The platform has ended the stream, and says why.
                            await answer()
                            raise StateError("an answer", "the reason why the exchange has ended")
                        note()
                await to_its_end(party.prepare)
            if party.role is Role.RECEIVER:
                # It is done; but a stream that is left alone looks like one that broke off.
                with suppress(PurposematchError):
                    await answer()
                return party, None
            report = await answer()
            if isinstance(report, Chunk):
                raise DecodeError("the platform sent a chunk behind the last one")
            return party, report
        finally:
            stream.cancel()
