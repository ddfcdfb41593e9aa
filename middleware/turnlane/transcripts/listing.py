"""Which transcripts a directory holds, and which of them are not as they were."""

import os
from collections.abc import Iterator, Mapping
from stat import S_ISDIR

from turnlane.transcripts.fingerprint import Fingerprint
from turnlane.transcripts.names import JOURNAL_SUFFIX, TRANSCRIPT_SUFFIX, is_transcript

__all__ = ("differing", "transcript_named")

AFTER_THE_TRANSCRIPT = len(JOURNAL_SUFFIX) - len(TRANSCRIPT_SUFFIX)


def transcript_named(path: str) -> str | None:
    """Return the transcript that a changed file is, or is the journal of; None where it is neither."""
    if path.endswith(JOURNAL_SUFFIX):
        return path.removesuffix(JOURNAL_SUFFIX) + TRANSCRIPT_SUFFIX
    return path if is_transcript(os.path.basename(path)) else None


def differing(directory: str, known: Mapping[str, Fingerprint | None], *, recursive: bool) -> dict[str, None]:
    """Return the transcripts whose fingerprint is not the known one: changed, new, or gone.

    One whose journal alone is there has the fingerprint None; so has one that is known to be gone. Links are not
    followed. No directory is one without files; what goes away while it is listed is gone.

    Raises:
        OSError: a directory could not be read.
    """
    left, journals, found = dict(known), list[str](), dict[str, None]()
    for entry in _entries(directory, recursive=recursive):
        name = entry.name
        if name.endswith(JOURNAL_SUFFIX):
            journals.append(entry.path)
        elif is_transcript(name):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if S_ISDIR(status.st_mode):
                continue
            # The parts of a `Fingerprint`, as they are: of thousands of files hardly one has changed.
            now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if left.pop(entry.path, None) != now:
                found[entry.path] = None
    for journal in journals:
        path = journal[:-AFTER_THE_TRANSCRIPT]
        if path not in known and path not in found:
            found[path] = None
    found.update(dict.fromkeys(path for path, fingerprint in left.items() if fingerprint is not None))
    return found


def _entries(directory: str, *, recursive: bool) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a directory, and below it."""
    below = [directory]
    while below:
        try:
            entries = os.scandir(below.pop())
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                yield entry
                if recursive and entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
