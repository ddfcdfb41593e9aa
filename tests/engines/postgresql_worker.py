"""A process with lanes of its own in PostgreSQL, as a script. Arguments: what it does, the URL, the lease, and a path.

`hold` takes the lane, says `held` with the token, keeps it until a line comes, and says how the turn ended.
`turns` waits for a line, then has 50 turns at once; each marks in the path that it runs, and counts there.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from turnlane import Enqueue, Lanes
from turnlane.engines.postgresql import PostgresqlEngine
from turnlane.errors import EngineUnavailable

TURNS = 50


def say(**what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


async def a_line() -> None:
    await asyncio.to_thread(sys.stdin.readline)


async def hold(lanes: Lanes) -> None:
    async with lanes.turn("k") as turn:
        say(event="held", token=turn.token)
        reading = asyncio.ensure_future(a_line())
        try:
            await asyncio.shield(reading)
        except asyncio.CancelledError:
            say(event="cancelled", lost=turn.lost)
            raise


async def turns(lanes: Lanes, path: Path) -> None:
    found: list[dict[str, object]] = []

    async def one() -> None:
        async with lanes.turn("k") as turn:
            try:
                (path / "runs").mkdir()
                overlaps = False
            except FileExistsError:
                overlaps = True
            count = int((path / "count").read_text())
            await asyncio.sleep(0)  # others would come in between
            order = (path / "order").open("a")
            with order:
                order.write(f"{turn.token}\n")
            (path / "count").write_text(str(count + 1))
            (path / "runs").rmdir()
            found.append({"turn": turn.id, "token": turn.token, "overlaps": overlaps})

    async with lanes.turn(f"warm up {os.getpid()}"):
        pass
    say(event="ready")
    await a_line()
    await asyncio.gather(*(one() for _ in range(TURNS)))
    say(event="done", turns=found)


async def main(what: str, url: str, lease: str, path: str) -> None:
    async with Lanes(PostgresqlEngine(url, lease=float(lease)), policy=Enqueue(max_waiting=None)) as lanes:
        try:
            await (hold(lanes) if what == "hold" else turns(lanes, Path(path)))
        except EngineUnavailable as error:
            say(event="ended", error=str(error))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
