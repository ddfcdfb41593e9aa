"""`retries=True`: a request that says it is a retry is the message it repeats, without any idempotency key."""

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_duplicates import code_of, keyed, once, runs_of
from support.asgi_staged import StagedApp, answer_with, chunk, in_line, post, serving, start
from turnlane import Reject
from turnlane.testing import AsgiDriver, HttpRequest, ManualClock, Response

YES = b'{"text": "yes"}'


def attempt(driver: AsgiDriver, name: str, count: int | str, **options: Any) -> HttpRequest:
    """Start a request as the clients' n-th attempt."""
    headers = {"x-stainless-retry-count": str(count), **options.pop("headers", {})}
    given: dict[str, Any] = {"body": YES, **options}
    return keyed(driver, name, None, headers=headers, **given)


async def answered(driver: AsgiDriver, name: str, count: int | str, **options: Any) -> Response:
    """Send one, and return its response."""
    return await attempt(driver, name, count, **options).response()


def retrying(app: StagedApp, **settings: Any) -> Any:
    """Return the middleware with the rule on."""
    return once(app, retries=True, **settings)


async def test_a_retry_of_a_request_that_was_answered_gets_the_answer() -> None:
    """The client did not see it; any number of attempts."""
    app = StagedApp()
    async with serving(retrying(app)) as driver:
        first = attempt(driver, "first", 0)
        await app.entered("first")
        first.disconnect()
        app.release("first")
        await first.finished()
        assert [(await answered(driver, str(count), count)).body for count in (1, 2)] == [b"first"] * 2
    assert runs_of(app) == ["first"]


@pytest.mark.parametrize("while_running", ["refuse", "wait"])
async def test_a_retry_of_a_request_that_runs_does_not_run(while_running: str) -> None:
    """It is refused with Retry-After, or waits."""
    app = StagedApp()
    async with serving(retrying(app, while_running=while_running)) as driver:
        first = attempt(driver, "first", 0)
        await app.entered("first")
        first.disconnect()
        retry = attempt(driver, "retry", 1)
        await retry.until_idle()
        app.release("first")
        response = await retry.response()
        assert (code_of(response) or response.text) == ("duplicate_running" if while_running == "refuse" else "first")
        await first.finished()
    assert runs_of(app) == ["first"]


async def test_equal_messages_that_are_no_retries_are_new() -> None:
    """Sent twice on purpose it runs twice; a retry after that is one of the newer."""
    app = StagedApp(held=False)
    async with serving(retrying(app)) as driver:
        names = [(await answered(driver, name, 0)).text for name in ("a", "b")]
        assert (await answered(driver, "retry", 1)).text == "b"
    assert names == runs_of(app) == ["a", "b"]


@pytest.mark.parametrize("while_running", ["refuse", "wait"])
async def test_equal_messages_that_wait_in_line_are_new_too(while_running: str) -> None:
    """The older runs although the newer has taken its place; a retry is one of the newer."""
    app = StagedApp()
    middleware = retrying(app, while_running=while_running)
    async with serving(middleware) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        requests: list[HttpRequest] = []
        for name in ("a", "b"):
            requests.append(attempt(driver, name, 0))
            await in_line(middleware, len(requests))
        app.release("holder", "a", "b")
        names = [(await request.response()).text for request in requests]
        assert (await answered(driver, "retry", 1)).text == "b"
    assert names == ["a", "b"]
    assert runs_of(app) == ["holder", "a", "b"]


@pytest.mark.parametrize(
    "other", [{"body": b"no"}, {"session": "bob"}, {"target": "/other"}, {"headers": {"content-type": "text/x"}}]
)
async def test_a_retry_of_something_else_is_new(other: dict[str, Any]) -> None:
    """Body, session, path and content type must be the same."""
    app = StagedApp(held=False)
    async with serving(retrying(app)) as driver:
        await answered(driver, "first", 0)
        assert (await answered(driver, "retry", 1, **other)).text == "retry"


async def test_a_retry_whose_first_attempt_never_came_runs() -> None:
    """And is known by that from then on."""
    app = StagedApp(held=False)
    async with serving(retrying(app)) as driver:
        assert [(await answered(driver, f"retry-{count}", count)).text for count in (1, 2)] == ["retry-1"] * 2


@pytest.mark.parametrize("count", ["", "x", "-1", "1.5", "9" * 20])
async def test_a_count_that_is_none_is_passed_over(count: str) -> None:
    """Such a request is as one without."""
    app = StagedApp(held=False)
    async with serving(retrying(app)) as driver:
        assert [(await answered(driver, name, count)).text for name in ("a", "b")] == ["a", "b"]


