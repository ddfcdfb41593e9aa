"""Requests whose messages are offered to the one that runs."""

import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_groups import WAYS
from support.asgi_staged import (
    NOBODY,
    StagedApp,
    answer_with,
    body_held,
    chunk,
    in_line,
    laned,
    passes,
    post,
    serving,
    start,
    until,
)
from turnlane import Enqueue, Interrupt, Lanes, Reject, Steer, current_turn
from turnlane.messages import HttpMessage
from turnlane.turns.talk import Steered


@pytest.fixture(params=[*WAYS, "short"])
def way(request: pytest.FixtureRequest) -> str:
    """The way of the request that runs; those that are offered to it go the long one."""
    return str(request.param)


class Steerable:
    """What the request "holder" does: it keeps what it takes, and is done with it as the test says."""

    def __init__(self, app: StagedApp) -> None:
        self.taken: list[Steered] = []
        self._app = app
        app.steps["holder"] = self.run

    async def run(self, _: Scope, __: Receive, send: Send) -> None:
        await self._app.released("holder")
        await answer_with(send, b",".join(each.message.body for each in self.taken))

    def take(self) -> Steered:
        turn = self._app.turns["holder"]
        assert turn is not None
        found = turn.steering.take()
        assert found is not None
        self.taken.append(found)
        return found


def made(app: StagedApp, way: str, **settings: Any) -> tuple[Any, Any]:
    """Return the middleware of the request that runs, and that of those that steer it."""
    if way != "short":
        middleware = laned(app, way=way, policy=Steer(), **settings)
        return middleware, middleware
    lanes = Lanes()
    return laned(app, lanes=lanes), laned(app, lanes=lanes, policy=Steer(), **settings)


async def test_a_message_that_was_taken_and_done_is_answered_there(way: str) -> None:
    """409 with the turn of the request that runs, when that is done with it and not before."""
    app = StagedApp()
    holding, steering = made(app, way)
    agent = Steerable(app)
    async with serving(holding) as driver, serving(steering) as other:
        holder = post(driver, "alice", "holder")
        await app.entered("holder")
        sender = post(other, "alice", "sender", body=b"more", headers={"content-type": "a/b"})
        await in_line(steering, 1)
        offered = agent.take()
        assert offered.message == HttpMessage(b"more", "a/b")
        await passes()
        assert (offered.waits, sender.messages) == (True, [])
        assert offered.done()
        response = await sender.response()
        await sender.finished()
        app.release("holder")
        answer = await holder.response()
    assert (response.status, response.json()["error"]["code"]) == (409, "turn_steered")
    assert response.json()["into"] == answer.headers["x-turnlane-turn"]
    assert response.headers["x-should-retry"] == "false"
    assert answer.text == "more"
    assert "+sender" not in app.log


async def test_accepted_is_said_by_choice() -> None:
    """`redirect_status=202`."""
    app = StagedApp()
    middleware = laned(app, policy=Steer(), redirect_status=202)
    agent = Steerable(app)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        sender = post(driver, "alice", "sender")
        await in_line(middleware, 1)
        assert agent.take().done()
        response = await sender.response()
        assert (response.status, response.json()["error"]["code"]) == (202, "turn_steered")
        app.release("holder")


@pytest.mark.parametrize("take", [True, False])
@pytest.mark.parametrize("fails", [True, False])
async def test_a_message_nobody_was_done_with_is_a_request_of_its_own(way: str, take: bool, fails: bool) -> None:
    """In its place in line, with its own body, however the request ended that could have taken it."""
    app = StagedApp()
    holding, steering = made(app, way)
    agent = Steerable(app)

    async def fail(*_: Any) -> None:
        await app.released("holder")
        raise LookupError

    if fails:
        app.steps["holder"] = fail
    async with serving(holding) as driver, serving(steering) as other:
        holder = post(driver, "alice", "holder")
        await app.entered("holder")
        requests = [post(other, "alice", "first", body=b"1")]
        await in_line(steering, 1)
        requests.append(post(other, "alice", "second", body=b"2"))
        await in_line(steering, 2)
        offered = agent.take() if take else None
        app.release("holder", "first", "second")
        assert [(await request.response()).status for request in requests] == [200, 200]
        assert offered is None or not offered.done()
        if fails:
            with pytest.raises(LookupError):
                await holder.finished()
    assert (app.bodies["first"], app.bodies["second"]) == (b"1", b"2")
    assert app.log[2:] == ["+first", "-first", "+second", "-second"]


