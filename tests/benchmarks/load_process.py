"""The client that `server.py` measures with: `python -m benchmarks.load_process`.

For each line of JSON on its input it holds the connections asked for, sends one request after the other on each of them
for the seconds asked for, and prints what it saw. `cold` connections have keys of their own and ask for the quick
endpoint; `hot` ones all have the same key and ask for a turn that takes a while.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers import HEADER

KEYS = 16  # of each cold connection, in turn
BODY = b'{"input":"hello"}'
OK, END_OF_HEAD, LENGTH = b"HTTP/1.1 200 ", b"\r\n\r\n", b"content-length: "


def request_bytes(path: str, key: str, more: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\naccept-encoding: gzip, deflate\r\n"
        f"user-agent: load/1.0\r\n{HEADER.decode()}: {key}\r\n{more}"
        f"content-length: {len(BODY)}\r\ncontent-type: application/json\r\n\r\n"
    )
    return head.encode() + BODY


@dataclass(slots=True)
class Group:
    """What the connections of one kind saw."""

    took: list[float] = field(default_factory=list[float])
    wrong: int = 0


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last is complete, until it is told to stop."""

    accepted: tuple[bytes, ...] = (OK,)

    def __init__(self, requests: list[bytes], group: Group) -> None:
        self.requests = requests
        self.group = group
        self.count = 0
        self.received = b""
        self.began = 0.0
        self.stopping = False
        self.transport: Any = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send_next(self) -> None:
        self.count += 1
        self.began = time.perf_counter()
        self.transport.write(self.requests[self.count % len(self.requests)])

    def data_received(self, data: bytes) -> None:
        received = self.received = self.received + data if self.received else data
        end = received.find(END_OF_HEAD)
        if end < 0:
            return
        if not received.startswith(self.accepted):
            self.stop(wrong=True)
            return
        start = received.find(LENGTH, 0, end) + len(LENGTH)
        length = int(received[start : received.index(b"\r", start)])
        if len(received) < end + len(END_OF_HEAD) + length:
            return
        self.note(received[:end])
        self.received = b""
        if self.stopping:
            self.stop()
        else:
            self.send_next()

    def note(self, head: bytes) -> None:
        """Note an answer that has come; `head` is its first line and its headers."""
        self.group.took.append(time.perf_counter() - self.began)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop(wrong=True)

    def stop(self, *, wrong: bool = False) -> None:
        """End the connection, once; `wrong` if that was not the plan."""
        if not self.ended.done():
            self.group.wrong += wrong
            self.ended.set_result(None)
            self.transport.close()


async def load(port: int, cold: int, hot: int, seconds: float) -> dict[str, dict[str, float]]:
    """Load the server for some seconds; return for each group its requests, wrong answers and latencies."""
    loop = asyncio.get_running_loop()
    groups = {"cold": Group(), "hot": Group()}
    connections: list[Connection] = []
    for number in range(cold + hot):
        if number < cold:
            requests = [request_bytes("/quick", f"agent:main:user-{number}-{key}") for key in range(KEYS)]
        else:
            requests = [request_bytes("/turn", "agent:main:hot")]
        group = groups["cold" if number < cold else "hot"]

        def connection(requests: list[bytes] = requests, group: Group = group) -> Connection:
            return Connection(requests, group)

        connections.append((await loop.create_connection(connection, "127.0.0.1", port))[1])
    for each in connections:
        each.send_next()
    await asyncio.sleep(seconds)
    for each in connections:
        each.stopping = True
    await asyncio.wait([each.ended for each in connections], timeout=10)
    return {name: summary(group) for name, group in groups.items()}


def summary(group: Group) -> dict[str, float]:
    took = sorted(group.took)
    if not took:
        return {"requests": 0, "wrong": group.wrong, "p50": 0.0, "p99": 0.0}
    return {
        "requests": len(took),
        "wrong": group.wrong,
        "p50": took[len(took) // 2],
        "p99": took[min(len(took) - 1, int(len(took) * 0.99))],
    }


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(asyncio.run(load(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
