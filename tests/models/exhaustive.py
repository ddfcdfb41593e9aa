"""Runs a table through everything that can happen within small bounds, and compares it with the model."""

from collections.abc import Callable
from dataclasses import dataclass

from models.lane_model import Event, LaneModel
from models.table_driver import DrivenTable, state_of
from support.lanes_invariants import broken_promises
from turnlane.lanes.limits import Limits
from turnlane.lanes.table import Table

__all__ = ("Bounds", "Mismatch", "every_sequence", "every_state")

MakeTable = Callable[[Limits], Table]
Path = tuple[Event, ...]


class Mismatch(AssertionError):
    """The table did something else than the model, or broke an invariant; the message has the events."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Within what everything is tried: how many turns run, on which keys, how many may live at a time; and how many of
    a principal run, and for which principals they are.
    """

    max_running: int | None
    keys: str
    turns: int
    max_each: int | None = None
    principals: tuple[str, ...] = ("",)

    def limits(self) -> Limits:
        """Return the limits of a table."""
        return Limits(max_running=self.max_running, max_running_per_principal=self.max_each)

    def model(self) -> LaneModel:
        """Return a model in which nothing has happened."""
        return LaneModel(self.max_running, self.max_each)


def every_sequence(bounds: Bounds, depth: int, *, make_table: MakeTable = Table) -> int:
    """Try every sequence of so many events; return how many were checked, beginnings included."""
    checked = 0
    open_ends: list[tuple[Path, LaneModel]] = [((), bounds.model())]
    while open_ends:
        path, model = open_ends.pop()
        for event in model.possible(bounds.keys, turns=bounds.turns, nested=False, principals=bounds.principals):
            checked += 1
            after = _compare((*path, event), model, _replayed(path, make_table(bounds.limits())))
            if len(path) + 1 < depth:
                open_ends.append(((*path, event), after))
    return checked


def every_state(bounds: Bounds, *, make_table: MakeTable = Table) -> int:
    """Try every event, of nested turns too, in every state that can be reached; return how many states there are.

    States that differ only in the numbers of their turns are one: what can happen from there on is the same.
    """
    seen: set[object] = set()
    level: list[tuple[Path, LaneModel]] = [((), bounds.model())]
    while level:
        deeper: list[tuple[Path, LaneModel]] = []
        for path, model in level:
            for event in model.possible(bounds.keys, turns=bounds.turns, nested=True, principals=bounds.principals):
                table = _replayed(path, make_table(bounds.limits()))
                after = _compare((*path, event), model, table)
                shape = _shape(after, table)
                if shape not in seen:
                    seen.add(shape)
                    deeper.append(((*path, event), after))
        level = deeper
    return len(seen)


def _replayed(path: Path, table: Table) -> DrivenTable:
    driven = DrivenTable(table)
    for event in path:
        driven.happen(event)
    return driven


def _compare(path: Path, before: LaneModel, table: DrivenTable) -> LaneModel:
    """Let the last event of a path happen to both; return the model after it."""
    event, model = path[-1], before.copy()
    ahead = len(before.line.get(event.key, ())) + (event.key in before.holder)
    started = model.happen(event)
    said = table.happen(event)
    wrong = broken_promises(table.table)
    if said != started:
        wrong.append(f"these started: {said}, in the model: {started}")
    if table.state() != state_of(model):
        wrong.append(f"{table.state()}, in the model: {state_of(model)}")
    if event.what == "arrive" and table.positions[-1] != ahead:
        wrong.append(f"{table.positions[-1]} are ahead, in the model: {ahead}")
    if wrong:
        happened = ", ".join(map(str, path))
        raise Mismatch(
            "\n".join([*wrong, f"max_running={before.max_running}, {before.max_each} each, after: {happened}"])
        )
    return model


def _shape(model: LaneModel, table: DrivenTable) -> object:
    """Return what decides everything that can still happen: turns are told by their place."""
    alive = [turn for _, turn in sorted(model.holder.items())]
    alive += [turn for _, line in sorted(model.line.items()) for turn in line]
    place = {turn: number for number, turn in enumerate(alive)}
    return (
        tuple(model.keys[turn] for turn in alive),
        len(model.holder),
        tuple(sorted(model.paused)),
        tuple(model.principals[turn] for turn in alive) if model.max_each is not None else (),
        tuple(model.ready),
        tuple(model.parked),
        frozenset((of, frozenset(place[turn] for turn in shared)) for of, shared in table.state().slots),
        tuple(tuple(place[parent] for parent in model.chain(model.parents[turn])) for turn in alive),
        tuple(tuple(place[turn] for turn in lenders) for lenders in table.lenders()),
    )
