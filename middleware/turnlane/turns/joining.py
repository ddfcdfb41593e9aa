"""Joining a turn that runs: work of the same key inside it, for which nobody waits a second time."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, cast

from turnlane.lanes import Lanes
from turnlane.lanes.scope import TurnScope
from turnlane.policies import Policy
from turnlane.sessions import Session
from turnlane.turns.context import _current
from turnlane.turns.turn import Joins, Turn

__all__ = ("TurnSource", "joined", "live_turn")


class TurnSource(Protocol):
    """What the decorator needs of the runtime."""

    @property
    def lanes(self) -> Lanes:
        """Where the turns stand in line."""
        ...

    def turn_at(
        self,
        scope: TurnScope | None,
        scope_of: Callable[[str], TurnScope],
        *,
        session_id: str | None = None,
        visible: bool = True,
    ) -> AbstractAsyncContextManager[Turn]:
        """Run one turn in a place that was made, or in one that `scope_of` makes."""
        ...

    def require_possible(self, policy: Policy) -> None:
        """Raise where a policy needs what there is not."""
        ...

    async def session_of(self, session_id: str) -> Session:
        """Return the session an explicit id names."""
        ...

    async def enter_session(
        self, turn: Turn, *, session_id: str | None = None, visible: bool = True, joined: bool = False
    ) -> bool:
        """Resolve the session of a turn."""
        ...

    async def note_end(self, turn: Turn) -> None:
        """Note that a turn has done all it was to do."""
        ...

    async def leave_session(self, turn: Turn, *, visible: bool = True) -> None:
        """Record the turn as activity of its session."""
        ...


def live_turn(lanes: Lanes, key: str) -> Turn | None:
    """Return the running turn of a key, in canonical form, that this code is inside of; None if there is none."""
    turn, gate = _current.get(), lanes.gate
    while turn is not None and not (turn.running and turn.key == key and turn._owner is gate):
        turn = turn._parent
    return turn if turn is None or gate.is_here else None


@asynccontextmanager
async def joined(
    source: TurnSource,
    turn: Turn,
    task: "asyncio.Task[object] | None",
    *,
    session_id: str | None = None,
    visible: bool = True,
) -> AsyncGenerator[None, None]:
    """Hold a turn for the block, and give it its session where whoever started it has no sessions.

    Args:
        source: whose sessions these are.
        turn: what `live_turn` found.
        task: runs the block, and is cancelled with the turn; None where that is another one's care.
        session_id: an explicit one.
        visible: as for the turn.
    """
    gate = source.lanes.gate
    gate.join(turn, task)
    try:
        try:
            async with _session_of(source, turn, session_id, visible=visible):
                yield
        finally:
            if gate.is_last(turn, task):
                await source.note_end(turn)
    except BaseException as caught:
        replacement = gate.unjoin(turn, task, caught)
        if replacement is not None:
            raise replacement from caught
        raise
    gate.unjoin(turn, task)


@asynccontextmanager
async def _session_of(
    source: TurnSource, turn: Turn, session_id: str | None, *, visible: bool
) -> AsyncGenerator[None, None]:
    mine = False
    if turn.session is None:
        joins = cast("Joins", turn._joins)  # this call is one of them
        async with joins.entering:
            if turn.session is None:
                mine = True
                await source.enter_session(turn, session_id=session_id, visible=visible, joined=True)
    try:
        yield
    finally:
        if mine:
            await source.leave_session(turn, visible=visible)
