"""What the tests of sessions share."""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from support.redis_servers import redis_url
from turnlane.clock import Clock
from turnlane.sessions import SessionEntry, Sessions, SessionStore, SqliteSessionStore
from turnlane.sessions.base import Change, Reservation
from turnlane.sqlite import ConnectionThread

__all__ = (
    "T0",
    "StepClock",
    "WrappedStore",
    "files_in",
    "pragma",
    "sessions_at",
    "store_of",
    "store_url",
    "stranger",
    "write_lock",
    "writer_of",
)

T0 = 1_700_000_000.0


class StepClock(Clock):
    """A wall clock that stands still until the test moves it, in either direction."""

    __slots__ = ("at",)

    def __init__(self, at: float = T0) -> None:
        self.at = at

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return round(self.at * 1e9)


@contextmanager
def store_url(kind: str, directory: Path) -> Generator[str, None, None]:
    """The URL of an empty store of its own."""
    if kind == "redis":
        with redis_url() as url:
            yield url
    else:
        yield "memory://" if kind == "memory" else f"sqlite:///{directory / 'sessions.db'}"


class WrappedStore(SessionStore):
    """Passes everything on to another store; tests override what they want to stage."""

    def __init__(self, inner: SessionStore) -> None:
        self.inner = inner
        self.where = inner.where
        self.reads = 0
        self.writes = 0

    async def open(self) -> None:
        await self.inner.open()

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def read(self, key: str) -> SessionEntry | None:
        self.reads += 1
        return await self.inner.read(key)

    async def read_by_id(self, session_id: str) -> SessionEntry | None:
        self.reads += 1
        return await self.inner.read_by_id(session_id)

    async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
        self.writes += 1
        return await self.inner.reserve(key, session_id, at=at, replaces=replaces)

    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        self.writes += 1
        return await self.inner.mutate(key, change)

    async def touch(self, key: str, *, at: float) -> None:
        self.writes += 1
        await self.inner.touch(key, at=at)

    async def delete(self, key: str) -> bool:
        self.writes += 1
        return await self.inner.delete(key)

    async def list(self, prefix: str, limit: int) -> tuple[SessionEntry, ...]:
        self.reads += 1
        return await self.inner.list(prefix, limit)


@contextmanager
def stranger(path: Path) -> Generator[sqlite3.Connection, None, None]:
    """Another connection to the file, as another program would have it."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


@contextmanager
def write_lock(path: Path) -> Generator[sqlite3.Connection, None, None]:
    """Hold the one write lock of the file."""
    with stranger(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("ROLLBACK")


def files_in(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def sessions_at(path: Path) -> Sessions:
    return Sessions(f"sqlite:///{path}")


def store_of(sessions: Sessions) -> SqliteSessionStore:
    store = sessions._store  # pyright: ignore[reportPrivateUsage]
    assert isinstance(store, SqliteSessionStore)
    return store


def writer_of(sessions: Sessions) -> ConnectionThread:
    return store_of(sessions)._writer  # pyright: ignore[reportPrivateUsage]


async def pragma(sessions: Sessions, statement: str) -> None:
    """Put the writing connection into a state the test needs."""
    await writer_of(sessions).run("test", "*", lambda connection: connection.execute(statement).close())
