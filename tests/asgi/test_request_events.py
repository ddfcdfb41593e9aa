"""What listeners hear of a request, from its arrival to its end."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.asgi_staged import StagedApp, in_line, laned, post, serving
from turnlane import Enqueue, Interrupt, Lanes, Runtime, keys
from turnlane.hooks import (
    DrainStarted,
    Event,
    SessionMinted,
    TurnFinished,
    TurnInterruption,
    TurnQueued,
    TurnRefused,
    TurnStarted,
)
from turnlane.testing import Gates, ManualClock

FIRST = 1  # the turn that `watched` has let the lanes have


def told(gates: Gates) -> list[str]:
    """Return what happened, in words."""
    words: dict[type[Event], Callable[[Any], str]] = {
        TurnQueued: lambda event: f"queued behind {event.ahead}",
        TurnStarted: lambda _: "started",
        TurnFinished: lambda event: event.outcome,
        TurnRefused: lambda event: f"refused: {event.reason}",
        TurnInterruption: lambda event: f"asked to stop within {event.grace:g}",
        SessionMinted: lambda _: "minted",
        DrainStarted: lambda event: f"draining {event.running} and {event.waiting}",
    }
    return [words[type(event)](event) for event in gates.events]


async def test_of_a_request_that_did_not_wait() -> None:
    """It started and ended; one record joins key, session, turn, token and outcome."""
    clock = ManualClock()
    app = StagedApp()
    runtime = Runtime(lanes=Lanes(clock=clock), sessions="memory://")
    middleware = laned(app, runtime=runtime)
    async with serving(middleware) as driver:
        with Gates(runtime.hooks) as gates:
            for name in ("new", "known"):
                request = post(driver, "alice", name)
                await app.entered(name)
                clock.advance(2.5)
                app.release(name)
                await request.finished()
        finished = gates.at(TurnFinished).seen
    assert told(gates) == ["started", "minted", "completed", "started", "completed"]
    for event, name in zip(finished, ("new", "known"), strict=True):
        turn = app.turns[name]
        assert turn is not None
        assert turn.session is not None
        assert (event.key, event.turn, event.token) == ("alice", turn.id, turn.token)
        assert (event.outcome, event.error) == ("completed", None)
        assert (event.waited, event.ran) == pytest.approx((0.0, 2.5), abs=1e-4)
        assert (event.session_id, event.session_is_new) == (turn.session.id, name == "new")


async def test_of_requests_that_waited(way: str) -> None:
    """Queued with their place, started with their wait, finished; in the order in which it happened."""
    clock = ManualClock()
    app = StagedApp()
    middleware = laned(app, way=way, lanes=Lanes(clock=clock), policy=Enqueue(hint_after=2))
    async with serving(middleware) as driver:
        with Gates(middleware.runtime.hooks) as gates:
            requests = [post(driver, "alice", str(number)) for number in range(3)]
            await in_line(middleware, 2)
            clock.advance(1.5)
            app.release("0", "1", "2")
            for request in requests:
                await request.finished()
        queued, started = gates.at(TurnQueued).seen, gates.at(TurnStarted).seen
    assert [event for event in told(gates) if event != "minted"] == [
        "started",
        "queued behind 1",
        "queued behind 2",
        "completed",
        "started",
        "completed",
        "started",
        "completed",
    ]
    assert [(event.ahead, event.hint) for event in queued] == [(1, False), (2, True)]
    assert [event.waited for event in started] == pytest.approx([0.0, 1.5, 1.5], abs=1e-4)
    assert [event.turn for event in queued] == [event.turn for event in started[1:]]
    assert [event.token for event in started] == sorted(event.token for event in started)
    assert {event.key for event in (*queued, *started)} == {"alice"}


async def test_of_a_client_that_left_while_it_waited(way: str) -> None:
    """Refused as `client_gone`, with how long it had waited; it never started."""
    clock = ManualClock()
    app = StagedApp()
    middleware = laned(app, way=way, lanes=Lanes(clock=clock))
    async with serving(middleware) as driver:
        with Gates(middleware.runtime.hooks) as gates:
            holder = post(driver, "alice", "holder")
            await app.entered("holder")
            request = post(driver, "alice", "it")
            await in_line(middleware, 1)
            await request.until_idle()
            clock.advance(3.0)
            request.disconnect()
            await request.finished()
            app.release("holder")
            await holder.finished()
        (refused,) = gates.at(TurnRefused).seen
        (queued,) = gates.at(TurnQueued).seen
        assert middleware.runtime.lanes.statistics().totals == {"completed": FIRST + 1, "client_gone": 1}
    heard = [word for word in told(gates) if word != "minted"]
    assert heard == ["started", "queued behind 1", "refused: client_gone", "completed"]
    assert (refused.key, refused.turn, refused.reason) == ("alice", queued.turn, "client_gone")
    assert refused.waited == pytest.approx(3.0, abs=1e-4)


ENDINGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "busy": ({"policy": "reject"}, ["refused: busy"]),
    "full": ({"policy": Enqueue(max_waiting=0)}, ["refused: full"]),
    "wait_timeout": ({"policy": Enqueue(wait_timeout=0.005)}, ["queued behind 1", "refused: wait_timeout"]),
    "capacity": ({"body_budget": 3}, ["queued behind 1", "refused: capacity"]),
}


@pytest.mark.parametrize("reason", ENDINGS)
async def test_of_a_request_that_was_refused(way: str, reason: str) -> None:
    """Under the word that the statistics and the answer's code have, too."""
    settings, expected = ENDINGS[reason]
    app = StagedApp()
    middleware = laned(app, way=way, **settings)
    async with serving(middleware) as driver:
        holder = post(driver, "alice", "holder")
        await app.entered("holder")
        with Gates(middleware.runtime.hooks) as gates:
            response = await post(driver, "alice", "it", body=b"text").response()
        app.release("holder")
        await holder.finished()
        assert middleware.runtime.lanes.statistics().totals == {"completed": FIRST + 1, reason: 1}
    assert told(gates) == expected
    assert response.json()["error"]["code"].endswith(reason)


