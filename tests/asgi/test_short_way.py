"""The short way through the middleware: taken where nothing is special, and left to the long one everywhere else."""

import asyncio
import gc
import sys
import threading
import weakref
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_staged import StagedApp, answer_with, in_line, laned, passes, watched
from support.asgi_wire import Wire, scope_of
from turnlane import LaneMiddleware, Lanes, Runtime, Turn, errors
from turnlane.asgi import middleware as module
from turnlane.asgi.request import LanedRequest
from turnlane.errors import LaneBusy
from turnlane.hooks import TurnFinished, TurnStarted
from turnlane.testing import Gates


class Held:
    """Something that is gone when nobody holds it."""


@pytest.fixture
def the_long_way(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the requests that took it."""
    taken: list[str] = []

    class Noted(LanedRequest):
        __slots__ = ()

        async def run(self) -> None:
            taken.append(dict(self._scope["headers"])[b"x-name"].decode())
            await super().run()

    monkeypatch.setattr(module, "LanedRequest", Noted)
    return taken


def request_of(key: str, name: str) -> tuple[Wire, dict[str, Any]]:
    wire = Wire()
    wire.body(b"")
    return wire, dict(scope_of(key, name))


async def serve(middleware: LaneMiddleware, key: str, name: str) -> Wire:
    wire, scope = request_of(key, name)
    await wire.call(middleware, scope)
    assert wire.status == 200
    return wire


async def test_an_idle_lane_is_had_at_once_by_a_turn_like_any_other(the_long_way: list[str]) -> None:
    """Who comes meanwhile stands in line, and is let in at its end."""
    app = StagedApp()
    middleware = laned(app)
    async with watched(middleware):
        app.release("first", "third")
        await serve(middleware, "a", "first")
        ended = middleware.runtime.lanes.statistics().totals["completed"]
        with Gates(middleware.runtime.lanes.hooks) as gates:
            wire, scope = request_of("a", "second")
            second = wire.call(middleware, scope)
            await app.entered("second")
            turn = app.turns["second"]
            assert turn is not None
            assert turn.running
            assert [(event.turn, event.token) for event in gates.at(TurnStarted).seen] == [(turn.id, turn.token)]
            waiting, scope = request_of("a", "third")
            third = waiting.call(middleware, scope)
            await in_line(middleware, 1)
            app.release("second")
            await asyncio.gather(second, third)
            finished = gates.at(TurnFinished).seen
            assert (finished[0].turn, finished[0].outcome) == (turn.id, "completed")
        before = app.turns["first"]
        assert before is not None
        assert turn.token > before.token
        assert middleware.runtime.lanes.statistics().totals["completed"] == ended + 2
    assert app.log == ["+first", "-first", "+second", "-second", "+third", "-third"]
    assert the_long_way == ["third"]


@pytest.mark.parametrize("special", ["pause", "drain", "cap"])
async def test_it_is_closed_where_something_is_special(special: str, the_long_way: list[str]) -> None:
    """A paused lane, a drain, a cap: of any key; and open again once that is over."""
    app = StagedApp(held=False)
    lanes = Lanes(max_running=2 if special == "cap" else None)
    middleware = laned(app, lanes=lanes)
    await serve(middleware, "a", "first")
    if special == "pause":
        lanes.pause("c")
        await serve(middleware, "a", "second")
    elif special == "drain":
        await lanes.drain(0)
        wire, scope = request_of("a", "second")
        await wire.call(middleware, scope)
        assert wire.status == 503
    else:
        await serve(middleware, "a", "second")
    assert the_long_way == ["first", "second"]
    lanes.resume("c")
    await lanes.__aenter__()
    await serve(middleware, "a", "third")
    assert ("third" in the_long_way) is (special == "cap")


@pytest.mark.parametrize("change", ["pause", "listener"])
async def test_what_becomes_special_while_a_turn_runs_is_heard_at_its_end(change: str) -> None:
    """A pause keeps who waits out, a listener hears of the end, of turns that came by the short way too."""
    app = StagedApp()
    middleware = laned(app)
    lanes = middleware.runtime.lanes
    app.release("bound", "last")
    await serve(middleware, "a", "bound")
    wire, scope = request_of("a", "first")
    first = wire.call(middleware, scope)
    await app.entered("first")
    if change == "pause":
        lanes.pause("a")
        last_wire, scope = request_of("a", "last")
        last = last_wire.call(middleware, scope)
        await in_line(middleware, 1)
        app.release("first")
        await first
        assert "+last" not in app.log
        lanes.resume("a")
        await last
    else:
        heard: list[TurnFinished] = []
        lanes.hooks.on(TurnFinished, heard.append)
        app.release("first")
        await first
        assert [event.key for event in heard] == ["a"]
    assert lanes.statistics().running == 0


async def test_it_is_closed_outside_a_task(the_long_way: list[str]) -> None:
    """Nothing could be cancelled there; the turn has no task."""
    app = StagedApp(held=False)
    middleware = laned(app)
    await serve(middleware, "a", "first")
    ended = asyncio.Event()

    def by_hand() -> None:
        wire, scope = request_of("a", "second")
        with pytest.raises(StopIteration):
            middleware(scope, wire.receive, wire.send).send(None)
        ended.set()

    asyncio.get_running_loop().call_soon(by_hand)
    async with asyncio.timeout(5):
        await ended.wait()
    assert the_long_way == ["first", "second"]
    assert app.log[-1] == "-second"


async def test_the_loop_of_another_thread_is_not_taken_for_this_one() -> None:
    """While turns live in one loop, a request in another is an error, not a second turn of the key."""
    app = StagedApp()
    middleware = laned(app)
    async with watched(middleware):
        wire, scope = request_of("a", "first")
        task = wire.call(middleware, scope)
        await app.entered("first")
        raised: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(serve(middleware, "b", "second"))
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert isinstance(raised[0], errors.NotConfigured)
        assert "another event loop" in str(raised[0])
        app.release("first")
        await task
    assert app.log == ["+first", "-first"]


@pytest.mark.parametrize("visible", [True, False])
async def test_a_session_that_a_call_inside_brings_is_not_told(way: str, visible: bool) -> None:
    """The middleware has no sessions: which way a request went does not show, and a hidden id is not told."""
    runtime = Runtime(sessions="memory://")
    entered, go_on = asyncio.Event(), asyncio.Event()

    @runtime.agent_turn(key="key", visible=visible)
    async def answer(key: str, *, turn: Turn) -> None:
        assert turn.session is not None
        entered.set()
        await go_on.wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer("a")
        await answer_with(send)

    settings: dict[str, Any] = {"lanes": runtime.lanes} if way != "sessions" else {"lanes": runtime.lanes, "paths": "/"}
    middleware = laned(app, way="long" if way == "sessions" else way, **settings)
    async with watched(middleware):
        wires = [request_of("a", name) for name in ("first", "second")]
        tasks = [wires[0][0].call(middleware, wires[0][1])]
        await entered.wait()
        tasks.append(wires[1][0].call(middleware, wires[1][1]))
        await in_line(middleware, 1)
        go_on.set()
        await asyncio.gather(*tasks)
    for wire, _ in wires:
        assert wire.status == 200
        assert b"x-session-id" not in dict(wire.sent[0]["headers"])


@pytest.mark.parametrize("trouble", ["state", "listener"])
async def test_what_fails_before_the_app_frees_the_lane(way: str, trouble: str) -> None:
    """A state that can not be written; a listener that ends the program."""
    app = StagedApp(held=False)
    lanes = Lanes()
    middleware = laned(
        app,
        way=way,
        **({"runtime": Runtime(lanes=lanes, sessions="memory://")} if way == "sessions" else {"lanes": lanes}),
    )
    await serve(middleware, "a", "first")

    def end(_: TurnStarted) -> None:
        raise SystemExit

    if trouble == "listener":
        lanes.hooks.on(TurnStarted, end)
    wire, scope = request_of("a", "second")
    if trouble == "state":
        scope["state"] = MappingProxyType({})
    with pytest.raises(TypeError if trouble == "state" else SystemExit):
        await middleware(scope, wire.receive, wire.send)
    assert lanes.statistics().lanes == 0
    assert app.log == ["+first", "-first"]


@pytest.mark.parametrize("raised", [LaneBusy("a", ahead=1), RuntimeError("of the app")])
async def test_an_error_keeps_no_frame(way: str, raised: Exception) -> None:
    """What the app held is free once its error was told of, without the collector's help."""
    held: list[weakref.ref[Held]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        mine = Held()
        held.append(weakref.ref(mine))
        raise type(raised)(*raised.args) if isinstance(raised, RuntimeError) else LaneBusy("a", ahead=1)

    middleware = laned(app, way=way)
    gc.collect()
    gc.disable()
    try:
        for name in ("first", "second"):
            wire, scope = request_of("a", name)
            with suppress(RuntimeError):
                await middleware(scope, wire.receive, wire.send)
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()


def ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a loop says of tasks that were never ended."""


def test_a_loop_that_is_closed_under_a_request_makes_no_noise(way: str) -> None:
    """Its coroutine is collected in another context: nothing is printed, and the lane is free."""
    app = StagedApp()
    middleware = laned(app, way=way)
    unraisable: list[object] = []

    async def begin() -> None:
        wire, scope = request_of("a", "first")
        tasks.append(wire.call(middleware, scope))
        await app.entered("first")

    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(ignore)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", unraisable.append)
        loop.run_until_complete(begin())
        loop.close()
        tasks.clear()
        gc.collect()
    assert unraisable == []
    app.release("second")
    assert asyncio.run(serve(middleware, "a", "second")).status == 200
    assert middleware.runtime.lanes.statistics().running == 0


async def test_a_drain_returns_when_the_last_request_has_ended(way: str) -> None:
    """It began after the request, which then may not leave unseen."""
    app = StagedApp()
    middleware = laned(app, way=way)
    async with watched(middleware):
        wire, scope = request_of("a", "it")
        task = wire.call(middleware, scope)
        await app.entered("it")
        draining = asyncio.create_task(middleware.runtime.drain())
        await passes()
        assert not draining.done()
        app.release("it")
        await task
        async with asyncio.timeout(10):
            assert await draining == 0


async def test_a_call_that_outlives_the_app_keeps_the_lane(way: str) -> None:
    """It joined the turn; the next request runs when it has ended."""
    app, lanes = StagedApp(held=False), Lanes()
    began, go_on = asyncio.Event(), asyncio.Event()
    calls: list[asyncio.Task[None]] = []

    @Runtime(lanes=lanes).agent_turn(key="key")
    async def late(key: str) -> None:
        began.set()
        await go_on.wait()

    async def leave_it_running(_: Scope, __: Receive, send: Send) -> None:
        calls.append(asyncio.create_task(late("a")))
        await began.wait()
        await answer_with(send)

    app.steps["it"] = leave_it_running
    middleware = laned(app, way=way, lanes=lanes)
    async with watched(middleware):
        wire, scope = request_of("a", "it")
        await wire.call(middleware, scope)
        following, scope = request_of("a", "next")
        task = following.call(middleware, scope)
        await in_line(middleware, 1)
        assert app.log == ["+it", "-it"]
        go_on.set()
        await task
        await calls[0]
    assert app.log[2:] == ["+next", "-next"]
