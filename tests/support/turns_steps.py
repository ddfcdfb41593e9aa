"""What the tests of turns, runtime and hooks share: a lane held by a stranger, recorded events, other processes."""

import asyncio
import contextvars
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio

from turnlane import Lanes
from turnlane.hooks import Event, Hooks

__all__ = (
    "Recorder",
    "apart",
    "called",
    "collected",
    "files_in",
    "held",
    "outcomes",
    "output_of",
    "quiet",
    "until_idle",
)

T = TypeVar("T")


async def until_idle() -> None:
    """Return when every other task is blocked; one that waits for a timer counts as blocked."""
    for _ in range(20):
        await asyncio.sleep(0)
    await anyio.wait_all_tasks_blocked()


def apart(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task that is part of no turn, whatever turn the test runs in."""
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


async def called(*calls: Any) -> list[asyncio.Task[Any]]:
    """Make calls that are part of no turn, one after the other."""
    tasks: list[asyncio.Task[Any]] = []
    for call in calls:
        tasks.append(apart(call))
        await until_idle()
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[Any]]) -> list[Any]:
    """Return what calls have returned; of those that raised, the class of the error."""
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(each) if isinstance(each, BaseException) else each for each in found]


async def collected(items: Any) -> list[Any]:
    """Return all items of a generator."""
    return [item async for item in items]


@asynccontextmanager
async def held(lanes: Lanes, key: str) -> AsyncGenerator[asyncio.Event, None]:
    """Let a stranger hold the lane of `key` in the block, or until the event it yields is set."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with lanes.turn(key):
            entered.set()
            await release.wait()

    task = apart(hold())
    await entered.wait()
    try:
        yield release
    finally:
        release.set()
        await task


class Recorder:
    """Every event of some hooks, in order."""

    def __init__(self, *hooks: Hooks) -> None:
        self.events: list[Event] = []
        for each in hooks:
            each.on(Event, self.events.append)

    @property
    def names(self) -> list[str]:
        """The classes of what happened."""
        return [type(event).__name__ for event in self.events]


def quiet(names: list[str]) -> str:
    """Return the names of events as one short text, for comparing."""
    return " ".join(name.removeprefix("Turn") for name in names)


def files_in(directory: Path) -> list[str]:
    """The names in a directory; looked up here and now, since tests may block."""
    return sorted(path.name for path in directory.iterdir())


def output_of(script: str, *arguments: str, returncode: int = 0) -> str:
    """Run a Python program in a process of its own, with warnings as errors, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert (done.returncode, done.stderr) == (returncode, ""), done.stderr
    return done.stdout
