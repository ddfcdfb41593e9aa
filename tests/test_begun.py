"""Coroutines that are begun outside of a task: who they are cancelled by, and where a task of their own begins."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from turnlane.begun import Begun, begin, driver, in_task
from turnlane.lanes.errands import Errands
from turnlane.redis.within import Within


def begun(coroutine: Coroutine[Any, Any, object]) -> Begun:
    """Begin a coroutine that waits."""
    found = begin(coroutine)
    assert isinstance(found, Begun)
    return found


async def test_what_does_not_wait_is_done() -> None:
    """Its value is returned, and its error raised, where it was begun."""

    async def give(value: object) -> object:
        if isinstance(value, Exception):
            raise value
        return value

    assert begin(give(7)) == 7
    with pytest.raises(KeyError):
        begin(give(KeyError()))


async def test_a_bounded_wait_ends_in_the_task_that_awaits_it() -> None:
    """Not in the task it was begun in, which counts as cancelled at no time."""
    loop, mine = asyncio.get_running_loop(), asyncio.current_task()
    found: list[object] = []

    async def step() -> None:
        with Within(loop, 0.001):
            await loop.create_future()

    async def errand(waits: Begun) -> None:
        task = asyncio.current_task()
        try:
            await waits
        except TimeoutError:
            found.append(task is not mine and task is not None and task.cancelling() == 0)

    await asyncio.create_task(errand(begun(step())))
    assert found == [True]
    assert mine is not None
    assert mine.cancelling() == 0


async def test_a_wait_that_is_over_before_anybody_awaits_it_ends_at_once() -> None:
    """As where the loop was held up between the two."""
    loop = asyncio.get_running_loop()
    bound = Within(loop, 60)

    async def step() -> None:
        with bound:
            await loop.create_future()

    waits = begun(step())
    bound._expire()  # pyright: ignore[reportPrivateUsage]

    async def errand() -> None:
        await waits

    with pytest.raises(TimeoutError):
        await asyncio.create_task(errand())


@pytest.mark.parametrize("layers", [1, 3])
async def test_who_awaits_it_can_be_cancelled(layers: int) -> None:
    """Also where the time is over at the same moment, and where what is begun awaits what was begun before."""
    loop = asyncio.get_running_loop()
    bound = Within(loop, 60)

    async def step() -> None:
        with bound:
            await loop.create_future()

    async def around(inner: Awaitable[object]) -> None:
        await inner

    waits = begun(step())
    for _ in range(layers - 1):
        waits = begun(around(waits))
    task = asyncio.create_task(around(waits))
    await asyncio.sleep(0)
    bound._expire()  # pyright: ignore[reportPrivateUsage]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("layers", [1, 3])
async def test_a_bound_reaches_through_layers(layers: int) -> None:
    """The one that is awaited in a task is cancelled, and the innermost tells that its time is over."""
    loop = asyncio.get_running_loop()

    async def step() -> str:
        try:
            with Within(loop, 0.001):
                await loop.create_future()
        except TimeoutError:
            return "over"
        return "not"

    async def around(inner: Awaitable[object]) -> object:
        return await inner

    waits = begun(step())
    for _ in range(layers - 1):
        waits = begun(around(waits))
    assert await asyncio.create_task(around(waits)) == "over"


async def test_a_task_of_its_own_can_be_waited_for() -> None:
    """What follows is in the task that awaits it; inside a task nothing is waited for."""
    tasks: list[object] = []

    async def step() -> None:
        await in_task()
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(60):
            await asyncio.sleep(0)

    async def errand(waits: Awaitable[object]) -> None:
        await waits
        tasks.append(asyncio.current_task())

    await asyncio.create_task(errand(begun(step())))
    assert tasks[0] is tasks[1] is not asyncio.current_task()
    assert isinstance(begin(in_task()), Begun)

    async def here() -> bool:
        passed = False

        def pass_by() -> None:
            nonlocal passed
            passed = True

        asyncio.get_running_loop().call_soon(pass_by)
        await in_task()
        return passed

    assert not await asyncio.create_task(here())


async def test_what_is_started_meanwhile_is_cancelled_by_itself() -> None:
    """A task, or a timer, that something starts while it is begun takes its context along, and is in its own task."""
    loop = asyncio.get_running_loop()
    drivers: list[object] = []
    other: list[asyncio.Task[None]] = []

    async def started() -> None:
        drivers.append(driver(loop))
        await in_task()

    async def step() -> None:
        other.append(loop.create_task(started()))
        await asyncio.sleep(0)

    waits = begun(step())
    await other[0]
    assert drivers == [other[0]]

    async def errand() -> None:
        await waits

    await asyncio.create_task(errand())


async def test_outside_of_both_there_is_nobody_to_cancel(
    called_back: Callable[[Callable[[], object]], Awaitable[object]],
) -> None:
    """A callback of the loop is in no task; what it begins has what it begins."""
    loop = asyncio.get_running_loop()
    with pytest.raises(RuntimeError, match="belongs into a task"):
        await called_back(lambda: driver(loop))

    async def step() -> object:
        return driver(loop)

    assert isinstance(await called_back(lambda: begin(step())), Begun)


@pytest.fixture
def called_back() -> Callable[[Callable[[], object]], Awaitable[object]]:
    """Call something from the loop, in no task."""

    async def call(what: Callable[[], object]) -> object:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[object] = loop.create_future()

        def run() -> None:
            try:
                told.set_result(what())
            except RuntimeError as error:
                told.set_exception(error)

        loop.call_soon(run)
        return await told

    return call


@pytest.mark.parametrize("immediate", [True, False])
async def test_a_step_whose_task_has_not_run_is_cancelled_where_it_waits(immediate: bool) -> None:
    """As where the loop ends in the pass a step is asked for: it gives back what it has taken, and nobody waits."""
    loop = asyncio.get_running_loop()
    errands, others = Errands(loop, immediate=immediate), asyncio.all_tasks()
    ended: list[object] = []

    async def step() -> None:
        try:
            with Within(loop, 60):
                await loop.create_future()
        except BaseException as error:
            ended.append(type(error))
            raise

    errands.run("k", step, ended.append)
    [task] = asyncio.all_tasks() - others
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert ended == ([asyncio.CancelledError] if immediate else [])
