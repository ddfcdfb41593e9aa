"""The table of lanes against a model of its meaning: every sequence of events, every state, within small bounds."""

# Bugs are planted in the private side of the table.
# pyright: reportPrivateUsage=false

import pytest

from models.exhaustive import Bounds, Mismatch, every_sequence, every_state
from turnlane.lanes.line import Line, Waiter
from turnlane.lanes.table import Slot, Table
from turnlane.turns.turn import Turn

# What is tried, and how long the sequences are, in the short form.
SEQUENCES = [(Bounds(None, "ab", 4), 6), (Bounds(1, "ab", 4), 6), (Bounds(2, "abc", 4), 5)]

# What is tried in the short form, and instead of it in the long form.
STATES = [
    (Bounds(None, "ab", 4), Bounds(None, "abc", 4)),
    (Bounds(1, "ab", 4), Bounds(1, "ab", 6)),
    (Bounds(1, "abc", 3), Bounds(1, "abc", 4)),
    (Bounds(2, "abc", 3), Bounds(2, "abc", 4)),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("bounds", "depth"), SEQUENCES, ids=str)
def test_every_sequence_of_events_does_what_the_model_says(bounds: Bounds, depth: int, long_form: bool) -> None:
    """Turns arrive, finish and withdraw, keys are paused, resumed and superseded, in every order there is."""
    assert every_sequence(bounds, depth + 1 if long_form else depth) > 10_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("bounds", "wider"), STATES, ids=str)
def test_every_state_there_is_does_what_the_model_says(bounds: Bounds, wider: Bounds, long_form: bool) -> None:
    """However long the way there, nested turns and turns that outlive their parent included."""
    assert every_state(wider if long_form else bounds) > 300


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


class FirstLenderOnly(Table):
    """Only the first nested turn of a line is asked for its chain's slot, although its chain may have ended."""

    def _lent_slot(self, line: Line) -> Slot | None:
        for waiter in line.nested:
            return self._slot_of(waiter.ancestor)
        return None


class OwnLineFirst(Table):
    """A lane that is let go keeps its running slot although other keys were ready before."""

    def finish(self, turn: Turn) -> list[Waiter]:
        others = self.ready.copy()
        self.ready.clear()
        started = super().finish(turn)
        self.ready.update({key: line for key, line in others.items() if line.head is not None})
        self._fill(started)
        return started


class KeepsEmptyLines(Table):
    """Whoever leaves a line as the last leaves the line behind."""

    def _forget_if_empty(self, line: Line) -> None:
        if not self.holders:
            super()._forget_if_empty(line)


class DoublesASlot(Table):
    """A nested turn takes a slot of its own, beyond the limit."""

    def _take_slot(self, turn: Turn, ancestor: Turn | None, line: Line | None) -> bool:
        if not super()._take_slot(turn, ancestor, line):
            return False
        if self.slots[turn].users > 1:
            self.slots[turn].users -= 1
            self.slots[turn] = Slot()
            self.used += 1
        return True


@pytest.mark.parametrize("planted", [LastComeFirst, FirstLenderOnly, OwnLineFirst, KeepsEmptyLines, DoublesASlot])
def test_a_table_with_a_bug_is_found(planted: type[Table]) -> None:
    """The checks above can fail: each planted bug shows within the bounds of the short form."""
    with pytest.raises(Mismatch):
        every_state_within([bounds for bounds, _ in STATES], planted)


def every_state_within(several: list[Bounds], table_class: type[Table]) -> None:
    for bounds in several:
        every_state(bounds, make_table=table_class)
