"""The body of a request that was read ahead: the app gets the same bytes, and then the server's own `receive`."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import StagedApp, answer_with, body_held, in_line, laned, passes, post, serving, until, watched
from support.asgi_wire import Wire, scope_of
from turnlane import keys

DOCUMENT = b'{"key": "alice", "text": "' + bytes(range(35, 90)) * 3 + b'"}'

PIECES: dict[str, Sequence[bytes]] = {
    "none at all": [b""],
    "one": [DOCUMENT],
    "many": [DOCUMENT[at : at + 7] for at in range(0, len(DOCUMENT), 7)],
    "byte by byte": [DOCUMENT[at : at + 1] for at in range(len(DOCUMENT))],
    "with empty ones": [b"", DOCUMENT[:9], b"", b"", DOCUMENT[9:], b""],
    "not text": [b"\x00\xff", b"\r\n\r\n", b"\x80" * 100],
}


class Collector:
    """Reads a request as a careful app does: to the end of the body, and one message more."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.called = asyncio.Event()

    @property
    def body(self) -> bytes:
        """The bytes that came."""
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def ends(self) -> list[bool]:
        """Whether each message said that it was the last of the body."""
        return [not message["more_body"] for message in self.messages if message["type"] == "http.request"]

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        self.called.set()
        while not any(self.ends):
            self.messages.append(await receive())
        await answer_with(send)
        self.messages.append(await receive())


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("limit", [0, 1, 20, 10_000])
@pytest.mark.parametrize("way", ["short", "sessions"])
async def test_a_request_that_waited_is_replayed_exactly(way: str, pieces: str, limit: int) -> None:
    """Every byte once and in order, whatever came while it waited or after, with and without a content-length."""
    for late in (0, 1, 99):
        for declared in (False, True):
            await replay(way, PIECES[pieces], limit=limit, late=late, declared=declared)


async def replay(way: str, parts: Sequence[bytes], *, limit: int, late: int, declared: bool) -> None:
    """Let a request wait while all but the last `late` pieces of its body come, and compare what its app gets."""
    app, collector = StagedApp(), Collector()
    app.steps["it"] = collector
    middleware = laned(app, way=way, body_limit=limit)
    whole = b"".join(parts)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        headers = {"content-length": str(len(whole))} if declared else {}
        request = post(driver, "alice", "it", headers=headers, body=None)
        before = max(len(parts) - late, 0)
        for number, piece in enumerate(parts[:before]):
            await request.send_body(piece, more=number < len(parts) - 1)
        await request.until_idle()
        app.release("holder")
        await app.entered("it")
        for number, piece in enumerate(parts[before:], before):
            await request.send_body(piece, more=number < len(parts) - 1)
        await request.finished()
    assert collector.body == whole
    assert collector.ends.count(True) == 1
    assert collector.messages[-1] == {"type": "http.disconnect"}


@pytest.mark.parametrize("pieces", ["one", "many", "byte by byte", "with empty ones"])
@pytest.mark.parametrize("way", ["short", "sessions"])
async def test_a_body_read_for_its_key_is_replayed_exactly(way: str, pieces: str) -> None:
    """Though the key was found in it, and also where it had none and no lane."""
    for key in ("key", "no-such-key"):
        collector = Collector()
        middleware = laned(collector, way=way, key=keys.json_body(key))
        async with serving(middleware) as driver:
            request = post(driver, None, "it", body=None)
            for number, piece in enumerate(PIECES[pieces]):
                await request.send_body(piece, more=number < len(PIECES[pieces]) - 1)
            response = await request.response()
            await request.finished()
        assert ("x-turnlane-turn" in response.headers) == (key == "key")
        assert (collector.body, collector.ends.count(True)) == (DOCUMENT, 1)
        assert collector.messages[-1] == {"type": "http.disconnect"}


async def test_random_bodies_are_replayed_exactly(seed: int, long_form: bool) -> None:
    """Random pieces, limits and moments, several requests at a time on one lane."""
    rng = random.Random(seed)
    for _ in range(3000 if long_form else 60):
        app = StagedApp()
        collectors = {f"it-{number}": Collector() for number in range(4)}
        app.steps.update(collectors)
        middleware = laned(app, way=rng.choice(["short", "sessions"]), body_limit=rng.randrange(60))
        bodies = {
            name: [rng.randbytes(rng.choice([0, 1, 5, 30])) for _ in range(rng.randrange(1, 8))] for name in collectors
        }
        async with serving(middleware) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            requests = {name: post(driver, "alice", name, body=None) for name in collectors}
            left = {name: list(pieces) for name, pieces in bodies.items()}
            release_at = rng.randrange(20)
            step = 0
            while any(left.values()):
                if step == release_at:
                    app.release("holder")
                step += 1
                name = rng.choice([each for each, pieces in left.items() if pieces])
                piece = left[name].pop(0)
                await requests[name].send_body(piece, more=bool(left[name]))
                for _step in range(rng.randrange(4)):
                    await asyncio.sleep(0)
            app.release("holder")
            for request in requests.values():
                await request.finished()
        for name, collector in collectors.items():
            assert collector.body == b"".join(bodies[name]), f"--seed={seed}"
            assert collector.ends.count(True) == 1, f"--seed={seed}"


async def test_an_idle_lane_reads_nothing_ahead_of_the_app(way: str) -> None:
    """The app is given the server's own `receive`: nothing was asked of it, so no 100-continue was provoked."""
    wire = Wire()
    given: list[object] = []

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        given.extend([receive == wire.receive, wire.asked])
        await answer_with(send)

    middleware = laned(app, way=way)
    headers = [(b"expect", b"100-continue"), (b"content-length", b"9")]
    async with watched(middleware):
        await wire.call(middleware, scope_of("alice", headers=headers))
    assert given == [True, 0]
    assert wire.status == 200


