"""`Guard`: what a turn has seen of its session in one database of agno, and what it was refused to store."""

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from turnlane import Transcripts
from turnlane.errors import TranscriptTakeover
from turnlane_integrations._refused import refused

__all__ = ("Guard", "SessionChanged", "Sight")


class SessionChanged(Exception):
    """What a fenced database raises inside agno, which logs it; the run ends with a `TranscriptTakeover`."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A session as it was at one moment: the ids of its runs, and a digest of all it holds; None: there is none."""

    runs: tuple[str, ...]
    digest: bytes

    @classmethod
    def of(cls, session: Mapping[str, Any] | None) -> "Sight | None":
        """Return what is seen of a session as the database gives it when it is not to be made an object."""
        if session is None:
            return None
        runs: list[Any] = session.get("runs") or []
        text = json.dumps(session, sort_keys=True, default=str)
        return cls(tuple(str(run.get("run_id")) for run in runs), sha256(text.encode()).digest())


class Guard:
    """What a turn knows of its session in one database.

    Mutable: `knows` and `seen`, from the first read on; `how`, which reads it again as it was read; the rest once it
    was refused to store something. `storing` and `storing_in_threads` are held from a look to the next: what a turn
    does side by side, as the steps of a `Parallel`, is no foreign write.

    Args:
        session_id: of the session.
    """

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.knows: bool = False
        self.seen: Sight | None = None
        self.how: dict[str, Any] = {}
        self.storing: asyncio.Lock = asyncio.Lock()
        self.storing_in_threads: threading.RLock = threading.RLock()  # storing may read
        self._found: Sight | None = None
        self._refused = False
        self._words: list[dict[str, Any]] = []
        self._salvage: Transcripts | None = None

    def see(self, sight: "Sight | None") -> None:
        """Know the session as it is now."""
        self.knows, self.seen = True, sight

    def require(self, sight: "Sight | None", words: dict[str, Any], salvage: Transcripts) -> None:
        """Let something be stored if the session is as this turn knows it; once it was not, nothing more is.

        Raises:
            SessionChanged: it is not; the words are kept when the turn ends.
        """
        if not self._refused and (not self.knows or sight == self.seen):
            return
        if not self._refused:
            self._found, self._refused = sight, True
        self._salvage = salvage
        self._words.append(cast("dict[str, Any]", json.loads(json.dumps(words, default=str))))
        raise SessionChanged(f"session {self.session_id!r} was changed by somebody else: the run is not stored")

    async def takeover(self) -> TranscriptTakeover | None:
        """Keep what was refused, and return the error to raise; None where nothing was."""
        if self._salvage is None:
            return None
        return await refused(
            self._salvage,
            self.session_id,
            self._words,
            where=f"session {self.session_id!r}",
            kind=_kind(self.seen, self._found),
            expected=_named(self.seen),
            found=_named(self._found),
            phase="append",
        )


def _kind(seen: Sight | None, found: Sight | None) -> str:
    if found is None:
        return "deleted"
    known = () if seen is None else seen.runs
    if len(found.runs) > len(known) and found.runs[: len(known)] == known:
        return "appended"
    return "truncated" if len(found.runs) < len(known) else "edited"


def _named(sight: Sight | None) -> str:
    return "no session" if sight is None else f"{len(sight.runs)} runs, digest {sight.digest.hex()[:8]}"
