"""A conversation as it is in a transcript: entries that point at the ones before them, and the record that counts."""

from dataclasses import dataclass
from typing import Any

from pydantic_ai.conversation_store import ConversationRecord

__all__ = ("EntryId", "Log", "Stored")


class EntryId(str):
    """The id of an entry that tells in which conversation it was found; other ids are looked for in all of them."""

    __slots__ = ("conversation_id",)

    conversation_id: str

    @classmethod
    def of(cls, entry_id: str, conversation_id: str) -> "EntryId":
        """Return an id that was found in a conversation."""
        made = cls(entry_id)
        made.conversation_id = conversation_id
        return made


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as it is in a transcript: the message as JSON holds it."""

    line: int
    id: str
    parent_id: str | None
    message: Any


@dataclass(frozen=True, slots=True)
class Log:
    """What a transcript holds of a conversation.

    Attributes:
        conversation_id: whose it is.
        path: names the transcript in errors.
        record: the last one; None where the transcript is empty.
        entries: by id.
    """

    conversation_id: str
    path: str
    record: ConversationRecord | None
    entries: dict[str, Stored]

    @property
    def revision(self) -> str | None:
        """That of the record."""
        return None if self.record is None else self.record.revision

    def lineage(self, head_id: str | None) -> list[Stored]:
        """Return the entries from the first one up to `head_id`.

        Raises:
            LookupError: one of them is not there.
        """
        found: list[Stored] = []
        while head_id is not None:
            entry = self.entries.get(head_id)
            if entry is None or len(found) == len(self.entries):
                raise LookupError(f"{self.path} has no entries that lead from the first one to {head_id!r}")
            found.append(entry)
            head_id = entry.parent_id
        found.reverse()
        return found