async def test_without_the_rule_a_retry_runs() -> None:
    """It is opt-in."""
    app = StagedApp(held=False)
    async with serving(once(app)) as driver:
        assert [(await answered(driver, str(count), count)).text for count in (0, 1)] == ["0", "1"]


@pytest.mark.parametrize(
    ("status", "header", "runs"),
    [
        (200, None, 1),
        (400, None, 1),
        (408, None, 2),
        (409, None, 2),
        (429, None, 2),
        (500, None, 2),
        (503, None, 2),
        (500, (b"x-should-retry", b"false"), 1),
        (400, (b"x-should-retry", b"true"), 2),
    ],
)
async def test_an_answer_that_asks_for_another_attempt_gets_one(
    status: int, header: tuple[bytes, bytes] | None, runs: int
) -> None:
    """The clients try again because of it; to send it to them again would make their retries useless."""
    app = StagedApp()

    async def step(_: Scope, __: Receive, send: Send) -> None:
        await send(start(status, *([header] if header else [])))
        await send(chunk(b"answer", more=False))

    app.steps.update(first=step, retry=step)
    async with serving(retrying(app)) as driver:
        for name, count in (("first", 0), ("retry", 1)):
            assert (await answered(driver, name, count)).status == status
    assert len(runs_of(app)) == runs


async def test_a_retry_of_a_refused_request_runs() -> None:
    """Refused for want of its lane, the clients come again by themselves."""
    app = StagedApp()
    async with serving(retrying(app, policy=Reject())) as driver:
        holder = post(driver, "alice", "holder")
        await app.entered("holder")
        assert code_of(await answered(driver, "first", 0)) == "lane_busy"
        app.release("holder", "retry")
        await holder.finished()
        assert (await answered(driver, "retry", 1)).text == "retry"


async def test_an_equal_message_that_was_refused_does_not_hide_the_one_that_runs() -> None:
    """A double click while the first runs: a retry of either waits for the first, nothing runs twice."""
    app = StagedApp()
    async with serving(retrying(app, policy=Reject())) as driver:
        first = attempt(driver, "first", 0)
        await app.entered("first")
        assert code_of(await answered(driver, "double", 0)) == "lane_busy"
        assert code_of(await answered(driver, "retry", 1)) == "duplicate_running"
        app.release("first")
        await first.finished()
        assert (await answered(driver, "late", 2)).text == "first"
    assert runs_of(app) == ["first"]


async def test_a_stream_is_not_run_again() -> None:
    """The clients' retry is told so, and gives up."""
    app = StagedApp()
    body = b'{"stream": true}'

    async def step(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send, b"data: x\n\n", (b"content-type", b"text/event-stream"))

    app.steps.update(first=step, retry=step)
    async with serving(retrying(app)) as driver:
        await answered(driver, "first", 0, body=body)
        refused = await answered(driver, "retry", 1, body=body)
    assert (code_of(refused), refused.headers["x-should-retry"]) == ("duplicate_stream", "false")
    assert runs_of(app) == ["first"]


async def test_a_retry_is_known_for_a_quarter_of_an_hour() -> None:
    """No client comes again after that; a key is known for longer."""
    app, clock = StagedApp(held=False), ManualClock()
    async with serving(retrying(app, clock=clock)) as driver:
        await answered(driver, "first", 0)
        await keyed(driver, "keyed").response()
        clock.advance(899)
        assert (await answered(driver, "second", 1)).text == "first"
        clock.advance(2)
        assert (await answered(driver, "third", 1)).text == "third"
        assert (await keyed(driver, "again").response()).text == "keyed"


async def test_a_body_that_can_not_be_compared_is_new() -> None:
    """Nobody asked for it to be known, so it is not refused."""
    app = StagedApp(held=False)
    async with serving(retrying(app, body_limit=3)) as driver:
        assert [(await answered(driver, str(count), count)).text for count in (0, 1)] == ["0", "1"]
    assert app.bodies == {"0": YES, "1": YES}


async def test_a_key_goes_before_the_count() -> None:
    """With both, the key names the message."""
    app = StagedApp(held=False)
    async with serving(retrying(app)) as driver:
        for name, key in (("a", "one"), ("b", "two")):
            headers = {"idempotency-key": key}
            assert (await answered(driver, name, 1, headers=headers)).text == name
