"""Which workers live: each has a file the kernel locks for it, and lets go when its process ends, however it ends."""

import asyncio
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress

__all__ = ("Workers",)

LOOK_SECONDS = 0.5  # where the kernel does not tell of the end of a process
FIRST_LOOK_SECONDS = 0.001  # after the end of one whose file is locked still; each time twice as long


class Workers:
    """The workers of a directory, as one of them sees it.

    The end of a process is heard of at once where there are descriptors of processes, as on Linux; elsewhere the locks
    are looked at twice a second.

    Mutable: `_lock` (the descriptor of its own file), `_watched` (by worker, the descriptor of its process, or None),
    `_timer` and `_pause`, until it looks again.

    Args:
        directory: where the files are.
        worker: its name.
        died: called with the name of one that was found dead; again, until `forget`.
    """

    def __init__(self, directory: str, worker: str, died: Callable[[str], None]) -> None:
        self._directory = directory
        self._worker = worker
        self._died = died
        self._loop = asyncio.get_running_loop()
        self._watched: dict[str, int | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pause = LOOK_SECONDS
        self._lock = os.open(self._path(worker), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_dead(self, worker: str) -> bool:
        """Tell whether nobody has the lock of a worker's file."""
        try:
            fd = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:  # too many files are open, it may be: who is not known to be dead is taken to live
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    def watch(self, worker: str, pid: int) -> None:
        """Hear of the end of another worker from now on."""
        if worker == self._worker or worker in self._watched:
            return
        descriptor: int | None = None
        opens = getattr(os, "pidfd_open", None)
        if opens is not None:
            with suppress(OSError):  # it has ended already, or is in another namespace
                descriptor = opens(pid)
        self._watched[worker] = descriptor
        if descriptor is not None:
            self._loop.add_reader(descriptor, self._ended, worker)
        if self.is_dead(worker):  # also where another process has got its number since
            self._loop.call_soon(self._died, worker)
        elif descriptor is None:
            self._look_soon()

    def forget(self, worker: str) -> None:
        """Watch a worker no longer, and take away what is left of one that is dead."""
        self._unwatch(worker)
        for path in (self._path(worker), os.path.join(self._directory, f"{worker}.sock")):
            with suppress(OSError):
                os.unlink(path)

    def close(self) -> None:
        """Let go of everything; with that the worker is dead."""
        if self._timer is not None:
            self._timer.cancel()
        for worker in list(self._watched):
            self._unwatch(worker)
        os.close(self._lock)
        with suppress(OSError):
            os.unlink(self._path(self._worker))

    def close_in_child(self) -> None:
        """Close everything in a forked process, which would keep the lock; its loop is its parent's still."""
        for descriptor in self._watched.values():
            if descriptor is not None:
                os.close(descriptor)
        self._watched = {}
        os.close(self._lock)

    def _ended(self, worker: str) -> None:
        descriptor = self._watched.get(worker)
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
        if self.is_dead(worker):
            self._died(worker)
        else:  # a child it has forked holds the lock still, or the number is another's by now
            self._pause = FIRST_LOOK_SECONDS
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._look_soon()

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._pause, self._look)
            self._pause = min(2 * self._pause, LOOK_SECONDS)

    def _look(self) -> None:
        self._timer = None
        for worker in list(self._watched):
            if self.is_dead(worker):
                self._died(worker)
        if self._watched:
            self._look_soon()

    def _unwatch(self, worker: str) -> None:
        descriptor = self._watched.pop(worker, None)
        if descriptor is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _path(self, worker: str) -> str:
        return os.path.join(self._directory, f"{worker}.lock")
