"""The constructor: what is refused, what is said once, and what the middleware says of itself."""

import inspect
import logging
from typing import Any

import pytest

from support.asgi_staged import KEY, StagedApp, laned, post, serving
from turnlane import LaneMiddleware, Lanes, Runtime, keys


def scoped(_: Any) -> str:
    """Return a key that is of a principal already."""
    return "ann/chat"


scoped.scoped = True  # type: ignore[attr-defined]


def anybody(_: Any) -> str:
    """Return a key that may be anybody's."""
    return "a"


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "both lanes and runtime": ("lanes= or runtime=", {"lanes": Lanes(), "runtime": Runtime()}),
    "a runtime that is none": ("runtime", {"runtime": "memory://"}),
    "a blank key": ("header", {"key": " "}),
    "a key that is no header": ("header", {"key": "x key"}),
    "a key that is nothing": ("key", {"key": None}),
    "a key that is a number": ("key", {"key": 7}),
    "methods in one word": ("methods", {"methods": "POST"}),
    "methods that are no words": ("methods", {"methods": [1]}),
    "methods that are none": ("methods", {"methods": None}),
    "methods that are a number": ("methods", {"methods": 5}),
    "release_on": ("release_on", {"release_on": "return"}),
    "on_disconnect": ("on_disconnect", {"on_disconnect": "cancel"}),
    "a negative body_limit": ("body_limit", {"body_limit": -1}),
    "a body_limit with a fraction": ("body_limit", {"body_limit": 1.5}),
    "a body_limit that is true": ("body_limit", {"body_limit": True}),
    "a body_budget in words": ("body_budget", {"body_budget": "1MiB"}),
    "no body_budget": ("body_budget", {"body_budget": None}),
    "a turn_timeout of nothing": ("turn_timeout", {"turn_timeout": 0}),
    "a negative turn_timeout": ("turn_timeout", {"turn_timeout": -1.0}),
    "a turn_timeout that is no number": ("turn_timeout", {"turn_timeout": float("nan")}),
    "a policy nobody knows": ("policy", {"policy": "first come"}),
    "bodies that nobody merges": ("merge", {"policy": "coalesce"}),
    "a message that is no callable": ("message", {"message": "text"}),
    "a principal that is no callable": ("principal", {"principal": "x-user"}),
    "a redirect_status of success": ("redirect_status", {"redirect_status": 200}),
    "a policy that is a class": ("policy", {"policy": Lanes}),
    "bypass without a slash": ("bypass", {"bypass": "status"}),
    "bypass with one without a slash": ("bypass", {"bypass": ["/a", "b"]}),
    "bypass of bytes": ("bypass", {"bypass": [b"/a"]}),
    "bypass of a number": ("bypass", {"bypass": 5}),
    "paths without a slash": ("paths", {"paths": "chat"}),
    "paths of a number": ("paths", {"paths": [5]}),
    "paths that are a number": ("paths", {"paths": 5}),
    "a session_id without sessions": ("session_id", {"session_id": "x-session"}),
    "a session_id that is no header": ("header", {"session_id": "x y", "runtime": Runtime(sessions="memory://")}),
    "visible without sessions": ("visible", {"visible": False}),
    "a visible that asks, without sessions": ("visible", {"visible": scoped}),
    "an idempotency of a number": ("idempotency", {"idempotency": 5}),
    "an idempotency that is true": ("idempotency", {"idempotency": True}),
    "an idempotency in another place": ("duplicate store", {"idempotency": "redis://x"}),
    "an idempotency without a file": ("names no file", {"idempotency": "sqlite:///"}),
    "a visible in words": ("visible", {"visible": "no", "runtime": Runtime(sessions="memory://")}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named(name: str) -> None:
    """`ValueError` that says which one, when the app is put together and not at the first request."""
    named, settings = WRONG[name]
    given: dict[str, Any] = {"key": KEY, "trusted_keys": True, **settings}
    with pytest.raises(ValueError, match=named):
        LaneMiddleware(StagedApp(), **given)


def test_the_settings_are_those_of_the_contract() -> None:
    """By keyword, with these defaults; what a later version brings is not taken silently."""
    parameters = list(inspect.signature(LaneMiddleware).parameters.values())
    assert parameters[0].name == "app"
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters[1:])
    assert {parameter.name: parameter.default for parameter in parameters[2:]} == {
        "runtime": None,
        "lanes": None,
        "policy": None,
        "required": False,
        "bypass": None,
        "paths": None,
        "methods": frozenset({"POST"}),
        "release_on": "app_return",
        "on_disconnect": "pass",
        "turn_timeout": None,
        "body_limit": 1024 * 1024,
        "body_budget": 256 * 1024 * 1024,
        "session_id": None,
        "visible": True,
        "headers": True,
        "trust_chain": False,
        "idempotency": None,
        "trusted_keys": False,
        "message": None,
        "principal": None,
        "redirect_status": 409,
        "keepalive": None,
    }
    assert parameters[1].name == "key"
    assert parameters[1].default is inspect.Parameter.empty


