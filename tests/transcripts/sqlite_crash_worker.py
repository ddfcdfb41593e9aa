"""A process that kills a child of its own at one statement after the other.

`sqlite_crash_worker.py DATABASE DIRECTORY SCENE FIRST STEP`: which statement is the first, and how many it goes on.

Every child has a copy of the database, `DIRECTORY/<number>.db`, works on it, and ends by SIGKILL when the statement of
its number is about to run; the first that comes to its end is the last. For each child one line of JSON is printed:
its number, what it was told is done, and whether it came to its end.
"""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from turnlane.transcripts import Transcripts

Tell = Callable[[str], None]


def entry(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def append(transcripts: Transcripts, tell: Tell) -> None:
    """To one that is there, and to one that is not."""
    await transcripts.append("old", entry("one"), token=2)
    tell("one")
    await transcripts.append("old", entry("two"), entry("three"))
    tell("two")
    tell("three")
    await transcripts.append("new", entry("four"))
    tell("four")


async def turn(transcripts: Transcripts, tell: Tell) -> None:
    """Append, release with an append inside, a staged reply, going back."""
    async with transcripts.open("old", token=7, turn="turn-7") as transcript:
        await transcript.append(entry("one"))
        tell("one")
        async with transcript.released() as prompt:
            await transcript.append(entry("two"))
            tell("two")
            prompt.stage(entry("three"))
        tell("three")
        fence = transcript.fence
        await transcript.append(entry("back"))
        await transcript.rollback(fence)
        tell("rolled back")


async def delete(transcripts: Transcripts, tell: Tell) -> None:
    """Delete, sweep, begin anew."""
    await transcripts.delete("old")
    tell("deleted")
    await transcripts.sweep()
    tell("swept")
    await transcripts.append("old", entry("anew"))
    tell("anew")


SCENES: dict[str, Callable[[Transcripts, Tell], Awaitable[None]]] = {
    function.__name__: function for function in (append, turn, delete)
}


def die_at(number: int) -> None:
    """Make this process kill itself when a statement is about to run, counted over all connections."""
    connect, count = sqlite3.connect, [number]

    def step(_: str) -> None:
        count[0] -= 1
        if count[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(path: str, **options: object) -> sqlite3.Connection:
        connection = cast("sqlite3.Connection", cast("Any", connect)(path, **options))
        connection.set_trace_callback(step)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]


async def play(scene: str, database: Path, told: int) -> None:
    def tell(text: str) -> None:
        os.write(told, text.encode() + b"\n")

    async with Transcripts(f"sqlite:///{database}", retain_days=0) as transcripts:
        await SCENES[scene](transcripts, tell)


def main(database: str, directory: str, scene: str, first: str, step: str) -> None:
    ended, number = False, int(first)
    while not ended:
        copy = Path(directory, f"{number}.db")
        shutil.copyfile(database, copy)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            die_at(number)
            asyncio.run(play(scene, copy, writing))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as told:
            lines = told.read().splitlines()
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL
        print(json.dumps([number, lines, ended]), flush=True)
        number += int(step)


if __name__ == "__main__":
    main(*sys.argv[1:])
