"""Looking at transcripts that have changed, again where somebody is writing, and saying what is new."""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace

from turnlane.transcripts.fingerprint import Fingerprint
from turnlane.transcripts.gathering import BATCH, Gatherer
from turnlane.transcripts.glance import READ_WHOLE, TooLong
from turnlane.transcripts.looker import Looker
from turnlane.transcripts.pacing import Pace
from turnlane.transcripts.sight import Sight

__all__ = ("Patrol",)

FIRST_PAUSE = 0.005  # seconds until it looks again where somebody writes; doubled each time
LOOKS = 8
PATIENT_LOOKS = 4  # after so many a write that has begun is taken to have been left unfinished
QUIET = 0.05  # seconds a file of another program must have stood still before a change is told
LONGEST_UNQUIET = 20

logger: logging.Logger = logging.getLogger("turnlane.monitor")


class Patrol:
    """Looks at transcripts, and keeps what it has seen.

    Short looks are taken in the event loop, long ones in a thread. What a look finds is taken in at once, and only if
    nobody else has looked since it began.

    Mutable: `looks`; `known` (the last look at each file that said something); by path, `_told` (what was told, until
    it is settled), `_troubled` (why it could not be looked at), `_tries` (looks in a row that said nothing), `_unquiet`
    (a file of another program when its change was seen) and `_timers` (looks to come); `_unsaid` (files that too many
    looks said nothing of), `_asked` and `_long` (files to look at, in the loop and in a thread), `_at_work`.

    Args:
        looker: looks, in the event loop.
        gatherer: has it look in a thread.
        tell: called with each new finding.
    """

    def __init__(self, looker: Looker, gatherer: Gatherer, tell: Callable[[str, Sight], None]) -> None:
        self.known: dict[str, Sight] = {}
        self.looks: int = 0
        self._looker = looker
        self._gatherer = gatherer
        self._tell = tell
        self._told: dict[str, tuple[object, ...]] = {}
        self._troubled: dict[str, str] = {}
        self._tries: dict[str, int] = {}
        self._unsaid: set[str] = set()
        self._unquiet: dict[str, tuple[Fingerprint | None, int]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._asked: dict[str, None] = {}
        self._long: dict[str, None] = {}
        self._at_work = 0
        self._news = asyncio.Event()
        self._long_news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._scanning = asyncio.Lock()

    def ask(self, path: str) -> None:
        """Have a transcript looked at soon."""
        self._asked[path] = None
        self._idle.clear()
        self._news.set()

    async def work(self) -> None:
        """Look at what is asked for; never returns."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._asked:
                path = next(iter(self._asked))
                del self._asked[path]
                self._look(path)
                await asyncio.sleep(0)
            self._rest()

    async def work_long(self) -> None:
        """Look at what takes longer; never returns."""
        while True:
            await self._long_news.wait()
            self._long_news.clear()
            while self._long:
                path = next(iter(self._long))
                del self._long[path]
                before, insist = self.known.get(path), self._tries.get(path, 0) >= PATIENT_LOOKS
                with self._counted():
                    sight = await self._gatherer.look(path, before, insist=insist)
                    self.take(path, before, sight)
            self._rest()

    async def idle(self) -> None:
        """Return when there is nothing to look at."""
        await self._idle.wait()

    async def scan(self) -> None:
        """Look at everything that is not as it was when it was looked at last.

        Raises:
            OSError: the directory could not be listed.
        """
        async with self._scanning:
            await self._scan()

    async def _scan(self) -> None:
        with self._counted():
            found, long = await self._gatherer.scan(self.known)
            for number, (path, before, sight) in enumerate(found):
                self.take(path, before, sight)
                if number % BATCH == BATCH - 1:
                    await asyncio.sleep(0)
            for path in long:
                self._ask_long(path)
            unsaid, self._unsaid = self._unsaid, set()
            for path in (*unsaid, *self._troubled):
                self.ask(path)

    async def audit(self, pace: Pace) -> None:
        """Read everything, what has changed last first, and hold it against what it should be."""
        left = sorted(self.known, key=self._changed, reverse=True)
        while left:
            found, left = await self._gatherer.audit(self.known, left, pace)
            for path, before, sight in found:
                self._take_audited(path, before, sight)

    def close(self) -> None:
        """Look at nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    # -- what a look means

    def take(self, path: str, before: Sight | None, sight: Sight, *, looked_now: bool = False) -> None:
        """Take in what a look has found, and tell what is new.

        Args:
            path: of the file.
            before: the look before, which it began from.
            sight: the look.
            looked_now: whether it was taken in this very step, so that nothing can have happened since.
        """
        self.looks += 1
        if self.known.get(path) is not before or not (looked_now or self._stands(path, sight)):
            self.ask(path)
        elif sight.trouble is not None:
            self._note_trouble(path, sight.trouble)
        elif sight.announced:
            self._unsaid.add(path)
        elif sight.moving:
            self._look_again(path)
        elif sight.state is None and sight.kind not in (None, "appended") and not self._is_quiet(path, sight):
            self._after(QUIET, path)
        else:
            self._settle(path, sight)

    def _take_audited(self, path: str, before: Sight | None, sight: Sight) -> None:
        if self.known.get(path) is not before or sight.moving:
            return  # somebody writes, and is looked at for it
        if sight.trouble is not None:
            self._note_trouble(path, sight.trouble)
        elif sight.kind is not None and (before is None or before.fingerprint != sight.fingerprint):
            self.ask(path)
        elif self._stands(path, sight):
            self.looks += 1
            self._settle(path, sight)

    def _settle(self, path: str, sight: Sight) -> None:
        """Keep a look that says something."""
        self._troubled.pop(path, None)
        self._tries.pop(path, None)
        self._unquiet.pop(path, None)
        if sight.kind is None:
            self._told.pop(path, None)
        what = (sight.kind, sight.offset, sight.line, sight.there, sight.state)
        is_news = sight.kind is not None and self._told.get(path) != what
        if sight.state is not None or sight.kind == "unknown":
            self.known[path] = sight
            if is_news:
                self._told[path] = what
        elif sight.fingerprint is None:
            self.known.pop(path, None)
        elif sight.kind is None:
            self.known[path] = sight
        else:  # what another program has written is what it is held against from now on
            self.known[path] = replace(sight, kind=None, offset=None, line=None, there=None)
        if is_news:
            self._tell(path, sight)

    def _stands(self, path: str, sight: Sight) -> bool:
        """Tell whether what was found a while ago is still so, as far as that matters."""
        if sight.kind is None:
            return True
        now = self._looker.fingerprint_of(path)
        if sight.session_id is not None and sight.record:
            return now == sight.fingerprint and self._looker.record_of(path, sight.session_id) == sight.record
        return now == sight.fingerprint

    def _is_quiet(self, path: str, sight: Sight) -> bool:
        """Tell whether a file of another program has stood still since its change was seen; not for ever."""
        seen, times = self._unquiet.get(path, (sight.fingerprint, 0))
        self._unquiet[path] = (sight.fingerprint, times + 1)
        return times > 0 and (seen == sight.fingerprint or times > LONGEST_UNQUIET)

    def _note_trouble(self, path: str, reason: str) -> None:
        if self._troubled.get(path) != reason:
            self._troubled[path] = reason
            logger.warning("monitor_trouble path=%s reason=%s: it is looked at again at each scan", path, reason)

    # -- when to look

    def _look(self, path: str) -> None:
        before = self.known.get(path)
        insist = self._tries.get(path, 0) >= PATIENT_LOOKS
        try:
            sight = self._looker.look(path, before, insist=insist, limit=READ_WHOLE)
        except TooLong:
            self._ask_long(path)
        else:
            self.take(path, before, sight, looked_now=True)

    def _ask_long(self, path: str) -> None:
        self._long[path] = None
        self._idle.clear()
        self._long_news.set()

    def _look_again(self, path: str) -> None:
        tries = self._tries.get(path, 0) + 1
        if tries <= LOOKS:
            self._tries[path] = tries
            self._after(FIRST_PAUSE * 2 ** (tries - 1), path)
        else:  # whoever writes so much tells of it, too; and the next scan asks
            self._tries.pop(path, None)
            self._unsaid.add(path)

    def _after(self, pause: float, path: str) -> None:
        if path not in self._timers:
            self._idle.clear()
            self._timers[path] = asyncio.get_running_loop().call_later(pause, self._due, path)

    def _due(self, path: str) -> None:
        del self._timers[path]
        self.ask(path)

    @contextmanager
    def _counted(self) -> Generator[None, None, None]:
        self._at_work += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._at_work -= 1
            self._rest()

    def _rest(self) -> None:
        if not (self._asked or self._long or self._timers or self._at_work):
            self._idle.set()

    def _changed(self, path: str) -> int:
        fingerprint = self.known[path].fingerprint
        return 0 if fingerprint is None else fingerprint.modified_ns
