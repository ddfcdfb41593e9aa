"""Looking at transcripts from outside: for operators."""

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from turnlane.errors import TranscriptCorrupt, TranscriptUnavailable
from turnlane.transcripts.digest import Chain
from turnlane.transcripts.entries import decoded
from turnlane.transcripts.files import Files
from turnlane.transcripts.finding import Finding
from turnlane.transcripts.journal import session_id_of
from turnlane.transcripts.layout import Paths, paths_beside
from turnlane.transcripts.names import JOURNAL_SUFFIX, TRANSCRIPT_SUFFIX, is_transcript, where_it_belongs
from turnlane.transcripts.outside import has_journal, owned_file, paths_of, translated
from turnlane.transcripts.owned_file import OwnedFile
from turnlane.transcripts.record import State
from turnlane.transcripts.seen_file import Content

__all__ = ("Inspection", "advice_for", "inspect", "inspected", "transcripts_at")

PAUSE = 0.01
LOOKS = 5
AGAIN = 4
DATABASE = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a look at one transcript found.

    Attributes:
        path: of the file.
        session_id: whose it is; None where there is no journal to tell.
        entries: how many there are; None where a line is none.
        version: how often it was written; 0 without a journal.
        token: the highest that has written; 0 for none.
        finding: what nobody owns; None if all is as the journal says.
        corrupt: the first line that is no entry, and why.
        unfinished: whether a write has begun that nobody ended, or nobody has ended yet.
        trouble: why it could not be looked at; None if it could.
        busy: whether an owned write goes on, so that what is there can not be judged; then nothing else is told.
        advice: what to do about it, where `turnlane repair` can do nothing.
    """

    path: str
    session_id: str | None
    entries: int | None
    version: int
    token: int
    finding: Finding | None
    corrupt: TranscriptCorrupt | None
    unfinished: bool
    trouble: str | None = None
    busy: bool = False
    advice: str | None = None

    @classmethod
    def of_trouble(cls, path: Path, error: TranscriptUnavailable) -> Self:
        """Return what is known of a transcript that could not be looked at."""
        return cls(
            path=str(path),
            session_id=None,
            entries=None,
            version=0,
            token=0,
            finding=None,
            corrupt=None,
            unfinished=False,
            trouble=f"{error.path}: {error.reason}",
        )

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to settle."""
        return (
            self.finding is None
            and self.corrupt is None
            and not self.unfinished
            and self.trouble is None
            and not self.busy
        )


def transcripts_at(path: Path, *, state_dir: Path | None = None) -> tuple[Path, ...]:
    """Return the transcripts a path means: itself, or all in a directory, in order.

    Those that are gone are among them, unless the journals are in `state_dir`.

    Raises:
        TranscriptUnavailable: there is nothing of that name, or it is a database.
    """
    if _is_database(path):
        reason = "it is a database; what is wrong in it is found, and adopted or refused, when a transcript is opened"
        raise TranscriptUnavailable(str(path), operation="look at it from outside", reason=reason)
    if path.is_dir():
        names = {found.name.removesuffix(JOURNAL_SUFFIX) for found in path.glob(f"*{JOURNAL_SUFFIX}")}
        names |= {
            found.name.removesuffix(TRANSCRIPT_SUFFIX)
            for found in path.glob(f"*{TRANSCRIPT_SUFFIX}")
            if is_transcript(found.name)
        }
        return tuple(path / (name + TRANSCRIPT_SUFFIX) for name in sorted(names))
    if not path.exists() and not has_journal(paths_of(path, state_dir)):
        raise TranscriptUnavailable(str(path), operation="find it", reason="there is no such transcript")
    return (path,)


