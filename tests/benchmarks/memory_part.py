"""Measurements of memory, in a process of their own: `python -m benchmarks.memory_part PART=COUNT ...` prints JSON.

See `memory.py`, which starts one process for each unless it is only tried out. Figures are bytes that `tracemalloc` has
seen allocated and not freed; the keys, and lists that hold what is measured, exist before it starts.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import gc
import json
import sys
import tracemalloc
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.peers import HEADER, DefaultDictLock, NoOp
from turnlane import Enqueue, LaneMiddleware, Lanes

Figures = dict[str, float]
Part = Callable[[int], Coroutine[Any, Any, Figures]]
PATIENT = Enqueue(max_waiting=None)


def allocated() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def request(number: int) -> Scope:
    headers = [(b"host", b"127.0.0.1"), (HEADER, b"agent:main:user-%d" % number)]
    return {"type": "http", "method": "POST", "path": "/", "headers": headers, "state": {}, "client": ("127.0.0.1", 1)}


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_: Message) -> None:
    return


async def answer(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def never_answer(_: Scope, __: Receive, ___: Send) -> None:
    await asyncio.get_running_loop().create_future()


# -- keys one after the other: what is retained of them


async def one_after_the_other(app: ASGIApp, count: int) -> float:
    """Serve a request of each key; return the bytes retained, per key."""
    for number in range(1000):
        await app(request(-1 - number), receive, send)
    tracemalloc.start()
    before = allocated()
    for number in range(count):
        await app(request(number), receive, send)
    return (allocated() - before) / count


async def passing_lanes(count: int) -> Figures:
    lanes = Lanes()
    app = LaneMiddleware(answer, key=HEADER.decode(), lanes=lanes, trusted_keys=True)
    retained = await one_after_the_other(app, count)
    table = lanes.gate.table
    return {
        "bytes": retained,
        "entries": len(table.holders) + len(table.lines),
        "table": sys.getsizeof(table.holders) + sys.getsizeof(table.lines),
    }


async def passing_locks(count: int) -> Figures:
    app = DefaultDictLock(answer)
    retained = await one_after_the_other(app, count)
    return {"bytes": retained, "entries": len(app.locks), "table": sys.getsizeof(app.locks)}


# -- keys that are held at the same time: bytes for each beyond the key itself


async def held_lanes(count: int) -> Figures:
    """A lane alone: the turn and its place in the table, without the task that runs in it."""
    gate, policy = Lanes().gate, Enqueue()
    gate.bind(asyncio.get_running_loop())
    keys = [f"agent:main:user-{number}" for number in range(count)]
    tracemalloc.start()
    before = allocated()
    for key in keys:
        gate.arrive(key, policy)
    bytes_each = (allocated() - before) / count
    return {"bytes": bytes_each, "entries": len(gate.table.holders)}


async def held_locks(count: int) -> Figures:
    locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
    keys = [f"agent:main:user-{number}" for number in range(count)]
    tracemalloc.start()
    before = allocated()
    for key in keys:
        await locks[key].acquire()
    return {"bytes": (allocated() - before) / count, "entries": len(locks)}


async def tasks_of(make: Callable[[int], Awaitable[object]], count: int) -> float:
    """Start tasks that wait for ever; return the bytes each takes."""
    tasks: list[asyncio.Future[object] | None] = [None] * count
    tracemalloc.start()
    before = allocated()
    for number in range(count):
        tasks[number] = asyncio.ensure_future(make(number))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bytes_each = (allocated() - before) / count
    ended = [task for task in tasks if task is None or task.done()]
    if ended:
        raise RuntimeError(f"{len(ended)} of {count} tasks did not wait")
    return bytes_each


async def wait_for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def held_tasks(count: int) -> Figures:
    """The task that runs in a block, without a block: what the next part is compared with."""
    return {"bytes": await tasks_of(lambda _: wait_for_ever(), count)}


async def held_blocks(count: int) -> Figures:
    lanes = Lanes()
    keys = [f"agent:main:user-{number}" for number in range(count)]

    async def hold(key: str) -> None:
        async with lanes.turn(key):
            await asyncio.get_running_loop().create_future()

    return {"bytes": await tasks_of(lambda number: hold(keys[number]), count)}


async def held_requests(count: int) -> Figures:
    app = LaneMiddleware(never_answer, key=HEADER.decode(), trusted_keys=True)
    return await requests_to(app, count)


async def held_noop(count: int) -> Figures:
    return await requests_to(NoOp(never_answer), count)


async def requests_to(app: ASGIApp, count: int) -> Figures:
    scopes = [request(number) for number in range(count)]
    return {"bytes": await tasks_of(lambda number: app(scopes[number], receive, send), count)}


# -- waiters


async def waiting_tasks(count: int) -> Figures:
    """A task and the future it waits for: what a waiter is compared with."""
    return {"bytes": await tasks_of(lambda _: wait_for_ever(), count)}


async def waiting_turns(count: int) -> Figures:
    lanes = Lanes()

    async def wait() -> None:
        async with lanes.turn("hot", policy=PATIENT):
            await asyncio.get_running_loop().create_future()

    holder = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    figures = {"bytes": await tasks_of(lambda _: wait(), count), "entries": float(lanes.gate.table.waiting)}
    holder.cancel()
    return figures


async def waiting_locks(count: int) -> Figures:
    lock = asyncio.Lock()

    async def wait() -> None:
        async with lock:
            await asyncio.get_running_loop().create_future()

    await lock.acquire()
    return {"bytes": await tasks_of(lambda _: wait(), count)}


PARTS: dict[str, Part] = {
    part.__name__: part
    for part in (
        *(passing_lanes, passing_locks, held_lanes, held_locks, held_tasks, held_blocks, held_noop, held_requests),
        *(waiting_tasks, waiting_turns, waiting_locks),
    )
}


def main(*wanted: str) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    for each in wanted:
        name, _, count = each.partition("=")
        found[name] = asyncio.run(PARTS[name](int(count)))
        tracemalloc.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])), flush=True)
