"""Requests that wait side by side become one."""

import json

import pytest
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from support.asgi_groups import WAYS, held_until_released, plus, redirected, refuse, waiting
from support.asgi_staged import StagedApp, in_line, laned, post, serving
from turnlane import Coalesce, Enqueue, Lanes, messages
from turnlane.asgi.connection import LaneConnection
from turnlane.asgi.settings import Reader
from turnlane.messages import HttpMessage
from turnlane.testing import HttpRequest

PLAIN = Coalesce(window=0, merge=plus)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """The ways such a request may go: never the short one."""
    return str(request.param)


def user_of(connection: HTTPConnection) -> str | None:
    return connection.headers.get("x-user")


def name_of(connection: HTTPConnection) -> str | None:
    return connection.headers.get("x-name")


def nothing(_: HTTPConnection) -> None:
    return None


def seven(_: HTTPConnection) -> int:
    return 7


class TestOneRequest:
    """The newest has the bodies of all."""

    async def test_the_app_gets_the_merged_body_and_headers_that_fit(self, way: str) -> None:
        """Length and type are those of the body it gets, whatever the newest request said; the others are told."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=PLAIN)
        async with serving(middleware) as driver:
            headers = {"content-type": "text/plain", "content-length": "3", "x-other": "kept"}
            holder, one, two, three = await waiting(
                driver, middleware, app, "one", "two", "three", headers={**headers, "transfer-encoding": "chunked"}
            )
            app.release("holder", "three")
            response = await three.response()
            assert (response.status, response.text) == (200, "three")
            for request in (one, two):
                await redirected(request, response.headers["x-turnlane-turn"])
            assert (await holder.response()).status == 200
        assert app.bodies["three"] == b"one+two+three"
        given = [(bytes(name), bytes(value)) for name, value in app.scopes["three"]["headers"]]
        assert [value for name, value in given if name == b"content-length"] == [b"13"]
        assert [value for name, value in given if name == b"content-type"] == [b"text/merged"]
        assert (b"x-other", b"kept") in given
        assert b"transfer-encoding" not in dict(given)
        turn = app.turns["three"]
        assert turn is not None
        assert [message.body for message in turn.messages] == [b"one", b"two", b"three"]
        assert app.log == ["+holder", "-holder", "+three", "-three"]

    async def test_one_that_waits_alone_is_what_it_was(self, way: str) -> None:
        """Its body and its headers are not touched, and no merge is asked."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=Coalesce(window=0, merge=refuse))
        async with serving(middleware) as driver:
            _, one = await waiting(driver, middleware, app, "one", headers={"content-type": "a/b"})
            app.release("holder", "one")
            assert (await one.response()).status == 200
        assert app.bodies["one"] == b"one"
        assert (b"content-type", b"a/b") in app.scopes["one"]["headers"]

    async def test_accepted_is_said_by_choice(self, way: str) -> None:
        """`redirect_status=202`, in the document too."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=PLAIN, redirect_status=202)
        async with serving(middleware) as driver:
            _, one, two = await waiting(driver, middleware, app, "one", "two")
            app.release("holder", "two")
            await redirected(one, (await two.response()).headers["x-turnlane-turn"], status=202)

    async def test_openai_requests_are_merged_by_the_ready_merge(self) -> None:
        """As the README shows it."""
        app = StagedApp()
        middleware = laned(app, policy=Coalesce(window=0, merge=messages.openai_chat))
        async with serving(middleware) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            requests: list[HttpRequest] = []
            for name in ("one", "two"):
                body = json.dumps({"model": "m", "messages": [{"role": "user", "content": name}]}).encode()
                requests.append(post(driver, "alice", name, body=body, headers={"content-type": "application/json"}))
                await in_line(middleware, len(requests))
            app.release("holder", "two")
            assert (await requests[1].response()).status == 200
        merged = json.loads(app.bodies["two"])["messages"]
        assert [message["content"] for message in merged] == ["one", "two"]

    async def test_the_app_reads_its_client_after_a_merged_body(self, way: str) -> None:
        """The real `receive` follows: a client that leaves is told as ever."""
        app = StagedApp()
        seen: list[str] = []

        async def listen(_: Scope, receive: Receive, __: Send) -> None:
            while not seen or seen[-1] != "http.disconnect":
                seen.append((await receive())["type"])

        app.steps["two"] = listen
        middleware = laned(app, way=way, policy=PLAIN)
        async with serving(middleware) as driver:
            _, _, two = await waiting(driver, middleware, app, "one", "two")
            app.release("holder")
            await app.entered("two")
            two.disconnect()
            await two.task
        assert seen == ["http.request", "http.disconnect"]


class TestWhoIsApart:
    """Requests that do not become part of others."""

    async def test_those_of_different_principals(self, way: str) -> None:
        """`principal=`, sync or async, tells who speaks."""

        async def later(connection: HTTPConnection) -> str | None:
            return connection.headers.get("x-user")

        readers: list[Reader] = [user_of, later]
        for principal in readers:
            app = StagedApp()
            middleware = laned(app, way=way, policy=PLAIN, principal=principal)
            async with serving(middleware) as driver:
                post(driver, "alice", "holder")
                await app.entered("holder")
                users = {"one": "ada", "two": "bob", "three": "bob"}
                requests: dict[str, HttpRequest] = {}
                for name, user in users.items():
                    requests[name] = post(driver, "alice", name, body=name.encode(), headers={"x-user": user})
                    await in_line(middleware, len(requests))
                app.release("holder", "one", "three")
                assert (await requests["one"].response()).status == 200
                assert (await requests["three"].response()).status == 200
                assert (await requests["two"].response()).status == 409
            assert (app.bodies["one"], app.bodies["three"]) == (b"one", b"two+three")

    async def test_those_for_different_targets(self, way: str) -> None:
        """One body is a chat, the other an order to delete it: neither is merged into the other."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=PLAIN)
        targets = {"one": "/chat", "two": "/delete", "three": "/delete?all=1"}
        async with serving(middleware) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            requests: list[HttpRequest] = []
            for name, target in targets.items():
                requests.append(post(driver, "alice", name, target=target, body=name.encode()))
                await in_line(middleware, len(requests))
            app.release("holder", *targets)
            assert [(await request.response()).status for request in requests] == [200, 200, 200]
        assert app.bodies == {"holder": b"", "one": b"one", "two": b"two", "three": b"three"}

    async def test_a_body_longer_than_is_read_ahead(self, way: str) -> None:
        """It stands alone, and the app gets all of it."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=PLAIN, body_limit=5)
        async with serving(middleware) as driver:
            _, one, long, two = await waiting(driver, middleware, app, "one", "longer than that", "two")
            app.release("holder", "one", "longer than that", "two")
            for request in (one, long, two):
                assert (await request.response()).status == 200
        assert app.bodies["longer than that"] == b"longer than that"
        assert app.log[2::2] == ["+one", "+longer than that", "+two"]

    async def test_the_merged_body_may_be_longer_than_that(self) -> None:
        """Each was short enough."""
        app = StagedApp()
        middleware = laned(app, policy=PLAIN, body_limit=5)
        async with serving(middleware) as driver:
            _, _, two = await waiting(driver, middleware, app, "one", "two")
            app.release("holder", "two")
            assert (await two.response()).status == 200
        assert app.bodies["two"] == b"one+two"

    async def test_streams_and_others_where_the_response_is_shared(self) -> None:
        """Nobody gets a stream who has not asked for one."""
        app = StagedApp()
        middleware = laned(app, policy=Coalesce(window=0, merge=plus, share_result=True))
        bodies = {"one": b'{"stream": true}', "two": b"{}", "three": b"text", "four": b"[" * 100_000}
        async with serving(middleware) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            requests: list[HttpRequest] = []
            for name, body in bodies.items():
                requests.append(post(driver, "alice", name, body=body))
                await in_line(middleware, len(requests))
            app.release("holder", "one", "four")
            assert [(await request.response()).text for request in requests] == ["one", "four", "four", "four"]


class TestCustomMessages:
    """`message=`."""

    async def test_the_app_reads_what_the_extractor_found(self, way: str) -> None:
        """Without a merge too: the body is that of the newest, the messages are of all."""

        async def later(connection: LaneConnection) -> str:
            return (await connection.body()).decode().upper()

        for extractor, expected in ((later, ("ONE", "TWO")), (name_of, ("one", "two"))):
            app = StagedApp()
            middleware = laned(app, way=way, policy=Coalesce(window=0), message=extractor)
            async with serving(middleware) as driver:
                _, _, two = await waiting(driver, middleware, app, "one", "two")
                app.release("holder", "two")
                assert (await two.response()).status == 200
            turn = app.turns["two"]
            assert turn is not None
            assert (turn.messages, turn.message) == (expected, expected[-1])
            assert app.bodies["two"] == b"two"

    async def test_what_a_merge_makes_of_them_is_the_message(self) -> None:
        """Of whatever type, the body stays that of the newest."""
        app = StagedApp()
        middleware = laned(
            app,
            policy=Coalesce(window=0, merge=" and ".join),
            message=name_of,
        )
        async with serving(middleware) as driver:
            _, _, two = await waiting(driver, middleware, app, "one", "two")
            app.release("holder", "two")
            assert (await two.response()).status == 200
        turn = app.turns["two"]
        assert turn is not None
        assert (turn.message, app.bodies["two"]) == ("one and two", b"two")

    async def test_a_body_that_is_put_in_place_of_another_is_all_the_app_gets(self) -> None:
        """Also where the extractor does not look at bodies: one that is not read whole stands alone, as it came."""

        def named(connection: LaneConnection) -> HttpMessage:
            return HttpMessage((name_of(connection) or "").encode(), "text/plain")

        app = StagedApp()
        app.steps["holder"] = held_until_released(app)
        middleware = laned(app, policy=PLAIN, message=named, body_limit=10)
        async with serving(middleware) as driver:
            requests = [post(driver, "alice", "holder", body=b"")]
            await app.entered("holder")
            for number, (name, size) in enumerate({"one": 3, "two": 3, "long": 11}.items(), start=1):
                requests.append(post(driver, "alice", name, body=b"x" * size))
                await in_line(middleware, number)
            app.release("holder", "two", "long")
            assert [(await request.response()).status for request in requests] == [200, 409, 200, 200]
        assert (app.bodies["two"], app.bodies["long"]) == (b"one+two", b"x" * 11)

    async def test_a_request_without_a_message_stands_alone(self) -> None:
        """None is no message."""
        app = StagedApp()
        middleware = laned(app, policy=PLAIN, message=nothing)
        async with serving(middleware) as driver:
            _, one, two = await waiting(driver, middleware, app, "one", "two")
            app.release("holder", "one", "two")
            assert [(await request.response()).status for request in (one, two)] == [200, 200]

    async def test_a_principal_that_is_no_text_is_an_error_of_the_server(self) -> None:
        """Raised, as an error of the app is."""
        app = StagedApp()
        async with serving(laned(app, policy=PLAIN, principal=seven)) as driver:
            request = post(driver, "alice", "it")
            with pytest.raises(TypeError, match="principal= must return a str or None, not int"):
                await request.finished()


async def test_another_policy_between_keeps_them_apart() -> None:
    """Two middlewares on the same lanes."""
    app = StagedApp()
    lanes = Lanes()
    middleware = laned(app, lanes=lanes, policy=PLAIN)
    async with serving(middleware) as driver, serving(laned(app, lanes=lanes, policy=Enqueue())) as other:
        _, one = await waiting(driver, middleware, app, "one")
        between = post(other, "alice", "between")
        await in_line(middleware, 2)
        two = post(driver, "alice", "two", body=b"two")
        await in_line(middleware, 3)
        app.release("holder", "one", "between", "two")
        for request in (one, between, two):
            assert (await request.response()).status == 200
    assert app.log[2::2] == ["+one", "+between", "+two"]
