"""Shared lanes with a known bug each: what their exploration has to find, and the plan that is for it."""

# The bugs are planted in the private side of the lanes.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from races.shared_workers import Bug
from turnlane import errors
from turnlane.begun import Begun
from turnlane.engines import Answer, Ask, End, Interrupted, Lost, Note, Offered, Over
from turnlane.engines.lane import Lane, Place, Steps
from turnlane.lanes.attachment import Attachment, Failure
from turnlane.lanes.errands import Errands, Job, Then
from turnlane.lanes.line import Waiter
from turnlane.lanes.renewal import Renewal
from turnlane.lanes.shared import SharedGate
from turnlane.lanes.standing import Standing
from turnlane.turns.talk import Talk
from turnlane.turns.turn import Turn

__all__ = ("PLANTED_IN_SHARED", "PlantedInShared")


class LeavesInSilence(SharedGate):
    """Who leaves the line does not tell the engine, and is granted the lane all the same."""

    def _take_out(self, waiter: Waiter) -> None:
        self.standings[waiter.turn.id].over = True
        super()._take_out(waiter)


class LeavesOnce(SharedGate):
    """Where the engine does not answer a lane is not let go again."""

    def _leave(
        self,
        key: str,
        ticket: str,
        owes: bool | None,
        scatter: bool,
        *,
        pause: float,
        until: float,
        begun: Begun | None = None,
    ) -> None:
        super()._leave(key, ticket, owes, scatter, pause=pause, until=0.0, begun=begun)


class TakesUnknownForNothing(SharedGate):
    """An arrival of which nobody knows whether it was heard counts as none."""

    def _answered(self, standing: Standing, answer: Answer | errors.LaneReentry | Failure | None) -> None:
        standing.over = standing.over or isinstance(answer, errors.OutcomeUnknown)
        super()._answered(standing, answer)


class ComesAgainAtTheEnd(SharedGate):
    """Who waited when data were lost stands at the end of the line."""

    def _lost(self, note: Lost) -> None:
        standing = self.standings.get(note.ticket)
        if standing is not None:
            standing.number = 0
        super()._lost(note)


class TellsNobody(SharedGate):
    """Those whose messages are answered are not told."""

    def _settle(self, turn: Turn, ends: Sequence[End]) -> None:
        pass


class SharesNothing(SharedGate):
    """Those who wait for the result of another turn are not told of its end."""

    def end_talk(self, turn: Turn, talk: Talk) -> None:
        """Forget them."""
        standing = self.standings.get(turn.id)
        if standing is not None:
            standing.carried = ()
        super().end_talk(turn, talk)


class KeepsTogether(SharedGate):
    """Messages that can not be merged are to be merged again."""

    def leave(self, turn: Turn, exc: BaseException | None) -> BaseException | None:
        """Let the lane go."""
        standing = self.standings.get(turn.id)
        if standing is not None:
            standing.scatter = False
        return super().leave(turn, exc)


class LosesNothing(SharedGate):
    """A turn whose lease has ended runs on."""

    def lose(self, standing: Standing) -> None:
        """Do nothing."""


class HearsNoInterruption(SharedGate):
    """Who is asked to stop by another worker runs on."""

    def _interrupted(self, note: Interrupted) -> None:
        if note.by in self.standings:
            super()._interrupted(note)


class ForgetsTheDebt(SharedGate):
    """What was to be taken back is forgotten by who does not."""

    def _leave_line(
        self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False, begun: Begun | None = None
    ) -> None:
        super()._leave_line(key, ticket, scatter=scatter, begun=begun)


class PausesItself(SharedGate):
    """A pause counts in the process that was told, whoever undoes it."""

    def pause(self, key: str) -> None:
        """Pause the part of the lane that is here."""
        self.table.pause(key)
        super().pause(key)


class ClosesWhileTurnsRun(SharedGate):
    """The engine is closed with the lanes, and another has the lane of a turn that runs."""

    async def aclose(self) -> None:
        """Close it."""
        await self._attachment.aclose()


class NeverCloses(SharedGate):
    """Lanes that were closed while a turn ran stay open."""

    def _close_if_idle(self) -> None:
        self._closes = False


class ForgetsWhoWaitsForTheResult(SharedGate):
    """Who waits for the result of another turn is taken for one who has left."""

    def _over(self, note: Over) -> None:
        super()._over(note)
        if note.how == "shared":
            self.standings.pop(note.ticket, None)


class StandsTwice(Steps):
    """Who has the lane and asks again stands in its line, too."""

    def acquire(self, ask: Ask) -> Answer:
        """Come to a lane."""
        answer, rows = super().acquire(ask), self._rows
        held, last = (rows.lane() or Lane()).held, rows.last()
        if held is not None and held.ticket == ask.ticket and held.since < self._now:
            number = 1 + (last.number if last is not None else int(self._now * 1e6))
            rows.put(Place(ask.ticket, self._worker, number, number, "", self._now, self._now, b""))
        return answer


class OffersAgain(Steps):
    """Who asks again how it stands offers its message again."""

    def acquire(self, ask: Ask) -> Answer:
        """Come to a lane."""
        known = self._rows.place(ask.ticket)
        answer, lane = super().acquire(ask), self._rows.lane()
        if known is not None and ask.steer and lane is not None and lane.held is not None:
            held = lane.held
            self._tell(held.worker, Offered(self._key, held.ticket, ask.ticket, ask.whom, ask.payload))
        return answer


