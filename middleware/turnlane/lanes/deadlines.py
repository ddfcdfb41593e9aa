"""The deadlines of those who wait: one timer for each timeout in use, none while nobody waits."""

import asyncio
from collections import deque
from collections.abc import Callable

from turnlane.lanes.line import Waiter

__all__ = ("Deadlines",)

SPARE = 64


class Same:
    """The waiters with one timeout: their deadlines come in the order in which they came.

    Mutable: `waiters`, some of which may have left the line; `live`, how many have not; `timer`.
    """

    __slots__ = ("live", "timer", "waiters")

    def __init__(self) -> None:
        self.waiters: deque[Waiter] = deque()
        self.live: int = 0
        self.timer: asyncio.TimerHandle | None = None


class Deadlines:
    """Calls `expire(waiter)` for each waiter that still stands in line at its deadline.

    Adding and dropping take constant time, on the average over many. Waiters that have left the line stay here for a
    while, but never outnumber the others by more than 64, and go with the last of them: an idle lane retains nothing.

    Mutable: `_same`, by timeout in seconds, of those somebody waits with.
    """

    __slots__ = ("_expire", "_loop", "_same")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Waiter], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._same: dict[float, Same] = {}

    def add(self, waiter: Waiter, timeout: float) -> None:
        """Give a waiter `timeout` seconds from now."""
        same = self._same.get(timeout)
        if same is None:
            same = self._same[timeout] = Same()
        waiter.deadline = deadline = self._loop.time() + timeout
        waiter.timeout = timeout
        same.waiters.append(waiter)
        same.live += 1
        if same.timer is None:
            same.timer = self._loop.call_at(deadline, self._ring, same)

    def discard(self, waiter: Waiter) -> None:
        """Forget the deadline of a waiter that has left the line."""
        if waiter.deadline is None:
            return
        waiter.deadline = None
        same = self._same[waiter.timeout]
        same.live = live = same.live - 1
        if not live:
            same.waiters.clear()
            _stop(same)
            del self._same[waiter.timeout]
        elif len(same.waiters) > 2 * live + SPARE:
            same.waiters = deque(left for left in same.waiters if left.deadline is not None)

    def stop(self) -> None:
        """Disarm all timers."""
        for same in self._same.values():
            _stop(same)

    def _ring(self, same: Same) -> None:
        # The timer that rang stays in its place until the end: who is added meanwhile needs no other.
        now = self._loop.time()
        while same.waiters:
            waiter = same.waiters[0]
            if waiter.deadline is None:
                same.waiters.popleft()
                continue
            if waiter.deadline > now:
                same.timer = self._loop.call_at(waiter.deadline, self._ring, same)
                return
            self.discard(waiter)
            self._expire(waiter)


def _stop(same: Same) -> None:
    if same.timer is not None:
        same.timer.cancel()
        same.timer = None
