"""Workers that die or stand still, servers that forget or go away, clocks that step."""

import asyncio
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from engines.redis_rig import PATIENCE, Occupancy, alive, engines, lanes_on, line_of
from support.redis_servers import client_of, private_redis, redis_server, redis_url
from turnlane import Lanes
from turnlane.engines import Alive, Ask, Granted, Lost, Queued
from turnlane.engines.redis import RedisEngine
from turnlane.engines.redis.scripts import Names

HOUR = 3_600_000_000


@pytest.fixture
def url() -> Generator[str, None, None]:
    with redis_url() as found:
        yield found


def names_in(url: str) -> Names:
    return Names(url.partition("prefix=")[2])


@pytest.mark.parametrize("newcomer", ["known", "new"])
@pytest.mark.parametrize("how", ["flushed", "restarted"])
async def test_a_server_that_forgets_grants_nothing_twice(tmp_path: Path, how: str, newcomer: str) -> None:
    """Who has the lane keeps it, who waits keeps its place, who comes anew stands behind; tokens do not go back."""
    with private_redis(tmp_path) as server:
        url = f"{server.url}/0"
        async with lanes_on(url, 4, lease=2.0) as (a, b, c, d), Lanes(RedisEngine(url, lease=2.0)) as e:
            seen, begun, go = Occupancy("k"), asyncio.Event(), asyncio.Event()
            turns = [asyncio.create_task(seen.visit(a, "a", begun=begun, go=go))]
            await begun.wait()
            for count, (lanes, name) in enumerate(((b, "b"), (c, "c"), (b, "b again")), 1):
                turns.append(asyncio.create_task(seen.visit(lanes, name)))
                await line_of(a, "k", count)
            if how == "flushed":
                with server.client() as client:
                    client.flushall()
            else:
                server.kill()
                server.start()
            turns.append(asyncio.create_task(seen.visit(d if newcomer == "known" else e, "new")))
            await line_of(a, "k", 4)
            go.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*turns)
            seen.require_all("a", "b", "c", "b again", "new")


async def test_a_new_worker_finds_that_the_server_has_forgotten(tmp_path: Path) -> None:
    """Others listen although there is no record of anything: it waits until they could say what they have."""
    with private_redis(tmp_path) as server:
        async with engines(f"{server.url}/0", 1, lease=1.0) as (a,):
            ticket, _ = await a.ask()  # that of a server which has just begun is granted in a moment
            async with alive(a, ticket):
                held = await a.told(Granted, ticket)
            with server.client() as client:
                client.flushall()
            async with engines(f"{server.url}/0", 1, lease=1.0) as (b,):
                _, answer = await b.ask()
                assert isinstance(answer, Queued)
                assert answer.look_after is not None
                assert await a.engine.renew([Alive("k", held.ticket, held.token)]) == [held]
                assert [view.holder and view.holder.ticket for view in await b.engine.look("k")] == [held.ticket]


async def test_lanes_nobody_has_are_not_kept_back_for_long_after_a_loss(tmp_path: Path) -> None:
    """One lease after the server has forgotten, every lane can be had at once, also one nobody came to meanwhile."""
    with private_redis(tmp_path) as server:
        async with (
            lanes_on(f"{server.url}/0", 1, lease=1.0) as (lanes,),
            engines(f"{server.url}/0", 1, lease=1.0) as (a,),
            lanes.turn("k"),
        ):
            with server.client() as client:
                client.flushall()
            ticket, answer = await a.ask("another")
            assert isinstance(answer, Queued)
            async with alive(a, ticket, key="another"):
                await a.told(Granted, ticket)
            for number in range(50):
                _, answer = await a.ask(f"k{number}")
                soon = (
                    answer.look_after is not None and answer.look_after < 0.3 if isinstance(answer, Queued) else False
                )
                assert isinstance(answer, Granted) or soon


async def test_a_server_that_was_behind_is_told_who_has_the_lane(url: str) -> None:
    """By a token it has not granted: one that granted it was the master before."""
    async with engines(url, 2, lease=1.0) as (a, b):
        held = await a.hold()
        earlier = await b.stand()
        with client_of(redis_server()) as client:
            client.delete(*names_in(url).of_lane("k")[:2])
            client.hset(names_in(url).bucket(names_in(url).bucket_of("k")), "t", held.token - 1)
        assert await a.engine.renew([Alive("k", held.ticket, held.token)]) == [held]
        assert await b.engine.renew([Alive("k", earlier, number=1)]) == [Lost("k", earlier)]
        assert isinstance(await b.engine.acquire("k", Ask(ticket=earlier, number=1)), Queued)
        async with alive(b, earlier):
            await a.leave(held.ticket)
            assert (await b.told(Granted, earlier)).token > held.token


async def test_tokens_do_not_go_back_with_the_clock_of_the_server(url: str) -> None:
    """An hour before now they go on by one; what was to last until then lasts its lease."""
    names = names_in(url)
    async with engines(url, 2, lease=1.0) as (a, b):
        with client_of(redis_server()) as client:
            client.hset(names.bucket(names.bucket_of("k")), "t", time.time_ns() // 1000 + HOUR)
            first = await a.hold()
            waiting = await b.stand()
            later = time.time_ns() // 1000 + HOUR
            client.hset(names.of_lane("k")[0], f"a{first.ticket}", f"{later} 1000")
        await b.leave("")
        second = await b.told(Granted, waiting)
        assert second.token == first.token + 1


async def test_a_request_that_was_held_up_brings_nobody_back(url: str) -> None:
    """Who has left stays away, and is in nobody's way."""
    async with engines(url, 2) as (a, b):
        held = await a.hold()
        await a.leave(held.ticket)
        answer = await a.engine.acquire("k", Ask(ticket=held.ticket))
        assert not isinstance(answer, Granted | Queued)
        assert await b.engine.look() == []


async def test_idle_lanes_keep_nothing(url: str) -> None:
    """But for the secret of all workers, the last token of each of so many buckets, and for half a minute who left."""
    async with engines(url, 1) as (a,):
        for number in range(50):
            held = await a.hold(f"k{number}")
            await a.leave(held.ticket, f"k{number}")
    prefix = url.partition("prefix=")[2]
    with client_of(redis_server()) as client:
        names = set(client.scan_iter(match=f"{{{prefix}:*", count=1000))
        lasting = {name for name in names if client.ttl(name) == -1}
        assert {name.rpartition(b":")[2] for name in names} == {b"bucket", b"over", b"secret}"}
        assert len(lasting) == 128 + 1
        assert {name.rpartition(b":")[2] for name in lasting} == {b"bucket", b"secret}"}


async def test_a_lane_whose_lease_has_ended_is_shown_as_nobodys(url: str) -> None:
    """Whether or not anybody came since: a drain of all workers need not wait for who is dead, nor a person."""
    async with engines(url, 3, lease=0.5) as (holder, waiter, other):
        await holder.engine.acquire("k", Ask(ticket="held"))
        await waiter.engine.acquire("k", Ask(ticket="waits"))
        (view,) = await other.engine.look("k")
        assert view.holder is not None
        assert [each.ticket for each in view.waiting] == ["waits"]
        for dead in (holder, waiter):
            assert isinstance(dead.engine, RedisEngine)
            dead.engine._tickets.clear()  # pyright: ignore[reportPrivateUsage]  # it looks after nothing any more
        async with asyncio.timeout(PATIENCE):  # each look is a question to the server, whose clock ends leases
            while await other.engine.look():
                pass
