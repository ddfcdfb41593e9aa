"""Processes of several machines: lanes, sessions and transcripts in PostgreSQL. Run it to see.

It takes the database that TURNLANE_EXAMPLE_POSTGRESQL names, else that of this machine, with tables in the schema
`turnlane_example`. With a server: `Runtime(lanes=DATABASE, sessions=DATABASE, transcripts=DATABASE)` in every app.
"""

import asyncio
import os
import sys
from functools import partial

from turnlane import Runtime, Sessions, Transcripts, Turn

LOCAL = "postgresql://postgres@127.0.0.1:5432/postgres?schema=turnlane_example"
DATABASE = os.environ.get("TURNLANE_EXAMPLE_POSTGRESQL", LOCAL)

say = partial(print, flush=True)  # whole lines, whichever process they are from


async def worker(name: str) -> None:
    """One of the processes: it answers two messages of the same conversation."""
    runtime = Runtime(lanes=DATABASE, sessions=DATABASE, transcripts=DATABASE)

    @runtime.agent_turn(key="session_key")
    async def answer(session_key: str, text: str, *, turn: Turn) -> None:
        await turn.transcript.append({"role": "user", "content": text})
        async with turn.transcript.released() as prompt:
            say(f"worker {name}: {session_key} {text!r} is turn {len(turn.transcript.entries) // 2 + 1}")
            await asyncio.sleep(0.3)  # the model
            prompt.stage({"role": "assistant", "content": f"{text}? {name} knows"})

    async with runtime:
        say(f"worker {name} is process {os.getpid()}")
        await asyncio.gather(answer("ada", f"first to {name}"), answer("ada", f"second to {name}"))


async def main() -> None:
    """Start two of them at once, show what they wrote, and forget it."""
    arguments = [[sys.executable, __file__, name] for name in ("one", "two")]
    processes = [await asyncio.create_subprocess_exec(*each) for each in arguments]
    for process in processes:
        await process.wait()
    async with Sessions(DATABASE) as sessions, Transcripts(DATABASE) as transcripts:
        session = await sessions.resolve("ada")
        for entry in await transcripts.read(session.id):
            print(f"  {entry['role']}: {entry['content']}")
        await transcripts.delete(session.id)
        await sessions.delete("ada")


if __name__ == "__main__":
    asyncio.run(worker(sys.argv[1]) if len(sys.argv) == 2 else main())
