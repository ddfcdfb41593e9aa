"""A stream that is one turn."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, cast

from turnlane import Turn
from turnlane.errors import ConsumerIdle
from turnlane.lanes.scope import TurnScope
from turnlane.turns.feed import Feed

__all__ = ("fed",)


async def fed(
    place: Callable[[], TurnScope | None],
    turn: Callable[[TurnScope | None], AbstractAsyncContextManager[Turn]],
    items: Callable[[], AsyncIterator[Any]],
    *,
    idle_timeout: float,
) -> AsyncGenerator[Any, None]:
    """Yield what an async generator yields that runs inside a turn, in a task of its own.

    So the turn and its context are not the reader's: what the reader starts between two items is no part of the turn.
    The turn ends with the stream, when that is closed or dropped, and when nothing was asked for in `idle_timeout`.

    Args:
        place: returns the place in line, which is taken when the first item is asked for; None: there is none to take.
        turn: the turn in that place.
        items: begins what is yielded.
        idle_timeout: seconds a reader has to ask for the next item.

    Raises:
        ConsumerIdle: the reader asked for nothing in time.
    """
    scope = place()
    running: list[Turn] = []

    async def produce(feed: Feed[Any]) -> None:
        async with turn(scope) as found:
            running.append(found)
            async with aclosing(cast("AsyncGenerator[Any, None]", items())) as source:
                async for item in source:
                    await feed.put(item)

    def idle() -> ConsumerIdle:
        return ConsumerIdle(running[0].key, turn=running[0].id, idle_consumer_timeout=idle_timeout)

    feed = Feed[Any](produce, idle_timeout=idle_timeout, idle=idle)
    try:
        if scope is not None:
            scope.arrive(feed.task)  # in this very call, not when the task gets to run
            feed.task.add_done_callback(lambda _: scope.abandon())
        while True:
            try:
                item = await feed.next()
            except StopAsyncIteration:
                return
            yield item
    finally:
        await feed.aclose()
