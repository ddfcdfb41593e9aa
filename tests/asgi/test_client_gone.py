"""Clients that leave: before their turn, in the moment of it, and during it."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import (
    NOBODY,
    StagedApp,
    answer_with,
    body_held,
    in_line,
    laned,
    passes,
    post,
    serving,
    watched,
)
from support.asgi_wire import Wire, scope_of
from turnlane import keys
from turnlane.hooks import TurnFinished, TurnRefused, TurnStarted
from turnlane.testing import AsgiDriver, Gates


@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_half_way_through_a_body_that_holds_the_key(pieces: int) -> None:
    """The app is not called, the request ends with what is for nobody, no turn was there."""
    app = StagedApp()
    middleware = laned(app, key=keys.json_body("key"))
    async with serving(middleware) as driver:
        with Gates(middleware.runtime.hooks) as gates:
            request = post(driver, None, "it", body=None)
            for _ in range(pieces):
                await request.send_body(b'{"key": ')
            await request.until_idle()
            request.disconnect()
            await request.finished()
        assert gates.events == []
    assert (app.log, request.messages) == ([], NOBODY)


@pytest.mark.parametrize("body", ["whole", "half", "none"])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_while_waiting_leaves_the_line_at_once(way: str, body: str, place: int) -> None:
    """Anywhere in the line: its app is never called, nobody is answered, the others keep their order."""
    app = StagedApp()
    middleware = laned(app, way=way)
    async with serving(middleware) as driver:
        with Gates(middleware.runtime.hooks) as gates:
            post(driver, "alice", "holder")
            await app.entered("holder")
            requests = [post(driver, "alice", str(number), body=None) for number in range(3)]
            for number, request in enumerate(requests):
                if number != place or body != "none":
                    await request.send_body(b"text", more=number == place and body == "half")
            await requests[2].until_idle()
            requests[place].disconnect()
            await requests[place].finished()
            assert middleware.runtime.lanes.statistics().waiting == 2
            app.release("holder", "0", "1", "2")
            for number, request in enumerate(requests):
                if number != place:
                    assert (await request.response()).status == 200
        refused = gates.at(TurnRefused).seen
    assert [(event.key, event.reason) for event in refused] == [("alice", "client_gone")]
    assert requests[place].messages == NOBODY
    others = [number for number in range(3) if number != place]
    assert app.log[2:] == [f"{sign}{number}" for number in others for sign in "+-"]
    assert app.turns.keys() == {"holder", *map(str, others)}


async def test_everybody_who_waits_leaves(way: str) -> None:
    """The line is empty before the holder has ended, and the lane serves on."""
    app = StagedApp()
    middleware = laned(app, way=way)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        requests = [post(driver, "alice", str(number), body=b"text") for number in range(10)]
        await in_line(middleware, 10)
        for request in requests[::-1]:
            request.disconnect()
        for request in requests:
            await request.finished()
        await in_line(middleware, 0)
        assert body_held(middleware) == 0
        app.release("holder", "next")
        assert (await post(driver, "alice", "next").response()).status == 200
    assert app.log == ["+holder", "-holder", "+next", "-next"]


async def test_before_its_body_was_read_at_all() -> None:
    """A server that loses the body with its client is no different."""
    app = StagedApp()
    middleware = laned(app)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        request = post(driver, "alice", "it", body=b"lost")
        request.disconnect(lose_body=True)
        await request.finished()
        app.release("holder")
    assert (app.log[:1], request.messages) == (["+holder"], NOBODY)


@pytest.mark.parametrize("moment", ["waiting", "body"])
async def test_a_server_that_minds_sending_to_nobody_is_not_a_failure(moment: str) -> None:
    """Servers of ASGI 2.4 raise `OSError` for a client that has left; that is no news then."""
    app = StagedApp()
    middleware = laned(app, key=keys.json_body("key") if moment == "body" else "x-session-key")
    async with serving(middleware, spec_version="2.4") as driver:
        if moment == "waiting":
            post(driver, "alice", "holder")
            await app.entered("holder")
        request = post(driver, "alice", "it", body=None)
        await request.until_idle()
        request.disconnect()
        await request.finished()
        app.release("holder")
    assert request.messages == []
    assert "+it" not in app.log


async def test_a_middleware_outside_sees_a_response(caplog: pytest.LogCaptureFixture) -> None:
    """Starlette's `BaseHTTPMiddleware` takes a request without one for a failure of the app."""
    app = StagedApp()
    middleware = laned(app)
    seen: list[int] = []

    async def dispatch(_: Any, call_next: Any) -> Any:
        response = await call_next(_)
        seen.append(response.status_code)
        return response

    async with watched(middleware), AsgiDriver(BaseHTTPMiddleware(middleware, dispatch)) as driver:
        holder = post(driver, "alice", "holder")
        await app.entered("holder")
        request = post(driver, "alice", "it")
        await in_line(middleware, 1)
        request.disconnect()
        await request.finished()
        app.release("holder")
        assert (await holder.response()).status == 200
    assert seen == [499, 200]
    assert caplog.records == []


