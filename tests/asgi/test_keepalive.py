"""Keep-alive: who gets it, what is sent while a request waits, and how the wait ends."""

from typing import Any

import pytest

from support.asgi_kept import AT_ONCE, EVENTS, QUEUED, STREAM, ask_for_stream, error_in, kept, kept_behind, says
from support.asgi_sessions import SID, sessions_behind
from support.asgi_staged import StagedApp, chunk, in_line, laned, passes, post, serving, start, until
from support.asgi_wire import Wire, scope_of
from turnlane import Enqueue, Interrupt, KeepAlive, LaneMiddleware, Runtime
from turnlane.hooks import TurnRefused
from turnlane.testing import AsgiDriver, Gates, HttpRequest

NEVER_YET = KeepAlive(after=3600)
OFTEN = KeepAlive(after=0, every=0.01)
CHUNKS = (chunk(b"id: 1\nda"), chunk(b"ta: one\n\n"), chunk(b""), chunk(b"id: 2\ndata: two\n\n"))


def sleeping(middleware: LaneMiddleware) -> str:
    """Return what the beats say of themselves."""
    return repr(middleware._settings.beats)  # pyright: ignore[reportPrivateUsage]


async def test_comment_lines_and_then_the_stream_as_it_is(way: str) -> None:
    """Start, comment lines, the app's chunks one by one and unchanged; nothing of ours after them."""
    app = StagedApp()
    says(app, "it", start(200, EVENTS, (b"x-of-the-app", b"1")), *CHUNKS, chunk(b"", more=False))
    middleware = laned(app, way=way, keepalive=OFTEN)
    async with serving(middleware) as driver:
        request = await kept_behind(driver, app)
        for _ in range(3):
            assert await request.body_chunk() == QUEUED
        app.release("ahead")
        await request.finished()
        assert sleeping(middleware).endswith("waiting=0>")
    begin, *rest = request.messages
    assert (begin["type"], begin["status"]) == ("http.response.start", 200)
    assert begin["headers"][:3] == [
        EVENTS,
        (b"cache-control", b"no-cache, no-store"),
        (b"x-accel-buffering", b"no"),
    ]
    comments = rest[: -len(CHUNKS) - 1]
    assert len(comments) >= 4
    assert all(message == chunk(QUEUED) for message in comments)
    assert rest[len(comments) :] == [*CHUNKS, chunk(b"", more=False)]


@pytest.mark.parametrize("first", ["at once", "after a wait"])
async def test_who_does_not_wait_for_long_is_not_touched(way: str, first: str) -> None:
    """A request that had its lane within the window gets its whole response, and no timer is left."""
    app = StagedApp()
    says(app, "it", start(200, EVENTS, (b"set-cookie", b"a=1")), chunk(b"data: 1\n\n", more=False))
    middleware = laned(app, way=way, keepalive=NEVER_YET)
    async with serving(middleware) as driver:
        if first == "after a wait":
            post(driver, "k", "ahead")
            await app.entered("ahead")
        request = ask_for_stream(driver)
        if first == "after a wait":
            await in_line(middleware, 1)
            await passes()
            assert request.messages == []
            app.release("ahead")
        response = await request.response()
        assert sleeping(middleware).endswith("waiting=0>")
    assert response.body == b"data: 1\n\n"
    assert response.headers["set-cookie"] == "a=1"
    assert "x-turnlane-waited-ms" in response.headers


async def test_a_refusal_in_the_silent_window_is_a_real_one(way: str) -> None:
    """Status, Retry-After and document are those of the table."""
    app = StagedApp()
    async with kept(app, way=way, keepalive=NEVER_YET, policy=Enqueue(wait_timeout=0.01)) as driver:
        post(driver, "k", "ahead")
        await app.entered("ahead")
        response = await ask_for_stream(driver).response()
        app.release("ahead")
    assert (response.status, response.json()["error"]["code"]) == (503, "wait_timeout")
    assert response.headers["content-type"] == "application/problem+json"
    assert "retry-after" in response.headers


