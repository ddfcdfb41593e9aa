"""What is asked of an engine: for each lane one step after the other, at once where the engine answers at once."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NamedTuple, TypeVar

__all__ = ("Begun", "Errands", "begin")

_T = TypeVar("_T")

Job = Callable[[], Coroutine[Any, Any, object]]
Then = Callable[[Any], None]


class _Errand(NamedTuple):
    job: Job
    then: Then


class Begun:
    """A coroutine that has come to its first wait outside of a task, to be awaited to its end in one."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, object], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, object]:
        coroutine, waits_for = self._coroutine, self._waits_for
        while True:
            try:
                sent = yield waits_for
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001  it is the coroutine's
                step = _thrown(coroutine, error)
            else:
                step = _sent(coroutine, sent)
            if step[0]:
                return step[1]
            waits_for = step[1]


class Errands:
    """The steps that are on their way to an engine.

    Mutable: `_waiting` (by key: those behind one that is on its way), `_tasks`.

    Args:
        loop: where they are done.
        immediate: whether a step mostly ends without waiting, and is begun where it is asked for.
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

    def run(self, key: str, job: Job, then: Then) -> None:
        """Do a step when those asked for before it with this key are done, and call `then` with what it returns.

        Args:
            key: of the lane.
            job: makes the coroutine; it raises nothing but a cancellation.
            then: must not raise.
        """
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(_Errand(job, then))
            return
        coroutine = job()
        if not self._immediate:
            self._start(key, coroutine, then)
            return
        found = begin(coroutine)
        if isinstance(found, Begun):
            self._start(key, found, then)
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

    def _start(self, key: str, first: "Coroutine[Any, Any, object] | Begun", then: Then) -> None:
        self._waiting[key] = deque()
        task = self._loop.create_task(self._go_on(key, first, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go_on(self, key: str, first: "Coroutine[Any, Any, object] | Begun", then: Then) -> None:
        waiting = self._waiting[key]
        then(await first)
        while waiting:
            errand = waiting.popleft()
            errand.then(await errand.job())
        del self._waiting[key]


def begin(coroutine: Coroutine[Any, Any, _T]) -> "_T | Begun":
    """Run a coroutine up to its first wait; return what it has returned, if it did not wait at all.

    Raises:
        BaseException: what it raised.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration as ended:
        found: _T = ended.value
        return found
    return Begun(coroutine, waits_for)


def _sent(coroutine: Coroutine[Any, Any, object], value: object) -> tuple[bool, Any]:
    """Let a coroutine go on; return whether it has ended, and with what, or what it waits for."""
    try:
        return False, coroutine.send(value)
    except StopIteration as ended:
        return True, ended.value


def _thrown(coroutine: Coroutine[Any, Any, object], error: BaseException) -> tuple[bool, Any]:
    try:
        return False, coroutine.throw(error)
    except StopIteration as ended:
        return True, ended.value
