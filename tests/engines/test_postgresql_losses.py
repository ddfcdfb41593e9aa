"""Lanes in PostgreSQL when the server forgets them, ends connections, or answers late: nobody runs beside another."""

# pyright: reportPrivateUsage=false

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.postgresql import PostgresqlDatabase
from support.postgresql_lanes import a_worker
from support.transcripts_watched import until
from turnlane import Enqueue, Lanes
from turnlane.engines import Alive, Ask, Granted, Lost, Queued
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.postgresql import address_in
from turnlane.testing.engine_suite import Worker

ALL = ("lane", "lane_place", "lane_fate", "lane_floor_known")


def truncate(postgresql: PostgresqlDatabase, url: str, *tables: str) -> None:
    """Do what a crash of the server does to tables that are not logged."""
    schema = address_in(url).schema
    postgresql.execute("TRUNCATE " + ", ".join(f"{schema}.{table}" for table in tables or ALL))


def is_queued(answer: object) -> Queued:
    assert isinstance(answer, Queued), answer
    return answer


async def test_who_has_a_lane_keeps_it_through_a_loss(postgresql: PostgresqlDatabase) -> None:
    """Nobody else is granted it meanwhile, its token stands, and the next one's is higher."""
    url = postgresql.new_url()
    async with a_worker(url, lease=1.0) as a, a_worker(url, lease=1.0) as b:
        held = await a.hold()
        truncate(postgresql, url)
        newcomer, answer = await b.ask()
        assert 0 < (is_queued(answer).look_after or 0) <= 1.01
        assert await a.engine.renew([Alive("k", held.ticket, held.token)]) == [held]
        assert b.notes == []
        await a.leave(held.ticket)
        granted = await b.told(Granted, newcomer)
        assert granted.token > held.token


async def test_whoever_has_many_lanes_keeps_all_of_them(postgresql: PostgresqlDatabase) -> None:
    """Though new tokens begin higher after a loss; also where another worker comes before."""
    url = postgresql.new_url()
    async with a_worker(url, lease=10.0) as a, a_worker(url, lease=10.0) as b:
        held = {key: await a.hold(key) for key in "klmn"}
        others = await b.hold("other")
        truncate(postgresql, url)
        assert await b.engine.renew([Alive("other", others.ticket, others.token)]) == [others]
        alive = [Alive(key, granted.ticket, granted.token) for key, granted in held.items()]
        assert await a.engine.renew(alive) == list(held.values())


async def test_who_waits_comes_again_to_its_old_place(postgresql: PostgresqlDatabase) -> None:
    """Before all who came after the loss; and the holder is the one that was."""
    url = postgresql.new_url()
    async with a_worker(url, lease=1.0) as a, a_worker(url, lease=1.0) as b:
        held = await a.hold()
        line = [await b.ask() for _ in range(3)]
        truncate(postgresql, url)
        newcomer = await a.stand()
        notes = await b.engine.renew([Alive("k", ticket, number=is_queued(answer).number) for ticket, answer in line])
        assert notes == [Lost("k", ticket) for ticket, _ in line]
        for ticket, answer in reversed(line):
            await b.engine.acquire("k", Ask(ticket=ticket, number=is_queued(answer).number))
        await a.engine.renew([Alive("k", held.ticket, held.token)])
        await a.leave(held.ticket)
        tokens = [held.token]
        for ticket, _ in line:
            tokens.append((await b.told(Granted, ticket)).token)
            await b.leave(ticket)
        tokens.append((await a.told(Granted, newcomer)).token)
        assert tokens == sorted(set(tokens))


async def test_a_holder_that_says_nothing_after_a_loss_is_followed(postgresql: PostgresqlDatabase) -> None:
    """Once one lease has passed, and not before; nothing has to be renewed for that."""
    url = postgresql.new_url()
    async with a_worker(url, lease=1.0) as a, a_worker(url, lease=1.0) as b:
        held = await a.hold()
        truncate(postgresql, url)
        began = asyncio.get_running_loop().time()
        waiting = await b.stand()
        b_renews = asyncio.create_task(_renewing(b, waiting))
        granted = await b.told(Granted, waiting)
        b_renews.cancel()
        assert asyncio.get_running_loop().time() - began >= 0.95
        assert granted.token > held.token
        assert await a.engine.renew([Alive("k", held.ticket, held.token)]) == [Lost("k", held.ticket)]


async def test_a_ticket_that_has_left_is_not_taken_for_a_lost_one(postgresql: PostgresqlDatabase) -> None:
    """Where it is renewed by a statement that was on its way."""
    url = postgresql.new_url()
    async with a_worker(url) as a:
        held = await a.hold()
        await a.leave(held.ticket)
        assert await a.engine.renew([Alive("k", held.ticket, held.token)]) == [Lost("k", held.ticket)]
        assert (await a.hold()).token > held.token


