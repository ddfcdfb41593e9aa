"""Transcripts: the lock goes while the model thinks. Run it to see which changes a turn accepts and which stop it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from turnlane import Runtime, Transcripts, Turn
from turnlane.errors import TranscriptTakeover

Meanwhile = Callable[[Path, str], Awaitable[None]]


async def nothing(path: Path, session_id: str) -> None:
    await asyncio.sleep(0.05)


async def delivery_mirror(path: Path, session_id: str) -> None:
    """Somebody else appends through turnlane, here or in another process: an owned write."""
    async with Transcripts(path.parent) as transcripts:
        await transcripts.append(session_id, {"role": "tool", "content": "sent to the phone"})


async def hand_edit(path: Path, session_id: str) -> None:
    """Somebody changes the file by other means."""
    await asyncio.to_thread(lambda: path.write_text(path.read_text().replace("weather", "climate")))


async def main(directory: Path) -> None:
    runtime = Runtime(sessions="memory://", transcripts=directory)

    @runtime.agent_turn(key="session_key")
    async def answer(session_key: str, text: str, reply: str, meanwhile: Meanwhile, *, turn: Turn) -> str:
        transcript = turn.transcript
        await transcript.append({"role": "user", "content": text})
        async with transcript.released() as prompt:  # the model is called here, and the lock is free
            await meanwhile(Path(transcript.path), transcript.id)
            prompt.stage({"role": "assistant", "content": reply})
        return f"{session_key}: {reply} (told meanwhile: {len(prompt.changes)})"

    async with runtime:
        print(await answer("ada", "what is the weather?", "sunny and warm", delivery_mirror))
        try:
            print(await answer("ada", "and tomorrow?", "rain", hand_edit))
        except TranscriptTakeover as error:
            print(f"stopped: {error}")
        print(await answer("ada", "thank you", "you are welcome", nothing))


def show(path: Path) -> None:
    print(f"{path.name}:")
    for line in path.read_text().splitlines():
        for entry in json.loads(line).get("entries", [json.loads(line)]):
            print(f"  {entry['role']}: {entry['content']}")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        asyncio.run(main(Path(temporary)))
        for found in sorted(Path(temporary).glob("*.jsonl")):
            show(found)
