"""A stream of events that begins before the app is called, and goes on as the app's own."""

import logging
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from enum import Enum, auto
from typing import Any

from starlette.types import Message, Scope, Send

from turnlane.asgi.in_band import error_event, error_of_response, error_of_silence, is_problem
from turnlane.asgi.sharing import ask_for_plain

__all__ = ("EarlyStream",)

QUEUED = b": queued\n"  # one line end: a blank line after an `id:` is an event without data to the OpenAI client
HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-accel-buffering", b"no"),
)
MOST_OF_A_BODY = 64 * 1024  # bytes of an error's body that are looked at

logger: logging.Logger = logging.getLogger("turnlane.asgi")


class Phase(Enum):
    """How far the response is."""

    SILENT = auto()  # nothing was sent
    QUEUED = auto()  # comment lines, and nothing of the app
    STREAM = auto()  # the app's events
    OTHER = auto()  # the app answers with something else: it is read to its end, then told as an error
    ENDED = auto()  # nothing more is sent


class EarlyStream:
    """Begins a response while its request waits, and makes the app's messages the rest of it.

    A response that can not be the rest of it is read to its end, and told as an error event then and not before: to the
    app the end of the response is the end of its client.

    Mutable: `_phase`; `_status`, `_kind` and `_body`, of a response that is read to be told.
    """

    __slots__ = ("_body", "_kind", "_phase", "_raw_send", "_scope", "_status")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._raw_send = send
        self._phase = Phase.SILENT
        self._status = 0
        self._kind = b""
        self._body: bytearray | None = None

    @property
    def begun(self) -> bool:
        """Whether anything was sent."""
        return self._phase is not Phase.SILENT

    async def say_queued(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send a comment line; before the first one the start of the response, with `headers` added."""
        if not self.begun:
            self._phase = Phase.QUEUED
            ask_for_plain(self._scope)  # what the app answers goes into a response that says it is not compressed
            await self._raw_send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *headers]})
        await self._raw_send({"type": "http.response.body", "body": QUEUED, "more_body": True})

    def send(self, message: Message) -> Awaitable[None]:
        """Send what can be sent of the app's message."""
        if self._phase is Phase.STREAM and message["type"] == "http.response.body":
            return self._raw_send(message)
        return self._translate(message)

    async def fail(self) -> None:
        """End the response with an error event, if it waits for an answer of the app that will not come."""
        if self._phase in (Phase.QUEUED, Phase.OTHER):
            with suppress(OSError):  # the client has left
                await self._end_with(error_of_silence())

    async def _translate(self, message: Message) -> None:
        kind: str = message["type"]
        if kind == "http.response.start" and self._phase is Phase.QUEUED:
            self._begin(message)
        elif kind in ("http.response.early_hint", "http.response.trailers") or self._phase is Phase.ENDED:
            return  # there is no place for it any more
        elif kind in ("http.response.debug", "http.response.push"):
            await self._raw_send(message)
        elif self._phase is Phase.QUEUED:
            raise RuntimeError(f"the app sent {kind!r} where its response has to start")
        elif self._phase is Phase.OTHER or kind == "http.response.pathsend":
            await self._read(message)
        else:
            await self._raw_send(message)

    def _begin(self, message: Message) -> None:
        headers = {bytes(name).lower(): bytes(value) for name, value in message.get("headers", ())}
        self._status, self._kind = message["status"], headers.get(b"content-type", b"")
        plain = headers.get(b"content-encoding", b"identity").strip().lower() == b"identity"
        if self._status == 200 and plain and is_event_stream(self._kind):
            self._phase = Phase.STREAM
            return
        self._phase = Phase.OTHER
        self._body = bytearray() if plain else None

    async def _read(self, message: Message) -> None:
        if self._body is not None and len(self._body) <= MOST_OF_A_BODY:
            self._body += message.get("body", b"")
        if message["type"] != "http.response.pathsend" and message.get("more_body", False):
            return
        if self._status < 400 and not is_problem(self._kind):
            logger.warning(
                "answer_is_no_stream status=%d type=%s: keep-alive had begun a stream, the answer is lost",
                self._status,
                self._kind.decode("latin-1"),
            )
        body = self._body or b""
        document = error_of_response(self._status, self._kind, bytes(body) if len(body) <= MOST_OF_A_BODY else b"")
        await self._end_with(document)

    async def _end_with(self, document: Mapping[str, Any]) -> None:
        self._phase, self._body = Phase.ENDED, None
        await self._raw_send({"type": "http.response.body", "body": error_event(document), "more_body": False})


def is_event_stream(content_type: bytes) -> bool:
    """Tell whether a content type is that of a stream of events."""
    return content_type.split(b";", 1)[0].strip().lower() == b"text/event-stream"
