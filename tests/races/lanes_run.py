"""Runs a plan on lanes, on a seeded loop, and says what went wrong."""

# pyright: reportPrivateUsage=false

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from races.expected import policy_allows
from races.ledger import Ledger
from races.plans import Cancel, MergeRefused, Operation, Plan, Steers, Visit, drops_oldest
from races.runner import MakeLanes, Result, plain_lanes, run_whole
from support.lanes_invariants import broken_promises, leftovers
from support.seeded_loop import LoopClock, SeededLoop
from turnlane import Interrupt, Turn, errors

__all__ = ("run_plan",)


class OwnError(Exception):
    """What the code of a turn raises in these plans."""


@dataclass(slots=True)
class Caller:
    """One task of a run. `cancelled` tells whether the run cancelled it, `outcome` how it ended."""

    visit: Visit
    task: "asyncio.Task[None] | None" = None
    cancelled: bool = False


class LanesRun:
    """One run of a plan.

    Two detectors watch for turns that overlap and know nothing of each other: a mark that each turn's body sets and
    takes away, and the table's holder.

    Mutable: all of it; `wrong` collects what was broken, so that one problem does not hide behind the ruin it makes.
    """

    def __init__(self, plan: Plan, loop: SeededLoop, make_lanes: MakeLanes, cancels: Sequence[Cancel]) -> None:
        self.plan = plan
        self.loop = loop
        self.lanes = make_lanes(plan.max_running, LoopClock(loop))
        self.wrong: list[str] = []
        self.callers: list[Caller] = []
        self.inside: dict[str, Turn] = {}
        self.joined: dict[str, set[Turn]] = {}
        self.order: dict[str, list[int]] = {}
        self.tokens: dict[str, list[int]] = {}
        self.begun: set[str] = set()
        self.outcomes: dict[str, int] = {}
        self.arrivals = itertools.count(1)
        self.arrived = 0
        self.ledger = Ledger(self.wrong)
        self.interrupting = {visit.key for visit in plan.all_visits() if isinstance(visit.policy, Interrupt)}
        self.interrupting |= {visit.key for visit in plan.all_visits() if drops_oldest(visit.policy)}
        self.interrupting |= {operation.key for operation in plan.operations if operation.what == "interrupt"}
        self.drains = any(operation.what == "drain" for operation in plan.operations)
        for cancel in cancels:
            loop.before(cancel.step, partial(self._cancel, cancel.task))

    async def main(self) -> None:
        """Start everybody, wait for everybody."""
        for visit in self.plan.visits:
            self._spawn(visit)
        operator = asyncio.get_running_loop().create_task(self._operate())
        for caller in self.callers:  # grows while it is walked over
            if caller.task is not None:
                await asyncio.wait((caller.task,))
        await operator

    def check_end(self) -> None:
        """Check what must hold when everybody has gone."""
        self.wrong += leftovers(self.lanes)
        if self.loop.armed():
            self.wrong.append(f"timers are armed while nobody waits: {self.loop.armed()}")
        if self.inside:
            self.wrong.append(f"still inside: {self.inside}")
        for key, order in self.order.items():
            if order != sorted(order):
                self.wrong.append(f"turns of {key!r} began in this order of arrival: {order}")
        counted = sum(self.lanes.statistics().totals.values())
        self.ledger.check_end(set(range(1, self.arrived + 1)))
        if counted != self.arrived:
            self.wrong.append(f"{self.arrived} turns arrived, {counted} are counted")

    def result(self) -> Result:
        """Return what the run took."""
        return Result(self.loop.steps, len(self.callers), self.outcomes)

    # -- one task

    def _spawn(self, visit: Visit, joined: Turn | None = None) -> None:
        caller = Caller(visit)
        self.callers.append(caller)
        work = partial(self._visit, caller, visit) if joined is None else partial(self._join, visit, joined)
        caller.task = asyncio.get_running_loop().create_task(self._call(caller, work))

    def _cancel(self, number: int) -> None:
        if number < len(self.callers):
            caller = self.callers[number]
            if caller.task is not None and caller.task.cancel():
                caller.cancelled = True

    async def _call(self, caller: Caller, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.current_task()
        try:
            await work()
        except asyncio.CancelledError:
            if not caller.cancelled and not self.loop.ending:
                self.wrong.append(f"a task was cancelled by nobody: {caller.visit}")
        except Exception as error:
            self.wrong.append(f"{caller.visit} ended with {error!r}")
        if task is not None and task.cancelling() and not caller.cancelled and not self.loop.ending:
            self.wrong.append(f"a cancellation was not taken back: {caller.visit}")

    async def _visit(self, caller: Caller, visit: Visit) -> None:
        await self._pass(visit.delay)
        number = next(self.arrivals)
        ahead = self._waiting(visit.key) if isinstance(visit.policy, Interrupt) else frozenset[str]()
        self.arrived += 1
        begun = False
        try:
            async with self.lanes.turn(
                visit.key, policy=visit.policy, turn_timeout=visit.turn_timeout, message=number
            ) as turn:
                begun = True
                self._begin(visit, number, turn, ahead)
                try:
                    await self._body(caller, visit, turn)
                finally:
                    self._end(visit, turn)
        except (errors.LaneError, OwnError, MergeRefused) as error:
            self._note(type(error).__name__)
            if not begun:
                self.ledger.refuse(number, error)
            if not self._expected(visit, error):
                self.wrong.append(f"{visit} ended with {error!r}")
        except asyncio.CancelledError:
            self._note("cancelled")
            self.ledger.cancelled.add(number)
            raise
        else:
            self._note("completed")

    async def _join(self, visit: Visit, turn: Turn) -> None:
        """Be a call that joined a turn; one that comes too late would be a turn of its own, and is none here."""
        gate, task = self.lanes.gate, asyncio.current_task()
        if not turn.running:
            return
        gate.join(turn, task)
        self.joined.setdefault(turn.key, set()).add(turn)
        try:
            try:
                await self._pass(2)
                self._holds(turn)
                await asyncio.sleep(visit.joined or 0.0)
            finally:
                self._holds(turn)
                self.joined[turn.key].discard(turn)
        except BaseException as caught:
            replacement = gate.unjoin(turn, task, caught)
            if replacement is None:
                raise
            self._note(f"joined {type(replacement).__name__}")
            if not self._expected(visit, replacement):
                self.wrong.append(f"a call that joined {visit} ended with {replacement!r}")
        else:
            gate.unjoin(turn, task)
            self._note("joined completed")

    async def _body(self, caller: Caller, visit: Visit, turn: Turn) -> None:
        if visit.spawned is not None:
            self._spawn(visit.spawned)
        if visit.joined is not None:
            self._spawn(visit, joined=turn)
        try:
            await self._stay(caller, visit, turn)
        except asyncio.CancelledError:
            if visit.on_cancel == "end":
                raise
            await self._pass(2, turn)
            if visit.on_cancel == "clean up":
                raise
        if visit.raises:
            raise OwnError

    async def _stay(self, caller: Caller, visit: Visit, turn: Turn) -> None:
        try:
            async with asyncio.timeout(visit.own_timeout):
                await self._pass(visit.hold, turn, visit.steers)
                if visit.inside is not None:
                    await self._visit(caller, visit.inside)
                    self._still_there(turn)
                if visit.sleep:
                    await asyncio.sleep(visit.sleep)
                await self._pass(visit.hold, turn, visit.steers)
        except TimeoutError:
            self._note("own timeout")

    async def _pass(self, passes: int, turn: Turn | None = None, steers: Steers = "no") -> None:
        for _ in range(passes):
            await asyncio.sleep(0)
            if turn is not None:
                self._still_there(turn)
            if turn is not None and steers != "no":
                self.ledger.take(turn, finish=steers == "done")

    # -- the detectors

    def _begin(self, visit: Visit, number: int, turn: Turn, ahead: frozenset[str]) -> None:
        other = self.inside.get(visit.key) or next(iter(self.joined.get(visit.key, ())), None)
        if other is not None:
            self.wrong.append(f"{turn} began while {other} was inside")
        self.inside[visit.key] = turn
        self.ledger.begin(number, turn)
        self._still_there(turn)
        self.order.setdefault(visit.key, []).append(number)
        tokens = self.tokens.setdefault(visit.key, [0])
        if turn.token <= tokens[-1]:
            self.wrong.append(f"the token of {turn} does not grow: {tokens}")
        tokens.append(turn.token)
        if turn.id in self.begun or ahead & self.begun:
            self.wrong.append(f"{turn} began, but before it began of those it superseded: {ahead & self.begun}")
        self.begun.add(turn.id)

    def _end(self, visit: Visit, turn: Turn) -> None:
        self._still_there(turn)
        if self.inside.get(visit.key) is turn:
            del self.inside[visit.key]

    def _still_there(self, turn: Turn) -> None:
        if self.inside.get(turn.key) is not turn:
            self.wrong.append(f"{self.inside.get(turn.key)} is inside beside {turn}")
        self._holds(turn)

    def _holds(self, turn: Turn) -> None:
        if self.lanes.gate.table.holders.get(turn.key) is not turn or not turn.running:
            self.wrong.append(f"{turn} runs, the table has {self.lanes.gate.table.holders.get(turn.key)}")

    def look_inside(self) -> None:
        """Check the table; called after every step of the loop."""
        if not self.wrong:
            self.wrong += broken_promises(self.lanes.gate.table)

    def _waiting(self, key: str) -> frozenset[str]:
        return frozenset(turn.turn for lane in self.lanes.snapshot() if lane.key == key for turn in lane.waiting)

    def _note(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def _expected(self, visit: Visit, error: BaseException) -> bool:
        """Tell whether a visit may end with an error; an interrupted one may have been so in a turn around it."""
        match error:
            case errors.CapacityExceeded():
                return self.plan.max_running is not None and policy_allows(visit.policy, error)
            case errors.TurnInterrupted():
                return visit.key in self.interrupting
            case errors.TurnTimeout():
                return error.turn_timeout == visit.turn_timeout
            case errors.LaneReentry():
                return error.cycle[0] == visit.key
            case errors.LanesDraining():
                return self.drains
            case OwnError():
                return visit.raises
            case _:
                return policy_allows(visit.policy, error)

    # -- the operator

    async def _operate(self) -> None:
        for operation in self.plan.operations:
            await self._pass(operation.delay)
            await self._do(operation)

    async def _do(self, operation: Operation) -> None:
        match operation.what:
            case "pause":
                self.lanes.pause(operation.key)
            case "resume":
                self.lanes.resume(operation.key)
            case "interrupt":
                self.lanes.interrupt(operation.key, grace=operation.grace)
            case "drain":
                left = await self.lanes.drain()
                if left or self.inside:
                    self.wrong.append(f"drained with {left} running")


def run_plan(
    plan: Plan,
    seed: int | None,
    cancels: Sequence[Cancel] = (),
    *,
    make_lanes: MakeLanes = plain_lanes,
    look_inside: bool = True,
) -> Result:
    """Run a plan once; `seed` draws the order of the loop, None is the order of a plain loop.

    Raises:
        Finding: a promise was broken.
    """
    return run_whole(
        lambda loop: LanesRun(plan, loop, make_lanes, cancels),
        seed,
        look_inside=look_inside,
        again=lambda: f"again: run_plan(plan, {seed}, {list(cancels)}) with\n{plan}",
    )
