"""FastAPI: the turn and the session of a request as arguments, and lanes for single routes.

    @app.post("/chat")
    async def chat(turn: CurrentTurn, session: CurrentSession): ...          # behind LaneMiddleware

    @app.post("/chat")
    async def chat(turn: Annotated[Turn, lane(runtime, "x-session-key")]): ...        # this route alone

Needs `turnlane[fastapi]`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from inspect import isawaitable
from typing import Annotated, Any, cast

from turnlane import Runtime, Turn, current_turn
from turnlane.errors import NotConfigured, SessionKeyRequired
from turnlane.keys import (
    KeyExtractor,
    canonical,
    extract,
    from_setting,
    has_principal,
    needs_body,
    param_of,
    principal_of_key,
)
from turnlane.policies import Coalesce, Policy, Steer, policy_from_setting
from turnlane.sessions import Session
from turnlane.turns.joining import live_turn
from turnlane_integrations._checked import a_runtime
from turnlane_integrations._needs import missing as _missing

try:
    from fastapi import Depends, Request
    from fastapi.requests import HTTPConnection

    from turnlane_integrations._request import body_of, known_as_turn_of, outside_of_others, unless_its_client_leaves
except ImportError as _error:
    raise _missing("fastapi", "fastapi", _error) from _error

__all__ = ("CurrentSession", "CurrentTurn", "lane")

ADD = "add LaneMiddleware to the app, or lane(...) to the route"


def _turn_of(connection: HTTPConnection) -> Turn:
    turn = getattr(connection.state, "turn", None) or current_turn()
    if not isinstance(turn, Turn):
        raise NotConfigured(f"this request has no turn: {ADD}")
    return turn


CurrentTurn = Annotated[Turn, Depends(_turn_of)]
"""The turn this request runs in.

Raises:
    NotConfigured: it runs in none.
"""


def _session_of(turn: CurrentTurn) -> Session:
    if turn.session is None:
        raise NotConfigured("the turn of this request has no session: make the Runtime with sessions=")
    return turn.session


CurrentSession = Annotated[Session, Depends(_session_of)]
"""The session of the turn this request runs in.

Raises:
    NotConfigured: it runs in no turn, or there are no sessions.
"""


def lane(
    runtime: Runtime,
    key: str | KeyExtractor,
    *,
    policy: Policy | str | None = None,
    turn_timeout: float | None = None,
    message: Callable[[Any], Any | Awaitable[Any]] | None = None,
) -> Any:
    """Return a dependency that makes each request of a route one turn; its value is the turn.

    As an argument, `turn: Annotated[Turn, lane(runtime, "x-session-key")]`, or for a whole route, router or app:
    `dependencies=[lane(runtime, "x-session-key")]`. It is a `Depends` already. Behind `LaneMiddleware` with the same
    key and runtime it joins the request's turn.

    Guarantees: one request of a key at a time, in order of arrival, until the response has been sent, streams and
    background tasks included; a request whose client leaves while it waits leaves the line, and its endpoint is not
    called. A WebSocket is one turn for as long as it is connected.

    Not guaranteed: what comes before it, which is the reading of the body by FastAPI and the dependencies it does not
    depend on; that a client is seen to leave which has sent a body of more than 1 MiB, or one of no known length, or
    which waits with a WebSocket; the response headers and the in-band ends of streams that `LaneMiddleware` has; a
    `CurrentTurn` or `CurrentSession` that stands before it among the arguments; that a WebSocket is told why it is
    refused, where its server does not offer the extension `websocket.http.response` (uvicorn does). Refusals are
    answered by `app.add_exception_handler(turnlane.errors.TurnlaneError, turnlane.asgi.refuse)`.

    Args:
        runtime: whose lanes.
        key: where the session key is, as for `LaneMiddleware`. Of a form that FastAPI has read there is no raw body:
            give a callable that looks into `await request.form()`.
        policy: what happens to a request that finds its lane busy; None for what the lanes say.
        turn_timeout: seconds after which the request is cancelled.
        message: returns what the request asks to be answered, for policies that need it.

    Raises:
        NotConfigured: this version of FastAPI ends dependencies before a stream is sent.
        ValueError: the runtime is none; the lanes have caps per principal, and the key does not tell for whom a request
            is; there is no such policy, or it needs a `message`.
    """
    extractor = from_setting(key)
    if a_runtime(runtime).lanes.limits.principals_matter and not has_principal(extractor):
        raise ValueError(
            "lanes with caps per principal must know for whom a request is: keys.scoped_by(principal, ...)"
        )

    chosen = runtime.lanes.policy if policy is None else policy_from_setting(policy)
    if message is None and isinstance(chosen, Coalesce | Steer):
        raise ValueError(f"{type(chosen).__name__} needs message=: what other requests are to answer")

    async def turn_of_request(connection: HTTPConnection) -> AsyncGenerator[Turn, None]:
        name = await _key_of(extractor, connection)
        said = None if message is None else message(connection)
        said = await said if isawaitable(said) else said
        principal = principal_of_key(name) if has_principal(extractor) else None
        async with AsyncExitStack() as stack:
            stack.enter_context(outside_of_others(connection))
            joined = live_turn(runtime.lanes, name) is not None
            turns = runtime.turn(
                name, policy=chosen, turn_timeout=turn_timeout, message=said, principal=principal, join=True
            )
            async with unless_its_client_leaves(connection):
                turn = await stack.enter_async_context(turns)
            stack.enter_context(known_as_turn_of(connection, turn, joined=joined))
            yield turn

    try:
        return Depends(turn_of_request, scope="request")
    except TypeError:
        raise NotConfigured("lane() needs a FastAPI whose dependencies end after the response: >=0.121") from None


async def _key_of(extractor: KeyExtractor, connection: HTTPConnection) -> str:
    if needs_body(extractor):
        try:
            await body_of(cast("Request", connection))
        except (RuntimeError, AttributeError):  # it was a form, and was read; or there is none
            raise NotConfigured(f"{param_of(extractor)} can not be read here: use LaneMiddleware") from None
    found = await extract(extractor, cast("Any", connection))
    key = None if found is None else canonical(found, param_of(extractor))
    if key is None:
        raise SessionKeyRequired(param_of(extractor))
    return key
