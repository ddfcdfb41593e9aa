"""Turns of a runtime that write, to be interrupted and rolled back."""

import asyncio

from support.transcripts_scenes import said, user
from support.turns_steps import apart
from turnlane import Runtime, Turn

__all__ = ("KEY", "Writer", "entries")

KEY = "agent:main:alice"


class Writer:
    """A turn that has written one entry and then waits to be interrupted."""

    def __init__(self, runtime: Runtime) -> None:
        self.wrote = asyncio.Event()
        self.task = apart(self._run(runtime))

    async def _run(self, runtime: Runtime) -> None:
        async with runtime.turn(KEY) as turn, turn.open_transcript() as transcript:
            await transcript.append(user("old"))
            async with transcript.released():
                self.wrote.set()
                await asyncio.Event().wait()


async def entries(runtime: Runtime, turn: Turn) -> list[str]:
    assert runtime.transcripts is not None
    assert turn.session is not None
    return said(await runtime.transcripts.read(turn.session.id))