ACCEPT = "text/event-stream"
ASKED: dict[str, tuple[dict[str, str], bytes, bool]] = {
    "stream: true": ({}, STREAM, True),
    "stream: true among others": ({}, b'{"messages": [{"stream": false}], "stream": true}', True),
    "stream: true, whatever is accepted": ({"accept": "application/json"}, STREAM, True),
    "stream: false": ({}, b'{"stream": false}', False),
    "stream: false, whatever is accepted": ({"accept": ACCEPT}, b'{"stream": false}', False),
    "stream: 1": ({}, b'{"stream": 1}', False),
    "stream in words": ({}, b'{"stream": "true"}', False),
    "further in": ({}, b'{"options": {"stream": true}}', False),
    "an array": ({}, b'["stream", true]', False),
    "torn": ({}, b'{"stream": true', False),
    "deep": ({}, b'{"stream": ' + b"[" * 100_000, False),
    "bytes": ({}, b'\xff\xfe{"stream"', False),
    "nothing": ({}, b"", False),
    "accepted": ({"accept": ACCEPT}, b"", True),
    "accepted, with a parameter": ({"accept": "Text/Event-Stream; charset=utf-8"}, b"hello", True),
    "accepted, stream: null": ({"accept": ACCEPT}, b'{"stream": null}', True),
    "accepted among others": ({"accept": f"application/json, {ACCEPT}"}, b"{}", False),
    "anything accepted": ({"accept": "*/*"}, b"{}", False),
}


@pytest.mark.parametrize("name", ASKED)
async def test_only_who_asked_for_a_stream_gets_comment_lines(name: str) -> None:
    """Nothing is sent to the others, who get what they would get without it."""
    headers, body, asked = ASKED[name]
    app = StagedApp()
    middleware = laned(app, keepalive=AT_ONCE)
    async with serving(middleware) as driver:
        post(driver, "k", "ahead")
        await app.entered("ahead")
        request = ask_for_stream(driver, body=body, headers=headers)
        if asked:
            assert await request.body_chunk() == QUEUED
        else:
            await in_line(middleware, 1)
            await until(lambda: "waiting=0" in sleeping(middleware))
            await passes()
            assert request.messages == []
        app.release("ahead", "it")
        await request.finished()
    assert app.bodies["it"] == body


async def test_a_method_without_a_body_gets_none() -> None:
    """HEAD has nowhere to put a comment."""
    app = StagedApp()
    async with kept(app, methods={"POST", "HEAD"}) as driver:
        post(driver, "k", "ahead")
        await app.entered("ahead")
        request = driver.start("HEAD", "/", headers={"x-session-key": "k", "x-name": "it", "accept": ACCEPT})
        await request.until_idle()
        assert request.messages == []
        app.release("ahead", "it")
        await request.finished()


async def beats_beside(driver: AsgiDriver) -> HttpRequest:
    """Let several beats go by, as a stream sees them that waits in the same line."""
    beside = post(driver, "k", "beside", headers={"accept": ACCEPT})
    for _ in range(3):
        assert await beside.body_chunk() == QUEUED
    return beside


async def test_nothing_is_sent_before_the_body_has_come() -> None:
    """A client may not read while it writes; what it asks for is known at the end only."""
    app = StagedApp()
    async with kept(app, keepalive=OFTEN) as driver:
        post(driver, "k", "ahead")
        await app.entered("ahead")
        request = ask_for_stream(driver, body=None, headers={"accept": ACCEPT})
        await request.send_body(STREAM[:9])
        beside = await beats_beside(driver)
        assert request.messages == []
        await request.send_body(STREAM[9:], more=False)
        assert await request.body_chunk() == QUEUED
        app.release("ahead", "it", "beside")
        await request.finished()
        await beside.finished()
    assert app.bodies["it"] == STREAM


