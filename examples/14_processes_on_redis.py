"""Processes of several machines: lanes and sessions in Redis are shared by all that reach it. Run it to see.

It takes the Redis or Valkey that TURNLANE_EXAMPLE_REDIS names, else the one of this machine, with keys that begin with
`turnlane-example`. With a server: `Runtime(lanes=REDIS, sessions=REDIS)` in the app of every machine.
"""

import asyncio
import os
import sys
from functools import partial

from turnlane import Runtime, Sessions, Turn
from turnlane.hooks import TurnQueued

REDIS = os.environ.get("TURNLANE_EXAMPLE_REDIS", "redis://127.0.0.1:6379/0?prefix=turnlane-example")

say = partial(print, flush=True)  # whole lines, whichever process they are from


async def worker(name: str) -> None:
    """One of the processes: it answers two messages of the same conversation."""
    runtime = Runtime(lanes=REDIS, sessions=REDIS)
    runtime.hooks.on(TurnQueued, lambda event: say(f"worker {name}: a message waits, {event.ahead} ahead"))

    @runtime.agent_turn(key="session_key")
    async def answer(session_key: str, text: str, *, turn: Turn) -> None:
        say(f"worker {name}: {session_key} {text!r} begins in session {turn.session.id[:8] if turn.session else ''}")
        await asyncio.sleep(0.3)  # the model
        say(f"worker {name}: {session_key} {text!r} ends")

    async with runtime:
        say(f"worker {name} is process {os.getpid()}")
        await asyncio.gather(answer("ada", f"first to {name}"), answer("ada", f"second to {name}"))


async def main() -> None:
    """Start two of them at once, then forget the conversation."""
    arguments = [[sys.executable, __file__, name] for name in ("one", "two")]
    processes = [await asyncio.create_subprocess_exec(*each) for each in arguments]
    for process in processes:
        await process.wait()
    async with Sessions(REDIS) as sessions:
        await sessions.delete("ada")


if __name__ == "__main__":
    asyncio.run(worker(sys.argv[1]) if len(sys.argv) == 2 else main())