class TestTheMomentOfTheHandOver:
    """The lane is handed over and the client leaves in one and the same pass of the loop."""

    async def test_leaving_seen_first_the_app_is_not_called(self, way: str) -> None:
        """The turn had started for the record, and ends as cancelled; the next gets the lane."""
        app = StagedApp()
        wire, later = Wire(), Wire()
        middleware = laned(app, way=way)

        async def last_step(_: Scope, __: Receive, send: Send) -> None:
            await app.released("holder")
            await answer_with(send)
            wire.disconnect()  # wakes the reader of the one who waits, just before the lane is handed over

        app.steps["holder"] = last_step
        async with watched(middleware):
            with Gates(middleware.runtime.hooks) as gates:
                holder = Wire().call(middleware, scope_of("alice", "holder"))
                await app.entered("holder")
                task = wire.call(middleware, scope_of("alice", "it"))
                wire.body(b"text")
                await in_line(middleware, 1)
                next_task = later.call(middleware, scope_of("alice", "next"))
                later.body(b"")
                await in_line(middleware, 2)
                await passes()
                app.release("holder", "next")
                await holder
                await task
                await next_task
            assert [event.outcome for event in gates.at(TurnFinished).seen] == ["completed", "cancelled", "completed"]
            assert gates.at(TurnRefused).seen == ()
        assert app.log == ["+holder", "-holder", "+next", "-next"]
        assert (wire.sent, later.status) == (NOBODY, 200)

    async def test_leaving_seen_last_the_app_is_not_called_either(self, way: str) -> None:
        """The lane has been handed over and whoever got it has not run yet: it looks again before it runs."""
        app = StagedApp()
        wire = Wire()
        middleware = laned(app, way=way)

        async def server(scope: Scope, receive: Receive, send: Send) -> None:
            await middleware(scope, receive, send)
            wire.disconnect()

        async with watched(middleware):
            holding = Wire()
            holder = holding.call(server, scope_of("alice", "holder"))
            holding.body(b"")
            await app.entered("holder")
            task = wire.call(middleware, scope_of("alice", "it"))
            wire.body(b"text")
            await in_line(middleware, 1)
            await passes()
            app.release("holder")
            await holder
            await task
        assert app.log == ["+holder", "-holder"]
        assert wire.sent == NOBODY

    async def test_leaving_seen_by_the_app_it_hears_of_it(self, way: str) -> None:
        """It was called with its whole body, and gets the message that was already on its way."""
        app = StagedApp()
        wire = Wire()
        middleware = laned(app, way=way)
        heard: list[Message] = []

        async def listen(_: Scope, receive: Receive, __: Send) -> None:
            wire.disconnect()
            heard.extend([await receive(), await receive()])

        app.steps["it"] = listen
        async with watched(middleware):
            holding = Wire()
            holder = holding.call(middleware, scope_of("alice", "holder"))
            holding.body(b"")
            await app.entered("holder")
            task = wire.call(middleware, scope_of("alice", "it"))
            wire.body(b"text")
            await in_line(middleware, 1)
            await passes()
            app.release("holder")
            await holder
            await task
        assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]
        assert heard[0]["body"] == b"text"

    async def test_the_next_runs_whatever_the_distance(self, way: str) -> None:
        """Some passes before or after: it ran wholly or not at all, and who stood behind it is served."""
        ran = [await self.leave(way, steps, before=before) for before in (False, True) for steps in range(8)]
        assert set(ran) == {True, False}

    async def leave(self, way: str, steps: int, *, before: bool) -> bool:
        """Let a client leave so many passes before or after its hand-over; tell whether its app was called."""
        app = StagedApp()
        middleware = laned(app, way=way)
        async with serving(middleware) as driver:
            with Gates(middleware.runtime.hooks) as gates:
                post(driver, "alice", "holder")
                await app.entered("holder")
                request = post(driver, "alice", "it", body=b"text")
                behind = post(driver, "alice", "behind")
                await behind.until_idle()
                app.release("it", "behind")
                acts: list[Callable[[], None]] = [request.disconnect, lambda: app.release("holder")]
                for act in acts if before else acts[::-1]:
                    act()
                    await passes(steps)
                assert (await behind.response()).status == 200
                await request.finished()
            started, finished = gates.at(TurnStarted).seen, gates.at(TurnFinished).seen
            refused = gates.at(TurnRefused).seen
            assert [event.turn for event in started] == [event.turn for event in finished]
            assert len(started) + len(refused) == 3
        ran = "+it" in app.log
        assert app.log == ["+holder", "-holder", *(["+it", "-it"] if ran else []), "+behind", "-behind"]
        assert (request.messages == NOBODY) is not ran
        return ran


async def test_during_its_turn_the_app_decides(way: str) -> None:
    """`pass`: the app is told like without the middleware, and the lane is held until it returns."""
    app = StagedApp()

    async def listen(_: Scope, receive: Receive, __: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        app.log.append("told")
        await app.released("it")

    app.steps["it"] = listen
    middleware = laned(app, way=way)
    async with serving(middleware) as driver:
        request = post(driver, "alice", "it")
        await app.entered("it")
        behind = post(driver, "alice", "behind")
        await behind.until_idle()
        request.disconnect()
        await behind.until_idle()
        assert app.log == ["+it", "told"]
        app.release("it", "behind")
        await behind.response()
    assert app.log == ["+it", "told", "-it", "+behind", "-behind"]