async def test_a_body_over_the_limit_gets_none() -> None:
    """It is not read while its request waits."""
    app = StagedApp()
    async with kept(app, keepalive=OFTEN, body_limit=4) as driver:
        post(driver, "k", "ahead")
        await app.entered("ahead")
        request = ask_for_stream(driver, headers={"content-length": str(len(STREAM)), "accept": ACCEPT})
        beside = await beats_beside(driver)
        assert request.messages == []
        app.release("ahead", "it", "beside")
        assert (await request.response()).text == "it"
        await beside.finished()


class TestRefusals:
    """What ends a wait after the first comment line ends the stream with an error event."""

    async def test_that_waited_too_long(self, way: str) -> None:
        """The response is complete; the app was never called."""
        app = StagedApp()
        async with kept(app, way=way, policy=Enqueue(wait_timeout=0.05)) as driver:
            request = await kept_behind(driver, app)
            await request.finished()
            app.release("ahead")
        document = error_in(request.messages)
        assert (document["error"]["code"], document["error"]["type"]) == ("wait_timeout", "overloaded_error")
        assert app.log == ["+ahead", "-ahead"]

    async def test_that_is_drained(self, way: str) -> None:
        """At once, not when the others have ended."""
        app = StagedApp()
        middleware = laned(app, way=way, keepalive=AT_ONCE)
        async with serving(middleware) as driver:
            request = await kept_behind(driver, app)
            await middleware.runtime.drain(timeout=0)
            await request.finished()
            app.release("ahead")
        assert error_in(request.messages)["error"]["code"] == "draining"

    async def test_that_is_superseded(self, way: str) -> None:
        """With the turn that took its place."""
        app = StagedApp()
        async with kept(app, way=way, policy=Interrupt(grace=30)) as driver:
            request = await kept_behind(driver, app)
            newer = post(driver, "k", "newer")
            await request.finished()
            app.release("ahead", "newer")
            into = (await newer.response()).headers["x-turnlane-turn"]
        document = error_in(request.messages)
        assert (document["error"]["code"], document["into"]) == ("turn_interrupted", into)

    @pytest.mark.parametrize("said", [(), (start(200, EVENTS), *CHUNKS)], ids=["before its stream", "in its stream"])
    async def test_that_is_interrupted_while_it_runs(self, said: tuple[Any, ...], way: str) -> None:
        """Before its stream and in the middle of it."""
        app = StagedApp()

        async def step(_: Any, __: Any, send: Any) -> None:
            for message in said:
                await send(message)
            await app.released("never")

        app.steps["it"] = step
        async with kept(app, way=way, policy=Interrupt(grace=0)) as driver:
            # The first one is interrupted by "it", which waits for its cleanup and then is interrupted itself.
            app.steps["ahead"] = slow_to_end(app)
            request = await kept_behind(driver, app)
            app.release("ahead")
            await app.entered("it")
            await until(lambda: len(request.messages) >= 2 + len(said[1:]))
            app.release("newer")
            assert (await post(driver, "k", "newer").response()).status == 200
            await request.finished()
        assert error_in(request.messages)["error"]["code"] == "turn_interrupted"
        assert [message["body"] for message in request.messages[2:-1]] == [message["body"] for message in said[1:]]

    async def test_that_is_interrupted_while_a_comment_line_is_sent(self, way: str) -> None:
        """It was handed its lane meanwhile: it is told, its app is never called, and the newer one runs."""
        app = StagedApp()
        app.steps["ahead"] = slow_to_end(app)
        async with kept(app, way=way, policy=Interrupt(grace=0)) as driver:
            post(driver, "k", "ahead")
            await app.entered("ahead")
            request = ask_for_stream(driver, backpressure=True)
            await until(lambda: len(request.messages) == 1)
            app.release("ahead", "newer")
            await until(lambda: "-ahead" in app.log)
            newer = post(driver, "k", "newer")
            await request.response()
            assert (await newer.response()).status == 200
        assert error_in(request.messages)["error"]["code"] == "turn_interrupted"
        assert "+it" not in app.log

    async def test_that_took_too_long(self, way: str) -> None:
        """A turn timeout before the app's stream."""
        app = StagedApp()
        async with kept(app, way=way, turn_timeout=0.2) as driver:
            request = await kept_behind(driver, app)
            await request.finished()
        assert error_in(request.messages)["error"]["code"] == "turn_timeout"
        assert app.log == ["+ahead", "-ahead", "+it", "-it"]


