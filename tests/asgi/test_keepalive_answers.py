"""What becomes of the app's answer once comment lines were sent: the rest of the stream, or an error in it."""

import gzip
import json
from typing import Any

import anthropic
import openai
import pytest
from starlette.types import Message, Receive, Scope, Send

from support.asgi_clients import CLIENTS, Recorded, ask
from support.asgi_kept import EVENTS, QUEUED, error_in, kept, kept_behind, says
from support.asgi_staged import StagedApp, chunk, post, start
from turnlane import errors
from turnlane.asgi.refusals import TABLE, document_of
from turnlane.testing import HttpRequest

JSON = (b"content-type", b"application/json")
LAST = chunk(b"data: 1\n\n", more=False)


async def answered(*messages: Message, error: BaseException | None = None, **options: Any) -> HttpRequest:
    """Let the app send this after a comment line, and return the request once it has ended."""
    app = StagedApp()
    says(app, "it", *messages, error=error)
    async with kept(app, **options) as driver:
        request = await kept_behind(driver, app)
        app.release("ahead")
        await request.finished()
    return request


def after_comments(request: HttpRequest) -> list[Any]:
    """Return the messages after the start and the one comment line."""
    assert request.messages[1] == chunk(QUEUED)
    return list(request.messages[2:])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"Text/Event-Stream ;charset=utf-8")],
        [EVENTS, (b"content-length", b"9")],
        [EVENTS, (b"content-encoding", b"identity")],
        [EVENTS, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")],
    ],
)
async def test_a_stream_of_events_goes_on(headers: list[tuple[bytes, bytes]], way: str) -> None:
    """Its start is swallowed, whatever its headers were: none of them was sent."""
    request = await answered(start(200, *headers), LAST, way=way)
    assert after_comments(request) == [LAST]
    assert not {b"content-length", b"content-encoding", b"set-cookie"} & {
        name for name, _ in request.messages[0]["headers"]
    }


async def test_trailers_are_lost_and_the_body_is_the_end() -> None:
    """Nobody was told to expect any."""
    request = await answered(
        start(200, EVENTS, trailers=True),
        LAST,
        {"type": "http.response.trailers", "headers": []},
        driver={"extensions": ["http.response.trailers"]},
    )
    assert after_comments(request) == [LAST]


async def test_announcements_pass_where_they_still_can() -> None:
    """An early hint comes too late, what frameworks tell their test clients does not."""
    kinds = ("http.response.early_hint", "http.response.debug", "http.response.push")
    told: list[Message] = [{"type": kind, "links": [], "info": {}, "path": "/", "headers": []} for kind in kinds]
    request = await answered(*told, start(200, EVENTS), LAST, driver={"extensions": kinds})
    assert after_comments(request) == [*told[1:], LAST]


async def test_a_piece_of_a_file_that_the_server_sends_is_a_piece_of_the_stream() -> None:
    """It is passed on as it is."""
    piece: Message = {"type": "http.response.zerocopysend", "file": 3, "more_body": True}
    request = await answered(start(200, EVENTS), piece, LAST, driver={"extensions": ["http.response.zerocopysend"]})
    assert after_comments(request) == [piece, LAST]


async def test_a_whole_file_can_not_be_the_rest_of_a_stream() -> None:
    """The server sends it instead of a body, not after one."""
    request = await answered(
        start(200, EVENTS),
        {"type": "http.response.pathsend", "path": "/srv/file"},
        driver={"extensions": ["http.response.pathsend"]},
    )
    assert error_in(request.messages)["error"]["code"] == "not_a_stream"


