"""The lines of a file in eight bytes each: enough to say in which line another content differs."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

from turnlane.transcripts.digest import DIGEST_BYTES, EMPTY
from turnlane.transcripts.files import Files
from turnlane.transcripts.finding import ChangeKind
from turnlane.transcripts.record import State

__all__ = ("CHUNK_BYTES", "Difference", "Outline", "Survey", "survey")

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Outline:
    """What a file held: how many bytes, a number for each line, and where the last line begins.

    The numbers are Python's own hashes, which mean nothing to another process.
    """

    length: int
    lines: "array[int]"
    last: int
    open_ended: bool

    def extended(self, tail: bytes) -> "Outline":
        """Return the outline of the same content with a tail. `tail` begins where the last line does, if it is open."""
        if not tail:
            return self
        start = self.last if self.open_ended else self.length
        kept = self.lines[: len(self.lines) - self.open_ended]
        added, offsets, open_ended = _numbered(tail, start)
        return Outline(start + len(tail), kept + added, offsets[-1], open_ended)

    @property
    def resumes_at(self) -> int:
        """Where a tail for `extended` must begin."""
        return self.last if self.open_ended else self.length


@dataclass(frozen=True, slots=True)
class Difference:
    """How a content differs from an earlier one, and the first byte and line (from 1) in which it does."""

    kind: ChangeKind
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class Survey:
    """One content, read to its end.

    Attributes:
        state: its length, lines and chained digest.
        outline: its lines.
        offsets: where each of them begins.
        marked: the digest after as many lines as was asked for; None where there are fewer.
        stub: the hash of the beginning of the line in which the earlier content ended; None where it ended with one.
    """

    state: State
    outline: Outline
    offsets: "array[int]"
    marked: bytes | None
    stub: int | None

    def difference(self, earlier: Outline) -> Difference | None:
        """Say how it differs from an earlier content; None for not at all."""
        mine, theirs = self.outline, earlier
        whole = len(theirs.lines) - theirs.open_ended
        if mine.length == theirs.length and mine.lines == theirs.lines:
            return None
        begins = len(mine.lines) >= whole and mine.lines[:whole] == theirs.lines[:whole]
        if begins and theirs.open_ended:
            begins = self.stub == theirs.lines[-1]
        if begins and mine.length > theirs.length:
            return Difference("appended", theirs.length, whole + 1)
        number = self._first_different(theirs)
        if mine.length < theirs.length and number >= len(mine.lines) - mine.open_ended:
            return Difference("truncated", mine.length, number + 1)
        return Difference("edited", self.offset_of(number), number + 1)

    def offset_of(self, number: int) -> int:
        """Return where a line, from 0, begins; the end for one that is not there."""
        return self.offsets[number] if number < len(self.offsets) else self.outline.length

    def _first_different(self, earlier: Outline) -> int:
        for number, (mine, theirs) in enumerate(zip(self.outline.lines, earlier.lines, strict=False)):
            if mine != theirs:
                return number
        return min(len(self.outline.lines), len(earlier.lines))


def survey(
    files: Files,
    fd: int,
    size: int,
    *,
    mark: int = 0,
    earlier: Outline | None = None,
    rest: Callable[[], None] = lambda: None,
) -> Survey:
    """Read a file piece by piece.

    Args:
        files: the calls it is read with.
        fd: of the file.
        size: how much of it to read.
        mark: after how many lines to keep the digest.
        earlier: an outline it will be held against.
        rest: called after each piece.
    """
    reader = _Reader(mark, earlier.length if earlier is not None and earlier.open_ended else 0)
    position, begun = 0, list[bytes]()
    while position < size:
        piece = files.read(fd, position, min(CHUNK_BYTES, size - position))
        if not piece:
            break
        position += len(piece)
        *lines, rest_of_it = piece.split(b"\n")
        if lines:
            lines[0] = b"".join((*begun, lines[0]))
            begun.clear()
            reader.take(lines)
        begun.append(rest_of_it)
        rest()
    unended = b"".join(begun)
    if unended:
        reader.take([unended])
    offsets = reader.offsets
    outline = Outline(position, reader.numbers, offsets[-1] if offsets else 0, unended != b"")
    return Survey(State(position, len(offsets), reader.digest), outline, offsets, reader.marked, reader.stub)


class _Reader:
    """Takes in lines. `ended` is where the earlier content ended, if that was within a line, else 0."""

    __slots__ = ("_begins", "_ended", "_mark", "digest", "marked", "numbers", "offsets", "stub")

    def __init__(self, mark: int, ended: int) -> None:
        self._mark, self._ended, self._begins = mark, ended, 0
        self.digest: bytes = EMPTY
        self.marked: bytes | None = EMPTY if mark == 0 else None
        self.stub: int | None = None
        self.numbers: array[int] = array("q")
        self.offsets: array[int] = array("q")

    def take(self, lines: list[bytes]) -> None:
        digest, begins, ended = self.digest, self._begins, self._ended
        for line in lines:
            digest = blake2b(digest + line, digest_size=DIGEST_BYTES).digest()
            self.numbers.append(hash(line))
            self.offsets.append(begins)
            if begins < ended <= begins + len(line):
                self.stub = hash(line[: ended - begins])
            begins += len(line) + 1
            if len(self.numbers) == self._mark:
                self.marked = digest
        self.digest, self._begins = digest, begins


def _numbered(content: bytes, start: int) -> "tuple[array[int], array[int], bool]":
    lines = content.split(b"\n")
    open_ended = lines[-1] != b""
    if not open_ended:
        lines.pop()
    offsets = array("q", accumulate((len(line) + 1 for line in lines[:-1]), initial=start))
    return array("q", map(hash, lines)), offsets, open_ended
