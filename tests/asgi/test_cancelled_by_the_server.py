"""The server ends a request's task, as some do when they shut down or the client leaves."""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from support.asgi_staged import StagedApp, in_line, laned, passes, post, serving
from turnlane import Interrupt, LaneMiddleware
from turnlane.hooks import TurnFinished, TurnRefused
from turnlane.testing import AsgiDriver, Gates


async def test_while_it_waits(way: str) -> None:
    """The cancellation goes through, the place is free, nothing is sent and no task stays."""
    app = StagedApp()
    middleware = laned(app, way=way)
    async with serving(middleware) as driver:
        with Gates(middleware.runtime.hooks) as gates:
            post(driver, "alice", "holder")
            await app.entered("holder")
            request = post(driver, "alice", "it", body=b"text")
            behind = post(driver, "alice", "behind")
            await in_line(middleware, 2)
            await request.cancel()
            await in_line(middleware, 1)
            app.release("holder", "behind")
            assert (await behind.response()).status == 200
        assert [event.reason for event in gates.at(TurnRefused).seen] == ["cancelled"]
    assert request.task.cancelled()
    assert (request.messages, "+it" in app.log) == ([], False)


async def test_a_cancelled_wait_is_not_its_own_cause(way: str) -> None:
    """Whoever follows the chain of causes comes to its end."""
    app = StagedApp()
    middleware = laned(app, way=way)
    caught: list[BaseException] = []

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await middleware(scope, receive, send)
        except asyncio.CancelledError as error:
            caught.append(error)
            raise

    async with serving(middleware) as driver, AsgiDriver(server) as other:
        post(driver, "alice", "holder")
        await app.entered("holder")
        request = post(other, "alice", "it")
        await in_line(middleware, 1)
        await request.cancel()
        app.release("holder")
    assert len(caught) == 1
    assert caught[0].__cause__ is not caught[0]


async def test_while_it_runs(way: str) -> None:
    """The app is cancelled, its cleanup ends, the lane goes to the next."""
    app = StagedApp()
    middleware = laned(app, way=way)
    async with serving(middleware) as driver:
        with Gates(middleware.runtime.hooks) as gates:
            request = post(driver, "alice", "it")
            await app.entered("it")
            behind = post(driver, "alice", "behind")
            await in_line(middleware, 1)
            await request.cancel()
            app.release("behind")
            assert (await behind.response()).status == 200
            await behind.finished()
        assert [event.outcome for event in gates.at(TurnFinished).seen] == ["cancelled", "completed"]
    assert request.task.cancelled()
    assert request.messages == []
    assert app.log == ["+it", "-it", "+behind", "-behind"]


async def test_around_the_hand_over(way: str) -> None:
    """However many passes after its predecessor was let go: the lane is passed on."""
    ran = [await cancel_after(steps, way) for steps in range(12)]
    assert set(ran) == {True, False}


async def cancel_after(steps: int, way: str) -> bool:
    """Cancel a request so many passes after the one before it was let go; tell whether its app was called."""
    app = StagedApp()
    middleware = laned(app, way=way)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        request = post(driver, "alice", "it", body=b"text")
        behind = post(driver, "alice", "behind")
        await in_line(middleware, 2)
        app.release("holder", "behind")
        await passes(steps)
        await request.cancel()
        assert (await behind.response()).status == 200
    assert request.task.cancelled()
    ran = ["+it", "-it"] if "+it" in app.log else []
    assert app.log == ["+holder", "-holder", *ran, "+behind", "-behind"]
    return bool(ran)


async def test_beside_an_interruption_the_cancellation_wins(way: str) -> None:
    """A task that was cancelled by its server ends as cancelled, whoever else wanted its end."""
    app = StagedApp()

    async def slow(_: Scope, __: Receive, ___: Send) -> None:
        try:
            await app.released("never")
        finally:
            await app.released("clean")

    app.steps["old"] = slow
    async with serving(laned(app, way=way, policy=Interrupt(grace=0))) as driver:
        old = post(driver, "alice", "old")
        await app.entered("old")
        new = post(driver, "alice", "new")
        await new.until_idle()
        await old.cancel()
        assert old.task.cancelled()
        app.release("new")
        assert (await new.response()).status == 200
    assert old.messages == []


async def test_while_its_key_is_looked_for() -> None:
    """Before there is a turn nothing is left either."""

    async def never(_: Any) -> str:
        await asyncio.Event().wait()
        return ""

    middleware = LaneMiddleware(StagedApp(), key=never, trusted_keys=True)
    async with serving(middleware) as driver:
        request = post(driver, None, "it")
        await request.until_idle()
        await request.cancel()
        assert request.task.cancelled()
