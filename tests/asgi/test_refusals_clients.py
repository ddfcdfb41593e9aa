"""What the real OpenAI and Anthropic clients make of refusals and of streams that end with one."""

from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_clients import CLIENTS, Recorded, ask
from support.asgi_staged import StagedApp, chunk, laned, post, serving, start
from support.asgi_wire import Wire, scope_of
from turnlane import Interrupt, errors
from turnlane.testing import Response

# What each client calls an answer of that status.
KINDS: dict[int, tuple[type[Exception], type[Exception]]] = {
    400: (openai.BadRequestError, anthropic.BadRequestError),
    409: (openai.ConflictError, anthropic.ConflictError),
    413: (openai.APIStatusError, anthropic.APIStatusError),
    422: (openai.UnprocessableEntityError, anthropic.UnprocessableEntityError),
    429: (openai.RateLimitError, anthropic.RateLimitError),
    503: (openai.InternalServerError, anthropic.InternalServerError),
    504: (openai.InternalServerError, anthropic.InternalServerError),
}

REFUSED: dict[str, errors.TurnlaneError] = {
    "lane_busy": errors.LaneBusy("k", ahead=1),
    "lane_full": errors.LaneFull("k", waiting=1, max_waiting=1),
    "wait_timeout": errors.WaitTimeout("k", wait_timeout=1, holder=None),
    "draining": errors.LanesDraining("k"),
    "capacity": errors.CapacityExceeded("k", resource="max_running", limit=1),
    "principal_capacity": errors.PrincipalCapacityExceeded("k", resource="max_running_per_principal", limit=1),
    "turn_interrupted": errors.TurnInterrupted("k", turn="turn-1", into="turn-2", running=False),
    "lane_reentry": errors.LaneReentry("k", cycle=("k",)),
    "turn_timeout": errors.TurnTimeout("k", turn="turn-1", turn_timeout=1),
    "session_key_required": errors.SessionKeyRequired("header x-key"),
    "session_key_invalid": errors.SessionKeyInvalid("header x-key", reason="it is a list, not text"),
    "body_too_large": errors.BodyTooLarge("header x-key", body_limit=1),
}

# Chunks of a stream as its app sends them, before it is interrupted. The events are such as both clients can read.
OPENAI = b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}'
ANTHROPIC = b'{"type":"content_block_stop","index":0}'
STREAMS: dict[str, Callable[[bytes], list[bytes]]] = {
    "nothing yet": lambda _: [],
    "only a comment": lambda _: [b": working\n\n"],
    "a whole event": lambda data: [b"data: " + data + b"\n\n"],
    "named events": lambda data: [b"event: content_block_stop\ndata: " + data + b"\n\n"] * 3,
    "line by line": lambda data: [b"event: content_block_stop\n", b"data: " + data + b"\n", b"\n"],
    "line by line, with an id": lambda data: [b"id: 7\n", b"data: " + data + b"\n", b"\n"],
    "with an id": lambda data: [b"id: 7\ndata: " + data + b"\n\n"],
    "carriage returns": lambda data: [b"data: " + data + b"\r\n\r\n"],
    "carriage returns, with an id": lambda data: [b"id: 7\r\n", b"data: " + data + b"\r\n", b"\r\n"],
    "no blank line yet": lambda data: [b"data: " + data],
    "no blank line yet, with an id": lambda data: [b"id: 7\ndata: " + data + b"\n"],
    "an empty chunk after half an event": lambda data: [b"data: " + data, b""],
    "an empty chunk after an event": lambda data: [b"id: 7\ndata: " + data + b"\n\n", b""],
    "two chunks of one blank line": lambda data: [b"id: 7\ndata: " + data + b"\n", b"\n"],
}


async def refused(error: errors.TurnlaneError) -> Response:
    """Return the whole response to a request whose turn ended with an error before it answered."""
    app = StagedApp()

    async def failing(_: Scope, __: Receive, ___: Send) -> None:
        raise error.with_traceback(None)

    app.steps["it"] = failing
    async with serving(laned(app)) as driver:
        return await post(driver, "k", "it").response()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("code", REFUSED)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_read_by_the_clients(code: str, client: str, stream: bool) -> None:
    """The class that goes with the status; the code, the word for the family and the sentence where each keeps them."""
    response = await refused(REFUSED[code])
    kind = KINDS[response.status][CLIENTS.index(client)]
    with pytest.raises(kind) as caught:
        list(ask(client, Recorded(response).client(client, max_retries=0), stream=stream))
    found: Any = caught.value
    assert found.status_code == response.status
    assert response.json()["error"]["message"] in str(found)
    if client == "openai":
        assert (found.code, found.type) == (code, response.json()["error"]["type"])
        assert found.param == response.json()["error"]["param"]
    else:
        assert found.body["error"]["code"] == code
        assert found.body["error"]["type"] == response.json()["error"]["type"]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("code", REFUSED)
