"""What several clients of a session store are told can have happened one after the other, whatever the network does."""

# pyright: reportPrivateUsage=false

import asyncio
import base64
import os
import pickle
import random
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit, urlunsplit

import pytest

from sessions.helpers import WrappedStore, store_url
from support import session_history_worker
from support.net_faults import Action, Direction, Fault, Plan, fault_proxy
from support.postgresql import PostgresqlDatabase
from support.redis_servers import RedisServer, private_redis
from support.session_histories import KEY, History, Recorder, asked_by_all, explained
from turnlane.postgresql.reasons import Unsettled
from turnlane.redis import Script
from turnlane.sessions import (
    MemorySessionStore,
    PostgresqlSessionStore,
    RedisSessionStore,
    SessionEntry,
    SessionStore,
    SqliteSessionStore,
)
from turnlane.sessions import postgresql as postgresql_store
from turnlane.sessions import redis as redis_store
from turnlane.sessions.base import Change

pytestmark = pytest.mark.timeout(900)

CLIENTS = 4
ASKED = 14
ACTIONS: tuple[Action, ...] = ("reset", "reset", "cut", "swallow", "delay", "delay")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with private_redis(tmp_path) as running:
        yield running


def faults(rng: random.Random, most: int = 2000) -> Plan:
    """Have most connections break after some bytes, in either direction, in whatever way."""

    def plan(_: int) -> Fault | None:
        direction: Direction = rng.choice(("up", "down"))
        action = rng.choice(ACTIONS)
        fault = Fault(direction=direction, after=rng.randrange(most), action=action, seconds=rng.random() * 0.4)
        return fault if rng.random() < 0.85 else None

    return plan


@asynccontextmanager
async def clients(make: Callable[[], SessionStore]) -> AsyncGenerator[list[SessionStore], None]:
    """Several stores, each with connections of its own, that lead to the same entries."""
    async with AsyncExitStack() as stack:
        stores = [make() for _ in range(CLIENTS)]
        for store in stores:
            stack.push_async_callback(store.aclose)
        yield stores


class Yielding(WrappedStore):
    """Lets others go first: what it wraps never waits by itself."""

    async def read(self, key: str) -> SessionEntry | None:
        await asyncio.sleep(0)
        return await super().read(key)

    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        await asyncio.sleep(0)
        return await super().mutate(key, change)


async def memory_history(_: Path, rng: random.Random) -> Recorder:
    inner = MemorySessionStore()
    async with clients(lambda: Yielding(inner)) as stores:
        return await asked_by_all(stores, rng, ASKED)


async def sqlite_history(place: Path, rng: random.Random) -> Recorder:
    path = place / f"{rng.getrandbits(64):x}.db"
    async with clients(lambda: SqliteSessionStore(path)) as stores:
        return await asked_by_all(stores, rng, ASKED)


async def redis_history(server: RedisServer, rng: random.Random, *, faulty: bool) -> Recorder:
    """Through a proxy that breaks connections, or one that does not."""
    plan = faults(random.Random(rng.random())) if faulty else None
    prefix = f"history-{rng.getrandbits(64):x}"
    async with fault_proxy("127.0.0.1", server.port, plan) as proxy:
        url, timeout = f"redis://127.0.0.1:{proxy.port}", 0.2 if faulty else 5.0
        async with clients(lambda: RedisSessionStore(url, prefix=prefix, timeout=timeout)) as stores:
            recorder = await asked_by_all(stores, rng, ASKED)
    assert not faulty or proxy.accepted >= CLIENTS
    return recorder


async def postgresql_history(lent: str, rng: random.Random, *, faulty: bool) -> Recorder:
    """The same with a database, whose connections say more before they are of use."""
    plan = faults(random.Random(rng.random()), most=12_000) if faulty else None
    parts = urlsplit(lent)
    async with fault_proxy("127.0.0.1", parts.port or 5432) as proxy:
        url = urlunsplit(parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}")) + "&sslmode=disable"
        timeout = 0.5 if faulty else 10.0
        async with clients(lambda: PostgresqlSessionStore(url, timeout=timeout)) as stores:
            for store in stores:
                await store.read(KEY)  # the tables are there
            if plan is not None:
                proxy.follow(plan)
                proxy.reset_all()
            recorder = await asked_by_all(stores, rng, ASKED)
    assert not faulty or proxy.accepted > CLIENTS
    return recorder


@pytest.mark.parametrize("made", [memory_history, sqlite_history], ids=["memory", "sqlite"])
async def test_histories_of_one_process_are_linearizable(
    made: Callable[[Path, random.Random], Awaitable[Recorder]], tmp_path: Path, seed: int, long_form: bool
) -> None:
    """4 clients ask 14 times each about one key."""
    for n in range(200 if long_form else 8):
        recorder = await made(tmp_path, random.Random(f"{seed}-{n}"))
        assert len(recorder.history) == CLIENTS * ASKED
        assert explained(recorder.history), f"history {n} of --seed={seed}"


@pytest.mark.parametrize("faulty", [False, True], ids=["sound network", "faulty network"])
async def test_histories_of_redis_are_linearizable(
    faulty: bool, server: RedisServer, seed: int, long_form: bool
) -> None:
    """4 clients ask 14 times each, also where connections are reset, cut off, delayed, or swallow what they get.

    What was told to be unknown may have happened at any time since, or not; what was told to be not done never did.
    """
    unknown = refused = 0
    for n in range(500 if long_form else 12):
        recorder = await redis_history(server, random.Random(f"{seed}-{n}"), faulty=faulty)
        unknown, refused = unknown + recorder.unknown, refused + recorder.refused
        assert explained(recorder.history), f"history {n} of --seed={seed}"
    print(f"{unknown} unknown, {refused} refused")
    assert faulty or unknown == refused == 0
    assert not (faulty and long_form) or unknown > 0


