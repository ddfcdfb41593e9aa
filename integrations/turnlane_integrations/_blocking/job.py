"""`Job`: a task in the event loop of another thread."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

from anyio import current_effective_deadline, from_thread, to_thread

from turnlane.errors import NotConfigured
from turnlane_integrations._blocking.own_loop import JOB, loop_here

__all__ = ("Job",)

LOOK_SECONDS = 1.0  # how often who waits looks whether the loop was closed, which nobody tells

R = TypeVar("R")
T = TypeVar("T")


class Job(Generic[T]):
    """A task in the loop of another thread, with the context of the thread that begins it.

    Mutable: `done`, which is its end; `_loop`, from `begin` on; `_task`, once the loop has begun it.

    Args:
        find: returns the loop.
        work: what it runs.
    """

    def __init__(
        self, find: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Coroutine[Any, Any, T]]
    ) -> None:
        self.done: Future[T] = Future()
        self._find = find
        self._work = work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> Self:
        """Have it begun. Who may be interrupted here has to call `cancel` then, and whatever has come of it ends."""
        while True:
            with suppress(RuntimeError):  # it was closed since
                self._loop = self._find()
                self._loop.call_soon_threadsafe(self._begin)
                return self

    def tell(self, function: Callable[..., object], *args: object) -> None:
        """Have a function called in the loop; in one that was closed all has ended."""
        with suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *args)

    def cancel(self) -> None:
        """Cancel it."""
        self.tell(self._cancel)

    def wait(self, future: Future[R]) -> R:
        """Return what the job fulfils a future with; a thread of anyio whose host is cancelled stops waiting for it.

        A thread of anyio that waits does not count among those that its host may have at once: what it waits for may
        need one itself.

        Raises:
            CancelledError: the host is cancelled, or the future was.
            NotConfigured: the loop was closed.
        """
        with suppress(RuntimeError):  # this is not a thread of anyio
            from_thread.run(self._seen, future)
        return self._result(future)

    def result(self) -> T:
        """Wait for its end, and return what it returned."""
        return self._result(self.done)

    def end(self, error: BaseException | None = None) -> None:
        """Wait for its end, and raise what it raised. Not in the thread of an event loop, where nobody waits.

        Args:
            error: what its end is due to, and which is not to be raised.
        """
        if loop_here() is not None or not self._is_over(self.done) or self.done.cancelled():
            return
        failure = self.done.exception()
        if failure is not None and failure is not error:
            raise failure from failure.__cause__ or (None if isinstance(error, CancelledError) else error)

    def _result(self, future: Future[R]) -> R:
        if not self._is_over(future):
            raise NotConfigured("the event loop was closed in which a thread has begun something, as a turn")
        return future.result()

    def _is_over(self, future: Future[Any]) -> bool:
        while not future.done() and not self._is_closed():
            with suppress(CancelledError, TimeoutError):
                future.exception(LOOK_SECONDS)
        return future.done()

    async def _seen(self, future: Future[Any]) -> None:
        if current_effective_deadline() == -math.inf:  # the host was cancelled before: this task is not told of it
            raise asyncio.CancelledError
        seen, threads = asyncio.wrap_future(future), to_thread.current_default_thread_limiter()
        threads.total_tokens += 1
        try:
            while not seen.done() and not self._is_closed():
                await asyncio.wait((seen,), timeout=LOOK_SECONDS)
        finally:
            threads.total_tokens -= 1

    def _is_closed(self) -> bool:
        return self._loop is None or self._loop.is_closed()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work(), name=JOB)
        self._task.add_done_callback(self._ended)

    def _cancel(self) -> None:
        (self._task or self.done).cancel()  # without a task it will not begin, either

    def _ended(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.done.cancel()
        elif (error := task.exception()) is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(task.result())
