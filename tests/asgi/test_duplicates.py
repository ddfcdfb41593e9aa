"""`Idempotency-Key`: the same message arriving again gets its answer, and no second run."""

import logging
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_duplicates import code_of, keyed, once, runs_of, send
from support.asgi_staged import StagedApp, answer_with, chunk, laned, passes, post, read_body, serving, start
from turnlane import Runtime, keys
from turnlane.duplicates import Duplicates
from turnlane.hooks import DuplicateRefused, DuplicateReplayed, Event, LoggingHook
from turnlane.testing import ManualClock

PRIVATE = (
    (b"Set-Cookie", b"id=7"),
    (b"WWW-Authenticate", b"Basic"),
    (b"Authentication-Info", b"x"),
    (b"Date", b"now"),
    (b"Connection", b"close, X-Hop"),
    (b"X-Hop", b"1"),
    (b"Keep-Alive", b"timeout=5"),
)


def answering(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Any:
    """Return what answers with this, in pieces."""

    async def step(_: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await send(start(status, *headers))
        await send(chunk(body[:2]))
        await send(chunk(body[2:], more=False))

    return step


@pytest.mark.parametrize("status", [200, 201, 204, 400, 404, 409, 429, 500, 503])
async def test_a_finished_answer_is_sent_again_exactly(status: int) -> None:
    """Status, headers in their order, body; also what the app refused; and it is marked."""
    app = StagedApp()
    app.steps["first"] = answering(status, b"hello", (b"X-B", b"1"), (b"x-a", b"2"), (b"X-B", b"3"))
    async with serving(once(app)) as driver:
        first = await send(driver, "first")
        again = [await send(driver, name) for name in ("second", "third")]
    assert runs_of(app) == ["first"]
    assert (first.status, first.body) == (status, b"hello")
    assert "idempotent-replayed" not in first.headers
    for response in again:
        assert (response.status, response.body) == (status, b"hello")
        assert response.raw_headers == (*first.raw_headers, (b"idempotent-replayed", b"true"))


async def test_what_belongs_to_a_connection_or_to_credentials_is_not_sent_again() -> None:
    """The first client gets it as ever; a store of answers is no store of cookies."""
    app = StagedApp()
    app.steps["first"] = answering(200, b"hello", *PRIVATE, (b"x-kept", b"1"))
    async with serving(once(app, headers=False)) as driver:
        first = await send(driver, "first")
        again = await send(driver, "second")
    assert first.raw_headers == (*PRIVATE, (b"x-kept", b"1"))
    assert again.raw_headers == ((b"x-kept", b"1"), (b"idempotent-replayed", b"true"))


async def test_an_answer_needs_no_lane() -> None:
    """It is there although the lane is held by another message."""
    app = StagedApp(held=False)
    middleware = once(app)
    async with serving(middleware) as driver:
        await send(driver, "first")
        async with middleware.runtime.lanes.turn("alice"):
            assert (await send(driver, "second")).body == b"first"
            assert middleware.runtime.lanes.statistics().waiting == 0
    assert runs_of(app) == ["first"]


@pytest.mark.parametrize("waits", [False, True])
async def test_while_it_runs_or_waits_a_duplicate_is_refused(waits: bool) -> None:
    """409 with Retry-After; afterwards the answer is there."""
    app = StagedApp()
    async with serving(once(app)) as driver:
        if waits:
            post(driver, "alice", "holder")
            await app.entered("holder")
        first = keyed(driver, "first")
        await first.until_idle()
        refused = await send(driver, "second")
        assert (refused.status, code_of(refused)) == (409, "duplicate_running")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "x-should-retry" not in refused.headers
        app.release("holder", "first")
        assert (await first.response()).body == b"first"
        assert (await send(driver, "third")).body == b"first"
    assert runs_of(app) == [*(["holder"] if waits else []), "first"]


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize(
    "other", [{"body": b"other"}, {"headers": {"content-type": "text/x"}}, {"target": "/chat?x=1"}]
)
async def test_another_message_with_the_same_key_is_refused(running: bool, other: dict[str, Any]) -> None:
    """Body, content type or query differ: 422, whether the first one runs or has finished."""
    app = StagedApp()
    async with serving(once(app)) as driver:
        first = keyed(driver, "first", body=b"this")
        await app.entered("first")
        if not running:
            app.release("first")
            await first.finished()
        given: dict[str, Any] = {"body": b"this", **other}
        refused = await send(driver, "second", **given)
        app.release("first")
        await first.finished()
    assert (refused.status, code_of(refused)) == (422, "idempotency_key_reused")
    assert refused.headers["x-should-retry"] == "false"
    assert runs_of(app) == ["first"]


@pytest.mark.parametrize("other", [{"session": "bob"}, {"target": "/other"}, {"key": "two"}])
async def test_another_session_path_or_key_is_another_message(other: Any) -> None:
    """Nobody gets the answer of a stranger by guessing a key."""
    app = StagedApp(held=False)
    async with serving(once(app)) as driver:
        await send(driver, "first")
        assert (await send(driver, "second", **other)).body == b"second"


async def test_principals_do_not_share_messages() -> None:
    """The same session name of two principals: the key of the store is the scoped one."""
    app = StagedApp(held=False)
    key = keys.scoped_by(keys.header("x-user"), "x-session-key")
    async with serving(once(app, key=key)) as driver:
        answers = [
            (await send(driver, name, headers={"x-user": user})).body
            for name, user in (("ann", "ann"), ("bob", "bob"), ("eve", "ann"))
        ]
    assert answers == [b"ann", b"bob", b"ann"]


async def test_a_request_without_a_key_is_not_looked_at() -> None:
    """Nor one without a session; both are new each time, and the body is not read for them."""
    app = StagedApp(held=False)
    async with serving(once(app)) as driver:
        for name in ("a", "b"):
            assert (await send(driver, name, None)).body == name.encode()
            assert (await send(driver, f"{name}{name}", "one", session=None)).body == f"{name}{name}".encode()
    assert runs_of(app) == ["a", "aa", "b", "bb"]


async def test_off_is_off() -> None:
    """Without the setting the header means nothing."""
    app = StagedApp(held=False)
    async with serving(laned(app)) as driver:
        assert [(await send(driver, name)).body for name in ("a", "b")] == [b"a", b"b"]


@pytest.mark.parametrize(("written", "same"), [('"a b"', '"a b"'), ("abc", '"abc"'), (r'"a\"\\"', r'  "a\"\\"')])
async def test_a_key_is_a_quoted_string_or_bare(written: str, same: str) -> None:
    """As RFC 8941 has it, or as most clients send it; both forms name the same."""
    app = StagedApp(held=False)
    async with serving(once(app)) as driver:
        assert [(await send(driver, "first", key)).body for key in (written, same)] == [b"first", b"first"]
    assert runs_of(app) == ["first"]


@pytest.mark.parametrize(
    "key", ["", '""', '"', '"a', 'a"b', '"a"b', "a b", "a, b", "a;b", '"\\x"', "\xe4", '"\x07"', "a" * 256, '"a";q=1']
)
async def test_a_malformed_key_is_refused(key: str) -> None:
    """400 that says what is wrong; the app is not called."""
    app = StagedApp(held=False)
    async with serving(once(app)) as driver:
        headers = [(b"x-session-key", b"alice"), (b"x-name", b"it"), (b"idempotency-key", key.encode("latin-1"))]
        refused = await driver.start("POST", "/", headers=headers).response()
    assert (refused.status, code_of(refused)) == (400, "idempotency_key_invalid")
    assert refused.json()["error"]["param"] == "header idempotency-key"
    assert app.log == []


async def test_two_keys_are_refused() -> None:
    """Which one is meant can not be told; the same twice can."""
    app = StagedApp(held=False)
    named = [(b"x-session-key", b"alice"), (b"x-name", b"it"), (b"idempotency-key", b"a")]
    async with serving(once(app)) as driver:
        refused = await driver.start("POST", "/", headers=[*named, (b"idempotency-key", b"b")]).response()
        taken = await driver.start("POST", "/", headers=[*named, (b"idempotency-key", b"a")]).response()
    assert (code_of(refused), taken.status) == ("idempotency_key_invalid", 200)


async def test_a_body_that_can_not_be_compared_is_refused() -> None:
    """413 that names the key, not the session; at the limit it goes."""
    app = StagedApp(held=False)
    async with serving(once(app, body_limit=10)) as driver:
        refused = await send(driver, "it", body=b"x" * 11)
        taken = await send(driver, "it", body=b"x" * 10)
    assert (refused.status, code_of(refused)) == (413, "message_too_large")
    assert (taken.status, app.bodies) == (200, {"it": b"x" * 10})


async def test_the_app_gets_the_body() -> None:
    """Read to its end to be compared, and replayed."""
    app = StagedApp(held=False)
    async with serving(once(app)) as driver:
        request = keyed(driver, "it", body=None)
        for part in (b"one", b"two"):
            await request.send_body(part)
        await request.send_body(b"", more=False)
        await request.response()
    assert app.bodies == {"it": b"onetwo"}


@pytest.mark.parametrize("pieces", [1, 5])
async def test_a_large_answer_is_not_kept_and_not_made_again(pieces: int) -> None:
    """409 that says so; one byte less is kept."""
    app = StagedApp()

    def step(size: int) -> Any:
        async def answer(_: Scope, __: Receive, send: Send) -> None:
            await send(start(200, (b"x", b"y")))
            for _piece in range(pieces - 1):
                await send(chunk(b""))
            await send(chunk(b"x" * size, more=False))

        return answer

    app.steps.update(small=step(98), large=step(99))
    async with serving(once(app, max_answer=100, headers=False)) as driver:
        assert (await send(driver, "small", "small")).body == b"x" * 98
        assert (await send(driver, "small", "small")).body == b"x" * 98
        assert (await send(driver, "large", "large")).body == b"x" * 99
        refused = await send(driver, "large", "large")
    assert (refused.status, code_of(refused)) == (409, "duplicate_not_kept")
    assert refused.headers["x-should-retry"] == "false"
    assert runs_of(app) == ["small", "large"]


@pytest.mark.parametrize("kind", ["http.response.pathsend", "http.response.trailers"])
async def test_what_can_not_be_taken_down_is_not_kept(kind: str) -> None:
    """A file the server sends, and trailers."""
    app = StagedApp()

    async def step(_: Scope, __: Receive, send: Send) -> None:
        if kind == "http.response.trailers":
            await send(start(200, trailers=True))
            await send(chunk(b"x", more=False))
            await send({"type": kind, "headers": []})
        else:
            await send(start(200))
            await send({"type": kind, "path": "/x"})

    app.steps["it"] = step
    async with serving(once(app), extensions=[kind]) as driver:
        await keyed(driver, "it").finished()
        assert code_of(await send(driver, "it")) == "duplicate_not_kept"
    assert runs_of(app) == ["it"]


async def test_messages_expire_and_are_new_again() -> None:
    """After `keep` seconds, not before."""
    app, clock = StagedApp(held=False), ManualClock()
    async with serving(once(app, keep=60, clock=clock)) as driver:
        await send(driver, "first")
        clock.advance(59)
        assert (await send(driver, "second")).body == b"first"
        clock.advance(2)
        assert (await send(driver, "third")).body == b"third"
    assert runs_of(app) == ["first", "third"]


async def test_the_store_is_bounded_under_many_keys() -> None:
    """The first that finished go; nothing else is left behind."""
    app = StagedApp(held=False)
    duplicates = Duplicates(limit=10)
    async with serving(laned(app, idempotency=duplicates)) as driver:
        for number in range(500):
            await send(driver, str(number), str(number))
        assert (await send(driver, "again", "490")).body == b"490"
        assert (await send(driver, "new", "489")).body == b"new"
    store: Any = vars(duplicates)["_store"]
    assert repr(store) == "<MemoryDuplicateStore records=10 finished=10>"
    assert repr(duplicates) == "<Duplicates memory:// open here=0>"


async def test_listeners_hear_of_duplicates() -> None:
    """Replayed or refused, with what joins them to the message; nothing for a first one."""
    app, heard = StagedApp(held=False), list[Event]()
    runtime = Runtime()
    runtime.hooks.on(DuplicateReplayed, heard.append)
    runtime.hooks.on(DuplicateRefused, heard.append)
    async with serving(once(app, runtime=runtime)) as driver:
        await send(driver, "first")
        assert heard == []
        await send(driver, "second")
        await send(driver, "third", body=b"other")
    [replayed, refused] = heard
    assert isinstance(replayed, DuplicateReplayed)
    assert isinstance(refused, DuplicateRefused)
    assert (replayed.key, replayed.status, refused.reason) == ("alice", 200, "idempotency_key_reused")
    assert replayed.message == refused.message


async def test_the_log_tells_of_duplicates(caplog: pytest.LogCaptureFixture) -> None:
    """A replay as what goes as intended, a refusal as a warning; never the key."""
    app = StagedApp(held=False)
    with caplog.at_level(logging.INFO, "turnlane.turns"):
        async with serving(once(app, runtime=Runtime(hooks=[LoggingHook()]))) as driver:
            for body in (b"", b"", b"other"):
                await send(driver, "it", session="agent:main:alice", body=body)
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "duplicate" in record.getMessage()]
    assert [(level, text.split()[0], text.split()[-1]) for level, text in told] == [
        ("INFO", "duplicate_replayed", "status=200"),
        ("WARNING", "duplicate_refused", "reason=idempotency_key_reused"),
    ]
    assert "alice" not in str(told)


@pytest.mark.parametrize("visible", [True, False])
async def test_a_message_of_a_session_by_id_is_known_by_the_id(visible: bool) -> None:
    """Also when the id belongs to another key by then, and for internal hand-offs."""
    app = StagedApp(held=False)
    runtime = Runtime(sessions="memory://")
    middleware = once(app, runtime=runtime, session_id="x-session-id", visible=visible)
    async with serving(middleware) as driver:
        session = (await runtime.sessions.resolve("alice")).id if runtime.sessions else ""
        by_id = {"x-session-id": session}
        await send(driver, "first", session=None, headers=by_id)
        assert runtime.sessions is not None
        await runtime.sessions.delete("alice")  # its lane has another name from now on
        assert (await send(driver, "second", session=None, headers=by_id)).body == b"first"
        assert (await send(driver, "third")).body == b"third"
    assert runs_of(app) == ["first", "third"]


async def test_the_session_of_the_first_answer_is_named_again() -> None:
    """A client that lost the first answer still learns its session id."""
    app = StagedApp(held=False)
    async with serving(once(app, way="sessions")) as driver:
        first, again = await send(driver, "first"), await send(driver, "second")
    assert first.headers["x-session-id"] == again.headers["x-session-id"]
    assert first.headers["x-turnlane-turn"] == again.headers["x-turnlane-turn"]


async def test_the_answer_is_kept_when_the_response_ends() -> None:
    """A duplicate gets it while the background task of the first still runs."""
    app = StagedApp()

    async def step(_: Scope, __: Receive, send: Send) -> None:
        await answer_with(send, b"first")
        await app.released("first")

    app.steps["first"] = step
    async with serving(once(app)) as driver:
        first = keyed(driver, "first")
        await first.response()
        assert (await send(driver, "second")).body == b"first"
        app.release("first")
        await first.finished()
        await passes()
    assert runs_of(app) == ["first"]
