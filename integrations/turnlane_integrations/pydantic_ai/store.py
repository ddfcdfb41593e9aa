"""`TranscriptConversationStore`: the conversations of pydantic-ai in transcripts."""

import asyncio
from collections.abc import Sequence
from copy import copy
from typing import Any, Literal, Self

from pydantic_ai.agent import AgentRunResult
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_core import PydanticSerializationError

from turnlane import Transcripts, Turn
from turnlane.errors import TranscriptError
from turnlane.transcripts import Author, Entry
from turnlane.transcripts.working import to_its_end
from turnlane_integrations._checked import some_transcripts
from turnlane_integrations.pydantic_ai.lines import Lines, line_of
from turnlane_integrations.pydantic_ai.logs import Logs
from turnlane_integrations.pydantic_ai.takeover import kept

__all__ = ("TranscriptConversationStore",)


class TranscriptConversationStore(ConversationStore):
    """A `ConversationStore` of pydantic-ai that keeps each conversation in a transcript of its own, named by its id.

    Guarantees: a save is stored whole or not at all, and only onto the revision it was made from: look and write are
    one step under the transcript's lock, also against other processes. A change by anybody who does not own the
    transcript is found when a save comes that does not know it: that is a `ConversationTakeover`, or a
    `ConversationConflict` where somebody else has loaded what was changed. What could not be saved is in the salvage;
    the error, or a note of it, says where. Whoever loads next gets what is there.

    Not guaranteed: that a conflict comes before the model was called; that is what `LaneAgent` and `conversation_turn`
    are for. `fork` copies the messages, so that a conversation is deleted by itself; a deleted one is kept as a
    tombstone for `retain_days` of the transcripts. `list_conversations` looks into every conversation, and so does
    `read_entry` for an id that was kept elsewhere.

    Args:
        transcripts: where the conversations are, and nothing else.

    Raises:
        ValueError: these are none.
    """

    def __init__(self, transcripts: Transcripts) -> None:
        self._transcripts = some_transcripts(transcripts, "transcripts")
        self._lines = Lines()
        self._logs = Logs(transcripts, self._lines)
        self._author = Author()
        self._at_open: Literal["raise"] | None = None

    def __repr__(self) -> str:
        return f"<TranscriptConversationStore {self._transcripts!r}>"

    def of_turn(self, turn: Turn) -> Self:
        """Return the same store for one turn, the turns of whose lane are all that write these conversations.

        A turn whose lease has expired saves no more, once a later one has: `StaleTurn`.
        """
        made = copy(self)
        made._author = Author(turn=turn.id, token=turn.token)
        return made

    async def save(
        self, conversation: Conversation | AgentRunResult[Any], *, scope: str | None = None
    ) -> list[ConversationEntry]:
        """Save a conversation as `ConversationStore.save` does; to its end, also where the caller is cancelled.

        Raises:
            ConversationConflict: it was saved, deleted or changed since it was loaded, or is of another scope.
            ConversationTakeover: somebody who does not own its transcript changed it.
            TranscriptError: it could not be stored.
            PydanticSerializationError: it can not: JSON has no such value.
        """
        return await to_its_end(asyncio.ensure_future(self._save(conversation, scope)))

    async def _save(
        self, conversation: Conversation | AgentRunResult[Any], scope: str | None
    ) -> list[ConversationEntry]:
        given = conversation.conversation if isinstance(conversation, AgentRunResult) else conversation
        unsaved = given.messages[given.new_message_index or 0 :]
        knowing = copy(self)
        if given.revision is not None:  # who has loaded it adopts nothing that it does not know
            knowing._at_open = "raise"
        try:
            return await ConversationStore.save(knowing, conversation, scope=scope)
        except (ConversationConflict, TranscriptError, PydanticSerializationError) as error:
            words = self._lines.words_of(unsaved)
            told = await kept(self._transcripts, given.conversation_id, words, self._author, error)
            if told is error:
                raise
            raise told from error

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation, or None.

        Raises:
            ValueError: it is no id.
            TranscriptError: as `Transcripts.open`, or its transcript holds no conversation.
        """
        log = await self._logs.proven(conversation_id, self._author, self._at_open)
        return None if log is None else log.record

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        """Return the records of all conversations, or those of a scope, the last that was saved first."""
        logs = [await self._logs.seen(each, last=1) for each in await self._transcripts.list()]
        found = [log.record for log in logs if log.record is not None and scope in (None, log.record.scope)]
        found.sort(key=lambda record: record.updated_at, reverse=True)
        return found[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and what is new before it, if `expected_revision` is there, in one step.

        Raises:
            ConversationConflict: another revision is there, or the entry the record points at is nowhere.
            TranscriptError: it could not be stored.
        """
        head, known = record.head_id, {entry.id for entry in new_entries}
        async with self._logs.opened(record.conversation_id, self._author, self._at_open) as (transcript, log):
            if log.revision != expected_revision:
                raise ConversationConflict(record.conversation_id)
            new = self._lines.of_entries(new_entries)
            if head is not None and head not in known and head not in log.entries:
                new = [*await self._copied(record, head), *new]
            await transcript.append(*new, self._lines.of_record(record, transcript.fence.adopted))

    async def _copied(self, record: ConversationRecord, head: str) -> list[Entry]:
        """Return the lines of a history that is in another conversation."""
        source = record.forked_from
        try:
            log = await self._logs.having(head) if source is None else await self._logs.seen(source)
            return [line_of(entry) for entry in log.lineage(head)]
        except LookupError as error:
            raise ConversationConflict(record.conversation_id) from error

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation with all its messages, if `expected_revision` is there.

        Raises:
            ValueError: it is no id.
            ConversationConflict: another revision is there.
            TranscriptError: it could not be deleted.
        """
        deleting = self._logs.delete(
            conversation_id, self._author, only_if=lambda log: log.revision == expected_revision
        )
        await to_its_end(asyncio.ensure_future(deleting))
        await self._transcripts.sweep()

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry.

        Raises:
            LookupError: no conversation has it.
        """
        log = await self._logs.having(entry_id)
        return self._lines.entries(log, [log.entries[entry_id]])[0]

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """Return the entries up to `head_id`, or the last of them.

        Raises:
            LookupError: no conversation has them.
        """
        if head_id is None or limit == 0:
            return []
        log = await self._logs.having(head_id)
        return self._lines.entries(log, log.lineage(head_id)[-(limit or 0) :])
