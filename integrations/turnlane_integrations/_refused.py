"""What becomes of words that a fence has refused: they are kept, and the error says where."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

from turnlane import Transcripts, current_turn
from turnlane.errors import TranscriptTakeover
from turnlane_integrations._entries import append

__all__ = ("kind_of", "refused")


async def refused(
    salvage: Transcripts,
    session_id: str,
    items: Iterable[dict[str, Any]],
    *,
    where: str,
    kind: str,
    expected: str,
    found: str,
    phase: str,
) -> TranscriptTakeover:
    """Keep what was refused, and return the error to raise. It is kept also where the caller is cancelled meanwhile.

    Args:
        salvage: where it goes, as the transcript `session_id`.
        session_id: of the conversation.
        items: what was to be stored, as objects; one that a transcript can not hold is kept as its text.
        where: the place that was changed, for people.
        kind: how: appended, edited, truncated, replaced, deleted or unknown.
        expected: what was proven last, for people.
        found: what is there, for people.
        phase: where it was found, as in `TranscriptTakeover`.
    """
    turn = current_turn()
    kept = tuple(items)
    if kept:
        of = "" if turn is None else turn.id
        await asyncio.shield(append(salvage, session_id, kept, lambda: map(_text_of, kept), turn=of))
    return TranscriptTakeover(
        where,
        kind=kind,
        offset=None,
        line=None,
        expected=expected,
        found=found,
        phase=phase,
        turn=None if turn is None else turn.id,
        salvaged=f"{session_id} in {salvage.store.where}" if kept else None,
    )


def kind_of(seen: Sequence[bytes], now: Sequence[bytes]) -> str:
    """Return how what was seen has become what is there now, as in `TranscriptTakeover`."""
    if now[: len(seen)] == seen:
        return "appended"
    return "truncated" if seen[: len(now)] == now else "edited"


def _text_of(item: dict[str, Any]) -> str:
    return json.dumps(item, default=repr)
