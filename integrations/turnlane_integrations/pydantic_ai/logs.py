"""The logs of all conversations: proven or only seen, extended and deleted in one step with a look at the revision."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from pydantic_ai.conversation_store import ConversationConflict

from turnlane import Transcripts
from turnlane.clock import Clock
from turnlane.transcripts import Author, Transcript, UnownedEdit
from turnlane.transcripts.given import require_id
from turnlane_integrations.pydantic_ai.lines import Lines, is_record
from turnlane_integrations.pydantic_ai.log import EntryId, Log

__all__ = ("Logs",)


class Logs:
    """The logs of the conversations in some transcripts.

    Args:
        transcripts: where they are.
        lines: how they are written.
    """

    def __init__(self, transcripts: Transcripts, lines: Lines) -> None:
        self._transcripts = transcripts
        self._lines = lines

    @asynccontextmanager
    async def opened(
        self, conversation_id: str, author: Author, at_open: Literal["raise"] | None
    ) -> AsyncGenerator[tuple[Transcript, Log], None]:
        """Open a transcript with its lock, and read what it holds; the arguments are those of `Transcripts.open`.

        Raises:
            TranscriptError: as `Transcripts.open`, or it holds no conversation.
        """
        opening = self._transcripts.open(conversation_id, token=author.token, turn=author.turn, at_open=at_open)
        async with opening as transcript:
            adopted = transcript.fence.adopted
            yield transcript, self._lines.read(transcript.entries, conversation_id, transcript.path, adopted=adopted)

    async def proven(self, conversation_id: str, author: Author, at_open: Literal["raise"] | None) -> Log | None:
        """Return what is owned; None, and nothing is begun, where there is nothing.

        Raises:
            ValueError: it is no id.
            TranscriptError: as `opened`.
        """
        if not await self._is_there(conversation_id):
            return None
        async with self.opened(conversation_id, author, at_open) as (_, log):
            return log

    async def seen(self, conversation_id: str, *, last: int | None = None) -> Log:
        """Return what is there; with `last`, as far as so many lines tell, if there is a record among them.

        Raises:
            TranscriptCorrupt, TranscriptUnavailable: as `Transcripts.read`, or it holds no conversation.
        """
        path = f"{conversation_id!r} in {self._transcripts.store.where}"
        if last is not None:
            lines = await self._transcripts.read(conversation_id, last=last)
            if any(map(is_record, lines)):
                return self._lines.read(lines, conversation_id, path, whole=False)
        return self._lines.read(await self._transcripts.read(conversation_id), conversation_id, path)

    async def having(self, entry_id: str) -> Log:
        """Return what is there of a conversation that has an entry.

        Raises:
            LookupError: there is none.
            TranscriptError: as `seen`.
        """
        told = entry_id.conversation_id if isinstance(entry_id, EntryId) else None
        for conversation_id in await self._transcripts.list() if told is None else (told,):
            log = await self.seen(conversation_id)
            if entry_id in log.entries:
                return log
        raise LookupError(f"no conversation in {self._transcripts.store.where} has an entry {entry_id!r}")

    async def delete(self, conversation_id: str, author: Author, *, only_if: Callable[[Log], bool]) -> None:
        """Delete a transcript that holds what it should.

        Raises:
            ValueError: it is no id.
            ConversationConflict: it does not.
            TranscriptError: it could not be deleted.
        """
        if not await self._is_there(conversation_id):
            raise ConversationConflict(conversation_id)
        handle = await self._transcripts.store.attach(conversation_id)
        try:
            await handle.lock(self._transcripts.lock_timeout)
            lines, _ = await handle.load(author, adopt=False)
            adopted = handle.fence.adopted
            if not only_if(self._lines.read(lines, conversation_id, handle.path, adopted=adopted)):
                raise ConversationConflict(conversation_id)
            await handle.delete(author, at=Clock().wall())
        except UnownedEdit as edit:
            raise ConversationConflict(conversation_id) from edit
        finally:
            await handle.unlock()
            await handle.aclose()

    async def _is_there(self, conversation_id: str) -> bool:
        require_id(conversation_id)
        return await self._transcripts.store.exists(conversation_id)
