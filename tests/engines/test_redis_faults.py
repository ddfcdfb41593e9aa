"""Connections that break in the middle of steps, and what the engine says of it."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, cast

import pytest

from engines.redis_rig import PATIENCE, Occupancy, engines, lanes_on, line_of
from support.net_faults import Action, Direction, Fault, FaultProxy, fault_proxy
from support.redis_servers import client_of, redis_server, redis_url
from turnlane import Lanes
from turnlane.engines import Alive, Ask, End, Engine, Granted, Queued
from turnlane.engines.redis import RedisEngine
from turnlane.engines.redis.scripts import SCRIPTS
from turnlane.errors import EngineUnavailable, OutcomeUnknown
from turnlane.redis import address_in
from turnlane.testing.engine_suite import Worker

SECRET = "correct-horse"


@pytest.fixture
def url() -> Generator[str, None, None]:
    with redis_url() as found:
        yield found


@pytest.fixture
async def proxy(url: str) -> AsyncGenerator[FaultProxy, None]:
    host, _, port = redis_server().partition("://")[2].partition(":")
    with client_of(redis_server()) as client:
        for script in SCRIPTS.values():
            client.script_load(script.text)
    async with fault_proxy(host, int(port or 6379)) as found:
        yield found


def through(proxy: FaultProxy, url: str) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0?{url.partition('?')[2]}"


def at(step: str) -> bytes:
    return SCRIPTS[step].sha.encode()


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("action", ["reset", "cut"])
@pytest.mark.parametrize("step", ["acquire", "leave", "settle", "interrupt", "pause", "renew"])
async def test_a_step_whose_connection_breaks_happens_once(
    url: str, proxy: FaultProxy, step: str, action: Action, direction: Direction
) -> None:
    """Whether it was done or not when it broke: it is asked again, and nobody is granted what another has."""
    async with engines(through(proxy, url), 2) as (a, b):
        held = await a.hold()
        waiting = await b.stand(steer=True, payload=b"m")
        proxy.arm(Fault(direction=direction, action=action), at=at(step))
        await STEPS[step](a, b, held.ticket)
        assert proxy.struck.is_set()
        proxy.disarm()
        [lane] = await b.engine.look()
        others = [view.ticket for view in lane.waiting]
        if step == "leave":
            assert (await b.told(Granted, waiting)).token > held.token
            assert (lane.holder and lane.holder.ticket, others) == (waiting, [])
        else:
            assert lane.holder is not None
            assert lane.holder.ticket == held.ticket
            assert others == {"acquire": [waiting, "new"], "settle": []}.get(step, [waiting])
        for worker in (a, b):
            granted = [note.ticket for note in worker.notes if isinstance(note, Granted)]
            assert granted == ([waiting] if step == "leave" and worker is b else [])


async def come(a: Worker, b: Worker, held: str) -> None:
    assert isinstance(await a.engine.acquire("k", Ask(ticket="new")), Queued)


async def leave(a: Worker, b: Worker, held: str) -> None:
    await a.leave(held)


async def settle(a: Worker, b: Worker, held: str) -> None:
    [lane] = await a.engine.look("k")
    await a.engine.settle("k", held, [End(lane.waiting[0].ticket, "steered")])


async def interrupt(a: Worker, b: Worker, held: str) -> None:
    assert await b.engine.interrupt("k", grace=1.0)


async def pause(a: Worker, b: Worker, held: str) -> None:
    await b.engine.pause("k", True)


async def renew(a: Worker, b: Worker, held: str) -> None:
    [note] = await a.engine.renew([Alive("k", held)])
    assert isinstance(note, Granted)


STEPS: dict[str, Callable[[Worker, Worker, str], Awaitable[None]]] = {
    "acquire": come,
    "leave": leave,
    "settle": settle,
    "interrupt": interrupt,
    "pause": pause,
    "renew": renew,
}


async def test_turns_go_on_while_connections_break(url: str, proxy: FaultProxy, seed: int) -> None:
    """All of them are reset again and again, those on which notes are heard too: one turn at a time, in order."""
    async with lanes_on(through(proxy, url), 2, lease=3.0) as (a, b):
        seen = Occupancy("k")
        names = [f"{'ab'[number % 2]}{number}" for number in range(30)]
        turns = [asyncio.create_task(seen.visit((a, b)[number % 2], name)) for number, name in enumerate(names)]
        for _ in range(12):
            proxy.reset_all()
            for _ in range(20):
                await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*turns)
        assert sorted(seen.order) == sorted(names)
        assert seen.tokens == sorted(set(seen.tokens))
        for worker in "ab":  # what one process asked for is granted in that order
            own = [name for name in seen.order if name.startswith(worker)]
            assert own == sorted(own, key=lambda name: int(name[1:]))


async def test_notes_that_were_missed_are_found_when_the_connection_is_back(url: str, proxy: FaultProxy) -> None:
    """Long before the next renewal."""
    async with lanes_on(url, 1, lease=60.0) as (a,), lanes_on(through(proxy, url), 1, lease=60.0) as (b,):
        seen, begun, go = Occupancy("k"), asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(seen.visit(a, "a", begun=begun, go=go))
        await begun.wait()
        second = asyncio.create_task(seen.visit(b, "b"))
        await line_of(a, "k", 1)
        proxy.refuse(True)
        proxy.reset_all()
        go.set()
        await first
        proxy.refuse(False)
        async with asyncio.timeout(15):
            await second
        seen.require_all("a", "b")


async def test_what_was_not_sent_was_not_done_and_what_was_may_have_been(url: str, proxy: FaultProxy) -> None:
    """Which the errors tell apart, in bounded time."""
    async with engines(through(proxy, url), 1, timeout=2) as (a,):
        proxy.arm(Fault(direction="down", action="swallow"), at=at("acquire"), again=True)
        with pytest.raises(OutcomeUnknown, match="acquire a lane"):
            await a.ask()
        proxy.disarm()
        proxy.refuse(True)
        proxy.reset_all()
        await a.engine.aclose()
    async with engines(url, 1, timeout=2) as (b,):
        client = cast("Any", b.engine)._client
        cast("Any", b.engine)._ask._client = type(client)(address_in(through(proxy, url)), timeout=0.5)
        with pytest.raises(EngineUnavailable, match="could not acquire a lane"):
            await b.ask()
        cast("Any", b.engine)._ask._client = client


async def test_a_server_that_is_not_there_is_told(url: str, proxy: FaultProxy) -> None:
    """Of opening, and of each step of an engine that is not open; no error holds the password."""
    proxy.refuse(True)
    where = f"redis://:{SECRET}@127.0.0.1:{proxy.port}/0"
    engine: Engine = RedisEngine(where, timeout=0.3)
    with pytest.raises(EngineUnavailable, match="could not open it") as told:
        await engine.open("w", lambda _: None)
    with pytest.raises(EngineUnavailable, match="not open"):
        await engine.acquire("k", Ask(ticket="t"))
    await engine.aclose()
    assert SECRET not in f"{told.value!r} {told.value} {engine!r} {Lanes(where)!r} {Lanes(where).url}"
    with pytest.raises(ValueError, match="names no engine") as refused:
        Lanes(f"mysql://u:{SECRET}@h")
    assert SECRET not in str(refused.value)


async def test_a_forked_process_is_told(url: str) -> None:
    """That it can not use what its parent has opened; the parent goes on."""
    async with engines(url, 1) as (a,):
        held = await a.hold()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover  another process
            try:
                cast("Any", a.engine.acquire("k", Ask(ticket="t"))).send(None)
            except EngineUnavailable as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        await asyncio.to_thread(os.waitpid, child, 0)
        assert b"forked" in os.read(reading, 1000)
        os.close(reading)
        await a.leave(held.ticket)
        assert await a.engine.look() == []


async def test_an_uncontended_turn_is_two_commands(url: str) -> None:
    """And what waits is renewed all at once."""
    async with lanes_on(url, 1, lease=15.0) as (lanes,):
        gate = cast("Any", lanes.gate)
        engine, errands = gate.engine, gate._attachment._errands
        await errands.finish(PATIENCE)  # the turn that has opened them has left
        sent: list[str] = []
        run = engine._client.run_packed

        async def counted(script: object, *rest: object) -> object:
            sent.append(getattr(script, "name", ""))
            return await run(script, *rest)

        engine._client.run_packed = counted
        async with lanes.turn("k"):
            pass
        await errands.finish(PATIENCE)
        assert sent == ["acquire", "leave"]
        sent.clear()
        await engine.renew([Alive(f"k{number}", f"t{number}") for number in range(150)])
        assert sent == ["renew"]
