"""Runs a plan on lanes that several workers share, on a seeded loop, and says what went wrong."""

# pyright: reportPrivateUsage=false

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from races.expected import policy_allows
from races.plans import MergeRefused
from races.runner import Result, run_whole
from races.shared_account import Account, Private, Sent
from races.shared_log import HeardLog
from races.shared_network import LEASE, Network
from races.shared_plans import CUTS, SharedIncident, SharedOperation, SharedPlan, SharedVisit
from races.shared_server import Server
from races.shared_workers import Bug, Worker
from support.seeded_loop import LoopClock, SeededLoop
from turnlane import Interrupt, Lanes, Rollback, Turn, errors

__all__ = ("run_shared",)

PATIENCE = 120.0  # seconds within which everybody has to come to an end
AFTERWARDS = 3 * LEASE + 5.0  # seconds after which nothing may be left of it


class OwnError(Exception):
    """What the code of a turn raises in these plans."""


@dataclass(slots=True, eq=False)
class Caller:
    """One task of a run. `cancelled` tells whether the run cancelled it."""

    visit: SharedVisit
    worker: Worker
    task: "asyncio.Task[None] | None" = None
    cancelled: bool = False
    waits_for: str = ""


@dataclass(slots=True)
class Seen:
    """What was seen of one lane. `owes` tells whether the next turn has to be told so."""

    inside: dict[str, Turn] = field(default_factory=dict[str, Turn])
    last_token: int = 0
    last_rank: int = -1
    owes: bool = False


