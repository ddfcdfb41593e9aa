"""Lanes that are right but for one bug each, and a scene in which it shows."""

# Bugs are planted in the private side of the lanes.
# pyright: reportPrivateUsage=false

from dataclasses import replace

from models.message_driver import MakeGate
from models.message_words import EVERYTHING, Scene
from turnlane import Coalesce, Enqueue, Interrupt, Rollback
from turnlane.lanes.gate import Gate
from turnlane.lanes.line import Group, Waiter
from turnlane.policies import Policy
from turnlane.turns.talk import Talk
from turnlane.turns.turn import Turn, TurnState

__all__ = ("PLANTED",)


class ForgetsTheCarried(Gate):
    """A turn that is cancelled before it has begun takes along those it carries."""

    def let_go_of_absorbed(self, turn: Turn) -> list[Waiter]:
        super().let_go_of_absorbed(turn)
        return []


class TellsTooEarly(Gate):
    """Those who are carried are told when the lane is handed over."""

    def _grant(self, waiter: Waiter) -> None:
        turn = waiter.turn
        super()._grant(waiter)
        if waiter.absorbed:
            self.carry(turn, waiter)


class OffersToWhoStops(Gate):
    """A turn that was asked to stop is offered messages too."""

    def offer(self, waiter: Waiter, holder: Turn) -> None:
        ending, holder._end = holder._end, None
        super().offer(waiter, holder)
        holder._end = ending


class OffersToAnybody(Gate):
    """A turn is offered messages of other principals."""

    def offer(self, waiter: Waiter, holder: Turn) -> None:
        talk, holders = waiter.turn._talk, holder._talk
        if talk is None or holders is None:
            return
        principal, talk.principal = talk.principal, holders.principal
        super().offer(waiter, holder)
        talk.principal = principal


class KeepsOffering(Gate):
    """What was offered to a turn that has ended may still be done with."""

    def _steered(self, turn: Turn, holder: Turn) -> bool:
        state, holder._state = holder._state, TurnState.RUNNING
        done = super()._steered(turn, holder)
        holder._state = state
        return done


class WaitsForNobody(Gate):
    """Who stands behind a window that everybody has left waits for its end."""

    def _take_out(self, waiter: Waiter) -> None:
        self._forget_wait(waiter)
        self.table.withdraw(waiter)


class SupersedesOnlyTheLine(Gate):
    """An interruption passes over those who are carried and not told yet."""

    def _take_over(self, turn: Turn, policy: Interrupt | Rollback) -> None:
        holder = self.table.holders.get(turn.key)
        wait = None if holder is None else holder._wait
        carried, waiter = (wait.absorbed, wait) if isinstance(wait, Waiter) else (None, None)
        if waiter is not None:
            waiter.absorbed = None
        super()._take_over(turn, policy)
        if waiter is not None:
            waiter.absorbed = carried


class SupersedesWhoShares(Gate):
    """An interruption ends those who wait for the result of the turn that runs."""

    def _take_over(self, turn: Turn, policy: Interrupt | Rollback) -> None:
        holder = self.table.holders.get(turn.key)
        if holder is not None and holder._talk is not None:
            holder._talk.told = False
        super()._take_over(turn, policy)


class SharesNothing(Gate):
    """Who should have the result of a turn is told when it begins."""

    def begin_carrying(self, turn: Turn) -> None:
        super().begin_carrying(turn)
        waiter = turn._wait
        if isinstance(waiter, Waiter) and waiter.absorbed:
            absorbed, waiter.absorbed = waiter.absorbed, None
            self._tell_absorbed(turn, absorbed, None)


class SharesWhatFailed(Gate):
    """A turn that has failed has a result."""

    def end_talk(self, turn: Turn, talk: Talk) -> None:
        talk.result = talk.messages[-1] if talk.messages else None
        super().end_talk(turn, talk)


class KeepsTheDeadline(Gate):
    """Who waits for a result may still expire."""

    def carry(self, turn: Turn, waiter: Waiter) -> None:
        super().carry(turn, waiter)
        for other in waiter.absorbed or ():
            self.deadlines.add(other, 300)


class ExpiresOnlyInLine(Gate):
    """A wait that expires while its message is carried goes on."""

    def _expire(self, waiter: Waiter) -> None:
        if waiter.line is not None:
            super()._expire(waiter)


class MergesTooMany(Gate):
    """A group takes in one more than it may."""

    def group_for(self, turn: Turn, policy: Coalesce) -> Group | None:
        return super().group_for(turn, replace(policy, max_merged=policy.max_merged + 1))


class TellsOfTheLastOnly(Gate):
    """Of several that were dropped a turn is told the last."""

    def _drop_oldest(self, group: Group, newcomer: Turn) -> None:
        group.dropped = ()
        super()._drop_oldest(group, newcomer)


