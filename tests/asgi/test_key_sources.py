"""Every way to name the session key, as a request sees it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_staged import StagedApp, header_of, laned, post, serving
from turnlane import current_turn, keys
from turnlane.keys import KeyExtractor
from turnlane.testing import AsgiDriver, HttpRequest

MULTIPART = (
    b'--cut\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n'
    b'--cut\r\nContent-Disposition: form-data; name="session_id"\r\n\r\nalice\r\n--cut--\r\n'
)


def later(find: Callable[[Any], str | None]) -> Callable[[Any], Awaitable[str | None]]:
    """Return an extractor that answers after a while."""

    async def extractor(connection: Any) -> str | None:
        await asyncio.sleep(0)
        return find(connection)

    return extractor


async def from_json(connection: Any) -> str | None:
    """Read the key with the connection's own reader of JSON."""
    document: dict[str, str] = await connection.json()
    return document.get("who")


def asked(
    *, headers: Mapping[str, str] | None = None, target: str = "/chat", body: bytes = b""
) -> dict[str, Mapping[str, str] | str | bytes]:
    """Return what a request is made of."""
    return {"headers": headers or {}, "target": target, "body": body}


FORM = {"content-type": "application/x-www-form-urlencoded"}
NAMED: dict[str, tuple[str | KeyExtractor, dict[str, Any]]] = {
    "header by name": ("X-Session-Key", asked(headers={"x-session-key": "alice"})),
    "header": (keys.header("x-key"), asked(headers={"X-Key": " alice "})),
    "query": (keys.query("session"), asked(target="/chat?a=b&session=al%69ce")),
    "path": (keys.path("/sessions/{id}/messages"), asked(target="/sessions/alice/messages")),
    "cookie": (keys.cookie("session"), asked(headers={"cookie": 'a=b; session="alice"; c=d'})),
    "json": (keys.json_body("metadata.session_id"), asked(body=b'{"metadata": {"session_id": "alice"}}')),
    "form": (
        keys.form_field("session_id"),
        asked(headers=FORM, body=urlencode({"a": "b", "session_id": "alice"}).encode()),
    ),
    "multipart": (
        keys.form_field("session_id"),
        asked(headers={"content-type": "multipart/form-data; boundary=cut"}, body=MULTIPART),
    ),
    "first of, the first": (
        keys.first_of("x-key", keys.json_body("key")),
        asked(headers={"x-key": "alice"}, body=b'{"key": "bob"}'),
    ),
    "first of, the last": (keys.first_of("x-key", keys.json_body("key")), asked(body=b'{"key": "alice"}')),
    "overridden": (
        keys.overridable("x-key", keys.query("as")),
        asked(headers={"x-key": "bob"}, target="/chat?as=alice"),
    ),
    "not overridden": (
        keys.overridable("x-key", keys.query("as")),
        asked(headers={"x-key": "alice"}, target="/chat?as="),
    ),
    "a callable": (lambda connection: connection.headers.get("x-key"), asked(headers={"x-key": "alice"})),
    "a callable of the query": (lambda c: c.query_params.get("k"), asked(target="/chat?k=alice")),
    "a callable of the cookies": (lambda c: c.cookies.get("k"), asked(headers={"cookie": "k=alice"})),
    "an async callable": (later(lambda c: c.headers.get("x-key")), asked(headers={"x-key": "alice"})),
    "an async callable of the body": (from_json, asked(body=b'{"who": "alice"}')),
}


