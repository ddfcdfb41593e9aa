"""A bound on how long something is waited for."""

import asyncio
from types import TracebackType

from turnlane.begun import driver

__all__ = ("Within",)


class Within:
    """As `asyncio.timeout`, where the running loop is known: that asks for it three times, with a system call each.

    It may be entered by what is begun outside of a task.

    Mutable: `_driver`, `_timer` and `_cancelling` from entering on, `_has_expired`.

    Args:
        loop: that runs.
        seconds: after which what is awaited in the block is cancelled, and the block raises `TimeoutError`.
    """

    __slots__ = ("_cancelling", "_driver", "_has_expired", "_loop", "_seconds", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._has_expired = False

    def __enter__(self) -> None:
        self._driver = driver(self._loop)
        self._cancelling = self._driver.cancelling()
        self._timer = self._loop.call_later(self._seconds, self._expire)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._has_expired and self._driver.uncancel() <= self._cancelling and exc_type is asyncio.CancelledError:
            raise TimeoutError from exc

    def _expire(self) -> None:
        self._has_expired = True
        self._driver.cancel()
