"""What the app gets of a `receive` that was being waited for when its turn came."""

import asyncio
import gc
from typing import Any

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import StagedApp, answer_with, body_held, in_line, laned, passes, watched
from support.asgi_wire import Wire, scope_of
from turnlane import LaneMiddleware


async def test_the_app_that_listens_hears_the_client_leave(way: str) -> None:
    """The pending call is the app's now."""
    heard: list[str] = []

    async def listen(_: Scope, receive: Receive, __: Send) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])

    async def act(wire: Wire) -> None:
        await passes()
        assert wire.asked == 2
        wire.disconnect()

    await waited(listen, act, way=way)
    assert heard == ["http.request", "http.disconnect"]


async def test_a_wait_that_is_cancelled_loses_no_message(way: str) -> None:
    """Before and after each piece of a body that is still on its way."""
    got: list[bytes] = []

    async def impatient(_: Scope, receive: Receive, send: Send) -> None:
        more, patience = True, 0
        while more:
            asking = asyncio.ensure_future(receive())
            await passes(patience)
            patience = (patience + 1) % 9
            asking.cancel()
            await asyncio.wait({asking})
            if not asking.cancelled():
                got.append(asking.result()["body"])
                more = asking.result()["more_body"]
        await answer_with(send)

    async def act(wire: Wire) -> None:
        for number in range(20):
            await passes(number)
            wire.body(b"%d" % number, more=number < 19)

    await waited(impatient, act, way=way, more=True)
    assert got == [b"text", *(b"%d" % number for number in range(20))]


async def test_asking_whether_the_client_is_there_does_no_harm(way: str) -> None:
    """Starlette's `is_disconnected` cancels its own wait each time; in the end it is told."""
    answers: list[bool] = []

    async def ask(scope: Scope, receive: Receive, _: Send) -> None:
        request = Request(scope, receive)
        assert await request.body() == b"text"
        while not answers or not answers[-1]:
            answers.append(await request.is_disconnected())
            await asyncio.sleep(0)

    async def act(wire: Wire) -> None:
        await passes()
        wire.disconnect()

    await waited(ask, act, way=way)
    assert answers[0] is False
    assert answers[-1] is True


async def test_two_that_wait_at_once_get_a_message_each() -> None:
    """The first what was pending, the second the server's next."""
    got: list[bytes] = []

    async def both(_: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"text"
        got.extend([message["body"] for message in await asyncio.gather(receive(), receive())])
        await answer_with(send)

    async def act(wire: Wire) -> None:
        await passes()
        wire.body(b"one", more=True)
        await passes()
        wire.body(b"two")

    await waited(both, act, more=True)
    assert sorted(got) == [b"one", b"two"]


async def test_what_the_server_raises_reaches_the_app() -> None:
    """A `receive` that fails while the request waits fails in the app that asks, not in a task nobody sees."""
    failures: list[str] = []

    async def listen(_: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
        except OSError as error:
            failures.append(str(error))
        await answer_with(send)

    app = StagedApp()
    app.steps["it"] = listen
    middleware = laned(app)
    sent: list[Message] = []

    async def broken() -> Message:
        raise OSError("the wire broke")

    async def send(message: Message) -> None:
        sent.append(message)

    async with watched(middleware):
        holding = Wire()
        holder = holding.call(middleware, scope_of("alice", "holder"))
        holding.body(b"")
        await app.entered("holder")
        task = asyncio.create_task(call(middleware, scope_of("alice", "it"), broken, send))
        await in_line(middleware, 1)
        await passes()
        app.release("holder")
        await holder
        await task
    assert failures == ["the wire broke"]
    assert sent[0]["status"] == 200


async def test_a_failed_receive_nobody_asks_for_is_no_noise() -> None:
    """The app may not care for its body; then nobody is told of it, and nothing is logged as never retrieved."""
    app = StagedApp()

    async def deaf(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send)

    app.steps["it"] = deaf
    middleware = laned(app)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def broken() -> Message:
        raise OSError("the wire broke")

    async def send(_: Message) -> None:
        return

    async with watched(middleware):
        holding = Wire()
        holder = holding.call(middleware, scope_of("alice", "holder"))
        holding.body(b"")
        await app.entered("holder")
        task = asyncio.create_task(call(middleware, scope_of("alice", "it"), broken, send))
        await in_line(middleware, 1)
        await passes()
        app.release("holder")
        await holder
        await task
    del task, holder
    gc.collect()
    assert complaints == []


async def call(app: LaneMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
    """Call the middleware; for a task."""
    await app(scope, receive, send)


async def waited(step: Any, act: Any, *, way: str = "short", more: bool = False) -> None:
    """Let a request wait with a body of `text` that may go on; run its step, and `act` on its wire beside it."""
    app, wire, holding = StagedApp(), Wire(), Wire()
    app.steps["it"] = step
    middleware = laned(app, way=way)
    async with watched(middleware), asyncio.timeout(10):
        holder = holding.call(middleware, scope_of("alice", "holder"))
        holding.body(b"")
        await app.entered("holder")
        task = wire.call(middleware, scope_of("alice", "it"))
        wire.body(b"text", more=more)
        await in_line(middleware, 1)
        await passes()
        app.release("holder")
        await app.entered("it")
        await act(wire)
        await task
        await holder
    assert body_held(middleware) == 0
