"""What is left of an engine that could not be opened, or whose closing was cancelled: nothing."""

# pyright: reportPrivateUsage=false

import asyncio
import fcntl
import gc
import os
import secrets
import sqlite3
import sys
import time
from pathlib import Path
from weakref import ref

import pytest

from engines.places import PLACES, Place, in_files
from support.postgresql import PostgresqlDatabase
from support.redis_servers import client_of, private_redis, redis_url
from support.transcripts_watched import until
from turnlane import Lanes
from turnlane.engines import Alive, Ask, Granted, Interrupted, Offered, Over
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.engines.postgresql.tickets import Tickets
from turnlane.engines.redis import RedisEngine
from turnlane.engines.redis.scripts import Names
from turnlane.errors import EngineUnavailable
from turnlane.testing.engine_suite import Worker

posix = pytest.mark.skipif(sys.platform == "win32", reason="lanes in a directory are POSIX")


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_closing_that_is_cancelled_lets_everything_go(tmp_path: Path, place: Place) -> None:
    """Nobody closes it again: what is not let go then stays, and a worker that lives keeps its lanes."""
    make = place(tmp_path)
    worker, other = Worker(make()), Worker(make())
    await worker.engine.open(worker.name, worker.tell)
    await worker.engine.acquire("k", Ask(ticket="t"))
    before = None
    if place is in_files:
        before = sqlite3.connect(tmp_path / "lanes" / "lanes.db", isolation_level=None)
        before.execute("BEGIN IMMEDIATE")  # it has to wait
    closing = asyncio.create_task(worker.engine.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    if before is not None:
        before.close()
        assert not list((tmp_path / "lanes" / "workers").iterdir())
    await until(lambda: len(asyncio.all_tasks()) == 1)
    if place is in_files:
        await other.engine.open(other.name, other.tell)
        if not isinstance(await other.engine.acquire("k", Ask(ticket="next")), Granted):
            await until(lambda: bool(other.notes))
        await other.engine.aclose()


async def test_an_engine_in_redis_that_may_not_listen_keeps_no_connection(tmp_path: Path) -> None:
    """However often it is tried."""
    with private_redis(tmp_path) as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "deaf", "on", ">pass", "~*", "&*", "+@all", "-subscribe")
        url = server.url.replace("redis://", "redis://deaf:pass@")
        for _ in range(3):
            worker = Worker(RedisEngine(url))
            with pytest.raises(EngineUnavailable) as caught:
                await worker.engine.open(worker.name, worker.tell)
            assert "pass" not in str(caught.value)
            await worker.engine.aclose()
        await until(lambda: all(each["user"] != "deaf" for each in client.client_list()))


async def test_an_engine_in_postgresql_that_may_not_listen_keeps_no_connection(
    postgresql: PostgresqlDatabase,
) -> None:
    """Its pool was made before."""
    worker = Worker(PostgresqlEngine(postgresql.new_url(), listen_dsn="postgresql://postgres@127.0.0.1:1/none"))
    with pytest.raises(EngineUnavailable):
        await worker.engine.open(worker.name, worker.tell)
    assert isinstance(worker.engine, PostgresqlEngine)
    assert not worker.engine._functions._pools.is_open


async def test_an_engine_in_redis_that_is_closed_is_forgotten() -> None:
    """What keeps it in a forked process does not keep it in this one."""
    with redis_url() as url:
        worker = Worker(RedisEngine(url))
        await worker.engine.open(worker.name, worker.tell)
        await worker.engine.aclose()
        seen = ref(worker.engine)
        del worker
        await until(lambda: gc.collect() >= 0 and seen() is None)


async def test_the_index_in_redis_forgets_lanes_of_the_dead() -> None:
    """Nobody comes to them again, and nobody looks at all lanes."""
    with redis_url() as url, client_of(url.partition("?")[0]) as client:
        names = Names(url.partition("prefix=")[2])
        async with Lanes(url) as lanes:
            async with lanes.turn("k"):
                pass
            bucket = names.bucket_of("k")
            client.zadd(names.index(bucket), {f"dead {number}": 1 + number for number in range(10)})
            async with asyncio.timeout(10):
                while client.zcard(names.index(bucket)) > 1:
                    async with lanes.turn("k"):
                        pass


def test_notes_of_tickets_that_have_left_are_not_kept() -> None:
    """They were on their way when it left, and nobody would forget them."""
    tickets = Tickets()
    for note in (
        Interrupted("k", "gone", "", 1.0),
        Offered("k", "gone", "by", "", b""),
        Over("k", "gone", "shared", "into"),
    ):
        assert tickets.noted(note)
    assert [tickets._asked, tickets._offered, tickets._shared] == [{}, set(), set()]


def test_an_interruption_that_was_told_is_no_news_when_it_is_looked_for() -> None:
    """What is looked for tells of the last one, and whether any is to roll back."""
    tickets = Tickets()
    tickets.alive["t"] = Alive("k", "t", 1)
    for note in (Interrupted("k", "t", "another", 2.5, rollback=True), Interrupted("k", "t", "", 1.5)):
        assert tickets.is_news(note)
        assert tickets.noted(note)
    assert not tickets.is_news(Interrupted("k", "t", "", 1.5, rollback=True))
    assert tickets.is_news(Interrupted("k", "t", "", 0.5, rollback=True))


@posix
async def test_nobody_waits_for_ever_for_a_process_that_stopped_while_it_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the turn nor the thread, for which the process would wait at its end."""
    from turnlane.engines.local import LocalEngine, database

    monkeypatch.setattr(database, "OPENING_SECONDS", 0.2)
    (tmp_path / "lanes").mkdir(0o700)
    stopped = os.open(tmp_path / "lanes" / "opening.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    engine, begun = LocalEngine(str(tmp_path / "lanes")), time.monotonic()
    with pytest.raises(EngineUnavailable, match="another process has been opening it"):
        await engine.open(secrets.token_hex(4), lambda _: None)
    assert time.monotonic() - begun < 5
    os.close(stopped)
    await engine.open(secrets.token_hex(4), lambda _: None)
    await engine.aclose()


@posix
async def test_who_can_not_be_looked_at_is_taken_to_live(tmp_path: Path) -> None:
    """Where too many files are open just then: it is looked at again."""
    import resource

    from turnlane.engines.local.workers import Workers

    died: list[str] = []
    one = Workers(str(tmp_path), "one", died.append)
    (tmp_path / "other.lock").touch()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(tmp_path, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        assert not one.is_dead("other")
        one.watch("other", os.getpid())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    await until(lambda: bool(died))
    one.close()
