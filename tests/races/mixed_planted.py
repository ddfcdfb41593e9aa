"""Known bugs, each in one part that a mixed load goes through: what its exploration has to find."""

# The bugs are planted in the private side of what is tested.
# pyright: reportPrivateUsage=false

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from races.planted import AnswersTheSteeredAgain, KeepsTheLaneItWasHanded, LosesTheAbsorbed, StartsTheSuccessorTooEarly
from turnlane import Runtime, Turn
from turnlane.asgi.once import Once
from turnlane.asgi.waiting import KeptWait
from turnlane.lanes.capacity import Capacity
from turnlane.lanes.gate import Gate
from turnlane.lanes.line import Waiter
from turnlane.transcripts import transcript
from turnlane.transcripts.digest import Chain
from turnlane.transcripts.traces import Traces

__all__ = ("PLANTED_IN_MIXED", "Planted")


class MergesTheNewestAlone(Gate):
    """A group starts with the message of its newest; the others are told that theirs are part of it."""

    def carry(self, turn: Turn, waiter: Waiter) -> None:
        """Forget what the others asked."""
        own = None if turn._talk is None else (turn._talk.message, turn._talk.messages)
        super().carry(turn, waiter)
        if turn._talk is not None and own is not None:
            turn._talk.message, turn._talk.messages = own


class ForgetsTheDebt(Gate):
    """Who leaves the line takes with it what was to be rolled back for it."""

    def _take_out(self, waiter: Waiter) -> None:
        self.debts.pop(waiter.turn.key, None)
        super()._take_out(waiter)


class LosesTheSteered(Gate):
    """A message that was offered, and that nobody was done with, does not come back into its place."""

    def end_talk(self, turn: Turn, talk: Any) -> None:
        """Tell the next in line that it was steered."""
        super().end_talk(turn, talk)
        line = self.table.lines.get(turn.key)
        if talk.steering is not None and line is not None and line.head is not None and line.head.group is None:
            turn._state = turn._state.RUNNING
            self._steered(line.head.turn, turn)
            turn._state = turn._state.ENDED


async def take_nothing_back(*_: object) -> None:
    """Stand for `Runtime._take_back`."""


def all_behind(self: Traces, turn: str, chain: Chain) -> Iterable[int]:
    """Stand for `Traces.of`: what others wrote in between is the turn's."""
    numbers = TRACES_OF(self, turn, chain)
    return list(range(numbers[0], len(chain.digests))) if numbers else []


async def rescue_nothing(*_: object, **__: object) -> str:
    """Stand for `rescue`: what was staged and can not be stored is lost."""
    return ""


async def let_run_again(_: Once) -> None:
    """Stand for `Once.take_over`: a message that another turn answers is a new one."""


async def leave_unknown_free(self: Once, *, taken: bool) -> None:
    """Stand for `Once.leave`: a message whose turn was cut off is a new one."""
    run, self._run = self._run, None
    if run is not None:
        await self._duplicates.free(run)


async def wait_and_stay(self: KeptWait, gate: Gate, turn: Turn, headers: Any) -> None:
    """Stand for `KeptWait.wait`: cancelled while it sends, it keeps its place, or its lane."""
    await self._send_comments(turn, headers)
    await gate.wait(turn)


def call_nobody(self: Capacity, principal: Any) -> None:
    """Stand for `Capacity._free_place`: who is parked is not called when a place is free."""
    self._count_place(principal, -1)


TRACES_OF = Traces.of


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, and the named load that shows it: a gate, or what stands in the place of an attribute."""

    load: str
    gate: type[Gate] = Gate
    where: Any = None
    name: str = ""
    bug: Callable[..., Any] | None = None


PLANTED_IN_MIXED: dict[str, Planted] = {
    "a coalesced message is lost": Planted("three that become one turn", MergesTheNewestAlone),
    "those a turn carries are lost with it": Planted("three that become one turn", LosesTheAbsorbed),
    "a message that was steered is answered again": Planted("two steered, one left over", AnswersTheSteeredAgain),
    "a message that nobody was done with is lost": Planted("two steered, one left over", LosesTheSteered),
    "nothing is taken back": Planted(
        "a rollback, and one more", where=Runtime, name="_take_back", bug=take_nothing_back
    ),
    "a rollback takes the entries of others": Planted(
        "a rollback, and one more", where=Traces, name="of", bug=all_behind
    ),
    "who leaves takes the debt along": Planted("a rollback, and one more", ForgetsTheDebt),
    "the successor of a turn starts beside it": Planted("a rollback, and one more", StartsTheSuccessorTooEarly),
    "what was staged is lost": Planted("a rollback, and one more", where=transcript, name="rescue", bug=rescue_nothing),
    "a message that another turn answers may run again": Planted(
        "copies of some that become one turn", where=Once, name="take_over", bug=let_run_again
    ),
    "a message that was cut off may run again": Planted(
        "copies of one that waits", where=Once, name="leave", bug=leave_unknown_free
    ),
    "a wait that is kept alive keeps the lane": Planted(
        "streams kept alive behind another", where=KeptWait, name="wait", bug=wait_and_stay
    ),
    "a wait that is cancelled after the hand-over keeps the lane": Planted(
        "streams kept alive behind another", KeepsTheLaneItWasHanded
    ),
    "who is parked for a principal's place is not called": Planted(
        "two principals with a slot each", where=Capacity, name="_free_place", bug=call_nobody
    ),
}