class SharedRun:
    """One run of a plan.

    Mutable: all of it; `wrong` collects what was broken, so that one problem does not hide behind the ruin it makes.
    """

    def __init__(
        self, plan: SharedPlan, seed: int | None, loop: SeededLoop, bug: Bug, incidents: Sequence[SharedIncident]
    ) -> None:
        self.plan = plan
        self.loop = loop
        self.wrong: list[str] = []
        self.network = Network(plan.weather, random.Random(f"{seed}/network"), loop)
        lease = LEASE if plan.weather.leased else None
        self.server = Server(LoopClock(loop), lease, self.network.post, bug.steps)
        self.workers = [
            Worker(number, bug, self.network, self.server, max_running=plan.max_running)
            for number in range(plan.workers)
        ]
        self.callers: list[Caller] = []
        self.lanes: dict[str, Seen] = {}
        self.outcomes: dict[str, int] = {}
        self.numbers = itertools.count(1)
        self.account = Account(self.wrong)
        self.log = HeardLog()
        self.over = False
        self.closings: list[asyncio.Task[None]] = []
        self.interrupting = {visit.key for visit in plan.all_visits() if isinstance(visit.policy, Interrupt | Rollback)}
        self.interrupting |= {
            visit.key for visit in plan.all_visits() if getattr(visit.policy, "overflow", "") == "oldest"
        }
        self.interrupting |= {operation.key for operation in plan.operations if operation.what == "interrupt"}
        self.drains = any(operation.what in ("drain", "close") for operation in plan.operations)
        self.rng = random.Random(f"{seed}/incidents")
        loop.set_exception_handler(self._heard)
        for incident in incidents:
            loop.before(incident.step, partial(self._happen, incident))

    # -- the run

    async def main(self) -> None:
        """Start everybody, wait for everybody, and until nothing may be left."""
        with self.log:
            for visit in self.plan.visits:
                caller = Caller(visit, self.workers[visit.worker])
                self.callers.append(caller)
                caller.task = self.loop.create_task(self._call(caller))
            operator = self.loop.create_task(self._operate())
            tasks = [caller.task for caller in self.callers if caller.task is not None]
            _, late = await asyncio.wait([*tasks, operator], timeout=PATIENCE)
            if late:
                waiting = [f"{caller.visit} {caller.waits_for}" for caller in self.callers if caller.task in late]
                self.wrong.append(f"after {PATIENCE} s these have not ended: {waiting or late}")
                return
            self.over = True
            await asyncio.sleep(AFTERWARDS)
            self._check_lanes()
            for worker in self.workers:
                await worker.lanes.aclose()
                self.wrong += worker.leftovers(closed=True)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:
                self.wrong.append(f"these tasks are left: {left}")

    def _check_lanes(self) -> None:
        """Check that no lane lives, on the server or in a worker, and nothing else is left of them."""
        for worker in self.workers:
            self.wrong += worker.leftovers()
        for key in self.server.keys:
            self.server.poke(key)
        for key, lane in list(self.server.shared.lanes.items()):
            if lane.owes and lane.held is None:
                del self.server.shared.lanes[key]  # nobody has come yet to take something back
        for seen in self.lanes.values():
            if seen.inside:
                self.wrong.append(f"still inside: {seen.inside}")
        self.wrong += self.server.disorder
        if self.server.keys:
            self.wrong.append(f"lanes are left: {self.server.shared.lanes}, {self.server.shared.lines}")
        if self.loop.armed():
            self.wrong.append(f"timers are armed while nobody waits: {self.loop.armed()}")

    def check_end(self) -> None:
        """Check what must hold when everybody has gone."""
        numbers = {sent.turn: number for number, sent in self.account.sent.items()}
        self.account.unsure |= self.server.displaced  # what they asked for behind the end of their lease was too late
        excused = {numbers[ticket] for _, ticket in self.network.unsettled if ticket in numbers}
        self.account.check_end(excused, all_may_be=self.server.losses > 0)
        self.wrong += self.log.unexpected(failing=self._may_fail)

    def look_inside(self) -> None:
        """Check the tables; called after every step of the loop."""
        if not self.wrong:
            for worker in self.workers:
                self.wrong += worker.broken_promises()

    def result(self) -> Result:
        """Return what the run took."""
        return Result(self.loop.steps, len(self.callers), self.outcomes)

    @property
    def _may_fail(self) -> bool:
        killed = any(worker.killed for worker in self.workers)
        return self.network.troubled or killed or not self.plan.weather.calm

    def _heard(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        if not self.loop.ending:
            self.wrong.append(f"the loop was told: {context.get('message')}: {context.get('exception')!r}")

    # -- incidents and operators

    def _happen(self, incident: SharedIncident) -> None:
        if not self.callers or self.over:
            return
        caller = self.callers[incident.number % len(self.callers)]
        worker = self.workers[incident.number % len(self.workers)]
        if worker.killed or (incident.what == "loss" and not self.plan.weather.leased):
            return
        match incident.what:
            case "cancel":
                if caller.task is not None and not caller.worker.killed and caller.task.cancel():
                    caller.cancelled = True
            case "kill":
                self._kill(worker)
            case "loss":
                self.network.troubled = True
                self.server.lose_data()
            case "close":
                self.drains = True
                self.closings.append(self.loop.create_task(worker.lanes.aclose()))
            case "cut" | "long cut":
                if worker.station is not None:
                    worker.station.cut(CUTS[incident.what])

    def _kill(self, worker: Worker) -> None:
        worker.kill()
        for caller in self.callers:
            if caller.worker is worker and caller.task is not None:
                caller.task.cancel()
        for seen in self.lanes.values():
            for ticket, turn in list(seen.inside.items()):
                if turn._owner is worker.lanes.gate:
                    self.account.unsure.add(ticket)
                    del seen.inside[ticket]
            seen.owes = False  # whether it was asked to take back, nobody knows any more

    async def _operate(self) -> None:
        for operation in self.plan.operations:
            await asyncio.sleep(operation.delay)
            worker = self.workers[operation.worker]
            if operation.what == "open":
                await self._open(worker)
            elif operation.what == "resume":
                await self._resume(operation, worker)
            elif worker.is_open:
                await self._do(operation, worker.lanes)

    async def _open(self, worker: Worker) -> None:
        if not worker.killed:
            await worker.lanes.__aenter__()

    async def _resume(self, operation: SharedOperation, worker: Worker) -> None:
        """Have it resumed by a worker, and look whether that was done, and stays so."""
        if worker.is_open:
            worker.lanes.resume(operation.key)
        for _ in range(4):
            await asyncio.sleep(2 * LEASE if self._may_fail else 1.0)
            self.server.pause("", operation.key, paused=False)

    async def _do(self, operation: SharedOperation, lanes: Lanes) -> None:
        match operation.what:
            case "pause":
                lanes.pause(operation.key)
            case "interrupt":
                lanes.interrupt(operation.key, grace=operation.grace)
            case "drain":
                await lanes.drain(operation.grace)
            case _:
                await lanes.aclose()

    # -- one task

    async def _call(self, caller: Caller) -> None:
        task, killed = asyncio.current_task(), caller.worker
        try:
            await self._visit(caller, caller.visit)
        except asyncio.CancelledError:
            if not (caller.cancelled or killed.killed or self.loop.ending):
                self.wrong.append(f"a task was cancelled by nobody: {caller.visit}")
        except Exception as error:
            if not killed.killed:
                self.wrong.append(f"{caller.visit} ended with {error!r}")
        if task is not None and task.cancelling() and not (caller.cancelled or killed.killed or self.loop.ending):
            self.wrong.append(f"a cancellation was not taken back: {caller.visit}")

    async def _visit(self, caller: Caller, visit: SharedVisit) -> None:
        await asyncio.sleep(visit.delay)
        number = next(self.numbers)
        sent = self.account.sent[number] = Sent(number)
        caller.waits_for = f"waits for {visit.key}"
        scope = caller.worker.lanes.place(
            visit.key,
            policy=visit.policy,
            turn_timeout=visit.turn_timeout,
            message=Private(number) if visit.private else number,
            principal=visit.principal,
        )
        begun: list[Turn] = []
        try:
            async with scope as turn:
                begun.append(turn)
                caller.waits_for = f"runs in {turn}"
                self._begin(visit, number, turn)
                try:
                    await self._body(caller, visit, turn)
                finally:
                    self._end(caller, visit, turn)
                turn.share(f"of {number}")
        except (errors.LaneError, OwnError, MergeRefused) as error:
            self._refused(caller, visit, sent, error, begun=bool(begun))
        except asyncio.CancelledError:
            sent.told = sent.told or "cancelled"
            raise
        else:
            sent.told = "completed"
            for turn in begun:
                if turn._talk is not None and turn._talk.shares:
                    self.account.results[turn.id] = f"of {number}"
        finally:
            sent.turn = scope.turn_id or ""
            self.account.unsure.update(turn.id for turn in begun if turn.lost)
            self._note("killed" if caller.worker.killed else sent.told)

    def _refused(self, caller: Caller, visit: SharedVisit, sent: Sent, error: BaseException, *, begun: bool) -> None:
        if caller.worker.killed:
            sent.told = "killed"
            return
        if not begun:
            self.account.refuse(sent.number, error)
        sent.told = type(error).__name__
        if not self._expected(visit, error):
            self.wrong.append(f"{visit} ended with {error!r}")

    async def _body(self, caller: Caller, visit: SharedVisit, turn: Turn) -> None:
        try:
            await self._stay(visit.hold / 2, visit, turn)
            if visit.inside is not None:
                await self._visit(caller, visit.inside)
            await self._stay(visit.hold / 2, visit, turn)
        except asyncio.CancelledError:
            if visit.on_cancel == "end" or caller.worker.killed:
                raise
            await self._stay(0.3, visit, turn)
            if visit.on_cancel == "clean up":
                raise
        if visit.raises:
            raise OwnError

    async def _stay(self, seconds: float, visit: SharedVisit, turn: Turn) -> None:
        for _ in range(3):
            await asyncio.sleep(seconds / 3)
            self._check(turn)
            if visit.steers != "no":
                self.account.take(turn, finish=visit.steers == "done")

    # -- the detectors

    def _begin(self, visit: SharedVisit, number: int, turn: Turn) -> None:
        seen = self.lanes.setdefault(visit.key, Seen())
        seen.inside[turn.id] = turn
        self.account.begin(number, turn)
        self._check(turn)
        if turn.token <= seen.last_token:
            self.wrong.append(f"the token of {turn} does not grow: the last was {seen.last_token}")
        seen.last_token = max(seen.last_token, turn.token)
        arrivals = self.server.arrivals.get(visit.key, [])
        rank = arrivals.index(turn.id) if turn.id in arrivals else -1
        if rank < seen.last_rank and turn.id not in self.server.displaced | self.server.lent:
            self.wrong.append(f"{turn}, which came as number {rank}, began after number {seen.last_rank}")
        seen.last_rank = max(seen.last_rank, rank)
        self._check_debt(visit, turn, seen)
        granted = self.server.granted_at.get(turn.id)
        if granted is None:
            self.wrong.append(f"{turn} was never granted its lane")
        elif self._is_quiet and self.loop.time() > granted + self._a_while:
            self.wrong.append(f"{turn} was granted its lane {self.loop.time() - granted} s before it began")

    @property
    def _is_quiet(self) -> bool:
        """Whether notes are all that may be lost, and nobody waits for a slot."""
        return not self._may_fail and self.plan.max_running is None

    @property
    def _a_while(self) -> float:
        """Seconds after which what is not told by a note has been told by a renewal."""
        return (LEASE / 3 if self.plan.weather.leased else 5.0) + 6 * self.plan.weather.delay + 0.01

    def _check_debt(self, visit: SharedVisit, turn: Turn, seen: Seen) -> None:
        told = turn._end is not None and turn._end.takes_back
        if seen.owes and not told and not self.server.losses:
            self.wrong.append(f"{turn} was not told that it is to take something back")
        if told and visit.pays and turn._end is not None:
            turn._end.takes_back = seen.owes = False

    def _end(self, caller: Caller, visit: SharedVisit, turn: Turn) -> None:
        if caller.worker.killed:
            return
        seen = self.lanes[visit.key]
        self._check(turn)
        del seen.inside[turn.id]
        if turn.lost:
            self.account.unsure.add(turn.id)
            if not self.network.troubled and self.plan.weather.calm:
                self.wrong.append(f"{turn} has lost its lane for nothing")
            seen.owes = False  # whether it was told to take back, and has, nobody knows
        elif turn._owner.is_undone(turn):  # type: ignore[attr-defined]
            seen.owes = True
        asked = self.server.asked_at.get(turn.id)
        over = asked is not None and self.loop.time() > asked + self._a_while
        if over and self._is_quiet and not turn.interrupted:
            self.wrong.append(f"{turn} was to stop since {asked} and does not know")

    def _check(self, turn: Turn) -> None:
        """Check that no two turns run that have not lost their lane."""
        if turn.id not in self.lanes[turn.key].inside:
            return
        inside = [other for other in self.lanes[turn.key].inside.values() if not other.lost]
        if len(inside) > 1:
            self.wrong.append(f"these run at the same time: {inside}")
        if not turn.lost and not turn.running:
            self.wrong.append(f"{turn} runs, and does not have its lane")

    def _note(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def _expected(self, visit: SharedVisit, error: BaseException) -> bool:
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
            case errors.EngineUnavailable():
                return self._may_fail
            case OwnError():
                return visit.raises
            case _:
                return policy_allows(visit.policy, error)


def run_shared(
    plan: SharedPlan,
    seed: int | None,
    incidents: Sequence[SharedIncident] = (),
    *,
    bug: Bug | None = None,
    look_inside: bool = True,
) -> Result:
    """Run a plan once; `seed` draws the order of the loop and what the network does.

    Raises:
        Finding: a promise was broken.
    """
    make: Callable[[SeededLoop], SharedRun] = lambda loop: SharedRun(plan, seed, loop, bug or Bug(), incidents)  # noqa: E731
    return run_whole(
        make,
        seed,
        look_inside=look_inside,
        again=lambda: f"again: run_shared(plan, {seed}, {list(incidents)}) with plan =\n{plan}",
    )
