"""The line of one lane: who stands in it, alone or as part of a group that will be one turn."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from turnlane.turns.turn import Turn

__all__ = ("Group", "Line", "Waiter")


class Group:
    """Waiters that stand side by side and will start as one turn, that of the newest of them.

    Attributes:
        members: in the order of arrival.
        ripe: whether nobody has come for long enough.
        terms: what a newcomer must agree in to become one of them; the gate's business, as are the next two.
        closes: when it is ripe, if nobody comes.
        timer: which rings then.
        dropped: what had to leave because the group was full.
    """

    __slots__ = ("closes", "dropped", "members", "ripe", "terms", "timer")

    def __init__(self, terms: object) -> None:
        self.terms: object = terms
        self.members: dict[Waiter, None] = {}
        self.ripe: bool = False
        self.closes: float = 0.0
        self.timer: Any = None
        self.dropped: tuple[Any, ...] = ()

    def join(self, waiter: "Waiter") -> bool:
        """Take in a member; tell whether it is the only one."""
        self.members[waiter] = None
        return len(self.members) == 1

    def leave(self, waiter: "Waiter") -> bool:
        """Let a member go; tell whether it was the last."""
        del self.members[waiter]
        return not self.members


class Waiter:
    """A turn that stands, or stood, in line. `line` is None once it has left it for whatever reason.

    A turn that starts in the name of a whole group has `absorbed` the others, until they are told; each of them has it
    for its `carrier`.
    """

    __slots__ = (
        "absorbed",
        "ancestor",
        "carrier",
        "deadline",
        "future",
        "group",
        "hinted",
        "line",
        "next",
        "position",
        "previous",
        "timeout",
        "turn",
        "waited",
    )

    def __init__(self, turn: Turn, ancestor: Turn | None) -> None:
        self.turn: Turn = turn
        self.ancestor: Turn | None = ancestor  # the nearest running turn of its chain, whose running slot it may use
        self.line: Line | None = None
        self.previous: Waiter | None = None
        self.next: Waiter | None = None
        self.position: int = 0
        self.waited: float = 0.0
        self.hinted: bool = False
        self.deadline: float | None = None
        self.timeout: float = 0.0  # the seconds that led to the deadline
        self.future: Any = None  # the gate's business
        self.group: Group | None = None
        self.carrier: Waiter | None = None
        self.absorbed: list[Waiter] | None = None

    def leave_carrier(self) -> bool:
        """Leave the turn that has absorbed this one; tell whether there was one."""
        carrier, self.carrier = self.carrier, None
        if carrier is None or carrier.absorbed is None or self not in carrier.absorbed:
            return False
        carrier.absorbed.remove(self)
        return True


class Line:
    """The line of one key: a doubly linked list, so that leaving it costs the same anywhere.

    `size` counts the turns it will make, so a group once. The members of a group always stand side by side.
    """

    __slots__ = ("head", "key", "nested", "paused", "size", "tail")

    def __init__(self, key: str) -> None:
        self.key: str = key
        self.head: Waiter | None = None
        self.tail: Waiter | None = None
        self.size: int = 0
        self.paused: bool = False
        # Waiters whose chain still runs: while one stands here, the slot of that chain is idle and may be lent.
        self.nested: OrderedDict[Waiter, None] = OrderedDict()

    def __iter__(self) -> Iterator[Waiter]:
        """Yield those who stand here, first come first; who is yielded may be taken out."""
        waiter = self.head
        while waiter is not None:
            following = waiter.next
            yield waiter
            waiter = following

    def append(self, waiter: Waiter) -> None:
        """Put a waiter at the end."""
        waiter.line = self
        waiter.previous = self.tail
        if self.tail is None:
            self.head = waiter
        else:
            self.tail.next = waiter
        self.tail = waiter
        self._count_in(waiter)

    def prepend(self, waiter: Waiter) -> None:
        """Put a waiter at the head."""
        waiter.line = self
        waiter.next = self.head
        if self.head is None:
            self.tail = waiter
        else:
            self.head.previous = waiter
        self.head = waiter
        self._count_in(waiter)

    def first(self) -> Waiter | None:
        """Return who starts next: the head, of a group that is ripe the newest; None if nobody is or may yet."""
        head = self.head
        if head is None or head.group is None:
            return head
        return next(reversed(head.group.members)) if head.group.ripe else None

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
        if waiter.group is None or waiter.group.leave(waiter):
            self.size -= 1
        if waiter.ancestor is not None:
            self.nested.pop(waiter, None)

    def _count_in(self, waiter: Waiter) -> None:
        if waiter.group is None or waiter.group.join(waiter):
            self.size += 1
        if waiter.ancestor is not None:
            self.nested[waiter] = None
