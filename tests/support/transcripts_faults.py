"""File calls that fail, or after which nothing runs any more, at a call that is counted out."""

import errno
import os
from collections.abc import Callable
from typing import Any

from turnlane.transcripts.files import Files

__all__ = ("CHANGING", "Faults", "FaultyFiles", "Killed")

CHANGING = frozenset({"open", "write", "append", "cut", "sync", "sync_directory", "rename", "unlink"})
"""The calls that can leave something behind; a process killed at another one might as well die at the next of these."""


class Killed(BaseException):
    """Stands for the end of the process: no code of it may do anything after that."""


class Faults:
    """When which fault happens.

    Args:
        at: the number of the call, from 0, that is hit.
        kind: `kill`, or the name of an errno.
        halves: a write that is hit has done the first half of its work.
        lasting: every later call that changes something fails too.
        only: count only the calls of this name.

    Mutable: `calls`, and `dead` once a kill has happened.
    """

    def __init__(self, at: int, kind: str, *, halves: bool = False, lasting: bool = False, only: str = "") -> None:
        self.at = at
        self.kind = kind
        self.halves = halves
        self.lasting = lasting
        self.only = only
        self.calls = 0
        self.dead = False
        self.names: list[str] = []

    @property
    def happened(self) -> bool:
        """Whether the call that is hit was reached."""
        return self.calls > self.at

    def hits(self, name: str) -> bool:
        """Count a call, and tell whether it is hit."""
        if self.dead:
            raise Killed
        if name not in CHANGING or name != (self.only or name):
            return False
        number, self.calls = self.calls, self.calls + 1
        self.names.append(name)
        return number == self.at or (self.lasting and number > self.at)

    def strike(self) -> None:
        """Let the fault happen."""
        if self.kind == "kill":
            self.dead = True
            raise Killed
        code = getattr(errno, self.kind)
        raise OSError(code, os.strerror(code))


class FaultyFiles(Files):
    """Calls `os`, but for what `faults` say."""

    __slots__ = ("faults",)

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def _done(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        if self.faults.hits(name):
            self.faults.strike()
        return call(*arguments)

    def open(self, path: str, flags: int) -> int:
        return int(self._done("open", super().open, path, flags))

    def write(self, fd: int, start: int, content: bytes) -> None:
        if self.faults.hits("write"):
            if self.faults.halves:
                super().write(fd, start, content[: len(content) // 2])
            self.faults.strike()
        super().write(fd, start, content)

    def append(self, fd: int, content: bytes) -> None:
        if self.faults.hits("append"):
            if self.faults.halves:
                super().append(fd, content[: len(content) // 2])
            self.faults.strike()
        super().append(fd, content)

    def cut(self, fd: int, length: int) -> None:
        self._done("cut", super().cut, fd, length)

    def sync(self, fd: int) -> None:
        self._done("sync", super().sync, fd)

    def sync_directory(self, path: str) -> None:
        self._done("sync_directory", super().sync_directory, path)

    def rename(self, old: str, new: str) -> None:
        self._done("rename", super().rename, old, new)

    def status(self, fd: int) -> os.stat_result:
        return self._done("status", super().status, fd)  # type: ignore[no-any-return]

    def read(self, fd: int, start: int, length: int) -> bytes:
        return bytes(self._done("read", super().read, fd, start, length))
