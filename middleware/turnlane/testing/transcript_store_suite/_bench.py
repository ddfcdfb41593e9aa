"""What the checks work with: a place, stores and openers on it, and words for what is wrong."""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from turnlane.hooks import Hooks
from turnlane.transcripts import Author, TranscriptHandle, Transcripts, TranscriptStore
from turnlane.transcripts.entries import encoded

__all__ = (
    "LOCK_TIMEOUT",
    "NOBODY",
    "Bench",
    "Check",
    "SuiteFailure",
    "TranscriptPlace",
    "entry",
    "equal",
    "loaded",
    "said",
)

NOBODY = Author()
LOCK_TIMEOUT = 10.0


class SuiteFailure(AssertionError):
    """The store broke a promise; the message says which."""


class TranscriptPlace(ABC):
    """Where the stores of one check live, and the hand of somebody who is none of us.

    The changes are made by other means than the store: an editor, a tool, a statement. They need not wait for locks.
    """

    @abstractmethod
    def make_store(self) -> TranscriptStore:
        """Return another store on this place, as another process would have it."""

    @abstractmethod
    def append(self, session_id: str, line: bytes) -> None:
        """Add a line, which has no line feed, behind the last one; also where there is no transcript yet."""

    @abstractmethod
    def edit(self, session_id: str, number: int, line: bytes) -> None:
        """Put a line in the place of another, numbered from 0."""

    @abstractmethod
    def truncate(self, session_id: str, count: int) -> None:
        """Leave the first `count` lines."""

    @abstractmethod
    def delete(self, session_id: str) -> None:
        """Take away all that is in the transcript."""

    @abstractmethod
    def salvaged(self, session_id: str) -> list[bytes]:
        """Return the lines that were salvaged for a session, in order."""


class Bench:
    """A place, and what a check does on it.

    Mutable: `_stores`, those that were made.
    """

    def __init__(self, place: TranscriptPlace) -> None:
        self.place: TranscriptPlace = place
        self._stores: list[TranscriptStore] = []

    async def aclose(self) -> None:
        """Close every store that was made."""
        for store in self._stores:
            await store.aclose()

    def store(self) -> TranscriptStore:
        """Return a store that knows nothing of the others."""
        store = self.place.make_store()
        self._stores.append(store)
        return store

    def transcripts(self, *, hooks: Hooks | None = None, **settings: Any) -> Transcripts:
        """Return such a store as users have it."""
        return Transcripts(self.store(), hooks=hooks, **settings)

    @asynccontextmanager
    async def opener(
        self, session_id: str, *, author: Author = NOBODY, store: TranscriptStore | None = None
    ) -> AsyncGenerator[TranscriptHandle, None]:
        """Open a transcript, by default with a store of its own: locked, and loaded."""
        handle = await (store or self.store()).attach(session_id)
        try:
            await handle.lock(LOCK_TIMEOUT)
            await handle.load(author, adopt=True)
            yield handle
        finally:
            await handle.aclose()

    async def store_from_outside(self, session_id: str, *texts: str, author: Author = NOBODY) -> None:
        """Append entries with an opener of its own."""
        handle = await self.store().attach(session_id)
        try:
            await handle.lock(LOCK_TIMEOUT)
            await handle.join(author)
            await handle.append(encoded([entry(text) for text in texts]), author)
        finally:
            await handle.aclose()

    async def said(self, session_id: str) -> list[str]:
        """Return the texts that a store reads which knows nothing of the others."""
        store = self.place.make_store()
        try:
            return said(await store.read(session_id, None))
        finally:
            await store.aclose()  # a check may ask often, and a store may hold a connection

    def salvaged(self, session_id: str) -> list[str]:
        """Return the texts that were salvaged."""
        return said([json.loads(line) for line in self.place.salvaged(session_id)])


Check = Callable[[Bench], Awaitable[None]]
"""One promise: an async function of an empty bench."""


def entry(text: str) -> dict[str, Any]:
    """Return an entry that says something."""
    return {"role": "user", "content": text}


def loaded(*texts: str) -> tuple[list[dict[str, Any]], None]:
    """Return what `load` does of a transcript of that, in which there is nothing to find."""
    return [entry(text) for text in texts], None


def said(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return what some entries say."""
    return [str(found["content"]) for found in entries]


def equal(found: object, wanted: object, what: str) -> None:
    """Fail unless both are the same."""
    if found != wanted:
        raise SuiteFailure(f"{what}: {_short(found)} instead of {_short(wanted)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 500 else f"{text[:400]} ... ({len(text)} characters)"
