"""The transcript of one turn: opened by the first of its calls that wants it, closed with the last."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from turnlane.transcripts import Transcript, Transcripts
from turnlane.transcripts.contract import Author
from turnlane.transcripts.working import to_its_end

__all__ = ("TurnTranscript",)


class TurnTranscript:
    """Opens the transcript of a turn.

    Mutable: `_current` and `_stack` (while it is open), `_users` (the blocks it is open for), `_live` (until the end of
    the turn is noted, its process is to be taken for dead if it is not).

    Args:
        transcripts: where it is.
        session_id: of the turn's session.
        token: the turn's fencing token.
        turn: the turn's id.
        live: whether its end will be noted.
    """

    __slots__ = (
        "_author",
        "_current",
        "_live",
        "_opening",
        "_pid",
        "_session_id",
        "_stack",
        "_transcripts",
        "_users",
    )

    def __init__(self, transcripts: Transcripts, session_id: str, *, token: int, turn: str, live: bool) -> None:
        self._transcripts = transcripts
        self._session_id = session_id
        self._author = Author(turn=turn, token=token)
        self._opening = asyncio.Lock()
        self._current: Transcript | None = None
        self._stack = AsyncExitStack()
        self._users = 0
        self._live = live and transcripts.store.traces_turns
        self._pid = os.getpid()

    @property
    def current(self) -> Transcript | None:
        """The one that is open."""
        return self._current

    def belongs_to(self, transcripts: object, session_id: str) -> bool:
        """Tell whether it is the one of `session_id` in `transcripts`."""
        return self._transcripts is transcripts and self._session_id == session_id

    def vouches_for(self, transcripts: object, session_id: str) -> bool:
        """Tell whether it is, and the end of the turn will be noted there."""
        return self._live and self.belongs_to(transcripts, session_id)

    async def take_back(self, *, token: int, turn: str) -> None:
        """Take back what this turn has written, once it has ended, for the turn with that token and id.

        Raises:
            TranscriptError: nothing was taken back.
        """
        await self._transcripts.take_out(self._session_id, self._author.turn, token=token, turn=turn)

    async def take_back_unended(self) -> None:
        """Take back, for this turn, what the last one to write has written if it has not ended: its process died.

        Raises:
            TranscriptError: nothing was taken back.
        """
        store, author = self._transcripts.store, self._author
        if not store.traces_turns or await store.unended(self._session_id) is None:
            return
        async with self._transcripts.open(self._session_id, token=author.token, turn=author.turn) as transcript:
            unended = await store.unended(self._session_id)  # nobody writes now; it may have ended meanwhile
            if unended is not None and unended != author.turn:
                await transcript.take_out(unended)

    async def end(self) -> None:
        """Note that this turn has ended, for those that would take back what it has written.

        Raises:
            TranscriptUnavailable: the store could not.
        """
        if self._live and self._pid == os.getpid():  # the turn goes on in the parent of a forked process
            self._live = False
            if self._current is not None:
                self._current.live = False
            store = self._transcripts.store
            await to_its_end(asyncio.ensure_future(store.end_turn(self._session_id, self._author)))

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Transcript, None]:
        """Open it for a block, or share the one that is open."""
        async with self._opening:
            if self._current is None:
                opened = self._transcripts.open(self._session_id, token=self._author.token, turn=self._author.turn)
                self._current = await self._stack.enter_async_context(opened)
                self._current.live = self._live
            self._users += 1
        transcript = self._current
        try:
            yield transcript
        except BaseException as error:
            await self._leave(error)
            raise
        await self._leave(None)

    async def _leave(self, error: BaseException | None) -> None:
        self._users -= 1
        if self._users:
            return
        stack, self._stack, self._current = self._stack, AsyncExitStack(), None
        if error is None:
            await stack.aclose()
        else:
            await stack.__aexit__(type(error), error, error.__traceback__)
