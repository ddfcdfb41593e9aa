"""The middlewares that are fuzzed: every extractor and preset of `turnlane.keys`, with different settings."""

# The budget of a middleware is private; that nothing is left in it is what is tested.
# pyright: reportPrivateUsage=false

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from turnlane import Enqueue, Interrupt, LaneMiddleware, Lanes, Reject, Runtime, keys
from turnlane.asgi.body import BodyBudget

__all__ = ("EXTRACTORS", "TARGETS", "Target", "target_at")

Extractors = Mapping[str, tuple[str, Callable[[], str | keys.KeyExtractor]]]


def _user(connection: Any) -> str | None:
    found = [value for name, value in connection.scope.get("headers", ()) if name == b"x-user"]
    return found[0].decode("latin-1") if found else None


async def _user_later(connection: Any) -> str | None:
    return _user(connection)


async def _beginning_of_body(connection: Any) -> str:
    body: bytes = await connection.body()
    return body[:20].decode("latin-1")


def _is_even(connection: Any) -> bool:
    return len(connection.scope["path"]) % 2 == 0


async def _is_long(connection: Any) -> bool:
    return len(connection.scope["path"]) > 600


EXTRACTORS: Extractors = MappingProxyType(
    {
        "header": ("scope", lambda: keys.header("x-key")),
        "header by name": ("scope", lambda: "X-Key"),
        "query": ("scope", lambda: keys.query("s")),
        "path": ("scope", lambda: keys.path("/s/{id}")),
        "path of two": ("scope", lambda: keys.path("/{a}/{b}")),
        "cookie": ("scope", lambda: keys.cookie("s")),
        "json_body": ("json", lambda: keys.json_body("s")),
        "json_body deep": ("json", lambda: keys.json_body("s.a.0")),
        "form_field": ("form", lambda: keys.form_field("s")),
        "first_of scopes": ("scope", lambda: keys.first_of("x-key", keys.cookie("s"), keys.query("s"))),
        "first_of all": (
            "json",
            lambda: keys.first_of(keys.path("/s/{id}"), keys.cookie("s"), keys.json_body("s"), keys.form_field("s")),
        ),
        "scoped_by": ("scope", lambda: keys.scoped_by(keys.header("x-user"), "x-key")),
        "scoped_by callable": ("json", lambda: keys.scoped_by(_user, keys.json_body("s"))),
        "scoped_by async": ("scope", lambda: keys.scoped_by(_user_later, keys.first_of("x-key", keys.query("s")))),
        "overridable": ("form", lambda: keys.overridable("x-key", keys.form_field("s"))),
        "overridable scopes": ("scope", lambda: keys.overridable("x-key", keys.query("s"))),
        "openclaw": ("json", keys.openclaw),
        "openai_chat": ("json", keys.openai_chat),
        "openai_responses": ("json", keys.openai_responses),
        "ag_ui": ("json", keys.ag_ui),
        "a2a": ("json", keys.a2a),
        "adk": ("json", keys.adk),
        "agent_os": ("form", keys.agent_os),
        "callable": ("scope", lambda: _user),
        "async callable": ("scope", lambda: _beginning_of_body),
    }
)

# Of each: the settings, and whether a request with a key is sure to be in the lane of that key.
SETTINGS: Mapping[str, tuple[bool, Callable[[], dict[str, Any]]]] = MappingProxyType(
    {
        "plain": (True, dict),
        "required": (True, lambda: {"required": True, "headers": False}),
        "sessions": (True, lambda: {"runtime": Runtime(sessions="memory://"), "policy": Enqueue(max_waiting=1)}),
        "session id": (
            False,
            lambda: {
                "runtime": Runtime(sessions="memory://"),
                "session_id": keys.first_of("x-session-id", keys.query("sid")),
                "visible": _is_even,
            },
        ),
        "session id in the body": (
            False,
            lambda: {
                "runtime": Runtime(sessions="memory://"),
                "session_id": keys.json_body("session_id"),
                "visible": False,
                "required": True,
            },
        ),
        "bypass": (
            False,
            lambda: {
                "paths": ("/", "/s", re.compile("a.*b"), _is_even),
                "bypass": ["/status", re.compile(r"/\d+$"), _is_long],
                "methods": {"post", "PUT"},
            },
        ),
        "small": (True, lambda: {"body_limit": 64, "body_budget": 96, "required": True}),
        "no body": (True, lambda: {"body_limit": 0, "body_budget": 0, "lanes": Lanes(max_running=2)}),
        "response end": (True, lambda: {"release_on": "response_end", "turn_timeout": 60.0, "policy": Reject()}),
        "finish": (
            True,
            lambda: {
                "on_disconnect": "finish",
                "policy": Interrupt(grace=0.0),
                "runtime": Runtime(sessions="memory://"),
                "body_limit": 1000,
            },
        ),
    }
)

TARGETS: tuple[tuple[str, str], ...] = tuple((extractor, setting) for extractor in EXTRACTORS for setting in SETTINGS)


class Target:
    """One middleware around an app, with what the oracle needs to know of it.

    Mutable: what the middleware and its lanes hold.
    """

    def __init__(self, app: Any, extractor: str, setting: str) -> None:
        self.name: str = f"{extractor}, {setting}"
        self.kind: str
        self.kind, make = EXTRACTORS[extractor]
        self.exact: bool
        self.exact, settings = SETTINGS[setting]
        chosen = settings()
        self.middleware: LaneMiddleware = LaneMiddleware(app, key=make(), trusted_keys=True, **chosen)
        self.asgi: Any = self.middleware  # what is called
        self.extractor: keys.KeyExtractor = keys.from_setting(make())
        self.required: bool = bool(chosen.get("required"))
        self.methods: frozenset[str] = frozenset(str(name).upper() for name in chosen.get("methods", {"POST"}))
        self.body_limit: int = chosen.get("body_limit", 1024 * 1024)
        self.body_budget: int = chosen.get("body_budget", 256 * 1024 * 1024)
        self.reads_ahead: bool = keys.needs_body(self.extractor) or extractor == "async callable" or "body" in setting
        self.finishes: bool = chosen.get("on_disconnect") == "finish"

    @property
    def lanes(self) -> Lanes:
        """The lanes of the middleware."""
        return self.middleware.runtime.lanes

    @property
    def budget(self) -> BodyBudget:
        """What the middleware holds of bodies."""
        return self.middleware._settings.budget

    def left_behind(self) -> str:
        """Say what is left where nothing runs, or nothing."""
        table = self.lanes.gate.table
        left = [f"{name} {held!r}" for name, held in (("holders", table.holders), ("lines", table.lines)) if held]
        left += [f"{table.waiting} waiting"] if table.waiting else []
        left += [f"{self.budget.held} bytes held"] if self.budget.held else []
        return ", ".join(left)


def target_at(app: Any, number: int) -> Target:
    """Return the target with this number, newly made."""
    return Target(app, *TARGETS[number])
