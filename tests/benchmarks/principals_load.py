"""The client that `principals.py` measures with: `python -m benchmarks.principals_load`.

For each line of JSON on its input it holds the connections asked for and prints what they saw. Those of `quiet` are one
principal's, each with keys of its own; they rest between an answer and the next request. Those of `hammering` are
another's, with one key or with one each, and do not rest, not even when they are refused with 429; they begin a little
before, so that what is measured is hammering and not how it begins.
"""

import asyncio
import json
import random
import sys
from dataclasses import dataclass, field
from functools import partial

from benchmarks.load_process import KEYS, OK, Connection, Group, request_bytes, summary
from benchmarks.server_process import USER

RESTS = (0.010, 0.030)  # seconds, chosen at random: nobody keeps step with anybody
LEAD = 0.2
REFUSED, WAITED = b"HTTP/1.1 429 ", b"x-turnlane-waited-ms: "


@dataclass(slots=True)
class Waits(Group):
    """With what the server's header says of each wait, in seconds."""

    told: list[float] = field(default_factory=list[float])


class Resting(Connection):
    """Rests between an answer and the next request."""

    def __init__(self, requests: list[bytes], group: Waits) -> None:
        super().__init__(requests, group)
        self.told = group.told

    def note(self, head: bytes) -> None:
        super().note(head)
        told = head.partition(WAITED)[2].partition(b"\r")[0]
        if told:
            self.told.append(int(told) / 1000)

    def send_next(self) -> None:
        asyncio.get_running_loop().call_later(random.uniform(*RESTS), self._send_or_stop)

    def _send_or_stop(self) -> None:
        if self.stopping:
            self.stop()
        elif not self.ended.done():
            super().send_next()


class Hammering(Connection):
    """Does not rest."""

    accepted = (OK, REFUSED)


def returned(connection: Connection) -> Connection:
    return connection


async def load(
    port: int, quiet: int, hammering: int, path: str, seconds: float, *, one_key: bool
) -> dict[str, dict[str, float]]:
    """Load the server for some seconds; return for each principal its requests, wrong answers, and latencies."""
    loop = asyncio.get_running_loop()
    waits, hammered = Waits(), Group()
    connections: list[Connection] = []
    for number in range(quiet):
        requests = [request_bytes("/quick", f"{number}-{key}", f"{USER}: quiet\r\n") for key in range(KEYS)]
        connections.append(Resting(requests, waits))
    for number in range(hammering):
        request = request_bytes(path, "one" if one_key else str(number), f"{USER}: hammering\r\n")
        connections.append(Hammering([request], hammered))
    for each in connections:
        await loop.create_connection(partial(returned, each), "127.0.0.1", port)
    for each in reversed(connections):
        if each is connections[quiet - 1]:
            await asyncio.sleep(LEAD)
        each.send_next()
    await asyncio.sleep(seconds)
    for each in connections:
        each.stopping = True
    await asyncio.wait([each.ended for each in connections], timeout=10)
    told = summary(Group(waits.told))
    return {"quiet": {**summary(waits), "told": told["p99"]}, "hammering": summary(hammered)}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(asyncio.run(load(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
