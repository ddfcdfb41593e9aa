"""WebSocket connections to an ASGI app, message by message."""

from collections.abc import Mapping, MutableMapping
from typing import Any, cast

from turnlane.testing._exchange import AsgiApp, Exchange, Message, require
from turnlane.testing._http import check_headers

__all__ = ("WebSocketConnection",)

DENIAL = "websocket.http.response"


class WebSocketConnection(Exchange):
    """One WebSocket, made by `AsgiDriver.start_websocket`."""

    def __init__(self, app: AsgiApp, scope: MutableMapping[str, Any], *, deadline: float) -> None:
        self._accepted = False
        self._closed = False
        self._denying = False
        self._goodbye: Message = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        super().__init__(app, scope, deadline=deadline)
        self._give({"type": "websocket.connect"})

    async def accepted(self) -> str | None:
        """Wait until the app accepts, and return the subprotocol it chose.

        Raises:
            ConnectionRefusedError: it closed or denied the connection instead.
        """
        message = await self.next_message()
        if message["type"] != "websocket.accept":
            raise ConnectionRefusedError(f"the app did not accept: {dict(message)}")
        return cast("str | None", message.get("subprotocol"))

    async def receive(self) -> str | bytes:
        """Return the next text or bytes the app sends.

        Raises:
            EOFError: it closed the connection.
        """
        while True:
            message: Mapping[str, Any] = await self.next_message()
            if message["type"] == "websocket.send":
                text: str | None = message.get("text")
                return cast("bytes", message["bytes"]) if text is None else text

    def send(self, data: str | bytes) -> None:
        """Send text or bytes.

        Raises:
            ValueError: the connection is closed.
        """
        if self._gone or self._closed:
            raise ValueError("the connection is closed")
        self._give({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data})

    def disconnect(self, code: int = 1005, reason: str = "") -> None:
        """Let the client leave, with a close code of RFC 6455."""
        self._goodbye = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._gone = True
        self._wake()

    def _check(self, message: Message) -> None:
        kind: str = message["type"]
        require(not self._closed, f"{kind} after the end of the connection")
        if kind.startswith(DENIAL):
            self._check_denial(kind, message)
        elif kind == "websocket.accept":
            require(not self._accepted and not self._denying, "websocket.accept twice, or after a denial")
            check_headers(message)
            self._accepted = True
        elif kind == "websocket.send":
            require(self._accepted, "websocket.send before websocket.accept")
            text, data = message.get("text"), message.get("bytes")
            require((text is None) != (data is None), "websocket.send needs either text or bytes")
            require(isinstance(text, str | None) and isinstance(data, bytes | None), "websocket.send of another type")
        else:
            require(kind == "websocket.close", f"{kind} is not a message of a websocket")
            self._closed = True

    def _check_denial(self, kind: str, message: Message) -> None:
        require(DENIAL in self.scope["extensions"], f"{kind} is not offered by this server")
        require(not self._accepted, f"{kind} after websocket.accept")
        if kind == f"{DENIAL}.start":
            require(not self._denying, f"{kind} twice")
            check_headers(message)
            self._denying = True
        else:
            require(kind == f"{DENIAL}.body" and self._denying, f"{kind} before {DENIAL}.start")
            require(isinstance(message.get("body", b""), bytes), "a body that is not bytes")
            self._closed = not message.get("more_body", False)

    def _complete(self) -> bool:
        return self._closed

    def _farewell(self) -> Message | None:
        return self._goodbye if self._gone or self._closed else None
