"""The digest of a transcript: a hash chained over its lines, so that an append extends it without reading anything.

The links are made of raw bytes. A digest over what the lines mean would call a re-formatted line unchanged.
"""

from collections.abc import Iterable
from hashlib import blake2b

__all__ = ("DIGEST_BYTES", "EMPTY", "Chain", "chained")

DIGEST_BYTES = 32
EMPTY: bytes = bytes(DIGEST_BYTES)
"""The digest of a transcript without lines."""


def chained(digest: bytes, lines: Iterable[bytes]) -> bytes:
    """Return the digest after further lines, each without its line feed."""
    for line in lines:
        digest = blake2b(digest + line, digest_size=DIGEST_BYTES).digest()
    return digest


class Chain:
    """The digests of some content after each of its lines, and where each line begins.

    A last line without a line feed is a line like any other: whether it has one is told by `length`, which is why a
    state is always a length and a digest together.

    Mutable: all of it, by `extend`.
    """

    __slots__ = ("digests", "length", "offsets", "open_ended")

    def __init__(self, content: bytes = b"") -> None:
        self.digests: list[bytes] = []
        self.offsets: list[int] = []
        self.length: int = 0
        self.open_ended: bool = False
        self.extend(content)

    @property
    def digest(self) -> bytes:
        """The digest of all of it."""
        return self.digests[-1] if self.digests else EMPTY

    def extend(self, content: bytes) -> None:
        """Go on with what follows. Where the last line has no line feed yet, `content` must begin with it.

        Raises:
            ValueError: it would lengthen a line whose digest is fixed.
        """
        if not content:
            return
        start = 0
        if self.open_ended:
            if not content.startswith(b"\n"):
                raise ValueError("the last line is not ended")
            start = 1
        digest, offset = self.digest, self.length + start
        lines = content[start:].split(b"\n")
        self.open_ended = lines[-1] != b""
        if not self.open_ended:
            lines.pop()
        for line in lines:
            digest = blake2b(digest + line, digest_size=DIGEST_BYTES).digest()
            self.digests.append(digest)
            self.offsets.append(offset)
            offset += len(line) + 1
        self.length += len(content)

    def add(self, line: bytes) -> None:
        """Go on with one line and the line feed behind it; what else is in it makes no further lines.

        Raises:
            ValueError: the last line is not ended.
        """
        if self.open_ended:
            raise ValueError("the last line is not ended")
        self.offsets.append(self.length)
        self.digests.append(chained(self.digest, (line,)))
        self.length += len(line) + 1

    def first_difference(self, other: "Chain") -> int | None:
        """Return the number of the first line, from 0, in which both have one and it differs."""
        for number, (mine, theirs) in enumerate(zip(self.digests, other.digests, strict=False)):
            if mine != theirs:
                return number
        return None
