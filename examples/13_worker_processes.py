"""Several workers of one server: lanes in a directory are shared by all processes of a machine. Run it to see.

With a server: `Lanes("file:///run/my-app/lanes")` in the app, then `uvicorn app:app --workers 4`.
"""

import asyncio
import os
import sys
from functools import partial
from tempfile import TemporaryDirectory

from turnlane import Lanes, Runtime, Turn
from turnlane.hooks import TurnQueued

say = partial(print, flush=True)  # whole lines, whichever process they are from


async def worker(name: str, directory: str) -> None:
    """One of the processes: it answers two messages of the same conversation."""
    lanes = Lanes(f"file://{directory}/lanes")
    runtime = Runtime(lanes=lanes, sessions=f"sqlite:///{directory}/sessions.db")
    lanes.hooks.on(TurnQueued, lambda event: say(f"worker {name}: a message waits, {event.ahead} ahead"))

    @runtime.agent_turn(key="session_key")
    async def answer(session_key: str, text: str, *, turn: Turn) -> None:
        say(f"worker {name}: {session_key} {text!r} begins in session {turn.session.id[:8] if turn.session else ''}")
        await asyncio.sleep(0.3)  # the model
        say(f"worker {name}: {session_key} {text!r} ends")

    async with lanes, runtime:
        say(f"worker {name} is process {os.getpid()}")
        await asyncio.gather(answer("ada", f"first to {name}"), answer("ada", f"second to {name}"))


async def main(directory: str) -> None:
    """Start two of them at once."""
    arguments = [[sys.executable, __file__, name, directory] for name in ("one", "two")]
    processes = [await asyncio.create_subprocess_exec(*each) for each in arguments]
    for process in processes:
        await process.wait()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(worker(*sys.argv[1:]))
    else:
        with TemporaryDirectory() as temporary:
            asyncio.run(main(temporary))
