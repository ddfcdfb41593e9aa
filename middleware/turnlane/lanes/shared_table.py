"""The lanes of this process as far as an engine has granted them: it decides who is next, and the table follows."""

from typing import ClassVar

from turnlane.lanes.line import Line, Waiter
from turnlane.lanes.table import Table
from turnlane.turns.turn import Turn

__all__ = ("SharedLine", "SharedTable")


class SharedLine(Line):
    """Those of this process who stand in a line; `granted` is the one the engine has given the lane."""

    __slots__ = ("granted",)

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.granted: Waiter | None = None

    def first(self) -> Waiter | None:
        """Return the one that was granted the lane, and may have to wait for a running slot."""
        return self.granted

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out."""
        if self.granted is waiter:
            self.granted = None
        super().remove(waiter)


class SharedTable(Table):
    """See `Table`. Nobody has a lane but by `grant`."""

    __slots__ = ()

    make_line: ClassVar[type[Line]] = SharedLine

    def enter(self, turn: Turn, ancestor: Turn | None) -> bool:
        """Give no lane away."""
        return False

    def grant(self, waiter: Waiter) -> list[Waiter]:
        """Give a lane to one who waits for it; return who has a lane now, which needs a running slot too."""
        line = waiter.line
        if not isinstance(line, SharedLine):
            return []
        line.granted = waiter
        return self.promote(line.key)

    def revoke(self, waiter: Waiter) -> None:
        """Take a lane back from one who was granted it, and waits for a running slot."""
        line = waiter.line
        if isinstance(line, SharedLine) and line.granted is waiter:
            line.granted = None
            self._forget_if_empty(line)
