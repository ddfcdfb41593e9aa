"""One line added: requests of a session key run one after the other, in arrival order."""

import asyncio
import random

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from support.asgi_staged import KEY, StagedApp, answer_with, header_of, laned, post, serving, watched
from turnlane import Enqueue, LaneMiddleware, Turn, current_turn
from turnlane.testing import AsgiDriver


async def test_overlapping_requests_of_a_key_run_in_arrival_order(way: str) -> None:
    """Each is in the app only when the one before it has returned, and the responses are their own."""
    app = StagedApp()
    async with serving(laned(app, way=way)) as driver:
        requests = [post(driver, "alice", str(number)) for number in range(4)]
        for number, request in enumerate(requests):
            await app.entered(str(number))
            await request.until_idle()
            assert app.log[-1] == f"+{number}"
            app.release(str(number))
            assert (await request.response()).text == str(number)
    assert app.log == ["+0", "-0", "+1", "-1", "+2", "-2", "+3", "-3"]


async def test_other_keys_do_not_wait(way: str) -> None:
    """While one key's line stands, every other key is served."""
    app = StagedApp()
    async with serving(laned(app, way=way)) as driver:
        post(driver, "alice", "held")
        waiting = post(driver, "alice", "waiting")
        await app.entered("held")
        for number in range(5):
            name = f"other-{number}"
            app.release(name)
            assert (await post(driver, f"key-{number}", name).response()).status == 200
        assert "+waiting" not in app.log
        app.release("held", "waiting")
        assert (await waiting.response()).text == "waiting"


async def test_the_order_is_that_of_arrival_not_of_bodies(way: str) -> None:
    """A request whose body is still on its way keeps its place; the body is waited for in the app."""
    app = StagedApp()
    async with serving(laned(app, way=way)) as driver:
        post(driver, "alice", "first")
        await app.entered("first")
        slow = post(driver, "alice", "slow", body=None)
        await slow.send_body(b"half ")
        quick = post(driver, "alice", "quick", body=b"whole")
        await quick.until_idle()
        app.release("first", "slow", "quick")
        await app.entered("slow")
        assert "+quick" not in app.log
        await slow.send_body(b"and half", more=False)
        await quick.response()
    assert app.log == ["+first", "-first", "+slow", "-slow", "+quick", "-quick"]
    assert app.bodies == {"first": b"", "slow": b"half and half", "quick": b"whole"}


