"""Call chains and lanes: finding out that a wait would never end before it begins.

A running turn can not end while a turn nested in it waits for a lane. So a wait closes a cycle exactly
when following holder -> lanes its nested turns wait for -> their holders comes back to a turn of the
waiter's own chain.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from turnlane.lanes.table import Table, Waiter
from turnlane.turns.turn import Turn

__all__ = ("Chains", "ancestors")


def ancestors(turn: Turn | None) -> list[Turn]:
    """Return the running turns of a chain, innermost first."""
    chain: list[Turn] = []
    while turn is not None:
        if turn.running:
            chain.append(turn)
        turn = turn._parent
    return chain


class Chains:
    """Knows which running turns wait, through a nested turn, for which lanes.

    Mutable: `_nested`, running turn -> the waiters nested in it; an entry lives only while one waits.
    """

    __slots__ = ("_nested", "_table")

    def __init__(self, table: Table) -> None:
        self._table = table
        self._nested: dict[Turn, dict[Waiter, None]] = {}

    def cycle(self, key: str, chain: list[Turn]) -> tuple[str, ...] | None:
        """Return the lanes of the cycle that waiting for `key` would close, or None."""
        if not chain:
            return None
        own = set(chain)
        came_from: dict[str, str | None] = {key: None}
        look_at = [key]
        while look_at:
            lane = look_at.pop()
            holder = self._table.holders.get(lane)
            if holder is None:
                continue
            if holder in own:
                path = [lane]
                previous = came_from[lane]
                while previous is not None:
                    path.append(previous)
                    previous = came_from[previous]
                return tuple(reversed(path))
            for waiter in self._nested.get(holder, ()):
                following = waiter.turn.key
                if following not in came_from:
                    came_from[following] = lane
                    look_at.append(following)
        return None

    def add(self, waiter: Waiter, chain: list[Turn]) -> None:
        """Note that a turn nested in every turn of `chain` waits."""
        for turn in chain:
            self._nested.setdefault(turn, {})[waiter] = None

    def discard(self, waiter: Waiter) -> None:
        """Note that it waits no longer; its turn's parent is the chain it was added with."""
        turn: Turn | None = waiter.turn._parent
        while turn is not None:
            waiters = self._nested.get(turn)
            if waiters is not None:
                waiters.pop(waiter, None)
                if not waiters:
                    del self._nested[turn]
            turn = turn._parent
