"""A bounded wait: what ends it, and what it leaves behind in its task."""

import asyncio

import pytest

from turnlane.redis.within import Within


async def test_a_wait_that_takes_too_long_is_ended() -> None:
    """With `TimeoutError`, and a task that counts as cancelled no more."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    with pytest.raises(TimeoutError), Within(loop, 0.001):
        await loop.create_future()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_is_done_in_time_is_left_alone() -> None:
    """Its value and its error come through, and no timer stays armed."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    with Within(loop, 0.001):
        await asyncio.sleep(0)
    with pytest.raises(KeyError), Within(loop, 60):
        raise KeyError
    passed = asyncio.Event()
    loop.call_later(0.002, passed.set)
    await passed.wait()
    assert task is not None
    assert task.cancelling() == 0


async def test_who_is_cancelled_meanwhile_stays_cancelled() -> None:
    """Also where the time is over at the same moment."""
    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    bound = Within(loop, 60)

    async def wait() -> None:
        with bound:
            begun.set()
            await loop.create_future()

    task = asyncio.create_task(wait())
    await begun.wait()
    bound._expire()  # pyright: ignore[reportPrivateUsage]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
