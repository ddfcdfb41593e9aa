"""Lets things happen to messages on real lanes, one transition at a time, and tells what state they are in."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import os
from collections import Counter
from typing import Any

from models.message_model import MessageModel
from models.message_visit import Broken, Visit
from models.message_words import NOBODY, Happening, Scene
from support.lanes_invariants import broken_promises, leftovers
from support.seeded_loop import LoopClock, SeededLoop
from turnlane import Lanes, Runtime
from turnlane.lanes.gate import Gate
from turnlane.turns.talk import Steered
from turnlane.turns.turn import Turn

__all__ = ("DrivenGate", "MakeGate", "state_of")

MakeGate = type[Gate]

COUNTED_AS = {
    "answered": "completed",
    "expired": "wait_timeout",
    "left": "cancelled",
    "shared": "coalesced",
    "stopped": "cancelled",
    "unmerged": "failed",
}


class DrivenGate:
    """A gate whose turns are known by the number of their message. Nothing is awaited: a task is what the test says.

    Mutable: all of it; `wrong` collects what no model is needed for.
    """

    def __init__(self, loop: SeededLoop, scene: Scene, make_gate: MakeGate) -> None:
        lanes = Lanes(clock=LoopClock(loop), slow_after=None, max_waiting_per_principal=scene.most_waiting)
        self.gate = lanes.gate = make_gate(limits=lanes.limits, hooks=lanes.hooks, clock=lanes.clock, slow_after=None)
        self.gate._pid = os.getpid()  # or each would stay known to the process for ever, in case it forks
        self.wrong: list[str] = []
        self._runtime = Runtime(lanes=lanes)
        self._loop = loop
        self._scene = scene
        self._visits: dict[int, Visit] = {}
        self._fate: dict[int, tuple[str, int]] = {}
        self._taken: dict[int, Steered] = {}
        self._messages: dict[Turn, int] = {}

    def happen(self, event: Happening) -> None:
        """Let something happen."""
        holder = self.gate.table.holders.get("a")
        getattr(self, f"_{event.what}")(event.message)
        for message, visit in self._visits.items():
            if visit.is_told:
                visit.go_on()
            if visit.over and message not in self._fate:
                what, through = visit.fate()
                self._fate[message] = (
                    what,
                    self._messages[holder] if what == "left" and holder is not None else self._named(through),
                )
                if what == "shared" and getattr(visit.error, "result", None) != self._fate[message][1]:
                    self.wrong.append(f"{message} was given the result of another")

    # -- what happens

    def _arrive(self, message: int) -> None:
        scene = self._scene
        visit = self._visits[message] = Visit(self._runtime, scene.policies[message], message, scene.whom(message))
        if visit.arrived:
            self._messages[visit.turn] = message

    def _wake(self, message: int) -> None:
        visit = self._visits[message]
        if not visit.has_lane:
            self.wrong.append(f"{message} has the lane and was told {visit.awaits}")
        visit.go_on()

    def _finish(self, message: int) -> None:
        self._visits[message].go_on()

    def _fail(self, message: int) -> None:
        self._visits[message].go_on(Broken())

    def _stop(self, message: int) -> None:
        self._visits[message].cancel()

    _cancel = _stop

    def _expire(self, message: int) -> None:
        waiter = self._visits[message].waiter
        if waiter is None or waiter.deadline is None:
            self.wrong.append(f"{message} would wait for ever")
            return
        self.gate.deadlines.discard(waiter)
        self.gate._expire(waiter)

    def _interrupt(self, message: int) -> None:
        asked_before = self._visits[message].turn.interrupted
        if self._runtime.lanes.interrupt("a", grace=60) is asked_before:
            self.wrong.append(f"an operator is told that {message} was asked to stop before: {not asked_before}")

    def _cut(self, message: int) -> None:
        visit = self._visits[message]
        ending = visit.turn._end
        if ending is None or ending.timer is None:
            self.wrong.append(f"{message} may take as long as it likes to stop")
            return
        ending.timer.cancel()
        self.gate.endings._cancel(visit.turn, ending)

    def _take(self, message: int) -> None:
        found = self._visits[message].turn.steering.take()
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
        waiter = self._visits[message].waiter
        group = None if waiter is None else waiter.group
        if group is None or group.timer is None:
            self.wrong.append(f"nobody waits for quiet after {message}")
            return
        self._loop._now = max(self._loop._now, group.closes)
        group.timer.cancel()
        self.gate._close_window(group)

    # -- what is the case

    def broken(self) -> list[str]:
        """Return what is wrong, whatever the model says."""
        return self.wrong + broken_promises(self.gate.table)

    def state(self) -> dict[str, object]:
        """Return everything that can be seen, in the form of `state_of`."""
        line: list[tuple[list[int], bool, list[int]]] = []
        before: object = None
        for waiter in self.gate.table.lines.get("a", ()):
            group, number = waiter.group, self._messages[waiter.turn]
            if group is not None and group is before:
                line[-1][0].append(number)
            elif group is not None:
                line.append(([number], group.ripe, list(group.dropped)))
            else:
                line.append(([number], True, []))
            before = group
        visits = self._visits.values()
        return {
            "turn": self._turn(),
            "line": line,
            "fate": self._fate,
            "owed": [self._messages[turn] for turn in self.gate.debts.get("a", ())],
            "undone": sorted(
                [(visit.message, self._named(by)) for visit in visits for by in visit.transcript.by]
                + [(NOBODY, visit.message) for visit in visits for _ in range(visit.transcript.others)]
            ),
            "ended": sorted(visit.message for visit in visits for _ in range(visit.transcript.ended)),
            "taken": [visit.message for visit in visits if visit.taken],
            "deadlines": [each.message for each in visits if each.waiter is not None and each.waiter.deadline],
            "totals": {name: count for name, count in self.gate.outcomes.totals().items() if count},
        }

    def _turn(self) -> dict[str, object] | None:
        turn = self.gate.table.holders.get("a")
        if turn is None:
            return None
        visit = self._visits[self._messages[turn]]
        waiter, ending = visit.waiter, turn._end
        group = None if waiter is None else waiter.group
        absorbed = [] if waiter is None else [self._messages[other.turn] for other in waiter.absorbed or ()]
        begun = visit.answers is not None
        dropped = turn.dropped if begun or group is None else group.dropped
        steering = None if turn._talk is None else turn._talk.steering
        return {
            "message": visit.message,
            "answers": visit.answers or [],
            "carried": [] if begun else absorbed,
            "sharing": absorbed if begun else [],
            "dropped": list(dropped),
            "offered": [] if steering is None else [each.message for each in steering._offers if each.waits],
            "asked_by": None if ending is None or not ending.asked else self._named(ending.by),
            "cut": ending is not None and ending.cancelled,
        }

    def left_behind(self) -> list[str]:
        """Return what is still kept, for when nothing can happen any more."""
        return leftovers(self._runtime.lanes) + [f"{timer} is armed" for timer in self._loop.armed()]

    def forget(self) -> None:
        """Take the timers out of the loop, for the next one: it never gets to look at them itself."""
        for visit in self._visits.values():
            visit.close()
        for timer in self._loop.armed():
            timer.cancel()
        inner: Any = self._loop
        inner._scheduled.clear()
        inner._timer_cancelled_count = 0

    def _named(self, name: str | None) -> int:
        return NOBODY if name is None else next(number for turn, number in self._messages.items() if turn.id == name)


def state_of(model: MessageModel) -> dict[str, object]:
    """Return the state of a model as lanes in the same state would tell it."""
    turn, waiting = model.turn, model.waiting()
    taken = [message for message, (what, _) in model.fate.items() if what in ("coalesced", "shared", "left", "steered")]
    return {
        "turn": None
        if turn is None
        else {
            "message": turn.message,
            "answers": turn.answers,
            "carried": turn.carried,
            "sharing": turn.sharing,
            "dropped": turn.came_as.dropped,
            "offered": [message for message in turn.offered if message in waiting],
            "asked_by": turn.asked_by,
            "cut": turn.cut,
        },
        "line": [(place.messages, place.quiet, place.dropped) for place in model.line],
        "fate": model.fate,
        "owed": model.owed,
        "undone": sorted(model.undone),
        "ended": sorted(model.ended),
        "taken": sorted(taken + (turn.sharing if turn is not None else [])),
        "deadlines": sorted(waiting + (turn.carried if turn is not None else [])),
        "totals": Counter(COUNTED_AS.get(what, what) for what, _ in model.fate.values()),
    }
