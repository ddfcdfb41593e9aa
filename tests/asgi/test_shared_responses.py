"""`Coalesce(share_result=True)`: one response for all whose messages it answers."""

import asyncio
from typing import Any

import pytest
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Message, Receive, Scope, Send

from support.asgi_groups import WAYS, plus
from support.asgi_sessions import FailingStore
from support.asgi_staged import (
    NOBODY,
    StagedApp,
    answer_with,
    chunk,
    in_line,
    laned,
    passes,
    post,
    serving,
    start,
    watched,
)
from turnlane import Coalesce, LaneMiddleware, Runtime, Sessions, errors
from turnlane.testing import AsgiDriver, HttpRequest, Response

SHARED = Coalesce(window=0, merge=plus, share_result=True)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """The ways such a request may go: never the short one."""
    return str(request.param)


@pytest.fixture(params=["app_return", "response_end"])
def release_on(request: pytest.FixtureRequest) -> str:
    """When the lane goes."""
    return str(request.param)


async def three_waiting(driver: AsgiDriver, middleware: LaneMiddleware, app: StagedApp) -> list[HttpRequest]:
    """Let three requests wait behind one, which then ends; the newest of them is in the app."""
    holder = post(driver, "alice", "holder")
    await app.entered("holder")
    requests: list[HttpRequest] = []
    for name in ("one", "two", "three"):
        requests.append(post(driver, "alice", name, body=name.encode()))
        await in_line(middleware, len(requests))
    app.release("holder")
    assert (await holder.response()).status == 200
    await app.entered("three")
    return requests


async def all_of(requests: list[HttpRequest]) -> list[Response]:
    """Return the responses, once the app has returned."""
    responses = [await request.response() for request in requests]
    for request in requests:
        await request.finished()
    return responses


def told(response: Response) -> bool:
    """Tell whether a response says that another answers the message."""
    return response.status == 409 and response.json()["error"]["code"] == "turn_coalesced"


