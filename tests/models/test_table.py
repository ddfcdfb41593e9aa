"""The table of lanes against a model of its meaning: every sequence of events, every state, within small bounds."""

# Bugs are planted in the private side of the table.
# pyright: reportPrivateUsage=false

from collections.abc import Hashable

import pytest

from models.exhaustive import Bounds, Mismatch, every_sequence, every_state
from turnlane.lanes.capacity import Capacity, Slot
from turnlane.lanes.line import Line, Waiter
from turnlane.lanes.table import Table
from turnlane.turns.turn import Turn

# What is tried, and how long the sequences are, in the short form.
SEQUENCES = [
    (Bounds(None, "ab", 4), 6),
    (Bounds(1, "ab", 4), 6),
    (Bounds(2, "abc", 4), 5),
    (Bounds(2, "abc", 3, 1, ("p", "q")), 4),
]

# What is tried in the short form, and instead of it in the long form.
STATES = [
    (Bounds(None, "ab", 4), Bounds(None, "abc", 4)),
    (Bounds(1, "ab", 4), Bounds(1, "ab", 6)),
    (Bounds(1, "abc", 3), Bounds(1, "abc", 4)),
    (Bounds(2, "abc", 3), Bounds(2, "abc", 4)),
    (Bounds(None, "ab", 3, 1, ("", "p")), Bounds(None, "ab", 4, 1, ("", "p"))),
    (Bounds(1, "ab", 3, 1, ("p", "q")), Bounds(1, "ab", 4, 1, ("p", "q"))),
    (Bounds(2, "abc", 2, 1, ("p", "q")), Bounds(2, "abc", 3, 1, ("p", "q"))),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("bounds", "depth"), SEQUENCES, ids=str)
def test_every_sequence_of_events_does_what_the_model_says(bounds: Bounds, depth: int, long_form: bool) -> None:
    """Turns arrive, finish and withdraw, keys are paused, resumed and superseded, in every order there is."""
    assert every_sequence(bounds, depth + 1 if long_form else depth) > 2_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("bounds", "wider"), STATES, ids=str)
def test_every_state_there_is_does_what_the_model_says(bounds: Bounds, wider: Bounds, long_form: bool) -> None:
    """However long the way there, nested turns and turns that outlive their parent included."""
    assert every_state(wider if long_form else bounds) > 200


class LastComeFirst(Table):
    """Who comes last stands first."""

    def queue(self, waiter: Waiter) -> list[Waiter]:
        started = super().queue(waiter)
        line = waiter.line
        while line is not None and line.head is not waiter and line.head is not None:
            first = line.head
            line.remove(first)
            line.append(first)
        return started


class OwnLineFirst(Table):
    """A lane that is let go keeps its running slot although other keys were ready before."""

    def finish(self, turn: Turn) -> list[Waiter]:
        capacity = self.capacity
        if capacity is None:
            return super().finish(turn)
        others = capacity.ready.copy()
        capacity.ready.clear()
        started = super().finish(turn)
        capacity.ready.update({key: line for key, line in others.items() if line.head is not None})
        self._fill(capacity, started)
        return started


class KeepsEmptyLines(Table):
    """Whoever leaves a line as the last leaves the line behind."""

    def _forget_if_empty(self, line: Line) -> None:
        if not self.holders:
            super()._forget_if_empty(line)


class FirstLenderOnly(Capacity):
    """Only the first nested turn of a line is asked for its chain's slot, although its chain may have ended."""

    def lent_slot(self, line: Line) -> Slot | None:
        for waiter in line.nested:
            return self.slot_of(waiter.ancestor)
        return None


class DoublesASlot(Capacity):
    """A nested turn takes a slot of its own, beyond the limit."""

    def take(self, turn: Turn, ancestor: Turn | None, line: Line | None) -> bool:
        if not super().take(turn, ancestor, line):
            return False
        if self.slots[turn].users > 1:
            self.slots[turn].users -= 1
            self.slots[turn] = Slot()
            self.used += 1
        return True


class CountsNobody(Capacity):
    """A principal has a place whenever there is a slot."""

    def has_place(self, principal: Hashable) -> bool:
        return True


class StandsForTheFirst(Capacity):
    """A line whose head has left stands for the principal of that one still."""

    def stand(self, line: Line) -> None:
        if line.key not in self.standing:
            super().stand(line)


class LeavesThemParked(Capacity):
    """A place that is given back is taken by nobody who waits for it."""

    def give_back(self, turn: Turn) -> None:
        parked, self.parked = self.parked, {}
        super().give_back(turn)
        self.parked = parked


def with_capacity(kind: type[Capacity]) -> type[Table]:
    """Return a table that is right but for its capacity."""

    class Planted(Table):
        def make_capacity(self) -> Capacity:
            return kind(self.limits.max_running, self.limits.max_running_per_principal)

    return Planted


TABLES = [LastComeFirst, OwnLineFirst, KeepsEmptyLines]
CAPACITIES = [FirstLenderOnly, DoublesASlot, CountsNobody, StandsForTheFirst, LeavesThemParked]


@pytest.mark.parametrize(
    "planted", [*TABLES, *map(with_capacity, CAPACITIES)], ids=[each.__name__ for each in (*TABLES, *CAPACITIES)]
)
def test_a_table_with_a_bug_is_found(planted: type[Table]) -> None:
    """The checks above can fail: each planted bug shows within the bounds of the short form."""
    with pytest.raises(Mismatch):
        every_state_within([bounds for bounds, _ in STATES], planted)


def every_state_within(several: list[Bounds], table_class: type[Table]) -> None:
    for bounds in several:
        every_state(bounds, make_table=table_class)
