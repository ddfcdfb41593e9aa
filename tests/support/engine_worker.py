"""A script: one worker of shared lanes, `engine_worker.py URL DIRECTORY NAME WHAT [COUNT]`.

`turns`: so many turns of one key at once; each notes in the directory that it runs, adds one to a counter the way that
loses what others add meanwhile, and writes its token down. `hold`: one turn that lasts until it is told `go`. `wait`:
the same, for one that has to wait. Reports JSON objects, one a line: `ready`, then what happens.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from turnlane import Enqueue, Lanes, Turn
from turnlane.errors import LaneError
from turnlane.hooks import TurnQueued

KEY = "agent:main:alice"
PATIENT = Enqueue(max_waiting=None, wait_timeout=50)


def report(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


async def told(word: str) -> None:
    """Wait for a line on the input."""
    line = await asyncio.to_thread(sys.stdin.readline)
    if line.strip() != word:
        raise RuntimeError(f"told {line!r}")


async def overlapping(turn: Turn, directory: Path, name: str) -> None:
    """What may not be done by two at once."""
    marker, counter = directory / "occupied", directory / "counter"
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        report("overlap", turn=turn.id)
    before = int(counter.read_text()) if counter.exists() else 0
    await asyncio.sleep(0)
    with (directory / "log").open("a") as log:
        log.write(f"{turn.token} {name}\n")
    counter.write_text(str(before + 1))
    marker.unlink(missing_ok=True)


async def turns(lanes: Lanes, directory: Path, name: str, count: int) -> None:
    await told("go")

    async def one() -> None:
        async with lanes.turn(KEY, policy=PATIENT) as turn:
            await overlapping(turn, directory, name)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
    report("done")
    await told("end")


async def one_turn(lanes: Lanes) -> None:
    lanes.hooks.on(TurnQueued, lambda _: report("waits"))
    try:
        async with lanes.turn(KEY, policy=PATIENT) as turn:
            report("runs", token=turn.token, turn=turn.id)
            await told("go")
    except LaneError as error:
        report("failed", error=type(error).__name__, reason=str(error))
    report("left")
    await told("end")


async def main(url: str, directory: str, name: str, what: str, count: str = "1") -> None:
    async with Lanes(url) as lanes:
        report("ready", port=os.getpid())
        if what == "turns":
            await turns(lanes, Path(directory), name, int(count))
        else:
            await one_turn(lanes)


asyncio.run(main(*sys.argv[1:]))
