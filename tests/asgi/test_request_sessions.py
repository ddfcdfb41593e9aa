"""The session of a request: one id per key, resolved after the wait, and a store that fails."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.asgi_sessions import FailingStore, session_in, sessions_behind
from support.asgi_staged import NOBODY, StagedApp, answer_with, in_line, laned, passes, post, serving, until, watched
from support.asgi_wire import Wire, scope_of
from turnlane import Interrupt, Runtime, Sessions
from turnlane.hooks import SessionMinted, TurnFinished
from turnlane.testing import Gates


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_first_requests_of_a_key_get_one_id(kind: str, tmp_path: Path) -> None:
    """Twenty at once on a new key: one id in every turn and response, minted by the first."""
    app = StagedApp(held=False)
    store = "memory://" if kind == "memory" else f"sqlite:///{tmp_path / 'sessions.db'}"
    async with sessions_behind(app, store=store) as (driver, sessions, middleware):
        with Gates(middleware.runtime.hooks) as gates:
            requests = [post(driver, "alice", str(number)) for number in range(20)]
            ids = {(await request.response()).headers["x-session-id"] for request in requests}
            for request in requests:
                await request.finished()
            minted = gates.at(SessionMinted)
            finished = gates.at(TurnFinished)
        stored = await sessions.get("alice")
    assert stored is not None
    assert ids == {stored.id}
    assert [(event.key, event.session_id) for event in minted.seen] == [("alice", stored.id)]
    assert {event.session_id for event in finished.seen} == ids
    assert [event.session_is_new for event in finished.seen] == [True] + [False] * 19


async def test_the_session_is_resolved_after_the_wait() -> None:
    """Who waits sees what was stored while it waited."""
    app = StagedApp()
    async with sessions_behind(app) as (driver, sessions, _):
        post(driver, "alice", "first")
        await app.entered("first")
        second = post(driver, "alice", "second")
        await second.until_idle()
        await sessions.patch("alice", {"channel": "slack"})
        app.release("first", "second")
        await second.finished()
    assert session_in(app, "first").fields == {}
    assert session_in(app, "second").fields == {"channel": "slack"}


async def test_a_server_that_gives_up_while_a_session_is_looked_up_leaves_nothing(tmp_path: Path) -> None:
    """Cancelled in the middle of it, some passes further each time: the next of the key has its turn."""
    app = StagedApp(held=False)
    async with sessions_behind(app, store=f"sqlite:///{tmp_path / 'sessions.db'}") as (driver, sessions, _):
        for steps in range(12):
            request = post(driver, "alice", f"cancelled {steps}")
            await passes(steps)
            await request.cancel()
            assert (await post(driver, "alice", f"next {steps}").response()).status == 200
        stored = await sessions.list()
    assert [each.key for each in stored] == ["alice"]


async def test_a_turn_counts_as_activity_when_it_ends() -> None:
    """The entry is touched once the app has returned, and not by a request that was refused."""
    app = StagedApp()
    async with sessions_behind(app, policy="reject") as (driver, sessions, _):
        first = post(driver, "alice", "first")
        await app.entered("first")
        before = await sessions.get("alice")
        assert (await post(driver, "alice", "refused").response()).status == 409
        assert await sessions.get("alice") == before
        app.release("first")
        await first.finished()
        after = await sessions.get("alice")
    assert before is not None
    assert after is not None
    assert after.last_activity_at > before.last_activity_at
    assert after.version == before.version


async def test_a_store_that_fails_is_answered_before_the_app_runs() -> None:
    """503 and Retry-After; the next request of the key gets its turn."""
    store = FailingStore()
    app = StagedApp(held=False)
    middleware = laned(app, runtime=Runtime(sessions=Sessions(store)))
    async with serving(middleware) as driver:
        store.fail_after = 0
        response = await post(driver, "alice", "it").response()
        assert (response.status, response.json()["error"]["code"]) == (503, "session_store_unavailable")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert "alice" not in response.text
        store.fail_after = None
        assert (await post(driver, "alice", "again").response()).status == 200
    assert app.log == ["+again", "-again"]


async def test_a_store_that_can_not_note_activity_does_not_spoil_the_turn(caplog: pytest.LogCaptureFixture) -> None:
    """The reply stands; the log says so."""
    store = FailingStore()
    app = StagedApp()
    middleware = laned(app, runtime=Runtime(sessions=Sessions(store)))
    async with serving(middleware) as driver:
        request = post(driver, "alice", "it")
        await app.entered("it")
        store.fail_after = 0
        app.release("it")
        assert (await request.response()).status == 200
        await request.finished()
    assert "session_touch_failed" in caplog.text


@pytest.mark.parametrize("release_on", ["app_return", "response_end"])
async def test_a_store_that_fails_in_its_own_way_is_the_servers_to_see(release_on: str) -> None:
    """An error that is not ours goes on, after the lane has been let go."""
    store = FailingStore()
    store.failure = LookupError("a bug in the store")
    app = StagedApp()
    middleware = laned(app, runtime=Runtime(sessions=Sessions(store)), release_on=release_on)
    async with serving(middleware) as driver:
        request = post(driver, "alice", "it")
        await app.entered("it")
        store.fail_after = 0
        app.release("it")
        with pytest.raises(LookupError) as caught:
            await request.finished()
        assert caught.value is store.failure
        store.fail_after = None
        app.release("next")
        assert (await post(driver, "alice", "next").response()).status == 200


async def test_a_turn_can_be_interrupted_while_its_session_is_looked_up() -> None:
    """It is answered like any interrupted turn; its app is not called."""
    store = FailingStore()
    app = StagedApp()
    middleware = laned(app, runtime=Runtime(sessions=Sessions(store)), policy=Interrupt(grace=0))
    async with serving(middleware) as driver:
        store.stop = asyncio.Event()
        old = post(driver, "alice", "old")
        await until(lambda: store.looked_up == 1)
        new = post(driver, "alice", "new")
        response = await old.response()
        store.stop.set()
        app.release("new")
        assert (await new.response()).headers["x-turnlane-turn"] == response.json()["into"]
    assert (response.status, response.json()["error"]["code"]) == (409, "turn_interrupted")
    assert app.log == ["+new", "-new"]


async def test_for_a_client_that_has_left_no_session_is_looked_up() -> None:
    """It left in the very moment in which its lane was handed over: its key is not looked at, nothing is minted."""
    store = FailingStore()
    app, wire = StagedApp(), Wire()
    middleware = laned(app, runtime=Runtime(sessions=Sessions(store)))

    async def last_step(_: Any, __: Any, send: Any) -> None:
        await app.released("holder")
        await answer_with(send)
        wire.disconnect()

    app.steps["holder"] = last_step
    async with watched(middleware):
        holder = Wire().call(middleware, scope_of("alice", "holder"))
        await app.entered("holder")
        task = wire.call(middleware, scope_of("alice", "it"))
        wire.body(b"")
        await in_line(middleware, 1)
        await passes()
        app.release("holder")
        await holder
        await task
    assert store.looked_up == 1
    assert wire.sent == NOBODY


async def test_a_client_that_leaves_while_its_session_is_looked_up_is_not_forgotten() -> None:
    """The app is not called, or hears of it: servers tell of a client's leaving once."""
    store = FailingStore()
    app = StagedApp()
    heard: list[str] = []

    async def listen(_: Mapping[str, Any], receive: Any, __: Any) -> None:
        while "http.disconnect" not in heard:
            heard.append((await receive())["type"])

    app.steps["it"] = listen
    middleware = laned(app, runtime=Runtime(sessions=Sessions(store)))
    async with watched(middleware):
        holder, wire = Wire(), Wire()
        held = holder.call(middleware, scope_of("alice", "holder"))
        holder.body(b"")
        await app.entered("holder")
        task = wire.call(middleware, scope_of("alice", "it"))
        wire.body(b"whole")
        await in_line(middleware, 1)
        store.stop = asyncio.Event()
        app.release("holder")
        await held
        wire.disconnect()
        await passes()
        store.stop.set()
        async with asyncio.timeout(10):
            await task
    assert heard in ([], ["http.request", "http.disconnect"])
