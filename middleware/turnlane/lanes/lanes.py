"""`Lanes`: a FIFO line of turns for each session key."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import math
from collections.abc import Hashable
from types import TracebackType
from typing import Any, Self

from turnlane.arguments import optional_seconds, seconds
from turnlane.clock import Clock
from turnlane.engines.base import Engine
from turnlane.engines.choosing import maker_of, where_of
from turnlane.hooks import Hooks
from turnlane.keys import require_key
from turnlane.lanes.everywhere import drain_everywhere, undrain_everywhere, views_everywhere
from turnlane.lanes.gate import Gate
from turnlane.lanes.limits import Limits
from turnlane.lanes.scope import TurnScope
from turnlane.lanes.shared import SharedGate
from turnlane.lanes.snapshots import LaneSnapshot, LanesStatistics, snapshot_of_table, snapshot_of_views
from turnlane.policies import Coalesce, Enqueue, Policy, Rollback, Steer, policy_from_setting
from turnlane.turns.talk import Talk

__all__ = ("Lanes",)


class Lanes:
    """A FIFO line of turns for each session key: at most one turn of a key runs.

    Guarantees: one turn at a time per key, in the order of arrival, also when callers cancel, fail or time
    out; a turn's cleanup ends before its successor starts; an idle key retains nothing.

    Not guaranteed: anything beyond this process for `memory://`; and by no lane alone that a turn that was
    cut off from its lane writes nothing any more: that is the transcript's fence. All methods belong to the thread of
    the event loop; others use `loop.call_soon_threadsafe`.

    Args:
        url: where the lanes live. `memory://`: in this process and one event loop at a time. `file:///directory`: in
            all processes of this machine. `redis://host`, and what else `RedisEngine` takes: on several machines. An
            engine that is not open yet: where that says; it is closed with the lanes, and not used again.
        policy: what happens to a turn that finds its lane busy, unless the call says otherwise.
        max_running: how many turns run at once in this process, fair between keys; a turn nested in
            another uses its running slot. None: no limit.
        max_running_per_principal: how many turns of one principal run at once, whatever their keys; the others wait in
            their lines, in nobody's way. What is for no principal is not limited. None: no limit.
        max_waiting_per_principal: how many turns of one principal wait at once, whatever their keys; the next is
            refused with `PrincipalCapacityExceeded`. Turns nested in a running one are not. None: no limit.
        turn_timeout: seconds after which a turn's task is cancelled, unless the call says otherwise.
        slow_after: seconds after which a running turn is reported once, with its task's stack. None: never.
        hooks: whom to tell.
        clock: replaces the machine's clock in tests.

    Raises:
        ValueError: an argument is out of its range, or the URL names no engine there is.
    """

    def __init__(
        self,
        url: str | Engine = "memory://",
        *,
        policy: Policy | str | None = None,
        max_running: int | None = None,
        max_running_per_principal: int | None = None,
        max_waiting_per_principal: int | None = None,
        turn_timeout: float | None = None,
        slow_after: float | None = 600.0,
        hooks: Hooks | None = None,
        clock: Clock | None = None,
    ) -> None:
        make_engine = None if url == "memory://" else maker_of(url)
        limits = Limits(
            max_running=max_running,
            max_running_per_principal=max_running_per_principal,
            max_waiting_per_principal=max_waiting_per_principal,
        )
        slow_after = optional_seconds("slow_after", slow_after, above_zero=True)
        self.url: str = where_of(url)
        self.hooks: Hooks = hooks if hooks is not None else Hooks()
        self.policy: Policy = Enqueue() if policy is None else policy_from_setting(policy)
        self.turn_timeout: float | None = optional_seconds("turn_timeout", turn_timeout, above_zero=True)
        self.clock: Clock = clock if clock is not None else Clock()
        self.limits: Limits = limits
        self.gate: Gate = (
            Gate(limits=limits, hooks=self.hooks, clock=self.clock, slow_after=slow_after)
            if make_engine is None
            else SharedGate(
                limits=limits, hooks=self.hooks, clock=self.clock, slow_after=slow_after, make_engine=make_engine
            )
        )

    def __repr__(self) -> str:
        table = self.gate.table
        state = " draining" if self.gate.draining else ""
        return f"<Lanes {self.url}{state} running={len(table.holders)} waiting={table.waiting}>"

    async def __aenter__(self) -> Self:
        self.gate.draining = False
        self.gate.closed_in = None
        self.gate.look_guarded()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse new turns and tell those who wait; running turns go on and let their lanes go as ever.

        Entering `async with lanes:` again ends the refusing, and so does the first turn in another event loop.
        """
        await self.drain(timeout=0)
        self.gate.closed_in = asyncio.get_running_loop()
        await self.gate.aclose()

    def turn(
        self,
        key: str,
        *,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        message: Any = None,
        principal: Hashable = None,
    ) -> TurnScope:
        """Return the block of one turn: `async with lanes.turn(key) as turn:`.

        The place in line is taken when the block is entered, before anything is awaited.

        Args:
            key: the session key; it is brought into canonical form.
            policy: what happens if the lane is busy.
            turn_timeout: seconds after which the turn's task is cancelled.
            message: what the turn is to answer, of any type; `Coalesce` and `Steer` hand it to other turns.
            principal: who it is for, hashable; messages of different ones never become one turn, and each has the
                same share of what is limited per principal.

        Raises:
            TypeError: the principal can not be hashed.
            ValueError: the policy is `Coalesce` or `Steer` and there is no message; or `Rollback`, which is for
                `Runtime.turn`.
            SessionKeyInvalid, SessionKeyRequired: the key is not acceptable, or blank.
            LaneBusy, LaneFull, WaitTimeout, LaneReentry, LanesDraining, CapacityExceeded, PrincipalCapacityExceeded,
            TurnInterrupted:
                on entering, the turn did not get its lane.
            NotConfigured: on entering, these lanes are in use in another event loop.
            TurnCoalesced, TurnSteered: on entering, another turn answers the message.
            TurnInterrupted, TurnTimeout: on leaving, the turn was cancelled from outside.
        """
        chosen = self.policy if policy is None else policy_from_setting(policy)
        if isinstance(chosen, Rollback):
            raise ValueError("Rollback needs transcripts that note turns, which lanes have not: see Runtime.turn")
        return self.place(key, policy=chosen, turn_timeout=turn_timeout, message=message, principal=principal)

    def place(
        self,
        key: str,
        *,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        message: Any = None,
        principal: Hashable = None,
    ) -> TurnScope:
        """Do the same for a runtime, which gives the turn what its policy needs before it runs."""
        found = require_key(key)
        hash(principal)
        chosen = self.policy if policy is None else policy_from_setting(policy)
        timeout = optional_seconds("turn_timeout", turn_timeout, above_zero=True) or self.turn_timeout
        if message is None and isinstance(chosen, Coalesce | Steer):
            raise ValueError(f"{type(chosen).__name__} needs message=: what other turns are to answer")
        talk = None if message is None and principal is None else Talk(message, principal)
        return TurnScope(self.gate, found, chosen, timeout, talk)

    def pause(self, key: str) -> None:
        """Let no further turn of this key start until `resume`; who runs goes on, who arrives waits."""
        self.gate.require_thread()
        self.gate.pause(require_key(key))

    def resume(self, key: str) -> None:
        """Undo `pause`."""
        self.gate.require_thread()
        self.gate.resume(require_key(key))

    def interrupt(self, key: str, *, grace: float = 5.0) -> bool:
        """Ask the running turn of a key to stop, and cancel it after `grace` seconds; those who wait move up.

        Returns:
            Whether there was a running turn that had not been asked before: in this process, where several share the
            lanes. One that runs in another is asked all the same, a moment later.
        """
        self.gate.require_thread()
        return self.gate.interrupt(require_key(key), grace=seconds("grace", grace))

    async def drain(self, timeout: float | None = None, *, everywhere: bool = False) -> int:
        """Refuse new turns from now on, end every wait with `LanesDraining`, let running turns end.

        Turns nested in a running one are still served: it could not end without them.

        Args:
            timeout: seconds to wait for the running turns. None: as long as they take.
            everywhere: have all processes do so that share these lanes and are up now; those that start later take
                turns.

        Returns:
            How many turns still run; with `everywhere`, in all processes.

        Raises:
            EngineUnavailable, OutcomeUnknown: with `everywhere`, the engine does not answer; this process drains.
        """
        gate = self.gate
        gate.require_thread()
        gate.set_draining(True)
        if everywhere and isinstance(gate, SharedGate):
            return await drain_everywhere(gate, timeout)
        await gate.drained(timeout)
        return len(gate.table.holders)

    async def undrain(self, *, everywhere: bool = False) -> None:
        """Take new turns again; with `everywhere`, in all processes that share these lanes and are up now.

        Raises:
            EngineUnavailable, OutcomeUnknown: with `everywhere`, the engine does not answer; this process takes turns.
        """
        self.gate.require_thread()
        self.gate.set_draining(False)
        if everywhere and isinstance(self.gate, SharedGate):
            await undrain_everywhere(self.gate)

    def statistics(self) -> LanesStatistics:
        """Return what the lanes do now."""
        table = self.gate.table
        return LanesStatistics(
            lanes=len(table.holders.keys() | table.lines.keys()) if table.lines else len(table.holders),
            running=len(table.holders),
            waiting=table.waiting,
            totals=self.gate.outcomes.totals(),
        )

    def snapshot(self) -> tuple[LaneSnapshot, ...]:
        """Return every lane that lives now in this process, by key."""
        return snapshot_of_table(self.gate.table, now=self.clock.monotonic(), wall=self.clock.wall())

    async def snapshot_everywhere(self) -> tuple[LaneSnapshot, ...]:
        """Return every lane that lives now in any process that shares these lanes, by key.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        if isinstance(self.gate, SharedGate):
            self.gate.require_thread()
            return snapshot_of_views(await views_everywhere(self.gate), wall=self.clock.wall())
        return self.snapshot()

    def expected_wait(self, ahead: int) -> float:
        """Estimate the seconds until `ahead` turns have ended, from how long turns took that others waited for."""
        mean = self.gate.outcomes.mean_turn
        return math.inf if mean is None else mean * max(ahead, 1)
