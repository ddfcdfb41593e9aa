"""Removing what deleted transcripts have left, once its time is over."""

import logging
import os

from turnlane.errors import TranscriptUnavailable
from turnlane.transcripts.files import Files
from turnlane.transcripts.journal import Journal, session_id_of
from turnlane.transcripts.layout import Layout
from turnlane.transcripts.names import JOURNAL_SUFFIX, SALVAGE_SUFFIX, buried
from turnlane.transcripts.record import Record

__all__ = ("sweep",)

logger: logging.Logger = logging.getLogger("turnlane.transcripts")


def sweep(files: Files, layout: Layout, before: float) -> int:
    """Unlink tombstones of before that moment, and older salvage of what is deleted still; return how many tombstones.

    The journals stay: they are the locks.

    Args:
        files: the calls it is made with.
        layout: of the store; what belongs to others in the same directory stays.
        before: seconds since the epoch.

    Raises:
        OSError, TranscriptUnavailable: something could not be read or removed.
    """
    directory, swept = layout.directories[-1], 0
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        grave = buried(name)
        if grave is not None and grave[1] < before and _record_of(files, layout, os.path.join(directory, grave[0])):
            files.unlink(path)
            swept += 1
        elif name.endswith(SALVAGE_SUFFIX) and _is_older(files, path, before):
            record = _record_of(files, layout, path.removesuffix(SALVAGE_SUFFIX))
            if record is not None and record.is_deleted:
                files.unlink(path)
    return swept


def _is_older(files: Files, path: str, before: float) -> bool:
    status = files.status_of(path)
    return status is not None and status.st_mtime < before


def _record_of(files: Files, layout: Layout, sidecars: str) -> Record | None:
    """Return what the journal of a transcript says; None where there is none, or it is that of another store."""
    path = sidecars + JOURNAL_SUFFIX
    if files.status_of(path) is None:
        return None
    try:
        session_id = session_id_of(files, path)
    except TranscriptUnavailable as error:
        logger.warning("sweep_skipped path=%s: %s", path, error)
        return None
    try:
        if session_id is None or layout.paths(session_id).sidecars != sidecars:
            return None
    except ValueError:
        return None
    journal = Journal(files, path, session_id, create=False)
    try:
        return journal.read()
    finally:
        journal.close()
