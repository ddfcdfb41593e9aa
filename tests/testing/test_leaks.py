"""Checking that nothing is left behind."""

import asyncio
from dataclasses import dataclass, field

import pytest

from turnlane.testing import assert_no_leaks, no_leaks


@dataclass
class Lane:
    """One lane of a snapshot."""

    key: str
    holder: str | None
    waiting: tuple[str, ...] = ()


@dataclass
class Lanes:
    """Lanes in a state of the test's choice; they count as their own statistics."""

    left: list[Lane] = field(default_factory=list[Lane])

    def snapshot(self) -> list[Lane]:
        """Return the lanes."""
        return self.left

    def statistics(self) -> "Lanes":
        """Return the numbers."""
        return self

    @property
    def lanes(self) -> int:
        """Count lanes."""
        return len(self.left)

    @property
    def running(self) -> int:
        """Count running turns."""
        return sum(lane.holder is not None for lane in self.left)

    @property
    def waiting(self) -> int:
        """Count waiting turns."""
        return sum(len(lane.waiting) for lane in self.left)


async def test_idle_lanes_pass() -> None:
    """Nothing is left, nothing is said."""
    assert_no_leaks(Lanes())
    async with no_leaks(Lanes(), Lanes()):
        await asyncio.sleep(0)


async def test_lists_lanes_holders_and_waiting_turns() -> None:
    """Whoever reads the failure sees who is stuck where."""
    lanes = Lanes([Lane("a", "turn-1", ("turn-2", "turn-3")), Lane("b", None)])
    with pytest.raises(AssertionError) as caught:
        assert_no_leaks(lanes)
    for fact in ("2 lanes, 1 running", "2 waiting", "'a': held by turn-1", "turn-2", "turn-3", "'b': held by nobody"):
        assert fact in str(caught.value)
    with pytest.raises(AssertionError, match="held by turn-1"):
        async with no_leaks(Lanes(), lanes):
            pass


async def test_believes_the_numbers_too() -> None:
    """A count without a lane to show for it is a leak of its own."""

    class Miscounted(Lanes):
        @property
        def waiting(self) -> int:
            return 1

    with pytest.raises(AssertionError, match="0 lanes, 0 running turns, 1 waiting"):
        assert_no_leaks(Miscounted())


async def test_finds_tasks_left_behind() -> None:
    """A task that was started in the block and does not end is named; older ones are none of its business."""
    older = asyncio.create_task(asyncio.Event().wait())
    left = None
    with pytest.raises(AssertionError, match=r"1 tasks\n.*forgotten"):
        async with no_leaks(timeout=0.01):
            left = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    for task in (older, left):
        assert task is not None
        task.cancel()
    await asyncio.wait([task for task in (older, left) if task is not None])


async def test_waits_for_tasks_that_are_ending() -> None:
    """A task that was told to end gets the time for it."""

    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)

    async with no_leaks():
        task = asyncio.create_task(tidy())
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


async def test_the_error_of_the_block_is_the_one_to_see() -> None:
    """What is left behind by a failure does not hide it."""
    with pytest.raises(KeyError):
        async with no_leaks(Lanes([Lane("a", "turn-1")])):
            raise KeyError("the real one")
