"""The lines of a conversation: `{"entry": ...}` for each message, and a `{"record": ...}` behind those of each save.

The last record counts. Nothing is ever taken away: a branch is left by a record that points elsewhere.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_ai import messages
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
from pydantic_ai.messages import ModelMessage
from pydantic_core import PydanticSerializationError

from turnlane.errors import TranscriptCorrupt
from turnlane.transcripts import Entry
from turnlane_integrations.pydantic_ai.log import EntryId, Log, Stored

__all__ = ("Lines", "is_record", "line_of")

ENTRY, RECORD, ADOPTED = "entry", "record", "adopted"
KIND = "message"


def is_record(line: Entry) -> bool:
    """Tell whether a line holds a record."""
    return RECORD in line


def line_of(entry: Stored) -> Entry:
    """Return the line that holds an entry."""
    return {ENTRY: {"id": entry.id, "parent_id": entry.parent_id, "kind": KIND, "message": entry.message}}


class Lines:
    """Makes lines of entries and records, and entries and records of lines, as pydantic-ai writes them in JSON."""

    def __init__(self) -> None:
        self._record = TypeAdapter(ConversationRecord)

    def of_entries(self, entries: Sequence[ConversationEntry]) -> list[Entry]:
        """Return the lines of entries."""
        dumped = self.of_messages(entry.message for entry in entries)
        return [
            line_of(Stored(0, each.id, each.parent_id, message)) for each, message in zip(entries, dumped, strict=True)
        ]

    def of_messages(self, found: Iterable[ModelMessage]) -> list[Any]:
        """Return messages as JSON holds them."""
        return cast("list[Any]", json.loads(messages.ModelMessagesTypeAdapter.dump_json(list(found))))

    def words_of(self, found: Sequence[ModelMessage]) -> list[Any]:
        """Return messages as JSON holds them, or as texts for people where it can not."""
        try:
            return self.of_messages(found)
        except PydanticSerializationError:
            return [repr(each) for each in found]

    def of_record(self, record: ConversationRecord, adopted: int) -> Entry:
        """Return the line of a record, which is stored behind an adoption."""
        return {RECORD: json.loads(self._record.dump_json(record)), ADOPTED: adopted}

    def read(
        self, lines: Sequence[Entry], conversation_id: str, path: str, *, adopted: int | None = None, whole: bool = True
    ) -> Log:
        """Return what the lines of a transcript hold.

        Args:
            lines: of the transcript.
            conversation_id: whose they are.
            path: names the transcript in errors.
            adopted: the adoption it goes back to: where that is not the one its record was stored behind, somebody who
                does not own it has changed it since, and its revision is another one. None where nobody has looked.
            whole: whether these are all lines, and what is pointed at must be among them.

        Raises:
            TranscriptCorrupt: a line is none of a conversation, or what it points at is not there.
        """
        entries: dict[str, Stored] = {}
        record: ConversationRecord | None = None
        for number, line in enumerate(lines, 1):
            if is_record(line):
                record = self._record_in(line, conversation_id, path, number, adopted)
                continue
            found = _entry_in(line, number)
            if found is None:
                raise TranscriptCorrupt(path, line=number, reason="it holds no entry of a conversation, and no record")
            entries[found.id] = found
        if entries and record is None:
            raise TranscriptCorrupt(path, line=len(lines), reason="there is no record of a conversation up to here")
        if whole and record is not None:
            _require_whole(entries, record.head_id, path, len(lines))
        return Log(conversation_id, path, record, entries)

    def entries(self, log: Log, stored: Sequence[Stored]) -> list[ConversationEntry]:
        """Return entries of a log as pydantic-ai has them.

        Raises:
            TranscriptCorrupt: the message of one is none.
        """
        try:
            read = messages.ModelMessagesTypeAdapter.validate_json(json.dumps([each.message for each in stored]))
        except ValidationError as error:
            wrong = stored[cast("int", error.errors()[0]["loc"][0])]
            raise TranscriptCorrupt(log.path, line=wrong.line, reason=f"its message is none: {error}") from error
        of, whose = EntryId.of, log.conversation_id
        return [
            ConversationEntry(
                id=of(each.id, whose),
                parent_id=None if each.parent_id is None else of(each.parent_id, whose),
                message=message,
            )
            for each, message in zip(stored, read, strict=True)
        ]

    def _record_in(
        self, line: Entry, conversation_id: str, path: str, number: int, adopted: int | None
    ) -> ConversationRecord:
        try:
            record = self._record.validate_json(json.dumps(line[RECORD]))
        except ValidationError as error:
            raise TranscriptCorrupt(path, line=number, reason=f"its record is none: {error}") from error
        changed = adopted is not None and adopted != line.get(ADOPTED)
        return replace(
            record,
            head_id=None if record.head_id is None else EntryId.of(record.head_id, conversation_id),
            branches=[EntryId.of(tip, conversation_id) for tip in record.branches],
            revision=f"{record.revision}+{adopted:x}" if changed else record.revision,
        )


def _require_whole(entries: dict[str, Stored], head_id: str | None, path: str, last: int) -> None:
    pointers = [(each.line, each.parent_id) for each in entries.values()]
    for number, identity in (*pointers, (last, head_id)):
        if identity is not None and identity not in entries:
            raise TranscriptCorrupt(
                path, line=number, reason=f"up to here there is no entry {identity!r}, which is needed"
            )


def _entry_in(line: Entry, number: int) -> Stored | None:
    found = line.get(ENTRY)
    if not isinstance(found, dict):
        return None
    entry = cast("dict[str, Any]", found)
    identity, parent = entry.get("id"), entry.get("parent_id")
    known = isinstance(identity, str) and isinstance(parent, str | None) and entry.get("kind") == KIND
    return Stored(number, cast("str", identity), cast("str | None", parent), entry.get("message")) if known else None
