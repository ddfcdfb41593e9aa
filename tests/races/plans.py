"""Plans of what tasks do with lanes, drawn from a seed and small enough to be read in a failure."""

import random
from dataclasses import dataclass, fields
from typing import Literal

from turnlane import Coalesce, Enqueue, Interrupt, Reject, Steer
from turnlane.policies import Policy

__all__ = (
    "FOREVER",
    "NAMED",
    "Cancel",
    "MergeRefused",
    "Operation",
    "Plan",
    "Steers",
    "Visit",
    "cancels_at",
    "draw_plan",
    "drops_oldest",
)

FOREVER = Enqueue(max_waiting=None, wait_timeout=None)

Steers = Literal["no", "take", "done"]
OnCancel = Literal["end", "clean up", "swallow"]

GATHER = Coalesce(window=0.5, merge=tuple, wait_timeout=None)


@dataclass(frozen=True, slots=True)
class Visit:
    """One turn of a task.

    Attributes:
        key: whose lane.
        policy: what it does if the lane is busy.
        delay: loop passes before it arrives.
        hold: loop passes it stays.
        sleep: seconds it stays besides.
        turn_timeout: as for `lanes.turn`.
        on_cancel: what its code makes of a cancellation: ends, ends after two passes, or goes on as if there was none.
        raises: whether it ends with an error of its own.
        inside: a turn its own task runs inside it.
        spawned: a turn that a task it starts runs, which it does not wait for.
        joined: seconds that a task it starts, and does not wait for, stays in the same turn, as a joined call does.
        own_timeout: seconds of an `asyncio.timeout` around its stay, inside the turn.
        steers: what it does with messages that are offered to it: nothing, takes them, or is also done with them.
    """

    key: str
    policy: Policy = FOREVER
    delay: int = 0
    hold: int = 1
    sleep: float = 0.0
    turn_timeout: float | None = None
    on_cancel: OnCancel = "end"
    raises: bool = False
    inside: "Visit | None" = None
    spawned: "Visit | None" = None
    joined: float | None = None
    own_timeout: float | None = None
    steers: Steers = "no"

    def all(self) -> "list[Visit]":
        """Return this visit and all below it."""
        below = [visit for child in (self.inside, self.spawned) if child is not None for visit in child.all()]
        return [self, *below]

    def __str__(self) -> str:
        """Only what differs from the plain visit."""
        return shown(self, Visit(self.key))


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operator does `delay` passes after the operation before it."""

    what: Literal["pause", "resume", "interrupt", "drain"]
    key: str = ""
    delay: int = 1
    grace: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a task just before a step: the main task of a visit, or, counting on, the spawned ones in order."""

    step: int
    task: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in one run."""

    visits: tuple[Visit, ...]
    max_running: int | None = None
    operations: tuple[Operation, ...] = ()

    def all_visits(self) -> list[Visit]:
        """Return every visit."""
        return [visit for top in self.visits for visit in top.all()]

    def __str__(self) -> str:
        lines = [f"Plan(max_running={self.max_running}, visits=("]
        lines += [f"    {visit}," for visit in self.visits]
        lines += [f"), operations={self.operations})" if self.operations else "))"]
        return "\n".join(lines)


NAMED: dict[str, Plan] = {
    "three in line": Plan((Visit("a"), Visit("a"), Visit("a"))),
    "two lines, one running slot": Plan((Visit("a"), Visit("b"), Visit("a"), Visit("b")), max_running=1),
    "two lines, two running slots": Plan((Visit("a"), Visit("a"), Visit("b"), Visit("c")), max_running=2),
    "a nested turn behind a stranger who needs the slot": Plan(
        (Visit("a", hold=2, inside=Visit("b")), Visit("b", delay=1), Visit("a", delay=2)), max_running=1
    ),
    "two chains that cross": Plan((Visit("a", hold=2, inside=Visit("b")), Visit("b", hold=2, inside=Visit("a")))),
    "tasks that outlive their turn": Plan(
        (Visit("a", spawned=Visit("b", delay=1, hold=2)), Visit("b", hold=3), Visit("c", delay=2, inside=Visit("b"))),
        max_running=1,
    ),
    "a call that joined and outlives the block": Plan(
        (Visit("a", joined=1.0), Visit("a", delay=1), Visit("a", delay=2))
    ),
    "a call that joined is interrupted": Plan(
        (Visit("a", sleep=2.0, joined=4.0), Visit("a", Interrupt(grace=0.5), delay=2, joined=0.0), Visit("a", delay=3))
    ),
    "an interruption with a cleanup": Plan(
        (
            Visit("a", sleep=3.0, on_cancel="clean up"),
            Visit("a", delay=1),
            Visit("a", Interrupt(grace=0.0), delay=2),
            Visit("a", delay=3),
        )
    ),
    "an interruption that is swallowed": Plan(
        (Visit("a", sleep=3.0, on_cancel="swallow"), Visit("a", Interrupt(grace=0.5, wait_timeout=4.0), delay=2))
    ),
    "an interruption interrupted": Plan(
        (
            Visit("a", sleep=3.0, on_cancel="clean up"),
            Visit("a", Interrupt(grace=0.0), delay=2, hold=0, sleep=1.0),
            Visit("a", Interrupt(grace=0.0), delay=3),
        )
    ),
    "waits that time out as the lane is let go": Plan(
        (
            Visit("a", sleep=1.0),
            Visit("a", Enqueue(wait_timeout=1.0), delay=1),
            Visit("a", Enqueue(wait_timeout=1.0), delay=2),
        )
    ),
    "a turn that times out while another waits": Plan(
        (Visit("a", sleep=3.0, turn_timeout=1.0, on_cancel="clean up"), Visit("a", turn_timeout=1.0, sleep=3.0))
    ),
    "a lane that is paused and resumed": Plan(
        (Visit("a", delay=2), Visit("a", delay=3), Visit("b", delay=3)),
        max_running=1,
        operations=(Operation("pause", "a"), Operation("resume", "a", delay=8)),
    ),
    "three that become one turn": Plan(
        (Visit("a", hold=3), *(Visit("a", GATHER, delay=delay) for delay in (1, 1, 2)), Visit("a", delay=3))
    ),
    "two groups with a stranger between": Plan(
        (Visit("a", hold=3), Visit("a", GATHER), Visit("a"), Visit("a", GATHER), Visit("a", GATHER, delay=2))
    ),
    "a group behind an interruption": Plan(
        (Visit("a", hold=3), Visit("a", GATHER), Visit("a", GATHER), Visit("a", Interrupt(grace=0.0), delay=3))
    ),
    "messages for a turn that takes one and is done with it": Plan(
        (
            Visit("a", hold=4, steers="done"),
            Visit("a", Steer(), delay=1),
            Visit("a", delay=1),
            Visit("a", Steer(), delay=3),
        )
    ),
    "messages for a turn that takes them and is done with none": Plan(
        (
            Visit("a", hold=4, steers="take"),
            Visit("a", Steer(), delay=1),
            Visit("a", Steer(), delay=2),
            Visit("a", GATHER),
        )
    ),
    "a drain while some wait": Plan(
        (Visit("a", hold=4), Visit("a", delay=1), Visit("b", hold=2, inside=Visit("a"))),
        operations=(Operation("drain", delay=5),),
    ),
}
"""Small plans worth every cancellation there is, each for one way in which a lane changes hands."""


def shown(visit: Visit, plain: Visit) -> str:
    """Write a visit as the call that makes it."""
    parts = [repr(visit.key)]
    for field in fields(visit)[1:]:
        value = getattr(visit, field.name)
        if value != getattr(plain, field.name):
            parts.append(f"{field.name}={value}" if isinstance(value, Visit) else f"{field.name}={value!r}")
    return f"Visit({', '.join(parts)})"


def cancels_at(step: int, task: int) -> tuple[Cancel, ...]:
    """Return what can happen to a task just before a step."""
    return (Cancel(step, task),)


def draw_plan(rng: random.Random, large: bool) -> Plan:
    """Draw a plan: a third are plain (only waiting in line), a quarter talk, the rest mix everything there is."""
    tasks, keys = (rng.randint(4, 8), rng.randint(1, 4)) if large else (rng.randint(2, 4), rng.randint(1, 2))
    names = [chr(ord("a") + number) for number in range(keys)]
    if rng.random() < 0.25:
        return Plan(tuple(_draw_talk(rng, names[0]) for _ in range(tasks)), rng.choice((None, 1)))
    plain = rng.random() < 0.35
    nested = 0.0 if plain else rng.choice((0.0, 0.4))
    visits = tuple(_draw_visit(rng, names, plain=plain, nested=nested) for _ in range(tasks))
    operations: tuple[Operation, ...] = ()
    if not plain and rng.random() < 0.35:
        operations = _draw_operations(rng, names)
    return Plan(visits, rng.choice((None, 1, 2)), operations)


def _draw_visit(rng: random.Random, names: list[str], *, plain: bool, nested: float) -> Visit:
    key, delay, hold = rng.choice(names), rng.randrange(4), rng.randrange(4)
    if plain:
        return Visit(key, delay=delay, hold=hold)
    inside = _draw_visit(rng, names, plain=plain, nested=nested / 2) if rng.random() < nested else None
    spawned = _draw_visit(rng, names, plain=plain, nested=nested / 2) if rng.random() < nested / 2 else None
    return Visit(
        key,
        policy=_draw_policy(rng),
        delay=delay,
        hold=hold,
        sleep=rng.choice((0.0, 0.0, 0.0, 1.0, 3.0)),
        turn_timeout=rng.choice((None, None, None, 0.5, 1.0)),
        on_cancel=rng.choice(("end", "end", "clean up", "swallow")),
        raises=rng.random() < 0.1,
        inside=inside,
        spawned=spawned,
        joined=rng.choice((None, None, None, None, 0.0, 1.0)),
        own_timeout=rng.choice((None, None, None, 0.5, 1.0)),
        steers=rng.choice(("no", "take", "done")),
    )


def _draw_talk(rng: random.Random, key: str) -> Visit:
    """Draw a visit of one lane in which messages become part of other turns."""
    policy = rng.choice((GATHER, GATHER, GATHER, Steer(), COALESCES[rng.randrange(len(COALESCES))], FOREVER))
    delay, hold = rng.randrange(4), rng.randrange(4)
    return Visit(key, policy, delay, hold, on_cancel=rng.choice(("end", "clean up")), steers=rng.choice(("no", "done")))


def _draw_policy(rng: random.Random) -> Policy:
    choice = rng.randrange(16)
    if choice >= 13:
        return Steer(max_waiting=rng.choice((None, 1)), wait_timeout=rng.choice((None, 0.5, 1.0)))
    if choice >= 10:
        return rng.choice(COALESCES)
    if choice < 4:
        return FOREVER
    if choice < 5:
        return Enqueue(max_waiting=rng.randrange(3), wait_timeout=None)
    if choice < 7:
        return Enqueue(max_waiting=None, wait_timeout=rng.choice((0.0, 0.5, 1.0)))
    if choice < 8:
        return Reject()
    return Interrupt(grace=rng.choice((0.0, 0.0, 0.5)), wait_timeout=rng.choice((None, 1.0)))


def refuse_to_merge(messages: object) -> object:
    """Merge nothing."""
    raise MergeRefused(messages)


class MergeRefused(Exception):
    """What a `merge` that can not raises."""


COALESCES: tuple[Coalesce, ...] = (
    GATHER,
    GATHER,
    Coalesce(window=0.0, wait_timeout=None, share_result=True),
    Coalesce(window=0.5, wait_timeout=1.0, max_merged=2),
    Coalesce(window=1.0, wait_timeout=None, max_merged=2, overflow="oldest"),
    Coalesce(window=0.0, merge=refuse_to_merge, wait_timeout=None),
)
"""Those of equal terms meet in one group, so there are few."""


def drops_oldest(policy: Policy) -> bool:
    """Tell whether a message with this policy may supersede one that waits."""
    return isinstance(policy, Coalesce) and policy.overflow == "oldest"


def _draw_operations(rng: random.Random, names: list[str]) -> tuple[Operation, ...]:
    operations: list[Operation] = []
    for _ in range(rng.randrange(1, 3)):
        key = rng.choice(names)
        if rng.random() < 0.5:
            operations.append(Operation("pause", key, delay=rng.randrange(4)))
            operations.append(Operation("resume", key, delay=rng.randrange(6)))
        else:
            operations.append(Operation("interrupt", key, rng.randrange(6), rng.choice((0.0, 0.5))))
    if rng.random() < 0.3:
        operations.append(Operation("drain", "", rng.randrange(5)))
    return tuple(operations)
