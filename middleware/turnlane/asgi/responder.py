"""The response of one request in a lane: what is added to it, and how an error ends one that has begun."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message, Send

from turnlane.asgi.in_band import error_event
from turnlane.asgi.refusals import document_of
from turnlane.sessions import Session
from turnlane.turns import Turn

__all__ = ("LateResponder", "Responder", "headers_in_line")

NOT_WAITED = ((b"x-turnlane-waited-ms", b"0"), (b"x-turnlane-position", b"0"))
# What an app may send before or between the parts of a response that is no part of it.
ANNOUNCEMENTS = frozenset({"http.response.debug", "http.response.early_hint", "http.response.push"})
LONGEST_GAP = 4  # bytes that tell whether an event of a stream has ended
FINAL = frozenset({"http.response.body", "http.response.zerocopysend"})


class Responder:
    """Passes the app's messages on, adds headers to the first, and remembers what was sent.

    Attributes:
        raw_send: the server's.
        turn: whose headers are added; None for none.
        show_session: whether `x-session-id` is one of them.

    Mutable: `start` and `last`, the messages last seen, and `tail`, the last bytes of an unfinished body.
    """

    # No __init__ and no __slots__: to leave a default of the class unset costs each request less than to set it.
    raw_send: Send
    turn: Turn | None
    show_session: bool = False
    start: Message | None = None
    last: Message | None = None
    tail: bytes = b""

    def prepare(self, send: Send, turn: Turn | None, *, show_session: bool) -> None:
        """Set what the middleware itself sets where it is in a hurry."""
        self.raw_send = send
        self.turn = turn
        self.show_session = show_session

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message; not a coroutine function, which would cost each message a frame."""
        kind: str = message["type"]
        if kind == "http.response.body":
            self.last = message
            if message.get("more_body", False):
                self.tail = (self.tail + message.get("body", b"")[-LONGEST_GAP:])[-LONGEST_GAP:]
        elif kind == "http.response.start" and self.start is None:
            turn = self.turn
            if turn is not None:
                named = f"{turn._owner.turn_id_prefix}{turn._number}".encode()  # turn.id, without a call
                waited, position = NOT_WAITED
                headers = [*message.get("headers", ()), (b"x-turnlane-turn", named), waited, position]
                if turn._wait is not None:
                    headers[-2:] = _wait_headers(turn)
                if self.show_session and turn.session is not None:
                    _name_session(headers, turn.session)
                message = {**message, "headers": headers}
            elif message.get("headers").__class__ is not list:
                message = {**message, "headers": [*message.get("headers", ())]}  # may be read once only
            self.start = message
        elif kind not in ANNOUNCEMENTS:
            self.last = message
        return self.raw_send(message)

    @property
    def ended(self) -> bool:
        """Whether the app has sent everything."""
        start, last = self.start, self.last
        if start is None or last is None:
            return False
        kind: str = last["type"]
        if start.get("trailers", False):
            return kind == "http.response.trailers" and not last.get("more_trailers", False)
        return kind == "http.response.pathsend" or (kind in FINAL and not last.get("more_body", False))

    async def end_with(self, error: BaseException) -> bool:
        """End a stream of events that has begun with `error` as its last event; tell whether it is such a stream.

        Understood by the OpenAI and Anthropic clients, which raise it and do not send the request again.
        """
        if not self._is_event_stream():
            return False
        data = _gap_after(self.tail) + error_event(_error_of(error))
        await self.send({"type": "http.response.body", "body": data, "more_body": False})
        return True

    def _is_event_stream(self) -> bool:
        start, last = self.start, self.last
        if start is None or start.get("trailers", False) or (last is not None and last["type"] != "http.response.body"):
            return False
        headers = {bytes(name).lower(): bytes(value) for name, value in start.get("headers", ())}
        if b"content-encoding" in headers or b"content-length" in headers:
            return False
        return headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower() == b"text/event-stream"


class LateResponder(Responder):
    """A responder that does something when the response has ended, and can outlive its client.

    Args:
        at_end: awaited once the last message was sent.
        deaf: whether a client that has left is no error for the app.
    """

    __slots__ = ("_at_end", "_deaf", "_told")

    def __init__(self, *, at_end: Callable[[], Awaitable[None]], deaf: bool) -> None:
        self._at_end = at_end
        self._deaf = deaf
        self._told = False

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message."""
        return self._pass(super().send(message))

    async def _pass(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except OSError:
            if not self._deaf:
                raise
        if self.ended and not self._told:
            self._told = True
            await self._at_end()


def headers_in_line(turn: Turn, session_id: str | None) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response that begins before its turn does: how long it will wait is not known yet."""
    headers = [(b"x-turnlane-turn", turn.id.encode()), *_wait_headers(turn)[1:]]
    if session_id is not None:
        headers.append((b"x-session-id", session_id.encode()))
    return headers


def _wait_headers(turn: Turn) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"x-turnlane-waited-ms", b"%d" % (turn.waited * 1000)),
        (b"x-turnlane-position", b"%d" % turn.position),
    ]
    if turn.hinted:
        headers.append((b"x-turnlane-hint", b"queued"))
    return headers


def _name_session(headers: list[tuple[bytes, bytes]], session: Session) -> None:
    if all(bytes(name).lower() != b"x-session-id" for name, _ in headers):
        headers.append((b"x-session-id", session.id.encode()))


def _gap_after(tail: bytes) -> bytes:
    """Return what ends the event that stands there half; no more, since a blank line of its own is an event to some."""
    if not tail or tail.endswith((b"\n\n", b"\r\r", b"\n\r\n")):
        return b""
    return b"\n" if tail.endswith((b"\n", b"\n\r")) else b"\n\n"


def _error_of(error: BaseException) -> dict[str, Any]:
    document = document_of(error)
    return {name: document[name] for name in ("error", "into") if name in document}
