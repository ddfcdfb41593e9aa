"""Text that PostgreSQL can not hold, as text that it can, in the same order."""

import re

__all__ = ("restored", "storable", "stored")

# NUL and halves of surrogate pairs, and the character that stands for them.
STRANGE = re.compile("[\0\1\ud800-\udfff]")
STRANDED = re.compile("\1(?:[\1\2]|\3([0-9a-f]{4}))")


def stored(text: str) -> str:
    """Return what stands for a key or an id in a column; ordinary text stands for itself.

    Different texts have different ones, and texts without surrogates keep their order, by code point.
    """
    return text if text.isprintable() else STRANGE.sub(_replaced, text)


def restored(column: str) -> str:
    """Return the text that something stands for."""
    return column if "\1" not in column else STRANDED.sub(_original, column)


def storable(text: str) -> str:
    """Return a text that PostgreSQL can hold, for people to read."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _replaced(found: re.Match[str]) -> str:
    character = found[0]
    if character in "\0\1":
        return "\1\1" if character == "\0" else "\1\2"
    return f"\1\3{ord(character):04x}"


def _original(found: re.Match[str]) -> str:
    if found[1] is not None:
        return chr(int(found[1], 16))
    return "\0" if found[0] == "\1\1" else "\1"