async def test_the_turn_is_in_the_state_and_in_the_context(way: str) -> None:
    """`request.state.turn`, `scope["state"]["turn"]` and `current_turn()` are one turn, which runs."""
    seen: list[Turn | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        seen.extend([request.state.turn, scope["state"]["turn"], current_turn()])
        assert request.state.turn.running
        await PlainTextResponse(request.state.turn.key)(scope, receive, send)

    async with serving(laned(app, way=way)) as driver:
        response = await post(driver, "  alice ", "it").response()
    assert response.text == "alice"
    assert len(set(seen)) == 1
    turn = seen[0]
    assert turn is not None
    assert not turn.running
    assert (turn.session is not None) == (way == "sessions")
    assert turn.token > 0


async def test_tasks_the_app_starts_are_in_the_turn(way: str) -> None:
    """The context goes with the tasks of the app, and back to nothing when the app has returned."""
    seen: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def inner() -> None:
            seen.append(current_turn() is scope["state"]["turn"])

        await asyncio.create_task(inner())
        await answer_with(send)

    middleware = laned(app, way=way)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware(scope, receive, send)
        seen.append(current_turn() is None)

    async with watched(middleware), AsgiDriver(server) as driver:
        await post(driver, "alice", "it").response()
    assert seen == [True, True]


async def test_an_existing_state_is_kept(way: str) -> None:
    """What the lifespan put there stays, in the same dictionary."""
    app = StagedApp(held=False)
    async with serving(laned(app, way=way)) as driver:
        request = post(driver, "alice", "it", state={"pool": 7})
        state = request.scope["state"]
        await request.response()
    assert app.scopes["it"]["state"] is state
    assert state == {"pool": 7, "turn": app.turns["it"]}


async def test_a_server_without_state_gets_one(way: str) -> None:
    """A scope without `state`, as ASGI allows, is given one with the turn in it."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["state"])
        seen.append({"turn": current_turn()})
        await answer_with(send)

    middleware = laned(app, way=way)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        del scope["state"]
        await middleware(scope, receive, send)

    async with watched(middleware), AsgiDriver(server) as driver:
        await post(driver, "alice", "it").response()
    assert seen[0] == seen[1]


async def test_the_app_runs_in_the_task_of_the_server(way: str) -> None:
    """No task of its own, so that cancellation and context variables of the server reach the app."""
    tasks: list[object] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        tasks.append(asyncio.current_task())
        await answer_with(send)

    async with serving(laned(app, way=way)) as driver:
        request = post(driver, "alice", "it")
        await request.response()
    assert tasks == [request.task]


async def test_lanes_are_shared_by_middlewares_that_are_given_the_same() -> None:
    """Two apps with one `lanes=` have one lane per key; without, each has its own."""
    app = StagedApp()
    first = laned(app)
    for other, shared in ((laned(app, lanes=first.runtime.lanes), True), (laned(app), False)):
        app.log.clear()
        one, two = f"one-{shared}", f"two-{shared}"
        async with serving(first) as driver, serving(other) as other_driver:
            post(driver, "alice", one)
            await app.entered(one)
            request = post(other_driver, "alice", two)
            await request.until_idle()
            assert (f"+{two}" in app.log) is not shared
            app.release(one, two)
            await request.response()


@pytest.mark.parametrize("number", [1, 20])
async def test_tokens_grow_with_every_turn(way: str, number: int) -> None:
    """Later turns have larger tokens and names of their own."""
    app = StagedApp(held=False)
    async with serving(laned(app, way=way)) as driver:
        for name in range(number):
            await post(driver, "alice", str(name)).finished()
    turns = [turn for turn in app.turns.values() if turn is not None]
    tokens = [turn.token for turn in turns]
    assert len(turns) == number
    assert tokens == sorted(set(tokens))
    assert len({turn.id for turn in turns}) == number


async def test_the_middleware_needs_nothing_but_a_header_name() -> None:
    """The one line of the README, with everything else left to itself."""
    app = StagedApp()
    middleware = LaneMiddleware(app, key=KEY)
    async with serving(middleware) as driver:
        first, second = post(driver, "alice", "1"), post(driver, "alice", "2")
        await app.entered("1")
        await second.until_idle()
        assert app.log == ["+1"]
        app.release("1", "2")
        assert [(await request.response()).status for request in (first, second)] == [200, 200]


async def test_a_hundred_requests_at_once_over_ten_keys(way: str, seed: int) -> None:
    """Arrival order within each key and never two of a key in the app, however long each of them takes."""
    rng = random.Random(seed)
    log: list[str] = []

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        name = header_of(scope, b"x-name").decode()
        log.append(f"+{name}")
        for _step in range(rng.randrange(6)):
            await asyncio.sleep(0)
        log.append(f"-{name}")
        await answer_with(send)

    async with serving(laned(app, way=way, policy=Enqueue(max_waiting=None))) as driver:
        keys = [rng.randrange(10) for _ in range(100)]
        requests = [post(driver, f"key-{key}", str(number)) for number, key in enumerate(keys)]
        for request in requests:
            assert (await request.response()).status == 200
    for key in range(10):
        numbers = [number for number, each in enumerate(keys) if each == key]
        of_key = [entry for entry in log if int(entry[1:]) in numbers]
        assert of_key == [f"{sign}{number}" for number in numbers for sign in "+-"], f"--seed={seed}"
    assert log != [f"{sign}{number}" for number in range(100) for sign in "+-"], f"nothing overlapped, --seed={seed}"
