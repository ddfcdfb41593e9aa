"""Coroutines that are begun where they are asked for, and given to a task only if they wait for something.

What they ask for up to that wait, they ask for in the place of a task that may not be there yet: who wants to cancel
them later cancels what `driver` returns; who needs a task of its own waits for it with `in_task`.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

__all__ = ("Begun", "Driver", "begin", "driver", "in_task")

_T = TypeVar("_T")


class _Beginning:
    """Tells what is being begun; no more once that has come to a wait, in whatever context that is known."""

    __slots__ = ("begun",)

    def __init__(self, begun: "Begun") -> None:
        self.begun: Begun | None = begun


_beginning: ContextVar[_Beginning | None] = ContextVar("turnlane_beginning", default=None)


class Driver(Protocol):
    """What a coroutine is cancelled by: the part of a task that `asyncio.timeout` uses."""

    def cancel(self) -> object:
        """Have it cancelled where it waits."""
        ...

    def cancelling(self) -> int:
        """Count the cancellations that nobody has taken back."""
        ...

    def uncancel(self) -> int:
        """Take one back; return how many are left."""
        ...


class Begun:
    """A coroutine that has come to its first wait outside of a task, to be awaited to its end in one.

    Mutable: `_waits_for`, what that is; `_driver`, who awaits it, None until then; `_is_cancelled` until then.
    """

    __slots__ = ("_coroutine", "_driver", "_is_cancelled", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, object]) -> None:
        self._coroutine = coroutine
        self._waits_for: Any = None
        self._driver: Driver | None = None
        self._is_cancelled = False

    def begin(self) -> None:
        """Go to the first wait.

        Raises:
            BaseException: what the coroutine has raised; `StopIteration` with what it has returned.
        """
        here = _Beginning(self)
        outer = _beginning.set(here)
        try:
            self._waits_for = self._coroutine.send(None)
        finally:
            here.begun = None
            _beginning.reset(outer)

    def cancel(self) -> None:
        """Cancel who awaits it, as soon as there is somebody."""
        if self._driver is None:
            self._is_cancelled = True
        else:
            self._driver.cancel()

    def cancelling(self) -> int:
        """Count the cancellations of who awaits it."""
        return 0 if self._driver is None else self._driver.cancelling()

    def uncancel(self) -> int:
        """Take one back."""
        return 0 if self._driver is None else self._driver.uncancel()

    def __await__(self) -> Generator[Any, Any, object]:
        self._driver = driver(asyncio.get_running_loop())
        if self._is_cancelled:
            self._driver.cancel()
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


def begin(coroutine: Coroutine[Any, Any, _T]) -> "_T | Begun":
    """Run a coroutine up to its first wait; return what it has returned, if it did not wait at all.

    Raises:
        BaseException: what it raised.
    """
    begun = Begun(coroutine)
    try:
        begun.begin()
    except StopIteration as ended:
        found: _T = ended.value
        return found
    return begun


def driver(loop: asyncio.AbstractEventLoop) -> Driver:
    """Return what the running coroutine is, or will be, cancelled by.

    Args:
        loop: that runs.

    Raises:
        RuntimeError: it runs in no task, and was not begun outside of one either.
    """
    here = _beginning.get()
    found = asyncio.current_task(loop) if here is None or here.begun is None else here.begun
    if found is None:
        raise RuntimeError("a bounded wait belongs into a task")
    return found


async def in_task() -> None:
    """Return in a task: at once, unless the caller was begun outside of one and has not waited yet."""
    here = _beginning.get()
    if here is not None and here.begun is not None:
        await asyncio.sleep(0)


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
