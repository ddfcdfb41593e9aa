"""Lanes in a directory that is taken away, full, or read-only: told in bounded time, and nobody runs beside another."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from support.engine_processes import nothing_left
from turnlane import Enqueue, Lanes
from turnlane.errors import EngineUnavailable, WaitTimeout
from turnlane.hooks import TurnQueued

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="it mounts file systems"),
]

A_MOMENT = 4.0  # seconds: an arriving turn asks for two before it is refused


def mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path, None, None]:
    """A file system of half a megabyte; who may not mount one is skipped, on CI it is a failure."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", place):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("nothing may be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


async def turn(lanes: Lanes, key: str = "k", *, wait_timeout: float = 30) -> float:
    """Have a turn; return when it began."""
    async with lanes.turn(key, policy=Enqueue(wait_timeout=wait_timeout)):
        return time.monotonic()


async def last_turn(lanes: Lanes) -> float:
    """Have turns as long as there is room in what the disk has given away; return when the one began that had none."""
    for _ in range(200):
        began = time.monotonic()
        try:
            await asyncio.wait_for(turn(lanes), A_MOMENT + 5)
        except EngineUnavailable:
            return began
    raise AssertionError("the disk is never full")


def fill(disk: Path) -> Path:
    """Leave no room."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 512)
        except OSError:
            return path


def remove(directory: Path) -> None:
    for path in directory.glob("lanes.db*"):
        path.unlink()


async def test_a_directory_that_is_removed_ends_waits_by_their_time(tmp_path: Path) -> None:
    """The turn that runs comes to its end; who waits is told when its time is over, who comes at once."""
    url = f"file://{tmp_path}/lanes"
    async with Lanes(url) as one, Lanes(url) as other:
        await turn(other, "first")
        async with one.turn("k"):
            waiting = asyncio.create_task(turn(other, wait_timeout=2))
            await asyncio.sleep(0)  # it stands in line
            remove(tmp_path / "lanes")
            with pytest.raises(EngineUnavailable, match="removed or replaced"):
                await turn(one, "another")
            began = time.monotonic()
            with pytest.raises(WaitTimeout):
                await waiting
            assert time.monotonic() - began < 2 + A_MOMENT
    async with Lanes(url) as lanes:
        assert await turn(lanes)
        await nothing_left(lanes)


@pytest.mark.parametrize("when", ["start", "wait", "turn", "end"])
async def test_a_full_disk_is_told_and_survived(disk: Path, when: str) -> None:
    """Where there is room again, lanes go on; the lane of a turn that ended meanwhile is let go then."""
    url = f"file://{disk}/lanes"
    async with Lanes(url) as one, Lanes(url) as other:
        if when != "start":
            await turn(one)
            await turn(other)
        if when in ("start", "turn"):
            filler = fill(disk)
            for _ in range(2):
                began = await last_turn(one)
                assert time.monotonic() - began < A_MOMENT
            filler.unlink()
        else:
            async with one.turn("k"):
                queued = asyncio.Event()
                other.hooks.on(TurnQueued, lambda _: queued.set())
                waiting = asyncio.create_task(turn(other))
                await (queued.wait() if when == "wait" else asyncio.sleep(0))
                filler = fill(disk)
            left = time.monotonic()
            filler.unlink()
            assert await waiting - left < A_MOMENT
        assert await turn(one)
        assert await turn(other)
        await nothing_left(other)


async def test_a_disk_that_is_read_only_is_told(disk: Path) -> None:
    """By each turn; nothing runs without its lane."""
    assert mount("-o", "remount,ro", disk)
    async with Lanes(f"file://{disk}/lanes") as lanes:
        for _ in range(2):
            with pytest.raises(EngineUnavailable, match="could not open it"):
                await asyncio.wait_for(turn(lanes), A_MOMENT)
        assert mount("-o", "remount,rw", disk)
        assert await turn(lanes)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions are nothing to root")
async def test_a_directory_that_nobody_may_write_is_told(tmp_path: Path) -> None:
    """In words; nothing runs without its lane."""
    (tmp_path / "closed").mkdir(mode=0o500)
    async with Lanes(f"file://{tmp_path}/closed/lanes") as lanes:
        with pytest.raises(EngineUnavailable, match="Permission denied"):
            await turn(lanes)