async def test_who_shall_not_try_again_does_not(code: str, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients ask once where `x-should-retry` is false, and again after `Retry-After` where it is given."""
    response = await refused(REFUSED[code])
    recorded = Recorded(response)
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    with pytest.raises(KINDS[response.status][CLIENTS.index(client)]):
        list(ask(client, recorded.client(client, max_retries=2), stream=False))
    if "retry-after" in response.headers:
        assert recorded.asked == 3
        assert slept == [float(response.headers["retry-after"])] * 2
    else:
        assert (recorded.asked, slept) == (1, [])


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_that_is_interrupted_ends_with_an_error_the_clients_raise(client: str, name: str) -> None:
    """Wherever in its events the stream was: the clients raise their error with the code, and do not ask again."""
    data = OPENAI if client == "openai" else ANTHROPIC
    response, into = await interrupted(STREAMS[name](data))
    recorded = Recorded(response)
    kind = openai.APIError if client == "openai" else anthropic.APIError
    with pytest.raises(kind) as caught:
        list(ask(client, recorded.client(client, max_retries=2), stream=True))
    found: Any = caught.value
    if client == "openai":
        assert (found.code, found.type) == ("turn_interrupted", "conflict_error")
        assert "took the place" in found.message
        assert found.body["into"] == into
    else:
        assert found.body["error"]["code"] == "turn_interrupted"
        assert found.body["into"] == into
    assert recorded.asked == 1


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_stream_of_memory_views_ends_as_one_of_bytes(client: str) -> None:
    """Starlette sends what it is given; also where an event was cut between two parts."""
    data = b"data: " + (OPENAI if client == "openai" else ANTHROPIC) + b"\n"
    wire, app = Wire(), StagedApp()

    async def streaming(_: Scope, __: Receive, send: Send) -> None:
        await send(start(200, (b"content-type", b"text/event-stream")))
        for part in (data, b"\n", data[:40], data[40:]):
            await send({"type": "http.response.body", "body": memoryview(part), "more_body": True})
        raise REFUSED["turn_interrupted"].with_traceback(None)

    app.steps["it"] = streaming
    await wire.call(laned(app), scope_of("k"))
    body = b"".join(bytes(message.get("body", b"")) for message in wire.sent)
    response = Response(status=200, headers={"content-type": "text/event-stream"}, raw_headers=(), body=body)
    with pytest.raises((openai.APIError, anthropic.APIError)) as caught:
        list(ask(client, Recorded(response).client(client), stream=True))
    found: Any = caught.value
    assert "turn_interrupted" in str(found.body)


@pytest.mark.parametrize("client", CLIENTS)
async def test_what_was_said_before_the_interruption_is_heard(client: str) -> None:
    """Events that were whole are delivered; the error comes after them."""
    named = b"event: content_block_stop\ndata: " if client == "anthropic" else b"data: "
    data = OPENAI if client == "openai" else ANTHROPIC
    response, _ = await interrupted([named + data + b"\n\n"] * 3)
    heard: list[Any] = []
    with pytest.raises((openai.APIError, anthropic.APIError)):
        heard.extend(hear(ask(client, Recorded(response).client(client), stream=True), heard))
    assert len(heard) == 3


def hear(events: Any, heard: list[Any]) -> list[Any]:
    """Put events into a list one by one, so that those before an error are kept."""
    for event in events:
        heard.append(event)  # noqa: PERF402  the list must have them when the next one raises
    return []


async def interrupted(chunks: list[bytes]) -> tuple[Response, str]:
    """Return the response of a stream that was interrupted after these chunks, and who took its place."""
    app = StagedApp()

    async def streaming(_: Scope, __: Receive, send: Send) -> None:
        await send(start(200, (b"content-type", b"text/event-stream; charset=utf-8")))
        for body in chunks:
            await send(chunk(body))
        await app.released("never")

    app.steps["it"] = streaming
    async with serving(laned(app, policy=Interrupt(grace=0))) as driver:
        request = post(driver, "k", "it")
        await app.entered("it")
        await request.until_idle()
        app.release("next")
        newer = await post(driver, "k", "next").response()
        return await request.response(), newer.headers["x-turnlane-turn"]
