"""What a middleware adds to each request when nobody waits, and where the time of `LaneMiddleware` goes.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.middleware`.

The app is called directly. Every variant serves the same requests in turn, in one task, round after round in a new
random order; a figure is the median over the rounds of what the variant took longer than the bare app in the same
round. The garbage collector is off while any variant is timed.

Keys of two kinds: those that come back, as the keys of conversations do, for which the `defaultdict` finds the lock it
has kept; and a new one for each request, for which it makes one. Nobody else holds any of them.
"""

import asyncio
import gc
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count as count_from
from itertools import cycle
from typing import Any

from asgi_correlation_id import CorrelationIdMiddleware
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.ladder import STEPS
from benchmarks.peers import HEADER, DefaultDictLock, NoOp, NoOpBase, RefcountedLock, WeakLock
from benchmarks.report import Options, Report, exit_with, new_loop
from turnlane import LaneMiddleware, Runtime
from turnlane.hooks import Hooks, TurnFinished, TurnStarted

BARE, NOOP, LOCK, BASE = "bare", "no-op pure ASGI", "defaultdict(asyncio.Lock)", "BaseHTTPMiddleware no-op"
LANE, LANE_HEADERS = "LaneMiddleware headers=False", "LaneMiddleware headers=True"
ROUNDS, REQUESTS, KEYS = 60, 1000, 500
SLOW = {BASE, "slowapi ASGI", "slowapi Base"}  # a tenth of the requests, or they take all the time
SENT_BY_A_CLIENT = (
    (b"host", b"127.0.0.1:8000"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"agent-client/1.0"),
)
AFTER_THE_KEY = ((b"content-length", b"58"), (b"content-type", b"application/json"))


class Listeners:
    """A hook plugin that hears the beginning and the end of each turn."""

    def __init__(self) -> None:
        self.heard = 0

    def register(self, hooks: Hooks) -> None:
        hooks.on(TurnStarted, self.hear)
        hooks.on(TurnFinished, self.hear)

    def hear(self, _: object) -> None:
        self.heard += 1


def keys_that_come_back() -> Iterator[int]:
    return cycle(range(KEYS))


def new_keys() -> Iterator[int]:
    return count_from(KEYS)


@dataclass(slots=True)
class Variant:
    """One app, and what its requests took in each round, in nanoseconds."""

    name: str
    app: ASGIApp
    requests: int
    took: list[float] = field(default_factory=list[float])


Added = dict[str, float]


async def raw_app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def endpoint(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def key_of_request(request: Request) -> str:
    return request.headers[HEADER.decode()]


def starlette_app(*middleware: Middleware) -> Starlette:
    app = Starlette(routes=[Route("/turn", endpoint, methods=["POST"])], middleware=middleware)
    app.state.limiter = Limiter(key_func=key_of_request, default_limits=["1000000000/second"])
    return app


def lane(**settings: Any) -> Callable[[ASGIApp], ASGIApp]:
    return lambda app: LaneMiddleware(app, key=HEADER.decode(), trusted_keys=True, **settings)


def compared() -> dict[str, Callable[[ASGIApp], ASGIApp]]:
    """Return what is measured, by name."""
    return {
        NOOP: NoOp,
        LOCK: DefaultDictLock,
        "refcounted asyncio.Lock": RefcountedLock,
        "WeakValueDictionary of asyncio.Lock": WeakLock,
        BASE: NoOpBase,
        "asgi-correlation-id": CorrelationIdMiddleware,
        LANE: lane(headers=False),
        LANE_HEADERS: lane(),
        "LaneMiddleware, hooks listening": lane(runtime=Runtime(hooks=[Listeners()])),
        "LaneMiddleware, memory:// sessions": lane(runtime=Runtime(sessions="memory://")),
    }


ONLY_IN_STARLETTE: dict[str, Callable[[ASGIApp], ASGIApp]] = {
    "slowapi ASGI": SlowAPIASGIMiddleware,
    "slowapi Base": SlowAPIMiddleware,
}


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_: Message) -> None:
    return


def scopes(keys: Iterator[int], count: int) -> list[Scope]:
    """Return requests as a server hands them over, each with objects of its own."""
    return [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 40000 + number % 64),
            "scheme": "http",
            "method": "POST",
            "root_path": "",
            "path": "/turn",
            "raw_path": b"/turn",
            "query_string": b"",
            "headers": [*SENT_BY_A_CLIENT, (HEADER, b"agent:main:user-%d" % next(keys)), *AFTER_THE_KEY],
            "state": {},
        }
        for number in range(count)
    ]


async def serve(app: ASGIApp, requests: list[Scope]) -> float:
    """Serve the requests one after the other; return the nanoseconds each took.

    It is the time of this thread, which other processes on the machine do not add to; nothing here waits. A request
    is gone when the next one begins, as in a server.
    """
    count = len(requests)
    gc.collect()
    gc.disable()
    try:
        began = time.thread_time_ns()
        while requests:
            await app(requests.pop(), receive, send)
        return (time.thread_time_ns() - began) / count
    finally:
        gc.enable()


