"""Checking that nothing is left behind: lanes, waiting turns, tasks."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

__all__ = ("LanesLike", "assert_no_leaks", "no_leaks")


class StatisticsLike(Protocol):
    """The numbers `assert_no_leaks` reads."""

    @property
    def lanes(self) -> int:
        """How many lanes exist."""
        ...

    @property
    def running(self) -> int:
        """How many turns run."""
        ...

    @property
    def waiting(self) -> int:
        """How many turns wait."""
        ...


class LaneLike(Protocol):
    """What `assert_no_leaks` reads of one lane."""

    @property
    def key(self) -> str:
        """The session key."""
        ...

    @property
    def holder(self) -> object:
        """The turn that runs, or None."""
        ...

    @property
    def waiting(self) -> Sequence[object]:
        """The turns that wait, in order."""
        ...


class LanesLike(Protocol):
    """What can be checked: `turnlane.Lanes`, or anything with the same two methods."""

    def statistics(self) -> StatisticsLike:
        """Return the numbers."""
        ...

    def snapshot(self) -> Sequence[LaneLike]:
        """Return every lane that exists."""
        ...


def assert_no_leaks(lanes: LanesLike) -> None:
    """Check that no lane is left, nobody runs and nobody waits.

    Raises:
        AssertionError: something is left; the message lists every lane with its holder and its waiting turns.
    """
    left = lanes.snapshot()
    counts = lanes.statistics()
    if not (left or counts.lanes or counts.running or counts.waiting):
        return
    lines = [f"left behind: {counts.lanes} lanes, {counts.running} running turns, {counts.waiting} waiting turns"]
    for lane in left:
        lines.append(f"  lane {lane.key!r}: held by {lane.holder or 'nobody'}, {len(lane.waiting)} waiting")
        lines.extend(f"    waiting: {turn}" for turn in lane.waiting)
    raise AssertionError("\n".join(lines))


@asynccontextmanager
async def no_leaks(*lanes: LanesLike, timeout: float = 5.0) -> AsyncGenerator[None, None]:
    """Check that the block leaves no lane and no task behind that was not there before.

    Tasks that are just ending are given time to end. When the block itself fails, its error is the one you see.

    Args:
        lanes: what to check besides the tasks of the running loop.
        timeout: seconds for which a task that was started in the block may still be ending.

    Raises:
        AssertionError: something is left; the message lists it.
    """
    before = asyncio.all_tasks()
    yield
    # The task that checks may be another one than before: fixtures run their two halves in different tasks.
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=timeout)
    for each in lanes:
        assert_no_leaks(each)
    if left:
        lines = sorted(f"  {task.get_name()}: {task.get_coro()!r}" for task in left)
        raise AssertionError("\n".join([f"left behind: {len(left)} tasks", *lines]))
