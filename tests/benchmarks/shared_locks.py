"""What keeps several tasks, or processes, apart: lanes on each engine, and the locks people use for that."""

# What the lanes know of a turn is compared with what it was granted.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from urllib.parse import urlencode

import redis.asyncio
from filelock import AsyncFileLock

from benchmarks.bare_files import BareFiles
from support.postgresql import a_database, connect
from support.redis_servers import private_redis
from turnlane import Enqueue, Lanes
from turnlane.engines import Ask
from turnlane.engines.redis import RedisEngine
from turnlane.redis import RedisClient, address_in

__all__ = ("BARE", "BARE_FILES", "KINDS", "OURS", "Blocks", "Places", "blocks_of", "places")

LOCK, FILES, FILELOCK = "asyncio.Lock", "Lanes('file://')", "filelock.AsyncFileLock"
REDIS, REDIS_LOCK = "Lanes('redis://')", "redis.asyncio.lock.Lock"
POSTGRESQL, ADVISORY = "Lanes('postgresql://')", "pg_advisory_lock"
BARE_FILES = "SQLite and datagrams alone"
KINDS = (LOCK, FILES, BARE_FILES, FILELOCK, REDIS, REDIS_LOCK, POSTGRESQL, ADVISORY)
OURS = (FILES, REDIS, POSTGRESQL)

PINGS, SCRIPTS, ENGINE = "two PING, our client", "two EVALSHA of nothing, redis-py", "RedisEngine: acquire, leave"
BARE = (PINGS, SCRIPTS, ENGINE)
"""Of these two nobody is kept apart by the first two, and nobody waits for any."""

SPARE = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - (SELECT count(*) FROM pg_stat_activity)
"""
PATIENT = Enqueue(max_waiting=None)
KEY = "hot"

Block = Callable[[], AbstractAsyncContextManager[object]]


@dataclass(frozen=True, slots=True)
class Places:
    """Where they live: a directory, and two URLs."""

    directory: str
    redis: str
    postgresql: str


@dataclass(frozen=True, slots=True)
class Blocks:
    """Makes blocks that one task at a time is in.

    Attributes:
        make: returns another.
        ticket: tells of one that was entered its ticket, if it has one.
        room: returns how many may wait, where that is a question of what is left for others.
        rest: gives back what only those needed that waited.
    """

    make: Block
    ticket: Callable[[object], "Ticket | None"] = lambda _: None
    room: Callable[[], Awaitable[int]] | None = None
    rest: Callable[[], Awaitable[None]] | None = None


class Ticket:
    """What a turn was granted, and its number in the line, which may become known after it."""

    def __init__(self, token: int, standing: Any) -> None:
        self.token = token
        self._standing = standing

    @property
    def number(self) -> int:
        """0 for one that did not wait."""
        return int(self._standing.number)


@contextmanager
def places() -> Generator[Places, None, None]:
    """Give a directory, a Redis server of one's own, and a database, inside the block."""
    with TemporaryDirectory() as directory, private_redis(Path(directory)) as server, a_database() as database:
        yield Places(directory, f"{server.url}/0", database.new_url())


def blocks_of(name: str, where: Places) -> AbstractAsyncContextManager[Blocks]:
    """Open what makes blocks, by name."""
    if name == LOCK:
        return _lock()
    if name == BARE_FILES:
        return _bare_files(f"{where.directory}/bare")
    if name == FILELOCK:
        return _file_lock(f"{where.directory}/lock")
    if name == REDIS_LOCK:
        return _redis_lock(where.redis)
    if name == ADVISORY:
        return _advisory(where.postgresql)
    if name == PINGS:
        return _pings(where.redis)
    if name == SCRIPTS:
        return _scripts(where.redis)
    if name == ENGINE:
        return _engine(where.redis)
    return _lanes({FILES: f"file://{where.directory}/lanes", REDIS: where.redis, POSTGRESQL: where.postgresql}[name])


@asynccontextmanager
async def _lock() -> AsyncGenerator[Blocks]:
    lock = asyncio.Lock()
    yield Blocks(lambda: lock)


@asynccontextmanager
async def _lanes(url: str) -> AsyncGenerator[Blocks]:
    async with Lanes(url) as lanes:
        standings = cast("Any", lanes.gate)

        def ticket(turn: Any) -> Ticket:
            return Ticket(turn.token, standings.standings[turn.id])

        yield Blocks(lambda: lanes.turn(KEY, policy=PATIENT), ticket)


@asynccontextmanager
async def _bare_files(directory: str) -> AsyncGenerator[Blocks]:
    async with BareFiles(directory, KEY).opened() as make:
        yield Blocks(make)


@asynccontextmanager
async def _file_lock(path: str) -> AsyncGenerator[Blocks]:
    yield Blocks(lambda: AsyncFileLock(path, is_singleton=False))


@asynccontextmanager
async def _redis_lock(url: str) -> AsyncGenerator[Blocks]:
    async with _redis_py(url) as client:
        yield Blocks(lambda: client.lock("lock", timeout=15))  # it looks every 0.1 s


@asynccontextmanager
async def _advisory(url: str) -> AsyncGenerator[Blocks]:
    """Each waiter needs a connection, of which a server has a hundred: at most a third of what is left are taken."""
    idle: list[Any] = []

    @asynccontextmanager
    async def block() -> AsyncGenerator[None]:
        connection = idle.pop() if idle else await connect(url)
        await connection.execute("SELECT pg_advisory_lock(7)")
        try:
            yield
        finally:
            await connection.execute("SELECT pg_advisory_unlock(7)")
            idle.append(connection)

    async def room() -> int:
        connection = idle.pop() if idle else await connect(url)
        try:
            return int(await connection.fetchval(SPARE)) // 3
        finally:
            idle.append(connection)

    async def rest() -> None:
        while len(idle) > 1:
            await idle.pop().close()

    try:
        yield Blocks(block, room=room, rest=rest)
    finally:
        while idle:
            await idle.pop().close()


@asynccontextmanager
async def _pings(url: str) -> AsyncGenerator[Blocks]:
    client = RedisClient(address_in(url), timeout=3.0)
    yield Blocks(_two(lambda: client.about("PING", key=KEY)))
    await client.aclose()


@asynccontextmanager
async def _scripts(url: str) -> AsyncGenerator[Blocks]:
    async with _redis_py(url) as client:
        sha = await client.script_load("return 1")
        yield Blocks(_two(lambda: client.evalsha(sha, 0)))


@asynccontextmanager
async def _engine(url: str) -> AsyncGenerator[Blocks]:
    engine, count = RedisEngine(f"{url}?{urlencode({'prefix': 'alone'})}"), 0
    await engine.open("worker", lambda _: None)

    @asynccontextmanager
    async def block() -> AsyncGenerator[None]:
        nonlocal count
        count += 1
        ticket = str(count)
        await engine.acquire(KEY, Ask(ticket=ticket))
        yield
        await engine.leave(KEY, ticket)

    yield Blocks(block)
    await engine.aclose()


def _two(ask: Callable[[], Any]) -> Block:
    @asynccontextmanager
    async def block() -> AsyncGenerator[None]:
        await ask()
        yield
        await ask()

    return block


@asynccontextmanager
async def _redis_py(url: str) -> AsyncGenerator[Any]:
    client: Any = cast("Any", redis.asyncio.Redis).from_url(url)
    yield client
    await client.aclose()
