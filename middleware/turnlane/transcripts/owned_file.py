"""A JSONL file and its journal, while their lock is held: owned writes, and what operators do.

Everything here may block for as long as the disk takes and runs to its end or not at all; which of it may run on the
event loop is for the caller to know.
"""

import os
from collections.abc import Sequence
from dataclasses import replace

from turnlane.transcripts.digest import EMPTY, chained
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.fingerprint import Fingerprint
from turnlane.transcripts.record import Intent, Kind, Record, State
from turnlane.transcripts.recoverable_file import RecoverableFile
from turnlane.transcripts.seen_file import Content

__all__ = ("OwnedFile", "WriteFailed")

NEW_SUFFIX = ".new"  # of a file that is going to take a transcript's place


class WriteFailed(Exception):
    """A write did not happen; the file is as it was, or the journal knows what to do about it."""


class OwnedFile(RecoverableFile):
    """One transcript file, owned as its journal says. The lock of the journal is held while any method runs."""

    def create(self) -> None:
        """Make an empty file where there is none.

        Raises:
            OSError: it could not be made.
        """
        self._let_go()
        self._fd = self._files.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        self._sync_file()

    def adopt(self, content: Content | None, *, token: int, turn: str) -> None:
        """Make what is there the owned state, with a record of it. An absent file is made anew, empty.

        Raises:
            OSError: the journal, or the file, could not be written.
        """
        if content is None:
            self.create()  # what is in it by now, somebody else has written: it is not looked at here
        state, fingerprint, settled = State(), None, False
        if content is not None:
            state, fingerprint, settled = content.state, content.fingerprint, content.settled
            self._sync_file()
        self._end(self.record.taken_in(state, fingerprint, settled=settled, token=token, turn=turn, boot=self._boot))

    def own(self, content: Content, *, token: int, turn: str, rewritten: bool) -> None:
        """Own what somebody else wrote for us, and that was approved.

        Raises:
            OSError: the journal could not be written, or the file not be synced; nothing is owned.
        """
        self._sync_file()
        written = self.record.written(
            content.state,
            content.fingerprint,
            settled=content.settled,
            token=token,
            turn=turn,
            rewritten=rewritten,
            boot=self._boot,
        )
        self._end(written)

    def cut_off(self, length: int) -> None:
        """Cut the file off at `length`, for an operator: the rest is lost."""
        self._files.cut(self._fd, length)

    def set_token(self, token: int) -> None:
        """Set the highest token, for an operator."""
        self._note(replace(self.record, number=self.record.number + 1, token=token))

    # -- owned writes

    def append(self, lines: Sequence[bytes], *, token: int, turn: str) -> Finding | None:
        """Append lines, which hold no line feed, to a file that was found unchanged.

        Returns:
            What somebody else did to the file in that very moment; the lines are in it all the same.

        Raises:
            WriteFailed: they are not; after an error of the disk itself it may take the next look to know.
        """
        record, owned = self.record, self.record.state
        payload = self._line_feed_before() + b"".join(line + b"\n" for line in lines)
        state = State(owned.length + len(payload), owned.lines + len(lines), chained(owned.digest, lines))
        intent = Intent(Kind.APPEND, state, len(payload))
        try:
            self.journal.write_payload(payload)
            self._note(record.begun(intent, token=token, turn=turn, boot=self._boot))
            self._files.append(self._fd, payload)
            self._sync_content()
            taken_ns = self._wall_ns()
            fingerprint = Fingerprint.of(self._files.status(self._fd))
            whole = fingerprint.size == state.length
            whole = whole and self._files.read(self._fd, owned.length, len(payload)) == payload
            settled = whole and self._is_still_settled(fingerprint, taken_ns)
            self._end(self.record.done(fingerprint if whole else None, settled=settled))
        except OSError as error:
            self._take_back(payload)
            raise WriteFailed(str(error)) from error
        return None if whole else self.compare(self.content())

    def cut_back(self, state: State, *, token: int, turn: str) -> None:
        """Cut off what follows an earlier owned state, of a file that was found to hold what is owned.

        Raises:
            OSError: it was not done, or the journal knows what to do about it.
        """
        self._note(self.record.begun(Intent(Kind.REWRITE, state, 0), token=token, turn=turn, boot=self._boot))
        self._files.cut(self._fd, state.length)
        self._sync_content()
        taken_ns = self._wall_ns()
        fingerprint = Fingerprint.of(self._files.status(self._fd))
        whole = fingerprint.size == state.length
        settled = whole and self._is_still_settled(fingerprint, taken_ns)
        self._end(self.record.done(fingerprint if whole else None, settled=settled))

    def rewrite(self, lines: Sequence[bytes], *, token: int, turn: str) -> None:
        """Put a file with these lines in the place of one that was found to hold what is owned.

        All of it or nothing: the new file is whole before it gets the name. What somebody writes into the old one at
        that moment is salvaged.

        Raises:
            OSError: it was not done, or the journal knows what to do about it.
        """
        content = b"".join(line + b"\n" for line in lines)
        before = self._files.status(self._fd)
        beside = self.path + NEW_SUFFIX
        new = self._files.open(beside, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            self._files.cut(new, 0)  # whoever died here may have left some
            self._files.set_mode(new, before.st_mode & 0o777)
            self._files.append(new, content)
            if self.sync:
                self._files.sync(new)
        finally:
            self._files.close(new)
        state = State(len(content), len(lines), chained(EMPTY, lines))
        self._note(self.record.begun(Intent(Kind.REWRITE, state, 0), token=token, turn=turn, boot=self._boot))
        self._files.rename(beside, self.path)
        left = self._files.status(self._fd)
        if (left.st_size, left.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            self._keep([line for line in self._files.read(self._fd, 0, left.st_size).split(b"\n") if line])
        self._let_go()
        if self.sync:
            self._sync_names()
        self._end(self.record.done(self.fingerprint(), settled=False))

    def delete(self, tombstone: str, *, token: int, turn: str) -> None:
        """Give the file the name of a tombstone, where there is one; from then on the transcript has none.

        Raises:
            OSError: it was not done, or the journal knows what to do about it.
        """
        self._note(self.record.begun(Intent(Kind.DELETE, State(), 0), token=token, turn=turn, boot=self._boot))
        if self._files.status_of(self.path) is not None:
            self._files.rename(self.path, tombstone)
        self._let_go()
        if self.sync:
            self._sync_names()
        self._note(self.record.removed())
        self.journal.forget_payload()

    def _is_still_settled(self, fingerprint: Fingerprint, taken_ns: int) -> bool:
        """Tell whether a fingerprint after a write proves the content: only where the one before it did."""
        return self.record.settled and self._tick.is_settled(fingerprint, taken_ns)

    def _sync_content(self) -> None:
        try:
            self._sync_file()
        except OSError as error:
            raise WriteFailed(f"{error}; the next look at it tells whether it is stored") from error

    def _take_back(self, payload: bytes) -> None:
        """Undo what was written of a payload; where that fails too, the intent in the journal is left for recovery."""
        owned = self.record.state
        try:
            size = self._files.status(self._fd).st_size
            written = self._files.read(self._fd, owned.length, size - owned.length)
            if size < owned.length or not payload.startswith(written):
                return
            if self.record.intent is not None:
                # What failed may have been the record of its end, which is in the journal then.
                self._note(replace(self.record, number=self.record.number + 1))
            self._files.cut(self._fd, owned.length)
            self._sync_file()
            if self.record.intent is not None:
                self._note(self.record.given_up())
        except OSError:
            self._let_go()

    def _line_feed_before(self) -> bytes:
        length = self.record.state.length
        return b"\n" if length and self._files.read(self._fd, length - 1, 1) != b"\n" else b""

    def _end(self, record: Record) -> None:
        """Note what is owned now, and remember it for `cut_lost_tail`."""
        self.journal.remember(record.version, record.state)
        self._note(record)
