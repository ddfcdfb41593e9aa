"""Waiting in line with a connection that is kept alive."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import json
from collections.abc import Iterable
from typing import cast

from starlette.types import Scope, Send

from turnlane.asgi.body import ClientGone, RequestBody
from turnlane.asgi.early_stream import EarlyStream, is_event_stream
from turnlane.asgi.keepalive import Beats
from turnlane.keys import raw_headers
from turnlane.lanes.gate import Gate
from turnlane.lanes.line import Waiter
from turnlane.turns import Turn

__all__ = ("KeptWait", "asks_for_stream")


class KeptWait:
    """Waits for one request's turn, and sends comment lines meanwhile if the request asked for a stream.

    All is sent by the task of the request itself. A turn that is handed its lane while a comment line is being sent
    begins when it was.

    Mutable: nothing of its own; its `EarlyStream` knows what was sent.
    """

    __slots__ = ("_beats", "_body", "_early", "_scope", "_send")

    def __init__(self, beats: Beats, scope: Scope, body: RequestBody, send: Send) -> None:
        self._beats = beats
        self._scope = scope
        self._body = body
        self._send = send
        self._early = EarlyStream(scope, send)

    @property
    def send(self) -> Send:
        """Where the response goes now."""
        return self._early.send if self._early.begun else self._send

    async def wait(self, gate: Gate, turn: Turn, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Do what `gate.wait` does, with comment lines in a response that has `headers`.

        Raises:
            ClientGone: the client left.
            LaneError: as `gate.wait`.
        """
        try:
            await self._send_comments(turn, headers)
        except OSError:  # the client has left: so say some servers to who sends
            self._body.gone = True
            gate.expel(turn, ClientGone(), "client_gone")
        except BaseException as caught:
            replacement = gate.wait_failed(turn, caught)
            cast("Waiter", turn._wait).future = None  # as in `gate.wait`
            if replacement is not None:
                raise replacement from caught
            raise
        await gate.wait(turn)

    async def fail(self) -> None:
        """End a response that was begun and that the app will not go on with."""
        await self._early.fail()

    async def _send_comments(self, turn: Turn, headers: Iterable[tuple[bytes, bytes]]) -> None:
        over = cast("Waiter", turn._wait).future
        first = not self._early.begun
        while await self._beats.sleep(over, first=first):
            if first:
                first = False
                await self._whole_body(over)
                body = self._body.whole_if_read
                if over.done() or body is None or not asks_for_stream(self._scope, body):
                    return
            await self._early.say_queued(headers)

    async def _whole_body(self, over: "asyncio.Future[BaseException | None]") -> None:
        """Wait until the body was read to its end, or `over` is done; for one over the limit that is the same."""
        if self._body.whole_if_read is not None:
            return
        read: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: object = None) -> None:
            if not read.done():
                read.set_result(None)

        over.add_done_callback(wake)
        self._body.when_whole = wake
        try:
            await read
        finally:
            over.remove_done_callback(wake)
            self._body.when_whole = None


def asks_for_stream(scope: Scope, body: bytes | bytearray) -> bool:
    """Tell whether a request asked for a stream of events and for nothing else; see `KeepAlive`."""
    if scope["method"] == "HEAD":
        return False
    stated = _stated_in(body)
    if stated is not None:
        return stated
    accepted = [part for name, value in raw_headers(scope) if name == b"accept" for part in value.split(b",")]
    return bool(accepted) and all(is_event_stream(part) for part in accepted)


def _stated_in(body: bytes | bytearray) -> bool | None:
    if b'"stream"' not in body:
        return None
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    stated = cast("dict[str, object]", document).get("stream") if isinstance(document, dict) else None
    return stated if isinstance(stated, bool) else None
