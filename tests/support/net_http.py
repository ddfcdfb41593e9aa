"""An HTTP/1.1 client that does what well-behaved clients do not: half a request, two at once, leaving in the middle."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ("Answer", "Connection", "connected", "request")

DEADLINE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One whole response; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as the JSON document it is."""
        return json.loads(self.body)


class Connection:
    """One TCP connection to a server. Every wait is bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._headers: Mapping[str, str] = {}

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        async with asyncio.timeout(DEADLINE):
            await self._writer.drain()

    async def head(self) -> tuple[int, Mapping[str, str]]:
        """Return status and headers of the next response, an interim one (100) too."""
        async with asyncio.timeout(DEADLINE):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        self._headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return int(lines[0].split(" ")[1]), self._headers

    async def chunk(self) -> bytes:
        """Return the next piece of a chunked body, empty at its end."""
        async with asyncio.timeout(DEADLINE):
            size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            data = await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        return data

    async def answer(self) -> Answer:
        """Return the next whole response."""
        status, headers = await self.head()
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b""
            while chunk := await self.chunk():
                body += chunk
        else:
            async with asyncio.timeout(DEADLINE):
                body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(status=status, headers=headers, body=body)

    async def ended(self) -> bytes:
        """Wait until the server closes the connection; return what it sent before."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    def leave(self) -> None:
        """Hang up at once."""
        self._writer.transport.abort()

    async def aclose(self) -> None:
        """Close the connection in order."""
        self._writer.close()
        try:
            async with asyncio.timeout(DEADLINE):
                await self._writer.wait_closed()
        except ConnectionError:
            return


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[Connection, None]:
    """Connect to a port of 127.0.0.1 for the block."""
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = Connection(reader, writer)
    try:
        yield connection
    finally:
        await connection.aclose()


def request(
    path: str,
    body: bytes | None = b"",
    *,
    method: str = "POST",
    length: int | None = None,
    **headers: str,
) -> bytes:
    """Return the bytes of a request.

    Args:
        path: its path.
        body: its body; None if the headers alone are wanted, without a length.
        method: its method.
        length: the length it claims, if that is not the one of its body.
        **headers: more headers, with `_` for `-`.
    """
    lines = [f"{method} {path} HTTP/1.1", "host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None or length is not None:
        lines.append(f"content-length: {len(body or b'') if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")
