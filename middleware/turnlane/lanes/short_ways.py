"""The short ways into and out of a lane that other processes share, for a turn that nobody of its own process meets."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from abc import abstractmethod

from turnlane.begun import Begun, begin
from turnlane.engines.base import Engine, Granted
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

    def _ends_alone(self, turn: Turn) -> bool:
        """Tell whether a turn runs, and nothing but the engine is to hear of its end.

        Who waits for its lane in this process does so for the engine.
        """
        table, key = self.table, turn.key
        if turn._state is not RUNNING or turn._joins is not None or self.drains or table.capacity is not None:
            return False
        line = table.lines.get(key)
        return (line is None or line.first() is None) and table.holders.get(key) is turn

    def _leave_at_once(self, turn: Turn) -> None:
        """End such a turn, which has ended well, and tell the engine."""
        key, ticket, table = turn.key, turn.id, self.table
        turn._state = ENDED
        del table.holders[key]
        self.outcomes.completed += 1
        if key in table.lines:
            self.outcomes.measure(self._monotonic() - turn._started)
        standing = self.standings.pop(ticket, None)
        if standing is None:
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