def slow_to_end(app: StagedApp) -> Any:
    """Return what ends, interrupted, only when the test says so."""

    async def step(_: Any, __: Any, ___: Any) -> None:
        try:
            await app.released("never")
        finally:
            await app.released("ahead")

    return step


async def test_a_session_that_moved_waits_on_in_the_same_response() -> None:
    """A second line, for its id went to another lane: no second start, and its comment lines keep their rhythm."""
    app = StagedApp()
    says(app, "it", start(200, EVENTS), chunk(b"data: 1\n\n", more=False))
    keepalive = KeepAlive(after=0, every=3600)
    async with sessions_behind(app, session_id=SID, keepalive=keepalive) as (driver, sessions, middleware):
        old = await sessions.resolve("alice")
        post(driver, "alice", "holder")
        await app.entered("holder")
        request = ask_for_stream(driver, key="alice", headers={SID: old.id})
        assert await request.body_chunk() == QUEUED
        await sessions.renew("alice")
        post(driver, None, "new holder", headers={SID: old.id})
        await app.entered("new holder")
        app.release("holder")
        await until(lambda: "-holder" in app.log)
        await in_line(middleware, 1)
        await passes()
        app.release("new holder")
        response = await request.response()
    assert response.body == QUEUED + b"data: 1\n\n"


class TestHeaders:
    """What is known when the first comment line is sent."""

    async def test_turn_and_position_and_no_wait(self, way: str) -> None:
        """The turn is the one the app sees; nobody knows yet how long it will wait."""
        app = StagedApp()
        says(app, "it", start(200, EVENTS), chunk(b"", more=False))
        async with kept(app, way=way, policy=Enqueue(hint_after=1)) as driver:
            request = await kept_behind(driver, app)
            app.release("ahead")
            response = await request.response()
        turn = app.turns["it"]
        assert turn is not None
        assert response.headers == {
            "content-type": "text/event-stream",
            "cache-control": "no-cache, no-store",
            "x-accel-buffering": "no",
            "x-turnlane-turn": turn.id,
            "x-turnlane-position": "1",
            "x-turnlane-hint": "queued",
        }

    async def test_none_where_none_are_wanted(self, way: str) -> None:
        """`headers=False`."""
        app = StagedApp()
        says(app, "it", start(200, EVENTS), chunk(b"", more=False))
        async with kept(app, way=way, headers=False) as driver:
            request = await kept_behind(driver, app)
            app.release("ahead")
            response = await request.response()
        assert not [name for name in response.headers if name.startswith(("x-turnlane", "x-session"))]

    @pytest.mark.parametrize("visible", [True, False])
    async def test_a_session_that_is_asked_for_by_its_id(self, visible: bool) -> None:
        """Its id is known before the wait; a hand-off that leaves no trace does not tell it."""
        app = StagedApp()
        runtime = Runtime(sessions="memory://")
        sessions = runtime.sessions
        assert sessions is not None
        session = await sessions.resolve("k")
        says(app, "it", start(200, EVENTS), chunk(b"", more=False))
        async with kept(app, runtime=runtime, session_id="x-sid", visible=visible) as driver:
            request = await kept_behind(driver, app, headers={"x-sid": session.id})
            app.release("ahead")
            response = await request.response()
        assert response.headers.get("x-session-id") == (session.id if visible else None)


