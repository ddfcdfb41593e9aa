"""`body_limit` and `body_budget`: what is read ahead of the app is bounded, per request and for all."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_staged import (
    KEY,
    StagedApp,
    answer_with,
    body_held,
    in_line,
    laned,
    passes,
    post,
    serving,
    until,
    watched,
)
from support.asgi_wire import Wire, scope_of
from turnlane import LaneMiddleware, keys
from turnlane.hooks import TurnRefused
from turnlane.testing import Gates

LIMIT = 64


def document(size: int) -> bytes:
    """Return a JSON document of so many bytes with the key `alice`."""
    body = b'{"key": "alice", "pad": "'
    return body + b"x" * (size - len(body) - 2) + b'"}'


def cut(body: bytes, size: int) -> Sequence[bytes]:
    """Return the body in pieces."""
    return [body[at : at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("size", [1, 7, LIMIT, 1000])
@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 413), (1000, 413)])
async def test_a_key_in_the_body_is_read_up_to_the_limit(over: int, status: int, size: int, declared: bool) -> None:
    """One byte more is 413; the app is then not called, and nothing is held afterwards."""
    app = StagedApp(held=False)
    body = document(LIMIT + over)
    headers = {"content-length": str(len(body))} if declared else {}
    async with serving(laned(app, key=keys.json_body("key"), body_limit=LIMIT)) as driver:
        request = post(driver, None, "it", headers=headers, body=None)
        for piece in cut(body, size):
            await request.send_body(piece)
        await request.send_body(b"", more=False)
        response = await request.response()
    assert response.status == status
    assert app.bodies == ({"it": body} if status == 200 else {})
    if status == 413:
        assert response.json()["error"] == {
            "message": "the body of this request is too large to find its session key in (key in the JSON body)",
            "type": "invalid_request_error",
            "param": "key in the JSON body",
            "code": "body_too_large",
        }


async def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    """413 without a look at it: no 100-continue is provoked, nothing is uploaded."""
    wire = Wire()
    middleware = laned(StagedApp(), key=keys.json_body("key"), body_limit=LIMIT)
    headers = [(b"content-length", b"65"), (b"expect", b"100-continue")]
    await wire.call(middleware, scope_of(headers=headers))
    assert (wire.status, wire.asked) == (413, 0)


async def test_a_body_too_large_is_read_no_further_than_it_must() -> None:
    """413 with the piece that passes the limit, though the client has more to say."""
    wire = Wire()
    middleware = laned(StagedApp(), key=keys.json_body("key"), body_limit=LIMIT)
    for _ in range(5):
        wire.body(b"x" * 40, more=True)
    async with watched(middleware):
        await wire.call(middleware, scope_of())
    assert (wire.status, wire.asked) == (413, 2)


@pytest.mark.parametrize("declared", [False, True])
async def test_the_body_is_not_looked_at_where_the_key_is_found_before(declared: bool) -> None:
    """A header that comes first lets a body of any size pass."""
    app = StagedApp(held=False)
    body = document(1000)
    headers = {"content-length": str(len(body))} if declared else {}
    key = keys.first_of(KEY, keys.json_body("key"))
    async with serving(laned(app, key=key, body_limit=LIMIT)) as driver:
        response = await post(driver, "alice", "it", headers=headers, body=body).response()
    assert response.status == 200
    assert app.bodies["it"] == body


async def test_an_override_that_may_stand_in_the_body_must_be_looked_for() -> None:
    """With a header and a body too large to look into, nobody can tell the lane: 413 rather than a guess."""
    app = StagedApp()
    key = keys.overridable(KEY, keys.json_body("override"))
    async with serving(laned(app, key=key, body_limit=LIMIT)) as driver:
        assert (await post(driver, "alice", "it", body=document(LIMIT + 1)).response()).status == 413
    assert app.log == []


@pytest.mark.parametrize("over", [-1, 0, 1, 1000])
async def test_a_request_that_waits_is_never_refused_for_its_size(way: str, over: int) -> None:
    """Below, at and beyond the limit: it runs in its turn with all of its body."""
    app = StagedApp()
    body = document(LIMIT + over)
    async with serving(laned(app, way=way, body_limit=LIMIT)) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        request = post(driver, "alice", "it", body=None)
        for piece in cut(body, 10):
            await request.send_body(piece)
        await request.send_body(b"", more=False)
        await request.until_idle()
        app.release("holder", "it")
        assert (await request.response()).status == 200
    assert app.bodies["it"] == body


async def test_a_callable_that_reads_the_body_may_live_without_it() -> None:
    """It is told by `BodyTooLarge`, and what it then answers counts; the app has the whole body."""
    from turnlane.errors import BodyTooLarge

    async def find(connection: Any) -> str:
        try:
            await connection.body()
        except BodyTooLarge as error:
            return f"larger-than-{error.body_limit}"
        raise AssertionError

    app = StagedApp(held=False)
    body = document(1000)
    async with serving(laned(app, key=find, body_limit=LIMIT)) as driver:
        assert (await post(driver, None, "it", body=body).response()).status == 200
    turn = app.turns["it"]
    assert turn is not None
    assert (turn.key, app.bodies["it"]) == ("larger-than-64", body)


class TestBudget:
    """`body_budget`: what all bodies held may have together."""

    async def test_a_waiting_request_beyond_it_is_refused(self, way: str) -> None:
        """503 capacity with Retry-After; it leaves the line, those who had room stay, and run with their bodies."""
        app = StagedApp()
        middleware = laned(app, way=way, body_budget=100)
        async with serving(middleware) as driver:
            with Gates(middleware.runtime.hooks) as gates:
                post(driver, "alice", "holder")
                await app.entered("holder")
                kept = [post(driver, "alice", f"kept-{number}", body=b"x" * 40) for number in range(2)]
                await kept[1].until_idle()
                response = await post(driver, "alice", "beyond", body=b"y" * 21).response()
                assert (response.status, response.json()["error"]["code"]) == (503, "capacity")
                assert 1 <= int(response.headers["retry-after"]) <= 60
                assert body_held(middleware) == 80
                fits = post(driver, "alice", "fits", body=b"z" * 20)
                await fits.until_idle()
                assert body_held(middleware) == 100
                app.release("holder", "kept-0", "kept-1", "fits")
                for request in (*kept, fits):
                    assert (await request.response()).status == 200
            assert [event.reason for event in gates.at(TurnRefused).seen] == ["capacity"]
        assert {name: len(body) for name, body in app.bodies.items()} == {
            "holder": 0,
            "kept-0": 40,
            "kept-1": 40,
            "fits": 20,
        }

    async def test_that_grows_beyond_it_piece_by_piece_is_refused(self) -> None:
        """The piece that passes the budget is the one that counts."""
        app = StagedApp()
        middleware = laned(app, body_budget=10)
        async with serving(middleware) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            request = post(driver, "alice", "it", body=None)
            for _ in range(10):
                await request.send_body(b"x")
            await request.until_idle()
            assert (request.messages, body_held(middleware)) == ([], 10)
            await request.send_body(b"x")
            assert (await request.response()).status == 503
            assert body_held(middleware) == 0

    async def test_a_body_read_for_its_key_beyond_it_is_refused(self) -> None:
        """Before there is a turn; nothing of it is kept, and the next that fits is served."""
        app = StagedApp(held=False)
        middleware = laned(app, key=keys.json_body("key"), body_budget=LIMIT)
        async with serving(middleware) as driver:
            response = await post(driver, None, "beyond", body=document(LIMIT + 1)).response()
            assert (response.status, response.json()["error"]["code"]) == (503, "capacity")
            assert body_held(middleware) == 0
            assert (await post(driver, None, "fits", body=document(LIMIT)).response()).status == 200

    async def test_passed_in_the_moment_of_the_hand_over(self, way: str) -> None:
        """Who has its lane already is not refused any more, and has all of its body."""
        app, wire = StagedApp(), Wire()
        middleware = laned(app, way=way, body_budget=5)

        async def last_step(_: Scope, __: Receive, send: Send) -> None:
            await app.released("holder")
            await answer_with(send)
            wire.body(b"-and more")  # wakes the reader just before the lane is handed over

        app.steps["holder"] = last_step
        async with watched(middleware):
            holder = Wire().call(middleware, scope_of("alice", "holder"))
            await app.entered("holder")
            task = wire.call(middleware, scope_of("alice", "it"))
            wire.body(b"half", more=True)
            await in_line(middleware, 1)
            await passes()
            app.release("holder", "it")
            await holder
            async with asyncio.timeout(5):
                await task
        assert (wire.status, app.bodies["it"]) == (200, b"half-and more")
        assert body_held(middleware) == 0

    async def test_of_nothing_lets_requests_without_a_body_wait(self) -> None:
        """Zero bytes need no room."""
        app = StagedApp()
        async with serving(laned(app, body_budget=0)) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            request = post(driver, "alice", "it")
            await request.until_idle()
            app.release("holder", "it")
            assert (await request.response()).status == 200

    async def test_is_not_needed_where_nothing_is_held(self, way: str) -> None:
        """An idle lane passes a body of any size on."""
        app = StagedApp(held=False)
        async with serving(laned(app, way=way, body_budget=0)) as driver:
            assert (await post(driver, "alice", "it", body=b"x" * 1000).response()).status == 200
        assert len(app.bodies["it"]) == 1000

    async def test_many_waiters_share_it(self) -> None:
        """A thousand on one lane: those beyond the budget are refused, no more and no fewer."""
        app = StagedApp()
        middleware = laned(app, body_budget=50_000, policy=unlimited())
        async with serving(middleware) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            requests = [post(driver, "alice", str(number), body=b"x" * 100) for number in range(1000)]
            await requests[-1].until_idle()
            assert body_held(middleware) == 50_000
            await in_line(middleware, 500)
            app.release("holder", *map(str, range(1000)))
            statuses = [(await request.response()).status for request in requests]
        assert statuses == [200] * 500 + [503] * 500
        assert app.log[2:] == [f"{sign}{number}" for number in range(500) for sign in "+-"]

    @pytest.mark.parametrize("ending", ["answered", "unread", "failed", "left", "cancelled", "timed out", "full"])
    @pytest.mark.parametrize("source", ["waiting", "key"])
    async def test_is_given_back_whatever_the_ending(self, ending: str, source: str) -> None:
        """Read by the app or not, refused, failed, cancelled, gone: nothing stays held."""
        app = StagedApp()
        settings: dict[str, Any] = {"key": keys.json_body("key") if source == "key" else KEY}
        if ending == "timed out":
            settings["policy"] = unlimited(wait_timeout=0.1)
        if ending == "full":
            settings["policy"] = unlimited(max_waiting=0)
        middleware = laned(app, **settings)
        app.steps["it"] = {"unread": not_reading, "failed": failing}.get(ending, reading)
        body = document(LIMIT)
        async with serving(middleware) as driver:
            post(driver, "alice", "holder", body=body)
            await app.entered("holder")
            request = post(driver, "alice", "it", body=body)
            if ending == "full":
                assert (await request.response()).status == 429
            else:
                await in_line(middleware, 1)
                await until(lambda: body_held(middleware) > 0)
            if ending == "left":
                request.disconnect()
                await request.finished()
            elif ending == "cancelled":
                await request.cancel()
            elif ending == "timed out":
                assert (await request.response()).status == 503
            app.release("holder")
            if ending == "failed":
                with pytest.raises(KeyError):
                    await request.finished()
            elif ending != "cancelled":
                await request.finished()
            assert body_held(middleware) == 0


async def reading(_: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer."""
    await receive()
    await answer_with(send)


async def not_reading(_: Scope, __: Receive, send: Send) -> None:
    """Answer without a look at the body."""
    await answer_with(send)


async def failing(_: Scope, __: Receive, ___: Send) -> None:
    """Fail without a look at the body."""
    raise KeyError("a bug")


def unlimited(**settings: Any) -> Any:
    """Return a policy that lets as many wait as come."""
    from turnlane import Enqueue

    return Enqueue(**{"max_waiting": None, **settings})


def test_the_defaults_are_those_of_the_contract() -> None:
    """1 MiB a request, 256 MiB together."""
    middleware = LaneMiddleware(StagedApp(), key=KEY, trusted_keys=True)
    settings = middleware._settings  # pyright: ignore[reportPrivateUsage]
    assert (settings.body_limit, settings.budget.limit) == (1024 * 1024, 256 * 1024 * 1024)
