"""A process that writes a transcript until it is killed or done: `process_worker.py DIRECTORY NAME COUNT KIND`.

It prints each text it was told is stored, one a line, and `refused ...` for what was refused.
"""

import asyncio
import sys
from typing import Any

from turnlane.errors import TranscriptError
from turnlane.transcripts import Transcripts


def entry(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text, "filler": "x" * 200}


async def by_append(transcripts: Transcripts, text: str) -> None:
    await transcripts.append("shared", entry(text))


async def by_turn(transcripts: Transcripts, text: str) -> None:
    """Store it as the reply of a prompt release."""
    async with transcripts.open("shared", turn=text) as transcript, transcript.released() as prompt:
        await asyncio.sleep(0)
        prompt.stage(entry(text))


async def main(directory: str, name: str, count: str, kind: str) -> None:
    transcripts = Transcripts(directory)
    store = by_append if kind == "append" else by_turn
    for number in range(int(count)):
        text = f"{name}-{number}"
        try:
            await store(transcripts, text)
        except TranscriptError as error:
            print(f"refused {text} {type(error).__name__}: {error}", flush=True)
        else:
            print(text, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
