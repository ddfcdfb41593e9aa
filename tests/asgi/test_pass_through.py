"""What has no lane: other scopes, other methods, other paths, and what is let through on purpose."""

import asyncio
import re
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_staged import KEY, StagedApp, answer_with, laned, post, serving
from support.asgi_wire import Wire, scope_of
from turnlane import current_turn, keys


class Recorder:
    """Keeps what it was called with, and answers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Scope, Receive, Send]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append((scope, receive, send))
        if scope["type"] == "http":
            await answer_with(send)


async def test_lifespan_passes_untouched(way: str) -> None:
    """Start-up, state and shutdown are the app's; the middleware needs none of it."""
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{phase}"
                scope["state"]["pool"] = 7
                log.append(phase)
                await send({"type": f"lifespan.{phase}.complete"})
            return
        log.append(f"pool {scope['state']['pool']}")
        await answer_with(send)

    async with serving(laned(app, way=way)) as driver, driver.lifespan() as state:
        assert state == {"pool": 7}
        assert (await post(driver, "alice", "it").response()).status == 200
    assert log == ["startup", "pool 7", "shutdown"]


async def test_websockets_pass_untouched(way: str) -> None:
    """Though they name a key: two at once, no turn, no wait for a request that holds the lane."""
    app = StagedApp()

    async def chat(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": f"{message['text']} {current_turn()}"})
        await receive()

    app.steps.update(one=chat, two=chat)
    async with serving(laned(app, way=way)) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        sockets = [driver.start_websocket("/", headers={KEY: "alice", "x-name": name}) for name in ("one", "two")]
        for socket in sockets:
            await socket.accepted()
            socket.send("hello")
        assert [await socket.receive() for socket in sockets] == ["hello None"] * 2
        for socket in sockets:
            socket.disconnect()
            await socket.finished()


@pytest.mark.parametrize("scope_type", ["lifespan", "websocket", "http.of.the.future"])
async def test_other_scopes_are_passed_on_as_they_are(way: str, scope_type: str) -> None:
    """The very same scope, receive and send; scopes without a method are not asked for one."""
    app, wire = Recorder(), Wire()
    scope = {"type": scope_type, "headers": [(KEY.encode(), b"alice")]}
    before = dict(scope)
    receive, send = wire.receive, wire.send
    await laned(app, way=way)(scope, receive, send)
    assert len(app.calls) == 1
    assert [given is passed for given, passed in zip((scope, receive, send), app.calls[0], strict=True)] == [True] * 3
    assert scope == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_other_methods_pass(way: str, method: str) -> None:
    """By default only POST has lanes; the rest runs beside a turn, also where a key is required."""
    app = StagedApp()
    async with serving(laned(app, way=way, required=True)) as driver:
        post(driver, "alice", "holder")
        await app.entered("holder")
        app.release("it", "none")
        for name, headers in (("it", {KEY: "alice"}), ("none", {})):
            request = driver.start(method, "/", headers={"x-name": name, **headers})
            response = await request.response()
            assert response.status == 200
            assert not [header for header in response.headers if header.startswith("x-")]
            assert "turn" not in request.scope["state"]


@pytest.mark.parametrize("methods", [{"PUT"}, ["put", "delete"], ("Put",), frozenset({"PUT", "POST"})])
async def test_methods_can_be_chosen(way: str, methods: Any) -> None:
    """In any case of letters, and only those."""
    app = StagedApp()
    async with serving(laned(app, way=way, methods=methods)) as driver:
        holder = driver.start("PUT", "/", headers={KEY: "alice", "x-name": "holder"})
        await app.entered("holder")
        request = driver.start("PUT", "/", headers={KEY: "alice", "x-name": "it"})
        await request.until_idle()
        assert app.log == ["+holder"]
        app.release("patch", "holder", "it")
        patch = driver.start("PATCH", "/", headers={KEY: "alice", "x-name": "patch"})
        assert "x-turnlane-turn" not in (await patch.response()).headers
        assert (await holder.response()).status == 200
        assert (await request.response()).status == 200


def is_status(connection: Any) -> bool:
    """Tell whether the first segment of the path is `status`."""
    path: str = connection.scope["path"].removeprefix("/api")
    return path.split("/")[1] == "status"


async def is_status_later(connection: Any) -> bool:
    """Tell the same after a while."""
    await asyncio.sleep(0)
    return is_status(connection)


def never(_: Any) -> bool:
    """Match nothing."""
    return False


MATCHERS: dict[str, Any] = {
    "one path": "/status",
    "a path with a slash at its end": "/status/",
    "several": ["/never", "/status"],
    "an iterator over several": None,
    "a pattern": re.compile(r"^/status(/|$)"),
    "a callable": is_status,
    "an async callable": is_status_later,
    "mixed": (re.compile("never"), never, "/status"),
}


def matcher(name: str) -> Any:
    """Return a matcher of `/status` and all below it."""
    return iter(["/never", "/status"]) if name == "an iterator over several" else MATCHERS[name]


@pytest.mark.parametrize("name", MATCHERS)
@pytest.mark.parametrize(
    ("target", "root_path", "matched"),
    [
        ("/status", "", True),
        ("/status/", "", True),
        ("/status/deep/er?x=1", "", True),
        ("/st%61tus", "", True),
        ("/statuses", "", False),
        ("/chat/status", "", False),
        ("/chat", "", False),
        ("/status/a", "/api", True),
        ("/chat", "/api", False),
    ],
)
async def test_paths_are_told_apart_by_segments(name: str, target: str, root_path: str, matched: bool) -> None:
    """`bypass=` lets those that match through without a lane, `paths=` all others; mounting changes nothing."""
    for setting in ("bypass", "paths"):
        has_lane = matched is (setting == "paths")
        app = StagedApp(held=False)
        async with serving(laned(app, **{setting: matcher(name)})) as driver:
            response = await post(driver, "alice", "it", target=target, root_path=root_path).response()
        assert response.status == 200
        assert ("x-turnlane-turn" in response.headers) is has_lane
        assert (app.turns["it"] is not None) is has_lane


@pytest.mark.parametrize(
    ("prefix", "root_path", "target", "matched"),
    [
        ("/", "", "/", True),
        ("/", "", "/chat", True),
        ("/", "/api", "", True),
        ("/api/status", "/api", "/status", False),
        ("/pi", "/a", "/pi", True),
    ],
)
async def test_a_prefix_is_of_the_app_not_of_the_mount(prefix: str, root_path: str, target: str, matched: bool) -> None:
    """The path below `root_path` counts, cut at a segment; a slash alone is everything."""
    app = StagedApp(held=False)
    async with serving(laned(app, bypass=prefix)) as driver:
        await post(driver, "alice", "it", target=target, root_path=root_path).response()
    assert (app.turns["it"] is None) is matched


async def test_control_requests_run_beside_the_turn_they_control() -> None:
    """What a status page or a stop button needs: no wait, no key, no body read ahead."""
    app = StagedApp()
    middleware = laned(app, bypass="/control", key=keys.json_body("key"), required=True)
    async with serving(middleware) as driver:
        post(driver, None, "holder", body=b'{"key": "alice"}')
        await app.entered("holder")
        app.release("stop")
        body = b'{"key": "alice", "stop": true}'
        assert (await post(driver, None, "stop", target="/control/stop", body=body).response()).status == 200
        assert app.log == ["+holder", "+stop", "-stop"]
        app.release("holder")
    assert app.bodies["stop"] == body
    assert app.turns["stop"] is None


async def test_bypass_goes_before_paths_only_where_paths_match() -> None:
    """A request outside of `paths` is not asked about; one inside may still be let through."""
    asked: list[str] = []

    def is_stop(connection: Any) -> bool:
        asked.append(connection.scope["path"])
        return bool(connection.scope["path"].endswith("/stop"))

    app = StagedApp(held=False)
    async with serving(laned(app, paths="/chat", bypass=is_stop)) as driver:
        for target, has_lane in (("/other", False), ("/chat/stop", False), ("/chat/say", True)):
            response = await post(driver, "alice", target, target=target).response()
            assert ("x-turnlane-turn" in response.headers) is has_lane
    assert asked == ["/chat/stop", "/chat/say"]


async def test_no_paths_at_all_is_no_lanes_at_all() -> None:
    """An empty list is one, unlike None."""
    app = StagedApp(held=False)
    async with serving(laned(app, paths=[])) as driver:
        await post(driver, "alice", "none").response()
    async with serving(laned(app, bypass=[])) as driver:
        await post(driver, "alice", "some").response()
    assert (app.turns["none"] is None, app.turns["some"] is None) == (True, False)


async def test_a_callable_may_read_the_body() -> None:
    """To tell a stop from a message; the app has the body all the same."""

    async def is_stop(connection: Any) -> bool:
        document: dict[str, object] = await connection.json()
        return bool(document.get("stop"))

    app = StagedApp(held=False)
    async with serving(laned(app, bypass=is_stop)) as driver:
        await post(driver, "alice", "stop", body=b'{"stop": 1}').response()
        await post(driver, "alice", "say", body=b'{"say": 1}').response()
    assert (app.turns["stop"] is None, app.turns["say"] is None) == (True, False)
    assert app.bodies == {"stop": b'{"stop": 1}', "say": b'{"say": 1}'}


async def test_a_callable_that_fails_is_the_servers_to_see() -> None:
    """Neither a lane nor none is guessed."""

    def broken(_: Any) -> bool:
        raise KeyError("a bug")

    both: list[dict[str, Any]] = [{"bypass": broken}, {"paths": broken}]
    for settings in both:
        app = StagedApp()
        async with serving(laned(app, **settings)) as driver:
            with pytest.raises(KeyError):
                await post(driver, "alice", "it").finished()
        assert app.log == []


@pytest.mark.parametrize("failure", [KeyError("a bug")])
async def test_what_passes_through_may_fail_as_it_likes(way: str, failure: Exception) -> None:
    """Nothing of the app's is caught where there is no turn."""
    app = StagedApp()

    async def failing(_: Scope, __: Receive, ___: Send) -> None:
        raise failure

    app.steps["it"] = failing
    async with serving(laned(app, way=way)) as driver:
        with pytest.raises(KeyError):
            await post(driver, None, "it").finished()


async def test_a_request_that_passes_is_not_touched(way: str) -> None:
    """Scope and send are the very same, receive too where nothing was read."""
    app, wire = Recorder(), Wire()
    scope = scope_of(None)
    before = {**scope, "state": dict(scope["state"])}
    receive, send = wire.receive, wire.send
    await laned(app, way=way)(scope, receive, send)
    assert app.calls[0][0] is scope
    assert app.calls[0][1] is receive
    assert app.calls[0][2] is send
    assert scope == before
    assert wire.asked == 0
