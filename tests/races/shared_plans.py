"""Plans of what the turns of several workers do with the lanes they share, drawn from a seed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from races.plans import MergeRefused, OnCancel, Steers
from races.shared_network import LEASE, Weather
from turnlane import Coalesce, Enqueue, Interrupt, Reject, Rollback, Steer
from turnlane.policies import Policy

__all__ = (
    "COALESCES",
    "CUTS",
    "NAMED_SHARED",
    "SharedIncident",
    "SharedOperation",
    "SharedPlan",
    "SharedVisit",
    "draw_shared_plan",
    "drawing",
    "happening",
    "shared_incidents_at",
)

CALM = Weather()
PATIENT = Enqueue(max_waiting=None, wait_timeout=None)
NESTED = Enqueue(max_waiting=None, wait_timeout=2.0)  # chains that cross in two workers end by this
GATHER = Coalesce(window=0.2, merge=tuple, wait_timeout=None)
SHARE = Coalesce(window=0.0, merge=tuple, wait_timeout=None, share_result=True)


@dataclass(frozen=True, slots=True)
class SharedVisit:
    """One turn.

    Attributes:
        worker: in which it is.
        key: whose lane.
        policy: what it does if the lane is busy.
        delay: seconds before it arrives.
        hold: seconds it stays.
        turn_timeout: as for `lanes.turn`.
        on_cancel: what its code makes of a cancellation: ends, ends after a moment, or goes on as if there was none.
        raises: whether it ends with an error of its own.
        inside: a turn its own task runs inside it, in the same worker.
        steers: what it does with messages that are offered to it.
        private: whether its message is one that only its own process can read.
        principal: who it is for.
        pays: whether it takes back what is to be taken back.
    """

    worker: int
    key: str = "a"
    policy: Policy = PATIENT
    delay: float = 0.0
    hold: float = 0.1
    turn_timeout: float | None = None
    on_cancel: OnCancel = "end"
    raises: bool = False
    inside: "SharedVisit | None" = None
    steers: Steers = "no"
    private: bool = False
    principal: str | None = None
    pays: bool = True

    def all(self) -> "list[SharedVisit]":
        """Return this visit and all below it."""
        return [self] if self.inside is None else [self, *self.inside.all()]

    def __str__(self) -> str:
        """Only what differs from the plain visit."""
        plain, parts = SharedVisit(self.worker), [repr(self.worker)]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != getattr(plain, field.name):
                parts.append(f"{field.name}={_shown(value)}")
        return f"SharedVisit({', '.join(parts)})"


@dataclass(frozen=True, slots=True)
class SharedOperation:
    """What an operator of a worker does so many seconds after the operation before it."""

    what: Literal["pause", "resume", "interrupt", "drain", "close", "open"]
    worker: int
    key: str = "a"
    delay: float = 0.0
    grace: float = 0.0


@dataclass(frozen=True, slots=True)
class SharedIncident:
    """What happens just before a step: to the task of that number, or to the worker of that number, counted round."""

    step: int
    what: Literal["cancel", "kill", "cut", "long cut", "loss", "close"]
    number: int


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """What happens in one run; `weather` is what the network does by itself."""

    visits: tuple[SharedVisit, ...]
    workers: int = 2
    weather: Weather = CALM
    max_running: int | None = None
    operations: tuple[SharedOperation, ...] = ()

    def all_visits(self) -> list[SharedVisit]:
        """Return every visit."""
        return [visit for top in self.visits for visit in top.all()]

    def __str__(self) -> str:
        lines = ["SharedPlan((", *(f"    {visit}," for visit in self.visits)]
        rest = f"{self.workers}, {self.weather}, {self.max_running}"
        return "\n".join([*lines, f"), {rest}, operations={self.operations})"])


def _shown(value: object) -> str:
    if isinstance(value, Coalesce) and value in COALESCES:  # whose merge can not be written down
        return f"COALESCES[{COALESCES.index(value)}]"
    return str(value) if isinstance(value, SharedVisit) else repr(value)


def shared_incidents_at(step: int, task: int) -> tuple[SharedIncident, ...]:
    """Return what can happen to a task, or its worker, just before a step."""
    found: list[Any] = ["cancel", "kill", "cut", "long cut", "loss", "close"]
    return tuple(SharedIncident(step, what, task) for what in found)


def happening(whats: Sequence[str]) -> Callable[[int, int], tuple[SharedIncident, ...]]:
    """Return what draws only such incidents; any, if none is named."""

    def incidents(step: int, task: int) -> tuple[SharedIncident, ...]:
        found = shared_incidents_at(step, task)
        return tuple(incident for incident in found if incident.what in whats) if whats else found

    return incidents


CUTS = {"cut": LEASE / 4, "long cut": 1.7 * LEASE}
"""Seconds for which a worker is cut off."""


def refuse_to_merge(messages: Sequence[Any]) -> object:
    """Merge nothing."""
    raise MergeRefused(tuple(messages))


COALESCES: tuple[Coalesce, ...] = (
    GATHER,
    GATHER,
    SHARE,
    SHARE,
    Coalesce(window=0.2, wait_timeout=1.0, max_merged=2),
    Coalesce(window=0.5, wait_timeout=None, max_merged=2, overflow="oldest"),
    Coalesce(window=0.0, merge=refuse_to_merge, wait_timeout=None),
)
"""Those of equal terms meet in one group, so there are few."""

ONLY: tuple[tuple[Policy, ...], ...] = (
    (PATIENT,),
    COALESCES[:4],
    (COALESCES[-1], COALESCES[-1], PATIENT),
    (Steer(), GATHER),
)
"""Policies of which a plan may have no others."""

STORM = Weather(delay=0.3, loses=0.4, fails=0.15, failures=4)

NAMED_SHARED: dict[str, SharedPlan] = {
    "three in line": SharedPlan((SharedVisit(0), SharedVisit(1), SharedVisit(0)), weather=STORM),
    "where a death is known at once": SharedPlan(
        (SharedVisit(0), SharedVisit(1), SharedVisit(0)),
        weather=Weather(leased=False, immediate=True, delay=0.1, loses=0.4, fails=0.2, failures=3),
    ),
    "a long turn that is waited for": SharedPlan(
        (SharedVisit(0, hold=2 * LEASE), SharedVisit(1, delay=0.1), SharedVisit(0, delay=0.2)),
    ),
    "a line that is lost": SharedPlan(
        (SharedVisit(0, hold=LEASE), *(SharedVisit(worker, delay=0.1) for worker in (0, 1, 0, 1))),
        weather=Weather(delay=0.05),
    ),
    "an interruption from elsewhere": SharedPlan(
        (
            SharedVisit(0, hold=2 * LEASE, on_cancel="clean up"),
            SharedVisit(1, delay=0.1),
            SharedVisit(1, policy=Interrupt(grace=0.2), delay=0.3),
            SharedVisit(0, delay=0.4),
        ),
        weather=Weather(delay=0.2, loses=0.3),
    ),
    "a message that takes back": SharedPlan(
        (
            SharedVisit(0, hold=2 * LEASE, on_cancel="clean up"),
            SharedVisit(1, policy=Rollback(grace=0.0), delay=0.3, pays=False),
            SharedVisit(0, delay=0.4),
            SharedVisit(1, delay=0.5),
        )
    ),
    "three that become one turn": SharedPlan(
        (SharedVisit(0, hold=1.0), *(SharedVisit(worker, policy=GATHER, delay=0.3) for worker in (1, 0, 1))),
        weather=Weather(delay=0.1, loses=0.3, fails=0.1, failures=2),
    ),
    "three that share a result": SharedPlan(
        (SharedVisit(0, hold=1.0), *(SharedVisit(worker, policy=SHARE, delay=0.3) for worker in (1, 0, 1))),
        weather=Weather(delay=0.1, loses=0.3),
    ),
    "messages that can not be merged": SharedPlan(
        (SharedVisit(0, hold=1.0), *(SharedVisit(worker, policy=COALESCES[-1], delay=0.3) for worker in (1, 0, 1)))
    ),
    "messages for a turn elsewhere": SharedPlan(
        (
            SharedVisit(0, hold=1.0, steers="done"),
            SharedVisit(1, policy=Steer(), delay=0.2),
            SharedVisit(0, policy=Steer(), delay=0.3),
            SharedVisit(1, delay=0.3),
        ),
        weather=Weather(delay=0.1, fails=0.2, failures=2),
    ),
    "one running slot in each": SharedPlan(
        (
            SharedVisit(0, "a", hold=1.0),
            SharedVisit(1, "b", hold=1.0),
            SharedVisit(0, "b"),
            SharedVisit(1, "a"),
            SharedVisit(0, "c", delay=0.1),
        ),
        max_running=1,
        weather=Weather(delay=0.1),
    ),
    "a slot that is waited for": SharedPlan(
        (
            SharedVisit(0, "b", hold=2 * LEASE),
            SharedVisit(0, delay=0.1, hold=2 * LEASE),
            SharedVisit(1, delay=0.2, hold=2 * LEASE),
        ),
        max_running=1,
    ),
    "a grant that comes late": SharedPlan(
        (SharedVisit(0, hold=1.0), SharedVisit(1, delay=0.1), SharedVisit(2, delay=0.2, hold=2 * LEASE)), workers=3
    ),
    "paused here, resumed there": SharedPlan(
        (SharedVisit(0, delay=0.2), SharedVisit(1, delay=0.3)),
        operations=(SharedOperation("pause", 0), SharedOperation("resume", 1, delay=1.0)),
    ),
    "closed while a turn runs": SharedPlan(
        (
            SharedVisit(0, hold=1.0, inside=SharedVisit(0, "b", NESTED)),
            SharedVisit(1, delay=0.1),
            SharedVisit(0, delay=1.5),
        ),
        operations=(SharedOperation("close", 0, delay=0.3), SharedOperation("open", 0, delay=0.4)),
    ),
}
"""Small plans, each for one way in which a lane changes hands between workers."""


def drawing(name: str) -> Callable[[random.Random, bool], SharedPlan]:
    """Return what draws the plan of that name."""
    return lambda _rng, _large: NAMED_SHARED[name]


def draw_shared_plan(rng: random.Random, large: bool) -> SharedPlan:
    """Draw a plan: a quarter of one kind of policy, the rest mixes everything there is."""
    workers = rng.randint(2, 4) if large else 2
    tasks, keys = (rng.randint(4, 9), rng.randint(1, 3)) if large else (rng.randint(2, 4), rng.randint(1, 2))
    names = "abc"[:keys]
    only: Sequence[Policy] | None = rng.choice((None, None, None, *ONLY))
    nested = rng.choice((0.0, 0.0, 0.3))
    visits = tuple(_draw_visit(rng, workers, names, only, nested) for _ in range(tasks))
    operations = _draw_operations(rng, workers, names) if rng.random() < 0.3 else ()
    return SharedPlan(visits, workers, _draw_weather(rng), rng.choice((None, None, 1, 2)), operations)


def _draw_weather(rng: random.Random) -> Weather:
    leased = rng.random() < 0.7
    fails = rng.choice((0.0, 0.0, 0.1, 0.3))
    return Weather(
        leased=leased,
        immediate=rng.random() < 0.7,
        delay=rng.choice((0.0, 0.05, 0.3)),
        loses=rng.choice((0.0, 0.0, 0.3, 1.0)),
        fails=fails,
        failures=rng.randint(1, 6) if fails else 0,
    )


def _draw_visit(
    rng: random.Random, workers: int, names: str, only: Sequence[Policy] | None, nested: float
) -> SharedVisit:
    worker = rng.randrange(workers)
    inside = None
    if rng.random() < nested:
        policy: Policy = rng.choice((NESTED, NESTED, Reject()))
        inside = SharedVisit(worker, rng.choice(names), policy, hold=rng.choice((0.0, 0.3)))
    return SharedVisit(
        worker,
        rng.choice(names),
        policy=_draw_policy(rng) if only is None else rng.choice(only),
        delay=rng.choice((0.0, 0.0, 0.01, 0.1, 0.3, 1.0)),
        hold=rng.choice((0.0, 0.05, 0.2, 0.6, 1.5, 2 * LEASE)),
        turn_timeout=rng.choice((None, None, None, 0.5)),
        on_cancel=rng.choice(("end", "end", "clean up", "swallow")),
        raises=rng.random() < 0.1,
        inside=inside,
        steers=rng.choice(("no", "take", "done", "done")),
        private=rng.random() < 0.15,
        principal=rng.choice((None, None, None, "alice")),
        pays=rng.random() < 0.7,
    )


def _draw_policy(rng: random.Random) -> Policy:
    choice = rng.randrange(16)
    if choice >= 13:
        return Steer(max_waiting=rng.choice((None, 1)), wait_timeout=rng.choice((None, 0.5, 1.0)))
    if choice >= 10:
        return rng.choice(COALESCES)
    if choice < 4:
        return PATIENT
    if choice < 5:
        return Enqueue(max_waiting=rng.randrange(3), wait_timeout=None)
    if choice < 6:
        return Enqueue(max_waiting=None, wait_timeout=rng.choice((0.0, 0.5, 1.0)))
    if choice < 7:
        return Reject()
    if choice < 8:
        return Rollback(grace=rng.choice((0.0, 0.3)), wait_timeout=None)
    return Interrupt(grace=rng.choice((0.0, 0.0, 0.5)), wait_timeout=rng.choice((None, 1.0)))


def _draw_operations(rng: random.Random, workers: int, names: str) -> tuple[SharedOperation, ...]:
    found: list[SharedOperation] = []

    def add(what: Any, worker: int, key: str = "") -> None:
        delay, grace = rng.choice((0.0, 0.1, 0.3, 1.0)), rng.choice((0.0, 0.3))
        found.append(SharedOperation(what, worker, key, delay, grace))

    for _ in range(rng.randint(1, 2)):
        key, worker = rng.choice(names), rng.randrange(workers)
        if rng.random() < 0.5:
            add("pause", worker, key)
            add("resume", rng.randrange(workers), key)
        else:
            add("interrupt", worker, key)
    if rng.random() < 0.4:
        worker = rng.randrange(workers)
        add(rng.choice(("close", "close", "drain")), worker)
        if rng.random() < 0.7:
            add("open", worker)
    return tuple(found)