OTHERS: dict[str, tuple[list[Message], dict[str, Any]]] = {
    "OpenAI's": (
        [
            start(401, JSON),
            chunk(b'{"error": {"message": "who?", "type": "t", "param": "p", "code": "c", "x": 1}}', more=False),
        ],
        {"message": "who?", "type": "t", "param": "p", "code": "c", "x": 1},
    ),
    "Anthropic's": (
        [
            start(529, JSON),
            chunk(b'{"type": "error", "error": {"type": "overloaded_error", "message": "much"}}', more=False),
        ],
        {"message": "much", "type": "overloaded_error", "param": None, "code": "http_529"},
    ),
    "FastAPI's": (
        [start(404, JSON), chunk(b'{"detail": "no', more=True), chunk(b' model"}', more=False)],
        {"message": "no model", "type": "not_found_error", "param": None, "code": "http_404"},
    ),
    "a list of mistakes": (
        [start(422, JSON), chunk(b'{"detail": [{"loc": ["body"]}]}', more=False)],
        {
            "message": "the server answered with status 422",
            "type": "invalid_request_error",
            "param": None,
            "code": "http_422",
        },
    ),
    "a sentence as error": (
        [start(500, JSON), chunk(b'{"error": "broken"}', more=False)],
        {"message": "broken", "type": "api_error", "param": None, "code": "http_500"},
    ),
    "an error without a sentence": (
        [start(500, JSON), chunk(b'{"error": {"message": 7}}', more=False)],
        {"message": "the server answered with status 500", "type": "api_error", "param": None, "code": "http_500"},
    ),
    "text": (
        [start(503, (b"content-type", b"text/plain")), chunk(b"Service Unavailable", more=False)],
        {
            "message": "the server answered with status 503",
            "type": "overloaded_error",
            "param": None,
            "code": "http_503",
        },
    ),
    "no body": (
        [start(429), chunk(b"", more=False)],
        {
            "message": "the server answered with status 429",
            "type": "rate_limit_error",
            "param": None,
            "code": "http_429",
        },
    ),
    "no JSON a browser reads": (
        [start(400, JSON), chunk(b'{"error": {"message": "m", "x": NaN, "y": -Infinity}}', more=False)],
        {"message": "m", "type": "invalid_request_error", "param": None, "code": "http_400", "x": None, "y": None},
    ),
    "half a character": (
        [start(400, JSON), chunk(b'{"error": {"message": "\\ud800"}}', more=False)],
        {"message": "\ud800", "type": "invalid_request_error", "param": None, "code": "http_400"},
    ),
    "depth": (
        [start(400, JSON), chunk(b"[" * 60_000, more=False)],
        {
            "message": "the server answered with status 400",
            "type": "invalid_request_error",
            "param": None,
            "code": "http_400",
        },
    ),
    "length": (
        [start(400, JSON), *[chunk(b'{"detail": "' + b"x" * 40_000)] * 3, chunk(b'"}', more=False)],
        {
            "message": "the server answered with status 400",
            "type": "invalid_request_error",
            "param": None,
            "code": "http_400",
        },
    ),
    "compressed": (
        [start(400, JSON, (b"content-encoding", b"gzip")), chunk(gzip.compress(b'{"detail": "x"}'), more=False)],
        {
            "message": "the server answered with status 400",
            "type": "invalid_request_error",
            "param": None,
            "code": "http_400",
        },
    ),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_an_error_of_the_app_is_told_in_the_stream(name: str, way: str) -> None:
    """What the body says in a form that is known is kept; there is always a sentence, a kind and a code."""
    messages, expected = OTHERS[name]
    request = await answered(*messages, way=way)
    assert len(after_comments(request)) == 1
    assert error_in(request.messages) == {"type": "error", "error": expected}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([start(200, JSON), chunk(b'{"id": "c"}', more=False)], "status 200 and application/json"),
        ([start(200), chunk(b"text"), chunk(b"", more=False)], "status 200 and no content type"),
        ([start(204), chunk(b"", more=False)], "status 204"),
        ([start(307, (b"location", b"/x")), chunk(b"", more=False)], "status 307"),
        ([start(200, EVENTS, (b"content-encoding", b"gzip")), chunk(b"\x1f", more=False)], "text/event-stream"),
    ],
)
async def test_an_answer_that_is_no_stream_is_told_as_an_error(
    messages: list[Message], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And logged: the setting does not fit what is served there."""
    request = await answered(*messages)
    found = error_in(request.messages)["error"]
    assert (found["code"], found["type"]) == ("not_a_stream", "api_error")
    assert said in found["message"]
    assert "answer_is_no_stream" in caplog.text


async def test_an_answer_that_is_no_stream_is_heard_to_its_end() -> None:
    """For who sends it the end of the response is the end of its client: it would be cut short."""
    app = StagedApp()

    async def step(_: Scope, __: Receive, send: Send) -> None:
        await send(start(200, JSON))
        await send(chunk(b'{"half": '))
        assert len(request.messages) == 2
        await send(chunk(b"1}", more=False))
        assert len(request.messages) == 3

    app.steps["it"] = step
    async with kept(app) as driver:
        request = await kept_behind(driver, app)
        app.release("ahead")
        await request.finished()


@pytest.mark.parametrize("said", [(), (start(500, JSON), chunk(b'{"det'))], ids=["at once", "in an error of its own"])
async def test_an_app_that_fails_is_told_and_raised(said: tuple[Message, ...], way: str) -> None:
    """The client gets an error event in place of the 500 it would have got; the server logs the failure."""
    app, failure = StagedApp(), KeyError("a bug")
    says(app, "it", *said, error=failure)
    async with kept(app, way=way) as driver:
        request = await kept_behind(driver, app)
        app.release("ahead")
        with pytest.raises(KeyError) as caught:
            await request.finished()
        app.release("next")
        assert (await post(driver, "k", "next").response()).status == 200
    assert caught.value is failure
    document = error_in(request.messages)
    assert document["error"]["code"] == "internal_error"
    assert "bug" not in json.dumps(document)


async def test_an_app_that_fails_in_the_middle_of_its_stream_is_broken_off(way: str) -> None:
    """As without keep-alive: what the app had begun is the app's."""
    app = StagedApp()
    says(app, "it", start(200, EVENTS), chunk(b"data: 1\n\n"), error=KeyError("a bug"))
    async with kept(app, way=way) as driver:
        request = await kept_behind(driver, app)
        app.release("ahead")
        with pytest.raises(KeyError):
            await request.finished()
    assert after_comments(request) == [chunk(b"data: 1\n\n")]


@pytest.mark.parametrize("said", [(), (start(404, JSON), chunk(b'{"det'))], ids=["nothing", "half an error"])
async def test_an_app_that_returns_without_an_answer_is_told(said: tuple[Message, ...], way: str) -> None:
    """The stream ends."""
    request = await answered(*said, way=way)
    assert error_in(request.messages)["error"]["code"] == "internal_error"


@pytest.mark.parametrize("message", [LAST, {"type": "http.response.pathsend", "path": "/x"}])
async def test_an_app_that_begins_in_the_middle_is_told_so(message: Message) -> None:
    """As servers tell it, by an error of `send`."""
    app = StagedApp()
    says(app, "it", message)
    async with kept(app, driver={"extensions": ["http.response.pathsend"]}) as driver:
        request = await kept_behind(driver, app)
        app.release("ahead")
        with pytest.raises(RuntimeError, match=message["type"]):
            await request.finished()


@pytest.mark.parametrize("messages", [(start(200, EVENTS), LAST), (start(404), LAST)], ids=["a stream", "an error"])
async def test_what_comes_after_the_end_changes_nothing(messages: tuple[Message, ...]) -> None:
    """An app that fails after its answer is the server's business alone."""
    app, failure = StagedApp(), KeyError("a background task")
    says(app, "it", *messages, error=failure)
    async with kept(app) as driver:
        request = await kept_behind(driver, app)
        app.release("ahead")
        with pytest.raises(KeyError):
            await request.finished()
    assert len(after_comments(request)) == 1


EXAMPLES: dict[str, errors.TurnlaneError] = {
    "lane_busy": errors.LaneBusy("k", ahead=1),
    "lane_full": errors.LaneFull("k", waiting=1, max_waiting=1),
    "wait_timeout": errors.WaitTimeout("k", wait_timeout=1, holder=None),
    "draining": errors.LanesDraining("k"),
    "capacity": errors.CapacityExceeded("k", resource="max_running", limit=1),
    "turn_interrupted": errors.TurnInterrupted("k", turn="turn-1", into="turn-2", running=True),
    "lane_reentry": errors.LaneReentry("k", cycle=("k",)),
    "turn_timeout": errors.TurnTimeout("k", turn="turn-1", turn_timeout=1),
    "consumer_idle": errors.ConsumerIdle("k", turn="turn-1", idle_consumer_timeout=1),
    "session_key_required": errors.SessionKeyRequired("header x-key"),
    "session_key_invalid": errors.SessionKeyInvalid("header x-key", reason="it is a list, not text"),
    "body_too_large": errors.BodyTooLarge("header x-key", body_limit=1),
    "session_conflict": errors.SessionConflict("k", expected_version=1, found_version=2),
    "session_store_unavailable": errors.SessionStoreUnavailable("k", where="w", operation="read", reason="r"),
    "session_corrupt": errors.SessionCorrupt("k", where="w", reason="r"),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("code", EXAMPLES)
async def test_every_refusal_is_raised_by_the_clients_once(code: str, client: str, way: str) -> None:
    """By the table that makes responses: the same code, kind and sentence, and the client does not ask again."""
    request = await answered(error=EXAMPLES[code], way=way)
    expected = document_of(EXAMPLES[code])
    found = error_in(request.messages)
    assert found == {"type": "error"} | {name: expected[name] for name in ("error", "into") if name in expected}
    recorded = Recorded(await request.response())
    with pytest.raises((openai.APIError, anthropic.APIError)) as caught:
        list(ask(client, recorded.client(client, max_retries=2), stream=True))
    raised: Any = caught.value
    assert recorded.asked == 1
    if client == "openai":
        assert (raised.code, raised.type) == (code, expected["error"]["type"])
    else:
        assert raised.body["error"]["code"] == code
    assert expected["error"]["message"] in str(raised)


def test_every_row_of_the_table_has_its_code_told() -> None:
    """What is said in a stream is made of the document alone, so rows that no example stands for are told too."""
    assert set(EXAMPLES) <= {row.code for row in TABLE}
