"""A process with lanes in Redis that does one thing, and says line by line how it goes."""

import asyncio
import json
import sys
from typing import Any, cast

import redis.asyncio

from turnlane import Enqueue, Lanes, errors
from turnlane.engines.redis import RedisEngine

Client = Any
EVERYBODY = Enqueue(max_waiting=None, wait_timeout=120.0)


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


async def hold(lanes: Lanes, key: str) -> None:
    """Have a lane until the process ends, or the lane is lost."""
    turn = None
    try:
        async with lanes.turn(key, policy=EVERYBODY) as turn:
            say(held=turn.token)
            await asyncio.Event().wait()
    except errors.EngineUnavailable as error:
        say(lost=turn is not None and turn.lost, error=type(error).__name__)


async def run(lanes: Lanes, key: str, url: str, name: str, count: int) -> None:
    """Have so many turns, all asked for at once, each of which would lose increments if it were not alone."""
    client: Client = cast("Any", redis.asyncio.Redis).from_url(url.partition("?")[0])
    place = f"{{{url.partition('prefix=')[2]}}}"

    async def one(number: int) -> None:
        async with lanes.turn(key, policy=EVERYBODY) as turn:
            entered = await client.set(f"{place}marker", f"{name}{number}", nx=True)
            seen = int(await client.get(f"{place}counter") or 0)
            await client.set(f"{place}counter", seen + 1)
            await client.delete(f"{place}marker")
            say(number=number, token=turn.token, alone=bool(entered))

    await asyncio.gather(*(one(number) for number in range(count)))
    await getattr(client, "aclose", client.close)()  # it was renamed


async def main(url: str, lease: str, what: str, key: str, *rest: str) -> None:
    lanes = Lanes(RedisEngine(url, lease=float(lease)) if float(lease) else url)
    async with lanes:
        say(ready=True)
        if what == "hold":
            await hold(lanes, key)
        else:
            await asyncio.to_thread(sys.stdin.readline)
            await run(lanes, key, url, rest[0], int(rest[1]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
