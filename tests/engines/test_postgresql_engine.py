"""The engine in PostgreSQL: what it costs, what it says when it can not, a proxy in between, forks."""

# pyright: reportPrivateUsage=false

import asyncio
import os
import pickle
from pathlib import Path

import pytest

from support.postgresql import PostgresqlDatabase
from support.postgresql_lanes import a_worker, engine_of
from support.postgresql_pgbouncer import pgbouncer_before
from support.postgresql_proxy import a_proxy
from support.turns_steps import apart
from turnlane import Enqueue, Lanes
from turnlane.engines import Alive, Ask, Granted, Interrupted, Offered
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.errors import EngineUnavailable, OutcomeUnknown
from turnlane.postgresql import address_in
from turnlane.testing.engine_suite import CHECKS, Check, Worker

TURNS = 20


async def test_an_uncontended_turn_is_two_statements(
    postgresql: PostgresqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One to come, one to leave."""
    url = postgresql.new_url()
    calls = 0
    async with Lanes(PostgresqlEngine(url)) as lanes:
        async with lanes.turn("k"):
            pass
        engine = engine_of(lanes)
        await _until_idle(engine)
        functions = engine._functions
        call = functions.call

        async def counted(statement: str, *values: object) -> object:
            nonlocal calls
            calls += 1
            return await call(statement, *values)

        monkeypatch.setattr(functions, "call", counted)
        for _ in range(TURNS):
            async with lanes.turn("k"):
                pass
        monkeypatch.undo()
        await _until_idle(engine)
        assert calls in (2 * TURNS, 2 * TURNS - 1), "the last may be on its way"


async def test_lanes_are_named_by_a_url(postgresql: PostgresqlDatabase) -> None:
    """With either scheme; what may be a password is shown nowhere."""
    url = postgresql.new_url()
    for each in (url, url.replace("postgresql://", "postgres://")):
        async with Lanes(each) as lanes, lanes.turn("k") as turn:
            assert turn.token > 0
    lanes = Lanes("postgresql://user:secret@127.0.0.1:1/none")
    assert "secret" not in repr(lanes) + lanes.url
    with pytest.raises(EngineUnavailable) as caught:
        async with lanes.turn("k"):
            pass
    assert "secret" not in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).where == caught.value.where
    await lanes.aclose()


async def test_what_surely_did_not_happen_is_told_so(postgresql: PostgresqlDatabase) -> None:
    """And what may have; asked again it is as if it had been asked once."""
    async with a_proxy(postgresql.new_url()) as proxy, a_worker(proxy.url, lease=5.0, timeout=1.0) as worker:
        held = await worker.hold()
        proxy.fail("after", b"lane_leave", times=4)
        with pytest.raises(OutcomeUnknown):
            await worker.leave(held.ticket)
        proxy.fail("after", b"nothing has this", times=1)
        await worker.leave(held.ticket)
        assert await worker.engine.look() == []
    with pytest.raises(EngineUnavailable, match="not open"):
        await worker.hold()


async def test_a_lock_that_is_kept_is_not_waited_for_for_ever(postgresql: PostgresqlDatabase) -> None:
    """The server gives the step up, which was not done then."""
    url = postgresql.new_url()
    schema = address_in(url).schema
    async with a_worker(url, timeout=0.6) as worker:
        held = await worker.hold()
        await postgresql.aexecute(f"BEGIN; SELECT FROM {schema}.lane WHERE key = 'k' FOR UPDATE")
        try:
            with pytest.raises(EngineUnavailable, match=r"locked|too long"):
                await worker.leave(held.ticket)
        finally:
            await postgresql.aexecute("ROLLBACK")
        assert [lane.key for lane in await worker.engine.look()] == ["k"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("way", ["polling", "past"])
async def test_all_is_kept_behind_pgbouncer(
    postgresql: PostgresqlDatabase, tmp_path: Path, check: Check, way: str
) -> None:
    """In transaction mode: with a connection past it that listens, or looking every 250 ms."""
    url = postgresql.new_url()
    async with pgbouncer_before(url, tmp_path) as behind:
        await check(lambda: PostgresqlEngine(behind, listen_dsn=url if way == "past" else None))


async def test_interruptions_and_offers_are_told_once_where_they_are_looked_for(
    postgresql: PostgresqlDatabase, tmp_path: Path
) -> None:
    """Though each look finds them again."""
    url = postgresql.new_url()
    async with pgbouncer_before(url, tmp_path) as behind, a_worker(behind) as a, a_worker(url) as b:
        held = await a.hold()
        await b.stand(steer=True, payload=b"offer", whom="alice")
        await a.told(Offered, held.ticket)
        await b.engine.interrupt("k", grace=1.0)
        await a.told(Interrupted, held.ticket)
        for _ in range(3):
            await engine_in(a)._look()
        assert len(a.notes) == 2


async def test_closing_leaves_all_lanes(postgresql: PostgresqlDatabase) -> None:
    """Of this worker, and those of others stand."""
    url = postgresql.new_url()
    async with a_worker(url) as a, a_worker(url) as b:
        for key in ("k", "l", "m"):
            await a.hold(key)
        waiting = await b.stand("k")
        await b.hold("n")
        await a.engine.aclose()
        await a.engine.aclose()
        await b.told(Granted, waiting)
        assert [lane.key for lane in await b.engine.look()] == ["k", "n"]


async def test_a_forked_process_is_told(postgresql: PostgresqlDatabase) -> None:
    """It leaves the connections of its parent alone."""
    async with a_worker(postgresql.new_url()) as worker:
        held = await worker.hold()
        engine_in(worker)._pid = os.getpid() + 1
        with pytest.raises(EngineUnavailable, match="forked"):
            await worker.leave(held.ticket)
        await worker.engine.aclose()
        engine_in(worker)._pid = os.getpid()
        assert await worker.engine.renew([Alive("k", held.ticket, held.token)]) == [held]


async def test_turns_keep_their_order_through_a_loss(postgresql: PostgresqlDatabase) -> None:
    """Those that wait in two workers come again by themselves; who has the lane keeps it."""
    url = postgresql.new_url()
    schema = address_in(url).schema
    ran: list[int] = []
    patient = Enqueue(max_waiting=None)
    async with (
        Lanes(PostgresqlEngine(url, lease=1.0), policy=patient) as one,
        Lanes(PostgresqlEngine(url, lease=1.0), policy=patient) as other,
    ):

        async def visit(number: int) -> int:
            async with (one, other)[number % 2].turn("k") as turn:
                ran.append(number)
                return turn.token

        engine = engine_of(one)
        async with asyncio.timeout(20):
            async with one.turn("k") as first:
                tasks: list[asyncio.Task[int]] = []
                for number in range(8):
                    tasks.append(apart(visit(number)))
                    await _until(engine, waiting=number + 1)
                await postgresql.aexecute(f"TRUNCATE {schema}.lane, {schema}.lane_place, {schema}.lane_fate")
                await _until(engine, waiting=8)
                assert ran == []
                assert not first.lost
            tokens = await asyncio.gather(*tasks)
        assert ran == list(range(8))
        assert [first.token, *tokens] == sorted({first.token, *tokens})


def engine_in(worker: Worker) -> PostgresqlEngine:
    assert isinstance(worker.engine, PostgresqlEngine)
    return worker.engine


async def _until(engine: PostgresqlEngine, *, waiting: int) -> None:
    """Return when somebody has the lane and so many wait."""
    while True:
        for lane in await engine.look("k"):
            if lane.holder is not None and len(lane.waiting) == waiting:
                return


async def _until_idle(engine: PostgresqlEngine) -> None:
    """Return when the turns that have ended have left."""
    while await engine.look("k"):
        pass


@pytest.mark.parametrize("step", ["leave", "renew"])
async def test_idle_lanes_are_forgotten_however_many_there_are(postgresql: PostgresqlDatabase, step: str) -> None:
    """By a worker whose turns are too short to be renewed too; a lane that was used just now stays."""
    url = postgresql.new_url()
    schema = address_in(url).schema
    async with a_worker(url) as worker:
        engine = worker.engine
        assert isinstance(engine, PostgresqlEngine)
        await engine.acquire("k", Ask(ticket="one"))
        postgresql.rows(
            f"INSERT INTO {schema}.lane (key, last, used) SELECT 'idle ' || n, n, n FROM generate_series(1, 1000) AS n"
        )
        engine._swept -= 3600
        if step == "leave":
            await engine.leave("k", "one")
        else:
            await engine.renew([Alive("k", "one")])
        async with asyncio.timeout(10):
            await asyncio.gather(*engine._tasks)
        assert postgresql.rows(f"SELECT count(*) FROM {schema}.lane WHERE key LIKE 'idle%'")[0][0] == 0
        assert postgresql.rows(f"SELECT count(*) FROM {schema}.lane WHERE key = 'k'")[0][0] == 1
