"""`while_running="wait"`: a duplicate waits for the answer of the first, and takes its place if there will be none."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_duplicates import code_of, keyed, once, runs_of, send
from support.asgi_staged import StagedApp, answer_with, post, serving
from support.asgi_wire import Wire, scope_of
from turnlane import current_turn
from turnlane.testing import AsgiDriver, HttpRequest


def waiting(app: StagedApp, **settings: Any) -> Any:
    """Return the middleware whose duplicates wait."""
    return once(app, while_running="wait", **settings)


async def test_who_waits_gets_the_answer() -> None:
    """All of them, and the turn ran once."""
    app = StagedApp()
    async with serving(waiting(app)) as driver:
        first = keyed(driver, "first")
        await app.entered("first")
        others = [keyed(driver, f"other-{number}") for number in range(5)]
        await first.until_idle()
        assert all(not other.messages for other in others)
        app.release("first")
        answers = [await request.response() for request in (first, *others)]
    assert {answer.body for answer in answers} == {b"first"}
    assert ["idempotent-replayed" in answer.headers for answer in answers] == [False, *[True] * 5]
    assert runs_of(app) == ["first"]


async def test_who_waits_takes_the_place_of_one_that_left_the_line() -> None:
    """The first client gave up before its turn: one of those who wait runs, the others get that answer."""
    app = StagedApp()
    async with serving(waiting(app)) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        first = keyed(driver, "first")
        await first.until_idle()
        others = [keyed(driver, f"other-{number}") for number in range(3)]
        await first.until_idle()
        first.disconnect()
        await first.finished()
        app.release("holder", *(f"other-{number}" for number in range(3)))
        answers = [await other.response() for other in others]
    [ran] = runs_of(app)[1:]
    assert {answer.text for answer in answers} == {ran}
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 2


STREAM = b'{"stream": true}'


async def stand_in_line(driver: AsgiDriver, app: StagedApp) -> HttpRequest:
    """Start a request for a stream behind another one of its session."""
    post(driver, "alice", "holder")
    await app.entered("holder")
    first = keyed(driver, "first", body=STREAM)
    await first.until_idle()
    return first


async def test_a_copy_of_a_stream_in_line_is_told_to_come_again() -> None:
    """A broken connection: its client comes again before the server knows, and once more when the first has left."""
    app = StagedApp()
    async with serving(once(app)) as driver:
        first = await stand_in_line(driver, app)
        early = await send(driver, "early", body=STREAM)
        assert (early.status, code_of(early)) == (409, "duplicate_running")
        assert "retry-after" in early.headers
        first.disconnect()
        await first.finished()
        app.release("holder", "again")
        assert (await send(driver, "again", body=STREAM)).body == b"again"
    assert runs_of(app) == ["holder", "again"]


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_copy_of_a_stream_waits_for_what_becomes_of_the_first(leaves: bool) -> None:
    """It runs in its place, or is refused when the first has its turn: streams are not sent twice."""
    app = StagedApp()

    async def stream(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send, b"data: x\n\n", (b"content-type", b"text/event-stream"))

    app.steps["first"] = app.steps["copy"] = stream
    async with serving(waiting(app)) as driver:
        first = await stand_in_line(driver, app)
        copy = keyed(driver, "copy", body=STREAM)
        await copy.until_idle()
        assert copy.messages == []
        if leaves:
            first.disconnect()
            await first.finished()
        app.release("holder")
        response = await copy.response()
    assert code_of(response) == ("" if leaves else "duplicate_stream")
    assert runs_of(app) == ["holder", "copy" if leaves else "first"]


async def test_who_took_the_place_can_leave_the_line_too() -> None:
    """The one that took the place of the first is watched in the line like everybody."""
    app = StagedApp()
    async with serving(waiting(app)) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        requests = [keyed(driver, name) for name in ("a", "b", "c")]
        await requests[0].until_idle()
        for request in requests[:2]:
            request.disconnect()
            await request.finished()
        app.release("holder", "c")
        assert (await requests[2].response()).body == b"c"
    assert runs_of(app) == ["holder", "c"]


@pytest.mark.parametrize("how", ["leaves", "is cancelled"])
async def test_who_waits_can_leave(how: str) -> None:
    """The first one goes on, and so do the others that wait."""
    app = StagedApp()
    async with serving(waiting(app)) as driver:
        first = keyed(driver, "first")
        await app.entered("first")
        leaver, stayer = keyed(driver, "leaver"), keyed(driver, "stayer")
        await first.until_idle()
        if how == "leaves":
            leaver.disconnect()
            await leaver.finished()
        else:
            await leaver.cancel()
        app.release("first")
        assert {(await request.response()).body for request in (first, stayer)} == {b"first"}
    assert runs_of(app) == ["first"]


async def test_who_waits_is_told_when_the_outcome_is_unknown() -> None:
    """The first one was cancelled in the app: nobody runs it again."""
    app = StagedApp()
    async with serving(waiting(app)) as driver:
        first = keyed(driver, "first")
        await app.entered("first")
        second = keyed(driver, "second")
        await second.until_idle()
        await first.cancel()
        assert code_of(await second.response()) == "duplicate_outcome_unknown"
    assert runs_of(app) == ["first"]


@pytest.mark.parametrize(
    ("settings", "headers"),
    [({"wait_timeout": 0.01}, {}), ({"wait_timeout": 0}, {}), ({}, {"x-stainless-read-timeout": "0.01"})],
)
async def test_the_wait_is_bounded(settings: dict[str, Any], headers: dict[str, str]) -> None:
    """By the setting, or by the client's own deadline; then it is as without waiting."""
    app = StagedApp()
    async with serving(waiting(app, **settings)) as driver:
        first = keyed(driver, "first")
        await app.entered("first")
        refused = await send(driver, "second", headers=headers)
        assert (refused.status, code_of(refused)) == (409, "duplicate_running")
        app.release("first")
        await first.finished()