def test_a_wrong_name_is_refused() -> None:
    """As with any function."""
    wrong: Any = {"keys": KEY}
    with pytest.raises(TypeError):
        LaneMiddleware(StagedApp(), key=KEY, **wrong)


async def test_methods_may_be_any_iterable() -> None:
    """Also one that can be gone through once only: none of them is lost by checking them."""
    app = StagedApp(held=False)
    async with serving(laned(app, methods=(method for method in ("post", "put")))) as driver:
        response = await post(driver, "alice", "it").response()
    assert "x-turnlane-turn" in response.headers


def test_a_key_any_client_can_choose_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line that says what to do."""
    caplog.set_level(logging.DEBUG, "turnlane")
    LaneMiddleware(StagedApp(), key=KEY)
    messages = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert len(messages) == 1
    name, level, text = messages[0]
    assert (name, level) == ("turnlane.asgi", "WARNING")
    for fact in ("unscoped_key", f"header {KEY}", "scoped_by", "trusted_keys=True"):
        assert fact in text


async def test_requests_are_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Once is when the app is put together."""
    app = StagedApp(held=False)
    middleware = LaneMiddleware(app, key=KEY)
    caplog.clear()
    async with serving(middleware) as driver:
        for number in range(3):
            await post(driver, "alice", str(number)).response()
    assert caplog.records == []


@pytest.mark.parametrize(
    "settings",
    [
        {"key": KEY, "trusted_keys": True},
        {"key": keys.scoped_by(lambda _: "ann", KEY)},
        {"key": keys.first_of(keys.scoped_by(lambda _: "ann", KEY), keys.scoped_by(lambda _: "bob", "x-other"))},
        {"key": scoped},
    ],
)
def test_a_key_of_a_principal_is_not_warned_of(settings: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Nor where the user says that clients may name any session."""
    LaneMiddleware(StagedApp(), **settings)
    assert caplog.records == []


@pytest.mark.parametrize(
    "key", [keys.json_body("a"), keys.first_of(keys.scoped_by(lambda _: "ann", KEY), "x-other"), anybody]
)
def test_a_key_that_may_be_anybodys_is(key: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One way around the principal is enough."""
    LaneMiddleware(StagedApp(), key=key)
    assert "unscoped_key" in caplog.text


async def test_the_repr_tells_the_key_and_the_state() -> None:
    """One line, while requests come and go."""
    app = StagedApp()
    middleware = laned(app)
    idle = repr(middleware)
    async with serving(middleware) as driver:
        post(driver, "alice", "1")
        await app.entered("1")
        second = post(driver, "alice", "2")
        await second.until_idle()
        busy = repr(middleware)
        await middleware.runtime.drain(timeout=0)
        draining = repr(middleware)
    assert idle == "<LaneMiddleware key='header x-session-key' <Lanes memory:// running=0 waiting=0>>"
    assert busy == "<LaneMiddleware key='header x-session-key' <Lanes memory:// running=1 waiting=1>>"
    assert "draining" in draining


def test_lanes_may_be_a_url() -> None:
    """As for `Runtime`."""
    lanes: Any = "memory://"
    assert "memory://" in repr(LaneMiddleware(StagedApp(), key=KEY, lanes=lanes, trusted_keys=True))


def test_it_is_made_outside_of_an_event_loop() -> None:
    """Apps are put together at import; and it serves several loops one after the other."""
    import asyncio

    app = StagedApp(held=False)
    for way in ("short", "sessions"):
        middleware = laned(app, way=way)

        async def once(middleware: LaneMiddleware = middleware) -> int:
            async with serving(middleware) as driver:
                return (await post(driver, "alice", "it").response()).status

        for _ in range(3):
            assert asyncio.run(once()) == 200
