"""Apps that tests stage step by step, and the middleware between them and the driver."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnlane import LaneMiddleware, Lanes, Runtime, Turn, current_turn
from turnlane.hooks import Event, Hooks
from turnlane.testing import AsgiDriver, HttpRequest, no_leaks

__all__ = (
    "KEY",
    "NOBODY",
    "StagedApp",
    "answer_with",
    "body_held",
    "chunk",
    "header_of",
    "in_line",
    "laned",
    "passes",
    "post",
    "read_body",
    "serving",
    "start",
    "until",
    "watched",
)

KEY = "x-session-key"

# How a request ends whose client left before its turn ran. Servers drop it; middlewares outside must see some response.
NOBODY: list[Message] = [
    {"type": "http.response.start", "status": 499, "headers": []},
    {"type": "http.response.body", "body": b"", "more_body": False},
]

Step = Callable[[Scope, Receive, Send], Awaitable[None]]


class StagedApp:
    """Answers each request when the test says so, and remembers who was in it, when.

    A request's name is its header `x-name`. `log` gets "+name" when its call begins and "-name" when it ends, however
    it ends; `turns`, `bodies` and `scopes` are what it was called with. `steps` replaces what a request of that name
    does.
    """

    def __init__(self, *, held: bool = True) -> None:
        self.log: list[str] = []
        self.turns: dict[str, Turn | None] = {}
        self.bodies: dict[str, bytes] = {}
        self.scopes: dict[str, Scope] = {}
        self.steps: dict[str, Step] = {}
        self._held = held
        self._entered: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = header_of(scope, b"x-name").decode()
        self.log.append(f"+{name}")
        self.turns[name] = current_turn()
        self.scopes[name] = scope
        self._entered[name].set()
        try:
            if name in self.steps:
                await self.steps[name](scope, receive, send)
                return
            self.bodies[name] = await read_body(receive)
            if self._held:
                await self._released[name].wait()
            await answer_with(send, name.encode())
        finally:
            self.log.append(f"-{name}")

    async def entered(self, name: str) -> None:
        """Wait until the app was called for the request of that name."""
        async with asyncio.timeout(10):
            await self._entered[name].wait()

    async def released(self, name: str) -> None:
        """Wait until the test lets that name go; for steps."""
        await self._released[name].wait()

    def release(self, *names: str) -> None:
        """Let requests of these names go on."""
        for name in names:
            self._released[name].set()


def start(status: int = 200, *headers: tuple[bytes, bytes], **members: Any) -> Message:
    """Return the message that begins a response."""
    return {"type": "http.response.start", "status": status, "headers": list(headers), **members}


def chunk(body: bytes, *, more: bool = True) -> Message:
    """Return a message with a part of the response's body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


async def answer_with(send: Send, body: bytes = b"ok", *headers: tuple[bytes, bytes]) -> None:
    """Send a whole response."""
    await send(start(200, *headers))
    await send(chunk(body, more=False))


async def read_body(receive: Receive) -> bytes:
    """Return the body to its end; a client that left before that is an error."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError(f"{message['type']} after {len(body)} bytes")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def header_of(scope: Scope, name: bytes) -> bytes:
    """Return a request's header, empty if it has none."""
    return next((bytes(value) for found, value in scope["headers"] if found == name), b"")


def laned(app: ASGIApp, *, way: str = "short", **settings: Any) -> LaneMiddleware:
    """Return the middleware in front of `app`, made so that requests go one of its ways.

    `short` is the way of an idle lane where the key is all there is to look at; `told` is the same with a listener;
    `long` goes step by step, and `sessions` too, with a session for each key.
    """
    settings.setdefault("key", KEY)
    settings.setdefault("trusted_keys", True)
    if way == "told":
        lanes = settings.setdefault("lanes", Lanes())
        lanes.hooks.install(Ears())
    elif way == "long":
        settings.setdefault("bypass", "/no/such/path")
    elif way == "sessions" and "runtime" not in settings:
        settings["runtime"] = Runtime(lanes=settings.pop("lanes", "memory://"), sessions="memory://")
    elif way not in {"short", "sessions"}:
        raise ValueError(f"no such way: {way}")
    return LaneMiddleware(app, **settings)


class Ears:
    """A hook plugin that listens to everything and does nothing."""

    def register(self, hooks: Hooks) -> None:
        """Listen."""
        hooks.on(Event, self.hear)

    def hear(self, event: Event) -> None:
        """Hear an event."""


@asynccontextmanager
async def watched(middleware: LaneMiddleware) -> AsyncGenerator[None, None]:
    """Look after a middleware: afterwards no lane, no task and no byte of a body may be left.

    Its lanes have had a turn in this loop before the block begins: the first one of all goes the long way.
    """
    lanes = middleware.runtime.lanes
    async with lanes.turn("the first turn of all"):
        pass
    async with no_leaks(lanes):
        yield
    assert body_held(middleware) == 0


@asynccontextmanager
async def serving(middleware: LaneMiddleware, **driver: Any) -> AsyncGenerator[AsgiDriver, None]:
    """Drive a middleware, and look after it."""
    async with watched(middleware), AsgiDriver(middleware, **driver) as driven:
        yield driven


def body_held(middleware: LaneMiddleware) -> int:
    """Return how many bytes of bodies the middleware holds now."""
    return middleware._settings.budget.held  # pyright: ignore[reportPrivateUsage]


def post(
    driver: AsgiDriver,
    key: str | None,
    name: str,
    *,
    target: str = "/chat",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = b"",
    **options: Any,
) -> HttpRequest:
    """Start a request of a key, or of none, under a name."""
    given = {"x-name": name, **({} if key is None else {KEY: key}), **(headers or {})}
    return driver.start("POST", target, headers=given, body=body, **options)


async def in_line(middleware: LaneMiddleware, count: int) -> None:
    """Wait until so many requests stand in line."""
    await until(lambda: middleware.runtime.lanes.statistics().waiting == count)


async def until(happened: Callable[[], bool]) -> None:
    """Let the other tasks of the loop go on until something is so that no event tells of."""
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0)


async def passes(count: int = 30) -> None:
    """Let every other task of the loop go on for a while; for what has no event to wait for."""
    for _ in range(count):
        await asyncio.sleep(0)
