"""Turns of many keys that note whether they were alone, and what was told of all they did."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from turnlane import Enqueue, Lanes, Sessions, Transcripts, Turn
from turnlane.clock import Clock
from turnlane.errors import OutcomeUnknown, TranscriptTakeover, TurnlaneError

__all__ = ("OPS_OF_A_SESSION", "Visits")

OPS_OF_A_SESSION = 30


class Visits:
    """What a worker does that has turns all the time.

    Each turn has a marker and adds one to a counter of its lane; with `sessions` it adds one to a number and sets a
    field, with `transcripts` it appends an entry. Each of these has a name that none other has.

    Mutable: `spans` (key, token, begin, end, whether its lane was lost meanwhile), `overlaps`, `errors` by name,
    `strange` (what was no error of ours), `told` (by name of what was done, what was told of it), `counted` (by key).

    Args:
        name: of the worker.
        lanes: of it.
        ended: when to stop.
        keys: of the lanes.
        at_once: turns side by side.
        directory: of markers and counters.
        seed: of the choices.
        pause: seconds a turn lasts, at most.
        patience: seconds a turn waits.
        sessions: where sessions are.
        transcripts: where transcripts are.
    """

    def __init__(
        self,
        name: str,
        lanes: Lanes,
        ended: asyncio.Event,
        *,
        keys: list[str],
        at_once: int,
        directory: str,
        seed: int,
        pause: float,
        patience: float = 20.0,
        sessions: Sessions | None = None,
        transcripts: Transcripts | None = None,
    ) -> None:
        self.spans: list[tuple[str, int, float, float, bool]] = []
        self.overlaps: list[str] = []
        self.errors: Counter[str] = Counter()
        self.strange: list[str] = []
        self.told: dict[str, str] = {}
        self.counted: Counter[str] = Counter()
        self._name = name
        self._lanes = lanes
        self._ended = ended
        self._keys = keys
        self._at_once = at_once
        self._directory = Path(directory)
        self._chance = random.Random(seed)
        self._pause = pause
        self._policy = Enqueue(max_waiting=None, wait_timeout=patience)
        self._sessions = sessions
        self._transcripts = transcripts
        self._monotonic = Clock().monotonic

    async def run(self) -> dict[str, Any]:
        """Have turns until it has ended; return what was found."""
        await asyncio.gather(*(self._visit_many(task) for task in range(self._at_once)))
        return {
            "spans": self.spans,
            "overlaps": self.overlaps,
            "errors": self.errors,
            "strange": self.strange,
            "told": self.told,
            "counted": self.counted,
        }

    async def _visit_many(self, task: int) -> None:
        number = 0
        while not self._ended.is_set():
            name = f"{self._name}.{task}.{number // OPS_OF_A_SESSION}"
            await self._visit(self._chance.choice(self._keys), name, f"{name}-{number}")
            number += 1

    async def _visit(self, key: str, session: str, operation: str) -> None:
        try:
            async with self._lanes.turn(key, policy=self._policy) as turn:
                began = self._monotonic()
                try:
                    await self._alone(key, turn)
                    await self._store(turn, session, operation)
                finally:
                    self.spans.append((key, turn.token, began, self._monotonic(), turn.lost))
        except TurnlaneError as error:
            self.errors[type(error).__name__] += 1
        except Exception as error:
            self.strange.append(repr(error))
        await asyncio.sleep(0)

    async def _alone(self, key: str, turn: Turn) -> None:
        marker, counter = self._directory / f"{key}.occupied", self._directory / f"{key}.counter"
        own = f"{turn.token}"
        try:
            with marker.open("x") as opened:
                opened.write(own)
        except FileExistsError:
            with suppress(FileNotFoundError):
                self.overlaps.append(f"{key}: {own} began beside {marker.read_text()}")
        try:
            before = int(counter.read_text() or 0) if counter.exists() else 0
            await asyncio.sleep(self._chance.uniform(0, self._pause))  # others would come in between
            counter.write_text(str(before + 1))
            self.counted[key] += 1
        finally:
            with suppress(FileNotFoundError):
                if marker.read_text() == own:
                    marker.unlink()

    async def _store(self, turn: Turn, session: str, operation: str) -> None:
        if self._sessions is not None:
            await self._note(f"session {operation}", self._patch(self._sessions, session, operation))
        if self._transcripts is not None:
            entry = {"operation": operation}
            append = self._transcripts.append(session, entry, token=turn.token, turn=turn.id)
            await self._note(f"transcript {operation}", append)

    @staticmethod
    async def _patch(sessions: Sessions, key: str, operation: str) -> None:
        await sessions.resolve(key)
        async with sessions.edit(key) as draft:
            draft["number"] = int(str(draft.get("number", 0))) + 1
            draft[operation] = True

    async def _note(self, name: str, work: Any) -> None:
        self.told[name] = "unknown"  # what is cancelled is not told
        try:
            await work
            self.told[name] = "done"
        except TurnlaneError as error:
            self.errors[type(error).__name__] += 1
            may_be = isinstance(error, OutcomeUnknown | TranscriptTakeover) or "may have happened" in str(error)
            self.told[name] = "unknown" if may_be else "not done"