async def test_a_body_declared_too_large_is_not_read_while_it_waits(way: str) -> None:
    """Nothing is asked of the server before the app asks; then the app has it from the server itself."""
    app = StagedApp()
    asked: list[int] = []
    wire, holder = Wire(), Wire()

    async def step(_: Scope, receive: Receive, send: Send) -> None:
        asked.append(wire.asked)
        assert (await receive())["body"] == b"x" * 11
        await answer_with(send)

    app.steps["it"] = step
    middleware = laned(app, way=way, body_limit=10)
    headers = [(b"expect", b"100-continue"), (b"content-length", b"11")]
    async with watched(middleware):
        held = holder.call(middleware, scope_of("alice", "holder"))
        holder.body(b"")
        await app.entered("holder")
        task = wire.call(middleware, scope_of("alice", headers=headers))
        wire.body(b"x" * 11)
        await in_line(middleware, 1)
        app.release("holder")
        await held
        await task
    assert asked == [0]
    assert wire.status == 200


@pytest.mark.parametrize("declared", [b"10", b"ten", b"-1", b"1e9", b"9" * 25, b""])
async def test_other_lengths_are_read_while_they_wait(declared: bytes) -> None:
    """A length within the limit, or one that is none: the body shows what it is."""
    app = StagedApp()
    wire, holder = Wire(), Wire()
    middleware = laned(app, body_limit=10)
    async with watched(middleware):
        held = holder.call(middleware, scope_of("alice", "holder"))
        holder.body(b"")
        await app.entered("holder")
        task = wire.call(middleware, scope_of("alice", headers=[(b"content-length", declared)]))
        wire.body(b"x" * 10)
        await in_line(middleware, 1)
        await until(lambda: body_held(middleware) > 0)
        assert wire.asked == 2  # the body, and what comes after it
        app.release("holder", "it")
        await held
        await task
    assert app.bodies["it"] == b"x" * 10


async def test_reading_stops_at_the_limit() -> None:
    """With the piece that passes it; the app takes the rest from the server, piece by piece."""
    app, collector = StagedApp(), Collector()
    app.steps["it"] = collector
    wire, holder = Wire(), Wire()
    middleware = laned(app, body_limit=10)
    async with watched(middleware):
        held = holder.call(middleware, scope_of("alice", "holder"))
        holder.body(b"")
        await app.entered("holder")
        task = wire.call(middleware, scope_of("alice"))
        for piece in (b"123456", b"789abc", b"def"):
            wire.body(piece, more=True)
        wire.body(b"", more=False)
        await in_line(middleware, 1)
        await until(lambda: body_held(middleware) >= 12)
        await passes()
        assert (wire.asked, body_held(middleware)) == (2, 12)
        app.release("holder")
        await held
        wire.disconnect()
        await task
    assert [message.get("body") for message in collector.messages] == [b"123456789abc", b"def", b"", None]


async def test_what_is_held_is_let_go_when_the_app_reads_it() -> None:
    """Not only when the request ends: a stream may last for hours."""
    app = StagedApp()
    held: list[int] = []

    async def step(_: Scope, receive: Receive, send: Send) -> None:
        held.append(body_held(middleware))
        await receive()
        held.append(body_held(middleware))
        await app.released("it")
        await answer_with(send)

    app.steps["it"] = step
    middleware = laned(app, key=keys.json_body("key"))
    async with serving(middleware) as driver:
        request = post(driver, None, "it", body=DOCUMENT)
        await app.entered("it")
        await request.until_idle()
        app.release("it")
        await request.response()
    assert held == [len(DOCUMENT), 0]


async def test_messages_beyond_the_body_are_the_apps() -> None:
    """A server that says more than the body has is passed on as it is."""
    app = StagedApp()
    got: list[Message] = []

    async def step(_: Scope, receive: Receive, send: Send) -> None:
        got.extend([await receive(), await receive(), await receive()])
        await answer_with(send)

    app.steps["it"] = step
    wire, holder = Wire(), Wire()
    middleware = laned(app)
    async with watched(middleware):
        held = holder.call(middleware, scope_of("alice", "holder"))
        holder.body(b"")
        await app.entered("holder")
        task = wire.call(middleware, scope_of("alice"))
        wire.body(b"body")
        wire.body(b"more")
        wire.disconnect()
        await in_line(middleware, 1)
        await until(lambda: wire.asked == 2)
        app.release("holder")
        await held
        await task
    assert [(message["type"], message.get("body")) for message in got] == [
        ("http.request", b"body"),
        ("http.request", b"more"),
        ("http.disconnect", None),
    ]


@pytest.mark.parametrize("moment", ["waiting", "key"])
async def test_a_server_that_speaks_another_protocol_is_told(moment: str) -> None:
    """A message no request has is an error with its name, not a body; the lane is free afterwards."""
    app, wire, holder = StagedApp(), Wire(), Wire()
    key: Any = "x-session-key" if moment == "waiting" else keys.json_body("key")
    middleware = laned(app, key=key)
    app.steps["it"] = Collector()
    async with watched(middleware):
        if moment == "waiting":
            held = holder.call(middleware, scope_of("alice", "holder"))
            holder.body(b"")
            await app.entered("holder")
            task = wire.call(middleware, scope_of("alice"))
            await in_line(middleware, 1)
            wire.put({"type": "websocket.receive"})
            app.release("holder")
            await held
        else:
            wire.put({"type": "websocket.receive"})
            task = wire.call(middleware, scope_of())
        with pytest.raises(RuntimeError, match=r"websocket\.receive"):
            await task
