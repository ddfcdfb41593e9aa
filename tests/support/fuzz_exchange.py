"""One fuzzed request under way: the server's side and the app."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

from support.fuzz_requests import Drawn, Pair, in_form
from support.fuzz_targets import Target
from turnlane import Turn, current_turn, errors, keys

__all__ = ("NAME", "Exchange", "app", "expected_of")

NAME = "support.fuzz"  # where the app finds the exchange in its scope
DISCONNECT: Mapping[str, Any] = {"type": "http.disconnect"}
HEADERS: tuple[tuple[Pair, ...], ...] = (
    (),
    ((b"content-type", b"text/plain"),),
    (
        (b"content-type", b"text/plain"),
        (b"x-session-id", b"the app's own"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ),
)
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class ClientLeft(OSError):
    """What `send` of some servers raises once the client has left."""


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The app behind every middleware of this suite: does what the exchange in its scope says."""
    await scope[NAME].run_app(scope, receive, send)


class _Request:
    """A request for an extractor that is asked without a middleware."""

    def __init__(self, drawn: Drawn) -> None:
        self.scope = drawn.plain_scope()
        self._body = drawn.body

    async def body(self) -> bytes:
        return self._body


async def expected_of(extractor: keys.KeyExtractor, drawn: Drawn) -> str | int | None:
    """Return the key an extractor finds when it is asked directly, or the status it is refused with."""
    try:
        raw = await keys.extract(extractor, _Request(drawn))
        return None if raw is None else keys.canonical(raw, "the key")
    except errors.SessionKeyRequired:
        return 400
    except errors.SessionKeyInvalid:
        return 422