@pytest.mark.parametrize("faulty", [False, True], ids=["sound network", "faulty network"])
async def test_histories_of_postgresql_are_linearizable(
    faulty: bool, postgresql: PostgresqlDatabase, seed: int, long_form: bool
) -> None:
    """The same as for Redis."""
    unknown = refused = 0
    for n in range(300 if long_form else 6):
        with postgresql.lender() as lend:
            recorder = await postgresql_history(lend(), random.Random(f"{seed}-{n}"), faulty=faulty)
        unknown, refused = unknown + recorder.unknown, refused + recorder.refused
        assert explained(recorder.history), f"history {n} of --seed={seed}"
    print(f"{unknown} unknown, {refused} refused")
    assert faulty or unknown == refused == 0
    assert not (faulty and long_form) or unknown > 0


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_histories_of_several_processes_are_linearizable(kind: str, tmp_path: Path, seed: int, long_form: bool) -> None:
    """4 processes, each a client of its own, ask 14 times each about one key; their clock is the machine's."""
    for n in range(20 if long_form else 1):
        with store_url(kind, tmp_path) as url, ExitStack() as stack:
            workers = [stack.enter_context(worker(url, f"p{m}", f"{seed}-{n}-{m}")) for m in range(CLIENTS)]
            history: History = []
            for process in workers:
                assert cast("IO[str]", process.stdout).readline() == "ready\n"
            for process in workers:
                cast("IO[str]", process.stdin).write("go\n")
                cast("IO[str]", process.stdin).flush()
            for process in workers:
                history += pickle.loads(base64.b64decode(cast("IO[str]", process.stdout).readline()))
        (tmp_path / "sessions.db").unlink(missing_ok=True)
        assert len(history) == CLIENTS * ASKED
        assert explained(history), f"history {n} of --seed={seed}"


def worker(url: str, name: str, seed: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    command = [sys.executable, "-W", "error", session_history_worker.__file__, url, name, seed, str(ASKED)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


class LastWriterWins(WrappedStore):
    """Planted: reads, lets go, and writes."""

    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        read = await self.inner.read(key)
        if read is None:
            return None
        changed = change(read)
        await asyncio.sleep(0)
        return await self.inner.mutate(key, lambda _: changed)


class StaleReads(WrappedStore):
    """Planted: says what was there a moment ago, as a replica would."""

    def __init__(self, inner: SessionStore) -> None:
        super().__init__(inner)
        self.before: SessionEntry | None = None

    async def read(self, key: str) -> SessionEntry | None:
        before, self.before = self.before, await self.inner.read(key)
        await asyncio.sleep(0)
        return before


@pytest.mark.parametrize("broken", [LastWriterWins, StaleReads])
async def test_a_broken_store_is_found(broken: type[WrappedStore], seed: int) -> None:
    """Negative control: within 50 histories one can not be explained."""
    for n in range(50):
        inner = MemorySessionStore()
        async with clients(lambda inner=inner: broken(inner)) as stores:  # type: ignore[misc]
            recorder = await asked_by_all(stores, random.Random(f"{seed}-{n}"), ASKED)
        if not explained(recorder.history):
            return
    pytest.fail("50 histories of a broken store were explained")


def without(script: Script, lines: str) -> Script:
    """A script that lacks something; it gets the digest of no other."""
    assert lines in script.text
    return Script(script.name, script.text.replace(lines, ""), "0" * 40)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("REPLACE", "row[1] ~= ARGV[2] or row[2] ~= ARGV[3] or "),
        ("RESERVE", "row[1] == ARGV[4] and tonumber(row[6]) == tonumber(ARGV[5]) and "),
    ],
)
async def test_a_script_that_compares_too_little_is_found(
    name: str, lines: str, server: RedisServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: without faults, an update is lost or an entry replaced that was not stale."""
    monkeypatch.setattr(redis_store, name, without(getattr(redis_store, name), lines))
    for n in range(100):
        recorder = await redis_history(server, random.Random(f"{seed}-{n}"), faulty=False)
        if not explained(recorder.history):
            return
    pytest.fail("100 histories of a broken script were explained")


async def test_requests_that_are_done_twice_are_found(
    server: RedisServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a server that forgets at once what it has answered, on a faulty network."""
    monkeypatch.setattr(redis_store, "KEEP_ANSWERS", 1)
    for n in range(300):
        recorder = await redis_history(server, random.Random(f"{seed}-{n}"), faulty=True)
        if not explained(recorder.history):
            return
    pytest.fail("300 histories of writes that are done twice were explained")


async def test_commits_that_are_asked_for_again_blindly_are_found(
    postgresql: PostgresqlDatabase, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: who gets no answer to a commit does it all once more without looking, on a faulty network."""

    async def blindly(self: PostgresqlSessionStore, _: str, job: Any) -> Any:
        write = postgresql_store._Write()
        while True:
            with suppress(Unsettled):
                return await self._database.write(lambda transaction: job(transaction, write))

    monkeypatch.setattr(PostgresqlSessionStore, "_written", blindly)
    for n in range(200):
        with postgresql.lender() as lend:
            recorder = await postgresql_history(lend(), random.Random(f"{seed}-{n}"), faulty=True)
        if not explained(recorder.history):
            return
    pytest.fail("200 histories of writes that are done twice were explained")
