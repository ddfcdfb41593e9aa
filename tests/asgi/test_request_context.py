"""Whose turn a request was made from: its context may be a stranger's, or really a running turn's."""

import asyncio
import contextvars
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_staged import StagedApp, answer_with, in_line, laned, post, serving, watched
from support.asgi_wire import Wire, scope_of
from turnlane import LaneMiddleware, Lanes, current_turn

CLIENT = ("203.0.113.9", 4711)


def remembering(app: StagedApp, name: str) -> list[contextvars.Context]:
    """Let a request wait in the app and keep a copy of its context, as a server's callbacks do."""
    kept: list[contextvars.Context] = []

    async def step(_: Scope, receive: Receive, send: Send) -> None:
        kept.append(contextvars.copy_context())
        await receive()
        await app.released(name)
        await answer_with(send)

    app.steps[name] = step
    return kept


@pytest.mark.parametrize("client", [CLIENT, None])
async def test_a_later_request_of_the_same_connection_is_a_stranger(way: str, client: Any) -> None:
    """Its task was started in the context of an earlier one that still runs: it waits for the lane, in its place."""
    app = StagedApp()
    kept = remembering(app, "first")
    middleware = laned(app, way=way)
    async with watched(middleware):
        first, second, third = Wire(), Wire(), Wire()
        for wire in (first, second, third):
            wire.body(b"")
        tasks = [first.call(middleware, scope_of("alice", "first", client=client))]
        await app.entered("first")
        tasks.append(second.call(middleware, scope_of("alice", "second", client=client), context=kept[0]))
        await in_line(middleware, 1)
        tasks.append(third.call(middleware, scope_of("alice", "third", client=("198.51.100.1", 1))))
        await in_line(middleware, 2)
        app.release("first", "second", "third")
        await asyncio.gather(*tasks)
    assert [wire.status for wire in (first, second, third)] == [200, 200, 200]
    assert app.log == ["+first", "-first", "+second", "-second", "+third", "-third"]
    second_turn = app.turns["second"]
    assert second_turn is not None
    assert second_turn is not app.turns["first"]


async def test_a_stranger_that_passes_through_has_no_turn(way: str) -> None:
    """`current_turn()` is not that of the request whose context it inherited, whatever kind of request it is."""
    app = StagedApp()
    kept = remembering(app, "first")
    middleware = laned(app, way=way)
    async with watched(middleware):
        first, plain, get, other = Wire(), Wire(), Wire(), Wire()
        for wire in (first, plain, get, other):
            wire.body(b"")
        task = first.call(middleware, scope_of("alice", "first", client=CLIENT))
        await app.entered("first")
        app.release("plain", "get", "other")
        context = kept[0]
        before = context.run(current_turn)
        await plain.call(middleware, scope_of(None, "plain", client=CLIENT), context=context)
        assert context.run(current_turn) is before
        assert before is app.turns["first"]
        await get.call(middleware, scope_of("alice", "get", client=CLIENT, method="GET"), context=context.copy())
        await other.call(middleware, scope_of("bob", "other", client=CLIENT), context=context.copy())
        app.release("first")
        await task
    assert (app.turns["plain"], app.turns["get"]) == (None, None)
    other_turn = app.turns["other"]
    assert other_turn is not None
    assert other_turn.key == "bob"


async def test_behind_a_proxy_strangers_have_other_addresses(way: str) -> None:
    """One connection carries the requests of several people; the server makes their tasks alike."""
    app = StagedApp()
    kept = remembering(app, "first")
    middleware = laned(app, way=way)
    async with watched(middleware):
        first, plain, same = Wire(), Wire(), Wire()
        for wire in (first, plain, same):
            wire.body(b"")
        task = first.call(middleware, scope_of("alice", "first", client=CLIENT))
        await app.entered("first")
        app.release("plain", "same")
        client = ("198.51.100.1", 1)
        await plain.call(middleware, scope_of(None, "plain", client=client), context=kept[0].copy())
        waiting = same.call(middleware, scope_of("alice", "same", client=client), context=kept[0].copy())
        await in_line(middleware, 1)
        app.release("first")
        await task
        await waiting
    assert app.turns["plain"] is None
    assert same.status == 200


