"""Rollback: the newest message counts, and the one before was never asked. Run it to see what is left of it."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from turnlane import Rollback, Runtime, Transcripts, Turn
from turnlane.errors import TurnInterrupted


async def main(directory: Path) -> None:
    transcripts = Transcripts(directory, trace_turns=True)  # they note which turn wrote what
    runtime = Runtime(sessions="memory://", transcripts=transcripts)
    thinking = asyncio.Event()

    async def model(text: str) -> str:
        thinking.set()
        await asyncio.sleep(0.2)
        return f"all about {text}"

    @runtime.agent_turn(key="session_key", policy=Rollback(grace=0))
    async def answer(session_key: str, text: str, *, turn: Turn) -> str:
        await turn.transcript.append({"role": "user", "content": text})
        async with turn.transcript.released() as prompt:
            reply = await model(text)
            prompt.stage({"role": "assistant", "content": reply})
        return f"{session_key}: {reply}"

    async def say(text: str) -> None:
        try:
            print(await answer("ada", text))
        except TurnInterrupted:
            print(f"ada: {text} was rolled back")

    async with runtime:
        await say("sharks")
        thinking.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(say("whales"))
            await thinking.wait()
            group.create_task(say("dolphins"))


def show(path: Path) -> None:
    print("salvage:" if path.name.endswith(".salvage.jsonl") else "transcript:")
    for line in path.read_text().splitlines():
        for entry in json.loads(line).get("entries", [json.loads(line)]):
            print(f"  {entry['role']}: {entry['content']}")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        asyncio.run(main(Path(temporary)))
        for found in sorted(Path(temporary).glob("*.jsonl")):
            show(found)
