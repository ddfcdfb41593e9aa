"""What an engine tells of its own accord, done to the turns of this process."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import logging
from abc import abstractmethod
from typing import cast

from turnlane import errors
from turnlane.engines.base import Draining, Granted, Interrupted, Lost, Offered, Over, Told
from turnlane.hooks import LaneLost, TurnCoalescing, TurnSteering
from turnlane.lanes.shared_messages import readable
from turnlane.lanes.shared_table import SharedTable
from turnlane.lanes.short_ways import ShortWays
from turnlane.lanes.standing import Standing
from turnlane.turns.turn import Ending, Turn, TurnState

__all__ = ("SharedNotes",)

logger: logging.Logger = logging.getLogger("turnlane.lanes")

WAITING = TurnState.WAITING


class SharedNotes(ShortWays):
    """Turns are started, told how their wait has ended, asked to stop, or lost, as the engine says."""

    def tell(self, note: Told) -> None:
        """Do what the engine tells to the turn it is about, or to all."""
        match note:
            case Granted():
                if not self._attachment.is_late:  # else it is told again, if it still is so
                    self._granted(note)
            case Over():
                self._over(note)
            case Interrupted():
                self._interrupted(note)
            case Offered():
                self._offered(note)
            case Lost():
                self._lost(note)
            case Draining(draining=draining):
                self.set_draining(draining)

    def _granted(self, note: Granted) -> None:
        standing = self.standings.get(note.ticket)
        if standing is None or standing.turn._state is not WAITING or standing.granted is not None:
            return  # it has left, which passes the lane on; or it knows
        standing.granted, standing.known, waiter = note, True, standing.waiter
        if note.carried or note.dropped:
            waiter.absorbed = []  # so that `begin_carrying` is called when nothing else keeps it from running
        self.hand_over(cast("SharedTable", self.table).grant(waiter))

    def _start(self, turn: Turn) -> None:
        super()._start(turn)
        granted = self.standings[turn.id].granted
        if granted is None:
            raise RuntimeError(f"{turn} starts and was not granted its lane")
        turn.token = granted.token
        if granted.owes:
            turn._end = turn._end or Ending()
            turn._end.takes_back = True

    def _over(self, note: Over) -> None:
        standing = self.standings.get(note.ticket)
        if standing is None or standing.turn._state is not WAITING:
            return
        turn, waiter = standing.turn, standing.waiter
        if turn._talk is not None and note.how != "superseded":
            turn._talk.taken = True
        if note.how == "shared":
            self._forget_wait(waiter)  # what it waits for now is a turn that runs
            return
        standing.over = True
        if note.how == "superseded":
            self.expel(
                turn, errors.TurnInterrupted(turn.key, turn=turn.id, into=note.into, running=False), "superseded"
            )
            return
        if note.how == "coalesced":
            self.expel(
                turn,
                errors.TurnCoalesced(
                    turn.key, turn=turn.id, into=note.into, result=standing.result or readable(note.payload)
                ),
                "coalesced",
            )
            if self.hooks.active and self.hooks.wants(TurnCoalescing):
                self.hooks.emit(TurnCoalescing(key=turn.key, turn=note.ticket, into=note.into))
            return
        self.expel(turn, errors.TurnSteered(turn.key, turn=turn.id, into=note.into), "steered")
        if self.hooks.active and self.hooks.wants(TurnSteering):
            self.hooks.emit(TurnSteering(key=turn.key, turn=note.ticket, into=note.into))

    def _interrupted(self, note: Interrupted) -> None:
        standing = self.standings.get(note.ticket)
        if standing is None:
            return
        turn = standing.turn
        if turn._state is WAITING and standing.granted is not None and note.by:  # it has the lane, and no running slot
            error = errors.TurnInterrupted(turn.key, turn=turn.id, into=note.by, running=False)
            self.loop.call_soon(self.expel, turn, error, "superseded")  # which asks for a step
        if not turn.running:
            return
        self.endings.interrupt(turn, by=note.by or None, grace=note.grace)
        if note.rollback and turn._end is not None and not turn._end.over:
            turn._end.undone = True

    def _lost(self, note: Lost) -> None:
        standing = self.standings.get(note.ticket)
        if standing is None or standing.over:
            return
        if standing.turn.running:
            self.lose(standing)
        elif standing.turn._state is WAITING:
            self._revoke(standing)
            standing.come_again()
            self._come(standing)

    def lose(self, standing: Standing) -> None:
        """Cancel a running turn: others may have its lane. One that waits for a running slot has its lane no more."""
        turn = standing.turn
        if turn._state is WAITING:
            self._revoke(standing)
        if turn.running and not turn.lost:
            logger.warning("lane_lost turn=%s engine=%s", turn.id, self.engine.where)
            self.endings.lose(turn, self.engine.where)
            if self.hooks.active and self.hooks.wants(LaneLost):
                self.hooks.emit(LaneLost(key=turn.key, turn=turn.id, engine=self.engine.where))

    def _revoke(self, standing: Standing) -> None:
        if standing.granted is not None:
            standing.granted = None
            cast("SharedTable", self.table).revoke(standing.waiter)

    @abstractmethod
    def _come(self, standing: Standing) -> None:
        """Ask for the lane."""
