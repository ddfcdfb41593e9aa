"""A lock for what tasks of several event loops use, as the tools do that a framework runs in threads."""

import asyncio
import threading
from types import TracebackType

__all__ = ("AcrossLoops",)

PAUSE = 0.001  # seconds


class AcrossLoops:
    """`asyncio.Lock` is for one loop, and who waits for it in another is never woken.

    Not guaranteed: an order. Who finds it taken looks again after a millisecond; it is for steps that seldom meet.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        while not self._lock.acquire(blocking=False):  # noqa: ASYNC110
            await asyncio.sleep(PAUSE)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
