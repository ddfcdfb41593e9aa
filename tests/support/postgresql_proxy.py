"""A proxy in front of a PostgreSQL server that loses connections at chosen moments."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal, cast
from urllib.parse import urlsplit, urlunsplit

__all__ = ("Proxy", "a_proxy")

Fault = Literal["before", "after", "hold"]


class Proxy:
    """Looks at each message of a client. The fault is in one that holds `text`, after `spare` others that do.

    `before`: the server does not get it; `after`: the server has answered it, the client does not hear; both lose the
    connection. `hold`: nothing gets through any more, and both keep the connection.

    Mutable: all of it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname, parts.port or 5432)
        self._parts = parts
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._fault: tuple[Fault, bytes] | None = None
        self.spare = 0
        self.times = 0
        self.port = 0
        self.connections = 0
        self.happened = asyncio.Event()

    @property
    def url(self) -> str:
        user, at, _ = self._parts.netloc.rpartition("@")
        query = f"{self._parts.query}&sslmode=disable".lstrip("&")
        return urlunsplit(self._parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}", query=query))

    def fail(self, fault: Fault, text: bytes, *, spare: int = 0, times: int = 1) -> None:
        """Have the next such messages fail."""
        self._fault = (fault, text)
        self.spare, self.times = spare, times
        self.happened.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.add(cast("asyncio.Task[None]", asyncio.current_task()))
        far_reader, far_writer = await asyncio.open_connection(*self._server)
        silent = asyncio.Event()
        both = {
            asyncio.create_task(self._forth(reader, far_writer, silent)),
            asyncio.create_task(self._back(far_reader, writer, silent)),
        }
        self._tasks |= both
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        self._tasks -= both
        for each in (writer, far_writer):
            each.transport.abort()

    async def close(self) -> None:
        """End all connections."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._serving)
        await asyncio.sleep(0)  # sockets close in the next pass

    async def _forth(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, silent: asyncio.Event) -> None:
        head = b""
        while True:
            size = await reader.readexactly(4)
            message = head + size + await reader.readexactly(int.from_bytes(size) - 4)
            fault = self._due(message)
            if fault == "before":
                self.happened.set()
                return
            if fault == "hold":
                silent.set()
                self.happened.set()
                await asyncio.Event().wait()
            if fault == "after":
                silent.set()
            far.write(message)
            await far.drain()
            head = await reader.readexactly(1)

    async def _back(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event) -> None:
        while content := await far.read(65536):
            if silent.is_set():
                self.happened.set()
                return
            writer.write(content)
            await writer.drain()

    def _due(self, message: bytes) -> Fault | None:
        if self._fault is None or self._fault[1] not in message or self.times == 0:
            return None
        if self.spare:
            self.spare -= 1
            return None
        self.times -= 1
        return self._fault[0]


@asynccontextmanager
async def a_proxy(url: str) -> AsyncGenerator[Proxy, None]:
    """Serve in front of the server of `url` until the block ends."""
    proxy = Proxy(url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
