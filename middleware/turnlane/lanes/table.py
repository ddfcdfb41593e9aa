"""The pure transitions of the lanes: who holds, who stands in line, who comes next.

No clock, no future, no `await`: a transition changes the whole state and returns the waiters that have
the lane now. Whoever calls it wakes them. Every transition costs the same however long a line is;
superseding a line costs one step per turn that is told.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from collections import OrderedDict
from typing import cast

from turnlane.lanes.line import Group, Line, Waiter
from turnlane.turns.turn import Turn

__all__ = ("Slot", "Table")


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

    Invariants: a key with somebody to start (`Line.first`), no holder and no pause is in `ready`; `ready` is empty
    while a slot is free; an idle key is in none of them.
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
        line.append(waiter)
        waiter.position = line.size - 1 + (key in self.holders)
        self.waiting += 1
        if line.first() is None:
            self.ready.pop(key, None)  # a group that somebody has joined
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
            return waiter.leave_carrier()
        line.remove(waiter)
        self.waiting -= 1
        self._forget_if_empty(line)
        return True

    def promote(self, key: str) -> list[Waiter]:
        """Return who has the lane of a key now, if it is free."""
        line = self.lines.get(key)
        return [] if line is None else self._promote(line)

    def ripen(self, group: Group) -> list[Waiter]:
        """Let the turns of a group start as one; return who has a lane now."""
        group.ripe = True
        line = next(iter(group.members)).line if group.members else None
        return [] if line is None else self._promote(line)

    def restore(self, absorbed: list[Waiter]) -> None:
        """Put those whom a turn had absorbed back to the head of their line, in their order."""
        for waiter in reversed(absorbed):
            key = waiter.turn.key
            line = self.lines.get(key)
            if line is None:
                line = self.lines[key] = Line(key)
            line.prepend(waiter)
            self.waiting += 1
        for group in {waiter.group for waiter in absorbed if waiter.group is not None}:
            group.members = dict.fromkeys(absorbed)

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
        head = line.first()
        if head is None or line.paused or line.key in self.holders:
            return []
        if self.max_running is not None:
            # Whoever became ready earlier is served first while slots are short, unless the slot is lent.
            if not self._take_slot(head.turn, head.ancestor, line):
                self._mark_ready(line)
                return []
            self.ready.pop(line.key, None)
        return [self._pass_on(line)]

    def _pass_on(self, line: Line) -> Waiter:
        """Give the lane of a line to whom `first` names, who must be there and lack nothing."""
        first = cast("Waiter", line.first())
        group = first.group
        if group is None:
            line.remove(first)
            self.waiting -= 1
        else:
            members = list(group.members)
            for waiter in members:
                line.remove(waiter)
                waiter.carrier = first
            self.waiting -= len(members)
            first.carrier, first.absorbed = None, members[:-1]
        if line.head is None and not line.paused:
            del self.lines[line.key]
        self.holders[line.key] = first.turn
        return first

    def _mark_ready(self, line: Line) -> None:
        if line.first() is not None and not line.paused and line.key not in self.holders:
            self.ready.setdefault(line.key, line)

    def _fill(self, granted: list[Waiter]) -> None:
        while self.ready and self.max_running is not None and self.used < self.max_running:
            _, line = self.ready.popitem(last=False)
            granted += self._promote(line)

    def _forget_if_empty(self, line: Line) -> None:
        if line.first() is None:
            self.ready.pop(line.key, None)
        if line.head is None and not line.paused and self.lines.get(line.key) is line:
            del self.lines[line.key]

    def _take_slot(self, turn: Turn, ancestor: Turn | None, line: Line | None) -> bool:
        slot = self._slot_of(ancestor)
        if slot is None and self.max_running is not None and self.used < self.max_running:
            self.used += 1
            self.slots[turn] = Slot()
            return True
        if slot is None and line is not None:
            slot = self._lent_slot(line)
        if slot is None:
            return False
        slot.users += 1
        self.slots[turn] = slot
        return True

    def _slot_of(self, turn: Turn | None) -> Slot | None:
        """Return the slot of the nearest of a turn and its ancestors that has one."""
        while turn is not None:
            slot = self.slots.get(turn)
            if slot is not None:
                return slot
            turn = turn._parent
        return None

    def _lent_slot(self, line: Line) -> Slot | None:
        """Return the slot of the first chain that waits in this line; those that have ended lend nothing any more."""
        while line.nested:
            waiter = next(iter(line.nested))
            slot = self._slot_of(waiter.ancestor)
            if slot is not None:
                return slot
            del line.nested[waiter]
        return None

    def _give_back(self, turn: Turn) -> None:
        slot = self.slots.pop(turn)
        slot.users -= 1
        if slot.users == 0:
            self.used -= 1