async def test_a_lane_that_was_forgotten_is_not_given_back_to_who_had_it_before(
    postgresql: PostgresqlDatabase,
) -> None:
    """Somebody stands still for so long that another has had the lane, and left it, and it is swept away."""
    url = postgresql.new_url()
    schema = address_in(url).schema
    async with a_worker(url, lease=1.0) as a, a_worker(url, lease=1.0) as b:
        held = await a.hold()
        postgresql.execute(f"UPDATE {schema}.lane SET alive = 0 WHERE key = 'k'")
        later = await b.hold()
        assert later.token > held.token
        await b.leave(later.ticket)
        assert postgresql.rows(f"SELECT {schema}.lane_sweep_1(1000000, -1000000, 0, 100)")[0][0] == 1
        assert await a.engine.renew([Alive("k", held.ticket, held.token)]) == [Lost("k", held.ticket)]


async def test_tokens_grow_though_the_clock_goes_back(postgresql: PostgresqlDatabase) -> None:
    """For a lane that is known; and for one that was forgotten, which leaves its last token."""
    url = postgresql.new_url()
    schema = address_in(url).schema
    async with a_worker(url) as a:
        held = await a.hold()
        await a.leave(held.ticket)
        ahead = held.token + 3600 * 1_000_000
        postgresql.execute(f"UPDATE {schema}.lane SET last = $1 WHERE key = 'k'", ahead)
        later = await a.hold()
        assert later.token == ahead + 1
        await a.leave(later.ticket)
        assert postgresql.rows(f"SELECT {schema}.lane_sweep_1(1000000, -1000000, 0, 100)")[0][0] == 1
        assert postgresql.rows(f"SELECT key FROM {schema}.lane WHERE key = 'k'") == []
        assert (await a.hold()).token == ahead + 2


async def test_a_lease_of_a_later_time_ends_all_the_same(postgresql: PostgresqlDatabase) -> None:
    """Where the clock was set back by an hour: after one lease."""
    url = postgresql.new_url()
    schema = address_in(url).schema
    async with a_worker(url, lease=1.0) as a, a_worker(url, lease=1.0) as b:
        await a.hold()
        postgresql.execute(f"UPDATE {schema}.lane SET alive = alive + 3600000000 WHERE key = 'k'")
        waiting = await b.stand()
        renews = asyncio.create_task(_renewing(b, waiting))
        await b.told(Granted, waiting)
        renews.cancel()


async def test_lanes_go_on_when_connections_are_ended(
    postgresql: PostgresqlDatabase, seed: int, long_form: bool
) -> None:
    """Those of the pools and those that listen, at any moment: no two turns overlap, and nobody is stuck."""
    print(f"--seed={seed}")
    chance, url = random.Random(seed), postgresql.new_url()
    runs, count, ended = 0, 0, asyncio.Event()

    async def visit(lanes: Lanes) -> None:
        nonlocal runs, count
        async with lanes.turn("k"):
            runs += 1
            assert runs == 1, "two turns at once"
            before = count
            await asyncio.sleep(chance.uniform(0, 0.004))
            count = before + 1
            runs -= 1

    async def end_connections() -> None:
        while not ended.is_set():
            await asyncio.to_thread(postgresql.terminate_others)
            await asyncio.sleep(chance.uniform(0.05, 0.4))

    async with AsyncExitStack() as stack:
        some = [
            await stack.enter_async_context(Lanes(PostgresqlEngine(url, lease=3.0), policy=Enqueue(max_waiting=None)))
            for _ in range(3)
        ]
        for lanes in some:
            await visit(lanes)
        ending = asyncio.create_task(end_connections())
        visits = [asyncio.create_task(visit(chance.choice(some))) for _ in range(800 if long_form else 120)]
        async with asyncio.timeout(45):
            await asyncio.gather(*visits)
        ended.set()
        await ending
        assert count == len(visits) + 3


async def test_what_happens_while_nothing_is_heard_is_looked_for(postgresql: PostgresqlDatabase) -> None:
    """A grant that was notified to a connection that is gone."""
    url = postgresql.new_url()
    async with a_worker(url) as a, a_worker(url) as b:
        held = await a.hold()
        waiting = await b.stand()
        schema = address_in(url).schema
        await postgresql.aexecute(f"ALTER FUNCTION {schema}.lane_tell_1 RENAME TO lane_tell_9")
        await postgresql.aexecute(
            f"CREATE FUNCTION {schema}.lane_tell_1(text, text, text, json) RETURNS void LANGUAGE sql AS ''"
        )
        await a.leave(held.ticket)
        assert b.notes == []
        await asyncio.to_thread(postgresql.terminate_others)
        await b.told(Granted, waiting)


