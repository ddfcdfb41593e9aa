"""Lanes in a directory that is removed, is none, or is deep; and what a forked child has of them."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from turnlane import Enqueue, Lanes
from turnlane.errors import EngineUnavailable
from turnlane.lanes.shared import SharedGate

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="lanes in a directory are POSIX"),
]

KEY = "agent:main:alice"


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


async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes refuse it too, by its name."""

    def network_of(path: str) -> str:
        return "nfs4"

    monkeypatch.setattr("turnlane.engines.local.database.network_of", network_of)
    async with Lanes(f"file://{tmp_path}/lanes") as lanes:
        with pytest.raises(EngineUnavailable, match="network file system 'nfs4'"):
            async with lanes.turn("k"):
                pass


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
