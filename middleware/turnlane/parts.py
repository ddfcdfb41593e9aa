"""What a turn is given before it runs, and what is settled when it has: its session, its transcript, old debts."""

# The private side of a turn belongs to the parts it is made of.
# pyright: reportPrivateUsage=false

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from turnlane.errors import NotConfigured, SessionError, TranscriptUnavailable
from turnlane.lanes import Lanes
from turnlane.lanes.scope import TurnScope
from turnlane.policies import Policy, Rollback
from turnlane.sessions import Session, Sessions
from turnlane.transcripts import Transcripts
from turnlane.turns import Turn
from turnlane.turns.opening import TurnTranscript

__all__ = ("Parts",)

logger: logging.Logger = logging.getLogger("turnlane.runtime")


class Parts:
    """Lanes, sessions and transcripts together, for whoever starts turns: `Runtime`, `agent_turn`, the middleware."""

    lanes: Lanes
    sessions: Sessions | None
    transcripts: Transcripts | None

    def require_possible(self, policy: Policy) -> None:
        """Raise where a policy needs what this runtime has not.

        Raises:
            ValueError: it is `Rollback`, and there are no transcripts that note turns.
        """
        traces = self.transcripts is not None and self.transcripts.store.traces_turns
        if isinstance(policy, Rollback) and not traces:
            raise ValueError(
                "Rollback needs a Runtime with sessions, and with transcripts that note turns: "
                "Runtime(sessions=..., transcripts=Transcripts(..., trace_turns=True))"
            )

    @asynccontextmanager
    async def turn_at(
        self,
        scope: TurnScope | None,
        scope_of: Callable[[str], TurnScope],
        *,
        session_id: str | None = None,
        visible: bool = True,
    ) -> AsyncGenerator[Turn, None]:
        """Run one turn in the place `scope` stands for, or, with a session id, in the lane the id belongs to.

        `scope_of` makes a place in a lane.
        """
        while True:
            if scope is None:
                scope = scope_of((await self.session_of(session_id or "")).key)
            async with scope.without_carrying() as turn:
                if await self.enter_session(turn, session_id=session_id, visible=visible):
                    scope.carry()
                    try:
                        yield turn
                    finally:
                        await self.leave_session(turn, visible=visible)
                    return
                # The id went to another key while this turn waited: it was no turn of this lane, and nobody's message
                # has become part of it.
                self.lanes.gate.leave(turn, asyncio.CancelledError())
            scope = None

    async def session_of(self, session_id: str) -> Session:
        """Return the session an explicit id names.

        Raises:
            NotConfigured: there are no sessions.
        """
        return await self._require_sessions("session_id=").resolve_id(session_id)

    async def enter_session(
        self, turn: Turn, *, session_id: str | None = None, visible: bool = True, joined: bool = False
    ) -> bool:
        """Resolve the session of a turn that has its lane; False if its explicit id belongs to another lane by now.

        `joined` tells that the turn is not of this runtime: its end will not be noted.
        """
        if session_id is not None:
            session = await self.session_of(session_id)
            if session.key != turn.key:
                return False
            turn.session = session
        elif self.sessions is not None:
            turn.session = await self.sessions.resolve(turn.key, visible=visible)
        elif not visible:
            self._require_sessions("visible=False")
        found = turn.session
        if self.transcripts is not None and found is not None and (visible or found.version):
            turn._transcript = TurnTranscript(
                self.transcripts, found.id, token=turn.token, turn=turn.id, live=not joined
            )
        if self.lanes.gate.debts or (turn._end is not None and turn._end.takes_back):
            try:
                await self._take_back(turn)
            except BaseException:
                turn.session = turn._transcript = None  # whoever joins this turn has to pay, too
                raise
        return True

    async def _take_back(self, turn: Turn) -> None:
        """Take back what those wrote whose place was taken by `Rollback`. They have ended: this turn has their lane."""
        debts = self.lanes.gate.debts
        owed = debts.get(turn.key, {})
        for interrupted in [each for each in owed if each is not turn]:
            if interrupted._transcript is not None:
                await interrupted._transcript.take_back(token=turn.token, turn=turn.id)
            del owed[interrupted]  # an error leaves it to the next turn
        if not owed:
            debts.pop(turn.key, None)
        if turn._end is not None and turn._end.takes_back:
            if turn._transcript is not None:
                await turn._transcript.take_back_unended()
            turn._end.takes_back = False

    async def leave_session(self, turn: Turn, *, visible: bool = True) -> None:
        """Record the turn as activity of its session. A store that can not is logged: the turn has had its effect."""
        session = turn.session
        if turn._joins is None:
            await self.note_end(turn)
        if self.sessions is None or session is None or not visible or session.version == 0:
            return
        try:
            await self.sessions.touch(session.key)
        except SessionError as error:
            logger.warning("session_touch_failed turn=%s session=%s error=%s", turn.id, session.id, error)

    async def note_end(self, turn: Turn) -> None:
        """Note that a turn has done all it was to do, the calls that joined it too; it is left alone from now on.

        Its end is not noted where what it wrote is to be taken back: if this process dies before, another one does so.
        """
        if turn.session is not None:
            self.lanes.gate.endings.finish(turn)
        if turn._transcript is not None and not self.lanes.gate.is_undone(turn):
            try:
                await turn._transcript.end()
            except TranscriptUnavailable as error:
                logger.warning("turn_end_not_noted turn=%s error=%s", turn.id, error)

    def _require_sessions(self, what: str) -> Sessions:
        if self.sessions is None:
            raise NotConfigured(f"{what} needs sessions: Runtime(sessions='sqlite:///sessions.db') or 'memory://'")
        return self.sessions