async def test_a_note_that_is_too_long_is_looked_for(postgresql: PostgresqlDatabase) -> None:
    """One that carries messages, and an offer, which comes once."""
    from turnlane.engines import Carried, Offered

    url = postgresql.new_url()
    async with a_worker(url) as a, a_worker(url) as b:
        held = await a.hold()
        long = bytes(range(256)) * 100
        sender = await b.stand(steer=True, payload=long, whom="alice")
        assert await a.told(Offered, held.ticket) == Offered("k", held.ticket, sender, "alice", long)
        short = await b.stand(steer=True, payload=b"short", whom="alice")
        second = await b.stand(steer=True, payload=long, whom="alice")
        while len([note for note in a.notes if isinstance(note, Offered)]) < 3:
            await asyncio.wait_for(a._told.wait(), 5)
            a._told.clear()
        assert sorted(note.by for note in a.notes if isinstance(note, Offered)) == sorted((sender, short, second))
        for ticket in (sender, short, second):
            await b.leave(ticket)
        one = await b.stand(tag="t", payload=long)
        two = await b.stand(tag="t", payload=long)
        await a.leave(held.ticket)
        assert (await b.told(Granted, two)).carried == (Carried(one, long),)


async def _renewing(worker: Worker, *tickets: str) -> None:
    while True:
        await worker.engine.renew([Alive("k", ticket) for ticket in tickets])
        await asyncio.sleep(0.3)  # a heartbeat: nobody is waited for


@pytest.mark.parametrize("problem", ["lease", "worker", "url"])
async def test_what_can_not_be_is_refused(postgresql: PostgresqlDatabase, problem: str) -> None:
    """At once, and without what may be a password."""
    options: dict[str, Any] = {"lease": 0.0} if problem == "lease" else {}
    url = "postgresql://user:secret@[/" if problem == "url" else postgresql.new_url()
    with pytest.raises(ValueError, match=r".") as caught:
        await PostgresqlEngine(url, **options).open("a b", lambda _: None)
    assert "secret" not in str(caught.value)


async def test_who_came_before_the_clock_was_set_back_is_granted_the_lane(postgresql: PostgresqlDatabase) -> None:
    """At once when it is free, also where messages that were to be gathered for a while stood there."""
    url = postgresql.new_url()
    schema = address_in(url).schema
    async with a_worker(url, lease=1.0) as a, a_worker(url, lease=1.0) as b:
        held = await a.hold()
        waiting = [await b.stand(), await b.stand(tag="t", window=0.5)]
        postgresql.execute(
            f"UPDATE {schema}.lane_place SET since = since + 3600000000, closes = closes + 3600000000, "
            "alive = alive + 3600000000, number = number + 3600000000, run = run + 3600000000"
        )
        await a.leave(held.ticket)
        for ticket in waiting:
            await b.told(Granted, ticket)
            await b.leave(ticket)


async def test_nothing_is_granted_for_one_lease_after_a_loss_whatever_the_clock_does(
    postgresql: PostgresqlDatabase,
) -> None:
    """The end of that time may be an hour away when the clock is set back: then it is a lease away."""
    url = postgresql.new_url()
    schema = address_in(url).schema
    async with a_worker(url, lease=1.0) as a:
        truncate(postgresql, url)
        ticket, answer = await a.ask()
        assert isinstance(answer, Queued)
        postgresql.execute(f"UPDATE {schema}.lane SET alive = alive + 3600000000 WHERE key = E'\\x01'")
        renews = asyncio.create_task(_renewing(a, ticket))
        await a.told(Granted, ticket)
        renews.cancel()


async def test_the_first_lease_to_end_is_waited_for_whoever_comes_later(postgresql: PostgresqlDatabase) -> None:
    """A ticket that waits for a lease which ends later does not put off the look at one that ends sooner."""
    url = postgresql.new_url()
    async with a_worker(url, lease=2.0) as dead, a_worker(url, lease=2.0) as worker:
        await dead.engine.acquire("sooner", Ask(ticket="dead"))
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(1.5)  # most of its lease
        await dead.engine.acquire("later", Ask(ticket="lives"))
        for key in ("sooner", "later"):
            assert isinstance(await worker.engine.acquire(key, Ask(ticket=f"waits for {key}")), Queued)
        async with asyncio.timeout_at(begun + 3.0):  # a lease ends after two
            await until(lambda: bool(worker.notes))
        assert {note.ticket for note in worker.notes} == {"waits for sooner"}  # a note may come twice