class TestLeaving:
    """Clients that leave, and servers that cancel, after the first comment line."""

    async def test_a_client_leaves_the_line_at_once(self, way: str) -> None:
        """As before the first comment line."""
        app = StagedApp()
        middleware = laned(app, way=way, keepalive=AT_ONCE)
        async with serving(middleware) as driver:
            with Gates(middleware.runtime.hooks) as gates:
                request = await kept_behind(driver, app)
                request.disconnect()
                await request.finished()
                assert [event.reason for event in gates.at(TurnRefused).seen] == ["client_gone"]
                app.release("ahead")
        assert "+it" not in app.log

    async def test_a_server_says_so_to_who_sends(self) -> None:
        """Some tell it by an error of `send`, and a comment line may be the first to meet it."""
        app, wire = StagedApp(), Wire()
        middleware = laned(app, keepalive=AT_ONCE)

        async def broken(message: Any) -> None:
            raise OSError("the client left")

        wire.send = broken  # type: ignore[method-assign]
        async with serving(middleware) as driver:
            with Gates(middleware.runtime.hooks) as gates:
                post(driver, "k", "ahead")
                await app.entered("ahead")
                wire.body(STREAM)
                await wire.call(middleware, scope_of("k"))
                assert [event.reason for event in gates.at(TurnRefused).seen] == ["client_gone"]
                app.release("ahead")
        assert "+it" not in app.log

    @pytest.mark.parametrize("moment", ["between two comment lines", "in a comment line", "in it, with the lane"])
    async def test_a_server_that_cancels_gets_its_cancellation_back(self, moment: str, way: str) -> None:
        """Nothing more is sent; a lane that had been handed over by then is passed on."""
        app = StagedApp()
        middleware = laned(app, way=way, keepalive=AT_ONCE)
        async with serving(middleware) as driver:
            post(driver, "k", "ahead")
            await app.entered("ahead")
            request = ask_for_stream(driver, backpressure=moment != "between two comment lines")
            if moment == "between two comment lines":
                assert await request.body_chunk() == QUEUED
                await passes()
            else:
                await until(lambda: len(request.messages) == 1)
            sent = len(request.messages)
            behind = post(driver, "k", "behind")
            await in_line(middleware, 2)
            if moment == "in it, with the lane":
                app.release("ahead")
                await until(lambda: "-ahead" in app.log)
            await request.cancel()
            assert request.task.cancelled()
            app.release("ahead", "behind")
            assert (await behind.response()).status == 200
        assert len(request.messages) == sent
        assert "+it" not in app.log

    async def test_a_turn_that_comes_while_a_comment_line_is_sent_runs_after_it(self, way: str) -> None:
        """A slow client: its own turn waits for it, nobody else's comment lines do."""
        app = StagedApp()
        says(app, "it", start(200, EVENTS), chunk(b"data: 1\n\n", more=False))
        async with kept(app, way=way) as driver:
            post(driver, "k", "ahead")
            await app.entered("ahead")
            slow = ask_for_stream(driver, backpressure=True)
            await until(lambda: len(slow.messages) == 1)
            other = ask_for_stream(driver, "other")
            assert await other.body_chunk() == QUEUED
            app.release("ahead")
            await passes()
            assert "+it" not in app.log
            assert (await slow.response()).body == QUEUED + b"data: 1\n\n"
            app.release("other")
            await other.finished()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"after": -1}, "after"),
        ({"after": float("nan")}, "after"),
        ({"after": float("inf")}, "after"),
        ({"after": "10"}, "after"),
        ({"every": 0}, "every"),
        ({"every": True}, "every"),
        ({"every": float("inf")}, "every"),
    ],
)
def test_a_wrong_number_is_named(settings: dict[str, Any], named: str) -> None:
    """When the value is made."""
    with pytest.raises(ValueError, match=named):
        KeepAlive(**settings)


@pytest.mark.parametrize("wrong", [True, "10", -1, float("inf"), KeepAlive, {"after": 1}])
def test_a_wrong_setting_is_named(wrong: Any) -> None:
    """When the app is put together."""
    with pytest.raises(ValueError, match="keepalive"):
        laned(StagedApp(), keepalive=wrong)


async def test_a_number_is_the_silent_window() -> None:
    """In seconds, whole or not; the rest is as usual."""
    assert "KeepAlive(after=2.0, every=15.0)" in sleeping(laned(StagedApp(), keepalive=2))
    assert "after=0.5" in sleeping(laned(StagedApp(), keepalive=0.5))
    assert sleeping(laned(StagedApp())) == "None"
