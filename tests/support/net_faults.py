"""A loopback proxy for TCP that delays, holds, swallows, cuts off and resets, as it is told."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

__all__ = ("Action", "Direction", "Fault", "FaultProxy", "fault_proxy")

Direction = Literal["up", "down"]
"""up: what the client sends; down: what the server answers."""


Action = Literal["reset", "cut", "swallow", "delay", "hold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one direction of a connection.

    Attributes:
        direction: of the bytes it happens to.
        after: so many bytes pass before it.
        action: reset: both ends get a RST. cut: both ends get a FIN. swallow: from there on nothing arrives, and
            nobody is told. delay: from there on each piece arrives `seconds` later. hold: the next piece arrives when
            the proxy lets it go, whatever became of its sender.
        seconds: of the delay.
    """

    direction: Direction
    after: int = 0
    action: Action = "reset"
    seconds: float = 0.0


Plan = Callable[[int], Fault | None]
"""Called with the number of a connection, from 0: the fault it has from its beginning."""


class _Pair:
    """One connection of a client and the one made for it.

    Mutable: `_passed`, bytes by direction since the fault was set; `fault`, None for a connection that works;
    `released`, set when what is held may go, and `answered`, when bytes came down after that; `was_reset`.
    """

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, fault: Fault | None) -> None:
        self.writers: dict[Direction, asyncio.StreamWriter] = {"up": server, "down": client}
        self.fault = fault
        self.released = asyncio.Event()
        self.answered = asyncio.Event()
        self.was_reset = False
        self._passed = 0

    def set(self, fault: Fault | None) -> None:
        self.fault = fault
        self._passed = 0

    async def pass_on(self, direction: Direction, data: bytes) -> bool:
        """Send a piece on its way; False if the connection is over."""
        fault = self.fault
        if fault is None or fault.direction != direction:
            return await self._write(direction, data)
        left = fault.after - self._passed
        self._passed += len(data)
        if left >= len(data):
            return await self._write(direction, data)
        if fault.action == "delay":
            await asyncio.sleep(fault.seconds)
            return await self._write(direction, data)
        if fault.action == "hold":
            await self.released.wait()
            self.set(None)
            return await self._write(direction, data)
        if left > 0 and not await self._write(direction, data[:left]):
            return False
        if fault.action == "swallow":
            return True
        self.end(reset=fault.action == "reset")
        return False

    def end(self, *, reset: bool) -> None:
        self.was_reset = self.was_reset or reset
        for writer in self.writers.values():
            if reset:
                sock: socket.socket = writer.get_extra_info("socket")
                with suppress(OSError):  # it is closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()

    async def _write(self, direction: Direction, data: bytes) -> bool:
        writer = self.writers[direction]
        if writer.is_closing():
            return False
        writer.write(data)
        await writer.drain()
        return True


@dataclass(frozen=True, slots=True)
class _Armed:
    fault: Fault
    at: bytes
    again: bool


class FaultProxy:
    """Passes TCP connections on to a server, with faults.

    `plan` decides for each connection when it begins; `arm` and the rest act on what is there now.
    """

    # Mutable: _pairs, the connections there are; _armed, the next fault; accepted, how many there were; resets, how
    # many of those that have ended were reset.

    def __init__(self, host: str, port: int, plan: Plan) -> None:
        self.port = 0
        self.accepted = 0
        self.resets = 0
        self.struck = asyncio.Event()
        self._target = (host, port)
        self._plan = plan
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._armed: _Armed | None = None
        self._refusing = False

    def arm(self, fault: Fault, *, at: bytes = b"", again: bool = False) -> None:
        """Have the next piece, of whatever connection, meet the fault; `struck` is then set.

        Args:
            fault: for one direction, as it passes from there on.
            at: only a piece that goes up with this in it counts, or what comes down after it.
            again: every such piece, until `disarm`.
        """
        self._armed = _Armed(fault, at, again)
        self.struck.clear()

    def disarm(self) -> None:
        """Let pieces pass again."""
        self._armed = None

    def strike(self, fault: Fault | None) -> None:
        """Give every connection there is a fault, counted from now, or take it away."""
        for pair in self._pairs:
            pair.set(fault)

    def follow(self, plan: Plan) -> None:
        """Have another plan for connections from now on."""
        self._plan = plan

    def refuse(self, refusing: bool) -> None:
        """Reset new connections at once, or take them again."""
        self._refusing = refusing

    async def let_go(self) -> None:
        """Send what is held on its way, and wait for what the server says to it."""
        held = [pair for pair in self._pairs if pair.fault is not None and pair.fault.action == "hold"]
        assert held, "nothing is held"
        for pair in held:
            pair.released.set()
            await pair.answered.wait()

    def reset_all(self) -> None:
        """Reset every connection there is."""
        for pair in list(self._pairs):
            pair.end(reset=True)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        task = asyncio.get_running_loop().create_task(self._served(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also of one that was never begun

    async def aclose(self) -> None:
        """Reset what is left and wait for the end of it."""
        self.reset_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.accepted = self.accepted, self.accepted + 1
        try:
            if self._refusing:
                raise ConnectionError
            upstream, downstream = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, downstream, self._plan(number))
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pump("up", reader, pair), self._pump("down", upstream, pair))
        finally:
            self._pairs.discard(pair)
            self.resets += pair.was_reset
            for end in pair.writers.values():
                end.transport.abort()

    def _look(self, direction: Direction, data: bytes, pair: _Pair) -> None:
        armed = self._armed
        if armed is None or (direction == "down" and (armed.fault.direction == "up" or armed.at)):
            return
        if direction == "up" and (armed.at not in data or (armed.fault.direction == "down" and not armed.at)):
            return
        pair.set(armed.fault)
        self.struck.set()
        if not armed.again:
            self._armed = None

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, pair: _Pair) -> None:
        try:
            while data := await reader.read(65536):
                self._look(direction, data, pair)
                if direction == "down" and pair.released.is_set():
                    pair.answered.set()
                if not await pair.pass_on(direction, data):
                    return
        except OSError:
            pair.end(reset=True)
        else:
            other = pair.writers[direction]
            with suppress(OSError):  # it is over already
                if not other.is_closing():
                    other.write_eof()


@asynccontextmanager
async def fault_proxy(host: str, port: int, plan: Plan | None = None) -> AsyncGenerator[FaultProxy, None]:
    """Run a proxy before a server inside the block."""
    proxy = FaultProxy(host, port, plan or (lambda _: None))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()