def inspect(path: Path, *, state_dir: Path | None = None) -> Inspection:
    """Hold a transcript against its journal. Nothing is written.

    Where there is something to settle it is looked at again for a moment: it may be somebody who writes. Where the
    journal says so, the lock is tried, and let go at once, to tell who writes still from who has died.

    Args:
        path: of the file.
        state_dir: where its journal is; None for beside it.

    Raises:
        TranscriptUnavailable: it could not be read.
    """
    found = _inspect(path, state_dir)
    for number in range(AGAIN):
        if found.is_well:
            break
        threading.Event().wait(PAUSE * 2**number)
        before, found = found, _inspect(path, state_dir)
        if found == before and not (found.unfinished or found.busy):
            break
    return found


def _inspect(path: Path, state_dir: Path | None) -> Inspection:
    with translated(path, "read it"):
        paths = paths_of(path, state_dir)
        session_id = session_id_of(Files(), paths.journal) if has_journal(paths) else None
        if session_id is None:
            return _without_journal(paths)
        file = owned_file(paths, session_id, create=False)
        try:
            content: Content | None = None
            written = False
            for _ in range(LOOKS):
                before = file.journal.read()
                file.load()
                content = file.content()
                written = _is_written(file)  # before the journal is read again: it has the record of what ends then
                if before == file.journal.read():
                    break
            else:
                written = True
            found = inspected(file, content, session_id)
            if found.is_well or not written:
                return found
            return replace(found, busy=True, entries=None, finding=None, corrupt=None, unfinished=False)
        finally:
            file.close()


def _is_written(file: OwnedFile) -> bool:
    """Tell whether somebody who has the lock is in the middle of an owned write, or has a third party make one."""
    record, journal = file.record, file.journal
    if record.intent is None and journal.announced() != record.number:
        return False
    if not journal.try_lock():
        return True
    journal.unlock()  # whoever began it has died
    return False


def inspected(file: OwnedFile, content: Content | None, session_id: str | None) -> Inspection:
    """Hold some content against the record of its file."""
    record, corrupt, entries = file.record, None, 0
    try:
        entries = len(decoded(b"" if content is None else content.data, where=file.path))
    except TranscriptCorrupt as error:
        corrupt = error
    same = record.is_deleted if content is None else content.state == record.state
    unfinished = record.intent is not None
    ended = content is not None and record.intent is not None and content.state == record.intent.state
    return Inspection(
        path=file.path,
        session_id=session_id,
        entries=None if corrupt is not None else entries,
        version=record.version,
        token=record.token,
        finding=None if same or ended else file.difference(content, record.state, known=None),
        corrupt=corrupt,
        unfinished=unfinished,
    )


def advice_for(paths: Paths) -> str | None:
    """Return what to do with a file that has no journal, where its name does not say whose it would be.

    None where it does: in `state_dir` any name does.
    """
    if paths != paths_beside(paths.transcript, None):
        return None
    return where_it_belongs(os.path.basename(paths.transcript))


def _without_journal(paths: Paths) -> Inspection:
    path = Path(paths.transcript)
    data, corrupt, entries = _read(path, None) if os.path.lexists(path) else b"", None, 0
    try:
        entries = len(decoded(data, where=str(path)))
    except TranscriptCorrupt as error:
        corrupt = error
    chain = Chain(data)
    found = State(chain.length, len(chain.digests), chain.digest)
    unknown = Finding(kind="unknown", offset=0, line=1, expected=State(), found=found)
    return Inspection(
        path=str(path),
        session_id=None,
        entries=None if corrupt is not None else entries,
        version=0,
        token=0,
        finding=unknown if data else None,
        corrupt=corrupt,
        unfinished=False,
        advice=advice_for(paths) if data else None,
    )


def _is_database(path: Path) -> bool:
    if str(path).startswith("sqlite:"):
        return True
    try:
        return _read(path, len(DATABASE)) == DATABASE
    except OSError:
        return False


def _read(path: Path, length: int | None) -> bytes:
    """Read a file from its beginning; what is no regular file is refused, and no link is followed."""
    files = Files()
    fd = files.open(str(path), os.O_RDONLY)
    try:
        return files.read(fd, 0, files.status(fd).st_size if length is None else length)
    finally:
        files.close(fd)
