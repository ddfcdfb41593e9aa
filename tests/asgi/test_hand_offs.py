"""`visible=`: internal hand-offs that leave no trace, and the preset of the server they come from."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from support.asgi_sessions import SID, session_in, sessions_behind
from support.asgi_staged import StagedApp, laned, post, serving
from turnlane import Runtime, keys
from turnlane.hooks import SessionMinted
from turnlane.testing import AsgiDriver, Gates, HttpRequest


def is_visible(connection: Any) -> bool:
    """Tell whether a request is not marked as internal."""
    return "x-internal" not in connection.headers


class TestInvisible:
    """`visible=False`: uses an existing session or one that is not stored."""

    @pytest.mark.parametrize("visible", [False, is_visible])
    @pytest.mark.parametrize("known", [False, True])
    async def test_leaves_no_trace(self, visible: Any, known: bool) -> None:
        """No row, no event, no header; an entry that is there stays as it is."""
        app = StagedApp(held=False)
        runtime = Runtime(sessions="memory://")
        sessions = runtime.sessions
        assert sessions is not None
        middleware = laned(app, runtime=runtime, visible=visible)
        async with runtime, serving(middleware) as driver:
            if known:
                await sessions.resolve("alice")
            before = await sessions.list()
            with Gates(runtime.hooks) as gates:
                response = await post(driver, "alice", "it", headers={"x-internal": "1"}).response()
            after = await sessions.list()
        assert response.status == 200
        assert "x-session-id" not in response.headers
        assert "x-turnlane-turn" in response.headers
        assert before == after
        assert len(before) == known
        assert gates.at(SessionMinted).seen == ()
        assert [each.id for each in before] in ([session_in(app, "it").id], [])

    async def test_is_asked_of_each_request(self) -> None:
        """A callable, async too, decides; the lane is the same for both."""

        async def visible(connection: Any) -> bool:
            await asyncio.sleep(0)
            return is_visible(connection)

        app = StagedApp()
        async with sessions_behind(app, visible=visible) as (driver, sessions, _):
            hidden = post(driver, "alice", "hidden", headers={"x-internal": "1"})
            await app.entered("hidden")
            shown = post(driver, "alice", "shown")
            await shown.until_idle()
            assert app.log == ["+hidden"]
            assert await sessions.list() == ()
            app.release("hidden", "shown")
            assert "x-session-id" not in (await hidden.response()).headers
            session_id = (await shown.response()).headers["x-session-id"]
            assert [each.id for each in await sessions.list()] == [session_id]

    async def test_with_an_explicit_id(self) -> None:
        """The session is the one asked for, and is not told of."""
        app = StagedApp(held=False)
        async with sessions_behind(app, visible=False, session_id=SID) as (driver, sessions, _):
            known = await sessions.resolve("alice")
            response = await post(driver, None, "it", headers={SID: known.id}).response()
            assert await sessions.get("alice") == replace(known, is_new=False)
        assert "x-session-id" not in response.headers
        assert session_in(app, "it").id == known.id


class TestOpenClaw:
    """The preset of the server these rules come from."""

    async def test_two_overrides_of_one_channel_run_at_once(self) -> None:
        """Two sessions, two lanes, at the same time; a third message of one of them waits."""
        app = StagedApp()
        async with sessions_behind(app, key=keys.openclaw()) as (driver, sessions, _):
            one = openclaw(driver, "one", "channel", '{"session_override": "agent:a"}')
            two = openclaw(driver, "two", "channel", '{"session_override": "agent:b"}')
            plain = openclaw(driver, "plain", "channel", "{}")
            for name in ("one", "two", "plain"):
                await app.entered(name)
            again = openclaw(driver, "again", "channel", '{"session_override": "agent:a"}')
            await again.until_idle()
            assert "+again" not in app.log
            app.release("one", "two", "plain", "again")
            ids = [(await request.response()).headers["x-session-id"] for request in (one, two, plain, again)]
            stored = {each.key: each.id for each in await sessions.list()}
        assert len(set(ids)) == 3
        assert stored == {"agent:a": ids[0], "agent:b": ids[1], "channel": ids[2]}
        assert ids[3] == ids[0]

    async def test_an_internal_hand_off_leaves_no_row(self) -> None:
        """A request marked as internal, for a key nobody has spoken to, is answered and forgotten."""
        app = StagedApp(held=False)
        settings: dict[str, Any] = {"key": keys.openclaw(), "visible": is_visible}
        async with sessions_behind(app, **settings) as (driver, sessions, _):
            internal = openclaw(driver, "it", "agent:handoff", "{}", {"x-internal": "1"})
            response = await internal.response()
            assert await sessions.list() == ()
        assert response.status == 200
        assert "x-session-id" not in response.headers
        assert session_in(app, "it").version == 0


def openclaw(
    driver: AsgiDriver, name: str, key: str, body: str, headers: Mapping[str, str] | None = None
) -> HttpRequest:
    """Start a request as OpenClaw makes it."""
    given = {"x-openclaw-session-key": key, **(headers or {})}
    return post(driver, None, name, headers=given, body=body.encode())
