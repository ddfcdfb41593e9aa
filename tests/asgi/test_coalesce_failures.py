"""Requests that wait to become one: clients that leave, merges and sessions that fail, bodies there is no room for."""

import asyncio
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from support.asgi_groups import WAYS, held_until_released, plus, redirected, refuse, waiting
from support.asgi_sessions import SID, FailingStore
from support.asgi_staged import KEY, NOBODY, StagedApp, body_held, in_line, laned, post, serving, until
from turnlane import Coalesce, Runtime, Sessions
from turnlane.messages import HttpMessage

PLAIN = Coalesce(window=0, merge=plus)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """The ways such a request may go: never the short one."""
    return str(request.param)


class TestBudget:
    """`body_budget`."""

    async def test_a_message_there_is_no_room_for_is_refused(self, way: str) -> None:
        """503; who waits already is not concerned, and what is left over counts no more."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=PLAIN, body_budget=6)
        async with serving(middleware) as driver:
            _, one = await waiting(driver, middleware, app, "one")
            refused = post(driver, "alice", "refused", body=b"four")
            response = await refused.response()
            assert (response.status, response.json()["error"]["code"]) == (503, "capacity")
            two = post(driver, "alice", "two", body=b"two")
            await in_line(middleware, 2)
            assert body_held(middleware) == 6
            app.release("holder", "two")
            assert (await two.response()).status == 200
            assert (await one.response()).status == 409


class TestLeaving:
    """Clients that leave while they wait."""

    async def test_one_that_leaves_takes_its_message_along(self, way: str) -> None:
        """The others are merged without it."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=PLAIN)
        async with serving(middleware) as driver:
            _, one, two, three = await waiting(driver, middleware, app, "one", "two", "three")
            two.disconnect()
            await two.finished()
            app.release("holder", "three")
            await redirected(one, (await three.response()).headers["x-turnlane-turn"])
            assert two.messages == NOBODY
        assert app.bodies["three"] == b"one+three"

    async def test_when_the_newest_leaves_the_next_newest_carries_the_rest(self, way: str) -> None:
        """With its own headers and name."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=PLAIN)
        async with serving(middleware) as driver:
            _, one, two, three = await waiting(driver, middleware, app, "one", "two", "three")
            three.disconnect()
            await three.finished()
            app.release("holder", "two")
            await redirected(one, (await two.response()).headers["x-turnlane-turn"])
        assert app.bodies["two"] == b"one+two"

    async def test_the_newest_leaves_as_its_turn_begins(self, way: str) -> None:
        """At whatever moment: each message is answered once, or left with its client."""
        for passes in range(12):
            app = StagedApp(held=False)
            app.steps["holder"] = held_until_released(app)
            middleware = laned(app, way=way, policy=PLAIN)
            async with serving(middleware) as driver:
                _, one, two, three = await waiting(driver, middleware, app, "one", "two", "three")
                app.release("holder")
                for _ in range(passes):
                    await asyncio.sleep(0)
                three.disconnect()
                for request in (one, two, three):
                    await request.finished()
            answered = [part for name, body in app.bodies.items() if name != "holder" for part in body.split(b"+")]
            assert answered in ([b"one", b"two"], [b"one", b"two", b"three"]), passes


class TestFailures:
    """What fails before the merged request runs."""

    async def test_a_merge_that_raises_fails_the_newest_alone(self, way: str) -> None:
        """Its error goes to the server as one of the app would; the others are requests of their own, in order."""
        app = StagedApp(held=False)
        app.steps["holder"] = held_until_released(app)
        middleware = laned(app, way=way, policy=Coalesce(window=0, merge=refuse))
        async with serving(middleware) as driver:
            _, one, two, three = await waiting(driver, middleware, app, "one", "two", "three")
            app.release("holder")
            assert [(await request.response()).text for request in (one, two)] == ["one", "two"]
            with pytest.raises(ValueError, match="not these"):
                await three.finished()
            assert three.messages == []
        assert app.log[2:] == ["+one", "-one", "+two", "-two"]

    @pytest.mark.parametrize("share_result", [False, True])
    @pytest.mark.parametrize(
        ("merged", "error", "told"),
        [
            (b"one+two", TypeError, "merge must return an HttpMessage for the app, not bytes"),
            (HttpMessage("one+two"), TypeError, "bytes-like"),  # type: ignore[arg-type]
            (HttpMessage(b"one+two", "text/\u20ac"), ValueError, "latin-1"),
        ],
        ids=["no message", "text", "no header"],
    )
    async def test_a_merge_that_returns_no_message_fails_the_newest_alone(
        self, merged: Any, error: type[Exception], told: str, share_result: bool
    ) -> None:
        """Or the app would see the newest body alone; nobody else is told that it is part of that turn."""
        app = StagedApp(held=False)
        app.steps["holder"] = held_until_released(app)
        policy = Coalesce(window=0, merge=lambda _: merged, share_result=share_result)
        middleware = laned(app, policy=policy)
        async with serving(middleware) as driver:
            _, one, two = await waiting(driver, middleware, app, "one", "two")
            app.release("holder")
            assert (await one.response()).text == "one"
            with pytest.raises(error, match=told):
                await two.finished()

    async def test_a_session_that_can_not_be_had_fails_the_newest_alone(self) -> None:
        """Nobody's message goes with it: the next newest carries the rest, and finds out the same for itself."""
        app = StagedApp(held=False)
        app.steps["holder"] = held_until_released(app)
        store = FailingStore()
        middleware = laned(app, runtime=Runtime(sessions=Sessions(store)), policy=PLAIN)
        async with serving(middleware) as driver:
            requests = await waiting(driver, middleware, app, "one", "two")
            store.fail_after = 0
            app.release("holder")
            codes = [(await request.response()).status for request in requests[1:]]
            await until(lambda: all(request.task.done() for request in requests))
        assert codes == [503, 503]
        assert app.log == ["+holder", "-holder"]

    async def test_messages_of_different_sessions_stay_apart(self) -> None:
        """One names its session, which its lane has no more when it runs; another leaves no trace."""
        app = StagedApp(held=False)
        app.steps["holder"] = held_until_released(app)
        runtime = Runtime(sessions="memory://")
        sessions = runtime.sessions
        assert sessions is not None

        def seen(connection: HTTPConnection) -> bool:
            return "x-hidden" not in connection.headers

        middleware = laned(app, runtime=runtime, session_id=SID, visible=seen, policy=PLAIN)
        async with serving(middleware) as driver:
            session = await sessions.resolve("alice")
            given: list[dict[str, str]] = [{SID: session.id}, {}, {"x-hidden": "1"}]
            post(driver, "alice", "holder")
            await app.entered("holder")
            requests = [post(driver, "alice", str(number), headers=each) for number, each in enumerate(given)]
            await in_line(middleware, 3)
            renewed = await sessions.renew("alice")
            app.release("holder")
            assert [(await request.response()).status for request in requests] == [200, 200, 200]
        ids = [turn.session.id for turn in app.turns.values() if turn is not None and turn.session is not None]
        assert sorted(ids[1:]) == sorted([session.id, renewed.id, renewed.id])

    async def test_a_session_that_went_to_another_lane_loses_no_message(self) -> None:
        """Nobody was part of a turn that was none: each finds its way there."""
        app = StagedApp()
        runtime = Runtime(sessions="memory://")
        sessions = runtime.sessions
        assert sessions is not None
        middleware = laned(app, key=KEY, runtime=runtime, session_id=SID, policy=PLAIN)
        async with serving(middleware) as driver:
            session = await sessions.resolve("alice")
            names = ("one", "two", "three")
            _, *requests = await waiting(driver, middleware, app, *names, headers={SID: session.id})
            await sessions.delete("alice")
            app.release("holder", *names)
            for request in requests:
                await request.finished()
        answered = [part for name, body in app.bodies.items() if name != "holder" for part in body.split(b"+")]
        assert sorted(answered) == [b"one", b"three", b"two"]
        assert {turn.key for name, turn in app.turns.items() if turn and name != "holder"} == {
            f"session-id:{session.id}"
        }
