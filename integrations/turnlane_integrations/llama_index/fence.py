"""`FencedChatStore`: any chat store of llama-index, which refuses to store behind what somebody else has written."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus

from turnlane import Transcripts
from turnlane_integrations._refused import kind_of, refused

__all__ = ("FencedChatStore",)

Digests = list[bytes]


class FencedChatStore(AsyncDBChatStore):
    """Wraps a chat store for one run: what it has shown to the model must still be there when the answer is stored.

        store = FencedChatStore(SQLAlchemyChatStore(...), salvage=transcripts)
        memory = Memory(session_id=conversation, token_limit=30_000, sql_store=store)

    Guarantees: active messages that others have added, changed or taken away since the last `get_messages` are found
    when something is to be stored: that is a `TranscriptTakeover`, nothing is stored, and the messages are in the
    salvage.

    Not guaranteed: that a write in the very moment between that look and the storing is found before the next one, if
    there is a next one; runs through a `LaneRunner` leave no such moment to each other. Nor anything of archived
    messages, or of what memory blocks keep.

    Args:
        store: where the messages are. Make one wrapper for each run: it knows what that run has seen.
        salvage: where refused messages go, as the transcript of the session's id.
    """

    _store: AsyncDBChatStore = PrivateAttr()
    _salvage: Transcripts = PrivateAttr()
    _seen: dict[str, Digests] = PrivateAttr(default_factory=dict)
    _one_at_a_time: asyncio.Lock = PrivateAttr(default_factory=asyncio.Lock)  # what a run does side by side is its own

    def __init__(self, store: AsyncDBChatStore, *, salvage: Transcripts) -> None:
        super().__init__()
        self._store = store
        self._salvage = salvage

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Return messages; those that are active, and all of them, are remembered."""
        if status is not MessageStatus.ACTIVE or limit is not None or offset is not None:
            return await self._store.get_messages(key, status, limit, offset)
        async with self._one_at_a_time:
            found = await self._store.get_messages(key, status)
            self._seen[key] = _digests(found)
            return found

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """Return how many there are."""
        return await self._store.count_messages(key, status)

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        """Store a message, if nobody else has written since this run has seen them; so do all methods that write.

        Raises:
            TranscriptTakeover: somebody has; the message is in the salvage.
        """
        async with self._proven(key, message, grows=status is MessageStatus.ACTIVE):
            await self._store.add_message(key, message, status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Store messages, all or none."""
        async with self._proven(key, *messages, grows=status is MessageStatus.ACTIVE):
            await self._store.add_messages(key, messages, status)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Put messages in the place of all there are."""
        async with self._proven(key, *messages):
            await self._store.set_messages(key, messages, status)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Take a message away and return it."""
        async with self._proven(key):
            return await self._store.delete_message(key, idx)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Take messages away."""
        async with self._proven(key):
            await self._store.delete_messages(key, status)

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Take the oldest away and return them."""
        async with self._proven(key):
            return await self._store.delete_oldest_messages(key, n)

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive the oldest and return them."""
        async with self._proven(key):
            return await self._store.archive_oldest_messages(key, n)

    async def get_keys(self) -> list[str]:
        """Return the keys there are."""
        return await self._store.get_keys()

    @asynccontextmanager
    async def _proven(self, key: str, *messages: ChatMessage, grows: bool = False) -> AsyncGenerator[None, None]:
        """Write inside the block, if what was seen is there; what is there afterwards was seen.

        Where it `grows` by the messages alone, more than that is somebody else's, which the next write finds.
        """
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
            yield
            then = await self._now(key)
            self._seen[key] = then[: len(now) + len(messages)] if grows else then

    async def _now(self, key: str) -> Digests:
        return _digests(await self._store.get_messages(key, MessageStatus.ACTIVE))


def _digests(messages: Sequence[ChatMessage]) -> Digests:
    return [sha256(message.model_dump_json().encode()).digest() for message in messages]
