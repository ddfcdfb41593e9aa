"""The server's side of one request, by hand: every message is put in and taken out by the test."""

import asyncio
import contextvars
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Scope

__all__ = ("Wire", "scope_of")


class Wire:
    """`receive` gives each message that was put in, once, and then waits; `send` keeps what it is given.

    This is how servers behave that put messages into a queue: a message the app lets go by does not come again.

    Attributes:
        asked: how often `receive` was called.
        sent: what was sent.
    """

    def __init__(self, *messages: Message) -> None:
        self.asked = 0
        self.sent: list[Message] = []
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        for message in messages:
            self.put(message)

    def put(self, message: Message) -> None:
        """Put a message in."""
        self._queue.put_nowait(message)

    def body(self, data: bytes, *, more: bool = False) -> None:
        """Put a part of the request's body in."""
        self.put({"type": "http.request", "body": data, "more_body": more})

    def disconnect(self) -> None:
        """Let the client leave."""
        self.put({"type": "http.disconnect"})

    async def receive(self) -> Message:
        """Return the next message."""
        self.asked += 1
        return await self._queue.get()

    async def send(self, message: Message) -> None:
        """Keep a message."""
        self.sent.append(message)

    def call(self, app: ASGIApp, scope: Scope, *, context: contextvars.Context | None = None) -> "asyncio.Task[None]":
        """Call the app in a task of its own, in an empty context unless one is given."""

        async def run() -> None:
            await app(scope, self.receive, self.send)

        return asyncio.get_running_loop().create_task(
            run(), context=contextvars.Context() if context is None else context
        )

    @property
    def status(self) -> int:
        """The status that was sent."""
        return int(next(message["status"] for message in self.sent if message["type"] == "http.response.start"))

    @property
    def text(self) -> str:
        """The body that was sent."""
        return b"".join(m.get("body", b"") for m in self.sent if m["type"] == "http.response.body").decode()


def scope_of(
    key: str | None = None,
    name: str = "it",
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    **members: Any,
) -> Scope:
    """Return the scope of a POST request, as a server makes it."""
    named = [(b"x-name", name.encode()), *headers]
    if key is not None:
        named.append((b"x-session-key", key.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"",
        "root_path": "",
        "headers": named,
        "client": client,
        "server": ("testserver", 80),
        "state": {},
        **members,
    }
