"""The pure transitions of the lanes: who holds, who stands in line, who comes next.

No clock, no future, no `await`: a transition changes the whole state and returns the waiters that have
the lane now. Whoever calls it wakes them. Every transition costs the same however long a line is;
superseding a line costs one step per turn that is told.
"""

from collections import OrderedDict
from typing import Any

from turnlane.turns.turn import Turn

__all__ = ("Line", "Slot", "Table", "Waiter")


class Waiter:
    """A turn that stands, or stood, in line. `line` is None once it has left it for whatever reason."""

    __slots__ = ("ancestor", "deadline", "future", "hinted", "line", "next", "position", "previous", "turn", "waited")

    def __init__(self, turn: Turn, ancestor: Turn | None) -> None:
        self.turn: Turn = turn
        self.ancestor: Turn | None = (
            ancestor  # the nearest running turn of the call chain; its running slot may be used
        )
        self.line: Line | None = None
        self.previous: Waiter | None = None
        self.next: Waiter | None = None
        self.position: int = 0
        self.waited: float = 0.0
        self.hinted: bool = False
        self.deadline: float | None = None
        self.future: Any = None  # the gate's business


class Line:
    """The line of one key: a doubly linked list, so that leaving it costs the same anywhere."""

    __slots__ = ("head", "key", "nested", "paused", "size", "tail")

    def __init__(self, key: str) -> None:
        self.key: str = key
        self.head: Waiter | None = None
        self.tail: Waiter | None = None
        self.size: int = 0
        self.paused: bool = False
        # Waiters with an ancestor: while one stands here, its ancestor's running slot is idle and may be lent.
        self.nested: dict[Waiter, None] = {}

    def append(self, waiter: Waiter) -> None:
        """Put a waiter at the end."""
        waiter.line = self
        waiter.previous = self.tail
        if self.tail is None:
            self.head = waiter
        else:
            self.tail.next = waiter
        self.tail = waiter
        self.size += 1
        if waiter.ancestor is not None:
            self.nested[waiter] = None

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out, wherever it stands."""
        before, after = waiter.previous, waiter.next
        if before is None:
            self.head = after
        else:
            before.next = after
        if after is None:
            self.tail = before
        else:
            after.previous = before
        waiter.line = waiter.previous = waiter.next = None
        self.size -= 1
        if waiter.ancestor is not None:
            del self.nested[waiter]


class Slot:
    """One of the `max_running` places; nested turns and their ancestor share one."""

    __slots__ = ("users",)

    def __init__(self) -> None:
        self.users: int = 1


class Table:
    """The state of all lanes of one event loop.

    Mutable: `holders` (who runs, by key), `lines` (only keys where somebody waits or that are paused),
    `waiting` (their sum), and with `max_running` also `slots` (of each running turn), `used` (distinct
    slots) and `ready` (keys whose head lacks nothing but a slot, in the order they became so).

    Invariants: a key with a head, no holder and no pause is in `ready`; `ready` is empty while a slot is
    free; an idle key is in none of them.
    """

    __slots__ = ("holders", "lines", "max_running", "ready", "slots", "used", "waiting")

    def __init__(self, max_running: int | None = None) -> None:
        self.max_running: int | None = max_running
        self.holders: dict[str, Turn] = {}
        self.lines: dict[str, Line] = {}
        self.waiting: int = 0
        self.slots: dict[Turn, Slot] = {}
        self.used: int = 0
        self.ready: OrderedDict[str, Line] = OrderedDict()

    def enter(self, turn: Turn, ancestor: Turn | None) -> bool:
        """Give the lane to an arriving turn if nothing stands in its way; tell whether it was given."""
        key = turn.key
        if key in self.holders or key in self.lines:
            return False
        if self.max_running is not None and not self._take_slot(turn, ancestor, None):
            return False
        self.holders[key] = turn
        return True

    def has_free_slot(self, ancestor: Turn | None) -> bool:
        """Tell whether a turn with that ancestor would find a running slot."""
        return self.max_running is None or self.used < self.max_running or ancestor in self.slots

    def line_length(self, key: str) -> int:
        """Return how many stand in line."""
        line = self.lines.get(key)
        return 0 if line is None else line.size

    def queue(self, waiter: Waiter) -> list[Waiter]:
        """Put an arriving turn at the end of its line; return who has a lane now (see slot lending)."""
        key = waiter.turn.key
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(key)
        waiter.position = line.size + (key in self.holders)
        line.append(waiter)
        self.waiting += 1
        return self._promote(line)

    def supersede(self, key: str) -> list[Waiter]:
        """Empty the line of a key; return those who stood in it, first come first."""
        line = self.lines.get(key)
        gone: list[Waiter] = []
        while line is not None and line.head is not None:
            gone.append(line.head)
            line.remove(line.head)
            self.waiting -= 1
        if line is not None:
            self._forget_if_empty(line)
        return gone

    def withdraw(self, waiter: Waiter) -> bool:
        """Take a waiter out of its line; tell whether it still stood there."""
        line = waiter.line
        if line is None:
            return False
        line.remove(waiter)
        self.waiting -= 1
        self._forget_if_empty(line)
        return True

    def finish(self, turn: Turn) -> list[Waiter]:
        """End a running turn; return who has a lane now. Again, or for a stranger: nothing happens."""
        key = turn.key
        if self.holders.get(key) is not turn:
            return []
        del self.holders[key]
        granted: list[Waiter] = []
        line = self.lines.get(key)
        if self.max_running is not None:
            self._give_back(turn)
            # Those who were ready first come first; the line of this key goes behind them.
            if line is not None:
                self._mark_ready(line)
            self._fill(granted)
            line = self.lines.get(key)
        if line is not None:
            granted += self._promote(line)
        return granted

    def pause(self, key: str) -> None:
        """Let nobody else of this key start. Who runs goes on."""
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(key)
        line.paused = True
        self.ready.pop(key, None)

    def resume(self, key: str) -> list[Waiter]:
        """Undo `pause`; return who has a lane now."""
        line = self.lines.get(key)
        if line is None:
            return []
        line.paused = False
        self._forget_if_empty(line)
        return self._promote(line)

    def _promote(self, line: Line) -> list[Waiter]:
        """Give the lane to the head of its line if it is free; idempotent."""
        head = line.head
        if head is None or line.paused or line.key in self.holders:
            return []
        if self.max_running is not None:
            # Whoever became ready earlier is served first while slots are short, unless the slot is lent.
            lender = next(iter(line.nested), None)
            if not self._take_slot(head.turn, head.ancestor, lender):
                self._mark_ready(line)
                return []
            self.ready.pop(line.key, None)
        line.remove(head)
        self.waiting -= 1
        self.holders[line.key] = head.turn
        self._forget_if_empty(line)
        return [head]

    def _mark_ready(self, line: Line) -> None:
        if line.head is not None and not line.paused and line.key not in self.holders:
            self.ready.setdefault(line.key, line)

    def _fill(self, granted: list[Waiter]) -> None:
        while self.ready and self.max_running is not None and self.used < self.max_running:
            _, line = self.ready.popitem(last=False)
            granted += self._promote(line)

    def _forget_if_empty(self, line: Line) -> None:
        if line.head is None:
            self.ready.pop(line.key, None)
            if not line.paused and self.lines.get(line.key) is line:
                del self.lines[line.key]

    def _take_slot(self, turn: Turn, ancestor: Turn | None, lender: Waiter | None) -> bool:
        slot = None if ancestor is None else self.slots.get(ancestor)
        if slot is None and self.max_running is not None and self.used < self.max_running:
            self.used += 1
            self.slots[turn] = Slot()
            return True
        if slot is None and lender is not None and lender.ancestor is not None:
            slot = self.slots.get(lender.ancestor)
        if slot is None:
            return False
        slot.users += 1
        self.slots[turn] = slot
        return True

    def _give_back(self, turn: Turn) -> None:
        slot = self.slots.pop(turn)
        slot.users -= 1
        if slot.users == 0:
            self.used -= 1
