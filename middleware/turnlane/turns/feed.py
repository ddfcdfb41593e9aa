"""Feeding the items of a generator turn to its consumer, one at a time.

The turn runs in a task of its own, so that its lane, its context and its cancellation are the turn's and not those of
whoever reads. Neither side runs ahead: the producer goes on when the next item is asked for.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

__all__ = ("Feed",)

T = TypeVar("T")


class Feed(Generic[T]):
    """One producer, one consumer, one item between them.

    Args:
        produce: runs the turn; it is given this feed and awaits `put` for each item.
        idle_timeout: seconds the consumer may take to ask for the next item.
        idle: makes the error the consumer gets when it took longer.

    Mutable: `task` is the producer's; `_item` is the future the consumer waits on, None while it does not; `_wanted`
    is the one the producer waits on; `_failure` is what ended the feed in the producer's stead; `_closed` is set by
    `aclose`; `_answered` is how often the task had been cancelled when it gave its last item.
    """

    def __init__(
        self,
        produce: "Callable[[Feed[T]], Coroutine[Any, Any, None]]",
        *,
        idle_timeout: float,
        idle: Callable[[], BaseException],
    ) -> None:
        self._idle_timeout = idle_timeout
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._item: asyncio.Future[T] | None = None
        self._wanted: asyncio.Future[None] | None = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self._answered = 0
        self.task: asyncio.Task[None] = self._loop.create_task(self._run(produce, self._wanted))
        self.task.add_done_callback(self._ended)

    async def _run(
        self, produce: "Callable[[Feed[T]], Coroutine[Any, Any, None]]", wanted: "asyncio.Future[None]"
    ) -> None:
        await wanted  # until the first item is asked for, even where tasks start at once
        self._wanted = None
        await produce(self)

    async def put(self, item: T) -> None:
        """Hand one item over and wait until the next one is asked for. For the producer.

        Raises:
            CancelledError: the feed is being closed; nobody wants the item.
        """
        if self._closed or self._failure is not None:
            raise asyncio.CancelledError
        if self._item is not None and not self._item.done():
            self._item.set_result(item)
        self._answered = self.task.cancelling()
        self._wanted = self._loop.create_future()
        self._timer = self._loop.call_later(self._idle_timeout, self._give_up)
        try:
            await self._wanted
        finally:
            self._timer.cancel()
            self._wanted = None

    async def next(self) -> T:
        """Return the next item. For the consumer.

        Raises:
            StopAsyncIteration: there is none.
            Exception: what ended the turn.
        """
        if self._failure is not None:
            await self._settled()
            raise self._failure
        if not self.task.done():
            self._item = self._loop.create_future()
            if self._wanted is not None and not self._wanted.done():
                self._wanted.set_result(None)
            either: set[asyncio.Future[Any]] = {self._item, self.task}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            item, self._item = self._item, None
            if item.done():
                return item.result()
        self._raise_failure()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the turn if it still runs and wait until it has cleaned up; raise what its cleanup raised."""
        if self.task.done():
            return
        self._closed = True
        # Cancelled before and no item since, it is cleaning up: a second cancellation would cut that short.
        if self._wanted is not None or self.task.cancelling() <= self._answered:
            self.task.cancel()
        await self._settled()
        failure = None if self.task.cancelled() else self.task.exception()
        if failure is not None:
            raise failure

    async def _settled(self) -> None:
        if not self.task.done():
            await asyncio.wait({self.task})

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.task.cancelled():
            raise asyncio.CancelledError
        failure = self.task.exception()
        if failure is not None:
            raise failure

    def _give_up(self) -> None:
        if self._wanted is None or self._wanted.done():
            return  # asked for in time, while something else blocked the loop
        self._failure = self._idle()
        self.task.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            task.exception()  # told to the consumer, if it asks; asyncio need not log it
