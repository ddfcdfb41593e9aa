"""Entries of transcripts that are made of what a framework says."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from turnlane import Transcripts
from turnlane.errors import TranscriptError

__all__ = ("JSON", "append")

JSON = "json"  # an entry that has this has, as the text of it, what a transcript can not hold: half of an emoji, NaN


async def append(
    transcripts: Transcripts,
    session_id: str,
    entries: Iterable[Mapping[str, Any]],
    texts: Callable[[], Iterable[str]],
    *,
    turn: str = "",
) -> None:
    """Append entries, all or none; where a transcript can not hold one of them, all as texts.

    Raises:
        TypeError, ValueError: that is not possible either; from `texts`.
        TranscriptError: as `Transcripts.append`.
    """
    try:
        await transcripts.append(session_id, *entries, turn=turn)
    except TranscriptError:
        raise
    except (TypeError, ValueError):
        await transcripts.append(session_id, *({JSON: text} for text in texts()), turn=turn)