def send(driver: AsgiDriver, name: str, given: Mapping[str, Any]) -> HttpRequest:
    """Send a request made by `asked`."""
    return post(driver, None, name, headers=given["headers"], target=given["target"], body=given["body"])


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("way", ["short", "sessions"])
async def test_requests_that_name_one_key_share_a_lane(named: str, way: str) -> None:
    """However the key is named: the second waits for the first, and both get the whole body."""
    key, given = NAMED[named]
    app = StagedApp()
    async with serving(laned(app, way=way, key=key)) as driver:
        first = send(driver, "first", given)
        await app.entered("first")
        second = send(driver, "second", given)
        await second.until_idle()
        assert app.log == ["+first"]
        app.release("first", "second")
        assert [(await request.response()).status for request in (first, second)] == [200, 200]
    turn = app.turns["first"]
    assert turn is not None
    assert turn.key == "alice"
    assert app.bodies == {"first": given["body"], "second": given["body"]}


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("way", ["short", "sessions"])
async def test_a_request_that_names_none_passes_through(named: str, way: str) -> None:
    """No lane, no turn, no header of ours; the body is the app's."""
    key, _ = NAMED[named]
    app = StagedApp()
    async with serving(laned(app, way=way, key=key)) as driver:
        nothing = asked(body=b'{"no": "key"}')
        first, second = send(driver, "first", nothing), send(driver, "second", nothing)
        await app.entered("first")
        await app.entered("second")
        app.release("first", "second")
        for request in (first, second):
            response = await request.response()
            assert response.status == 200
            assert not [name for name in response.headers if name.startswith("x-")]
            assert "turn" not in request.scope["state"]
    assert app.turns == {"first": None, "second": None}
    assert app.bodies == dict.fromkeys(app.turns, b'{"no": "key"}')


@pytest.mark.parametrize("named", NAMED)
async def test_a_request_that_names_none_is_refused_where_one_is_required(named: str) -> None:
    """400, told what is missing where the extractor can tell; the app is not called."""
    key, _ = NAMED[named]
    app = StagedApp()
    async with serving(laned(app, key=key, required=True)) as driver:
        response = await send(driver, "it", asked(body=b"{}")).response()
    assert response.status == 400
    assert response.json()["error"]["code"] == "session_key_required"
    assert response.json()["error"]["param"]
    assert app.log == []