async def test_of_an_interruption(way: str) -> None:
    """Who asked whom to stop, who was superseded, and how each ended."""
    app = StagedApp()
    middleware = laned(app, way=way, policy=Interrupt(grace=0))
    async with serving(middleware) as driver:
        old = post(driver, "alice", "old")
        await app.entered("old")
        with Gates(middleware.runtime.hooks) as gates:
            first = post(driver, "alice", "first")
            newest = post(driver, "alice", "newest")
            app.release("newest")
            for request in (old, first, newest):
                await request.finished()
    assert told(gates) == [
        "asked to stop within 0",
        "queued behind 1",
        "refused: superseded",
        "queued behind 1",
        "interrupted",
        "started",
        "completed",
    ]


async def test_of_a_drain(way: str) -> None:
    """Who waits is refused in order, who comes too; who runs ends as ever."""
    app = StagedApp()
    middleware = laned(app, way=way)
    async with serving(middleware) as driver:
        holder = post(driver, "alice", "holder")
        await app.entered("holder")
        waiting = [post(driver, "alice", str(number)) for number in range(2)]
        await in_line(middleware, 2)
        with Gates(middleware.runtime.hooks) as gates:
            await middleware.runtime.drain(timeout=0)
            for request in waiting:
                assert (await request.response()).status == 503
            assert (await post(driver, "bob", "late").response()).status == 503
            app.release("holder")
            await holder.finished()
    assert told(gates) == ["draining 1 and 2", *["refused: draining"] * 3, "completed"]


@pytest.mark.parametrize(
    ("settings", "key", "body"),
    [
        ({"required": True}, None, b""),
        ({}, "a\x07", b""),
        ({"key": keys.json_body("key"), "body_limit": 3}, None, b"12345"),
        ({}, None, b""),
        ({"bypass": "/chat"}, "alice", b""),
    ],
)
async def test_of_a_request_without_a_lane_nothing_is_told(settings: Any, key: str | None, body: bytes) -> None:
    """Refused for what it is, or let through: there was no turn."""
    app = StagedApp(held=False)
    middleware = laned(app, **settings)
    async with serving(middleware) as driver:
        with Gates(middleware.runtime.hooks) as gates:
            await post(driver, key, "it", body=body).finished()
    assert gates.events == []


async def test_of_a_session_it_is_told_once() -> None:
    """One id for many first requests; the record of each says whether it was the one that minted."""
    app = StagedApp(held=False)
    runtime = Runtime(sessions="memory://")
    middleware = laned(app, runtime=runtime)
    async with serving(middleware) as driver:
        with Gates(runtime.hooks) as gates:
            requests = [post(driver, "alice", str(number)) for number in range(10)]
            for request in requests:
                await request.finished()
    (minted,) = gates.at(SessionMinted).seen
    finished = gates.at(TurnFinished).seen
    assert {event.session_id for event in finished} == {minted.session_id}
    assert [event.session_is_new for event in finished] == [True] + [False] * 9


async def test_a_listener_that_fails_hurts_no_request(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every request is served; the log has the failures."""

    def broken(_: Event) -> None:
        raise KeyError("a bug")

    app = StagedApp()
    middleware = laned(app, way=way)
    middleware.runtime.hooks.on(Event, broken)
    async with serving(middleware) as driver:
        requests = [post(driver, "alice", str(number)) for number in range(3)]
        await in_line(middleware, 2)
        app.release("0", "1", "2")
        assert [(await request.response()).status for request in requests] == [200] * 3
    assert caplog.text.count("listener_failed") >= 8


async def test_a_listener_that_hangs_hurts_no_request() -> None:
    """It has a queue of its own; requests do not wait for it."""
    stopped = asyncio.Event()

    async def hanging(_: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    app = StagedApp(held=False)
    runtime = Runtime(sessions="memory://")
    middleware = laned(app, runtime=runtime)
    runtime.hooks.on(Event, hanging)
    async with serving(middleware) as driver:
        for number in range(3):
            assert (await post(driver, "alice", str(number)).response()).status == 200
        await runtime.aclose()
    assert stopped.is_set()


async def test_events_are_told_outside_of_the_app(way: str) -> None:
    """A listener of the end finds the app's call over, one of the start finds it not begun."""
    app = StagedApp(held=False)
    seen: list[tuple[str, list[str]]] = []
    middleware = laned(app, way=way)
    hooks = middleware.runtime.hooks
    async with serving(middleware) as driver:
        hooks.on(TurnStarted, lambda _: seen.append(("started", list(app.log))))
        hooks.on(TurnFinished, lambda _: seen.append(("finished", list(app.log))))
        await post(driver, "alice", "it").finished()
    assert seen == [("started", []), ("finished", ["+it", "-it"])]
