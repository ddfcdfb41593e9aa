"""HTTP requests to an ASGI app, step by step."""

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from turnlane.testing._exchange import AsgiApp, Exchange, Message, require

__all__ = ("HttpRequest", "Response", "check_headers")

ANNOUNCEMENTS = frozenset({"http.response.debug", "http.response.early_hint", "http.response.push"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole response.

    `headers` has lower-case names, with equal ones joined by commas; `raw_headers` has them as they were sent. The
    bytes of a file that the app let the server send are not in `body`.
    """

    status: int
    headers: Mapping[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the body as the JSON document it is."""
        return json.loads(self.body)


class HttpRequest(Exchange):
    """One request, made by `AsgiDriver.start`."""

    def __init__(
        self,
        app: AsgiApp,
        scope: MutableMapping[str, Any],
        *,
        body: bytes | None,
        deadline: float,
        backpressure: bool,
    ) -> None:
        self._sent_all = False
        self._started = False
        self._body_ended = False
        self._trailers = False
        super().__init__(app, scope, deadline=deadline, backpressure=backpressure)
        if body is not None:
            self._queue_body(body, more=False)

    async def send_body(self, chunk: bytes, *, more: bool = True) -> None:
        """Send a part of the body, and let the other tasks of the loop run once.

        Args:
            chunk: the bytes.
            more: whether other parts follow; False ends the body.

        Raises:
            ValueError: the body has ended, or the client has gone.
        """
        if self._sent_all or self._gone:
            raise ValueError("the client has gone" if self._gone else "the body has been sent to its end")
        self._queue_body(chunk, more=more)
        await asyncio.sleep(0)

    def disconnect(self, *, lose_body: bool = False) -> None:
        """Let the client leave: `receive` tells it, and `send` goes on without an error, as with real servers.

        Args:
            lose_body: whether what the app has not received of the body yet is lost, as some servers do.
        """
        self._gone = True
        if lose_body:
            self._incoming.clear()
        self._wake()

    async def body_chunk(self) -> bytes:
        """Return the next bytes of the response's body that are not empty; empty bytes once it has ended."""
        while True:
            try:
                message = await self.next_message()
            except EOFError:
                return b""
            if message["type"] == "http.response.body" and message.get("body"):
                return cast("bytes", message["body"])

    async def response(self) -> Response:
        """Return the whole response, from its beginning, once its body has ended.

        The app may still run after that: see `finished`.
        """
        while not self._complete():
            await self.next_message()
        self._read = len(self.messages)
        self._wake()
        start = next(message for message in self.messages if message["type"] == "http.response.start")
        raw = tuple((bytes(name), bytes(value)) for name, value in start.get("headers", ()))
        headers: dict[str, str] = {}
        for name, value in raw:
            text = value.decode("latin-1")
            key = name.decode("latin-1").lower()
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        body = b"".join(m.get("body", b"") for m in self.messages if m["type"] == "http.response.body")
        return Response(status=int(start["status"]), headers=MappingProxyType(headers), raw_headers=raw, body=body)

    def _queue_body(self, chunk: bytes, *, more: bool) -> None:
        self._sent_all = not more
        self._give({"type": "http.request", "body": chunk, "more_body": more})

    def _check(self, message: Message) -> None:
        kind: str = message["type"]
        if kind not in {"http.response.start", "http.response.body"}:
            require(kind in self.scope["extensions"], f"{kind} is not offered by this server")
        require(not self._complete(), f"{kind} after the end of the response")
        if kind in ANNOUNCEMENTS:
            return
        if kind == "http.response.start":
            self._check_start(message)
            return
        require(self._started, f"{kind} before http.response.start")
        if kind == "http.response.trailers":
            require(self._trailers and self._body_ended, "trailers that were not announced, or before the body ended")
            check_headers(message)
            self._trailers = _flag(message, "more_trailers")
            return
        require(not self._body_ended, f"{kind} after the end of the body")
        if kind == "http.response.body":
            body = message.get("body", b"")
            require(isinstance(body, bytes), f"a body of {type(body).__name__}, not bytes")
        self._body_ended = kind == "http.response.pathsend" or not _flag(message, "more_body")

    def _check_start(self, message: Message) -> None:
        require(not self._started, "http.response.start twice")
        status = message.get("status")
        require(isinstance(status, int) and 100 <= status <= 999, f"not a status: {status!r}")
        check_headers(message)
        self._trailers = _flag(message, "trailers")
        self._started = True

    def _complete(self) -> bool:
        return self._body_ended and not self._trailers

    def _farewell(self) -> Message | None:
        return {"type": "http.disconnect"} if self._gone or self._complete() else None


def check_headers(message: Message) -> None:
    """Raise `AsgiProtocolViolation` unless the headers are pairs of bytes without line ends.

    Names should be lower-case, but servers take what Django sends, and so must a driver.
    """
    for pair in message.get("headers", ()):
        name, value = pair
        require(isinstance(name, bytes) and isinstance(value, bytes), f"a header that is not bytes: {pair!r}")
        require(not any(end in name + value for end in (b"\r", b"\n", b"\0")), f"a header with a line end: {pair!r}")


def _flag(message: Message, name: str) -> bool:
    value = message.get(name, False)
    require(isinstance(value, bool), f"{name} of {message['type']} is {value!r}, not a bool")
    return bool(value)
