"""`session_id=`: requests that name a session by its id."""

import pytest

from support.asgi_sessions import SID, FailingStore, key_in, session_in, sessions_behind
from support.asgi_staged import NOBODY, StagedApp, laned, post, serving
from turnlane import Runtime, Sessions, keys


class TestExplicitId:
    """`session_id=`: no reservation, and the lane of the key the id belongs to."""

    async def test_of_a_known_key_takes_that_lane(self) -> None:
        """It goes before the key, waits in the id's lane, and runs in that session."""
        app = StagedApp()
        async with sessions_behind(app, session_id=SID) as (driver, sessions, _):
            known = await sessions.resolve("alice")
            post(driver, "alice", "holder")
            await app.entered("holder")
            request = post(driver, "bob", "explicit", headers={SID: known.id})
            await request.until_idle()
            assert app.log == ["+holder"]
            app.release("holder", "explicit")
            response = await request.response()
            assert await sessions.get("bob") is None
        assert response.headers["x-session-id"] == known.id
        assert (session_in(app, "explicit").id, key_in(app, "explicit")) == (known.id, "alice")

    async def test_that_nobody_knows_names_a_lane_itself(self) -> None:
        """Two of one unknown id run one after the other, in a session that is not stored."""
        app = StagedApp()
        async with sessions_behind(app, session_id=SID) as (driver, sessions, _):
            first = post(driver, None, "first", headers={SID: "unknown"})
            await app.entered("first")
            second = post(driver, None, "second", headers={SID: "unknown"})
            other = post(driver, None, "other", headers={SID: "another"})
            await app.entered("other")
            assert "+second" not in app.log
            app.release("first", "second", "other")
            ids = [(await request.response()).headers["x-session-id"] for request in (first, second, other)]
            assert await sessions.list() == ()
        assert ids == ["unknown", "unknown", "another"]
        assert (session_in(app, "first").id, session_in(app, "first").version) == ("unknown", 0)

    async def test_that_is_not_given_leaves_the_key(self) -> None:
        """A blank one is none."""
        app = StagedApp(held=False)
        async with sessions_behind(app, session_id=SID) as (driver, _, __):
            assert (await post(driver, "alice", "it", headers={SID: " "}).response()).status == 200
        assert key_in(app, "it") == "alice"

    @pytest.mark.parametrize("wrong", ["a\x00b", "a" * 502, "a" * 513])
    async def test_that_can_not_be_one_is_refused(self, wrong: str) -> None:
        """422, naming where it stands."""
        app = StagedApp()
        async with sessions_behind(app, session_id=SID) as (driver, _, __):
            response = await post(driver, "alice", "it", headers={SID: wrong}).response()
        assert (response.status, response.json()["error"]["code"]) == (422, "session_key_invalid")
        assert response.json()["error"]["param"] == f"header {SID}"
        assert wrong not in response.text
        assert app.log == []

    async def test_from_the_body(self) -> None:
        """Any extractor will do; the app still gets the body."""
        app = StagedApp(held=False)
        async with sessions_behind(app, session_id=keys.json_body("session")) as (driver, sessions, _):
            known = await sessions.resolve("alice")
            body = b'{"session": "%s"}' % known.id.encode()
            await post(driver, None, "it", body=body).finished()
        assert (key_in(app, "it"), app.bodies["it"]) == ("alice", body)


class TestAnIdThatMoves:
    """An explicit id that belongs to another lane by the time its request has one."""

    async def test_is_followed_to_its_lane(self) -> None:
        """The request leaves the lane it no longer belongs to and waits in the right one; it runs once, there."""
        app = StagedApp()
        async with sessions_behind(app, session_id=SID) as (driver, sessions, _):
            old = await sessions.resolve("alice")
            post(driver, "alice", "holder")
            await app.entered("holder")
            request = post(driver, None, "moved", headers={SID: old.id})
            await request.until_idle()
            await sessions.renew("alice")
            post(driver, None, "new holder", headers={SID: old.id})
            await app.entered("new holder")
            app.release("holder")
            await request.until_idle()
            assert app.log == ["+holder", "+new holder", "-holder"]
            app.release("new holder", "moved")
            assert (await request.response()).headers["x-session-id"] == old.id
        assert app.log[3:] == ["-new holder", "+moved", "-moved"]
        assert key_in(app, "moved") == f"session-id:{old.id}"

    async def test_lets_the_next_of_the_old_lane_run(self) -> None:
        """Whoever stood behind it in the lane it left is not held up."""
        app = StagedApp()
        async with sessions_behind(app, session_id=SID) as (driver, sessions, _):
            old = await sessions.resolve("alice")
            post(driver, "alice", "holder")
            await app.entered("holder")
            moved = post(driver, None, "moved", headers={SID: old.id})
            await moved.until_idle()
            behind = post(driver, "alice", "behind")
            await behind.until_idle()
            await sessions.renew("alice")
            app.release("holder")
            await app.entered("behind")
            await app.entered("moved")
            app.release("moved", "behind")
            await moved.response()
            await behind.response()

    async def test_a_client_that_leaves_the_second_line_leaves_it_at_once(self) -> None:
        """As in the first one: its place is free, its app is never called, nobody is answered."""
        app = StagedApp()
        async with sessions_behind(app, session_id=SID) as (driver, sessions, middleware):
            old = await sessions.resolve("alice")
            post(driver, "alice", "holder")
            await app.entered("holder")
            moved = post(driver, None, "moved", headers={SID: old.id})
            await moved.until_idle()
            await sessions.renew("alice")
            post(driver, None, "new holder", headers={SID: old.id})
            await app.entered("new holder")
            app.release("holder")
            await moved.until_idle()
            moved.disconnect()
            await moved.until_idle()
            waiting = middleware.runtime.lanes.statistics().waiting
            app.release("new holder")
            await moved.finished()
        assert waiting == 0
        assert moved.messages == NOBODY
        assert "+moved" not in app.log

    async def test_its_body_is_replayed_whole(self) -> None:
        """What was read during the first wait is not lost by the second, nor what comes during that."""
        app = StagedApp()
        async with sessions_behind(app, session_id=SID) as (driver, sessions, _):
            old = await sessions.resolve("alice")
            post(driver, "alice", "holder")
            await app.entered("holder")
            moved = post(driver, None, "moved", headers={SID: old.id}, body=None)
            await moved.send_body(b"one ")
            await moved.until_idle()
            await sessions.renew("alice")
            post(driver, None, "new holder", headers={SID: old.id})
            await app.entered("new holder")
            app.release("holder")
            await moved.until_idle()
            await moved.send_body(b"two", more=False)
            await moved.until_idle()
            app.release("new holder", "moved")
            await moved.response()
        assert app.bodies["moved"] == b"one two"

    async def test_a_store_that_fails_on_the_way_is_answered(self) -> None:
        """503, like a store that fails at the first look, and no lane is left."""
        store = FailingStore()
        sessions = Sessions(store)
        app = StagedApp()
        middleware = laned(app, runtime=Runtime(sessions=sessions), session_id=SID)
        async with serving(middleware) as driver:
            old = await sessions.resolve("alice")
            post(driver, "alice", "holder")
            await app.entered("holder")
            moved = post(driver, None, "moved", headers={SID: old.id})
            await moved.until_idle()
            await sessions.renew("alice")
            store.fail_after = 2  # the end of the first turn, and the look that shows that the id has moved
            app.release("holder")
            response = await moved.response()
        assert (response.status, response.json()["error"]["code"]) == (503, "session_store_unavailable")
        assert "+moved" not in app.log