async def test_a_stranger_has_a_running_slot_of_its_own() -> None:
    """It is not nested in the turn whose context it has, so it does not share that turn's slot."""
    app = StagedApp()
    kept = remembering(app, "first")
    middleware = laned(app, lanes=Lanes(max_running=1))
    async with watched(middleware):
        first, second = Wire(), Wire()
        first.body(b"")
        second.body(b"")
        tasks = [first.call(middleware, scope_of("alice", "first", client=CLIENT))]
        await app.entered("first")
        tasks.append(second.call(middleware, scope_of("bob", "second", client=CLIENT), context=kept[0]))
        await in_line(middleware, 1)
        app.release("first", "second")
        await asyncio.gather(*tasks)
    assert app.log == ["+first", "-first", "+second", "-second"]


async def test_the_context_is_given_back_as_it_was(way: str) -> None:
    """A server that goes on in the context of the request it served finds in it what was there before."""
    app = StagedApp(held=False)
    middleware = laned(app, way=way)
    seen: list[object] = []

    async def server() -> None:
        for name, key in (("laned", "alice"), ("plain", None)):
            wire = Wire()
            wire.body(b"")
            await middleware(scope_of(key, name), wire.receive, wire.send)
            seen.append(dict(contextvars.copy_context()))
        failing = Wire()
        failing.body(b"", more=True)
        failing.disconnect()
        with pytest.raises(ConnectionError):
            await middleware(scope_of("alice", "failing"), failing.receive, failing.send)
        seen.append(dict(contextvars.copy_context()))

    async with watched(middleware):
        await asyncio.create_task(server(), context=contextvars.Context())
    assert seen == [{}, {}, {}]


async def test_a_request_in_the_context_of_a_turn_that_has_ended_is_none_of_its_business(way: str) -> None:
    """Whoever its client: the turn is over, the request is a request like any other."""
    for client in (CLIENT, ("198.51.100.1", 1)):
        app = StagedApp()
        kept = remembering(app, "first")
        app.release("first", "second")
        middleware = laned(app, way=way)
        first, second = Wire(), Wire()
        first.body(b"")
        second.body(b"")
        async with watched(middleware):
            await first.call(middleware, scope_of("alice", "first", client=CLIENT))
            await second.call(middleware, scope_of("alice", "second", client=client), context=kept[0])
        assert second.status == 200
        assert app.turns["second"] is not None


