"""The short ways into and out of a lane that other processes share, for a turn that nobody of its own process meets."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from abc import abstractmethod

from turnlane.engines.base import Engine, Granted
from turnlane.lanes.errands import Begun, begin
from turnlane.lanes.shared_messages import SharedMessages
from turnlane.lanes.standing import Standing
from turnlane.turns.turn import Ending, Turn, TurnState

__all__ = ("ShortWays",)

RUNNING, ENDED = TurnState.RUNNING, TurnState.ENDED


class ShortWays(SharedMessages):
    """An engine that answers at once is asked without a place in line, a future and a task.

    What it leaves undone goes on the long way, from where it has come to.
    """

    def _is_started_at_once(self, standing: Standing, engine: Engine) -> bool:
        """Start a turn, if nobody of this process has or waits for its lane, and the engine grants it.

        Otherwise the standing knows what was answered instead, or how far the step has come.
        """
        table, turn, ask = self.table, standing.turn, standing.ask
        key = turn.key
        if table.capacity is not None or key in table.holders or key in table.lines:
            return False
        try:
            first = begin(engine.acquire(key, ask))
        except Exception:  # noqa: BLE001  it is asked again, which tells
            return False
        if not isinstance(first, Granted) or first.carried or first.dropped:
            standing.first = first
            return False
        standing.granted = first
        self.standings[ask.ticket] = standing
        table.holders[key] = turn
        if first.owes:
            turn._end = turn._end or Ending()
            turn._end.takes_back = True
        turn._started = self._monotonic()
        turn.token = first.token
        turn._state = RUNNING
        if self.hooks.active:
            try:
                self.tell_started(turn)
            except BaseException as error:
                self.leave(turn, error)
                raise
        return True

    def _is_alone(self, turn: Turn) -> bool:
        """Tell whether a turn runs, and nobody of this process waits for its end."""
        table, key = self.table, turn.key
        return (
            turn._state is RUNNING
            and turn._joins is None
            and not self.drains
            and table.capacity is None
            and key not in table.lines
            and table.holders.get(key) is turn
        )

    def _leave_at_once(self, turn: Turn) -> None:
        """End a turn that is alone and has ended well, and tell the engine."""
        key, ticket = turn.key, turn.id
        turn._state = ENDED
        del self.table.holders[key]
        self.outcomes.completed += 1
        if self.standings.pop(ticket, None) is None:
            return  # it is that of a parent this process was forked from, and lanes were used here since
        engine, begun = self._attachment.ready(key, self._loop), None
        if engine is not None:
            try:
                begun = begin(engine.leave(key, ticket))
            except Exception:  # noqa: BLE001  it is told again, which tells
                begun = None
            else:
                if begun is None:
                    self._close_if_idle()
                    return
        self._leave_line(key, ticket, begun=begun)

    @abstractmethod
    def _leave_line(
        self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False, begun: Begun | None = None
    ) -> None:
        """Tell the engine that a ticket has left, until it has heard; `begun` is how far that has come."""

    @abstractmethod
    def _close_if_idle(self) -> None:
        """Close the engine, if that was wanted and no turn runs any more."""
