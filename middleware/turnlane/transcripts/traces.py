"""Which lines of a JSONL transcript the turn wrote that has written last: a small file beside the journal.

It is what a turn that is rolled back is known by, also after its process has died. One JSON object for each append,
written before the append itself: where it begins, how many lines it has, and the chained digest after them. A line of
the transcript is the turn's only where that digest is still right, which covers all that stands before it: an append
that was never made, or what somebody has rewritten since, is nobody's. Those of a live turn say so, and in which boot
of the machine; one more says that it has ended. Where that is missing its process died. Nothing else is decided by this
file.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from turnlane.transcripts.contract import Author
from turnlane.transcripts.digest import Chain, chained
from turnlane.transcripts.files import Files
from turnlane.transcripts.record import State

__all__ = ("Traces",)


@dataclass(frozen=True, slots=True)
class _Trace:
    """One append: `lines` of them behind the first `start`, and the digest after them."""

    start: int
    lines: int
    digest: bytes


class Traces:
    """The traces of one transcript. What changes it needs the lock of the journal, but for `end`.

    A turn is known by its id and its token; only turns that have both leave traces. With the first append of another
    turn the traces of the one before are gone: it has a lower token, and can write no more.

    Mutable: `_of`, the turn whose traces the file is known to hold.

    Args:
        files: the calls it is kept with.
        path: of the file.
        sync: whether what is noted is on the disk then.
        boot: names this boot of the machine.
    """

    __slots__ = ("_boot", "_files", "_of", "_path", "_sync")

    def __init__(self, files: Files, path: str, *, sync: bool = False, boot: bytes = b"") -> None:
        self._files = files
        self._path = path
        self._sync = sync
        self._boot = boot.hex()
        self._of: Author | None = None

    def note(self, author: Author, before: State, lines: Sequence[bytes]) -> None:
        """Note an append that is going to be made behind a state.

        Raises:
            OSError: it was not noted.
        """
        if not author.turn or author.token is None:
            return
        if self._of != author:
            self._begin(author)
        digest = chained(before.digest, lines).hex()
        row = {"turn": author.turn, "token": author.token, "start": before.lines, "lines": len(lines), "digest": digest}
        self._append({**row, "live": "" if self._sync else self._boot} if author.live else row)

    def note_cut(self, lines: int) -> None:
        """Note that what was noted behind the first `lines` was not written, or was cut off, by whomever.

        Raises:
            OSError: it was not noted.
        """
        if any(_author_of(row) is not None for row in self._rows()):
            self._append({"cut": lines})

    def end(self, author: Author) -> None:
        """Note that a turn has ended, if these are its traces. A line that others begin anew without is not missed.

        Raises:
            OSError: it was not noted.
        """
        if author.token is not None and any(_author_of(row) == author for row in self._rows()):
            self._append({"ended": author.turn})

    def unended(self) -> str | None:
        """Return the turn whose traces these are, if it was live and its end was not noted.

        Raises:
            OSError: the traces could not be read.
        """
        found: str | None = None
        for row in self._rows():
            match row:
                case {"ended": str(turn)} if turn == found:
                    found = None
                case {"turn": str(turn), "live": str(boot)}:
                    found = turn if boot in ("", self._boot) else None
                case {"turn": str(turn)} if turn != found:
                    found = None
                case _:
                    pass
        return found

    def of(self, turn: str, chain: Chain) -> list[int]:
        """Return the numbers, from 0 and in order, of the lines of some content that a turn has written.

        Raises:
            OSError: the traces could not be read.
        """
        numbers: set[int] = set()  # an append that failed and was tried again was noted twice
        digests = chain.digests
        for trace in self._read(turn):
            end = trace.start + trace.lines
            if digests[end - 1 : end] == [trace.digest]:
                numbers.update(range(trace.start, end))
        return sorted(numbers)

    def forget(self) -> None:
        """Forget all of them.

        Raises:
            OSError: they could not be forgotten.
        """
        self._of = None
        if self._files.status_of(self._path) is not None:
            fd = self._files.open(self._path, os.O_RDWR)
            try:
                self._files.cut(fd, 0)
            finally:
                self._files.close(fd)

    def _begin(self, author: Author) -> None:
        """Have the file hold the traces of this turn and of no other."""
        if any(_author_of(row) not in (None, author) for row in self._rows()):
            self.forget()
        self._of = author

    def _append(self, row: Mapping[str, object]) -> None:
        fd = self._files.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            size = self._files.status(fd).st_size
            begun = size > 0 and self._files.read(fd, size - 1, 1) != b"\n"  # by somebody who died here
            self._files.append(fd, b"\n" * begun + json.dumps(row).encode() + b"\n")
            if self._sync:
                self._files.sync(fd)
                if size == 0:
                    self._files.sync_directory(os.path.dirname(self._path))
        finally:
            self._files.close(fd)

    def _rows(self) -> list[object]:
        try:
            fd = self._files.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return []
        try:
            content = self._files.read(fd, 0, self._files.status(fd).st_size)
        finally:
            self._files.close(fd)
        return [_row(line) for line in content.splitlines()]

    def _read(self, turn: str) -> list[_Trace]:
        found: list[_Trace] = []
        for row in self._rows():
            match row:
                case {"cut": int(lines)}:
                    found = [trace for trace in found if trace.start + trace.lines <= lines]
                case {"turn": str(named), "start": int(start), "lines": int(lines), "digest": str(digest)} if (
                    named == turn and start >= 0 and lines > 0
                ):
                    found.append(_Trace(start, lines, _bytes(digest)))
                case _:
                    pass  # the row of another turn, or half a one: what it tells of was never written
        return found


def _row(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _author_of(row: object) -> Author | None:
    match row:
        case {"turn": str(turn), "token": int(token)}:
            return Author(turn=turn, token=token)
        case _:
            return None


def _bytes(digest: str) -> bytes:
    try:
        return bytes.fromhex(digest)
    except ValueError:
        return b""
