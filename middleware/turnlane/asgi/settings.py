"""What `LaneMiddleware` was told, checked once when it is made."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from turnlane.arguments import optional_seconds
from turnlane.asgi.body import BodyBudget
from turnlane.asgi.keepalive import Beats, KeepAlive, beats_from_setting
from turnlane.asgi.matching import Matchers, matchers_from_setting
from turnlane.duplicates import Duplicates
from turnlane.keys import KeyExtractor, from_setting, has_principal, is_scoped
from turnlane.policies import Coalesce, Policy, PolicyChoice, PolicyHeader, policy_from_setting
from turnlane.runtime import Runtime

__all__ = ("Reader", "Settings", "TrustChain", "Visible", "require_merge")

# The argument is a Connection; Any lets users annotate theirs with the request class of their framework.
Reader = Callable[[Any], Any]
Visible = bool | Callable[[Any], bool | Awaitable[bool]]
TrustChain = bool | Callable[[Any], bool | Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one `LaneMiddleware`, in the form the requests need them."""

    runtime: Runtime
    key: KeyExtractor
    policy: Policy
    choose_policy: PolicyChoice | None
    required: bool
    bypass: Matchers | None
    paths: Matchers | None
    methods: frozenset[str]
    release_at_response_end: bool
    finish_without_client: bool
    turn_timeout: float | None
    body_limit: int
    budget: BodyBudget
    session_id: KeyExtractor | None
    visible: Visible
    headers: bool
    message: Reader | None
    principal: Reader | None
    key_tells_principal: bool
    redirect_status: int
    trust_chain: TrustChain
    beats: Beats | None
    duplicates: Duplicates | None

    @classmethod
    def of(
        cls,
        *,
        runtime: Runtime,
        key: str | KeyExtractor,
        policy: Policy | str | PolicyChoice | None,
        required: bool,
        bypass: Any,
        paths: Any,
        methods: Iterable[str],
        release_on: str,
        on_disconnect: str,
        turn_timeout: float | None,
        body_limit: int,
        body_budget: int,
        session_id: str | KeyExtractor | None,
        visible: Visible,
        headers: bool,
        message: Reader | None,
        principal: Reader | None,
        redirect_status: int,
        trust_chain: TrustChain,
        keepalive: KeepAlive | float | None,
        idempotency: Duplicates | str | None,
    ) -> "Settings":
        """Check what the user wrote.

        Raises:
            ValueError: a setting is not one of those there are, or needs another one.
        """
        named_methods = _texts("methods", methods)
        _require_one_of("release_on", release_on, ("app_return", "response_end"))
        _require_one_of("on_disconnect", on_disconnect, ("pass", "finish"))
        for name, size in (("body_limit", body_limit), ("body_budget", body_budget)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise ValueError(f"{name} must be a number of bytes, at least 0, not {size!r}")
        if runtime.sessions is None and (session_id is not None or visible is not True):
            named = "session_id" if session_id is not None else "visible"
            raise ValueError(f"{named}= needs sessions: runtime=Runtime(sessions='sqlite:///sessions.db')")
        if not isinstance(visible, bool) and not callable(visible):
            raise ValueError(f"visible must be True, False or a callable of the connection, not {visible!r}")
        if not isinstance(trust_chain, bool) and not callable(trust_chain):
            raise ValueError(f"trust_chain must be True, False or a callable of the connection, not {trust_chain!r}")
        if session_id is not None and is_scoped(from_setting(session_id)):
            raise ValueError("session_id= takes an id as it is stored; keys.scoped_by() makes keys, not ids")
        _require_readers(message=message, principal=principal)
        if redirect_status not in (409, 202):
            raise ValueError(f"redirect_status must be 409 or 202, not {redirect_status!r}")
        timeout = optional_seconds("turn_timeout", turn_timeout, above_zero=True)
        # Policies are values; a class is a policy whose brackets were forgotten.
        chosen = policy if callable(policy) and not isinstance(policy, type) else None
        fixed = None if chosen is not None else cast("Policy | str | None", policy)
        usual = runtime.lanes.policy if fixed is None else policy_from_setting(fixed)
        require_merge(usual, has_message=message is not None)
        runtime.require_possible(usual)
        if isinstance(chosen, PolicyHeader):
            _require_scoped(chosen, from_setting(key), session_id)
            for allowed in chosen.allowed.values():
                require_merge(allowed, has_message=message is not None)
                runtime.require_possible(allowed)
        return cls(
            runtime=runtime,
            key=from_setting(key),
            policy=usual,
            choose_policy=chosen,
            required=required,
            bypass=matchers_from_setting(bypass, "bypass"),
            paths=matchers_from_setting(paths, "paths"),
            methods=frozenset(method.upper() for method in named_methods),
            release_at_response_end=release_on == "response_end",
            finish_without_client=on_disconnect == "finish",
            turn_timeout=runtime.lanes.turn_timeout if timeout is None else timeout,
            body_limit=body_limit,
            budget=BodyBudget(body_budget),
            session_id=None if session_id is None else from_setting(session_id),
            visible=visible,
            headers=headers,
            message=message,
            principal=principal,
            key_tells_principal=principal is None and _needs_principal(runtime, from_setting(key)),
            redirect_status=int(redirect_status),
            trust_chain=trust_chain,
            beats=beats_from_setting(keepalive),
            duplicates=_duplicates(idempotency, runtime),
        )


def _needs_principal(runtime: Runtime, key: KeyExtractor) -> bool:
    matter = runtime.lanes.limits.principals_matter
    if matter and not has_principal(key):
        raise ValueError(
            "lanes with caps per principal must know for whom a request is: key=keys.scoped_by(principal, ...), or "
            "principal="
        )
    return matter


def _require_readers(**readers: object) -> None:
    for name, reader in readers.items():
        if reader is not None and not callable(reader):
            raise ValueError(f"{name} must be a callable of the connection, not {reader!r}")


def require_merge(policy: Policy, *, has_message: bool) -> None:
    """Check that an app gets to see every message its turn is to answer.

    Raises:
        ValueError: it would see the newest body alone.
    """
    if isinstance(policy, Coalesce) and policy.merge is None and not has_message:
        raise ValueError(
            "policy=Coalesce(...) needs merge=, as in merge=messages.openai_chat, or the app would see the newest body "
            "alone; with message= it reads turn.messages instead"
        )


def _duplicates(idempotency: object, runtime: Runtime) -> Duplicates | None:
    if idempotency is None or isinstance(idempotency, Duplicates):
        return idempotency
    if not isinstance(idempotency, str):
        raise ValueError(f"idempotency must be a URL, a Duplicates object or None, not {idempotency!r}")
    duplicates = Duplicates(idempotency)
    runtime.also_close.append(duplicates.aclose)
    return duplicates


def _texts(name: str, value: object) -> tuple[str, ...]:
    texts = () if isinstance(value, str) or not isinstance(value, Iterable) else tuple(cast("Iterable[object]", value))
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be one or more names, not {value!r}")
    return cast("tuple[str, ...]", texts)


def _require_scoped(choice: PolicyHeader, key: KeyExtractor, session_id: object) -> None:
    if choice.ends_others and (session_id is not None or not is_scoped(key)):
        raise ValueError(
            f"{choice.param} lets clients end turns ({', '.join(choice.ends_others)}), so they may only name sessions "
            "of their own: key=keys.scoped_by(principal, ...), and no session_id="
        )


def _require_one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")
