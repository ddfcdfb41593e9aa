"""What is asked of an engine: for each lane one step after the other."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from turnlane.begun import Begun, begin

__all__ = ("Errands", "Job", "Then")

Job = Callable[[], Coroutine[Any, Any, object]]
Then = Callable[[Any], None]

LAST_WORDS = 1.0  # seconds for what is owed, in a loop that ends


class _Errand(NamedTuple):
    job: Job
    then: Then
    owed: bool


class Errands:
    """The steps that are on their way to an engine.

    Mutable: `_waiting` (by key: those behind one that is on its way), `_tasks`.

    Args:
        loop: where they are done.
        immediate: whether a step is begun where it is asked for.
    """

    __slots__ = ("_immediate", "_loop", "_tasks", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, immediate: bool) -> None:
        self._loop = loop
        self._immediate = immediate
        self._waiting: dict[str, deque[_Errand]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._tasks

    def is_free(self, key: str) -> bool:
        """Tell whether a step with this key would be begun where it is asked for."""
        return self._immediate and key not in self._waiting

    def run(self, key: str, job: Job, then: Then, *, owed: bool = False) -> None:
        """Do a step when those asked for before it with this key are done, and call `then` with what it returns.

        Args:
            key: of the lane.
            job: makes the coroutine, again if need be; it raises nothing but a cancellation.
            then: must not raise.
            owed: whether others wait for it; it is then done, or done again, also where the loop ends, if that does not
                take long.
        """
        waiting, errand = self._waiting.get(key), _Errand(job, then, owed)
        if waiting is not None:
            waiting.append(errand)
            return
        coroutine = job()
        if not self._immediate:
            self._start(key, coroutine, errand)
            return
        found = begin(coroutine)
        if isinstance(found, Begun):
            self._start(key, found, errand)
        else:
            then(found)

    async def finish(self, timeout: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Wait until nothing is on its way, so many seconds at most; what is left then is cancelled.

        Where `until` says so it is waited for no longer, and nothing is cancelled.
        """
        while self._tasks and not until():
            done, pending = await asyncio.wait(self._tasks, timeout=timeout)
            if not done and not until():
                for task in pending:
                    task.cancel()
                await asyncio.wait(pending)
                self._waiting.clear()
                return

    async def settled(self, timeout: float) -> None:
        """Wait until what is on its way has come to its end, so many seconds at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    def _start(self, key: str, first: "Coroutine[Any, Any, object] | Begun", errand: _Errand) -> None:
        self._waiting[key] = deque()
        going = self._go_on(key, first, errand)
        going.send(None)  # a task that is cancelled before it has run closes what has not begun, and tells it nothing
        task = self._loop.create_task(going)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go_on(self, key: str, first: "Coroutine[Any, Any, object] | Begun", errand: _Errand) -> None:
        waiting = self._waiting[key]
        try:
            await _taken_up(first)
            errand.then(await first)
            while waiting:
                errand = waiting.popleft()
                errand.then(await errand.job())
        except asyncio.CancelledError:
            waiting.appendleft(errand)
            await _do_what_is_owed(waiting)
            raise
        finally:
            if self._waiting.get(key) is waiting:
                del self._waiting[key]


async def _taken_up(first: "Coroutine[Any, Any, object] | Begun") -> None:
    """Pause once, outside of a task, and return in the one that does a step."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        if not isinstance(first, Begun):
            first.close()
            raise
        first.cancel()  # where it waits: what it has taken is given back


async def _do_what_is_owed(waiting: deque[_Errand]) -> None:
    """Do that, for a while, and nothing else; turns that are cancelled now add to it."""
    try:
        async with asyncio.timeout(LAST_WORDS):
            await asyncio.sleep(0)
            while waiting:
                errand = waiting.popleft()
                if errand.owed:
                    await errand.job()
    except TimeoutError:
        pass
