"""Call chains and lanes: finding out that a wait would never end before it begins.

A running turn can not end while a turn nested in it waits for a lane. So a wait closes a cycle exactly
when following holder -> lanes its nested turns wait for -> their holders comes back to a turn of the
waiter's own chain. The lanes may be those of several `Lanes`. A turn whose request brought a chain is nested in the
turns which that names, as far as they are of its own lanes.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from turnlane.turns.chain import brought_by
from turnlane.turns.turn import Turn, TurnOwner, TurnState

__all__ = ("add_nested", "chain_of", "cycle", "discard_nested", "lender_of")

Lane = tuple[TurnOwner, str]


def chain_of(waiting: Turn) -> list[Turn]:
    """Return the running turns that could not end before this one, innermost first.

    They are those of its context, and those of these lanes that a request says it was made from. What a request brought
    to a turn that has ended counts no more: nobody knows whether its caller still waits.
    """
    chain = _callers(waiting)
    turn = waiting._parent
    while turn is not None:
        if turn.running:
            chain.append(turn)
            chain += _callers(turn)
        turn = turn._parent
    return chain


def lender_of(waiting: Turn) -> Turn | None:
    """Return the turn whose running slot a request may use: the innermost it was made from, where that is trusted."""
    brought = brought_by(waiting)
    return None if brought is None or not brought.trusted else next(iter(_callers(waiting)), None)


def _callers(turn: Turn) -> list[Turn]:
    brought = brought_by(turn)
    return [] if brought is None else list(brought.callers(turn._owner))


def cycle(waiting: Turn, chain: list[Turn]) -> tuple[str, ...] | None:
    """Return the keys of the cycle that a turn of `chain` would close by waiting, or None."""
    if not chain:
        return None
    own = set(chain)
    first: Lane = (waiting._owner, waiting.key)
    came_from: dict[Lane, Lane | None] = {first: None}
    look_at = [first]
    while look_at:
        lane = look_at.pop()
        holder = lane[0].holder_of(lane[1])
        if holder is None:
            continue
        if holder in own:
            return _path(lane, came_from)
        for nested in tuple(holder._nested or ()):  # at once: lanes of another thread may change meanwhile
            following = (nested._owner, nested.key)
            if nested._state is TurnState.WAITING and following not in came_from:
                came_from[following] = lane
                look_at.append(following)
    return None


def add_nested(waiting: Turn, chain: list[Turn]) -> None:
    """Note that a turn nested in every turn of `chain` waits."""
    for turn in chain:
        if turn._nested is None:
            turn._nested = {}
        turn._nested[waiting] = None


def discard_nested(waiting: Turn) -> None:
    """Note that it waits no longer."""
    turn: Turn | None = waiting
    while turn is not None:
        brought = brought_by(turn)
        for caller in () if brought is None else brought.looked_up:
            _discard(waiting, caller)
        turn = turn._parent
        if turn is not None:
            _discard(waiting, turn)


def _discard(waiting: Turn, turn: Turn) -> None:
    if turn._nested is not None:
        turn._nested.pop(waiting, None)
        turn._nested = turn._nested or None


def _path(last: Lane, came_from: dict[Lane, Lane | None]) -> tuple[str, ...]:
    path: list[str] = []
    lane: Lane | None = last
    while lane is not None:
        path.append(lane[1])
        lane = came_from[lane]
    return tuple(reversed(path))
