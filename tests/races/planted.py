"""Lanes with a known bug each: what the exploration has to find."""

# The bugs are planted in the private side of the gate.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Iterable

from races.runner import MakeLanes, plain_lanes
from support.lanes_invariants import turns_in_line
from turnlane import Coalesce, Lanes
from turnlane.clock import Clock
from turnlane.hooks import Hooks
from turnlane.lanes.coalescing import Terms
from turnlane.lanes.gate import ENDED, RUNNING, WAITING, Gate
from turnlane.lanes.limits import Limits
from turnlane.lanes.line import Group, Waiter
from turnlane.lanes.table import Table
from turnlane.turns.turn import Turn

__all__ = ("PLANTED", "PLANTED_IN_LANES", "KeepsWhoHasLeft", "planted")


class KeepsTheLaneItWasHanded(Gate):
    """Cancelled between hand-over and wake-up, a waiter does not pass the lane on."""

    def wait_failed(self, turn: Turn, caught: BaseException) -> BaseException | None:
        """Leave the line, if it still stands there."""
        return None if turn._state is RUNNING else super().wait_failed(turn, caught)


class ForgetsWhoWasCancelled(Gate):
    """A waiter that is cancelled stays in line, and is handed the lane when its place comes."""

    def wait_failed(self, turn: Turn, caught: BaseException) -> BaseException | None:
        """Pass the lane on, if it was handed it."""
        return None if turn._state is WAITING else super().wait_failed(turn, caught)


class WakesEverybody(Gate):
    """A lane that is let go belongs to nobody: all who wait are woken, and the first to run takes it.

    Only without `max_running`; with it this is the gate as it should be.
    """

    def leave(self, turn: Turn, exc: BaseException | None) -> BaseException | None:
        """Let the lane go and wake everybody."""
        line = self.table.lines.get(turn.key)
        if line is None or turn._state is not RUNNING or self.table.capacity is not None:
            return super().leave(turn, exc)
        turn._state = ENDED
        replacement = None if turn._end is None else self.endings.settle(turn, exc)
        self.outcomes.record(turn, replacement or exc, ran=0.0, waited_for=False)
        del self.table.holders[turn.key]
        for waiting in turns_in_line(line):
            self.loop.call_soon(self._race, waiting)
        return replacement

    def _race(self, turn: Turn) -> None:
        waiter = turn._wait
        if isinstance(waiter, Waiter) and turn.key not in self.table.holders and self.table.withdraw(waiter):
            self.table.holders[turn.key] = turn
            self.hand_over([waiter])


class LeakyTable(Table):
    """A turn that ends while somebody waits for its lane does not give its running slot back."""

    def finish(self, turn: Turn) -> list[Waiter]:
        """End a running turn."""
        if self.capacity is not None and turn in self.capacity.slots and turn.key in self.lines:
            self.capacity.slots[turn].users += 1
        return super().finish(turn)


class LeaksRunningSlots(Gate):
    """Its table is a leaky one."""

    def __init__(self, *, limits: Limits, hooks: Hooks, clock: Clock, slow_after: float | None) -> None:
        super().__init__(limits=limits, hooks=hooks, clock=clock, slow_after=slow_after)
        self.table = LeakyTable(limits)


class StartsTheSuccessorTooEarly(Gate):
    """A turn that is interrupted has its lane taken away when it is cancelled, not when it has ended."""

    def hand_over(self, granted: Iterable[Waiter]) -> None:
        """As it should be; who arrives with Interrupt is handed the lane at once."""
        super().hand_over(granted)
        for key in list(self.table.lines):
            holder = self.table.holders.get(key)
            if holder is not None and holder.interrupted:
                super().hand_over(self.table.finish(holder))


class ForgetsWhoJoined(Gate):
    """The lane goes when a turn's own block has ended, although a call that joined it still runs."""

    def join(self, turn: Turn, task: "asyncio.Task[object] | None") -> None:
        """Note nothing."""


class LosesTheAbsorbed(Gate):
    """A turn that carries others and never begins takes their messages with it."""

    def let_go_of_absorbed(self, turn: Turn) -> list[Waiter]:
        """Let go of nobody."""
        if isinstance(turn._wait, Waiter) and turn._wait.absorbed and turn._talk is not None:
            turn._talk.told = True
        return []


class AnswersTheSteeredAgain(Gate):
    """A message the running turn is done with keeps its place in line."""

    def _steered(self, turn: Turn, holder: Turn) -> bool:
        return turn._state is WAITING and holder._state is RUNNING


class GathersPastOthers(Gate):
    """A group takes in who stands behind somebody else."""

    def group_for(self, turn: Turn, policy: Coalesce) -> Group | None:
        """Look for a group in the whole line."""
        line = self.table.lines.get(turn.key)
        for waiter in line or ():
            group = waiter.group
            if group is not None and isinstance(group.terms, Terms) and group.terms.policy == policy:
                return group
        return super().group_for(turn, policy)


class KeepsWhoHasLeft(Gate):
    """A request whose client has left stays in line until its place comes."""

    def expel(self, turn: Turn, error: BaseException, reason: str) -> bool:
        """As it should be, but for what the doc of the class says."""
        return reason != "client_gone" and super().expel(turn, error, reason)


PLANTED: dict[str, type[Gate]] = {
    "a waiter cancelled after the hand-over keeps the lane": KeepsTheLaneItWasHanded,
    "everybody who waits is woken and races": WakesEverybody,
    "a waiter that was cancelled is forgotten in the line": ForgetsWhoWasCancelled,
    "a running slot is leaked": LeaksRunningSlots,
    "the successor of an interrupted turn starts beside it": StartsTheSuccessorTooEarly,
}

"""What the exploration of lanes finds, and that of requests too."""

PLANTED_IN_LANES: dict[str, type[Gate]] = {
    **PLANTED,
    "a call that joined a turn does not keep its lane": ForgetsWhoJoined,
    "those a turn carries are lost with it": LosesTheAbsorbed,
    "a message that was steered is answered again": AnswersTheSteeredAgain,
    "a group gathers past others": GathersPastOthers,
}
"""What the exploration of lanes finds."""


def planted(gate_class: type[Gate]) -> MakeLanes:
    """Return a function that makes lanes with that gate."""

    def make(max_running: int | None, clock: Clock) -> Lanes:
        lanes = plain_lanes(max_running, clock)
        lanes.gate = gate_class(limits=lanes.limits, hooks=lanes.hooks, clock=clock, slow_after=None)
        return lanes

    return make
