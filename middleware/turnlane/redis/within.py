"""A bound on how long something is waited for."""

import asyncio
from types import TracebackType

__all__ = ("Within",)


class Within:
    """As `asyncio.timeout`, where the running loop is known: that asks for it three times, with a system call each.

    Mutable: `_task`, `_timer` and `_cancelling` from entering on, `_has_expired`.

    Args:
        loop: that runs.
        seconds: after which what is awaited in the block is cancelled, and the block raises `TimeoutError`.
    """

    __slots__ = ("_cancelling", "_has_expired", "_loop", "_seconds", "_task", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._has_expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a bounded wait belongs into a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = self._loop.call_later(self._seconds, self._expire)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._has_expired and self._task.uncancel() <= self._cancelling and exc_type is asyncio.CancelledError:
            raise TimeoutError from exc

    def _expire(self) -> None:
        self._has_expired = True
        self._task.cancel()
