"""One message on real lanes: a coroutine that is moved on by hand, and what became of it."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from types import coroutine
from typing import Any

from models.message_words import MOST_MERGED, Name
from turnlane import Coalesce, Enqueue, Interrupt, Reject, Rollback, Runtime, Steer, errors
from turnlane.lanes.line import Waiter
from turnlane.lanes.scope import TurnScope
from turnlane.policies import Policy
from turnlane.turns.turn import Turn

__all__ = ("Broken", "Visit")


class Broken(Exception):
    """What leaves a turn that fails."""


class Unmerged(Exception):
    """What a merge that merges nothing raises."""


def refuse(_: object) -> object:
    raise Unmerged


POLICIES: dict[Name, Policy] = {
    "enqueue": Enqueue(),
    "reject": Reject(),
    "interrupt": Interrupt(grace=60),
    "rollback": Rollback(grace=60),
    "coalesce": Coalesce(window=1, merge=tuple),
    "fussy": Coalesce(window=1, merge=refuse),
    "share": Coalesce(window=1, merge=tuple, share_result=True),
    "refuse": Coalesce(window=1, merge=tuple, max_merged=MOST_MERGED),
    "oldest": Coalesce(window=1, merge=tuple, max_merged=MOST_MERGED, overflow="oldest"),
    "steer": Steer(),
}

ENDS: dict[type[BaseException], str] = {
    errors.LaneBusy: "busy",
    errors.LaneFull: "full",
    errors.PrincipalCapacityExceeded: "capacity",
    Unmerged: "unmerged",
    Broken: "failed",
}


class Cancels:
    """As much of a task as the lanes look at: how often it is being cancelled."""

    def __init__(self) -> None:
        self.count = 0

    def done(self) -> bool:
        return False

    def get_coro(self) -> None:
        return None

    def cancel(self) -> None:
        self.count += 1

    def uncancel(self) -> int:
        self.count -= 1
        return self.count


class Transcript:
    """As much of a turn's transcript as is needed to take back what it has written, `by` whom, or others have.

    `others` counts how often it took back what a turn of a process that died has written, `ended` its own ends.
    """

    def __init__(self) -> None:
        self.by: list[str] = []
        self.others = 0
        self.ended = 0

    async def take_back_unended(self) -> None:
        self.others += 1

    async def end(self) -> None:
        self.ended += 1

    async def take_back(self, *, token: int, turn: str) -> None:
        self.by.append(turn)


@coroutine
def held() -> Generator[None, None, None]:
    """Wait until the visit is moved on."""
    yield


class Visit:
    """One message, and the turn it asks for, as a runtime gives it.

    It shares its own number with those that its turn answers, too, as soon as it begins.

    Mutable: `awaits` (the future it waits for, None while its turn runs), `answers` (once that has begun), `error` and
    `over`.
    """

    def __init__(self, runtime: Runtime, policy: Name, message: int, whom: str) -> None:
        self.message = message
        self.cancels: Any = Cancels()
        self.transcript: Any = Transcript()
        self.awaits: asyncio.Future[BaseException | None] | None = None
        self.answers: list[int] | None = None
        self.error: BaseException | None = None
        self.over = False
        # A turn without a message goes shorter ways.
        said = None if policy == "enqueue" else message
        self._scope = runtime.lanes.place("a", policy=POLICIES[policy], message=said, principal=whom or None)
        self._context = Context()
        self._run = self._visit(runtime)
        self.go_on()

    async def _visit(self, runtime: Runtime) -> None:
        self._scope.arrive(self.cancels)
        self.turn._transcript = self.transcript
        async with runtime.turn_at(self._scope, no_other_lane) as turn:
            self.answers = list(turn.messages) or [self.message]
            if len(self.answers) > 1 and turn.message != turn.messages:
                raise AssertionError(f"{turn.messages} were merged to {turn.message}")
            turn.share(self.message)
            await held()

    def go_on(self, error: BaseException | None = None) -> None:
        """Go on until it waits again, or is over."""
        step: Callable[[Any], Any] = self._run.send if error is None else self._run.throw
        try:
            self.awaits = self._context.run(step, error)
        except StopIteration:
            self.over = True
        except BaseException as caught:
            self.over, self.error = True, caught

    def cancel(self) -> None:
        """Go on with a cancellation: by the lanes, if they have cut it, else by somebody else."""
        if not self.cancels.count:
            self.cancels.cancel()
        if self.awaits is not None:
            self.awaits.cancel()
        self.go_on(asyncio.CancelledError())

    def close(self) -> None:
        """Leave nothing behind, in the middle of whatever it is."""
        if not self.over:
            self.go_on(Broken())

    @property
    def arrived(self) -> bool:
        """Whether it stands in line, or stood there or had the lane at once."""
        return self._scope._turn is not None

    @property
    def turn(self) -> Turn:
        """Its turn."""
        turn = self._scope._turn
        if turn is None:
            raise AssertionError(f"{self.message} was refused")
        return turn

    @property
    def waiter(self) -> Waiter | None:
        """What stands, or stood, in line for it."""
        turn = self._scope._turn
        return turn._wait if turn is not None and isinstance(turn._wait, Waiter) else None

    @property
    def has_lane(self) -> bool:
        """Whether it was told that it has the lane, and did not go on yet."""
        return self.awaits is not None and self.awaits.done() and self.awaits.result() is None

    @property
    def is_told(self) -> bool:
        """Whether it was told that it will not have the lane, and did not go on yet."""
        return self.awaits is not None and self.awaits.done() and not self.over and self.awaits.result() is not None

    @property
    def taken(self) -> bool:
        """Whether its message is part of another turn."""
        turn = self._scope._turn
        return turn is not None and turn._talk is not None and turn._talk.taken

    def fate(self) -> tuple[str, str | None]:
        """Return what became of it, once it is over, and the id of the turn that was named for it."""
        match self.error:
            case None:
                return "answered", None
            case errors.TurnInterrupted(running=running, into=into):
                return "interrupted" if running else "superseded", into
            case errors.TurnCoalesced(result=result, into=into):
                return "coalesced" if result is None else "shared", into
            case errors.TurnSteered(into=into):
                return "steered", into
            case errors.WaitTimeout(holder=holder):
                return "expired", holder
            case asyncio.CancelledError() if self.answers is not None:
                return "stopped", None
            case asyncio.CancelledError():
                return "left" if self.taken else "cancelled", None
            case error if type(error) in ENDS:
                return ENDS[type(error)], None
            case error:
                raise error


def no_other_lane(key: str) -> TurnScope:
    raise AssertionError(f"no turn goes to {key!r}")