class Exchange:
    """A request, its scripted `receive` and `send`, and a record of all that happened.

    Args:
        target: the middleware.
        drawn: the request.
        rng: decides how the app and the server behave.
        expected: the key, the status of the refusal, or None, as an extractor that is asked directly finds it.
        contended: whether others want the same lane; `receive` then waits for a client that stays, as a server does.
        order: numbers of exchanges are put here as the app is called for them.

    Mutable: everything but these.
    """

    def __init__(
        self,
        target: Target,
        drawn: Drawn,
        rng: Random,
        expected: str | int | None,
        *,
        contended: bool = False,
        number: int = 0,
        order: list[int] | None = None,
    ) -> None:
        self.target = target
        self.drawn = drawn
        self.expected = expected
        self.contended = contended
        self.number = number
        self.order: list[int] = [] if order is None else order
        self.scope: dict[str, Any] = {**drawn.scope(), NAME: self}
        self.behaviour: str = rng.choice(("read", "read", "read", "skip", "one", "listen", "late"))
        self.pauses: int = rng.choice((0, 0, 1, 2)) if contended or rng.random() < 0.2 else 0
        self.send_fails: bool = rng.random() < 0.3
        self.headers: tuple[Pair, ...] = rng.choice(HEADERS)
        self.form: str = rng.choice(("list", "tuple", "iterator"))
        self.gone = self.told_gone = self.gone_before_app = self.cancelled = self.receiving = False
        self.ended = self.finished = self.sending = False
        self.calls = self.position = 0
        self.turn: Turn | None = None
        self.read: list[bytes] = []
        self.complete = self.app_told_gone = False
        self.sent: list[Any] = []
        self.raised: ClientLeft | None = None
        self.wrong: list[str] = []
        self._news: asyncio.Future[None] | None = None

    # -- the server's side

    async def receive(self) -> Any:
        """Return the next message of the script; once it is at its end, wait or tell that the client has gone."""
        if self.receiving:
            self.wrong.append("receive was called while another call of it had not returned")
        self.receiving = True
        try:
            for _ in range(self.pauses):
                await asyncio.sleep(0)
            if not self.gone and self.position == len(self.drawn.script) and not self.ended:
                await self._wait_for_news()
            if self.gone or self.position == len(self.drawn.script):
                return self._tell_gone()
            message = self.drawn.script[self.position]
            self.position += 1
            return dict(message) if message["type"] == "http.request" else self._tell_gone()
        finally:
            self.receiving = False

    async def send(self, message: Any) -> None:
        """Take a message of the response."""
        if self.gone and self.send_fails:
            self.raised = ClientLeft("the client has left")
            raise self.raised
        kind = message["type"]
        if self.pauses:
            self.sending = True
            await asyncio.sleep(0)
            self.sending = False
        if kind != ("http.response.body" if self.sent else "http.response.start") or self.ended:
            self.wrong.append(f"{kind} out of order")
        message = dict(message)
        self.sent.append(message)
        if kind == "http.response.start":
            self._look_at_headers(message)
        elif not message.get("more_body", False):
            self.ended = True
            self._tell()

    def leave(self) -> None:
        """Let the client leave now; what has not been received is lost."""
        self.gone = True
        self._tell()

    async def _wait_for_news(self) -> None:
        if not self.contended:
            self.wrong.append("receive was called where a server would wait for ever")
            return
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _tell_gone(self) -> Any:
        if not self.ended:
            self.gone = self.told_gone = True
            self.gone_before_app = self.gone_before_app or self.calls == 0
        return dict(DISCONNECT)

    def _look_at_headers(self, message: Any) -> None:
        headers = message["headers"] = [tuple(pair) for pair in message.get("headers", ())]
        if self.calls and message["status"] == 200 and tuple(headers[: len(self.headers)]) != self.headers:
            self.wrong.append(f"the app's headers {self.headers!r} were sent as {headers!r}")
        if sum(name == b"x-session-id" for name, _ in headers) > 1:
            self.wrong.append(f"x-session-id twice: {headers!r}")
        for name, value in headers:
            if type(name) is not bytes or type(value) is not bytes or name != name.lower():
                self.wrong.append(f"not a header: {name!r}: {value!r}")
            elif any(byte in name + value for byte in b"\r\n\0"):
                self.wrong.append(f"a header that ends its line: {name!r}: {value!r}")

    # -- the app

    async def run_app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Behave as an app: read or not, answer, and record what was seen."""
        self.calls += 1
        self.order.append(self.number)
        state: dict[str, Any] = scope.get("state") or {}
        self.turn = state.get("turn")
        if current_turn() is not self.turn:
            self.wrong.append(f"current_turn() is {current_turn()!r} where the scope has {self.turn!r}")
        if tuple(tuple(pair) for pair in scope.get("headers", ())) != (self.drawn.headers or ()):
            self.wrong.append("the app was given other headers")
        self._look_at_lane()
        start: dict[str, Any] = {"type": "http.response.start", "status": 200}
        if self.headers:
            start["headers"] = in_form(self.headers, self.form)
        if self.behaviour == "late":
            await send(start)
        if self.behaviour != "skip":
            await self._read(receive, 1 if self.behaviour == "one" else None)
        if self.behaviour != "late":
            await send(start)
        self._look_at_lane()
        await send({"type": "http.response.body", "body": b"o", "more_body": True})
        for _ in range(self.pauses):
            await asyncio.sleep(0)
            self._look_at_lane()
        await send({"type": "http.response.body", "body": b"k"})
        if self.behaviour == "listen" and self.complete and (await receive())["type"] != "http.disconnect":
            self.wrong.append("the app was given more than the body")
        self.finished = True

    async def _read(self, receive: Receive, limit: int | None) -> None:
        while limit is None or len(self.read) < limit:
            message = await receive()
            self._look_at_lane()
            if message["type"] == "http.disconnect":
                self.app_told_gone = True
                return
            self.read.append(message.get("body", b""))
            if not message.get("more_body", False):
                self.complete = True
                return

    def _look_at_lane(self) -> None:
        if self.turn is not None and self.target.lanes.gate.table.holders.get(self.turn.key) is not self.turn:
            self.wrong.append("the app runs while its turn does not hold the lane")