class TestFromInside:
    """A request that the app makes to itself during a turn."""

    @pytest.mark.parametrize("task", [False, True])
    async def test_for_the_same_key_is_refused_at_once(self, way: str, task: bool) -> None:
        """409 lane_reentry, in the turn's own task or in one it started, instead of a wait without an end."""
        app = StagedApp()
        middleware = laned(app, way=way)
        inner = await asked_from_inside(app, middleware, "alice", task=task, client=("testclient", 1))
        assert (inner.status, "lane_reentry" in inner.text) == (409, True)
        assert app.log == ["+outer", "-outer"]

    async def test_in_its_own_task_whoever_the_client_is(self, way: str) -> None:
        """An in-process client may call itself what the outer one is called."""
        app = StagedApp()
        middleware = laned(app, way=way)
        inner = await asked_from_inside(app, middleware, "alice", task=False, client=("127.0.0.1", 50000))
        assert inner.status == 409

    async def test_for_another_key_is_a_nested_turn(self, way: str) -> None:
        """It has a lane and a turn of its own, and the outer turn is back when it has ended."""
        app = StagedApp()
        middleware = laned(app, way=way)
        app.release("inner")
        inner = await asked_from_inside(app, middleware, "bob", task=True, client=("testclient", 1))
        assert inner.status == 200
        assert app.log == ["+outer", "+inner", "-inner", "-outer"]
        inner_turn, outer_turn = app.turns["inner"], app.turns["outer"]
        assert inner_turn is not None
        assert outer_turn is not None
        assert (inner_turn.key, outer_turn.key) == ("bob", "alice")

    async def test_without_a_lane_it_is_part_of_the_turn(self, way: str) -> None:
        """A request that passes through, or one of another method, still runs in the turn that made it."""
        app = StagedApp()
        middleware = laned(app, way=way)
        app.release("inner")
        await asked_from_inside(app, middleware, None, task=False, client=("testclient", 1))
        assert app.turns["inner"] is app.turns["outer"]

    async def test_of_another_method_it_is_part_of_the_turn(self, way: str) -> None:
        """Though it names the key of the turn: only requests that have lanes can wait for one."""
        app = StagedApp()
        middleware = laned(app, way=way)
        app.release("inner")
        client = ("testclient", 1)
        inner = await asked_from_inside(app, middleware, "alice", task=True, client=client, method="GET")
        assert inner.status == 200
        assert app.turns["inner"] is app.turns["outer"]

    async def test_across_two_lanes_a_cycle_is_refused(self, way: str) -> None:
        """A asks for the lane of B while B asks for the lane of A: the second to ask is told, the first served."""
        app = StagedApp()
        middleware = laned(app, way=way)
        answers: dict[str, Wire] = {"a": Wire(), "b": Wire()}
        for wire in answers.values():
            wire.body(b"")

        def asking(own: str, other: str) -> Any:
            async def step(_: Scope, receive: Receive, send: Send) -> None:
                await app.released(own)
                wire = answers[own]
                scope = scope_of(other, f"inner of {own}", client=("testclient", 1))
                await middleware(scope, wire.receive, wire.send)
                await answer_with(send)

            return step

        app.steps.update(a=asking("a", "b"), b=asking("b", "a"))
        async with serving(middleware) as driver:
            requests = [post(driver, "a", "a"), post(driver, "b", "b")]
            await app.entered("a")
            await app.entered("b")
            app.release("a", "inner of a")
            await in_line(middleware, 1)
            app.release("b")
            for request in requests:
                assert (await request.response()).status == 200
        assert (answers["a"].status, answers["b"].status) == (200, 409)

    async def test_detached_work_is_a_stranger(self, way: str) -> None:
        """A task started in `turn.detached()` may ask for the same lane and waits for it."""
        app = StagedApp()
        middleware = laned(app, way=way)
        later: list[asyncio.Task[None]] = []
        wire = Wire()
        wire.body(b"")

        async def follow_up() -> None:
            await middleware(scope_of("alice", "inner", client=("testclient", 1)), wire.receive, wire.send)

        async def outer(_: Scope, receive: Receive, send: Send) -> None:
            turn = current_turn()
            assert turn is not None
            with turn.detached():
                later.append(asyncio.create_task(follow_up()))
            await app.released("outer")
            await answer_with(send)

        app.steps["outer"] = outer
        async with serving(middleware) as driver:
            request = post(driver, "alice", "outer")
            await in_line(middleware, 1)
            app.release("outer", "inner")
            assert (await request.response()).status == 200
            await later[0]
        assert wire.status == 200
        assert app.log == ["+outer", "-outer", "+inner", "-inner"]


async def asked_from_inside(
    app: StagedApp,
    middleware: LaneMiddleware,
    key: str | None,
    *,
    task: bool,
    client: tuple[str, int],
    method: str = "POST",
) -> Wire:
    """Let a turn of `alice` make a request; return what it was answered."""
    wire = Wire()
    wire.body(b"")

    async def outer(_: Scope, receive: Receive, send: Send) -> None:
        inside = current_turn()
        call = middleware(scope_of(key, "inner", client=client, method=method), wire.receive, wire.send)
        async with asyncio.timeout(5):
            await (asyncio.create_task(call) if task else call)
        assert current_turn() is inside
        await answer_with(send)

    app.steps["outer"] = outer
    async with serving(middleware) as driver:
        assert (await post(driver, "alice", "outer").response()).status == 200
    return wire
