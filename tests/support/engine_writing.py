"""A turn that writes into a transcript again and again, and notes what became of each write."""

import asyncio
import random

from turnlane import Transcripts, Turn
from turnlane.clock import Clock
from turnlane.errors import TranscriptError

__all__ = ("Attempt", "Writing")

Attempt = tuple[float, float, str, bool]
"""When a write began and ended, what became of it (`stored`, or the name of the error), and whether its turn was told
before that its lane is lost."""


class Writing:
    """Mutable: `attempts`; `ended`, when it stopped by itself or heard that it has to.

    Args:
        transcripts: where it writes.
        session_id: into which.
        pause: seconds between two writes, at most.
        seed: of the pauses.
    """

    def __init__(self, transcripts: Transcripts, session_id: str, *, pause: float, seed: int) -> None:
        self.attempts: list[Attempt] = []
        self.ended = 0.0
        self._transcripts = transcripts
        self._session_id = session_id
        self._pause = pause
        self._chance = random.Random(seed)
        self._monotonic = Clock().monotonic

    async def begin(self, turn: Turn) -> None:
        """Write for the first time: whoever had the lane before is refused from then on."""
        while await self._attempt(turn) != "stored":
            pass

    async def go_on(self, turn: Turn, ended: asyncio.Event) -> None:
        """Write until it has ended; and once more when the turn is cancelled, as a turn does that does not care."""
        try:
            while not ended.is_set():
                await asyncio.sleep(self._chance.uniform(0, self._pause))  # what it does between two writes
                await self._attempt(turn)
        except asyncio.CancelledError:
            self.ended = self._monotonic()
            await self._attempt(turn)
            raise
        self.ended = self._monotonic()

    async def _attempt(self, turn: Turn) -> str:
        began, knew = self._monotonic(), turn.lost
        entry = {"token": turn.token, "number": len(self.attempts)}
        append = self._transcripts.append(self._session_id, entry, token=turn.token, turn=turn.id)
        task = asyncio.ensure_future(append)
        try:
            await asyncio.shield(task)
        except TranscriptError:
            pass
        finally:  # a turn that is cancelled does not take back what it has asked for
            await asyncio.wait([task])
            error = task.exception()
            found = "stored" if error is None else type(error).__name__
            self.attempts.append((began, self._monotonic(), found, knew))
        return found
