"""Drives an ASGI app as a server would, one message at a time.

The usual test clients send a whole request and return a whole response. This one can also leave in the middle, send
half a body, read a stream message by message, and see that the app still runs after its response.

    async with AsgiDriver(app) as driver:
        request = driver.start("POST", "/chat", headers={"x-session-key": "a"}, body=b"hello")
        assert await request.body_chunk() == b"first words"
        request.disconnect()
        await request.finished()
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import unquote

from turnlane.testing._exchange import AsgiApp, AsgiProtocolViolation, Exchange, Message, require
from turnlane.testing._http import HttpRequest, Response
from turnlane.testing._websocket import WebSocketConnection

__all__ = ("AsgiDriver", "AsgiProtocolViolation", "HttpRequest", "LifespanFailed", "Response", "WebSocketConnection")

Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]


class LifespanFailed(Exception):
    """The app answered the lifespan protocol with a failure; the message is the app's."""


class AsgiDriver:
    """Calls `app` as a server would, strictly: what the ASGI specification forbids raises `AsgiProtocolViolation`.

    Each call runs in a task of its own with an empty context, so the app does not see the context variables of the
    test. Leaving `async with` cancels what still runs and raises what an app raised and nobody was told.

    Not the same as a server: nothing is parsed or framed, and headers are passed on as given.

    Mutable: `_exchanges`, the calls that were made, and `_state`, what the lifespan put there for requests.

    Args:
        app: any ASGI 3 application.
        deadline: seconds; a guard on every wait, so that a test fails instead of hanging.
        extensions: names of ASGI extensions this server offers, such as `http.response.pathsend`.
        spec_version: of ASGI. Up to 2.3 `send` goes on without an error when the client has left, as with uvicorn;
            from 2.4 on it raises OSError, and frameworks stop listening for the disconnect.

    Raises:
        ValueError: `deadline` is not positive, or the version is neither 2.3 nor 2.4.
    """

    def __init__(
        self, app: AsgiApp, *, deadline: float = 10.0, extensions: Iterable[str] = (), spec_version: str = "2.3"
    ) -> None:
        if not deadline > 0:
            raise ValueError(f"deadline must be positive, not {deadline}")
        if spec_version not in ("2.3", "2.4"):
            raise ValueError(f"spec_version must be '2.3' or '2.4', not {spec_version!r}")
        self._spec_version = spec_version
        self._app = app
        self._deadline = deadline
        self._extensions = tuple(extensions)
        self._exchanges: list[Exchange] = []
        self._state: dict[str, Any] = {}

    def __repr__(self) -> str:
        running = sum(not exchange.task.done() for exchange in self._exchanges)
        return f"<AsgiDriver exchanges={len(self._exchanges)} running={running}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with AsyncExitStack() as stack:
            for exchange in self._exchanges:
                if error is None:
                    await stack.enter_async_context(exchange)
                else:
                    # The test has failed already: its error is the one to see.
                    stack.push_async_callback(exchange.cancel)
        self._exchanges.clear()

    def start(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        headers: Headers = (),
        body: bytes | None = b"",
        http_version: str = "1.1",
        root_path: str = "",
        state: Mapping[str, Any] | None = None,
        backpressure: bool = False,
    ) -> HttpRequest:
        """Start a request; the app runs as soon as the test waits for something.

        Args:
            method: the HTTP method.
            target: path and query as in a request line, percent-encoded.
            headers: names are made lower-case; `host` is added if missing.
            body: the whole body, or None to send it with `send_body`.
            http_version: as the server would tell it.
            root_path: where the app is mounted; it is put before the path.
            state: added to a copy of what the lifespan left in its state.
            backpressure: let each `send` of the app wait until the test has taken the message.
        """
        scope = self._scope("http", target, headers, root_path, state)
        scope.update(method=method.upper(), http_version=http_version, scheme="http")
        request = HttpRequest(self._app, scope, body=body, deadline=self._deadline, backpressure=backpressure)
        self._exchanges.append(request)
        return request

    def start_websocket(
        self,
        target: str = "/",
        *,
        headers: Headers = (),
        subprotocols: Iterable[str] = (),
        root_path: str = "",
        state: Mapping[str, Any] | None = None,
    ) -> WebSocketConnection:
        """Start a WebSocket connection; see `start` for the arguments."""
        scope = self._scope("websocket", target, headers, root_path, state)
        scope.update(http_version="1.1", scheme="ws", subprotocols=list(subprotocols))
        connection = WebSocketConnection(self._app, scope, deadline=self._deadline)
        self._exchanges.append(connection)
        return connection

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[dict[str, Any], None]:
        """Start the app up and shut it down around the block; yields the state, which requests get a copy of.

        Raises:
            LifespanFailed: the app could not start up or shut down.
        """
        scope: MutableMapping[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        scope["state"] = self._state = {}
        async with _Lifespan(self._app, scope, deadline=self._deadline) as lifespan:
            await lifespan.phase("startup")
            try:
                yield self._state
            finally:
                self._state = {}
                await lifespan.phase("shutdown")
                await lifespan.finished()

    def _scope(
        self, kind: str, target: str, headers: Headers, root_path: str, state: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        path, _, query = target.partition("?")
        raw = [(_bytes(name).lower(), _bytes(value)) for name, value in _pairs(headers)]
        if not any(name == b"host" for name, _ in raw):
            raw.insert(0, (b"host", b"testserver"))
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": self._spec_version},
            "path": root_path + unquote(path),
            "raw_path": (root_path + path).encode(),
            "query_string": query.encode(),
            "root_path": root_path,
            "headers": raw,
            "client": ("127.0.0.1", 50000),
            "server": ("testserver", 80),
            "state": {**self._state, **(state or {})},
            "extensions": {name: {} for name in self._extensions},
        }


class _Lifespan(Exchange):
    _asked = ""
    _answered = False

    async def phase(self, name: str) -> None:
        """Let the app do one phase, and wait for its answer."""
        self._asked, self._answered = name, False
        self._give({"type": f"lifespan.{name}"})
        answer = await self.next_message()
        if answer["type"].endswith(".failed"):
            raise LifespanFailed(f"{name}: {answer.get('message') or 'no reason given'}")

    def _check(self, message: Message) -> None:
        kind: str = message["type"]
        answers = {f"lifespan.{self._asked}.complete", f"lifespan.{self._asked}.failed"}
        require(kind in answers and not self._answered, f"{kind} does not answer lifespan.{self._asked}")
        self._answered = True

    def _complete(self) -> bool:
        return False

    def _farewell(self) -> Message | None:
        return None


def _pairs(headers: Headers) -> Iterable[tuple[str | bytes, str | bytes]]:
    return cast("Mapping[str, str]", headers).items() if isinstance(headers, Mapping) else headers


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
