"""The journal beside a transcript: the lock file, the record of what is owned, and the payload of a write that began.

It is made once and never renamed or unlinked, so that a lock on it is a lock on the transcript, whatever happens to the
transcript's own file. It has a fixed layout and is written in place: a disk that is full can still be told of. The
first page names the session and remembers what was owned at the last versions, for what a power loss takes.
"""

import os
import struct

from turnlane.errors import TranscriptUnavailable
from turnlane.transcripts.files import Files, let_go_of
from turnlane.transcripts.fingerprint import Tick
from turnlane.transcripts.record import (
    MEMORY_BYTES,
    RECORD_BYTES,
    Record,
    State,
    newest,
    packed,
    packed_memory,
    unpacked_memory,
)

__all__ = ("HEADER_BYTES", "Journal", "session_id_of")

MAGIC = b"turnlane journal 1\n"
NAME_BYTES = 1024
HEADER_BYTES = 4096
SECTOR = 512  # what a disk writes at once
MEMORIES = 48
ANNOUNCED_AT = HEADER_BYTES - 16
PROBES = 4
PAYLOAD_AT = HEADER_BYTES + 2 * RECORD_BYTES

_NUMBER = struct.Struct("<Q")


class Journal:
    """One journal, opened. Everything but `try_lock` and the making of it needs the lock.

    Args:
        files: the calls it is kept with.
        path: of the journal.
        session_id: whose transcript it is; kept in the journal, for names that do not tell it.
        create: make it if it is not there; False only reads it.

    Raises:
        OSError: it could not be opened or made.
    """

    __slots__ = ("_fd", "_files", "_pid", "_session_id", "path")

    def __init__(self, files: Files, path: str, session_id: str, *, create: bool = True) -> None:
        self.path: str = path
        self._files = files
        self._session_id = session_id
        self._pid = os.getpid()
        self._fd: int = -1
        self._fd = files.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY)

    def __del__(self) -> None:
        """Let the file go that nobody can close any more, and the lock with it."""
        if self._fd >= 0:  # what was closed needs no function, of which there are none when the interpreter ends
            let_go_of(self._files, self._fd, self._pid, self.path)

    def close(self) -> None:
        """Let the file go, and the lock with it."""
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd = -1

    def try_lock(self) -> bool:
        """Take the lock if nobody has it."""
        if self._fd < 0:
            self._fd = self._files.open(self.path, os.O_RDWR)
        return self._files.try_lock(self._fd)

    def unlock(self) -> None:
        """Let the lock go; where the kernel does not do it, by letting the file go. Never raises."""
        try:
            self._files.unlock(self._fd)
        except OSError:
            self.close()

    def is_current(self) -> bool:
        """Tell whether the file that is open here still has the name: else a lock on it keeps nobody out."""
        named, held = self._files.status_of(self.path), self._files.status(self._fd)
        return named is not None and (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    @property
    def device(self) -> int:
        """The device its file system is on."""
        return self._files.status(self._fd).st_dev

    def tick(self) -> Tick:
        """Find out whether the file system tells changes apart that follow each other at once."""
        last = HEADER_BYTES - 1
        byte = self._files.read(self._fd, last, 1)
        stamps: set[int] = set()
        for _ in range(PROBES):
            self._files.write(self._fd, last, byte)
            stamps.add(self._files.status(self._fd).st_mtime_ns)
        return Tick(fine=len(stamps) == PROBES)

    def read(self) -> Record | None:
        """Return the record that counts; None for a new journal, or one whose records are lost.

        Raises:
            TranscriptUnavailable: it is no journal, or that of another session.
            OSError: it could not be read.
        """
        content, name = self._files.read(self._fd, 0, PAYLOAD_AT), _name(self._session_id)
        if len(content) < HEADER_BYTES or content[:NAME_BYTES] != name:
            # New, or whoever made it did not get far, or a power loss left zeros in the place of some of it.
            if not _is_part(content[:NAME_BYTES], name):
                raise self._not_ours(content)
            self._files.write(self._fd, 0, (name + content[NAME_BYTES:HEADER_BYTES]).ljust(HEADER_BYTES, b"\0"))
        first, second = (HEADER_BYTES + place * RECORD_BYTES for place in (0, 1))
        return newest((content[first : first + RECORD_BYTES], content[second : second + RECORD_BYTES]))

    def write(self, record: Record, *, sync: bool = False) -> None:
        """Put a record in the place of the older one; with `sync` it is on the disk when this returns."""
        self._files.write(self._fd, HEADER_BYTES + record.number % 2 * RECORD_BYTES, packed(record))
        if sync:
            self._files.sync(self._fd)

    def read_payload(self, length: int) -> bytes:
        """Return the payload of the write that has begun."""
        return self._files.read(self._fd, PAYLOAD_AT, length)

    def write_payload(self, payload: bytes) -> None:
        """Keep what is going to be written, until the next payload takes its place."""
        self._files.write(self._fd, PAYLOAD_AT, payload)

    def forget_payload(self) -> None:
        """Forget what was written last."""
        self._files.cut(self._fd, PAYLOAD_AT)

    def remember(self, version: int, state: State) -> None:
        """Remember what was owned at a version, until as many others as there is room for have followed."""
        self._files.write(self._fd, NAME_BYTES + version % MEMORIES * MEMORY_BYTES, packed_memory(version, state))

    def remembered(self) -> list[tuple[int, State]]:
        """Return what is remembered, in no order. After a power loss some of it may be anything."""
        content = self._files.read(self._fd, NAME_BYTES, MEMORIES * MEMORY_BYTES)
        places = range(0, len(content) - MEMORY_BYTES + 1, MEMORY_BYTES)
        memories = (unpacked_memory(content[place : place + MEMORY_BYTES]) for place in places)
        return [(version, state) for version, state in memories if version]

    def announce(self, number: int) -> None:
        """Tell whoever only looks that a third party writes the file behind the record of that number; 0: no longer.

        Nothing is decided by it: it keeps a monitor from warning of a change that is going to be owned.
        """
        self._files.write(self._fd, ANNOUNCED_AT, _NUMBER.pack(number))

    def announced(self) -> int:
        """Return what was announced last; whoever did may have died since."""
        content = self._files.read(self._fd, ANNOUNCED_AT, _NUMBER.size)
        return _NUMBER.unpack(content)[0] if len(content) == _NUMBER.size else 0

    def _not_ours(self, content: bytes) -> TranscriptUnavailable:
        reason = "it is not a journal of this version"
        if content.startswith(MAGIC):
            reason = f"it is the journal of session {_named_in(content)!r}, not of {self._session_id!r}"
        return TranscriptUnavailable(self.path, operation="open it", reason=reason)


def session_id_of(files: Files, path: str) -> str | None:
    """Return whose journal a file is, None where it does not tell yet; it needs no lock.

    Whoever made it did not get far, or a power loss has left nothing of it but zeros: opening the transcript makes it
    whole.

    Raises:
        OSError: it could not be read.
        TranscriptUnavailable: it is no journal.
    """
    fd = files.open(path, os.O_RDONLY)
    try:
        content = files.read(fd, 0, HEADER_BYTES)
    finally:
        files.close(fd)
    begun = content[: len(MAGIC)].rstrip(b"\0")
    if not MAGIC.startswith(begun):
        raise TranscriptUnavailable(path, operation="open it", reason="it is not a journal of this version")
    return _named_in(content) if begun == MAGIC and len(content) == HEADER_BYTES else None


def _named_in(header: bytes) -> str:
    return header[len(MAGIC) : NAME_BYTES].rstrip(b"\0").decode("utf-8", "surrogatepass")


def _is_part(content: bytes, name: bytes) -> bool:
    """Tell whether some content is the beginning of a name, in which sectors may be zeros."""
    for start in range(0, len(content), SECTOR):
        sector = content[start : start + SECTOR]
        if sector.strip(b"\0") and not name.startswith(sector, start):
            return False
    return True


def _name(session_id: str) -> bytes:
    return (MAGIC + session_id.encode("utf-8", "surrogatepass")).ljust(NAME_BYTES, b"\0")
