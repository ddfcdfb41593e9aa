"""Lets events happen to a table, and tells what state it is in."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from typing import NamedTuple

from models.lane_model import Event, LaneModel
from support.lanes_invariants import turns_in_line
from turnlane.lanes.capacity import Capacity, Slot
from turnlane.lanes.line import Waiter
from turnlane.lanes.table import Table
from turnlane.turns.talk import Talk
from turnlane.turns.turn import Turn

__all__ = ("DrivenTable", "State", "state_of")


class State(NamedTuple):
    """Everything a table holds; turns are numbers, and slots are told by whom they count for and who shares one."""

    holders: dict[str, int]
    lines: dict[str, list[int]]
    paused: set[str]
    ready: list[str]
    parked: dict[str, list[str]]
    slots: set[tuple[str, frozenset[int]]]
    waiting: int


class DrivenTable:
    """A table, used as the gate uses it, whose turns are known by their number in order of arrival."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.turns: list[Turn] = []
        self.waiters: dict[int, Waiter] = {}
        self.positions: list[int] = []

    def happen(self, event: Event) -> list[int]:
        """Let something happen; return who has a lane since, in the order of starting."""
        if event.what == "arrive":
            return self._arrive(event)
        if event.what == "finish":
            return self._numbers(self.table.finish(self.turns[event.turn]))
        if event.what == "withdraw":
            assert self.table.withdraw(self.waiters.pop(event.turn))
            return self._numbers(self.table.promote(self.turns[event.turn].key))
        if event.what == "supersede":
            for waiter in self.table.supersede(event.key):
                del self.waiters[self._number(waiter.turn)]
            return []
        if event.what == "pause":
            self.table.pause(event.key)
            return []
        return self._numbers(self.table.resume(event.key))

    def _arrive(self, event: Event) -> list[int]:
        turn = object.__new__(Turn)
        for name in Turn.__slots__:  # the table looks at these three; the rest is never of interest to it
            setattr(turn, name, 0)
        turn.key = event.key
        turn._talk = Talk(principal=event.principal) if event.principal else None
        turn._parent = ancestor = None if event.parent is None else self.turns[event.parent]
        number = len(self.turns)
        self.turns.append(turn)
        if self.table.enter(turn, ancestor):
            self.positions.append(0)
            return [number]
        self.waiters[number] = waiter = Waiter(turn, ancestor)
        started = self.table.queue(waiter)
        self.positions.append(waiter.position)
        return self._numbers(started)

    def _numbers(self, waiters: list[Waiter]) -> list[int]:
        numbers = [self._number(waiter.turn) for waiter in waiters]
        for number in numbers:
            del self.waiters[number]
        return numbers

    def _number(self, turn: Turn) -> int:
        return next(number for number, known in enumerate(self.turns) if known is turn)

    def state(self) -> State:
        """Return everything the table holds."""
        table, capacity = self.table, self.table.capacity or Capacity(None, None)
        slots: dict[Slot, list[int]] = {}
        for turn, slot in capacity.slots.items():
            slots.setdefault(slot, []).append(self._number(turn))
        return State(
            {key: self._number(turn) for key, turn in table.holders.items()},
            {key: [self._number(turn) for turn in turns_in_line(line)] for key, line in table.lines.items()},
            {key for key, line in table.lines.items() if line.paused},
            list(capacity.ready),
            {str(principal): list(lines) for principal, lines in capacity.parked.items()},
            {(_name(slot.principal), frozenset(turns)) for slot, turns in slots.items()},
            table.waiting,
        )

    def lenders(self) -> tuple[tuple[int, ...], ...]:
        """Return who is on record as lending a slot: bookkeeping that the model has not."""
        lines = sorted(self.table.lines.items())
        return tuple(tuple(self._number(waiter.turn) for waiter in line.nested) for _, line in lines)


def state_of(model: LaneModel) -> State:
    """Return the state of a model as a table in the same state would tell it."""
    lines = {key: line for key, line in model.line.items() if line or key in model.paused}
    parked: dict[str, list[str]] = {}
    for key in model.parked:
        parked.setdefault(model.stands_for[key], []).append(key)
    slots = {
        (of, frozenset(turn for turn, at in model.slot.items() if at == (of, slot))) for of, slot in model.slot.values()
    }
    return State(
        model.holder,
        {**{key: list[int]() for key in model.paused}, **lines},
        set(model.paused),
        model.ready,
        parked,
        slots,
        len(model.waiting()),
    )


def _name(principal: object) -> str:
    return "" if principal is None else str(principal)
