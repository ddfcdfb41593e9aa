"""`TranscriptSession`: the memory of an agent in a transcript."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from agents import SessionSettings, TResponseInputItem

from turnlane import Transcripts, Turn
from turnlane.errors import TranscriptCorrupt, TranscriptReentry
from turnlane_integrations._checked import some_transcripts
from turnlane_integrations._entries import JSON, append

__all__ = ("TranscriptSession",)

ITEM, POPPED, CLEARED = "item", "popped", "cleared"  # what an entry of the transcript has, or JSON


class TranscriptSession:
    """A `Session` of openai-agents whose items are in a transcript of turnlane.

    Each item is an entry `{"item": ...}`; one that a transcript can not hold as it is (half of an emoji, NaN) is
    `{"json": "its text"}`. Nothing is ever taken away: `pop_item` and `clear_session` are entries too
    (`{"popped": 5}`, the fifth; `{"cleared": true}`). Other entries are not shown to the model.

    Guarantees: within a run of `LaneRunner`, a change of the transcript by anybody who does not own it, between what
    the model was shown and what is stored, is a `TranscriptTakeover`, and the words are salvaged.

    Not guaranteed: that of runs of the plain `Runner`; those store what they have behind whatever is there, and whoever
    stores in these transcripts is no stranger to the runs beside it. Nor that a compaction is one write: one whose
    process dies between its two shows no items afterwards; they are in the transcript, before its last entry.

    Args:
        session_id: of the conversation: the id of its transcript, and the key of its lane.
        transcripts: where it is.
        session_settings: as in other sessions: `limit` is how many items are shown to the model.

    Raises:
        ValueError: `transcripts` is none.
    """

    def __init__(
        self, session_id: str, transcripts: Transcripts, *, session_settings: SessionSettings | None = None
    ) -> None:
        self.session_id: str = session_id
        self.session_settings: SessionSettings | None = session_settings or SessionSettings()
        self._transcripts = some_transcripts(transcripts, "transcripts")

    def __repr__(self) -> str:
        return f"<TranscriptSession {self.session_id!r} in {self._transcripts!r}>"

    async def get_items(self, limit: int | None = None, *, wrapper: Any = None) -> list[TResponseInputItem]:
        """Return the items, oldest first; with `limit`, or that of the settings, the last so many; below 0 all.

        Raises:
            TranscriptCorrupt: an entry is not what this class has written.
        """
        items = await self._items()
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        return items if limit is None or limit < 0 else items[-limit:] if limit else []

    async def add_items(self, items: list[TResponseInputItem], *, wrapper: Any = None) -> None:
        """Store items, all or none.

        Raises:
            TypeError: JSON can not hold an item.
            TranscriptTakeover, StaleTurn: somebody else changed the transcript; the items are in the salvage.
        """
        entries = [{ITEM: item} for item in items]
        await append(self._transcripts, self.session_id, entries, lambda: map(json.dumps, items))

    async def pop_item(self, *, wrapper: Any = None) -> TResponseInputItem | None:
        """Take the last item away and return it; None where there is none."""
        items = await self._items()
        if items:  # by its place: another may have added one meanwhile
            await self._transcripts.append(self.session_id, {POPPED: len(items)})
        return items[-1] if items else None

    async def clear_session(self, *, wrapper: Any = None) -> None:
        """Begin anew."""
        await self._transcripts.append(self.session_id, {CLEARED: True})

    @asynccontextmanager
    async def guarded(self, turn: Turn) -> AsyncGenerator[None, None]:
        """Hold the transcript's fence inside the block, for a turn, and its lock only for moments.

        Raises:
            TranscriptTakeover, StaleTurn: somebody else changed the transcript.
        """
        async with AsyncExitStack() as stack:
            try:
                opening = self._transcripts.open(self.session_id, token=turn.token, turn=turn.id)
                transcript = await stack.enter_async_context(opening)
            except TranscriptReentry:  # a run inside another one of this session, which holds the fence for both
                pass
            else:
                await stack.enter_async_context(transcript.released())
            yield

    async def _items(self) -> list[TResponseInputItem]:
        items: list[TResponseInputItem] = []
        for number, entry in enumerate(await self._transcripts.read(self.session_id), 1):
            try:
                if ITEM in entry:
                    items.append(cast("TResponseInputItem", entry[ITEM]))
                elif JSON in entry:
                    items.append(json.loads(entry[JSON]))
                elif POPPED in entry:
                    place = int(entry[POPPED])
                    del items[place - 1 : place]
                elif CLEARED in entry:
                    items.clear()
            except (TypeError, ValueError) as error:
                where = f"{self.session_id!r} in {self._transcripts.store.where}"
                raise TranscriptCorrupt(where, line=number, reason=str(error)) from error
        return items
