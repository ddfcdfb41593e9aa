"""Session entries as rows of a database hold them: what is written, and what may be read."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from turnlane.errors import SessionCorrupt
from turnlane.sessions.entry import SessionEntry
from turnlane.sessions.values import NOTHING, frozen_fields, to_json

__all__ = ("entry_in", "is_replaceable", "row_of")


def is_replaceable(found: SessionEntry, replaces: SessionEntry | None) -> bool:
    """Tell whether an entry is still the stale one that was read."""
    return replaces is not None and (found.id, found.last_activity_at) == (replaces.id, replaces.last_activity_at)


def row_of(entry: SessionEntry) -> tuple[str | int | float, ...]:
    """Return the columns of an entry, in the order of its attributes."""
    return (
        entry.key,
        entry.id,
        entry.version,
        to_json(entry.fields),
        entry.created_at,
        entry.updated_at,
        entry.last_activity_at,
    )


def entry_in(row: Sequence[Any], *, where: str) -> SessionEntry:
    """Return the entry in a row whose columns are in that order.

    Raises:
        SessionCorrupt: it holds none.
    """
    key, session_id, version, fields, *times = row
    try:
        if not (isinstance(session_id, str) and session_id and isinstance(version, int)):
            raise ValueError(f"its id is {session_id!r} and its version {version!r}")
        created_at, updated_at, last_activity_at = (_moment(at) for at in times)
        return SessionEntry(
            key=str(key),
            id=session_id,
            version=version,
            fields=_fields(fields),
            created_at=created_at,
            updated_at=updated_at,
            last_activity_at=last_activity_at,
        )
    except (ValueError, RecursionError) as error:
        raise SessionCorrupt(str(key), where=f"{where}, table session", reason=str(error)) from error


def _fields(stored: object) -> Mapping[str, object]:
    if stored == "{}":
        return NOTHING
    if not isinstance(stored, str):
        raise ValueError("its fields are not text")
    fields: object = json.loads(stored)
    if not isinstance(fields, dict):
        raise ValueError("its fields are not a JSON object")
    return frozen_fields(cast("dict[str, object]", fields))


def _moment(at: object) -> float:
    if not isinstance(at, float) or not math.isfinite(at):
        raise ValueError(f"it holds the time {at!r}")
    return at
