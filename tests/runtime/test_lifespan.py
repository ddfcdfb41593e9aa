"""`runtime.lifespan` in the forms frameworks and users want it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from support.turns_steps import Recorder, files_in, until_idle
from turnlane import Runtime
from turnlane.errors import LanesDraining
from turnlane.testing import AsgiDriver
from turnlane.testing.driver import LifespanFailed


async def where(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(getattr(request.state, "where", "nowhere")))


ROUTES = [Route("/", where)]


@asynccontextmanager
async def with_state(app: object) -> AsyncGenerator[Mapping[str, str], None]:
    """A lifespan of the user's, with state."""
    yield {"where": "inner"}


async def is_closed(runtime: Runtime) -> bool:
    try:
        async with runtime.turn("a"):
            return False
    except LanesDraining:
        return True


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
@pytest.mark.parametrize("form", ["method", "settings", "inner"])
async def test_an_app_opens_and_closes_the_runtime(framework: Any, form: str, tmp_path: Path) -> None:
    """As the method itself, with settings, and around another lifespan whose state reaches the requests."""
    runtime = Runtime(sessions=f"sqlite:///{tmp_path}/sessions.db")
    lifespan: Any = {
        "method": runtime.lifespan,
        "settings": runtime.lifespan(drain_on_sigterm=False),
        "inner": runtime.lifespan(inner=with_state),
    }[form]
    app = framework(routes=ROUTES, lifespan=lifespan)
    for _ in range(2):  # a server that is started again
        async with AsgiDriver(app) as driver, driver.lifespan():
            assert not await is_closed(runtime)
            response = await driver.start().response()
            assert response.text == ("inner" if form == "inner" else "nowhere")
        assert await is_closed(runtime)
        await until_idle()
        assert files_in(tmp_path) == ["sessions.db"]


async def test_inside_a_lifespan_of_ones_own() -> None:
    """As a block, with the app or anything else that frameworks pass."""
    runtime = Runtime()

    @asynccontextmanager
    async def mine(app: Starlette) -> AsyncGenerator[dict[str, str], None]:
        async with runtime.lifespan(app, drain_on_sigterm=False) as state:
            assert state is None
            yield {"where": "mine"}

    app = Starlette(routes=ROUTES, lifespan=mine)
    async with AsgiDriver(app) as driver, driver.lifespan():
        assert (await driver.start().response()).text == "mine"
    assert await is_closed(runtime)


async def test_beside_other_lifespans_in_an_exit_stack() -> None:
    """Frameworks that take a list of lifespans call each with the app."""
    runtimes = [Runtime(), Runtime()]
    app = Starlette()
    async with AsyncExitStack() as stack:
        for runtime in runtimes:
            await stack.enter_async_context(runtime.lifespan(app))
        assert [await is_closed(runtime) for runtime in runtimes] == [False, False]
    assert [await is_closed(runtime) for runtime in runtimes] == [True, True]


async def test_the_inner_lifespan_is_given_the_app_and_runs_inside() -> None:
    """It may use the runtime, at its start and at its end."""
    runtime = Runtime(sessions="memory://")
    seen: list[object] = []

    @asynccontextmanager
    async def inner(app: object) -> AsyncGenerator[None, None]:
        seen.append(app)
        async with runtime.turn("warm up"):
            pass
        yield
        async with runtime.turn("say goodbye") as turn:
            seen.append(turn.key)

    app = object()
    async with runtime.lifespan(app, inner=inner):
        pass
    assert seen == [app, "say goodbye"]
    assert await is_closed(runtime)


async def test_an_inner_lifespan_that_fails_leaves_the_runtime_closed() -> None:
    """The failure is told to the server."""
    runtime = Runtime()

    @asynccontextmanager
    async def inner(app: object) -> AsyncGenerator[None, None]:
        if app is not None:
            raise OSError("no model here")
        yield

    async with AsgiDriver(Starlette(lifespan=runtime.lifespan(inner=inner))) as driver:
        with pytest.raises((LifespanFailed, OSError), match="no model here"):
            async with driver.lifespan():
                raise AssertionError("it started")
    assert await is_closed(runtime)


async def test_a_server_without_a_lifespan_works_too() -> None:
    """Everything opens at its first use."""
    runtime = Runtime(sessions="memory://")
    recorder = Recorder(runtime.hooks)

    async def endpoint(request: Request) -> PlainTextResponse:
        async with runtime.turn("a") as turn:
            assert turn.session is not None
            return PlainTextResponse(turn.session.id)

    async with AsgiDriver(Starlette(routes=[Route("/", endpoint)])) as driver:
        first, second = [(await driver.start().response()).text for _ in range(2)]
    assert first == second
    assert recorder.names.count("SessionMinted") == 1


def test_a_server_that_starts_again_takes_turns_again() -> None:
    """In a loop of its own, as each test client makes one; within the loop that closed it, it stays closed."""
    runtime = Runtime()

    async def serve() -> None:
        async with runtime, runtime.turn("a"):
            pass
        with pytest.raises(LanesDraining):
            async with runtime.turn("a"):
                pass

    async def use() -> None:
        async with runtime.turn("a"):
            pass

    for _ in range(2):
        asyncio.run(serve())
        asyncio.run(use())


async def test_the_last_of_several_apps_closes_what_they_share() -> None:
    """Each has the lifespan of the one runtime; the first that stops does not close it for the others."""
    runtime = Runtime()
    async with runtime.lifespan("one", drain_on_sigterm=False):
        async with runtime.lifespan("two", drain_on_sigterm=False):
            pass
        async with runtime.turn("a"):
            pass
    assert await is_closed(runtime)