WRONG: dict[str, tuple[str | KeyExtractor, dict[str, Any], str]] = {
    "control character": ("x-key", asked(headers={"x-key": "a\x07b"}), "U+0007"),
    "not UTF-8": (keys.query("k"), asked(target="/?k=%ff"), "U+DCFF"),
    "direction of text": ("x-key", asked(headers={"x-key": "a\u202eb"}), "U+202E"),
    "too long": ("x-key", asked(headers={"x-key": "a" * 513}), "512 bytes"),
    "too long in bytes": ("x-key", asked(headers={"x-key": "\u00e9" * 257}), "512 bytes"),
    "ambiguous": (keys.query("k"), asked(target="/?k=a&k=b"), "more than once"),
    "not text": (keys.json_body("k"), asked(body=b'{"k": ["a"]}'), "an array"),
    "too deep": (keys.json_body("k"), asked(body=b"[" * 100_000), "too deep"),
    "many digits": (keys.json_body("k"), asked(body=b'{"k": ' + b"1" * 5000 + b"}"), "digits"),
    "a callable's": (lambda _: "a\nb", asked(), "U+000A"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_malformed_key_is_refused(wrong: str) -> None:
    """422 that says why and does not repeat the key; also where a key is not required."""
    key, given, why = WRONG[wrong]
    app = StagedApp()
    async with serving(laned(app, key=key)) as driver:
        response = await send(driver, "it", given).response()
    assert response.status == 422
    assert response.json()["error"]["code"] == "session_key_invalid"
    assert why in response.json()["error"]["message"]
    assert app.log == []


async def test_a_key_of_512_bytes_is_one() -> None:
    """The bound is the last that fits."""
    app = StagedApp(held=False)
    async with serving(laned(app, key="x-key")) as driver:
        response = await send(driver, "it", asked(headers={"x-key": "\u00e9" * 256})).response()
    assert response.status == 200
    turn = app.turns["it"]
    assert turn is not None
    assert turn.key == "\u00e9" * 256


async def test_equal_looking_keys_are_one() -> None:
    """Composed and decomposed letters name one lane."""
    app = StagedApp()
    async with serving(laned(app, key="x-key")) as driver:
        first = send(driver, "composed", asked(headers={"x-key": "zo\u00eb"}))
        await app.entered("composed")
        second = send(driver, "decomposed", asked(headers={"x-key": "zoe\u0308"}))
        await second.until_idle()
        assert app.log == ["+composed"]
        app.release("composed", "decomposed")
        await first.response()
        await second.response()


@pytest.mark.parametrize("is_async", [False, True])
async def test_keys_of_two_principals_are_two(is_async: bool) -> None:
    """The same key named by two principals is two lanes; without a principal it is refused."""

    def find(connection: Any) -> str | None:
        who: str | None = connection.scope.get("user")
        return who

    app = StagedApp()
    middleware = laned(app, key=keys.scoped_by(later(find) if is_async else find, "x-key"))

    async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
        users = {"one": "ann", "two": "bob", "three": "ann"}
        scope["user"] = users.get(header_of(scope, b"x-name").decode())
        await middleware(scope, receive, send)

    async with serving(middleware), AsgiDriver(authenticated) as driver:
        given = asked(headers={"x-key": "chat"})
        requests = [send(driver, name, given) for name in ("one", "two", "three")]
        await app.entered("one")
        await app.entered("two")
        assert (await send(driver, "nobody", given).response()).status == 400
        assert "+three" not in app.log
        app.release("one", "two", "three")
        for request in requests:
            assert (await request.response()).status == 200
    assert [turn and turn.key for turn in app.turns.values()] == ["ann/chat", "bob/chat", "ann/chat"]


async def test_the_lane_is_taken_when_an_async_key_is_there() -> None:
    """Who takes long to find its key arrives when it has found it; nobody else waits for that."""
    go = asyncio.Event()

    async def slow_for_some(connection: Any) -> str | None:
        if "x-slow" in connection.headers:
            await go.wait()
        return "alice"

    app = StagedApp()
    async with serving(laned(app, key=slow_for_some)) as driver:
        slow = post(driver, None, "slow", headers={"x-slow": "1"})
        await slow.until_idle()
        quick = post(driver, None, "quick")
        await app.entered("quick")
        go.set()
        await slow.until_idle()
        assert app.log == ["+quick"]
        app.release("quick", "slow")
        await quick.response()
        await slow.response()
    assert app.log == ["+quick", "-quick", "+slow", "-slow"]


@pytest.mark.parametrize("failure", [KeyError("a bug"), RuntimeError("another")])
async def test_what_a_callable_raises_is_the_servers_to_see(failure: Exception) -> None:
    """A bug in the user's code is not turned into a refusal, and leaves nothing behind."""

    def broken(_: Any) -> str:
        raise failure

    app = StagedApp()
    async with serving(laned(app, key=broken)) as driver:
        with pytest.raises(type(failure)):
            await post(driver, None, "it").finished()
    assert app.log == []


async def test_a_callable_that_returns_no_text_is_a_bug() -> None:
    """A number is not taken for a key."""

    def wrong(_: Any) -> int:
        return 7

    async with serving(laned(StagedApp(), key=wrong)) as driver:
        with pytest.raises(TypeError, match="must return a str or None, not int"):
            await post(driver, None, "it").finished()


async def test_a_callable_runs_outside_of_every_turn() -> None:
    """`current_turn()` is None while the key is looked for, also for who will wait."""
    seen: list[object] = []

    def find(_: Any) -> str:
        seen.append(current_turn())
        return "alice"

    app = StagedApp()
    async with serving(laned(app, key=find)) as driver:
        post(driver, None, "first")
        await app.entered("first")
        second = post(driver, None, "second")
        await second.until_idle()
        app.release("first", "second")
        await second.response()
    assert set(seen) == {None}
