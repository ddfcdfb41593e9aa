"""Workers whose system calls on a transcript's files are counted, killed at, or made to fail, by strace."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import transcripts_worker
from support.transcripts_jobs import session_of
from turnlane.transcripts.names import JOURNAL_SUFFIX, SALVAGE_SUFFIX, TRANSCRIPT_SUFFIX

__all__ = ("FAULTS", "HARMLESS", "NotPermitted", "Outcome", "Point", "Workers", "points", "workers")

PATIENCE = 20.0
CALL = re.compile(r"(\d+) +(\w+)\(")

_SPACE = ("ENOSPC", "EROFS")
FAULTS: dict[str, tuple[str, ...]] = {
    "openat": ("ENOSPC", "EIO", "EINTR", "EMFILE", "EROFS", "EACCES"),
    "read": ("EIO", "EINTR"),
    "pread64": ("EIO", "EINTR"),
    "write": ("EIO", "EINTR", *_SPACE),
    "pwrite64": ("EIO", "EINTR", *_SPACE),
    "ftruncate": ("EIO", "EINTR", *_SPACE),
    "fsync": ("EIO", "EINTR", *_SPACE),
    "close": ("EIO", "EINTR", "ENOSPC"),
    "flock": ("EIO", "EINTR", "EACCES"),
    "newfstatat": ("EIO", "EACCES"),
    "fstat": ("EIO",),
    "lstat": ("EIO", "EACCES"),
    "rename": ("EIO", "EACCES", *_SPACE),
    "unlink": ("EIO", "EACCES", "EROFS"),
    "getdents64": ("EIO",),
    "mkdir": ("EIO", "EACCES", *_SPACE),
}
"""The errors that make sense, by call. A kill makes sense at each."""

HARMLESS = frozenset({"ioctl", "lseek"})
"""Calls of Python's own file objects, which somebody else's code uses: only killed at."""


class NotPermitted(Exception):
    """This machine does not let a process be traced."""


@dataclass(frozen=True, order=True)
class Point:
    """Where which fault happens: at the call of that name with that number, from 1, counted in each thread."""

    job: str
    durability: str
    call: str
    number: int
    fault: str
    lasting: bool = False

    def __str__(self) -> str:
        when = "from then on" if self.lasting else "once"
        return f"{self.job} ({self.durability}): {self.fault} at {self.call} {self.number}, {when}"

    def options(self) -> tuple[str, ...]:
        """The arguments of strace."""
        what = "signal=KILL" if self.fault == "kill" else f"error={self.fault}"
        return ("-e", f"inject={self.call}:{what}:when={self.number}{'+' if self.lasting else ''}")


@dataclass
class Outcome:
    """What was heard of a worker: what it was told is stored, and how it ended."""

    stored: list[str] = field(default_factory=list[str])
    raised: dict[str, Any] | None = None
    done: bool = False
    complaints: list[str] = field(default_factory=list[str])
    calls: Counter[str] = field(default_factory=Counter[str])
    hit: bool = False

    @property
    def died(self) -> bool:
        """Whether it ended without a word."""
        return not self.done and self.raised is None

    def hear(self, report: dict[str, Any]) -> None:
        """Take in one report."""
        if report["event"] == "stored":
            self.stored += report["texts"]
        elif report["event"] == "raised":
            self.raised = report
        elif report["event"] == "loop":
            self.complaints.append(report["text"])
        else:
            self.done = True

    def read(self, log: Path) -> None:
        """Count the calls in what strace wrote, in the thread that made most."""
        text = log.read_text(encoding="utf-8")
        self.hit = "(INJECTED)" in text or "killed by SIGKILL" in text
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for found in map(CALL.match, text.splitlines()):
            if found is not None:
                counts[found[1]][found[2]] += 1
        for each in counts.values():
            self.calls |= each


def points(job: str, durability: str, calls: Counter[str]) -> list[Point]:
    """Every point of a job that made so many calls.

    Raises:
        AssertionError: one of them is not known here.
    """
    assert set(calls) <= set(FAULTS) | HARMLESS, f"{job}: nobody has thought of {set(calls) - set(FAULTS) - HARMLESS}"
    found: list[Point] = []
    for call, count in sorted(calls.items()):
        for number in range(1, count + 1):
            found.append(Point(job, durability, call, number, "kill"))
            for fault in FAULTS.get(call, ()):
                found.append(Point(job, durability, call, number, fault))
                if fault in ("ENOSPC", "EIO"):
                    found.append(Point(job, durability, call, number, fault, lasting=True))
    return found


class Workers:
    """Has workers forked, one at a time."""

    def __init__(self, jobs: socket.socket, strace: str, log: Path) -> None:
        self._jobs = jobs
        self._strace = strace
        self._log = log

    def run(self, job: str, directory: Path, durability: str, options: Sequence[str] = ()) -> Outcome:
        """Have a job done with strace watching its files, and return once its process is gone."""
        outcome = Outcome()
        mine, its = socket.socketpair()
        with mine, mine.makefile("rb") as reports:
            mine.settimeout(PATIENCE)
            with its:
                request = {"job": job, "directory": str(directory), "durability": durability}
                socket.send_fds(self._jobs, [json.dumps(request).encode()], [its.fileno()])
            pid = self._until_ready(reports, outcome)
            try:
                with self._watched(pid, directory, session_of(job), options):
                    mine.sendall(b"!")
                    for report in reports:
                        outcome.hear(json.loads(report))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
        outcome.read(self._log)
        return outcome

    def _until_ready(self, reports: Any, outcome: Outcome) -> int:
        for text in reports:
            report = json.loads(text)
            if report["event"] == "ready":
                return int(report["pid"])
            outcome.hear(report)
        raise AssertionError(f"the worker ended before it began: {outcome}")

    @contextmanager
    def _watched(self, pid: int, directory: Path, session: str, options: Sequence[str]) -> Generator[None, None, None]:
        names = [session + suffix for suffix in (TRANSCRIPT_SUFFIX, JOURNAL_SUFFIX, SALVAGE_SUFFIX)]
        there = sorted(directory.iterdir())  # what is left of others
        paths = dict.fromkeys([directory, *(directory / name for name in (*names, f"{names[0]}.new")), *there])
        chosen = [part for path in paths for part in ("-P", str(path))]
        self._log.unlink(missing_ok=True)
        strace = subprocess.Popen(
            [self._strace, "-f", "-p", str(pid), "-o", str(self._log), *chosen, *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert strace.stderr is not None
        with strace.stderr:
            try:
                said = strace.stderr.readline()
                if "attached" not in said:
                    os.kill(pid, signal.SIGKILL)
                    raise NotPermitted(said)
                yield
                strace.stderr.read()
                strace.wait(PATIENCE)
            finally:
                strace.kill()
                strace.wait()


@contextmanager
def workers(directory: Path) -> Generator[Workers, None, None]:
    """Start what forks them, and end it with the block.

    Raises:
        FileNotFoundError: there is no strace.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise FileNotFoundError("strace")
    mine, its = socket.socketpair()
    with mine:
        with its:
            server = subprocess.Popen(
                [sys.executable, transcripts_worker.__file__, str(its.fileno())],
                pass_fds=[its.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
            )
        try:
            yield Workers(mine, strace, directory / "strace.log")
        finally:
            mine.close()
            server.wait(PATIENCE)
