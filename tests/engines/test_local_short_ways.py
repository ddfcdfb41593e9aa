"""A turn in a directory that meets nobody takes two statements; whatever is in its way, it takes the steps of all."""

import asyncio
import sqlite3
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engines.visits import nothing_left
from turnlane import Enqueue, Lanes
from turnlane.engines import Ask, Granted, Queued
from turnlane.errors import EngineUnavailable
from turnlane.hooks import TurnStarted
from turnlane.lanes.shared import SharedGate
from turnlane.testing import ManualClock
from turnlane.testing.engine_suite import Worker

if sys.platform == "win32":
    pytest.skip("lanes in a directory are POSIX", allow_module_level=True)

from turnlane.engines.local import LocalEngine

KEY = "agent:main:alice"


async def opened(path: Path, clock: ManualClock | None = None) -> Worker:
    worker = Worker(LocalEngine(str(path), clock=clock))
    await worker.engine.open(worker.name, worker.tell)
    return worker


def connection_of(engine: object) -> sqlite3.Connection:
    assert isinstance(engine, LocalEngine)
    connection = engine._database._connection  # pyright: ignore[reportPrivateUsage]
    assert connection is not None
    return connection


def engine_of(lanes: Lanes) -> object:
    assert isinstance(lanes.gate, SharedGate)
    return lanes.gate.engine


async def a_pass() -> None:
    """Let the loop go on once; who asks for something of other processes again and again does it between these."""
    await asyncio.sleep(0)