class TestOneResponse:
    """All get the same."""

    async def test_a_plain_one(self, way: str, release_on: str) -> None:
        """Status, headers and body, when the turn has ended and not before."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=SHARED, release_on=release_on)
        async with serving(middleware) as driver:
            requests = await three_waiting(driver, middleware, app)
            await passes()
            assert [request.messages for request in requests] == [[], [], []]
            app.release("three")
            responses = await all_of(requests)
        assert {response.raw_headers for response in responses} == {responses[2].raw_headers}
        assert [(response.status, response.text) for response in responses] == [(200, "three")] * 3
        assert app.bodies["three"] == b"one+two+three"
        assert app.log == ["+holder", "-holder", "+three", "-three"]

    async def test_a_streamed_one(self, way: str) -> None:
        """The newest sees it as it comes, the others when it is whole."""
        app = StagedApp()

        async def stream(_: Scope, __: Receive, send: Send) -> None:
            await send(start(200, (b"content-type", b"text/event-stream")))
            await send(chunk(b"data: 1\n\n"))
            await app.released("three")
            await send(chunk(b"data: 2\n\n"))
            await send(chunk(b"", more=False))

        app.steps["three"] = stream
        middleware = laned(app, way=way, policy=SHARED)
        async with serving(middleware) as driver:
            requests = await three_waiting(driver, middleware, app)
            assert await requests[2].body_chunk() == b"data: 1\n\n"
            assert requests[0].messages == []
            app.release("three")
            responses = await all_of(requests)
        assert {response.body for response in responses} == {b"data: 1\n\ndata: 2\n\n"}

    async def test_an_error_the_app_answers(self, way: str) -> None:
        """A response like any other."""
        app = StagedApp()

        async def fail(_: Scope, __: Receive, send: Send) -> None:
            await send(start(418))
            await send(chunk(b"no", more=False))

        app.steps["three"] = fail
        middleware = laned(app, way=way, policy=SHARED)
        async with serving(middleware) as driver:
            responses = await all_of(await three_waiting(driver, middleware, app))
        assert [(response.status, response.text) for response in responses] == [(418, "no")] * 3

    async def test_middlewares_outside_treat_each_as_one_of_their_own(self) -> None:
        """What one adds to the first, or makes of its body, is not in the others already."""
        app = StagedApp()

        async def say(_: Scope, __: Receive, send: Send) -> None:
            await app.released("three")
            await answer_with(send, b"x" * 1000, (b"content-length", b"1000"))

        app.steps["three"] = say
        middleware = laned(app, policy=SHARED)
        outside: Any = CORSMiddleware(GZipMiddleware(middleware), allow_origins=["*"])
        async with watched(middleware), AsgiDriver(outside) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            requests = [
                post(driver, "alice", name, headers={"accept-encoding": encoding, "origin": "http://a"})
                for name, encoding in (("one", "identity"), ("two", "gzip"), ("three", "gzip"))
            ]
            await in_line(middleware, 3)
            app.release("holder", "three")
            responses = await all_of(requests)
        assert [response.headers.get("content-encoding") for response in responses] == [None, "gzip", "gzip"]
        assert responses[0].body == b"x" * 1000
        assert responses[1].body == responses[2].body
        for response in responses:
            names = [name for name, _ in response.raw_headers]
            assert names.count(b"access-control-allow-origin") == 1
            assert names.count(b"content-length") == 1

    async def test_a_body_the_app_uses_again_is_what_it_was(self) -> None:
        """A message is kept as it was sent."""
        app = StagedApp()

        async def reuse(_: Scope, __: Receive, send: Send) -> None:
            headers = [(b"x-a", b"1")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            headers.clear()
            message: Message = chunk(b"first")
            await send(message)
            message.update(body=b"last", more_body=False)
            await send(message)

        app.steps["three"] = reuse
        middleware = laned(app, policy=SHARED)
        async with serving(middleware) as driver:
            responses = await all_of(await three_waiting(driver, middleware, app))
        assert [(response.text, response.headers["x-a"]) for response in responses[:2]] == [("firstlast", "1")] * 2


class TestNoResponse:
    """Where there is none to share, the others are told whose turn it was."""

    async def test_the_app_raises(self, way: str) -> None:
        """Before it has answered, and half-way."""
        for begun in (False, True):
            app = StagedApp()

            async def fail(_: Scope, __: Receive, send: Send, begun: bool = begun) -> None:
                if begun:
                    await send(start(200))
                    await send(chunk(b"half"))
                raise LookupError("of the app")

            app.steps["three"] = fail
            middleware = laned(app, way=way, policy=SHARED)
            async with serving(middleware) as driver:
                *others, newest = await three_waiting(driver, middleware, app)
                assert [told(response) for response in await all_of(others)] == [True, True]
                with pytest.raises(LookupError):
                    await newest.finished()

    async def test_the_app_raises_one_of_ours(self) -> None:
        """The newest gets its response, the others the turn it was."""
        app = StagedApp()

        async def refuse(_: Scope, __: Receive, ___: Send) -> None:
            raise errors.SessionConflict("alice", expected_version=1, found_version=2)

        app.steps["three"] = refuse
        middleware = laned(app, policy=SHARED)
        async with serving(middleware) as driver:
            responses = await all_of(await three_waiting(driver, middleware, app))
        assert [told(response) for response in responses] == [True, True, False]
        assert responses[2].json()["error"]["code"] == "session_conflict"

    async def test_the_response_is_longer_than_is_kept(self, way: str) -> None:
        """`body_limit` bounds what is kept of it, headers included."""
        for size, kept in ((1500, True), (2000, False)):
            app = StagedApp()

            async def talk(_: Scope, __: Receive, send: Send, size: int = size) -> None:
                await send(start(200))
                await send(chunk(b"x" * 10))
                await send(chunk(b"x" * (size - 10), more=False))

            app.steps["three"] = talk
            middleware = laned(app, way=way, policy=SHARED, body_limit=2000)
            async with serving(middleware) as driver:
                responses = await all_of(await three_waiting(driver, middleware, app))
            assert [len(response.body) == size for response in responses] == [kept, kept, True]
            assert [told(response) for response in responses] == [not kept, not kept, False]

    async def test_a_response_that_is_more_than_start_and_body(self) -> None:
        """Trailers are sent to the newest; who can not be given all of it gets nothing of it."""
        app = StagedApp()

        async def trail(_: Scope, __: Receive, send: Send) -> None:
            await send(start(200, trailers=True))
            await send(chunk(b"x", more=False))
            await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})

        app.steps["three"] = trail
        middleware = laned(app, policy=SHARED)
        async with serving(middleware, extensions={"http.response.trailers": {}}) as driver:
            responses = await all_of(await three_waiting(driver, middleware, app))
        assert [told(response) for response in responses] == [True, True, False]

    async def test_a_session_that_can_not_be_touched_takes_nothing_away(self) -> None:
        """The response was given."""
        app = StagedApp()
        store = FailingStore()
        middleware = laned(app, runtime=Runtime(sessions=Sessions(store)), policy=SHARED)
        async with serving(middleware) as driver:
            requests = await three_waiting(driver, middleware, app)
            store.fail_after = 0
            app.release("three")
            responses = await all_of(requests)
        assert [response.text for response in responses] == ["three"] * 3


class TestLeaving:
    """Clients that do not wait for the response."""

    @pytest.mark.parametrize("on_disconnect", ["pass", "finish"])
    @pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
    async def test_the_client_of_the_newest_leaves(self, way: str, on_disconnect: str, spec_version: str) -> None:
        """The others wait for the response, so the app does not hear of it and finishes."""
        app = StagedApp()
        heard: list[str] = []

        async def listen(_: Scope, receive: Receive, send: Send) -> None:
            heard.append((await receive())["type"])
            listening = asyncio.ensure_future(receive())
            await app.released("three")
            assert not listening.done()
            await answer_with(send, b"for all")
            heard.append((await listening)["type"])

        app.steps["three"] = listen
        middleware = laned(app, way=way, policy=SHARED, on_disconnect=on_disconnect)
        async with serving(middleware, spec_version=spec_version) as driver:
            one, two, three = await three_waiting(driver, middleware, app)
            three.disconnect()
            await passes()
            app.release("three")
            assert [response.text for response in await all_of([one, two])] == ["for all"] * 2
            await three.finished()
        assert heard == ["http.request", "http.disconnect"]

    async def test_one_of_the_others_leaves(self, way: str, release_on: str) -> None:
        """Its message is part of the turn all the same."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=SHARED, release_on=release_on)
        async with serving(middleware) as driver:
            one, two, three = await three_waiting(driver, middleware, app)
            one.disconnect()
            await one.finished()
            app.release("three")
            assert [response.text for response in await all_of([two, three])] == ["three"] * 2
            assert one.messages == NOBODY
        assert app.bodies["three"] == b"one+two+three"

    async def test_all_of_the_others_leave(self, way: str) -> None:
        """The newest is answered as ever."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=SHARED)
        async with serving(middleware) as driver:
            one, two, three = await three_waiting(driver, middleware, app)
            for request in (one, two):
                request.disconnect()
                await request.finished()
            app.release("three")
            assert (await three.response()).text == "three"


async def test_the_lane_goes_with_the_response_by_choice() -> None:
    """`release_on="response_end"`: the others have it while the app still runs."""
    app = StagedApp()

    async def linger(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send, b"for all")
        await app.released("three")

    app.steps["three"] = linger
    middleware = laned(app, policy=SHARED, release_on="response_end")
    async with serving(middleware) as driver:
        one, two, three = await three_waiting(driver, middleware, app)
        assert [(await request.response()).text for request in (one, two, three)] == ["for all"] * 3
        assert not three.task.done()
        app.release("three")
        await three.finished()
