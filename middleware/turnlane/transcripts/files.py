"""The calls to the operating system a transcript is kept with, in one object that tests can replace.

What fails raises `OSError`, as from `os`. Short reads and short writes are gone on with; Python itself repeats a call
that was interrupted.
"""

import errno
import os
import sys
import warnings
from contextlib import suppress

if sys.platform != "win32":
    import fcntl

__all__ = ("PRIVATE", "Files", "let_go_of")

PRIVATE = 0o600
READ_AT_ONCE = 16 * 1024 * 1024
LOCKED = frozenset({errno.EAGAIN, errno.EACCES})


class Files:
    """Calls `os`. Nothing here waits for a lock or another process; reading and writing the disk may take its time."""

    __slots__ = ()

    def open(self, path: str, flags: int) -> int:
        """Open a regular file that is no symbolic link; one that is created is private.

        Raises:
            OSError: it is not there, a link (ELOOP), or something else than a file (EINVAL).
        """
        # O_NONBLOCK so that a FIFO put in the place of a file is refused below instead of waiting for its other end.
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, PRIVATE)
        try:
            if (self.status(fd).st_mode & 0o170000) != 0o100000:
                raise OSError(errno.EINVAL, "it is not a regular file", path)
        except BaseException:
            self.close(fd)
            raise
        return fd

    def close(self, fd: int) -> None:
        """Close a descriptor. What the kernel complains of then is not told: the descriptor is gone all the same.

        Raises:
            OSError: it was not open.
        """
        try:
            os.close(fd)
        except OSError as error:
            # Whether what was written is on the disk is for `sync` to tell.
            if error.errno == errno.EBADF:
                raise

    def status(self, fd: int) -> os.stat_result:
        """Return what is known of an open file."""
        return os.fstat(fd)

    def status_of(self, path: str) -> os.stat_result | None:
        """Return what is known of the file of that name, None if there is none; a link is not followed."""
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return None

    def read(self, fd: int, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`, or as many as there are."""
        parts: list[bytes] = []
        while length > 0:
            part = os.pread(fd, min(length, READ_AT_ONCE), start)
            if not part:
                break
            parts.append(part)
            start += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, fd: int, start: int, content: bytes) -> None:
        """Write all of `content` at `start`."""
        view = memoryview(content)
        while view:
            written = os.pwrite(fd, view, start)
            view, start = view[written:], start + written

    def append(self, fd: int, content: bytes) -> None:
        """Write all of `content` at the end; the file must be open for appending."""
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]

    def cut(self, fd: int, length: int) -> None:
        """Cut a file off at `length`."""
        os.ftruncate(fd, length)

    def set_mode(self, fd: int, mode: int) -> None:
        """Say who may do what with a file."""
        os.fchmod(fd, mode)

    def sync(self, fd: int) -> None:
        """Return when the content is on the disk. An error is final: asked again, the kernel may say all is well."""
        os.fsync(fd)

    def sync_directory(self, path: str) -> None:
        """Return when the names in a directory are on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            self.close(fd)

    def make_directory(self, path: str) -> None:
        """Make a directory that only its owner may enter; it may be there already."""
        os.makedirs(path, mode=0o700, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; what had that name is gone."""
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        """Take a file's name away."""
        os.unlink(path)

    def try_lock(self, fd: int) -> bool:
        """Take the kernel's exclusive lock on an open file, if nobody has it; never wait.

        The lock belongs to the open file, not to the process: other opens of this very process are locked out too. The
        kernel lets it go when the process dies.
        """
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in LOCKED:
                return False
            raise
        return True

    def unlock(self, fd: int) -> None:
        """Let the lock go, also where a forked child has inherited the descriptor."""
        fcntl.flock(fd, fcntl.LOCK_UN)


def let_go_of(files: Files, fd: int, pid: int, path: str) -> None:
    """Close what a collected object has left open, and warn of it; its lock, if it had one, goes with it.

    An event loop that was closed before its generators leaves transcripts open that nobody can close any more. Nobody
    can use them either: whoever could would have the object. In a forked child nothing is done: what has that number
    there may be something else.
    """
    if fd >= 0 and pid == os.getpid():
        warnings.warn(f"{path} was never closed", ResourceWarning, stacklevel=2)
        with suppress(OSError):
            files.close(fd)
