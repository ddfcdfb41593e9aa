"""The short ways through the scripts: taken by a lane that nobody else wants, and by no other."""

from collections.abc import Generator

import pytest

from engines.redis_rig import engines
from support.redis_servers import client_of, redis_server, redis_url
from turnlane.engines import Ask, Granted, Queued
from turnlane.engines.redis.scripts import Names


@pytest.fixture
def url() -> Generator[str, None, None]:
    with redis_url() as found:
        yield found


async def test_what_an_interrupted_turn_is_to_have_undone_is_owed_by_the_next_one(url: str) -> None:
    """Also when who asked for it has left the line, and the turn then leaves a lane nobody waits for."""
    async with engines(url, 2) as (a, b):
        held = await a.hold()
        assert isinstance(await b.engine.acquire("k", Ask(ticket="r", over="rollback")), Queued)
        await b.leave("r")
        await a.leave(held.ticket)
        answer = await b.engine.acquire("k", Ask(ticket="next"))
        assert isinstance(answer, Granted)
        assert answer.owes
        await b.engine.leave("k", "next", owes=True)
        again = await a.engine.acquire("k", Ask(ticket="after"))
        assert isinstance(again, Granted)
        assert again.owes


async def test_a_lane_that_is_paused_while_somebody_has_it_stays_paused(url: str) -> None:
    """Whoever has it leaves, and the next one waits although nobody is before it."""
    async with engines(url, 1) as (a,):
        held = await a.hold()
        await a.engine.pause("k", True)
        await a.leave(held.ticket)
        assert isinstance(await a.engine.acquire("k", Ask(ticket="next")), Queued)


async def test_a_lane_is_left_by_who_has_it_alone(url: str) -> None:
    """A ticket that has none leaves another's where it is."""
    async with engines(url, 1) as (a,):
        held = await a.hold()
        await a.leave("nobody's")
        [lane] = await a.engine.look("k")
        assert lane.holder is not None
        assert lane.holder.ticket == held.ticket


@pytest.mark.parametrize("record", ["lost", "recovering"])
async def test_no_lane_is_granted_at_once_where_data_were_lost(url: str, record: str) -> None:
    """Neither where the record of its bucket is missing, nor for as long as that says."""
    names = Names(url.partition("prefix=")[2])
    bucket = names.bucket(names.bucket_of("k"))
    async with engines(url, 1) as (a,):
        with client_of(redis_server()) as client:
            if record == "lost":
                client.delete(bucket)
            else:
                seconds, micros = client.time()
                client.hset(bucket, "r", f"{(seconds + 60) * 1_000_000 + micros} 60000000")
        assert isinstance(await a.engine.acquire("k", Ask(ticket="t")), Queued)


async def test_the_short_way_is_open_again_when_the_wait_after_a_loss_is_over(url: str) -> None:
    """The first step after it takes the record of it away."""
    names = Names(url.partition("prefix=")[2])
    bucket = names.bucket(names.bucket_of("k"))
    async with engines(url, 1) as (a,):
        with client_of(redis_server()) as client:
            client.hset(bucket, "r", "1000000 1000000")
            held = await a.hold()
            assert client.hget(bucket, "r") == b""
            await a.leave(held.ticket)
        assert await a.engine.look() == []
