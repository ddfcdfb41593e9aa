"""A stream that is one turn."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, cast

from turnlane import Turn
from turnlane.errors import ConsumerIdle
from turnlane.turns.feed import Feed

__all__ = ("fed",)


async def fed(
    turn: Callable[[], AbstractAsyncContextManager[Turn]],
    items: Callable[[], AsyncIterator[Any]],
    *,
    idle_timeout: float,
) -> AsyncGenerator[Any, None]:
    """Yield what an async generator yields that runs inside a turn, in a task of its own.

    So the turn and its context are not the reader's: what the reader starts between two items is no part of the turn.
    The turn ends with the stream, when that is closed or dropped, and when nothing was asked for in `idle_timeout`.

    Raises:
        ConsumerIdle: the reader asked for nothing in time.
    """
    running: list[Turn] = []

    async def produce(feed: Feed[Any]) -> None:
        async with turn() as found:
            running.append(found)
            async with aclosing(cast("AsyncGenerator[Any, None]", items())) as source:
                async for item in source:
                    await feed.put(item)

    def idle() -> ConsumerIdle:
        return ConsumerIdle(running[0].key, turn=running[0].id, idle_consumer_timeout=idle_timeout)

    feed = Feed[Any](produce, idle_timeout=idle_timeout, idle=idle)
    try:
        while True:
            try:
                item = await feed.next()
            except StopAsyncIteration:
                return
            yield item
    finally:
        await feed.aclose()
