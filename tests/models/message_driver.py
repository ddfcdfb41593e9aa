"""Lets things happen to messages on a real gate, one transition at a time, and tells what state it is in."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from typing import Any

from models.message_model import Happening, MessageModel, Name
from support.lanes_invariants import broken_promises
from support.seeded_loop import LoopClock, SeededLoop
from turnlane import Coalesce, Enqueue, Interrupt, Reject, Steer, errors
from turnlane.hooks import Hooks
from turnlane.lanes.gate import Gate
from turnlane.lanes.limits import Limits
from turnlane.lanes.line import Waiter
from turnlane.policies import Policy
from turnlane.turns.talk import Steered, Talk
from turnlane.turns.turn import Turn

__all__ = ("DrivenGate", "MakeGate", "state_of")

MakeGate = type[Gate]


class Fussy(Exception):
    """What a merge that merges nothing raises."""


def refuse(_: object) -> object:
    raise Fussy


POLICIES: dict[Name, Policy] = {
    "enqueue": Enqueue(wait_timeout=None),
    "reject": Reject(),
    "interrupt": Interrupt(grace=60, wait_timeout=None),
    "coalesce": Coalesce(window=1, merge=tuple, wait_timeout=None),
    "fussy": Coalesce(window=1, merge=refuse, wait_timeout=None),
    "steer": Steer(wait_timeout=None),
}

FATES = {
    errors.LaneBusy: "busy",
    errors.TurnInterrupted: "superseded",
    errors.TurnCoalesced: "coalesced",
    errors.TurnSteered: "steered",
}


class DrivenGate:
    """A gate whose turns are known by the number of their message. Nothing is awaited: a task is what the test says.

    Mutable: all of it; `wrong` collects what no model is needed for.
    """

    def __init__(self, loop: SeededLoop, policies: tuple[Name, ...], make_gate: MakeGate) -> None:
        self.gate = make_gate(limits=Limits(), hooks=Hooks(), clock=LoopClock(loop), slow_after=None)
        self.wrong: list[str] = []
        self._loop = loop
        self._policies = policies
        self._turns: dict[int, Turn] = {}
        self._waiters: dict[int, Waiter] = {}
        self._fate: dict[int, tuple[str, int]] = {}
        self._taken: dict[int, Steered] = {}
        self._begun: int | None = None

    def happen(self, event: Happening) -> None:
        """Let something happen."""
        getattr(self, f"_{event.what}")(event.message)
        self._hear()
        self.wrong += broken_promises(self.gate.table)

    def _arrive(self, message: int) -> None:
        try:
            turn = self.gate.arrive("a", POLICIES[self._policies[message]], talk=Talk(message))
        except errors.LaneBusy:
            self._fate[message] = ("busy", message)
            return
        self._turns[message] = turn
        if isinstance(turn._wait, Waiter):
            self._waiters[message] = turn._wait
        else:
            self._begin(message, (message,))

    def _wake(self, message: int) -> None:
        future = self._waiters.pop(message).future
        if not future.done() or future.result() is not None:
            self.wrong.append(f"{message} has the lane and was told {future}")
        turn = self._turns[message]
        try:
            self.gate.begin_carrying(turn)
        except Fussy:
            self._fate[message] = ("failed", message)
        else:
            self._begin(message, turn.messages)

    def _begin(self, message: int, messages: tuple[Any, ...]) -> None:
        if messages[-1] != message or list(messages) != sorted(messages):
            self.wrong.append(f"the turn of {message} answers {messages}")
        self._begun = message
        self._fate[message] = ("answered", message)

    def _finish(self, message: int) -> None:
        self.gate.leave(self._turns[message], None)
        self._begun = None

    def _cancel(self, message: int) -> None:
        self._waiters.pop(message)
        self._fate[message] = ("cancelled", message)
        self.gate.wait_failed(self._turns[message], asyncio.CancelledError())

    def _take(self, message: int) -> None:
        found = self._turns[message].steering.take()
        if found is None:
            self.wrong.append(f"nothing is offered to {message}")
        else:
            self._taken[found.message] = found

    def _done(self, message: int) -> None:
        steered = self._taken.pop(message)
        before = steered.waits
        if steered.done() and not before:
            self.wrong.append(f"{message} was done with although it did not wait")

    def _quiet(self, message: int) -> None:
        group = self._waiters[message].group
        if group is None or group.timer is None:
            self.wrong.append(f"nobody waits for quiet after {message}")
            return
        self._loop._now = max(self._loop._now, group.closes)
        group.timer.cancel()
        self.gate._close_window(group)

    def _hear(self) -> None:
        """Note what those were told who have not had their turn."""
        for message, waiter in list(self._waiters.items()):
            if waiter.future.done() and waiter.future.result() is not None:
                error: Any = waiter.future.result()
                del self._waiters[message]
                into = next(number for number, turn in self._turns.items() if turn.id == error.into)
                self._fate[message] = (FATES[type(error)], into)

    def state(self) -> object:
        """Return everything that can be seen, in the form of `state_of`."""
        table = self.gate.table
        holder = table.holders.get("a")
        holding = None if holder is None else holder.messages[-1] if holder.messages else -1
        carried, offered = list[int](), list[int]()
        if holder is not None:
            wait = holder._wait
            absorbed = wait.absorbed if isinstance(wait, Waiter) and self._begun is None else None
            carried = [other.turn.messages[-1] for other in absorbed or ()]
            if holder._talk is not None and holder._talk.steering is not None:
                offered = [each.message for each in holder._talk.steering._offers if each.waits]
        line: list[tuple[list[int], bool]] = []
        before: object = None
        for waiter in table.lines.get("a", ()):
            number = waiter.turn._talk.messages[-1] if waiter.turn._talk is not None else -1
            if waiter.group is not None and waiter.group is before:
                line[-1][0].append(number)
            else:
                line.append(([number], waiter.group is None or waiter.group.ripe))
            before = waiter.group
        asked = holder is not None and holder.interrupted
        return holding, self._begun is not None, asked, carried, offered, line, self._fate

    def forget(self) -> None:
        """Take the timers out of the loop, for the next one: it never gets to look at them itself."""
        for timer in self._loop.armed():
            timer.cancel()
        inner: Any = self._loop
        inner._scheduled.clear()
        inner._timer_cancelled_count = 0


def state_of(model: MessageModel) -> object:
    """Return the state of a model as a gate in the same state would tell it."""
    waiting = model.waiting()
    offered = [message for message in model.offered if message in waiting]
    line = [(place.messages, place.quiet) for place in model.line]
    return model.holder, model.begun, model.asked, model.carried, offered, line, model.fate
