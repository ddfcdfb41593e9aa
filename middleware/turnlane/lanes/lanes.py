"""`Lanes`: a FIFO line of turns for each session key."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Self

from turnlane import errors
from turnlane.clock import Clock
from turnlane.hooks import DrainStarted, Hooks
from turnlane.keys import canonical
from turnlane.lanes.gate import Gate
from turnlane.policies import Enqueue, Policy, policy_from_setting
from turnlane.turns.turn import Turn, _current

__all__ = ("LaneSnapshot", "Lanes", "LanesStatistics", "TurnSnapshot")


@dataclass(frozen=True, slots=True, kw_only=True)
class LanesStatistics:
    """What the lanes do at one moment. `totals` counts turns by outcome since the lanes were made."""

    lanes: int
    running: int
    waiting: int
    totals: MappingProxyType[str, int]


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


class TurnScope:
    """`async with lanes.turn(key) as turn`: arrives when entered, lets the lane go when left."""

    __slots__ = ("_context", "_gate", "_key", "_policy", "_turn", "_turn_timeout")

    def __init__(self, gate: Gate, key: str, policy: Policy, turn_timeout: float | None) -> None:
        self._gate = gate
        self._key = key
        self._policy = policy
        self._turn_timeout = turn_timeout
        self._turn: Turn | None = None

    async def __aenter__(self) -> Turn:
        if self._turn is not None:
            raise RuntimeError("a turn's block can be entered once; call lanes.turn() again")
        gate = self._gate
        turn = self._turn = gate.arrive(self._key, self._policy, self._turn_timeout)
        if turn._wait is not None:
            await gate.wait(turn)
        self._context = _current.set(turn)
        return turn

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        turn = self._turn
        if turn is None:
            return
        with suppress(ValueError):  # left in another context (a generator closed elsewhere), which never had the turn
            _current.reset(self._context)
        replacement = self._gate.leave(turn, exc)
        if replacement is not None:
            raise replacement from exc


class Lanes:
    """A FIFO line of turns for each session key: at most one turn of a key runs.

    Guarantees: one turn at a time per key, in the order of arrival, also when callers cancel, fail or time
    out; a turn's cleanup ends before its successor starts; an idle key retains nothing.

    Not guaranteed: anything beyond this process for `memory://`; and by no lane alone that a turn that was
    cut off from its lane writes nothing any more: that is the transcript's fence.

    Args:
        url: where the lanes live. `memory://`: in this process and one event loop at a time.
        policy: what happens to a turn that finds its lane busy, unless the call says otherwise.
        max_running: how many turns run at once in this process, fair between keys; a turn nested in
            another uses its running slot. None: no limit.
        turn_timeout: seconds after which a turn's task is cancelled, unless the call says otherwise.
        slow_after: seconds after which a running turn is reported once, with its task's stack. None: never.
        hooks: whom to tell.
        clock: replaces the machine's clock in tests.

    Raises:
        ValueError: an argument is out of its range, or the URL names no engine there is.
    """

    def __init__(
        self,
        url: str = "memory://",
        *,
        policy: Policy | str | None = None,
        max_running: int | None = None,
        turn_timeout: float | None = None,
        slow_after: float | None = 600.0,
        hooks: Hooks | None = None,
        clock: Clock | None = None,
    ) -> None:
        if url != "memory://":
            raise ValueError(f"lanes live in 'memory://'; {url!r} names no engine there is")
        if max_running is not None and max_running < 1:
            raise ValueError(f"max_running must be at least 1 or None, not {max_running!r}")
        if slow_after is not None and not slow_after > 0:
            raise ValueError(f"slow_after must be a positive number of seconds or None, not {slow_after!r}")
        self.url: str = url
        self.hooks: Hooks = hooks if hooks is not None else Hooks()
        self.policy: Policy = Enqueue() if policy is None else policy_from_setting(policy)
        self.turn_timeout: float | None = require_timeout(turn_timeout)
        self.clock: Clock = clock if clock is not None else Clock()
        self.gate: Gate = Gate(max_running=max_running, hooks=self.hooks, clock=self.clock, slow_after=slow_after)

    def __repr__(self) -> str:
        table = self.gate.table
        state = " draining" if self.gate.draining else ""
        return f"<Lanes {self.url}{state} running={len(table.holders)} waiting={table.waiting}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse new turns and tell those who wait; running turns go on and let their lanes go as ever."""
        await self.drain(timeout=0)

    def turn(self, key: str, *, policy: Policy | str | None = None, turn_timeout: float | None = None) -> TurnScope:
        """Return the block of one turn: `async with lanes.turn(key) as turn:`.

        The place in line is taken when the block is entered, before anything is awaited.

        Args:
            key: the session key; it is brought into canonical form.
            policy: what happens if the lane is busy.
            turn_timeout: seconds after which the turn's task is cancelled.

        Raises:
            SessionKeyInvalid, SessionKeyRequired: the key is not acceptable, or blank.
            LaneBusy, LaneFull, WaitTimeout, LaneReentry, LanesDraining, CapacityExceeded, TurnInterrupted:
                on entering, the turn did not get its lane.
            TurnInterrupted, TurnTimeout: on leaving, the turn was cancelled from outside.
        """
        found = canonical(key, "key")
        if found is None:
            raise errors.SessionKeyRequired("key")
        chosen = self.policy if policy is None else policy_from_setting(policy)
        timeout = self.turn_timeout if turn_timeout is None else require_timeout(turn_timeout)
        return TurnScope(self.gate, found, chosen, timeout)

    def pause(self, key: str) -> None:
        """Let no further turn of this key start until `resume`; who runs goes on, who arrives waits."""
        self.gate.paused.add(key)
        self.gate.guarded = True
        self.gate.table.pause(key)

    def resume(self, key: str) -> None:
        """Undo `pause`."""
        self.gate.paused.discard(key)
        self._set_guarded()
        self.gate.hand_over(self.gate.table.resume(key))

    def interrupt(self, key: str, *, grace: float = 5.0) -> bool:
        """Ask the running turn of a key to stop, and cancel it after `grace` seconds; those who wait move up.

        Returns:
            Whether there was a running turn that had not been asked before.
        """
        if not grace >= 0:
            raise ValueError(f"grace must be a number of seconds, at least 0, not {grace!r}")
        holder = self.gate.table.holders.get(key)
        return holder is not None and self.gate.endings.interrupt(holder, by=None, grace=grace)

    async def drain(self, timeout: float | None = None) -> int:
        """Refuse new turns from now on, end every wait with `LanesDraining`, let running turns end.

        Turns nested in a running one are still served: it could not end without them.

        Args:
            timeout: seconds to wait for the running turns. None: as long as they take.

        Returns:
            How many turns still run.
        """
        gate = self.gate
        if not gate.draining:
            gate.draining = gate.guarded = True
            if self.hooks.wants(DrainStarted):
                self.hooks.emit(DrainStarted(running=len(gate.table.holders), waiting=gate.table.waiting))
        for line in list(gate.table.lines.values()):
            waiter = line.head
            while waiter is not None:
                following = waiter.next
                if waiter.ancestor is None:
                    gate.expel(waiter.turn, errors.LanesDraining(line.key), "draining")
                waiter = following
        if gate.table.holders and timeout != 0:
            gate.idle = gate.idle or asyncio.Event()
            try:
                async with asyncio.timeout(timeout):
                    await gate.idle.wait()
            except TimeoutError:
                pass
        return len(gate.table.holders)

    def statistics(self) -> LanesStatistics:
        """Return what the lanes do now."""
        table = self.gate.table
        return LanesStatistics(
            lanes=len(table.holders.keys() | table.lines.keys()) if table.lines else len(table.holders),
            running=len(table.holders),
            waiting=table.waiting,
            totals=MappingProxyType(self.gate.outcomes.totals()),
        )

    def snapshot(self) -> tuple[LaneSnapshot, ...]:
        """Return every lane that lives now, by key."""
        table, now, wall = self.gate.table, self.clock.monotonic(), self.clock.wall()
        lanes: list[LaneSnapshot] = []
        for key in sorted(table.holders.keys() | table.lines.keys()):
            holder, line = table.holders.get(key), table.lines.get(key)
            waiting: list[TurnSnapshot] = []
            waiter = None if line is None else line.head
            while waiter is not None:
                waiting.append(TurnSnapshot(turn=waiter.turn.id, age=now - waiter.turn._started))
                waiter = waiter.next
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

    def expected_wait(self, ahead: int) -> float:
        """Estimate the seconds until `ahead` turns have ended, from how long turns took that others waited for."""
        mean = self.gate.outcomes.mean_turn
        return math.inf if mean is None else mean * max(ahead, 1)

    def _set_guarded(self) -> None:
        gate = self.gate
        gate.guarded = bool(gate.paused) or gate.draining or gate.table.max_running is not None


def require_timeout(turn_timeout: float | None) -> float | None:
    """Return a turn timeout as it is, if it is one.

    Raises:
        ValueError: it is not a positive number of seconds.
    """
    if turn_timeout is not None and not turn_timeout > 0:
        raise ValueError(f"turn_timeout must be a positive number of seconds or None, not {turn_timeout!r}")
    return turn_timeout
