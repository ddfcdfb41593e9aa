"""Who may run at once: the running slots of all, and the places that each principal has among them.

A line whose head lacks nothing else stands in two queues, one after the other: for a place of its principal (`parked`),
then for a slot (`ready`). So a principal has never more lines in the second one than places, and whoever hammers many
keys is passed by those who do not.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from collections import OrderedDict
from collections.abc import Hashable

from turnlane.lanes.line import Line
from turnlane.turns.turn import Turn

__all__ = ("Capacity", "Slot", "principal_of")


class Slot:
    """One of the `max_running` places; nested turns and their ancestor share one, which counts for the first's."""

    __slots__ = ("principal", "users")

    def __init__(self, principal: Hashable = None) -> None:
        self.principal: Hashable = principal
        self.users: int = 1


def principal_of(turn: Turn) -> Hashable:
    """Return who a turn is for; None where nobody said."""
    talk = turn._talk
    return None if talk is None else talk.principal


class Capacity:
    """The slots of one event loop, and who stands in line for one. What is for nobody has the first limit only.

    Mutable: `slots` (of each running turn), `used` (distinct slots), `ready` (lines that lack nothing but a slot, in
    the order they came to that), `parked` (by principal: lines that lack a place of it too), `standing` (for whom each
    key in these two stands), `places` (by principal: how many it has in use, by a slot or by a line that is ready).

    Invariants: `ready` is empty while a slot is free; nobody is parked whose principal has a place free; who has
    nothing here is in none of them.
    """

    __slots__ = ("max_each", "max_running", "parked", "places", "ready", "slots", "standing", "used")

    def __init__(self, max_running: int | None, max_each: int | None) -> None:
        self.max_running: int | None = max_running
        self.max_each: int | None = max_each
        self.slots: dict[Turn, Slot] = {}
        self.used: int = 0
        self.ready: OrderedDict[str, Line] = OrderedDict()
        self.parked: dict[Hashable, OrderedDict[str, Line]] = {}
        self.standing: dict[str, Hashable] = {}
        self.places: dict[Hashable, int] = {}

    @property
    def has_slot(self) -> bool:
        """Whether a slot is free."""
        return self.max_running is None or self.used < self.max_running

    def has_place(self, principal: Hashable) -> bool:
        """Tell whether a principal may run one turn more."""
        return principal is None or self.max_each is None or self.places.get(principal, 0) < self.max_each

    # -- slots

    def take(self, turn: Turn, ancestor: Turn | None, line: Line | None) -> bool:
        """Give a turn that is about to run a slot: its chain's, a free one, or one that its line is lent."""
        slot = self.slot_of(ancestor)
        if slot is None and self.has_slot and self._take_place(turn, line):
            self.used += 1
            self.slots[turn] = Slot(principal_of(turn))
            return True
        if slot is None and line is not None:
            slot = self.lent_slot(line)
        if slot is None:
            return False
        slot.users += 1
        self.slots[turn] = slot
        if line is not None:
            self.leave(line.key)
        return True

    def give_back(self, turn: Turn) -> None:
        """Take the slot of a turn that has ended; if it is free then, a line of its principal may become ready."""
        slot = self.slots.pop(turn)
        slot.users -= 1
        if slot.users == 0:
            self.used -= 1
            self._free_place(slot.principal)

    def slot_of(self, turn: Turn | None) -> Slot | None:
        """Return the slot of the nearest of a turn and its ancestors that has one."""
        while turn is not None:
            slot = self.slots.get(turn)
            if slot is not None:
                return slot
            turn = turn._parent
        return None

    def lent_slot(self, line: Line) -> Slot | None:
        """Return the slot of the first chain that waits in this line; those that have ended lend nothing any more."""
        while line.nested:
            waiter = next(iter(line.nested))
            slot = self.slot_of(waiter.ancestor)
            if slot is not None:
                return slot
            del line.nested[waiter]
        return None

    # -- lines that could start

    def stand(self, line: Line) -> None:
        """Put a line whose head lacks nothing else where it belongs; one that stands for the same principal stays."""
        head = line.first()
        if head is None:
            return
        principal = principal_of(head.turn)
        if line.key in self.standing:
            if self.standing[line.key] == principal:
                return
            self.leave(line.key)
        self.standing[line.key] = principal
        if self.has_place(principal):
            self._make_ready(line, principal)
        else:
            self.parked.setdefault(principal, OrderedDict())[line.key] = line

    def leave(self, key: str) -> None:
        """Take the line of a key out, if it stands here; the next of its principal may become ready."""
        if key not in self.standing:
            return
        principal = self.standing.pop(key)
        if self.ready.pop(key, None) is not None:
            self._free_place(principal)
            return
        parked = self.parked[principal]
        del parked[key]
        if not parked:
            del self.parked[principal]

    def next_ready(self) -> Line | None:
        """Return the line that gets the next slot; None if there is none, or no slot."""
        return next(iter(self.ready.values())) if self.ready and self.has_slot else None

    def _take_place(self, turn: Turn, line: Line | None) -> bool:
        """Take a place of the turn's principal, or the one that its line has kept since it is ready."""
        principal = principal_of(turn)
        if line is not None and line.key in self.ready and self.standing[line.key] == principal:
            del self.ready[line.key], self.standing[line.key]
            return True
        if not self.has_place(principal):
            return False
        if line is not None:
            self.leave(line.key)
        self._count_place(principal, 1)
        return True

    def _make_ready(self, line: Line, principal: Hashable) -> None:
        self._count_place(principal, 1)
        self.ready[line.key] = line

    def _free_place(self, principal: Hashable) -> None:
        self._count_place(principal, -1)
        parked = self.parked.get(principal)
        if parked is not None:
            _, line = parked.popitem(last=False)
            if not parked:
                del self.parked[principal]
            self._make_ready(line, principal)

    def _count_place(self, principal: Hashable, step: int) -> None:
        if principal is None or self.max_each is None:
            return
        count = self.places.get(principal, 0) + step
        if count:
            self.places[principal] = count
        else:
            del self.places[principal]
