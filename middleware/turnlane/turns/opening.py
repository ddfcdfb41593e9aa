"""The transcript of one turn: opened by the first of its calls that wants it, closed with the last."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from turnlane.transcripts import Transcript, Transcripts
from turnlane.transcripts.contract import Author
from turnlane.transcripts.working import to_its_end

__all__ = ("TurnTranscript",)


class TurnTranscript:
    """Opens the transcript of a turn.

    Mutable: `_current` and `_stack` (while it is open), `_users` (the blocks it is open for).

    Args:
        transcripts: where it is.
        session_id: of the turn's session.
        token: the turn's fencing token.
        turn: the turn's id.
    """

    __slots__ = ("_current", "_opening", "_session_id", "_stack", "_token", "_transcripts", "_turn", "_users")

    def __init__(self, transcripts: Transcripts, session_id: str, *, token: int, turn: str) -> None:
        self._transcripts = transcripts
        self._session_id = session_id
        self._token = token
        self._turn = turn
        self._opening = asyncio.Lock()
        self._current: Transcript | None = None
        self._stack = AsyncExitStack()
        self._users = 0

    @property
    def current(self) -> Transcript | None:
        """The one that is open."""
        return self._current

    def belongs_to(self, transcripts: object, session_id: str) -> bool:
        """Tell whether it is the one of `session_id` in `transcripts`."""
        return self._transcripts is transcripts and self._session_id == session_id

    async def take_back(self, *, token: int, turn: str) -> None:
        """Take back what this turn has written, once it has ended, for the turn with that token and id.

        Raises:
            TranscriptError: nothing was taken back.
        """
        await self._transcripts.take_out(self._session_id, self._turn, token=token, turn=turn)

    async def take_back_unended(self) -> None:
        """Take back, for this turn, what the last one to write has written if it has not ended: its process died.

        Raises:
            TranscriptError: nothing was taken back.
        """
        store = self._transcripts.store
        unended = await store.unended(self._session_id) if store.traces_turns else None
        if unended is not None and unended != self._turn:
            await self._transcripts.take_out(self._session_id, unended, token=self._token, turn=self._turn)

    async def end(self) -> None:
        """Note that this turn has ended, for those that would take back what it has written.

        Raises:
            TranscriptUnavailable: the store could not.
        """
        store = self._transcripts.store
        if store.traces_turns:
            author = Author(turn=self._turn, token=self._token)
            await to_its_end(asyncio.ensure_future(store.end_turn(self._session_id, author)))

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Transcript, None]:
        """Open it for a block, or share the one that is open."""
        async with self._opening:
            if self._current is None:
                opened = self._transcripts.open(self._session_id, token=self._token, turn=self._turn)
                self._current = await self._stack.enter_async_context(opened)
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
