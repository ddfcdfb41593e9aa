"""The pure transitions of the lanes: who holds, who stands in line, who comes next.

No clock, no future, no `await`: a transition changes the whole state and returns the waiters that have
the lane now. Whoever calls it wakes them. Every transition costs the same however long a line is;
superseding a line costs one step per turn that is told.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from collections.abc import Hashable
from typing import ClassVar, cast

from turnlane.lanes.capacity import Capacity, principal_of
from turnlane.lanes.limits import Limits
from turnlane.lanes.line import Group, Line, Waiter
from turnlane.turns.turn import Turn

__all__ = ("Table",)


class Table:
    """The state of all lanes of one event loop.

    Mutable: `holders` (who runs, by key), `lines` (only keys where somebody waits or that are paused), `waiting` (their
    sum) and `waiting_of` (that of each principal, where it is limited), `capacity` (None where any number may run).

    Invariants: a key with somebody to start (`Line.first`), no holder and no pause stands in `capacity`; an idle key is
    in none of them.
    """

    __slots__ = ("capacity", "holders", "limits", "lines", "waiting", "waiting_of")

    make_line: ClassVar[type[Line]] = Line

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits: Limits = limits or Limits()
        self.holders: dict[str, Turn] = {}
        self.lines: dict[str, Line] = {}
        self.waiting: int = 0
        self.waiting_of: dict[Hashable, int] = {}
        self.capacity: Capacity | None = self.make_capacity() if self.limits.running_is_limited else None

    def make_capacity(self) -> Capacity:
        """Return what counts the running slots."""
        return Capacity(self.limits.max_running, self.limits.max_running_per_principal)

    def enter(self, turn: Turn, ancestor: Turn | None) -> bool:
        """Give the lane to an arriving turn if nothing stands in its way; tell whether it was given."""
        key = turn.key
        if key in self.holders or key in self.lines:
            return False
        if self.capacity is not None and not self.capacity.take(turn, ancestor, None):
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
            line = self.lines[key] = self.make_line(key)
        line.append(waiter)
        waiter.position = line.size - 1 + (key in self.holders)
        self._count(waiter, 1)
        if line.first() is None and self.capacity is not None:
            self.capacity.leave(key)  # a group that somebody has joined
        return self._promote(line)

    def supersede(self, key: str) -> list[Waiter]:
        """Empty the line of a key; return those who stood in it, first come first."""
        line = self.lines.get(key)
        gone: list[Waiter] = []
        while line is not None and line.head is not None:
            gone.append(line.head)
            self._count(line.head, -1)
            line.remove(line.head)
        if line is not None:
            self._forget_if_empty(line)
        return gone

    def withdraw(self, waiter: Waiter) -> bool:
        """Take a waiter out of its line; tell whether it still stood there. Who comes next is for `promote` to say."""
        line = waiter.line
        if line is None:
            return waiter.leave_carrier()
        self._count(waiter, -1)
        line.remove(waiter)
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
                line = self.lines[key] = self.make_line(key)
            line.prepend(waiter)
            self._count(waiter, 1)
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
        if self.capacity is not None:
            self.capacity.give_back(turn)
            # Those who were ready first come first; the line of this key goes behind them.
            if line is not None:
                self._stand(line, self.capacity)
            self._fill(self.capacity, granted)
            line = self.lines.get(key)
        if line is not None:
            granted += self._promote(line)
        if self.capacity is not None:
            self._fill(self.capacity, granted)
        return granted

    def is_waited_for(self, key: str) -> bool:
        """Tell whether anybody waits for the end of the turn that has a lane: for the lane, or for a running slot."""
        return key in self.lines or (self.waiting > 0 and self.capacity is not None)

    def pause(self, key: str) -> None:
        """Let nobody else of this key start. Who runs goes on."""
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = self.make_line(key)
        line.paused = True
        if self.capacity is not None:
            self.capacity.leave(key)

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
        # Whoever became ready earlier is served first while slots are short, unless the slot is lent.
        if self.capacity is not None and not self.capacity.take(head.turn, head.ancestor, line):
            self._stand(line, self.capacity)
            return []
        return [self._pass_on(line)]

    def _pass_on(self, line: Line) -> Waiter:
        """Give the lane of a line to whom `first` names, who must be there and lack nothing."""
        first = cast("Waiter", line.first())
        group = first.group
        if group is None:
            self._count(first, -1)
            line.remove(first)
        else:
            members = list(group.members)
            for waiter in members:
                self._count(waiter, -1)
                line.remove(waiter)
                waiter.carrier = first
            first.carrier, first.absorbed = None, members[:-1]
        if line.head is None and not line.paused:
            del self.lines[line.key]
        self.holders[line.key] = first.turn
        return first

    def _stand(self, line: Line, capacity: Capacity) -> None:
        if not line.paused and line.key not in self.holders:
            capacity.stand(line)

    def _fill(self, capacity: Capacity, granted: list[Waiter]) -> None:
        line = capacity.next_ready()
        while line is not None:
            granted += self._promote(line)
            line = capacity.next_ready()

    def _forget_if_empty(self, line: Line) -> None:
        if line.first() is None and self.capacity is not None:
            self.capacity.leave(line.key)
        if line.head is None and not line.paused and self.lines.get(line.key) is line:
            del self.lines[line.key]

    def _count(self, waiter: Waiter, step: int) -> None:
        self.waiting += step
        if self.limits.max_waiting_per_principal is None:
            return
        principal = principal_of(waiter.turn)
        if principal is not None:
            count = self.waiting_of.get(principal, 0) + step
            if count:
                self.waiting_of[principal] = count
            else:
                del self.waiting_of[principal]
