"""The files of a transcript as somebody who does not run the server comes to them: by their path."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from turnlane.clock import Clock
from turnlane.errors import TranscriptBusy, TranscriptUnavailable
from turnlane.transcripts.files import Files
from turnlane.transcripts.fingerprint import Tick
from turnlane.transcripts.journal import Journal
from turnlane.transcripts.layout import Paths, paths_beside
from turnlane.transcripts.owned_file import OwnedFile
from turnlane.transcripts.place import boot_of
from turnlane.transcripts.salvage import salvage

__all__ = ("has_journal", "keep", "owned_file", "paths_of", "translated")


class _Looked(Files):
    """Opens nothing for writing: what is looked at may be a snapshot, or belong to somebody else."""

    __slots__ = ()

    def open(self, path: str, flags: int) -> int:
        return super().open(path, os.O_RDONLY)


def owned_file(paths: Paths, session_id: str, *, create: bool) -> OwnedFile:
    """Open a transcript and its journal; without `create` only to look at them.

    Raises:
        OSError: one could not be opened.
    """
    files = Files() if create else _Looked()
    journal = Journal(files, paths.journal, session_id, create=create)
    # Whoever only looks must not write, not even to find out how coarse the time stamps are.
    ticks = {} if create else {journal.device: Tick(fine=False)}
    clock = Clock()
    return OwnedFile(
        files,
        paths.transcript,
        journal,
        ticks=ticks,
        wall_ns=clock.wall_ns,
        boot=boot_of(),
        sync=create,
        keep=partial(keep, paths, reason="whoever wrote it did not end it"),
    )


def keep(paths: Paths, lines: Sequence[bytes], *, reason: str) -> str:
    """Put lines into the salvage, and return where it is.

    Raises:
        OSError: they are not in it.
    """
    return salvage(
        Files(), paths.salvage, at=Clock().wall(), reason=reason, turn="", token=None, lines=lines, sync=True
    )


def paths_of(path: Path, state_dir: Path | None) -> Paths:
    """Return the files of the transcript in a file."""
    return paths_beside(str(path), None if state_dir is None else str(state_dir))


def has_journal(paths: Paths) -> bool:
    """Tell whether there is a journal."""
    return Path(paths.journal).exists()


@contextmanager
def translated(path: Path, operation: str) -> Generator[None, None, None]:
    """Turn what the file system raises into the errors of this package."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TranscriptBusy | TranscriptUnavailable):
            raise
        raise TranscriptUnavailable(
            os.fspath(path), operation=operation, reason=error.strerror or str(error)
        ) from error
