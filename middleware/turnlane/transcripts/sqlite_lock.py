"""The write lock of a transcript in a database: the kernel's lock on a small file beside it.

A transaction can not be that lock: it is held for as long as a turn works, and there is one for the whole database.
"""

import os

from turnlane.transcripts.files import Files, let_go_of

__all__ = ("LockFile",)


class LockFile:
    """One opener's lock; only ever tried. The kernel lets it go when the process dies.

    Mutable: `_fd`, -1 while the file is not open.
    """

    __slots__ = ("_fd", "_files", "_path", "_pid")

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self._path = path
        self._pid = os.getpid()
        self._fd = -1

    def __del__(self) -> None:
        """Let the file go that nobody can close any more, and the lock with it."""
        if self._fd >= 0:  # what was closed needs no function, of which there are none when the interpreter ends
            let_go_of(self._files, self._fd, self._pid, self._path)

    def try_lock(self) -> bool:
        """Take the lock if nobody has it. The file is made if it is not there, and never removed.

        Raises:
            OSError: it could not be opened.
        """
        if self._fd < 0:
            self._fd = self._files.open(self._path, os.O_RDWR | os.O_CREAT)
        if not self._files.try_lock(self._fd):
            return False
        named, held = self._files.status_of(self._path), self._files.status(self._fd)
        if named is not None and (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino):
            return True
        self.close()  # somebody has removed it: a lock on it keeps nobody out
        return False

    def unlock(self) -> None:
        """Let the lock go."""
        if self._fd >= 0:
            self._files.unlock(self._fd)

    def close(self) -> None:
        """Close the file; the lock goes with it, unless a process that was forked from this one has it too."""
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd = -1
