"""What is asked of an engine: for each lane one step after the other, at once where the engine answers at once."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NamedTuple

__all__ = ("Errands",)

Job = Callable[[], Coroutine[Any, Any, object]]
Then = Callable[[Any], None]


class _Errand(NamedTuple):
    job: Job
    then: Then


class _Begun:
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
        done, found = _sent(coroutine, None)
        if done:
            then(found)
        else:
            self._start(key, _Begun(coroutine, found), then)

    async def finish(self, timeout: float) -> None:
        """Wait until nothing is on its way, so many seconds at most; what is left then is cancelled."""
        while self._tasks:
            done, pending = await asyncio.wait(self._tasks, timeout=timeout)
            if not done:
                for task in pending:
                    task.cancel()
                await asyncio.wait(pending)
                self._waiting.clear()
                return

    def _start(self, key: str, first: "Coroutine[Any, Any, object] | _Begun", then: Then) -> None:
        self._waiting[key] = deque()
        task = self._loop.create_task(self._go_on(key, first, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go_on(self, key: str, first: "Coroutine[Any, Any, object] | _Begun", then: Then) -> None:
        waiting = self._waiting[key]
        then(await first)
        while waiting:
            errand = waiting.popleft()
            errand.then(await errand.job())
        del self._waiting[key]


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
