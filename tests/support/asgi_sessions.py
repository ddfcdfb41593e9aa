"""Requests that have sessions: the middleware with a runtime, and a store that fails when the test says so."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from support.asgi_staged import StagedApp, laned, serving
from turnlane import LaneMiddleware, Runtime, Sessions
from turnlane.errors import SessionStoreUnavailable
from turnlane.sessions import MemorySessionStore, Session, SessionEntry
from turnlane.testing import AsgiDriver

__all__ = ("SID", "FailingStore", "key_in", "session_in", "sessions_behind")

SID = "x-explicit-session"


@asynccontextmanager
async def sessions_behind(
    app: StagedApp, *, store: str = "memory://", **settings: Any
) -> AsyncGenerator[tuple[AsgiDriver, Sessions, LaneMiddleware], None]:
    """Drive an app whose keys have sessions, and yield these too."""
    runtime = Runtime(sessions=store)
    assert runtime.sessions is not None
    middleware = laned(app, runtime=runtime, **settings)
    async with runtime, serving(middleware) as driver:
        yield driver, runtime.sessions, middleware


class FailingStore(MemorySessionStore):
    """Fails every call after the next `fail_after`; while there is a `stop`, looking up a key waits for it.

    It fails as stores do when they can not be reached, or with `failure`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.looked_up = 0
        self.fail_after: int | None = None
        self.failure: Exception | None = None
        self.stop: asyncio.Event | None = None

    async def read(self, key: str) -> SessionEntry | None:
        self.looked_up += 1
        if self.stop is not None:
            await self.stop.wait()
        await self._perhaps("read", key)
        return await super().read(key)

    async def read_by_id(self, session_id: str) -> SessionEntry | None:
        await self._perhaps("read_by_id", session_id)
        return await super().read_by_id(session_id)

    async def touch(self, key: str, *, at: float) -> None:
        await self._perhaps("touch", key)
        await super().touch(key, at=at)

    async def _perhaps(self, operation: str, key: str) -> None:
        if self.fail_after == 0:
            if self.failure is not None:
                raise self.failure
            raise SessionStoreUnavailable(key, where=self.where, operation=operation, reason="the test said so")
        if self.fail_after is not None:
            self.fail_after -= 1


def session_in(app: StagedApp, name: str) -> Session:
    """Return the session a request had in the app."""
    turn = app.turns[name]
    assert turn is not None
    assert turn.session is not None
    return turn.session


def key_in(app: StagedApp, name: str) -> str:
    """Return the key of the lane a request had."""
    turn = app.turns[name]
    assert turn is not None
    return turn.key