async def test_an_interruption_leaves_the_message_to_its_sender(way: str) -> None:
    """The running request is cancelled and the newest runs; who waited is told, and was not taken."""
    app = StagedApp()
    holding, steering = made(app, way)
    newest = laned(app, lanes=steering.runtime.lanes, policy=Interrupt(grace=0))
    agent = Steerable(app)
    async with serving(holding) as driver, serving(steering) as other, serving(newest) as third:
        holder = post(driver, "alice", "holder")
        await app.entered("holder")
        sender = post(other, "alice", "sender")
        await in_line(steering, 1)
        offered = agent.take()
        request = post(third, "alice", "newest")
        app.release("newest")
        assert (await request.response()).status == 200
        for each in (holder, sender):
            response = await each.response()
            assert (response.status, response.json()["error"]["code"]) == (409, "turn_interrupted")
        assert not offered.done()


async def test_a_client_that_leaves_is_not_waited_for(way: str) -> None:
    """Taken or not: its message is over."""
    app = StagedApp()
    holding, steering = made(app, way)
    agent = Steerable(app)
    async with serving(holding) as driver, serving(steering) as other:
        post(driver, "alice", "holder")
        await app.entered("holder")
        first = post(other, "alice", "first")
        await in_line(steering, 1)
        second = post(other, "alice", "second")
        await in_line(steering, 2)
        offered = agent.take()
        for request in (first, second):
            request.disconnect()
            await request.finished()
            assert request.messages == NOBODY
        turn = app.turns["holder"]
        assert turn is not None
        assert turn.steering.take() is None
        assert (offered.waits, offered.done()) == (False, False)
        app.release("holder")
    assert app.log == ["+holder", "-holder"]


async def test_a_stream_takes_what_is_sent_meanwhile() -> None:
    """`async for steered in turn.steering` beside the model, its words in the same response."""
    app = StagedApp()

    async def stream(_: Scope, __: Receive, send: Send) -> None:
        turn = current_turn()
        assert turn is not None
        await send(start(200, (b"content-type", b"text/plain")))
        await send(chunk(b"thinking"))
        async for steered in turn.steering:
            await send(chunk(b" " + steered.message.body))
            assert steered.done()
            if steered.message.body == b"stop":
                break
        await send(chunk(b"", more=False))

    app.steps["holder"] = stream
    middleware = laned(app, policy=Steer())
    async with serving(middleware) as driver:
        holder = post(driver, "alice", "holder")
        assert await holder.body_chunk() == b"thinking"
        response = None
        for text in ("go", "on", "stop"):
            response = await post(driver, "alice", text, body=text.encode()).response()
            assert response.json()["error"]["code"] == "turn_steered"
        assert (await holder.response()).text == "thinking go on stop"
    assert app.log == ["+holder", "-holder"]


async def test_a_body_longer_than_is_read_ahead_is_not_offered() -> None:
    """It waits for a turn of its own, and the app gets all of it."""
    app = StagedApp()
    middleware = laned(app, policy=Steer(), body_limit=5)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        request = post(driver, "alice", "it", body=b"longer than that")
        await in_line(middleware, 1)
        turn = app.turns["holder"]
        assert turn is not None
        assert turn.steering.take() is None
        app.release("holder", "it")
        assert (await request.response()).status == 200
    assert app.bodies["it"] == b"longer than that"


async def test_a_message_of_ones_own_is_offered() -> None:
    """`message=` says what the running turn is given."""
    app = StagedApp()

    async def text(connection: Any) -> str:
        return str(json.loads(await connection.body())["text"])

    middleware = laned(app, policy=Steer(), message=text)
    agent = Steerable(app)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder", body=b'{"text": "first"}')
        await app.entered("holder")
        turn = app.turns["holder"]
        assert turn is not None
        assert turn.messages == ("first",)
        sender = post(driver, "alice", "sender", body=b'{"text": "more"}')
        await in_line(middleware, 1)
        offered = agent.take()
        assert offered.message == "more"
        agent.taken.clear()
        assert offered.done()
        assert (await sender.response()).status == 409
        app.release("holder")


async def test_bytes_of_a_message_that_was_steered_are_let_go() -> None:
    """Although the turn that took it still runs."""
    app = StagedApp()
    middleware = laned(app, policy=Steer(), body_budget=4)
    agent = Steerable(app)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        for number in range(3):
            sender = post(driver, "alice", f"sender {number}", body=b"more")
            await in_line(middleware, 1)
            assert body_held(middleware) == 4
            assert agent.take().done()
            await sender.finished()
            await until(lambda: body_held(middleware) == 0)
        app.release("holder")


@pytest.mark.parametrize("policy", [Enqueue(), Reject()])
async def test_what_others_send_is_not_offered(policy: Any) -> None:
    """Only who asks to steer does."""
    app = StagedApp()
    lanes = Lanes()
    holding = laned(app, lanes=lanes, policy=Steer())
    async with serving(holding) as driver, serving(laned(app, lanes=lanes, policy=policy)) as other:
        post(driver, "alice", "holder")
        await app.entered("holder")
        request = post(other, "alice", "it", body=b"x")
        await request.until_idle()
        turn = app.turns["holder"]
        assert turn is not None
        assert turn.steering.take() is None
        app.release("holder", "it")
        assert (await request.response()).status in (200, 409)
