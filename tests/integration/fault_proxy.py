"""A TCP proxy between a real client and a real server that spoils what passes, at chosen TLS records.

It sees what a network sees: records of TLS, five bytes of head and a length. Records are counted over all
connections, each direction for itself, so that a fault can stand at every place of a session, and happens
once.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

HEAD = 5
DELAY_SECONDS = 0.2


class Action(StrEnum):
    """What becomes of a record."""

    CUT = "cut"
    """The connection ends before it."""
    TRUNCATE = "truncate"
    """Half of it passes, and then the connection ends."""
    CORRUPT = "corrupt"
    """One bit of it is another."""
    DUPLICATE = "duplicate"
    """It passes twice."""
    DELAY = "delay"
    """It passes later."""
    DROP = "drop"
    """It does not pass, what follows does."""


class Side(StrEnum):
    """Who sends."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True)
class Fault:
    """What happens to one record."""

    side: Side
    record: int
    action: Action


class FaultProxy:
    """Listens at `address` and passes everything on to `target`, both HOST:PORT; made by `fault_proxy`."""

    def __init__(self) -> None:
        self.address = ""
        self.target = ""
        self.counts = dict.fromkeys(Side, 0)
        self.bytes = dict.fromkeys(Side, 0)
        self._faults: dict[tuple[Side, int], Action] = {}
        self.happened: list[Fault] = []

    def turn_to(self, target: str) -> None:
        """Passes new connections on to another server."""
        self.target = target

    def plan(self, target: str, *faults: Fault) -> None:
        """Begins to count anew, with these faults."""
        self.turn_to(target)
        self.counts = dict.fromkeys(Side, 0)
        self.bytes = dict.fromkeys(Side, 0)
        self._faults = {(fault.side, fault.record): fault.action for fault in faults}
        self.happened = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        host, port = self.target.rsplit(":", 1)
        try:
            onward, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._pass(Side.CLIENT, reader, back)),
            asyncio.create_task(self._pass(Side.SERVER, onward, writer)),
        ]
        try:
            # Whatever ends one direction ends the connection.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            back.transport.abort()
            writer.transport.abort()

    async def _pass(self, side: Side, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await source.readexactly(HEAD)
                record = head + await source.readexactly(int.from_bytes(head[3:], "big"))
                number = self.counts[side]
                self.counts[side] += 1
                self.bytes[side] += len(record)
                action = self._faults.pop((side, number), None)
                if action is not None:
                    self.happened.append(Fault(side, number, action))
                if action is Action.CUT:
                    return
                if action is Action.TRUNCATE:
                    sink.write(record[: len(record) // 2])
                    await sink.drain()
                    return
                if action is Action.DELAY:
                    await asyncio.sleep(DELAY_SECONDS)
                if action is Action.CORRUPT:
                    record = record[:-1] + bytes([record[-1] ^ 1])
                if action is not Action.DROP:
                    sink.write(record * (2 if action is Action.DUPLICATE else 1))
                await sink.drain()
        except (asyncio.IncompleteReadError, OSError):
            return


@contextmanager
def fault_proxy() -> Iterator[FaultProxy]:
    """Runs a proxy in a thread."""
    proxy, loop = FaultProxy(), asyncio.new_event_loop()

    async def listen() -> asyncio.Server:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        proxy.address = f"{host}:{port}"
        return server

    async def end(server: asyncio.Server) -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # What was aborted is closed in the loop's next round.
        await asyncio.sleep(0)

    server = loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
