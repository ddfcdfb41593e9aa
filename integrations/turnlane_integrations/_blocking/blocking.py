"""`Blocking`: see the package."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal

from turnlane import Runtime
from turnlane.errors import NotConfigured
from turnlane_integrations._blocking.job import Job
from turnlane_integrations._blocking.loops import Loops
from turnlane_integrations._blocking.own_loop import loop_here
from turnlane_integrations._blocking.stay import Stay

__all__ = ("Blocking",)

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """Does for threads what needs the event loop of a runtime's lanes; `Loops` says which one that is.

    Args:
        runtime: whose lanes; None where any loop will do.
        portal: the loop to use, whatever else there is.
    """

    def __init__(self, runtime: Runtime | None = None, *, portal: BlockingPortal | None = None) -> None:
        self._loops = Loops(runtime, portal)

    def require_thread(self, instead: str) -> None:
        """Raise where a call that waits would stop the event loop of this thread.

        Args:
            instead: what to await there, for people.

        Raises:
            NotConfigured: there is one.
        """
        if loop_here() is not None:
            raise NotConfigured(
                f"this call waits, and would stop the event loop of this thread: await {instead} here, "
                "or make it in a thread (anyio.to_thread.run_sync)"
            )

    @contextmanager
    def inside(
        self,
        make: Callable[[], AbstractAsyncContextManager[object]],
        *,
        instead: str,
        on_cancel: Callable[[], Awaitable[object]] | None = None,
    ) -> Generator[Stay, None, None]:
        """Stay inside an async context manager, as `runtime.turn(...)`, for the block; a task enters and leaves it.

        Guarantees: who is interrupted while it waits to be let in leaves, as does a thread of anyio whose host is
        cancelled. What the block raises is raised inside the context manager, too; what ends threads, as
        `KeyboardInterrupt`, is a cancellation there. Once inside, a cancellation of the task is told when the block has
        ended, and the context manager is not left before: a thread can not be cut short. If nothing but the end of the
        loop was the reason, what the block has done is done.

        Not guaranteed: that its end is waited for where a generator with this block is closed, or collected, in the
        thread of an event loop; it is begun there.

        Args:
            make: makes it.
            instead: what to await in an event loop, for people.
            on_cancel: asks the block to end, where the task is cancelled; `Stay.is_cut` tells it, too.

        Raises:
            NotConfigured: called in the thread of an event loop; or the loop was closed meanwhile.
        """
        self.require_thread(instead)
        stay = Stay(make, on_cancel)
        job = Job(self._loops.find, stay.hold)
        job.done.add_done_callback(lambda _: stay.entered.cancel())  # what will not be entered any more
        try:
            job.begin().wait(stay.entered)
            yield stay
        except BaseException as error:
            job.tell(stay.leave, error)
            if not stay.entered.done():
                job.cancel()
            job.end(error)
            raise
        job.tell(stay.leave, None)
        job.end()

    def iterate(self, make: Callable[[], AsyncGenerator[T, None]], *, instead: str) -> Generator[T, None, None]:
        """Yield what an async generator yields. It does not wait for its reader; one that leaves early cancels it.

        Args:
            make: makes it.
            instead: what to await in an event loop, for people.

        Raises:
            NotConfigured: as `inside`.
        """
        self.require_thread(instead)
        written: Future[Any] = Future()  # of an item and the future of the next one; of None at the end
        read = written

        async def pump() -> None:
            nonlocal written
            async with aclosing(make()) as source:
                async for item in source:
                    following: Future[Any] = Future()
                    written.set_result((item, following))
                    written = following
            written.set_result(None)

        job = Job(self._loops.find, pump)
        job.done.add_done_callback(lambda _: written.cancel())
        try:
            job.begin()
            while found := job.wait(read):
                item, read = found
                yield item
        except BaseException as error:
            job.cancel()
            job.end(error)
            raise

    def run(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a coroutine function returns, called in the loop and in the context of this thread.

        It goes on where this thread is interrupted. In the thread of an event loop that one stops meanwhile; what is
        called is in another one.
        """
        return Job(self._loops.find, partial(function, *args, **kwargs)).begin().result()

    def close(self) -> None:
        """End the loop of its own, if there is one, with what still runs there and what the runtime has opened there;
        wait until it has ended, and so not inside a block. The next call makes another one.

        Also begun when this is collected, but what runs then is not ended, and what was opened is not closed.
        """
        self._loops.own.close()