@contextmanager
def busy(path: Path) -> Generator[None, None, None]:
    """Write to the database, and do not come to an end, for a block."""
    connection = sqlite3.connect(path / "lanes.db", timeout=5, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


async def test_it_takes_two_statements(tmp_path: Path) -> None:
    """Each a transaction of its own, whatever the policy, and whether anybody listens."""
    async with Lanes(f"file://{tmp_path}/lanes") as lanes:
        async with lanes.turn(KEY):
            pass
        statements: list[str] = []
        connection_of(engine_of(lanes)).set_trace_callback(statements.append)
        for policy in ("enqueue", "reject", "interrupt"):
            async with lanes.turn(KEY, policy=policy) as turn:
                assert (turn.position, turn.waited) == (0, 0.0)
        lanes.hooks.on(TurnStarted, lambda _: None)
        async with lanes.turn(KEY):
            pass
        assert [statement.split()[0] for statement in statements] == ["INSERT", "DELETE"] * 4


async def test_who_was_granted_its_lane_in_a_parent_leaves_it_there(tmp_path: Path) -> None:
    """A forked child that has used the lanes since knows nothing of it any more."""
    async with Lanes(f"file://{tmp_path}/lanes") as lanes:
        async with lanes.turn(KEY) as turn:
            assert isinstance(lanes.gate, SharedGate)
            lanes.gate.standings.clear()  # as using them in a child does
        assert not turn.running
        assert [view.key for view in await lanes.gate.engine.look()] == [KEY]


async def test_tokens_grow_when_the_clock_is_set_back(tmp_path: Path) -> None:
    """Over all keys, and over a restart of everybody."""
    clock, tokens = ManualClock(), list[int]()
    for _ in range(2):
        worker = await opened(tmp_path, clock)
        for step in (0.000_001, -3600.0, 0.0, 7200.0, -7200.0):
            clock.step_wall(step)
            for key in ("a", "b"):
                held = await worker.hold(key)
                tokens.append(held.token)
                await worker.leave(held.ticket, key)
        await worker.engine.aclose()
    assert tokens == sorted(set(tokens))


async def test_a_lane_that_is_not_idle_takes_the_steps_of_all(tmp_path: Path) -> None:
    """Held, waited for, paused, or with something to be taken back: the short statements change nothing then."""
    clock = ManualClock()
    worker = await opened(tmp_path, clock)
    held = await worker.hold()
    clock.advance(1)
    waits, answer = await worker.ask()
    assert isinstance(answer, Queued)
    clock.advance(1)
    await worker.leave(held.ticket)
    granted = await worker.told(Granted, waits)
    assert granted.token > held.token
    await worker.engine.pause("k", True)
    clock.advance(1)
    await worker.leave(waits)
    assert [lane.paused for lane in await worker.engine.look()] == [True]
    stands = await worker.stand()
    await worker.engine.pause("k", False)
    await worker.leave(stands, owes=True)
    clock.advance(1)
    debtor = await worker.hold()
    assert debtor.owes
    await worker.leave(debtor.ticket)
    assert await worker.engine.look() == []
    assert not (await worker.hold()).owes
    await worker.engine.aclose()


async def test_a_busy_database_is_waited_for(tmp_path: Path) -> None:
    """By who arrives and by who leaves; who is cancelled meanwhile leaves nothing."""
    path = tmp_path / "lanes"
    async with Lanes(f"file://{path}") as lanes:

        async def turn(go: asyncio.Event) -> int:
            async with lanes.turn(KEY, policy=Enqueue(wait_timeout=10)) as turn:
                await go.wait()
                return turn.token

        async with lanes.turn("another"):
            pass
        go = asyncio.Event()
        with busy(path):
            gone, first, second = (asyncio.create_task(turn(go)) for _ in range(3))
            while lanes.statistics().waiting < 3:
                await a_pass()
            gone.cancel()
            for _ in range(20):  # the first tries have been made
                await a_pass()
            assert not lanes.statistics().running
        async with asyncio.timeout(5):
            while not lanes.statistics().running:
                await a_pass()
        with busy(path):
            go.set()
            for _ in range(20):
                await a_pass()
        async with asyncio.timeout(5):
            tokens = [await first, await second]
            await nothing_left(lanes.gate.engine)  # type: ignore[attr-defined]
        assert tokens == sorted(set(tokens))
        assert gone.cancelled()


async def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """By who arrives; who has a lane leaves it, and when there is room again all goes on."""
    worker = await opened(tmp_path, ManualClock())
    held = await worker.hold()
    connection = connection_of(worker.engine)
    connection.execute("PRAGMA max_page_count = 1")  # no more than there are
    taken: list[str] = []

    async def take_all() -> None:
        for number in range(10_000):
            await worker.engine.acquire(f"{number}", Ask(ticket=f"t{number}"))
            taken.append(f"{number}")

    with pytest.raises(EngineUnavailable, match="the disk is full"):
        await take_all()
    assert len(await worker.engine.look()) == len(taken) + 1
    await worker.leave(held.ticket)
    connection.execute("PRAGMA max_page_count = 1000000")
    again = await worker.hold()
    assert again.token > held.token
    for number in taken:
        await worker.leave(f"t{number}", number)
    await worker.leave(again.ticket)
    assert await worker.engine.look() == []
    await worker.engine.aclose()


async def test_a_dead_worker_is_taken_out_of_many_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of them in the moment it is found dead, all others soon."""
    monkeypatch.setattr("turnlane.engines.local.engine.AT_ONCE", 2)
    one, other = await opened(tmp_path), await opened(tmp_path)
    keys = [f"{number}" for number in range(5)]
    tickets: list[str] = []
    for key in keys:
        await one.hold(key)
        await one.stand(key)
        tickets.append(await other.stand(key))
    one.engine.forget()
    assert isinstance(other.engine, LocalEngine)
    other.engine._found_dead(one.name)  # pyright: ignore[reportPrivateUsage]  # as it hears of the end of a process
    assert len(other.notes) == 2
    for key, ticket in zip(keys, tickets, strict=True):
        await other.told(Granted, ticket)
        await other.leave(ticket, key)
    assert await other.engine.look() == []
    async with asyncio.timeout(5):
        while len(list((tmp_path / "workers").iterdir())) > 2:
            await a_pass()
    await other.engine.aclose()


async def test_who_hands_a_lane_on_passes_the_dead(tmp_path: Path) -> None:
    """Also those that somebody has found dead who did not come to take their tickets out."""
    clock = ManualClock()
    holder, dead, other = [await opened(tmp_path, clock) for _ in range(3)]
    held = await holder.hold()
    await dead.stand()
    waits = await other.stand()
    dead.engine.forget()
    connection_of(holder.engine).execute("DELETE FROM worker WHERE id = ?", (dead.name,))
    await holder.leave(held.ticket)
    granted = await other.told(Granted, waits)
    assert granted.token == held.token + 1  # nobody was granted it in between
    assert [len(lane.waiting) for lane in await other.engine.look()] == [0]
    for each in (holder, other):
        await each.engine.aclose()
