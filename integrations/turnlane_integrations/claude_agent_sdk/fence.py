"""The file of a session under the lock of turnlane while its program writes it."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from turnlane import Transcripts, Turn
from turnlane.errors import TranscriptError, TranscriptTakeover
from turnlane.hooks import Hooks
from turnlane.settled import settled
from turnlane.transcripts.transcript import Transcript
from turnlane_integrations.claude_agent_sdk.chain import why_no_chain
from turnlane_integrations.claude_agent_sdk.program import Program

__all__ = ("Fence", "SessionForked")


class SessionForked(TranscriptTakeover):
    """What a turn has left in its session is not one chain from where it began: another program wrote there too.

    All of it is in the file. The next turn continues the branch that was written last; `forks` tells where others are,
    and `claude_agent_sdk.fork_session(session, up_to_message_id=...)` makes a session of one.

    Attributes:
        reason: what was found, with the uuids of messages.
    """

    def __init__(self, found: TranscriptTakeover, reason: str) -> None:
        super().__init__(
            found.path,
            kind=found.kind,
            offset=found.offset,
            line=found.line,
            expected=found.expected,
            found=found.found,
            phase=found.phase,
            turn=found.turn,
            salvaged=found.salvaged,
            remedy=found.remedy,
        )
        self.reason: str = reason

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.reason})"


class Fence:
    """Proves, of a session's file, what was there before a turn, and that the turn has added one chain to it.

    The lock is held for the whole turn: the program is not ours, and reads the file once, when it starts.

    Args:
        state_dir: where journals are; the program's own directories are left alone.
        at_open: what edits between turns are, as in `Transcripts`.
        lock_timeout: seconds to wait for a turn that others run on this file.
        hooks: whom to tell.
    """

    def __init__(
        self,
        state_dir: str | os.PathLike[str],
        *,
        at_open: Literal["flag", "raise"] = "flag",
        lock_timeout: float = 30.0,
        hooks: Hooks | None = None,
    ) -> None:
        self._settings: dict[str, Any] = {
            "state_dir": os.fspath(state_dir),
            "at_open": at_open,
            "lock_timeout": lock_timeout,
            "hooks": hooks,
        }
        Transcripts(Path(state_dir, "none.jsonl"), **self._settings)  # refuses now what it would refuse in a turn

    @asynccontextmanager
    async def around(self, file: Path, program: Program, turn: Turn) -> AsyncGenerator[None, None]:
        """Own what the program writes inside the block, if it is one chain.

        Raises:
            SessionForked, TranscriptTakeover, StaleTurn: it is not, or somebody else changed the file.
            TranscriptBusy: somebody else had the lock.
        """
        async with (
            Transcripts(file, **self._settings) as transcripts,
            transcripts.open(file.stem, token=turn.token, turn=turn.id) as transcript,
        ):
            write = _Write(file, program, transcript)
            try:
                await write.begin()
                yield
            except BaseException as error:
                try:
                    await settled(write.end())
                except TranscriptError as found:
                    if found is not error:
                        error.add_note(str(found))
                raise
            await settled(write.end())


class _Write:
    """One turn of the program, as an owned write of somebody else.

    Mutable: `_refused`, what was found of what it wrote, and the task that has the lock while it writes.
    """

    def __init__(self, file: Path, program: Program, transcript: Transcript) -> None:
        self._file = file
        self._program = program
        self._before = transcript.entries
        self._begun, self._ended = asyncio.Event(), asyncio.Event()
        self._refused: str | None = None
        writing = transcript.owned_write_async(self._written, validate=self._is_one_chain)
        self._writing: asyncio.Task[None] = asyncio.ensure_future(writing)
        self._writing.add_done_callback(lambda _: self._begun.set())

    async def begin(self) -> None:
        """Return when what is there is proven, and the program may be started."""
        await self._begun.wait()
        if self._writing.done():
            await self._writing

    async def end(self) -> None:
        """Prove what the program, which has ended, has written."""
        self._ended.set()
        try:
            await self._writing
        except TranscriptTakeover as found:
            if self._refused is None:
                raise
            raise SessionForked(found, self._refused) from None

    async def _written(self) -> None:
        if not self._file.stat().st_size:  # a session whose file is empty can not be begun, and not be resumed
            self._file.unlink()
        self._begun.set()
        await self._ended.wait()
        if not self._file.exists():
            self._file.touch(mode=0o600)

    def _is_one_chain(self, _: None, text: str) -> bool:
        lines = [json.loads(line) for line in text.split("\n") if line.strip()]
        reasons = (self._program.why_not_its(self._file.stem, line) for line in lines)
        self._refused = why_no_chain(self._before, lines, at=self._program.at) or next(filter(None, reasons), None)
        return self._refused is None
