"""Odd values for every constructor and setting, and what may come of them."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from random import Random
from typing import Any

from turnlane import Enqueue, Interrupt, KeepAlive, LaneMiddleware, Lanes, Reject, Runtime, keys
from turnlane.duplicates import Duplicates
from turnlane.httpx import chain_hook
from turnlane.policies import from_header, policy_from_setting
from turnlane.sessions import Freshness, Sessions

__all__ = ("CONSTRUCTORS", "draw_call")


async def _app(scope: Any, receive: Any, send: Any) -> None: ...


async def _turn_function(session_key: str) -> None: ...


def _with(good: dict[str, Any], odd: dict[str, Any]) -> dict[str, Any]:
    return {**good, **odd}


def _first_of(first: Any) -> object:
    return keys.first_of(first)


def _nothing(*_: object) -> None:
    return None


def _middleware(**settings: Any) -> object:
    return LaneMiddleware(_app, **_with({"key": "x-key", "trusted_keys": True}, settings))


def _agent_turn(**settings: Any) -> object:
    return Runtime(sessions="memory://").agent_turn(**_with({"key": "session_key"}, settings))(_turn_function)


def _interrupt(**settings: Any) -> object:
    return Lanes().interrupt(**_with({"key": "k"}, settings))


def _turn(**settings: Any) -> object:
    return Lanes().turn(**_with({"key": "k"}, settings))


def _runtime_turn(**settings: Any) -> object:
    return Runtime(sessions="memory://").turn(**_with({"key": "k"}, settings))


def _scoped(**settings: Any) -> object:
    return keys.scoped_by(**_with({"principal": keys.header("x-user"), "extractor": "x-key"}, settings))


def _from_header(**settings: Any) -> object:
    return from_header(**_with({"name": "x-policy", "allow": ("enqueue",)}, settings))


def _chain_hook(host: Any) -> object:
    return chain_hook(host)


def _overridable(**settings: Any) -> object:
    return keys.overridable(**_with({"extractor": "x-key", "override": "x-other"}, settings))


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 2**63, 10**400, -(10**400)),
    *(0.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"), float("-inf"), 1 + 2j, Decimal("1"), Fraction(1, 3)),
    *("", " ", "x", "X-Key", "5", "enqueue", "reject", "POST", "finish", "response_end", "\0", "\ud800", "\u00e9"),
    *("memory://", "memory://x", "sqlite:///", "sqlite:///a?b", "redis://x", "://", "file:///x"),
    *("/", "/a", "/{a}", "/{a}/{a}", "/{", "a.b", "a..b", ".", "UTC", "Europe/Nowhere", "../../etc/passwd", "03:00"),
    *(b"", b"x", bytearray(b"y"), [], (), {}, {1}, ["POST"], [None], {"a": 1}, range(3), ..., object()),
    *(int, len, _nothing, Exception("odd"), re.compile("a")),
    *(
        timedelta(0),
        timedelta(1),
        timedelta.max,
        timedelta.min,
        time(3),
        time(3, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
    ),
    *(Enqueue(), Reject(), Interrupt(), Lanes(), Runtime(), Runtime(sessions="memory://"), Sessions(), Freshness()),
)

# Each constructor with the arguments that are given odd values; the others keep good ones.
CONSTRUCTORS: Mapping[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "Enqueue": (Enqueue, ("max_waiting", "wait_timeout", "hint_after")),
    "Interrupt": (Interrupt, ("grace", "wait_timeout")),
    "policy_from_setting": (policy_from_setting, ("setting",)),
    "Lanes": (Lanes, ("url", "policy", "max_running", "turn_timeout", "slow_after")),
    "Lanes.turn": (_turn, ("key", "policy", "turn_timeout")),
    "Lanes.interrupt": (_interrupt, ("grace",)),
    "Runtime": (Runtime, ("lanes", "sessions", "hooks")),
    "Runtime.turn": (_runtime_turn, ("key", "policy", "turn_timeout", "session_id", "visible")),
    "Runtime.agent_turn": (
        _agent_turn,
        ("key", "policy", "turn_timeout", "session_id", "visible", "idle_consumer_timeout"),
    ),
    "Sessions": (Sessions, ("store", "freshness")),
    "Duplicates": (
        Duplicates,
        ("store", "keep", "limit", "max_answer", "retries", "while_running", "wait_timeout"),
    ),
    "Freshness": (Freshness, ("idle", "daily_at", "timezone")),
    "LaneMiddleware": (
        _middleware,
        (
            *("key", "runtime", "lanes", "policy", "required", "bypass", "paths", "methods", "release_on"),
            *("on_disconnect", "turn_timeout", "body_limit", "body_budget", "session_id", "visible", "headers"),
            "trust_chain",
            "keepalive",
            "idempotency",
        ),
    ),
    "KeepAlive": (KeepAlive, ("after", "every")),
    "LaneMiddleware with sessions": (
        partial(_middleware, runtime=Runtime(sessions="memory://")),
        ("session_id", "visible"),
    ),
    "policies.from_header": (_from_header, ("name", "allow")),
    "chain_hook": (_chain_hook, ("host",)),
    "keys.header": (keys.header, ("name",)),
    "keys.query": (keys.query, ("name",)),
    "keys.path": (keys.path, ("template",)),
    "keys.cookie": (keys.cookie, ("name",)),
    "keys.json_body": (keys.json_body, ("path",)),
    "keys.form_field": (keys.form_field, ("name",)),
    "keys.from_setting": (keys.from_setting, ("key",)),
    "keys.first_of": (_first_of, ("first",)),
    "keys.scoped_by": (_scoped, ("principal", "extractor")),
    "keys.overridable": (_overridable, ("extractor", "override")),
}


def draw_call(rng: Random) -> tuple[str, dict[str, Any]]:
    """Return the name of a constructor and odd arguments for it."""
    name = rng.choice(tuple(CONSTRUCTORS))
    _, arguments = CONSTRUCTORS[name]
    chosen = rng.sample(arguments, min(len(arguments), rng.choice((1, 1, 1, 2))))
    return name, {argument: rng.choice(ODD) for argument in chosen}
