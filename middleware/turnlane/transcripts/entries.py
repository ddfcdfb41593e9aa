"""Entries as lines: one JSON object each, nothing else in the file."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from turnlane.errors import TranscriptCorrupt

__all__ = ("Entry", "decoded", "encoded")

Entry = Mapping[str, Any]
"""What a transcript is made of; what JSON can hold."""

BLANK = b" \t\r"
DEEPEST = 200  # levels: readers of JSON give up somewhere, and not all at the same


def encoded(entries: Sequence[Entry]) -> tuple[bytes, ...]:
    """Return one line for each entry, without its line feed.

    Raises:
        ValueError: an entry is not an object JSON can hold; the message says which, and why.
    """
    lines: list[bytes] = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise ValueError(f"entry {number} is a {type(entry).__name__}, not a mapping")
        try:
            text = json.dumps(dict(entry), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            if text.count("[") + text.count("{") > DEEPEST and _depth(entry) > DEEPEST:
                raise ValueError(f"it is nested more than {DEEPEST} levels deep")
            lines.append(text.encode())
        except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError among them
            raise ValueError(f"entry {number} can not be written as JSON: {error}") from error
    return tuple(lines)


def decoded(content: bytes, *, where: str, first_line: int = 1) -> list[dict[str, Any]]:
    """Return the entries of some content. Blank lines hold none.

    Args:
        content: whole lines; the last may lack its line feed.
        where: names the file in errors.
        first_line: the number of the first line, from 1.

    Raises:
        TranscriptCorrupt: a line is not a JSON object; it names the line. Nothing is skipped.
    """
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(content.split(b"\n"), first_line):
        if not line.strip(BLANK):
            continue
        try:
            entry: object = json.loads(line.decode())  # given bytes, it would guess at other encodings
        except (ValueError, RecursionError) as error:
            raise TranscriptCorrupt(where, line=number, reason=str(error)) from error
        if not isinstance(entry, dict):
            raise TranscriptCorrupt(where, line=number, reason=f"it holds a {type(entry).__name__}, not an object")
        entries.append(cast("dict[str, Any]", entry))
    return entries


def _depth(entry: object) -> int:
    """Return how many levels deep something is nested."""
    deepest, left = 0, [(entry, 1)]
    while left:
        value, depth = left.pop()
        deepest = max(deepest, depth)
        if isinstance(value, Mapping):
            left += [(each, depth + 1) for each in cast("Mapping[str, object]", value).values()]
        elif isinstance(value, list | tuple):
            left += [(each, depth + 1) for each in cast("Sequence[object]", value)]
    return deepest
