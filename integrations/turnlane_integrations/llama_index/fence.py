"""`FencedChatStore`: any chat store of llama-index, which refuses to store behind what somebody else has written."""

from collections.abc import Coroutine, Sequence
from contextlib import closing
from hashlib import sha256
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus

from turnlane import Transcripts
from turnlane.settled import settled
from turnlane_integrations._across_loops import AcrossLoops
from turnlane_integrations._checked import some_transcripts
from turnlane_integrations._refused import kind_of, refused

__all__ = ("FencedChatStore",)

Digests = list[bytes]
T = TypeVar("T")


class FencedChatStore(AsyncDBChatStore):
    """Wraps a chat store for one run: what it has shown to the model must still be there when the answer is stored.

        store = FencedChatStore(SQLAlchemyChatStore(...), salvage=transcripts)
        memory = Memory(session_id=conversation, token_limit=30_000, sql_store=store)

    Guarantees: active messages that others have added, changed or taken away since the last `get_messages` are found
    when something is to be stored: that is a `TranscriptTakeover`, nothing is stored, and the messages are in the
    salvage. What has begun in the store is finished also where the run is cancelled: SQLAlchemy would leave SQLite
    locked, for all conversations.

    Not guaranteed: that a write in the very moment between that look and the storing is found before the next one, if
    there is a next one; runs through a `LaneRunner` leave no such moment to each other. Nor that one is found which an
    agent has read since, as those with tools read all messages again behind each tool: that was shown to the model.
    Nor anything of archived messages, or of what memory blocks keep.

    Args:
        store: where the messages are. Make one wrapper for each run, or turn: it knows what was seen there. To it, what
            runs of the same turn store through another one is foreign.
        salvage: where refused messages go, as the transcript of the session's id.

    Raises:
        ValueError: the store is no asynchronous one, or `salvage` is none.
    """

    _store: AsyncDBChatStore = PrivateAttr()
    _salvage: Transcripts = PrivateAttr()
    _seen: dict[str, Digests] = PrivateAttr(default_factory=dict)
    _one_at_a_time: AcrossLoops = PrivateAttr(default_factory=AcrossLoops)  # what a run does side by side is its own

    def __init__(self, store: AsyncDBChatStore, *, salvage: Transcripts) -> None:
        super().__init__()
        if not isinstance(store, AsyncDBChatStore):
            raise ValueError(f"store must be one of a Memory, an AsyncDBChatStore, not {store!r}")
        self._store = store
        self._salvage = some_transcripts(salvage, "salvage")

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Return messages; those that are active, and all of them, are remembered."""
        whole = status is MessageStatus.ACTIVE and limit is None and offset is None
        return await settled(self._seen_now(key) if whole else self._store.get_messages(key, status, limit, offset))

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """Return how many there are."""
        return await settled(self._store.count_messages(key, status))

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        """Store a message, if nobody else has written since this run has seen them; so do all methods that write.

        Raises:
            TranscriptTakeover: somebody has; the message is in the salvage.
        """
        storing = self._store.add_message(key, message, status)
        await self._written(key, storing, message, grows=status is MessageStatus.ACTIVE)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Store messages, all or none."""
        storing = self._store.add_messages(key, messages, status)
        await self._written(key, storing, *messages, grows=status is MessageStatus.ACTIVE)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Put messages in the place of all there are."""
        await self._written(key, self._store.set_messages(key, messages, status), *messages)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Take a message away and return it."""
        return await self._written(key, self._store.delete_message(key, idx))

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Take messages away."""
        await self._written(key, self._store.delete_messages(key, status))

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Take the oldest away and return them."""
        return await self._written(key, self._store.delete_oldest_messages(key, n))

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive the oldest and return them."""
        return await self._written(key, self._store.archive_oldest_messages(key, n))

    async def get_keys(self) -> list[str]:
        """Return the keys there are."""
        return await settled(self._store.get_keys())

    async def _seen_now(self, key: str) -> list[ChatMessage]:
        async with self._one_at_a_time:
            found = await self._store.get_messages(key, MessageStatus.ACTIVE)
            self._seen[key] = _digests(found)
            return found

    async def _written(
        self, key: str, writing: Coroutine[Any, Any, T], *messages: ChatMessage, grows: bool = False
    ) -> T:
        """Write, to the end also where the caller is cancelled, if what was seen is there; what is there then was seen.

        Where it `grows` by the messages alone, more than that is somebody else's, which the next write finds.
        """
        with closing(writing):  # it may not be awaited
            return await settled(self._proven(key, writing, messages, grows=grows))

    async def _proven(
        self, key: str, writing: Coroutine[Any, Any, T], messages: Sequence[ChatMessage], *, grows: bool
    ) -> T:
        async with self._one_at_a_time:
            seen, now = self._seen.get(key), await self._now(key)
            if seen is not None and seen != now:
                raise await refused(
                    self._salvage,
                    key,
                    ({"message": message.model_dump(mode="json")} for message in messages),
                    where=f"conversation {key!r}",
                    kind=kind_of(seen, now),
                    expected=f"{len(seen)} messages",
                    found=f"{len(now)} messages",
                    phase="append",
                )
            done = await writing
            then = await self._now(key)
            self._seen[key] = then[: len(now) + len(messages)] if grows else then
            return done

    async def _now(self, key: str) -> Digests:
        return _digests(await self._store.get_messages(key, MessageStatus.ACTIVE))


def _digests(messages: Sequence[ChatMessage]) -> Digests:
    return [sha256(message.model_dump_json().encode()).digest() for message in messages]
