"""Feeding an async listener, apart from those who tell."""

import asyncio
import contextvars
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from turnlane.hooks._events import Event

__all__ = ("Pump",)

logger: logging.Logger = logging.getLogger("turnlane.hooks")


class Pump:
    """Gives events to one listener in order, from a bounded queue, in a task that exists only while there is work.

    Mutable: `_queue` of events, or of what the listener returned for one where it was called at once; `task`.
    """

    __slots__ = ("_limit", "_listener", "_queue", "task")

    def __init__(self, listener: Callable[[Any], object], limit: int) -> None:
        self._listener = listener
        self._limit = limit
        self._queue: deque[Event | Awaitable[object]] = deque()
        self.task: asyncio.Task[None] | None = None

    def put(self, work: Event | Awaitable[object]) -> bool:
        """Queue an event, or what the listener made of one; False if there is no room for it, or no loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _close(work)
            return False
        if len(self._queue) >= self._limit:
            _close(work)
            return False
        self._queue.append(work)
        if self.task is None or self.task.done() or self.task.get_loop() is not loop:
            # An empty context: what a listener does is not part of the turn that was told of.
            self.task = loop.create_task(self._run(), context=contextvars.Context())
        return True

    def clear(self) -> int:
        """Forget what is queued; return how much that was."""
        count = len(self._queue)
        for work in self._queue:
            _close(work)
        self._queue.clear()
        return count

    async def _run(self) -> None:
        task = asyncio.current_task()
        while self._queue:
            work = self._queue.popleft()
            try:
                result = self._listener(work) if isinstance(work, Event) else work
                if inspect.isawaitable(result):
                    await result
            except (Exception, asyncio.CancelledError):
                if task is not None and task.cancelling():
                    raise
                logger.exception("listener_failed listener=%r", self._listener)


def _close(work: object) -> None:
    if inspect.iscoroutine(work):
        work.close()
