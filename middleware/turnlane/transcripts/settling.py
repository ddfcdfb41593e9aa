"""Settling by hand what no turn may settle: for operators."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from turnlane.clock import Clock
from turnlane.errors import TranscriptBusy, TranscriptUnavailable
from turnlane.transcripts.files import Files
from turnlane.transcripts.inspection import Inspection, advice_for, inspected
from turnlane.transcripts.journal import session_id_of
from turnlane.transcripts.layout import Paths
from turnlane.transcripts.names import TRANSCRIPT_SUFFIX
from turnlane.transcripts.outside import has_journal, keep, owned_file, paths_of, translated
from turnlane.transcripts.owned_file import OwnedFile

__all__ = ("adopt", "cut_tail", "raise_token")

PAUSE = 0.01


def adopt(path: Path, *, state_dir: Path | None = None, timeout: float = 5.0) -> Inspection:
    """Make what a transcript holds the owned state, with a record in its journal; return what was there to settle.

    A turn that is out on a prompt release refuses it all the same. A write that was never ended is settled first.

    Args:
        path: of the file.
        state_dir: where its journal is; None for beside it.
        timeout: seconds to wait for others who write.

    Raises:
        TranscriptCorrupt: a line is no entry; mend it first.
        TranscriptBusy, TranscriptUnavailable: nothing was adopted.
    """
    paths = paths_of(path, state_dir)
    with _locked(paths, timeout) as (file, session_id):
        file.load()
        file.recovery()
        content = file.content()
        found = inspected(file, content, session_id)
        if found.corrupt is not None:
            raise found.corrupt
        if found.finding is not None:
            file.adopt(content, token=0, turn="")
        return found


def cut_tail(path: Path, *, state_dir: Path | None = None, timeout: float = 5.0) -> str | None:
    """Move what stands behind the last line feed to the salvage, and adopt the rest; return where it is, if any was.

    Args:
        path: of the file.
        state_dir: where its journal is; None for beside it.
        timeout: seconds to wait for others who write.

    Raises:
        TranscriptBusy, TranscriptUnavailable: nothing was cut.
    """
    paths = paths_of(path, state_dir)
    with _locked(paths, timeout) as (file, session_id):
        file.load()
        file.recovery()
        content = file.content()
        tail = b"" if content is None else content.data.rpartition(b"\n")[2]
        if content is None or not tail:
            return None
        where = keep(paths, (tail,), reason="the line was cut by an operator")
        file.journal.announce(file.record.number)
        file.cut_off(len(content.data) - len(tail))
        remaining = file.content()
        if inspected(file, remaining, session_id).finding is not None:
            file.adopt(remaining, token=0, turn="")
        file.journal.announce(0)
        return where


def raise_token(path: Path, token: int, *, state_dir: Path | None = None, timeout: float = 5.0) -> int:
    """Set the highest token of a transcript, so that turns with lower ones are stale; return what it was.

    Args:
        path: of the file.
        token: the new one; it may be lower than the old one, after the store that gives them was lost.
        state_dir: where its journal is; None for beside it.
        timeout: seconds to wait for others who write.

    Raises:
        TranscriptBusy, TranscriptUnavailable: it was not set.
    """
    paths = paths_of(path, state_dir)
    with _locked(paths, timeout) as (file, _):
        file.load()
        file.recovery()
        before = file.record.token
        file.set_token(token)
        return before


@contextmanager
def _locked(paths: Paths, timeout: float) -> Generator[tuple[OwnedFile, str], None, None]:
    with translated(Path(paths.transcript), "open it"):
        session_id = _session_of(paths)
        file = owned_file(paths, session_id, create=True)
        try:
            monotonic = Clock().monotonic
            deadline = monotonic() + timeout
            while not file.journal.try_lock():
                if monotonic() >= deadline:
                    raise TranscriptBusy(paths.transcript, lock_timeout=timeout)
                threading.Event().wait(PAUSE)
            yield file, session_id
        finally:
            file.close()


def _session_of(paths: Paths) -> str:
    session_id = session_id_of(Files(), paths.journal) if has_journal(paths) else None
    if session_id is not None:
        return session_id
    path = Path(paths.transcript)
    if path.is_dir():
        reason: str | None = "it is a directory; name one transcript in it"
    else:
        reason = advice_for(paths) if path.exists() else "there is no such transcript"
    if reason is not None:
        raise TranscriptUnavailable(str(path), operation="settle it", reason=reason)
    return path.name.removesuffix(TRANSCRIPT_SUFFIX)
