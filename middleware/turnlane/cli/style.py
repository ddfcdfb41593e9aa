"""How text output is marked: colours where the terminal has them and nobody refused, plain otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

__all__ = ("Style", "printable")


def printable(text: str, stream: TextIO) -> str:
    """Return a text for one line of a stream: what a file may be called must not steer a terminal, or make a line.

    Escaped as in Python; `--json` tells exactly. What the stream's encoding lacks is escaped too.
    """
    line = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    encoding = stream.encoding or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What the output may use.

    Args:
        color: ANSI colours.
        blocks: characters beyond ASCII.
        width: columns to fill.
    """

    color: bool = False
    blocks: bool = False
    width: int = 100

    @classmethod
    def of_stream(cls, stream: TextIO, environment: Mapping[str, str], *, no_color: bool, width: int) -> "Style":
        """Return what fits a stream.

        Args:
            stream: where the text goes.
            environment: read for `NO_COLOR` and `TERM`.
            no_color: whether the user refused colours.
            width: columns of the terminal.
        """
        refused = no_color or bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
        encoding = (stream.encoding or "ascii").lower().replace("-", "")
        return cls(color=not refused and stream.isatty(), blocks=encoding == "utf8", width=max(80, min(width, 120)))

    def good(self, text: str) -> str:
        """Mark what was kept."""
        return self._paint("32", text)

    def bad(self, text: str) -> str:
        """Mark what was broken."""
        return self._paint("31", text)

    def quiet(self, text: str) -> str:
        """Mark what is only detail."""
        return self._paint("2", text)

    def strong(self, text: str) -> str:
        """Mark a heading."""
        return self._paint("1", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color else text
