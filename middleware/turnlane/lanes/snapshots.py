"""What lanes look like at one moment, for people and their tools."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from turnlane.engines.base import LaneView, TicketView
from turnlane.lanes.table import Table

__all__ = ("LaneSnapshot", "LanesStatistics", "TurnSnapshot", "snapshot_of_table", "snapshot_of_views")


@dataclass(frozen=True, slots=True, kw_only=True)
class LanesStatistics:
    """What the lanes do at one moment. `totals` counts turns by outcome since the lanes were made."""

    lanes: int
    running: int
    waiting: int
    totals: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSnapshot:
    """A turn at one moment: `age` is the seconds it has run, or waited."""

    turn: str
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSnapshot:
    """A lane at one moment: who holds it, since when (seconds since the epoch), who waits in which order."""

    key: str
    holder: TurnSnapshot | None
    since: float | None
    waiting: tuple[TurnSnapshot, ...]
    paused: bool


def snapshot_of_table(table: Table, *, now: float, wall: float) -> tuple[LaneSnapshot, ...]:
    """Return the lanes of this process, by key."""
    lanes: list[LaneSnapshot] = []
    for key in sorted(table.holders.keys() | table.lines.keys()):
        holder, line = table.holders.get(key), table.lines.get(key)
        waiting = [TurnSnapshot(turn=waiter.turn.id, age=now - waiter.turn._started) for waiter in (line or ())]
        age = None if holder is None else now - holder._started
        lanes.append(
            LaneSnapshot(
                key=key,
                holder=None if holder is None or age is None else TurnSnapshot(turn=holder.id, age=age),
                since=None if age is None else wall - age,
                waiting=tuple(waiting),
                paused=line is not None and line.paused,
            )
        )
    return tuple(lanes)


def snapshot_of_views(views: Iterable[LaneView], *, wall: float) -> tuple[LaneSnapshot, ...]:
    """Return lanes as an engine sees them."""
    return tuple(
        LaneSnapshot(
            key=view.key,
            holder=None if view.holder is None else _turn(view.holder),
            since=None if view.holder is None else wall - view.holder.age,
            waiting=tuple(_turn(ticket) for ticket in view.waiting),
            paused=view.paused,
        )
        for view in views
    )


def _turn(view: TicketView) -> TurnSnapshot:
    return TurnSnapshot(turn=view.ticket, age=view.age)
