"""A JSONL file and its journal, looked at while their lock is held: what is owned, and what is there."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnlane.transcripts.digest import Chain
from turnlane.transcripts.files import Files, let_go_of
from turnlane.transcripts.finding import Finding, found_in
from turnlane.transcripts.fingerprint import Fingerprint, Tick
from turnlane.transcripts.journal import Journal
from turnlane.transcripts.record import Record, State

__all__ = ("Content", "SeenFile")

LOOKS = 3  # at a file that changes while it is read


@dataclass(frozen=True, slots=True)
class Content:
    """What a file held when it was read, its chain, and the fingerprint it had before and after, if that was one."""

    data: bytes
    chain: Chain
    fingerprint: Fingerprint | None
    settled: bool

    @property
    def state(self) -> State:
        """Its length, lines and digest."""
        return State(self.chain.length, len(self.chain.digests), self.chain.digest)


class SeenFile:
    """One transcript file beside its journal. The lock of the journal is held while any method runs.

    Mutable: `record` (as in the journal) and `_fd` (the file of that name when it was looked at last, -1 for none),
    `_named` (whether the names of the file that is open and of its journal are on the disk).

    Args:
        files: the calls it is kept with.
        path: of the transcript.
        journal: the one beside it.
        ticks: how coarse the time stamps are, by device, as far as it is known.
        wall_ns: reads the clock, in nanoseconds since the epoch.
        boot: names the boot of the machine.
        sync: whether a write is on the disk when it is reported.
        keep: salvages lines that are left of a write and belong nowhere. May block, and raise OSError.
    """

    def __init__(
        self,
        files: Files,
        path: str,
        journal: Journal,
        *,
        ticks: dict[int, Tick],
        wall_ns: Callable[[], int],
        boot: bytes,
        sync: bool,
        keep: Callable[[Sequence[bytes]], object],
    ) -> None:
        self.path: str = path
        self.journal: Journal = journal
        self.record: Record = Record(boot=boot)
        self._files = files
        self._ticks = ticks
        self._tick = Tick(fine=False)
        self._wall_ns = wall_ns
        self._boot = boot
        self.sync: bool = sync
        self._keep = keep
        self._pid = os.getpid()
        self._fd = -1
        self._named = False

    def __del__(self) -> None:
        """Let the file go that nobody can close any more."""
        if self._fd >= 0:  # what was closed needs no function, of which there are none when the interpreter ends
            let_go_of(self._files, self._fd, self._pid, self.path)

    def close(self) -> None:
        """Let both files go."""
        self._let_go()
        self.journal.close()

    def load(self) -> bool:
        """Read the record; False if there is none.

        A write that another process had begun is still in it: `recovery` settles that.

        Raises:
            OSError, TranscriptUnavailable: the journal could not be read.
        """
        record = self.journal.read()
        device = self.journal.device
        if device not in self._ticks:
            self._ticks[device] = self.journal.tick()
        self._tick = self._ticks[device]
        if record is not None:
            self.record = record
        return record is not None

    def fingerprint(self) -> Fingerprint | None:
        """Return the fingerprint of the file that has the name now, None for no file; open it if it is another one."""
        status = self._files.status_of(self.path)
        if status is None:
            self._let_go()
            return None
        if self._fd >= 0:
            held = self._files.status(self._fd)
            if (held.st_dev, held.st_ino) == (status.st_dev, status.st_ino):
                return Fingerprint.of(held)
            self._let_go()
        try:
            self._fd = self._files.open(self.path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        return Fingerprint.of(self._files.status(self._fd))

    def content(self) -> Content | None:
        """Read the whole file, None for no file, and look at it before and after; what changed meanwhile is read again.

        Raises:
            OSError: it could not be read.
        """
        found: Content | None = None
        before = self.fingerprint()
        for _ in range(LOOKS):
            if before is None:
                return None
            taken_ns = self._wall_ns()
            data = self._files.read(self._fd, 0, before.size)
            after = self.fingerprint()
            same = after == before and len(data) == before.size
            # Where somebody goes on writing, no fingerprint vouches for what was read.
            settled = same and self._tick.is_settled(before, taken_ns)
            found = Content(data, Chain(data), before if same else None, settled=settled)
            if same:
                break
            before = after
        return found

    def is_unchanged(self, *, settled: bool) -> bool:
        """Tell whether the fingerprint is the owned one, and, with `settled`, proves that nothing happened since."""
        fingerprint = self.fingerprint()
        return (
            fingerprint is not None and fingerprint == self.record.fingerprint and (self.record.settled or not settled)
        )

    def compare(self, content: Content | None, *, known: Chain | None = None) -> Finding | None:
        """Hold some content against what is owned; None if it is that. A better fingerprint is noted.

        Raises:
            OSError: the journal could not be written.
        """
        record = self.record
        if content is not None and content.state == record.state:
            if (content.fingerprint, content.settled) != (record.fingerprint, record.settled):
                self._note(record.seen(content.fingerprint, settled=content.settled))
            return None
        return self.difference(content, record.state, known=known)

    def difference(self, content: Content | None, owned: State, *, known: Chain | None) -> Finding:
        """Say how some content differs from an owned one."""
        return found_in(
            None if content is None else content.chain,
            owned,
            replaced=content is not None and _is_another(content.fingerprint, self.record.fingerprint),
            known=known,
        )

    def tail(self, start: int) -> bytes:
        """Return the owned content from `start` on, of a file that was found unchanged."""
        return self._files.read(self._fd, start, self.record.state.length - start)

    def _sync_file(self) -> None:
        """With `sync`: return when the content is on the disk, and the names that lead to it.

        After an error the kernel may call the pages clean: what is on the disk is known when it is read from there.

        Raises:
            OSError: it may be, or not.
        """
        if not self.sync:
            return
        try:
            self._files.sync(self._fd)
            if not self._named:
                self._sync_names()
                self._named = True
        except OSError:
            self._let_go()
            raise

    def _sync_names(self) -> None:
        """Return when the names in the directories of the transcript and of all beside it are on the disk."""
        for directory in dict.fromkeys(os.path.dirname(path) for path in (self.journal.path, self.path)):
            self._files.sync_directory(directory or ".")

    def _note(self, record: Record) -> None:
        self.journal.write(record, sync=self.sync)
        self.record = record

    def _let_go(self) -> None:
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd, self._named = -1, False


def _is_another(found: Fingerprint | None, owned: Fingerprint | None) -> bool:
    return found is not None and owned is not None and (found.device, found.inode) != (owned.device, owned.inode)
