"""The loop that the exploration runs on: orders from a seed, time that jumps, and what is stuck is told."""

import asyncio
import itertools
import random
import time

import pytest

from support.seeded_loop import LoopClock, SeededLoop, Stuck, until_blocked


async def order_of(tasks: int, passes: int) -> list[int]:
    """Return in which order the steps of several tasks ran."""
    steps: list[int] = []

    async def run(number: int) -> None:
        for _ in range(passes):
            steps.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(run(number) for number in range(tasks)))
    return steps


def run_order(seed: int | None) -> list[int]:
    with SeededLoop(None if seed is None else random.Random(seed)) as loop:
        return loop.run(order_of(4, 3))


def test_a_seed_draws_the_order_and_the_same_seed_the_same_order() -> None:
    """Without a seed it is the order of a plain loop; each task still runs once in each pass."""
    orders = [run_order(seed) for seed in range(20)]
    assert orders == [run_order(seed) for seed in range(20)]
    assert len({tuple(order) for order in orders}) == 20
    assert all(sorted(order[pass_ : pass_ + 4]) == [0, 1, 2, 3] for order in orders for pass_ in (0, 4, 8))
    assert run_order(None) == asyncio.run(order_of(4, 3)) == [0, 1, 2, 3] * 3


def test_time_jumps_to_the_next_timer_and_stands_still_otherwise() -> None:
    """A day takes no time, timers ring in their order, and computing takes none on the loop's clock."""
    rang: list[tuple[str, float]] = []

    async def main(loop: SeededLoop) -> None:
        began = loop.time()

        def ring(name: str) -> None:
            rang.append((name, loop.time() - began))

        for name, seconds in (("late", 86_400.0), ("soon", 1.5), ("gone", 5.0), ("now", 0.0)):
            timer = loop.call_later(seconds, ring, name)
            if name == "gone":
                timer.cancel()
        assert [round(timer.when() - began, 3) for timer in sorted(loop.armed())] == [0.0, 1.5, 86_400.0]
        assert sum(range(100_000)) > 0
        assert loop.time() == began
        await asyncio.sleep(90_000)

    before = time.monotonic()
    with SeededLoop(random.Random(1)) as loop:
        loop.run(main(loop))
    assert rang == [("now", 0.0), ("soon", 1.5), ("late", 86_400.0)]
    assert time.monotonic() - before < 5


def test_what_can_never_end_is_told_at_once_and_cleaned_up() -> None:
    """The error lists who waits; their `finally` runs."""
    seen: list[str] = []

    async def wait_for_nothing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            seen.append("cleaned up")

    async def main() -> None:
        await asyncio.create_task(wait_for_nothing(), name="the one that waits")

    with SeededLoop() as loop, pytest.raises(Stuck, match="the one that waits"):
        loop.run(main())
    assert seen == ["cleaned up"]


def test_what_goes_on_for_ever_is_told() -> None:
    """A task that is ready again in each pass does not run for ever."""

    async def spin() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with SeededLoop(max_steps=100) as loop, pytest.raises(Stuck, match="100 steps"):
        loop.run(spin())


def test_a_run_that_never_ends_leaves_no_task_behind() -> None:
    """Also not the one whose step was one too many."""

    async def spin() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with SeededLoop(max_steps=100) as loop:
        with pytest.raises(Stuck, match="100 steps"):
            loop.run(spin())
        assert asyncio.all_tasks(loop) == set()


def test_something_can_be_done_just_before_each_step() -> None:
    """A task is cancelled at each of its steps in turn, and at none beyond."""
    ends: list[str] = []

    async def visit() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def main(loop: SeededLoop, step: int) -> None:
        task = asyncio.create_task(visit())
        loop.before(step, task.cancel)
        await asyncio.wait((task,))
        ends.append("cancelled" if task.cancelled() else "done")

    for step in range(2, 9):
        with SeededLoop() as loop:
            loop.run(main(loop, step))
    assert ends == ["cancelled"] * 4 + ["done"] * 3


def test_waiting_until_all_others_are_blocked_lets_no_time_pass() -> None:
    """Who sleeps counts as blocked; who is ready runs before."""

    async def main(loop: SeededLoop) -> None:
        steps: list[str] = []

        async def work() -> None:
            for _ in range(50):
                await asyncio.sleep(0)
            steps.append("worked")
            await asyncio.sleep(10)
            steps.append("slept")

        task = asyncio.create_task(work())
        await until_blocked()
        assert (steps, loop.time()) == (["worked"], began)
        await task
        assert loop.time() == began + 10
        assert LoopClock(loop).monotonic() == loop.time()

    with SeededLoop(random.Random(3)) as loop:
        began = loop.time()
        loop.run(main(loop))


async def test_waiting_until_blocked_needs_such_a_loop() -> None:
    """On another loop nobody knows."""
    with pytest.raises(TypeError, match="not a SeededLoop"):
        await until_blocked()
