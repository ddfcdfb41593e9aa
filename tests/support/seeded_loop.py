"""An event loop whose order is drawn from a seed and whose time never passes by itself.

What is ready runs in an order that a seed decides, so a test meets orders that a plain loop never shows, and meets
them again with the same seed. Time stands still while anything is ready and then jumps to the next timer, so no test
waits. When nothing is ready and no timer is armed, nothing will ever happen: that is `Stuck`, reported at once.
"""

# pyright: reportPrivateUsage=false

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from turnlane.clock import Clock

__all__ = ("LoopClock", "SeededLoop", "Stuck", "until_blocked")

T = TypeVar("T")


class Stuck(AssertionError):
    """Nothing is ready, no timer is armed, and somebody still waits; or the steps do not come to an end."""


class SeededLoop(asyncio.SelectorEventLoop):
    """Runs what is ready in an order drawn from `order`; `None` keeps the order of a plain loop.

    A step is one callback: mostly one task running from one `await` to the next. Sockets, threads and signals are
    not looked at.

    Args:
        order: where the order comes from.
        max_steps: how many steps may be taken before the run counts as endless.

    Mutable: `steps` and `passes` (taken so far), `after_step` (called after each step), `ending` (whether what is left
    is being cancelled), `_before` (what to do before which step), `_blocked` (who waits until all others are blocked),
    `_now`.
    """

    def __init__(self, order: random.Random | None = None, *, max_steps: int = 20_000) -> None:
        self._now = 1000.0
        self._order = order
        self._before: dict[int, list[Callable[[], object]]] = {}
        self._blocked: list[asyncio.Future[None]] = []
        self.max_steps = max_steps
        self.steps = self.passes = 0
        self.ending = False
        self.after_step: Callable[[], None] | None = None
        super().__init__()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def time(self) -> float:
        """Seconds on a clock that only jumps."""
        return self._now

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which nothing runs."""
        self._now += seconds

    def before(self, step: int, do: Callable[[], object]) -> None:
        """Call `do` just before the given step; the first is number 1."""
        self._before.setdefault(step, []).append(do)

    def blocked(self) -> "asyncio.Future[None]":
        """Return a future that is done once nothing else is ready, while no time has passed."""
        waiter: asyncio.Future[None] = self.create_future()
        self._blocked.append(waiter)
        return waiter

    def armed(self) -> list[asyncio.TimerHandle]:
        """Return the timers that would still ring."""
        timers: list[asyncio.TimerHandle] = self._inner._scheduled
        return [timer for timer in timers if not timer.cancelled()]

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; whatever tasks are left then, or when it got stuck, are cancelled and ended.

        Raises:
            Stuck: it can not end.
        """
        try:
            return self.run_until_complete(main)
        finally:
            self._end_all()

    def _end_all(self) -> None:
        self.ending = True
        self.after_step = None
        self._before.clear()
        for _ in range(10):
            left = asyncio.all_tasks(self)
            if not left:
                break
            for task in left:
                task.cancel()
            self.max_steps = self.steps + 10_000
            try:
                self.run_until_complete(asyncio.wait(left))
            except Stuck:
                continue
        self.run_until_complete(self.shutdown_asyncgens())

    @property
    def _inner(self) -> Any:
        return self  # what the base class keeps its callbacks in is known to no type checker

    def _run_once(self) -> None:
        """Run everything that is ready now, in the order of the seed: one pass."""
        self.passes += 1
        ready: Any = self._inner._ready
        if not ready:
            blocked, self._blocked = self._blocked, []
            for waiter in blocked:
                if not waiter.done():
                    waiter.set_result(None)
        if not ready:
            self._jump()
        self._ring()
        batch: list[asyncio.Handle] = list(ready)
        ready.clear()
        if self._order is not None:
            self._order.shuffle(batch)
        taken = 0
        try:
            for handle in batch:
                taken += 1
                if not handle.cancelled():
                    self._step(handle)
        finally:
            ready.extendleft(reversed(batch[taken:]))

    def _step(self, handle: asyncio.Handle) -> None:
        self.steps += 1
        if self.steps > self.max_steps:
            self._inner._ready.append(handle)  # without it its task could not be ended
            raise Stuck(f"no end after {self.max_steps} steps")
        for do in self._before.pop(self.steps, ()):
            do()
        if handle.cancelled():
            return
        handle._run()
        if self.after_step is not None:
            self.after_step()

    def _jump(self) -> None:
        timers = self.armed()
        if not timers:
            tasks = sorted(repr(task) for task in asyncio.all_tasks(self))
            raise Stuck("\n  ".join([f"nothing is ready, no timer is armed, {len(tasks)} tasks wait:", *tasks]))
        self._now = max(self._now, min(timer.when() for timer in timers))

    def _ring(self) -> None:
        inner = self._inner
        timers: list[asyncio.TimerHandle] = inner._scheduled
        while timers and (timers[0].cancelled() or timers[0].when() <= self._now):
            timer: Any = heapq.heappop(timers)
            timer._scheduled = False
            if timer.cancelled():
                inner._timer_cancelled_count -= 1
            else:
                inner._ready.append(timer)


class LoopClock(Clock):
    """A clock that shows a loop's time, so that waits and ages are exact on a `SeededLoop`."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return 1_700_000_000_000_000_000 + round(self._loop.time() * 1e9)

    def monotonic(self) -> float:
        """Seconds from an arbitrary point."""
        return self._loop.time()


async def until_blocked() -> None:
    """Wait, on a `SeededLoop`, until every other task waits for something, while no time passes."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SeededLoop):
        raise TypeError(f"not a SeededLoop: {loop!r}")
    await loop.blocked()
