"""Messages remembered in this process: for one worker that may forget them when it ends."""

import uuid
from dataclasses import replace
from typing import ClassVar

from turnlane.duplicates.contract import Claim, DuplicateStore, MessageRecord

__all__ = ("MemoryDuplicateStore",)


class MemoryDuplicateStore(DuplicateStore):
    """Keeps records in a dictionary until the object goes; `aclose` forgets nothing.

    No method suspends, so every one is atomic among the tasks of one event loop. Not guaranteed: anything about
    loops that run in several threads at the same time, or about other processes.

    Mutable: `_records` by message; `_finished`, the messages of those that are finished, in the order they finished.
    """

    waits: ClassVar[bool] = False

    def __init__(self) -> None:
        self.where: str = "memory://"
        self._owner = uuid.uuid4().hex
        self._records: dict[str, MessageRecord] = {}
        self._finished: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<MemoryDuplicateStore records={len(self._records)} finished={len(self._finished)}>"

    @property
    def owner(self) -> str:
        """Names this object."""
        return self._owner

    async def open(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing: a server whose lifespan runs again finds its messages."""

    async def claim(
        self, message: str, record: MessageRecord, *, replaces: MessageRecord | None = None, anew: bool = False
    ) -> Claim:
        """Store `record` unless the message is known."""
        found = self._records.get(message)
        wanted = None if replaces is None else (replaces.run, replaces.state)
        if found is not None and not anew and (found.run, found.state) != wanted:
            return Claim(found, False)
        self._finished.pop(message, None)
        self._records[message] = record
        return Claim(record, True, found)

    async def read(self, message: str) -> MessageRecord | None:
        """Return the record of a message."""
        return self._records.get(message)

    async def begin(self, message: str, run: str) -> bool:
        """Turn `waiting` into `running`."""
        found = self._records.get(message)
        if found is None or (found.run, found.state) != (run, "waiting"):
            return False
        self._records[message] = replace(found, state="running")
        return True

    async def finish(self, message: str, record: MessageRecord, *, at: float, limit: int) -> bool:
        """Store the last state of a run."""
        found = self._records.get(message)
        stored = found is not None and found.run == record.run and (not found.is_finished or found.state == "unknown")
        if stored:
            self._finished.pop(message, None)
            self._finished[message] = None
            self._records[message] = record
        self._drop(at, limit)
        return stored

    async def free(self, message: str, run: str, *, restores: MessageRecord | None = None) -> None:
        """Drop the record of a run that has not finished."""
        found = self._records.get(message)
        if found is not None and found.run == run and not found.is_finished:
            if restores is None:
                del self._records[message]
            else:
                self._records[message] = restores

    async def is_gone(self, owner: str) -> bool:
        """Return False: who remembers is who runs."""
        return False

    def _drop(self, at: float, limit: int) -> None:
        # The first of those that finished decides: what expires earlier than it goes with it, at the latest.
        while self._finished:
            oldest = next(iter(self._finished))
            if len(self._finished) <= limit and self._records[oldest].expires > at:
                return
            del self._finished[oldest], self._records[oldest]
