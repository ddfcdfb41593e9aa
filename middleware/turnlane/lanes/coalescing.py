"""Messages that become part of another turn: of the newest that waits beside them, or of the one that runs."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from turnlane import errors
from turnlane.hooks import TurnCoalescing, TurnSteering
from turnlane.lanes.leaving import Leaving
from turnlane.lanes.line import Group, Waiter
from turnlane.policies import Coalesce
from turnlane.turns.talk import Steered, Talk
from turnlane.turns.turn import Turn, TurnState

__all__ = ("Coalescing", "Terms")

WAITING, RUNNING = TurnState.WAITING, TurnState.RUNNING


class Terms(NamedTuple):
    """What the members of a group agree in: who they are for, what would answer them, how they become one turn."""

    principal: Hashable
    target: object
    policy: Coalesce


class Coalescing(Leaving):
    """Groups of waiters that become one turn, and messages offered to a turn that runs.

    A group starts when its lane is free and nobody has joined it for its window. The turn of the newest carries it; the
    others are told when that turn has really begun and their messages are merged: if it is cancelled before, the rest
    of the group stands where it stood, and if `merge` raises, each of them becomes a turn of its own.
    """

    # -- groups

    def group_for(self, turn: Turn, policy: Coalesce) -> Group | None:
        """Return the group an arriving turn belongs to, new or that at the end of its line, with room for it.

        None for a turn without a message, or nested in a running one: it stands alone.

        Raises:
            LaneFull: the group is as large as the policy allows, and refuses.
        """
        talk, line = turn._talk, self.table.lines.get(turn.key)
        if talk is None or not talk.messages or turn._parent is not None:
            return None
        terms = Terms(
            talk.principal, talk.target, replace(policy, wait_timeout=None)
        )  # how long each waits is its own business
        group = None if line is None or line.tail is None else line.tail.group
        if group is None or group.terms != terms:
            return Group(terms)
        if len(group.members) >= policy.max_merged:
            if policy.overflow == "refuse":
                size = len(group.members)
                raise self._refuse(turn, errors.LaneFull(turn.key, waiting=size, max_waiting=size), "full")
            self._drop_oldest(group, turn)
        return group

    def _drop_oldest(self, group: Group, newcomer: Turn) -> None:
        oldest = next(iter(group.members))
        talk = oldest.turn._talk
        group.dropped += () if talk is None else talk.messages
        self.table.withdraw(oldest)
        self._dismiss(oldest, "superseded", by=newcomer)

    def await_window(self, group: Group, policy: Coalesce) -> None:
        """Let a group that somebody is about to join start only when nobody has followed for the window.

        A group that is full waits for nobody.
        """
        group.ripe = not policy.window or len(group.members) + 1 >= policy.max_merged
        if group.ripe:
            self.forget_window(group)
            return
        group.closes = self.loop.time() + policy.window
        if group.timer is None:
            group.timer = self.loop.call_at(group.closes, self._close_window, group)

    def _close_window(self, group: Group) -> None:
        if self.loop.time() < group.closes:  # somebody has joined since the timer was set
            group.timer = self.loop.call_at(group.closes, self._close_window, group)
            return
        group.timer = None
        self.hand_over(self.table.ripen(group))

    def forget_window(self, group: Group) -> None:
        """Wait no longer for a group to be complete."""
        if group.timer is not None:
            group.timer.cancel()
            group.timer = None

    # -- the turn that carries a group

    def carry(self, turn: Turn, waiter: Waiter) -> None:
        """Take over the messages of those a turn has absorbed; called in its own task, when it has its lane.

        Raises:
            BaseException: what `merge` raised, or what is wrong with its message; nobody was absorbed then.
        """
        group, talk, absorbed = waiter.group, turn._talk, waiter.absorbed
        if group is None or talk is None or absorbed is None or not isinstance(group.terms, Terms):
            return
        talk.dropped = group.dropped
        if not absorbed:
            waiter.absorbed = None
            return
        policy = group.terms.policy
        others = [other.turn._talk for other in absorbed if other.turn._talk is not None]
        messages = (*(message for each in others for message in each.messages), *talk.messages)
        try:
            message = talk.message if policy.merge is None else policy.merge(messages)
            if policy.merge is not None and talk.require is not None:
                talk.require(message)
        except BaseException:
            waiter.absorbed = None
            for other in absorbed:
                other.group = other.carrier = None
            self.table.restore(absorbed)
            raise
        talk.messages, talk.message, talk.told, talk.shares = messages, message, True, policy.share_result
        for each in others:
            each.taken = True
        if not policy.share_result:
            waiter.absorbed = None
            self._tell_absorbed(turn, absorbed, None)
            return
        for other in absorbed:
            self._forget_wait(other)  # what it waits for now is a turn that runs

    def end_talk(self, turn: Turn, talk: Talk) -> None:
        """Tell those whose messages a turn took, or was offered, that it has ended."""
        if talk.steering is not None:
            talk.steering.close()
        restored = self.let_go_of_absorbed(turn)
        self.table.restore(restored)
        if self.draining:
            for other in restored:
                self.expel(other.turn, errors.LanesDraining(turn.key), "draining")
        waiter = turn._wait
        if isinstance(waiter, Waiter) and waiter.absorbed:
            absorbed, waiter.absorbed = waiter.absorbed, None
            self._tell_absorbed(turn, absorbed, talk.result)

    def let_go_of_absorbed(self, turn: Turn) -> list[Waiter]:
        """Return those a turn has absorbed and not told so yet; they are not absorbed any more."""
        waiter, talk = turn._wait, turn._talk
        if not isinstance(waiter, Waiter) or not waiter.absorbed or talk is None or talk.told:
            return []
        absorbed, waiter.absorbed = waiter.absorbed, []
        for other in absorbed:
            other.carrier = None
        return absorbed

    def _tell_absorbed(self, turn: Turn, absorbed: list[Waiter], result: object) -> None:
        for other in absorbed:
            other.carrier = None
            error = errors.TurnCoalesced(turn.key, turn=other.turn.id, into=turn.id, result=result)
            self._end_wait(other, error, "coalesced")
            if self.hooks.active and self.hooks.wants(TurnCoalescing):
                self.hooks.emit(TurnCoalescing(key=turn.key, turn=error.turn, into=turn.id))

    def _end_wait(self, waiter: Waiter, error: errors.TurnRedirected, reason: str) -> None:
        self._forget_wait(waiter)
        self._refuse(waiter.turn, error, reason)
        self._wake(waiter, error)
        del waiter.turn

    # -- steering

    def offer(self, waiter: Waiter, holder: Turn) -> None:
        """Offer the message of one who waits to the turn that runs, if that is for the same principal."""
        turn = waiter.turn
        if turn._talk is None or not turn._talk.messages or holder.interrupted:
            return
        if turn._talk.principal != (None if holder._talk is None else holder._talk.principal):
            return
        waits = partial(_waits, turn)
        finish = partial(self._steered, turn, holder)
        holder.steering.offer(Steered(turn._talk.message, turn.id, waits=waits, finish=finish))

    def _steered(self, turn: Turn, holder: Turn) -> bool:
        waiter = turn._wait
        if turn._state is not WAITING or holder._state is not RUNNING or not isinstance(waiter, Waiter):
            return False
        if turn._talk is not None:
            turn._talk.taken = True
        self.table.withdraw(waiter)
        self._end_wait(waiter, errors.TurnSteered(turn.key, turn=turn.id, into=holder.id), "steered")
        if self.hooks.active and self.hooks.wants(TurnSteering):
            self.hooks.emit(TurnSteering(key=turn.key, turn=turn.id, into=holder.id))
        return True


def _waits(turn: Turn) -> bool:
    return turn._state is WAITING
