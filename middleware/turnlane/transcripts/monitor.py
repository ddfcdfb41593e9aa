"""`TranscriptMonitor`: tells of unowned edits while they happen, and calls back the turns that are out."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Literal, Self

from turnlane.arguments import seconds
from turnlane.clock import Clock
from turnlane.errors import NotConfigured
from turnlane.hooks import Hooks, UnownedEditFound
from turnlane.transcripts.files import Files
from turnlane.transcripts.finding import ChangeKind, Finding
from turnlane.transcripts.gathering import Gatherer
from turnlane.transcripts.jsonl import JsonlTranscriptStore
from turnlane.transcripts.layout import DirectoryLayout
from turnlane.transcripts.looker import Looker
from turnlane.transcripts.outings import Outing
from turnlane.transcripts.patrol import Patrol
from turnlane.transcripts.place import boot_of
from turnlane.transcripts.record import State
from turnlane.transcripts.rounds import Rounds, Schedule
from turnlane.transcripts.sight import Sight
from turnlane.transcripts.transcripts import Transcripts
from turnlane.transcripts.watching import Watcher, watch
from turnlane.transcripts.working import to_its_end

__all__ = ("MonitorStatistics", "TranscriptMonitor")

KEPT = 1_000  # events for whoever iterates


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorStatistics:
    """What a monitor has done.

    Attributes:
        files: how many transcripts it knows.
        watching: whether the system tells it of changes now; else it finds them by scanning.
        looks: how often it has looked at one.
        scans: how often it has scanned the directory.
        audits: how often it has read all of them.
        found: how many unowned edits it has told of.
        dropped: how many of them nobody has iterated over in time.
    """

    files: int
    watching: bool
    looks: int
    scans: int
    audits: int
    found: int
    dropped: int


class TranscriptMonitor:
    """Tells of changes that nobody owns: `async with TranscriptMonitor(transcripts): ...`.

    Each is a `hooks.UnownedEditFound`, given to the hooks of the transcripts and to whoever iterates over the monitor,
    usually some ten milliseconds after it was made. Each is told once, until it changes or is settled by an adoption.
    Owned writes of any process, done or under way, are not told. It takes no lock and writes nothing; files beside the
    transcripts are ignored.

    It is a warning only. The fence of a turn is the authority: what the monitor does not see, the turn still finds, and
    nothing becomes owned because the monitor is silent. Events get lost, merged and late; what was missed is found by a
    scan, every `scan_every` seconds or, with thousands of files, every two minutes at the latest; what no scan can see,
    as a store through a memory mapping, by the audit, which reads everything.

    Not guaranteed: that an edit is told that is undone at once, or made in the moment of an owned write; the line of an
    edit in a long file it has not read yet; that one which shortens a file is told after the machine has started anew
    and before the transcript is opened again, since a power loss may have shortened it.

    Given a path, it reports on a directory of other programs and is told nothing of turns: files with a journal are
    judged by it; any other is held against what it held before, and edits, truncation, replacement and deletion are
    told when the file has been quiet for a moment. So are files nobody has opened, beside those of transcripts with a
    `state_dir`. The directory may come later, go, and come back.

    Mutable: `_open`, what runs while it is open; `_events` (what makes those not iterated over yet) and the counters.

    Args:
        transcripts: those of a directory of JSONL files; or the path of a directory.
        on_unowned_edit: `flag` only tells; `cancel` also cancels, once, the task of each turn of this process that is
            inside `released()` of the transcript, which makes a `TranscriptTakeover` of it: the rest of the model call
            is saved. Turns whose `on_takeover` is not `raise` are only told.
        appends: tell of appends to files of other programs too.
        recursive: look into the directories below it too; only with a path.
        state_dir: where the journals are, if not beside the files; only with a path.
        scan_every: seconds between two scans; more where one takes long, so that they take less than a thousandth of a
            core, but no more than 120.
        audit_every: seconds between the beginnings of two audits; more where a thousandth of a core does not suffice.
            The first one begins at once and may take a quarter of a core.
        hooks: whom to tell, with a path; else those of the transcripts are told.
        clock: replaces the machine's clock in tests.
        watcher: replaces watchfiles.

    Raises:
        ValueError: an argument is out of its range, or the transcripts are in no directory.
    """

    def __init__(
        self,
        transcripts: Transcripts | str | os.PathLike[str],
        *,
        on_unowned_edit: Literal["flag", "cancel"] = "flag",
        appends: bool = False,
        recursive: bool = False,
        state_dir: str | os.PathLike[str] | None = None,
        scan_every: float = 2.0,
        audit_every: float = 3600.0,
        hooks: Hooks | None = None,
        clock: Clock | None = None,
        watcher: Watcher = watch,
    ) -> None:
        if on_unowned_edit not in ("flag", "cancel"):
            raise ValueError(f"on_unowned_edit must be 'flag' or 'cancel', not {on_unowned_edit!r}")
        self._transcripts = transcripts if isinstance(transcripts, Transcripts) else None
        if isinstance(transcripts, Transcripts):
            if recursive or hooks is not None or appends or state_dir is not None:
                raise ValueError("appends, recursive, state_dir and hooks belong to a path; transcripts have their own")
            layout = transcripts.store.layout if isinstance(transcripts.store, JsonlTranscriptStore) else None
            if not isinstance(layout, DirectoryLayout):
                raise ValueError(f"a monitor needs transcripts in a directory of JSONL files, not {transcripts!r}")
            self.directory: str = layout.where
            self._state_dir = None if len(layout.directories) == 1 else layout.directories[-1]
            self.hooks: Hooks = transcripts.hooks
        else:
            if on_unowned_edit == "cancel":
                raise ValueError("on_unowned_edit='cancel' needs transcripts, not a path")
            self.directory = os.fspath(transcripts)
            self._state_dir = None if state_dir is None else os.fspath(state_dir)
            self.hooks = hooks if hooks is not None else Hooks()
        if not self.directory or "\0" in self.directory:
            raise ValueError(f"a monitor needs a directory: {self.directory!r}")
        self._cancel = on_unowned_edit == "cancel"
        self._appends = appends
        self._clock = clock if clock is not None else Clock()
        self._recursive = recursive
        self._watcher = watcher
        self._schedule = Schedule(
            scan_every=seconds("scan_every", scan_every, above_zero=True),
            audit_every=seconds("audit_every", audit_every, above_zero=True),
        )
        self._events: deque[Callable[[], UnownedEditFound]] = deque()
        self._news = asyncio.Event()
        self._found = self._dropped = 0
        self._open: _Open | None = None

    def __repr__(self) -> str:
        return f"<TranscriptMonitor {self.directory} {'open' if self._open is not None else 'closed'}>"

    async def __aenter__(self) -> Self:
        """Begin; what changes from now on is told, and what was changed before."""
        if self._open is not None:
            raise NotConfigured("this monitor is open already; make another one")
        stop = threading.Event()
        foreign = self._transcripts is None or self._state_dir is not None
        looker = Looker(foreign=foreign, state_dir=self._state_dir, boot=boot_of(), files=Files())
        gatherer = Gatherer(looker, self.directory, recursive=self._recursive, stop=stop)
        patrol = Patrol(looker, gatherer, self._tell)
        rounds = Rounds(
            patrol,
            self.directory,
            recursive=self._recursive,
            schedule=self._schedule,
            watcher=self._watcher,
            clock=self._clock,
            stop=stop,
        )
        self._open = opened = _Open(patrol, rounds, stop, asyncio.create_task(rounds.run()))
        try:
            await rounds.ready.wait()
        except BaseException:
            await self._close(opened)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close(self._require_open())

    async def _close(self, opened: "_Open") -> None:
        """End every task, thread and watch of it before it returns."""
        self._open = None
        opened.stop.set()
        opened.patrol.close()
        opened.task.cancel()
        self._news.set()
        await to_its_end(asyncio.ensure_future(asyncio.wait({opened.task})))
        opened.patrol.close()

    async def __aiter__(self) -> AsyncGenerator[UnownedEditFound, None]:
        """What is found, and what was found since it was opened; ends when the monitor is closed."""
        while True:
            while self._events:
                yield self._events.popleft()()
            if self._open is None:
                return
            self._news.clear()
            await self._news.wait()

    async def scan(self) -> None:
        """Look now at everything that has changed, told of or not; what is found is told before this returns."""
        opened = self._require_open()
        await opened.rounds.scan()
        await opened.patrol.idle()

    async def audit(self) -> None:
        """Read everything now, as fast as it goes; what is found is told before this returns."""
        opened = self._require_open()
        await self.scan()
        await opened.rounds.audit(1.0)

    def statistics(self) -> MonitorStatistics:
        """Return what it has done since it was opened.

        Raises:
            NotConfigured: it is not open.
        """
        opened = self._require_open()
        return MonitorStatistics(
            files=len(opened.patrol.known),
            watching=opened.rounds.watching,
            looks=opened.patrol.looks,
            scans=opened.rounds.scans,
            audits=opened.rounds.audits,
            found=self._found,
            dropped=self._dropped,
        )

    def _require_open(self) -> "_Open":
        if self._open is None:
            raise NotConfigured("a monitor works inside `async with TranscriptMonitor(...) as monitor:`")
        return self._open

    def _tell(self, path: str, sight: Sight) -> None:
        if sight.kind is None or (sight.kind == "appended" and sight.state is None and not self._appends):
            return
        outings = self._outings(sight)
        event = partial(
            UnownedEditFound,
            path=path,
            session_id=sight.session_id,
            turns=tuple(outing.turn for outing in outings),
            kind=sight.kind,
            offset=sight.offset,
            line=sight.line,
            at=self._clock.wall(),
        )
        self._found += 1
        if len(self._events) == KEPT:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        self._news.set()
        if self._cancel:
            for outing in outings:
                outing.call_back(_finding(sight, sight.kind))
        if self.hooks.wants(UnownedEditFound):
            self.hooks.emit(event())

    def _outings(self, sight: Sight) -> tuple[Outing, ...]:
        if self._transcripts is None or sight.session_id is None:
            return ()
        return self._transcripts.outings.of(sight.session_id)


def _finding(sight: Sight, kind: ChangeKind) -> Finding:
    there = sight.there
    if there is None and sight.fingerprint is not None:
        there = State(length=sight.fingerprint.size)
    return Finding(kind=kind, offset=sight.offset, line=sight.line, expected=sight.state or State(), found=there)


@dataclass(frozen=True, slots=True)
class _Open:
    """What an open monitor runs."""

    patrol: Patrol
    rounds: Rounds
    stop: threading.Event
    task: asyncio.Task[None]
