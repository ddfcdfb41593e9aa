"""A process of owned writers: `monitored_worker.py DIRECTORY NAME SESSIONS WRITES SEED`.

Each of its writers has a session it shares with those of other processes, and writes it in every way there is.
"""

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

from turnlane.errors import TranscriptBusy
from turnlane.transcripts import Transcripts


def entry(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text, "filler": "x" * 300}


async def write(transcripts: Transcripts, session_id: str, text: str, kind: str) -> None:
    """Write once."""
    if kind == "append":
        await transcripts.append(session_id, entry(text))
        return
    if kind == "large append":
        await transcripts.append(session_id, *[entry(text)] * 250)  # beyond what is written inline
        return
    async with transcripts.open(session_id) as transcript:
        if kind == "release":
            async with transcript.released() as prompt:
                await transcript.append(entry(text))
                await asyncio.sleep(0)
                prompt.stage(entry(text))
        elif kind == "compaction":
            path = Path(transcript.path)

            async def compact() -> None:
                kept = path.read_bytes().splitlines(keepends=True)[-3:]
                path.write_bytes(b"")
                await asyncio.sleep(0)
                path.write_bytes(b"".join(kept))

            await transcript.owned_write_async(compact, validate=lambda _, text: True, rewrite=True)
        else:
            fence = transcript.fence
            await transcript.append(entry(text), entry(text))
            await transcript.rollback(fence)


async def main(directory: str, name: str, sessions: str, writes: str, seed: str) -> None:
    transcripts, chance = Transcripts(directory), random.Random(f"{seed} {name}")
    kinds = ("append", "append", "append", "large append", "release", "compaction", "rollback")

    async def writer(session_id: str) -> None:
        for number in range(int(writes)):
            try:
                await write(transcripts, session_id, f"{name}-{number}", chance.choice(kinds))
            except TranscriptBusy:
                print("busy", flush=True)  # a compaction tries the lock once

    await asyncio.gather(*(writer(f"owned-{number}") for number in range(int(sessions))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
