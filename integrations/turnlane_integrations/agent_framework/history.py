"""`TranscriptHistoryProvider`: the history of an agent in a transcript."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from agent_framework import HistoryProvider, Message

from turnlane import Transcripts, Turn
from turnlane.errors import SessionKeyRequired, TranscriptReentry

__all__ = ("TranscriptHistoryProvider",)

MESSAGE = "message"  # what an entry of the transcript has


class TranscriptHistoryProvider(HistoryProvider):
    """A history provider whose messages are in a transcript of turnlane, each an entry `{"message": ...}`.

    Guarantees: within a run behind a `LaneAgentMiddleware`, a change of the transcript by anybody who does not own it,
    between what the model was shown and what is stored, is a `TranscriptTakeover`, and the messages are salvaged.

    Not guaranteed: that of other runs; those store what they have behind whatever is there.

    Args:
        transcripts: where the history is; the session's id is that of its transcript.
        source_id: as in other providers.
        **settings: what else `HistoryProvider` takes, as `store_inputs`.
    """

    def __init__(self, transcripts: Transcripts, *, source_id: str = "transcript", **settings: Any) -> None:
        super().__init__(source_id, **settings)
        self._transcripts = transcripts

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """Return the messages of a session, oldest first.

        Raises:
            SessionKeyRequired: there is no session.
        """
        entries = await self._transcripts.read(_required(session_id))
        return [Message.from_dict(dict(entry[MESSAGE])) for entry in entries if MESSAGE in entry]

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Store messages, all or none.

        Raises:
            SessionKeyRequired: there is no session.
            TranscriptTakeover, StaleTurn: somebody else changed the transcript; the messages are in the salvage.
        """
        await self._transcripts.append(_required(session_id), *({MESSAGE: message.to_dict()} for message in messages))

    @asynccontextmanager
    async def guarded(self, session_id: str, turn: Turn) -> AsyncGenerator[None, None]:
        """Hold the transcript's fence inside the block, for a turn, and its lock only for moments.

        Where it is held already, by another provider of the run or for the agent whose tool this one is, it goes on.

        Raises:
            TranscriptTakeover, StaleTurn: somebody else changed the transcript.
        """
        async with AsyncExitStack() as stack:
            opening = self._transcripts.open(session_id, token=turn.token, turn=turn.id)
            with suppress(TranscriptReentry):
                transcript = await stack.enter_async_context(opening)
                await stack.enter_async_context(transcript.released())
            yield


def _required(session_id: str | None) -> str:
    if session_id is None:
        raise SessionKeyRequired("session=")
    return session_id
