"""Lanes in a directory, with real processes: who is killed, stopped or forked, and many that start at once."""

import asyncio
import os
import signal
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from support.server_process import ServerProcess, server_process
from turnlane import Enqueue, Lanes
from turnlane.errors import EngineUnavailable
from turnlane.lanes.shared import SharedGate

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="lanes in a directory are POSIX"),
]

KEY = "agent:main:alice"
WORKERS, TURNS = 4, 50


def worker(tmp_path: Path, name: str, what: str, *count: str) -> AbstractAsyncContextManager[ServerProcess]:
    return server_process("engine_worker.py", f"file://{tmp_path}/lanes", str(tmp_path), name, what, *count)


async def test_turns_of_four_processes_exclude_each_other(tmp_path: Path) -> None:
    """By a marker, by a counter that loses what is added at the same time, by tokens that grow."""
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(worker(tmp_path, f"w{n}", "turns", str(TURNS))) for n in range(WORKERS)
        ]
        for process in processes:
            await process.tell("go")
        for process in processes:
            assert (await process.reported("done", timeout=60))["event"] == "done"
        for process in processes:
            await process.tell("end")
    assert (tmp_path / "counter").read_text() == str(WORKERS * TURNS)
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    tokens = [int(token) for token, _ in lines]
    assert tokens == sorted(set(tokens))
    assert len(tokens) == WORKERS * TURNS
    assert len({name for _, name in lines}) == WORKERS


async def test_the_next_starts_at_once_when_a_process_is_killed(tmp_path: Path) -> None:
    """Kill -9 of who has the lane, and of one in the middle of the line, which is passed."""
    async with AsyncExitStack() as stack:
        holder = await stack.enter_async_context(worker(tmp_path, "holder", "hold"))
        token = (await holder.reported("runs"))["token"]
        first = await stack.enter_async_context(worker(tmp_path, "first", "wait"))
        await first.reported("waits")
        second = await stack.enter_async_context(worker(tmp_path, "second", "wait"))
        await second.reported("waits")
        await first.kill()
        await holder.kill()
        assert (await second.reported("runs", timeout=4))["token"] > token
        await second.tell("go")
        await second.reported("left")
        await second.tell("end")


async def test_a_process_that_is_stopped_keeps_its_lane(tmp_path: Path) -> None:
    """Nobody starts beside it, and it goes on where it was."""
    async with AsyncExitStack() as stack:
        holder = await stack.enter_async_context(worker(tmp_path, "holder", "hold"))
        await holder.reported("runs")
        pid = holder.port
        os.kill(pid, signal.SIGSTOP)
        try:
            async with Lanes(f"file://{tmp_path}/lanes") as lanes:
                waiting = asyncio.create_task(_turn(lanes))
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await asyncio.shield(waiting)
                os.kill(pid, signal.SIGCONT)
                await holder.tell("go")
                await holder.reported("left")
                assert await waiting
        finally:
            os.kill(pid, signal.SIGCONT)
        await holder.tell("end")


async def _turn(lanes: Lanes) -> int:
    async with lanes.turn(KEY) as turn:
        return turn.token


async def test_a_forked_child_does_not_keep_its_parents_lanes(tmp_path: Path) -> None:
    """It may outlive the parent, and makes lanes of its own to use them; those it has inherited say so."""
    reading, writing = os.pipe()
    lanes = Lanes(f"file://{tmp_path}/lanes")
    async with lanes.turn(KEY):
        child = os.fork()
        if not child:
            os.close(reading)
            os.write(writing, _in_child(lanes))
            os._exit(0)
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 100) == b"refused"
        os.close(reading)
        await asyncio.to_thread(os.waitpid, child, 0)
        async with Lanes(f"file://{tmp_path}/lanes") as others:
            waiting = asyncio.create_task(_turn(others))
            await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()
    async with Lanes(f"file://{tmp_path}/lanes") as others:
        assert await _turn(others)
    await lanes.aclose()


def _in_child(lanes: Lanes) -> bytes:
    assert isinstance(lanes.gate, SharedGate)
    step = lanes.gate.engine.pause(KEY, True)
    try:
        asyncio.new_event_loop().run_until_complete(step)
    except EngineUnavailable as error:
        return b"refused" if "forked" in str(error) else str(error).encode()
    return b"allowed"


async def test_many_processes_may_start_at_once(tmp_path: Path) -> None:
    """On a directory that is not there yet."""

    async def started(stack: AsyncExitStack, number: int) -> ServerProcess:
        process = await stack.enter_async_context(worker(tmp_path, f"w{number}", "turns", "3"))
        await process.tell("go")
        return process

    async with AsyncExitStack() as stack:
        for process in await asyncio.gather(*(started(stack, number) for number in range(6))):
            await process.reported("done", timeout=60)
            await process.tell("end")
            assert await process.ended() == 0
    assert (tmp_path / "counter").read_text() == "18"
    left = sorted(path.name for path in (tmp_path / "lanes" / "workers").iterdir())
    assert left == []


async def test_a_directory_that_is_removed_is_told(tmp_path: Path) -> None:
    """Others would make another one, and share nothing with us."""
    async with Lanes(f"file://{tmp_path}/lanes") as lanes:
        assert await _turn(lanes)
        for path in (tmp_path / "lanes").glob("lanes.db*"):
            path.unlink()
        with pytest.raises(EngineUnavailable, match="removed or replaced"):
            await _turn(lanes)


async def test_a_path_that_is_no_directory_is_told(tmp_path: Path) -> None:
    """By each turn, in words; nothing runs without its lane."""
    (tmp_path / "lanes").write_text("a file")
    async with Lanes(f"file://{tmp_path}/lanes") as lanes:
        for _ in range(2):
            with pytest.raises(EngineUnavailable, match="could not open it"):
                async with lanes.turn(KEY, policy=Enqueue()):
                    raise AssertionError("it ran")


async def test_a_path_may_be_longer_than_that_of_a_socket(tmp_path: Path) -> None:
    """Some hundred bytes are all the kernel takes for a socket's."""
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    async with Lanes(f"file://{deep}") as one, Lanes(f"file://{deep}") as other:
        async with one.turn(KEY):
            waiting = asyncio.create_task(_turn(other))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.shield(waiting)
        assert await asyncio.wait_for(waiting, 2)


async def test_what_fails_while_it_is_opened_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next turn opens it again."""
    monkeypatch.setattr("turnlane.lanes.shared.PATIENCE", 0.0)
    async with Lanes(f"file://{tmp_path}/lanes") as lanes:
        with monkeypatch.context() as patched:
            patched.setattr("turnlane.engines.local.engine.Letters", _no_sockets)
            with pytest.raises(EngineUnavailable, match="no sockets here"):
                await _turn(lanes)
        assert list((tmp_path / "lanes" / "workers").iterdir()) == []
        assert await _turn(lanes)


def _no_sockets(*_: object) -> None:
    raise OSError(0, "no sockets here")
