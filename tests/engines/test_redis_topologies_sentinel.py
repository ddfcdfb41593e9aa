"""Lanes and sessions of a master that Sentinels watch, when a replica takes its place."""

import asyncio
import uuid
from collections.abc import Callable, Generator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from engines.redis_rig import PATIENCE, Line, engines, lanes_on, made_known
from support.lanes_traffic import traffic_on
from support.redis_topologies import Watched, until, watched_by_sentinels
from turnlane.engines import Granted
from turnlane.engines.redis import RedisEngine
from turnlane.errors import EngineUnavailable
from turnlane.sessions import RedisSessionStore, Sessions
from turnlane.testing import engine_suite

KEYS = [f"k{number}" for number in range(30)]
LEASE = 15.0


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Generator[Watched, None, None]:
    """Servers that stay what they are."""
    with watched_by_sentinels(tmp_path_factory.mktemp("sentinels")) as watched:
        yield watched


@pytest.fixture
def watched(tmp_path: Path) -> Generator[Watched, None, None]:
    """A master with a replica, and three Sentinels that agree on it. It takes them long to change."""
    with watched_by_sentinels(tmp_path) as watched:
        yield watched


def url_of(watched: Watched) -> str:
    return f"{watched.url}?prefix=turnlane-test:{uuid.uuid4().hex}"


async def test_lanes_behind_sentinels_keep_what_is_promised(calm: Watched, long_form: bool) -> None:
    """The suite of engines; some of the Sentinels that are named are not there."""
    for check in engine_suite.CHECKS[:: 1 if long_form else 3]:
        url = url_of(calm).replace("://", "://127.0.0.1:1,")
        await made_known(url)
        await check(partial(RedisEngine, url))


def asked(watched: Watched) -> None:
    """An operator has the replica take the place of its master, which takes writes until it hears of that."""
    watched.fail_over()


def killed(watched: Watched) -> None:
    """The master dies, and comes back when it is one no more."""
    before = watched.master
    before.kill()
    until(lambda: watched.master is not before, "the Sentinels name no other master")
    before.start()


def stopped(watched: Watched) -> None:
    """The master stands still until another has its place; its connections stay open."""
    before = watched.master
    with before.stopped():
        until(lambda: watched.master is not before, "the Sentinels name no other master")


@pytest.fixture
def is_chosen(trouble: Callable[[Watched], None], long_form: bool) -> None:
    if trouble is stopped and not long_form:
        pytest.skip("in the long form")


@pytest.mark.parametrize("trouble", [asked, killed, stopped], ids=lambda trouble: trouble.__name__)
@pytest.mark.timeout(240)
async def test_another_master_during_turns(
    trouble: Callable[[Watched], None], is_chosen: None, watched: Watched, seed: int
) -> None:
    """Who has a lane keeps it, who waits keeps its place, tokens grow; who is refused is so soon, and told why.

    Of a session, what the replica has is there, and a change is made once.
    """
    url = url_of(watched)
    await made_known(url)
    async with (
        lanes_on(url, 3, lease=LEASE) as lanes,
        Sessions(RedisSessionStore(url, timeout=30)) as sessions,
        traffic_on(lanes, KEYS, seed, patience=PATIENCE) as traffic,
        aclosing(Line(lanes, "line")) as line,
    ):
        before = {key: await sessions.resolve(key) for key in KEYS}
        await line.form()
        await asyncio.to_thread(watched.require_copied)
        await asyncio.to_thread(trouble, watched)
        await line.go()
        patched = await sessions.patch(KEYS[0], {"a": 1})
        assert (patched.id, patched.version) == (before[KEYS[0]].id, 2)
        after = {key: (await sessions.resolve(key)).id for key in KEYS}
        assert after == {key: session.id for key, session in before.items()}
    traffic.require_order(forgotten=1)
    assert set(traffic.refused) <= {"EngineUnavailable"}
    assert traffic.longest < 10


async def test_a_master_that_was_replaced_is_left_before_it_hears_of_that(watched: Watched) -> None:
    """Workers that are connected to it, and one that comes later, are soon at the same server."""
    url = url_of(watched)
    await made_known(url)
    async with engines(url, 1, lease=60.0) as (a,):
        held = await a.hold()
        before = watched.master
        await asyncio.to_thread(watched.require_copied)
        await asyncio.to_thread(watched.fail_over)
        async with asyncio.timeout(PATIENCE):
            with watched.master.client() as client:
                while not client.pubsub_channels(f"*{a.name}"):
                    await a.engine.look("another lane")
        with before.client() as client:
            assert client.info("replication")["role"] == "master", "it has heard of it"
        async with engines(url, 1, lease=60.0) as (b,):
            other = await a.hold("another lane")
            waiting = {held.ticket: await b.stand(), other.ticket: await b.stand("another lane")}
            for first, key in ((held, "k"), (other, "another lane")):
                await a.leave(first.ticket, key)
                assert (await b.told(Granted, waiting[first.ticket])).token > first.token


async def test_no_sentinel_is_there(calm: Watched) -> None:
    """Which is told in bounded time; where one is, and knows no such master, the error names it."""
    nobody = RedisEngine("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main/0", timeout=0.5)
    with pytest.raises(EngineUnavailable, match="could not open it"):
        await nobody.open("w", lambda _: None)
    await nobody.aclose()
    strange = RedisEngine(calm.url.replace("/main/", "/other/"), timeout=0.5)
    with pytest.raises(EngineUnavailable, match="knows no 'other'"):
        await strange.open("w", lambda _: None)
    await strange.aclose()