async def measure(variants: list[Variant], options: Options, keys: Callable[[], Iterator[int]]) -> None:
    """Serve the same requests by each variant, round after round."""
    order, randomly = list(variants), options.random
    keys_of = {variant.name: keys() for variant in variants}
    gc.freeze()  # or each collection looks at all that was imported
    try:
        for variant in order:
            await serve(variant.app, scopes(keys_of[variant.name], KEYS))
        for _ in range(3 if options.quick else ROUNDS):
            randomly.shuffle(order)
            for variant in order:
                variant.took.append(await serve(variant.app, scopes(keys_of[variant.name], variant.requests)))
    finally:
        gc.unfreeze()


def variants_of(apps: dict[str, ASGIApp], options: Options) -> list[Variant]:
    requests = 50 if options.quick else REQUESTS
    return [Variant(name, app, requests // 10 if name in SLOW else requests) for name, app in apps.items()]


def print_added(report: Report, variants: list[Variant]) -> Added:
    bare = variants[0].took
    rows = {v.name: [took - base for took, base in zip(v.took, bare, strict=True)] for v in variants}
    added = {name: statistics.median(differences) for name, differences in rows.items()}
    report.row("", "ns/request", "added", "IQR added", "x lock added")
    for variant in variants:
        low, _, high = statistics.quantiles(rows[variant.name], n=4)
        report.row(
            variant.name,
            f"{statistics.median(variant.took):.0f}",
            f"{added[variant.name]:.0f}",
            f"{low:.0f}..{high:.0f}",
            f"{added[variant.name] / added[LOCK]:.2f}" if LOCK in added else "",
        )
    return added


KEY_KINDS: dict[str, Callable[[], Iterator[int]]] = {"keys that come back": keys_that_come_back, "new keys": new_keys}


def compare(report: Report, options: Options, loop: str, kind: str, apps: Callable[[], dict[str, ASGIApp]]) -> None:
    """Measure all variants with both kinds of keys."""
    for named, keys in KEY_KINDS.items():
        variants = variants_of(apps(), options)
        run(loop, measure(variants, options, keys))
        where = f"{kind}, {named}, {loop}"
        report.heading(f"time added per request, nobody waits, {where}: {len(variants[0].took)} rounds")
        added = print_added(report, variants)
        report.limit(f"added: {LANE} / {LOCK}, {where}", added[LANE] / added[LOCK], 1.5)
        report.limit(f"added: {LANE_HEADERS} / {LOCK}, {where}", added[LANE_HEADERS] / added[LOCK], 2.0)
        report.limit(f"added: {LANE_HEADERS} / {BASE}, {where}", added[LANE_HEADERS] / added[BASE], 1 / 25)


def line_by_line(report: Report, options: Options, loop: str) -> None:
    """Print what each step adds over the raw app."""

    async def climb() -> list[Variant]:
        apps: dict[str, ASGIApp] = {BARE: raw_app, NOOP: NoOp(raw_app)}
        for name, step in STEPS.items():
            rung = step(raw_app)
            await rung.bind()
            apps[name] = rung
        apps |= {LANE: lane(headers=False)(raw_app), LANE_HEADERS: lane()(raw_app)}
        variants = variants_of(apps, options)
        await measure(variants, options, keys_that_come_back)
        return variants

    variants = run(loop, climb())
    report.heading(f"where the time goes, raw ASGI app, {loop}: each line with all above it")
    report.row("", "ns/request", "this line", "sum")
    before = variants[0].took
    for variant in variants[1:]:
        step = statistics.median(now - then for now, then in zip(variant.took, before, strict=True))
        total = statistics.median(now - base for now, base in zip(variant.took, variants[0].took, strict=True))
        report.row(variant.name, f"{statistics.median(variant.took):.0f}", f"{step:.0f}", f"{total:.0f}")
        before = variant.took


def run(loop: str, work: Any) -> Any:
    with asyncio.Runner(loop_factory=lambda: new_loop(loop)) as runner:
        return runner.run(work)


def benchmark(report: Report, options: Options) -> None:
    """Measure all variants, over the raw app and in Starlette."""
    logging.getLogger("asgi_correlation_id").setLevel(logging.ERROR)
    for loop in options.loops:
        compare(report, options, loop, "raw ASGI app", raw_apps)
        compare(report, options, loop, "Starlette", routed_apps)
        line_by_line(report, options, loop)


def raw_apps() -> dict[str, ASGIApp]:
    return {BARE: raw_app} | {name: make(raw_app) for name, make in compared().items()}


def routed_apps() -> dict[str, ASGIApp]:
    apps: dict[str, ASGIApp] = {BARE: starlette_app()}
    for name, make in (compared() | ONLY_IN_STARLETTE).items():
        apps[name] = starlette_app(Middleware(make))
    return apps


if __name__ == "__main__":
    exit_with(benchmark)
