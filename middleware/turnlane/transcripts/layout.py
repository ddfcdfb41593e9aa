"""Which files a transcript has, and where: its own, the journal, the salvage, the tombstones."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from turnlane.transcripts.names import (
    JOURNAL_SUFFIX,
    SALVAGE_SUFFIX,
    TOMBSTONE_SUFFIX,
    TRACES_SUFFIX,
    TRANSCRIPT_SUFFIX,
    is_transcript,
    stem_of,
)

__all__ = ("DirectoryLayout", "FileLayout", "Layout", "Paths", "layout_of", "paths_beside")


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one transcript. Everything but `transcript` begins with `sidecars`."""

    transcript: str
    sidecars: str

    @property
    def journal(self) -> str:
        """The journal, and lock file."""
        return self.sidecars + JOURNAL_SUFFIX

    @property
    def salvage(self) -> str:
        """Where words go that could not be stored."""
        return self.sidecars + SALVAGE_SUFFIX

    @property
    def traces(self) -> str:
        """What tells which lines a turn has written."""
        return self.sidecars + TRACES_SUFFIX

    def tombstone(self, at: float) -> str:
        """What it is called once it is deleted, at so many seconds since the epoch."""
        return f"{self.sidecars}.{int(at * 1000)}{TOMBSTONE_SUFFIX}"


class Layout(Protocol):
    """Where the transcripts of a store are."""

    @property
    def where(self) -> str:
        """Names it in errors."""
        ...

    @property
    def directories(self) -> Sequence[str]:
        """Those that hold the files: first that of the transcripts, last that of the sidecars."""
        ...

    def paths(self, session_id: str) -> Paths:
        """Return the files of one transcript.

        Raises:
            ValueError: there can be no transcript of that id here.
        """
        ...

    def paths_at(self, transcript: str) -> Paths:
        """Return the files of the transcript in a file."""
        ...

    def repair(self, transcript: str) -> str:
        """Return the command that settles an unowned edit."""
        ...

    def transcripts(self) -> list[str]:
        """Return the files that may be transcripts.

        Raises:
            OSError: that can not be told.
        """
        ...


def repair_command(transcript: str, state_dir: str | None) -> str:
    """Return the command that adopts what a transcript holds."""
    state = "" if state_dir is None else f" --state-dir {shlex.quote(state_dir)}"
    return f"turnlane repair --adopt {shlex.quote(transcript)}{state}"


def paths_beside(transcript: str, state_dir: str | None) -> Paths:
    """Return the files of a transcript: beside it, or with a name made of its whole path in `state_dir`."""
    if state_dir is None:
        return Paths(transcript, transcript.removesuffix(TRANSCRIPT_SUFFIX))
    return Paths(transcript, os.path.join(state_dir, stem_of(os.path.realpath(transcript))))


class DirectoryLayout:
    """A directory with a file for each session.

    Args:
        directory: of the transcripts.
        state_dir: of everything else, where the directory belongs to another program; None for the same.
    """

    __slots__ = ("_state_dir", "where")

    def __init__(self, directory: str, state_dir: str | None = None) -> None:
        self.where: str = directory
        self._state_dir = state_dir

    @property
    def directories(self) -> Sequence[str]:
        """Those that hold the files."""
        return (self.where,) if self._state_dir is None else (self.where, self._state_dir)

    def paths(self, session_id: str) -> Paths:
        """Return the files of one transcript."""
        return self.paths_at(os.path.join(self.where, stem_of(session_id) + TRANSCRIPT_SUFFIX))

    def paths_at(self, transcript: str) -> Paths:
        """Return the files of the transcript in a file."""
        return paths_beside(transcript, self._state_dir)

    def repair(self, transcript: str) -> str:
        """Return the command that settles an unowned edit."""
        return repair_command(transcript, self._state_dir)

    def transcripts(self) -> list[str]:
        """Return the files that may be transcripts."""
        return [os.path.join(self.where, name) for name in os.listdir(self.where) if is_transcript(name)]


class FileLayout:
    """One file, which may have any name; its session has the id that is its name without `.jsonl`.

    Args:
        path: of the file.
        state_dir: of everything else, where the file belongs to another program; None for beside it.
    """

    __slots__ = ("_state_dir", "session_id", "where")

    def __init__(self, path: str, state_dir: str | None = None) -> None:
        self.where: str = path
        self.session_id: str = os.path.basename(path).removesuffix(TRANSCRIPT_SUFFIX)
        self._state_dir = state_dir

    @property
    def directories(self) -> Sequence[str]:
        """Those that hold the files."""
        own = os.path.dirname(self.where) or "."
        return (own,) if self._state_dir is None else (own, self._state_dir)

    def paths(self, session_id: str) -> Paths:
        """Return the files of the one transcript.

        Raises:
            ValueError: it is asked for another one.
        """
        if session_id != self.session_id:
            raise ValueError(f"{self.where} is the transcript of session {self.session_id!r}, not of {session_id!r}")
        return self.paths_at(self.where)

    def paths_at(self, transcript: str) -> Paths:
        """Return the files of the transcript in a file."""
        return paths_beside(transcript, self._state_dir)

    def repair(self, transcript: str) -> str:
        """Return the command that settles an unowned edit."""
        return repair_command(transcript, self._state_dir)

    def transcripts(self) -> list[str]:
        """Return the file, if it is there."""
        return [self.where] if os.path.lexists(self.where) else []


def layout_of(place: str, state_dir: str | None) -> Layout:
    """Return the layout of a directory, or of a file: of that kind, or, where there is nothing yet, named `*.jsonl`.

    A relative path is one from where the process is now, wherever it goes later.

    Raises:
        ValueError: a path is empty, or holds a NUL.
    """
    for path in (place, state_dir):
        if path is not None and (not path or "\0" in path):
            raise ValueError(f"transcripts need a directory or a file: {path!r}")
    place, state_dir = os.path.abspath(place), None if state_dir is None else os.path.abspath(state_dir)
    is_file = os.path.isfile(place) or (place.endswith(TRANSCRIPT_SUFFIX) and not os.path.isdir(place))
    return FileLayout(place, state_dir) if is_file else DirectoryLayout(place, state_dir)
