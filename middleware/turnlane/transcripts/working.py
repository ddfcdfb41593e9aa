"""Running what may take its time: on the event loop while it is short, else in a thread, always to its end."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

__all__ = ("INLINE_BYTES", "to_its_end", "work")

INLINE_BYTES = 64 * 1024
"""As much is read or appended on the event loop; more goes to a thread, which costs thirty such calls."""

THREADS = 40

# Threads of its own: those of a server may all be taken by endpoints that wait for what is done here.
_threads: RunVar[CapacityLimiter] = RunVar("turnlane_transcript_threads")

_T = TypeVar("_T")


async def work(job: Callable[[], _T], *, size: int) -> _T:
    """Return what `job` returns. It handles `size` bytes, and is finished before a cancellation is reported."""
    if size <= INLINE_BYTES:
        return job()
    return await to_its_end(asyncio.ensure_future(to_thread.run_sync(job, limiter=_limiter())))


def _limiter() -> CapacityLimiter:
    """Return the one of this event loop."""
    try:
        return _threads.get()
    except LookupError:
        limiter = CapacityLimiter(THREADS)
        _threads.set(limiter)
        return limiter


async def to_its_end(task: "asyncio.Future[_T]") -> _T:
    """Return what a task returns; cancelled meanwhile, wait for its end before the cancellation goes on."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # Once it is cancelled, shielded: a cancelled scope of anyio would cancel it again at each step of the loop.
            with CancelScope(shield=True) if cancelled is not None else nullcontext():
                await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # the cancellation is what the caller hears of
    raise cancelled