class ForgetsTheDropped(Gate):
    """What was dropped is told to nobody if the newest leaves before its turn has begun."""

    def let_go_of_absorbed(self, turn: Turn) -> list[Waiter]:
        absorbed = super().let_go_of_absorbed(turn)
        for other in absorbed:
            if other.group is not None:
                other.group.dropped = ()
        return absorbed


class OwesForTheLine(Gate):
    """The debt names those who stood in line, too."""

    def _take_over(self, turn: Turn, policy: Interrupt | Rollback) -> None:
        line = [waiter.turn for waiter in self.table.lines.get(turn.key, ())]
        super()._take_over(turn, policy)
        if isinstance(policy, Rollback) and line:
            self.debts.setdefault(turn.key, {}).update(dict.fromkeys(line))


class OwesForTheLastOnly(Gate):
    """A debt that nobody has paid is forgotten for the next one."""

    def _take_over(self, turn: Turn, policy: Interrupt | Rollback) -> None:
        if isinstance(policy, Rollback):
            self.debts.pop(turn.key, None)
        super()._take_over(turn, policy)


class OwesNothingWhenAskedBefore(Gate):
    """A turn that was asked to stop already is not rolled back."""

    def _take_over(self, turn: Turn, policy: Interrupt | Rollback) -> None:
        holder = self.table.holders.get(turn.key)
        asked = holder is not None and holder.interrupted
        super()._take_over(turn, Interrupt(grace=policy.grace) if asked else policy)


class TakesBackOnlyItsOwn(Gate):
    """Nobody takes back what a turn of a process that died has written, where it had to wait."""

    def _take_over(self, turn: Turn, policy: Interrupt | Rollback) -> None:
        super()._take_over(turn, policy)
        if turn._end is not None:
            turn._end.takes_back = False


class CountsTheSuperseded(Gate):
    """Who takes over is refused for the sake of those it would supersede."""

    def _require_room_for_principal(self, turn: Turn, ancestor: Turn | None, policy: Policy) -> None:
        super()._require_room_for_principal(
            turn, ancestor, Enqueue() if isinstance(policy, Interrupt | Rollback) else policy
        )


class CountsGroupsOnce(Gate):
    """Whoever joins a group needs no room of its own."""

    def _require_room_for_principal(self, turn: Turn, ancestor: Turn | None, policy: Policy) -> None:
        line = self.table.lines.get(turn.key)
        if line is None or line.tail is None or line.tail.group is None:
            super()._require_room_for_principal(turn, ancestor, policy)


PLANTED: list[tuple[MakeGate, Scene]] = [
    (ForgetsTheCarried, Scene(("enqueue", "coalesce", "coalesce"))),
    (TellsTooEarly, Scene(("enqueue", "coalesce", "coalesce"))),
    (OffersToWhoStops, Scene(("enqueue", "interrupt", "steer"))),
    (OffersToAnybody, Scene(("enqueue", "steer", "steer"), principals=("p", "q", "p"))),
    (KeepsOffering, Scene(("enqueue", "enqueue", "steer"))),
    (WaitsForNobody, Scene(("enqueue", "coalesce", "enqueue"))),
    (SupersedesOnlyTheLine, Scene(("enqueue", "coalesce", "coalesce", "interrupt"))),
    (SupersedesWhoShares, Scene(("enqueue", "share", "share", "interrupt"))),
    (SharesNothing, Scene(("enqueue", "share", "share"))),
    (SharesWhatFailed, Scene(("reject", "share", "share"), EVERYTHING)),
    (KeepsTheDeadline, Scene(("enqueue", "share", "share"))),
    (ExpiresOnlyInLine, Scene(("reject", "coalesce", "coalesce"), EVERYTHING)),
    (MergesTooMany, Scene(("enqueue", "refuse", "refuse", "refuse"))),
    (TellsOfTheLastOnly, Scene(("enqueue", "oldest", "oldest", "oldest", "oldest"))),
    (ForgetsTheDropped, Scene(("enqueue", "oldest", "oldest", "oldest"))),
    (OwesForTheLine, Scene(("enqueue", "enqueue", "rollback"))),
    (OwesForTheLastOnly, Scene(("enqueue", "rollback", "rollback"))),
    (OwesNothingWhenAskedBefore, Scene(("enqueue", "interrupt", "rollback"))),
    (TakesBackOnlyItsOwn, Scene(("enqueue", "rollback"))),
    (CountsTheSuperseded, Scene(("enqueue", "coalesce", "interrupt"), principals=("p", "p", "p"), most_waiting=1)),
    (CountsGroupsOnce, Scene(("enqueue", "coalesce", "coalesce"), principals=("p", "p", "p"), most_waiting=1)),
]
