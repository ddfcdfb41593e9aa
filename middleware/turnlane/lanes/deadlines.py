"""The deadlines of those who wait: one timer for all of them, none while nobody waits."""

import asyncio
import heapq
from collections.abc import Callable

from turnlane.lanes.table import Waiter

__all__ = ("Deadlines",)


class Deadlines:
    """Calls `expire(waiter)` for each waiter that still stands in line at its deadline.

    Waiters leave the line without telling: an entry is dropped when its waiter is found to have left.
    Dead entries never outnumber the live ones by more than 64, so an idle lane retains nothing for long.
    Equal timeouts are added and dropped in constant time; mixed ones cost one push on a binary heap.

    Mutable: `_heap` of (deadline, number, waiter), `_live` (how many of them may still stand in line),
    `_timer`, armed for the first while `_live` is not zero.
    """

    __slots__ = ("_expire", "_heap", "_live", "_loop", "_number", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Waiter], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._heap: list[tuple[float, int, Waiter]] = []
        self._live = 0
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiter: Waiter, timeout: float) -> None:
        """Give a waiter `timeout` seconds from now."""
        deadline = self._loop.time() + timeout
        waiter.deadline = deadline
        self._number += 1
        heapq.heappush(self._heap, (deadline, self._number, waiter))
        self._live += 1
        if self._timer is None or self._heap[0][2] is waiter:
            self._arm()

    def discard(self, waiter: Waiter) -> None:
        """Forget the deadline of a waiter that has left the line."""
        if waiter.deadline is None:
            return
        waiter.deadline = None
        self._live -= 1
        if self._live == 0:
            self._heap.clear()
            self.stop()
        elif len(self._heap) > 2 * self._live + 64:
            self._heap = [entry for entry in self._heap if entry[2].deadline is not None]
            heapq.heapify(self._heap)

    def stop(self) -> None:
        """Disarm the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.stop()
        self._timer = self._loop.call_at(self._heap[0][0], self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._heap and (self._heap[0][2].deadline is None or self._heap[0][0] <= now):
            _, _, waiter = heapq.heappop(self._heap)
            if waiter.deadline is not None:
                self._expire(waiter)  # takes it out of the line, which discards the deadline
        if self._heap:
            self._arm()
