"""`TranscriptHistoryProvider`: the history of an agent in a transcript."""

import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Self

from agent_framework import HistoryProvider, Message

from turnlane import Transcripts, Turn
from turnlane.errors import SessionKeyRequired, TranscriptReentry
from turnlane_integrations._checked import some_transcripts
from turnlane_integrations._entries import JSON, append

__all__ = ("TranscriptHistoryProvider",)

MESSAGE = "message"  # what an entry of the transcript has


class TranscriptHistoryProvider(HistoryProvider):
    """A history provider whose messages are in a transcript of turnlane, each an entry `{"message": ...}`.

    One that a transcript can not hold as it is (half of an emoji, NaN) is `{"json": "its text"}`.

    Guarantees: within a run behind a `LaneAgentMiddleware`, a change of the transcript by anybody who does not own it,
    between what the model was shown and what is stored, is a `TranscriptTakeover`, and the messages are salvaged.

    Not guaranteed: that of other runs; those store what they have behind whatever is there, and whoever stores in these
    transcripts is no stranger to the runs beside it.

    Args:
        transcripts: where the history is; the session's id is that of its transcript.
        source_id: as in other providers.
        **settings: what else `HistoryProvider` takes, as `store_inputs`.

    Raises:
        ValueError: `transcripts` is none.
    """

    def __init__(self, transcripts: Transcripts, *, source_id: str = "transcript", **settings: Any) -> None:
        super().__init__(source_id, **settings)
        self._transcripts = some_transcripts(transcripts, "transcripts")

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """Return the messages of a session, oldest first.

        Raises:
            SessionKeyRequired: there is no session.
        """
        entries = await self._transcripts.read(_required(session_id))
        return [Message.from_dict(each) for each in _shown(entries)]

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
        found = [message.to_dict() for message in messages]
        entries = ({MESSAGE: each} for each in found)
        await append(self._transcripts, _required(session_id), entries, lambda: map(json.dumps, found))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: copies of an agent have one history."""
        return self

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


def _shown(entries: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if MESSAGE in entry:
            yield dict(entry[MESSAGE])
        elif JSON in entry:
            yield json.loads(entry[JSON])


def _required(session_id: str | None) -> str:
    if session_id is None:
        raise SessionKeyRequired("session=")
    return session_id
