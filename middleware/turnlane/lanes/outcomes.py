"""What became of the turns: counters, the measured length of a turn, slow turns."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable

from turnlane import errors
from turnlane.hooks import Hooks, TurnFinished, TurnSlow, key_digest
from turnlane.stacks import stack_of
from turnlane.turns.turn import Turn

__all__ = ("Outcomes", "outcome_of")

logger: logging.Logger = logging.getLogger("turnlane.lanes")

WEIGHT_OF_NEWEST = 0.2


def outcome_of(turn: Turn, error: BaseException | None) -> str:
    """Name how a turn ended by what left it."""
    match error:
        case None:
            return "completed"
        case errors.EngineUnavailable() if turn.lost:
            return "lost"
        case errors.TurnInterrupted():
            return "interrupted"
        case errors.TurnTimeout():
            return "timed_out"
        case asyncio.CancelledError() | GeneratorExit():
            return "cancelled"
        case _:
            return "failed"


class Outcomes:
    """Counts how turns ended and tells hooks.

    Mutable: `completed` (turns that ended without an error; apart because it is on the path of every
    request), `others` (by outcome or reason), `mean_turn` (seconds, of turns somebody waited for; None
    before the first), `_told` (slow turns already told of, while they run).
    """

    def __init__(self, hooks: Hooks) -> None:
        self.completed: int = 0
        self.others: Counter[str] = Counter()
        self.mean_turn: float | None = None
        self._hooks = hooks
        self._told: set[Turn] = set()

    def record(self, turn: Turn, error: BaseException | None, *, ran: float, waited_for: bool) -> None:
        """Note the end of a turn that ran `ran` seconds; `waited_for` tells whether others waited for it."""
        if waited_for:
            self.measure(ran)
        if error is None:
            self.completed += 1
        else:
            self.others[outcome_of(turn, error)] += 1
        if self._hooks.active and self._hooks.wants(TurnFinished):
            session = turn.session
            self._hooks.emit(
                TurnFinished(
                    key=turn.key,
                    turn=turn.id,
                    token=turn.token,
                    outcome=outcome_of(turn, error),
                    waited=turn.waited,
                    ran=ran,
                    session_id=None if session is None else session.id,
                    session_is_new=None if session is None else session.is_new,
                    error=error,
                )
            )

    def measure(self, ran: float) -> None:
        """Note how many seconds a turn took that others waited for."""
        mean = self.mean_turn
        self.mean_turn = ran if mean is None else mean + WEIGHT_OF_NEWEST * (ran - mean)

    def refuse(self, reason: str) -> None:
        """Note a turn that never ran."""
        self.others[reason] += 1

    def totals(self) -> dict[str, int]:
        """Return a copy of the counters by outcome."""
        return {"completed": self.completed, **self.others}

    def forget_slow(self) -> None:
        """Let go of turns that were told of as slow; nobody runs any more."""
        self._told.clear()

    def look_for_slow(self, running: Iterable[Turn], now: float, slow_after: float) -> float:
        """Warn once of each turn that runs longer than `slow_after` seconds; return seconds until the next look."""
        soonest = slow_after
        slow: list[Turn] = []
        for turn in running:
            age = now - turn._started
            if age >= slow_after:
                slow.append(turn)
            else:
                soonest = min(soonest, slow_after - age)
        news = [turn for turn in slow if turn not in self._told]
        self._told = set(slow)
        for turn in news:
            self._tell_slow(turn, now - turn._started)
        return soonest

    def _tell_slow(self, turn: Turn, age: float) -> None:
        stack = "" if turn._task is None else "".join(stack_of(turn._task.get_coro()))
        logger.warning("turn_slow key=%s turn=%s running_s=%.0f\n%s", key_digest(turn.key), turn.id, age, stack)
        if self._hooks.wants(TurnSlow):
            self._hooks.emit(TurnSlow(key=turn.key, turn=turn.id, running=age, stack=stack))