class ForgetsFates(Steps):
    """How a wait has ended is told once, and not kept."""

    def _over(self, place: Place, over: Over) -> None:
        self._rows.drop(place.ticket)
        self._tell(place.worker, over)


class TurnsTheLineRound(Steps):
    """Who comes last is first."""

    def acquire(self, ask: Ask) -> Answer:
        """Come to a lane."""
        return super().acquire(replace(ask, number=2_000_000_000 - int(self._now * 1e6)))


class Disorderly(Errands):
    """Steps of one key are sent all at once."""

    def run(self, key: str, job: Job, then: Then, *, owed: bool = False) -> None:
        """Do a step."""
        super().run(f"{key}/{id(job)}", job, then, owed=owed)


class AsksInAnyOrder(Attachment):
    """Its errands are disorderly ones."""

    def attach(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Be the worker of this process."""
        is_new = super().attach(loop)
        if is_new:
            self._errands = Disorderly(loop, immediate=self.engine.immediate)
        return is_new


class Deaf(Renewal):
    """What a renewal tells is not heard."""

    async def renew(self, *, timeout: float) -> None:
        """Renew all of them once."""
        of, self._of = self._of, _Deaf(self._of.standings)  # type: ignore[assignment]
        try:
            await super().renew(timeout=timeout)
        finally:
            self._of = of


class _Deaf:
    def __init__(self, standings: object) -> None:
        self.standings = standings

    def tell(self, note: Note) -> None:
        pass


class Trusting(Renewal):
    """A lease is believed in until somebody says otherwise."""

    @property
    def is_late(self) -> bool:
        """Say no."""
        return False

    def _give_up(self) -> None:
        pass


class BelievesOldGrants(Renewal):
    """A grant counts however late it is heard of."""

    @property
    def is_late(self) -> bool:
        """Say no."""
        return False


class _WithRenewal(Attachment):
    renewal: type[Renewal] = Renewal

    def attach(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Be the worker of this process."""
        is_new = super().attach(loop)
        if is_new:
            self._renewal = self.renewal(self.engine, self._of, self._monotonic)
        return is_new


class IsDeaf(_WithRenewal):
    """What was missed is not heard later."""

    renewal = Deaf


class IsTrusting(_WithRenewal):
    """Nobody knows that a lease may have ended."""

    renewal = Trusting


class BelievesAnything(_WithRenewal):
    """A grant counts however late it is heard of."""

    renewal = BelievesOldGrants


@dataclass(frozen=True, slots=True)
class PlantedInShared:
    """A bug, the name of the plan in which it shows, and what has to happen for that; empty for anything."""

    bug: Bug
    plan: str
    happens: tuple[str, ...] = ()


def _gate(gate: type[SharedGate], plan: str, *happens: str) -> PlantedInShared:
    return PlantedInShared(Bug(gate=gate), plan, happens)


def _steps(steps: type[Steps], plan: str, *happens: str) -> PlantedInShared:
    return PlantedInShared(Bug(steps=steps), plan, happens)


def _attachment(attachment: type[Attachment], plan: str, *happens: str) -> PlantedInShared:
    return PlantedInShared(Bug(attachment=attachment), plan, happens)


KERNEL, TOGETHER, SHARING = "where a death is known at once", "three that become one turn", "three that share a result"
LONG, LATE = "a long turn that is waited for", "a grant that comes late"

PLANTED_IN_SHARED: dict[str, PlantedInShared] = {
    "who leaves the line is granted the lane": _gate(LeavesInSilence, KERNEL, "cancel"),
    "a lane that could not be let go is kept": _gate(LeavesOnce, KERNEL, "cut"),
    "an arrival that may have been heard is forgotten": _gate(TakesUnknownForNothing, KERNEL, "long cut"),
    "who comes again stands at the end": _gate(ComesAgainAtTheEnd, "a line that is lost", "loss"),
    "the senders of messages are not told": _gate(TellsNobody, TOGETHER),
    "a result is shared with nobody": _gate(SharesNothing, SHARING),
    "who waits for a result is forgotten": _gate(ForgetsWhoWaitsForTheResult, SHARING),
    "messages are to be merged again and again": _gate(KeepsTogether, "messages that can not be merged"),
    "a turn that has lost its lane runs on": _gate(LosesNothing, LONG, "long cut"),
    "an interruption from elsewhere is not heard": _gate(HearsNoInterruption, "an interruption from elsewhere"),
    "what is to be taken back is forgotten": _gate(ForgetsTheDebt, "a message that takes back"),
    "a pause is undone only where it was made": _gate(PausesItself, "paused here, resumed there"),
    "lanes close while turns run": _gate(ClosesWhileTurnsRun, "closed while a turn runs"),
    "lanes that close stay open": _gate(NeverCloses, "closed while a turn runs", "close"),
    "who asks again stands in line": _steps(StandsTwice, KERNEL, "cut"),
    "who asks again offers its message again": _steps(OffersAgain, "messages for a turn elsewhere", "cut"),
    "how a wait has ended is told once": _steps(ForgetsFates, TOGETHER),
    "who comes last is first": _steps(TurnsTheLineRound, "three in line"),
    "steps are sent in any order": _attachment(AsksInAnyOrder, "three in line"),
    "what was missed is not heard later": _attachment(IsDeaf, "three in line"),
    "a lease is believed in for ever": _attachment(IsTrusting, LONG, "long cut"),
    "a grant counts however late it is heard of": _attachment(BelievesAnything, LATE, "long cut"),
}
"""By what they do."""
