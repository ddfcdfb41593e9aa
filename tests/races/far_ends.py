"""What the middleware stands between in a run: the client of a request, and a session store that takes its time."""

import asyncio
import json
from collections import deque
from typing import ClassVar

from starlette.types import Message

from races.traffic import Call
from turnlane.sessions import MemorySessionStore, Reservation, SessionEntry

__all__ = ("Client", "SlowStore")


class Client:
    """The far end of one request: what it sent, what it got, whether it has left.

    Mutable: all of it. `arrived` is the request's place in the order of arrival; `began` whether the app was called;
    `barred` whether it must not be called any more; `left_in_pass` when it was both waiting and without a client.
    """

    def __init__(self, number: int, call: Call) -> None:
        self.number = number
        self.call = call
        self.body = json.dumps({"session": call.key, "text": f"message {number}"}).encode()
        self.task: asyncio.Task[None] | None = None
        self.messages: list[Message] = []
        self.failure: BaseException | None = None
        self.incoming: deque[Message] = deque()
        self.changed: list[asyncio.Future[None]] = []
        self.left = self.cancelled = self.began = self.barred = False
        self.arrived: int | None = None
        self.left_in_pass = 0

    def give(self, message: Message) -> None:
        """Let the server have a message from this client."""
        self.incoming.append(message)
        self.wake()

    def leave(self, now: int) -> None:
        """Go away, in this pass of the loop."""
        if self.task is not None and not self.task.done() and not self.whole:
            self.left, self.left_in_pass = True, now
            self.wake()

    def wake(self) -> None:
        """Wake whoever waits for something to change."""
        changed, self.changed = self.changed, []
        for future in changed:
            if not future.done():
                future.set_result(None)

    @property
    def ended(self) -> bool:
        """Whether the call of the middleware has returned."""
        return self.task is not None and self.task.done()

    @property
    def whole(self) -> bool:
        """Whether the response has come to its end."""
        return len(self.messages) > 1 and not self.messages[-1].get("more_body", False)

    @property
    def status(self) -> int | None:
        """The status of the response, if it has begun."""
        return self.messages[0]["status"] if self.messages else None

    @property
    def answer(self) -> bytes:
        """The bytes of the response."""
        return b"".join(message.get("body", b"") for message in self.messages)


class SlowStore(MemorySessionStore):
    """Keeps sessions in memory and lets others run before each operation, as stores in files and networks do."""

    waits: ClassVar[bool] = True

    async def read(self, key: str) -> SessionEntry | None:
        await asyncio.sleep(0)
        return await super().read(key)

    async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
        await asyncio.sleep(0)
        return await super().reserve(key, session_id, at=at, replaces=replaces)

    async def touch(self, key: str, *, at: float) -> None:
        await asyncio.sleep(0)
        await super().touch(key, at=at)
