"""What `LaneMiddleware` is compared with: the locks people write by hand, and middleware they use already."""

import asyncio
from collections import defaultdict
from weakref import WeakValueDictionary

from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

HEADER = b"x-session-key"


def key_of(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == HEADER:
            return str(value.decode())
    return None


class NoOp:
    """Does nothing: what any pure ASGI middleware costs."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class DefaultDictLock:
    """A lock for each key, kept for ever: the one most often seen."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        key = None
        for name, value in scope["headers"]:
            if name == HEADER:
                key = value.decode()
                break
        if key is None:
            await self.app(scope, receive, send)
            return
        async with self.locks[key]:
            await self.app(scope, receive, send)


class CountedLock:
    """A lock and how many use it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class RefcountedLock:
    """A lock for each key, forgotten by its last user."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.locks: dict[str, CountedLock] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (key := key_of(scope)) is None:
            await self.app(scope, receive, send)
            return
        counted = self.locks.get(key)
        if counted is None:
            counted = self.locks[key] = CountedLock()
        counted.users += 1
        try:
            async with counted.lock:
                await self.app(scope, receive, send)
        finally:
            counted.users -= 1
            if counted.users == 0:
                del self.locks[key]


class WeakLock:
    """A lock for each key, forgotten by the garbage collector."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (key := key_of(scope)) is None:
            await self.app(scope, receive, send)
            return
        lock = self.locks.get(key)
        if lock is None:
            lock = self.locks[key] = asyncio.Lock()
        async with lock:
            await self.app(scope, receive, send)


class NoOpBase(BaseHTTPMiddleware):
    """Does nothing, the convenient way."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)