async def test_a_duplicate_from_inside_the_turn_does_not_wait() -> None:
    """It would wait for itself."""
    app = StagedApp()
    middleware: Any = waiting(app)
    codes: list[str] = []

    async def step(_: Scope, __: Receive, send_: Send) -> None:
        turn = current_turn()
        assert turn is not None
        wire = Wire()
        wire.body(b"")
        await middleware(
            scope_of("alice", "inner", headers=[(b"idempotency-key", b"one")], state={"turn": turn}),
            wire.receive,
            wire.send,
        )
        codes.append(str(wire.status))
        await answer_with(send_, b"first")

    app.steps["first"] = step
    async with serving(middleware) as driver:
        assert (await send(driver, "first")).body == b"first"
    assert codes == ["409"]
    assert runs_of(app) == ["first"]


async def test_nor_does_one_that_brings_the_chain_of_the_turn() -> None:
    """From another server that the turn waits for: every header was passed on."""
    app = StagedApp()
    async with serving(waiting(app)) as driver:
        first = keyed(driver, "first")
        await app.entered("first")
        turn = app.turns["first"]
        assert turn is not None
        inner = keyed(driver, "inner", headers=turn.headers())
        await inner.until_idle()
        assert [message["status"] for message in inner.messages[:1]] == [409]
        app.release("first")
        await first.finished()
    assert runs_of(app) == ["first"]


async def test_another_loop_can_wait_for_the_answer_of_one_before() -> None:
    """A server that is started anew in another event loop knows its messages."""
    app = StagedApp(held=False)
    middleware = waiting(app)

    def in_a_loop_of_its_own(name: str) -> bytes:
        async def run() -> bytes:
            async with AsgiDriver(middleware) as driver:
                return (await send(driver, name)).body

        return asyncio.run(run())

    answers = [await asyncio.to_thread(in_a_loop_of_its_own, name) for name in ("a", "b")]
    assert answers == [b"a", b"a"]
