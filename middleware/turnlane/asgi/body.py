"""The body of a request that can not go to the app yet: read within bounds, watched, and replayed."""

import asyncio
from collections.abc import Callable

from starlette.types import Message, Receive, Scope

from turnlane.errors import BodyTooLarge, CapacityExceeded
from turnlane.keys import raw_headers

__all__ = ("BodyBudget", "ClientGone", "RequestBody")

LOOKS = 4  # passes from a closed socket to the server's word: it is read, closed, told of; one more in hypercorn


class ClientGone(Exception):
    """The client left before its request could run. There is nobody to answer."""


class BodyBudget:
    """How many bytes of bodies may be held at once, over all requests of a middleware."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.held: int = 0

    def exceeded(self) -> CapacityExceeded:
        """Return the error for who finds no room."""
        return CapacityExceeded(None, resource="body_budget", limit=self.limit)


class RequestBody:
    """Reads `receive` ahead of the app, and gives the app the same bytes again.

    What was read is kept as one piece and replayed as one message, whatever pieces it came in; the app then gets the
    real `receive`. A message that was being waited for when the app took over is given to the app in its place; no call
    of `receive` is cancelled while the app may still want its answer.

    Args:
        scope: of the request.
        receive: the server's.
        limit: bytes. A body that says it is longer is not read at all; one that turns out longer is read no further.
        budget: what all bodies held may have together.

    Mutable: `gone` (the client has left); `when_whole` (called once the body was read to its end); `_data` (None once
    replayed), `_complete` (the body has ended), `_overlong` (reading must stop), `_reader` (the task that reads while
    the request waits), `_handed_over` (the app reads now), `_late` (what the reader got after that).
    """

    __slots__ = (
        "_budget",
        "_complete",
        "_data",
        "_handed_over",
        "_late",
        "_limit",
        "_overlong",
        "_reader",
        "_receive",
        "gone",
        "when_whole",
    )

    def __init__(self, scope: Scope, receive: Receive, *, limit: int, budget: BodyBudget) -> None:
        self._receive = receive
        self._limit = limit
        self._budget = budget
        self._data: bytearray | None = bytearray()
        self._complete = False
        self._overlong = _declared_length(scope) > limit
        self._reader: asyncio.Task[None] | None = None
        self._handed_over = False
        self._late: Message | None = None
        self.gone: bool = False
        self.when_whole: Callable[[], None] | None = None

    async def whole(self, param: str) -> bytes:
        """Return the whole body; `param` names what it is read for.

        Raises:
            BodyTooLarge: it is longer than the limit.
            CapacityExceeded: there is no room for it.
            ClientGone: the client left before it was complete.
        """
        while not self._complete and not self._overlong:
            self._take(await self._receive())
            if self.gone:
                raise ClientGone
        if self._overlong:
            raise BodyTooLarge(param, body_limit=self._limit)
        return bytes(self._data or b"")

    def replace(self, data: bytes) -> None:
        """Let the app get another body; the request's own must be whole."""
        if self._data is not None:
            self._budget.held += len(data) - len(self._data)
            self._data = bytearray(data)

    @property
    def whole_if_read(self) -> bytearray | None:
        """The whole body, once it was read to its end; None before that, and for one that is longer than the limit."""
        return self._data if self._complete and not self._overlong else None

    def watch(self, stop: Callable[[CapacityExceeded | ClientGone], None]) -> None:
        """Read on in the background until the app takes over; `stop` is told why the request can not go on."""
        if not self._overlong and not self.gone and self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read_on(stop))

    async def look_again(self) -> bool:
        """Tell whether the client is still there, after the loop has looked at its sockets, where the body is watched.

        A lane may be handed over in the very moment its client hangs up; the server tells the reader some passes later.
        """
        for _ in range(LOOKS):
            if self.gone or self._reader is None or self._reader.done():
                break
            await asyncio.sleep(0)
        return not self.gone

    def hand_over(self) -> Receive:
        """Return the `receive` of the app; from now on nothing is read but for the app."""
        self._handed_over = True
        if self._reader is None and not self._data and not self._complete and self._late is None:
            return self._receive
        return self._replay

    async def aclose(self) -> None:
        """Stop reading and forget what was read."""
        self.forget()
        reader = self._reader
        if reader is None:
            return
        if not reader.done():
            reader.cancel()
            await asyncio.wait({reader}, timeout=1.0)
        elif not reader.cancelled():
            reader.exception()  # whoever wanted to read was told

    async def _read_on(self, stop: Callable[[CapacityExceeded | ClientGone], None]) -> None:
        while not self._overlong:
            message = await self._receive()
            if self._handed_over:
                self._late = message
                return
            try:
                self._take(message)
            except CapacityExceeded as error:
                stop(error)
                return
            if self.gone:
                stop(ClientGone())
                return
            if self._late is not None:
                return

    def _take(self, message: Message) -> None:
        kind: str = message["type"]
        if kind == "http.disconnect":
            self.gone = True
        elif kind != "http.request":
            raise RuntimeError(f"the server sent {kind!r} where a request has its body")
        elif self._complete or self._data is None:
            self._late = message  # more than the body there is: the app may make of it what it will
        else:
            chunk: bytes = message.get("body", b"")
            self._data += chunk
            self._budget.held += len(chunk)
            self._complete = not message.get("more_body", False)
            self._overlong = len(self._data) > self._limit
            if self._budget.held > self._budget.limit:
                raise self._budget.exceeded()
            if self._complete and self.when_whole is not None:
                self.when_whole()

    async def _replay(self) -> Message:
        if self._data is not None and (self._data or self._complete):
            body = bytes(self._data)
            self.forget()
            return {"type": "http.request", "body": body, "more_body": not self._complete}
        if self._reader is not None and not self._reader.done():
            # Not awaited itself: who waits here may be cancelled, and the message must then wait for the next caller.
            await asyncio.wait({self._reader})
        if self._late is not None:
            late, self._late = self._late, None
            return late
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.result()
        return await self._receive()

    def forget(self) -> None:
        """Let go of the bytes that were read, for a request that is refused: nobody else is refused for their sake."""
        if self._data is not None:
            self._budget.held -= len(self._data)
            self._data = None


def _declared_length(scope: Scope) -> int:
    for name, value in raw_headers(scope):
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 0
    return 0
