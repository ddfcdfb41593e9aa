"""`LaneMiddleware`: one request of a session key at a time."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
import logging
from asyncio import current_task
from collections.abc import Iterable, Mapping
from threading import get_ident
from typing import Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from turnlane.asgi.answering import answer, answer_failed
from turnlane.asgi.keepalive import KeepAlive
from turnlane.asgi.matching import Matcher
from turnlane.asgi.request import LanedRequest
from turnlane.asgi.responder import Responder
from turnlane.asgi.settings import Reader, Settings, TrustChain, Visible
from turnlane.duplicates import Duplicates
from turnlane.errors import RequestRefused, SessionKeyRequired
from turnlane.keys import KeyExtractor, ScopeExtractor, is_scoped, param_of
from turnlane.lanes import Lanes
from turnlane.policies import Coalesce, Policy, PolicyChoice, Steer
from turnlane.runtime import Runtime
from turnlane.turns.context import _current, caller_of, reset_current
from turnlane.turns.turn import Turn, TurnState

__all__ = ("LaneMiddleware",)

logger: logging.Logger = logging.getLogger("turnlane.asgi")

RUNNING, ENDED = TurnState.RUNNING, TurnState.ENDED
NO_CLIENT = object()  # stands for the client of a request whose server does not name one


class LaneMiddleware:
    """Gives each session key a FIFO lane of turns: at most one request of a key is in the app, in arrival order.

    Pure ASGI: the app runs in the same task, streams and background tasks included, and everything that is not a
    request of one of `methods` with a session key passes through untouched, without a `request.state.turn` (see
    `required`). `request.state.turn` and `current_turn()` are the turn; with sessions in the runtime, `turn.session` is
    the one session of the key.

    Guarantees: a request that waits has left the line when its client leaves, and its app is never called; its body is
    replayed exactly; what is refused is answered with a document that the OpenAI and Anthropic clients read.

    Not guaranteed: one turn at a time over several processes, unless the lanes span them; that the app notices a
    client that left before it asked for more of the body; that work in a thread is waited for when its turn is
    interrupted or times out, where the request's own task does not wait for it (a child task does); that a request
    which a child task of a turn makes in-process is told from a stranger's, so asking for its own lane it waits until
    `wait_timeout`; and that cleanup with an `await` inside a streamed body ends where the framework's own task group
    cancels it again, as Starlette's does.

    Args:
        app: the ASGI application.
        key: where the session key is: the name of a header, an extractor of `turnlane.keys`, or any sync or async
            callable of the connection.
        runtime: lanes, sessions and hooks; without one, lanes of this process and no sessions.
        lanes: only lanes, instead of a runtime.
        policy: what happens to a request that finds its lane busy; None for what the lanes say. A callable, async too,
            of the connection says it for each request, None for the default; `policies.from_header` is a ready one.
        required: answer 400 to a request without a key instead of passing it through.
        bypass: requests that pass without a lane (status, stop): paths with all below them, compiled patterns,
            callables of the connection, or several of these.
        paths: if given, only these requests have lanes; the same forms.
        methods: HTTP methods that have lanes.
        release_on: when the lane goes: `app_return`, after streams and background tasks; or `response_end`, after the
            last message of the response.
        on_disconnect: `finish` hides from the app that its client left, so that the turn runs to its end. So it is in
            any case while others wait for its response, with `Coalesce(share_result=True)`.
        turn_timeout: seconds after which the turn's task is cancelled; None for what the lanes say.
        body_limit: bytes of a body read before the app runs. A longer one is left to the app, or refused with 413 if
            the key has to come from it. A longer response is not shared: the others get 409 as without sharing.
        body_budget: bytes that all bodies held by this middleware may have together; beyond it 503. A client that
            stalls in a body that is read for its key holds its part until the server ends the connection.
        session_id: where an explicit session id is, in the forms of `key`; it goes before the key, and whoever knows an
            id has that session, whatever scopes the keys: for internal callers. Needs sessions.
        visible: False, or a callable of the connection that says so, for internal hand-offs that leave no trace.
        headers: whether responses tell wait, position, turn and session.
        trust_chain: whether a request that brings the call chain of a turn that runs here may use its running slot and
            is served while the lanes drain; or a callable of the connection that says so. Else a chain is used only to
            refuse what would wait for itself.
        idempotency: where messages are remembered, so that one that arrives again (`Idempotency-Key`) gets its answer
            and no second run: `memory://`, `sqlite:///file.db`, or `turnlane.duplicates.Duplicates`. None: nowhere.
        trusted_keys: say that clients may name any session; else an unscoped key or session id logs one warning.
        message: a sync or async callable of the connection that returns what the request asks to be answered, for
            `turn.messages`; None: an `HttpMessage` with its whole body, where the policy is `Coalesce` or `Steer`.
            Where `merge` returns an `HttpMessage`, that is the body the app gets.
        principal: a callable of the connection that returns for whom the request is made, where a lane is shared by
            several; messages of different ones never become one turn. None: where lanes have caps per principal, the
            one in the key, which `keys.scoped_by` puts there; else it does not matter.
        redirect_status: of a request whose message another turn answers; clients of today take 202 for the answer.
        keepalive: a `KeepAlive`, or the seconds of its silent window, for streams that wait in line; None for none.

    Raises:
        ValueError: a setting is not one of those there are, or both `lanes` and `runtime` are given.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: str | KeyExtractor,
        runtime: Runtime | None = None,
        lanes: Lanes | None = None,
        policy: Policy | str | PolicyChoice | None = None,
        required: bool = False,
        bypass: Matcher | Iterable[Matcher] | None = None,
        paths: Matcher | Iterable[Matcher] | None = None,
        methods: Iterable[str] = frozenset({"POST"}),
        release_on: Literal["app_return", "response_end"] = "app_return",
        on_disconnect: Literal["pass", "finish"] = "pass",
        turn_timeout: float | None = None,
        body_limit: int = 1024 * 1024,
        body_budget: int = 256 * 1024 * 1024,
        session_id: str | KeyExtractor | None = None,
        visible: Visible = True,
        headers: bool = True,
        trust_chain: TrustChain = False,
        idempotency: Duplicates | str | None = None,
        trusted_keys: bool = False,
        message: Reader | None = None,
        principal: Reader | None = None,
        redirect_status: Literal[409, 202] = 409,
        keepalive: KeepAlive | float | None = None,
    ) -> None:
        if lanes is not None and runtime is not None:
            raise ValueError("give lanes= or runtime=, not both: a runtime has lanes")
        if runtime is not None and not isinstance(runtime, Runtime):
            raise ValueError(f"runtime must be a Runtime, not {runtime!r}")
        if runtime is None:
            runtime = Runtime(lanes="memory://" if lanes is None else lanes)
        self.app: ASGIApp = app
        self.runtime: Runtime = runtime
        self._settings = settings = Settings.of(
            runtime=runtime,
            key=key,
            policy=policy,
            required=required,
            bypass=bypass,
            paths=paths,
            methods=methods,
            release_on=release_on,
            on_disconnect=on_disconnect,
            turn_timeout=turn_timeout,
            body_limit=body_limit,
            body_budget=body_budget,
            session_id=session_id,
            visible=visible,
            headers=headers,
            message=message,
            principal=principal,
            redirect_status=redirect_status,
            trust_chain=trust_chain,
            keepalive=keepalive,
            idempotency=idempotency,
        )
        self._gate = runtime.lanes.gate
        self._methods = settings.methods
        self._headers = headers
        self._required = required
        self._param = param_of(settings.key)
        self._quick = settings.key if isinstance(settings.key, ScopeExtractor) and _is_plain(settings) else None
        if not trusted_keys:
            _warn_if_unscoped(settings)

    def __repr__(self) -> str:
        return f"<LaneMiddleware key={self._param!r} {self.runtime.lanes!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: C901  flat
        """Run the app for one connection, in a lane if it belongs into one."""
        if _current.get() is not None:
            await self._from_inside(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] not in self._methods:
            await self.app(scope, receive, send)
            return
        quick = self._quick
        if quick is None:
            await self._the_long_way(scope, receive, send)
            return
        try:
            key = quick.key(scope)
            if key is None and self._required:
                raise SessionKeyRequired(self._param)
        except RequestRefused as error:
            await answer(error, send, self.runtime.lanes)
            return
        if key is None:
            await self.app(scope, receive, send)
            return
        # From here on all is written out: a call that is not made is the cheapest there is, and nearly every request
        # comes here. What is special is left to the long way; the two agree in all that is seen from outside.
        gate = self._gate
        loop, holders = gate._loop, gate.table.holders
        # In this thread only the loop that runs can have a current task; asking which one that is costs more.
        task = None if loop is None or gate.guarded or get_ident() != gate._thread else current_task(loop)
        if task is None or key in holders:
            await self._the_long_way(scope, receive, send)
            return
        now = gate._monotonic()
        token = int((now + gate._wall_offset) * 1e6)
        if token <= gate._last_token:
            token = gate._last_token + 1
        gate._last_token = token
        turn = Turn()
        turn.key = key
        turn.token = turn._number = token
        turn.session = turn._parent = turn._wait = turn._end = turn._joins = turn._nested = None
        turn._talk = turn._transcript = None
        turn._owner = gate
        turn._task = task
        turn._started = now
        turn._state = RUNNING
        turn._origin = scope.get("client") or NO_CLIENT
        turn._chain = scope.get("headers")  # looked for a call chain only when somebody asks
        hooks = gate.hooks
        responder = Responder()
        responder.raw_send = send
        responder.turn = turn if self._headers else None
        holders[key] = turn
        context = None
        try:
            if hooks.active:
                gate.tell_started(turn)
            state = scope.get("state")
            if state is None:
                scope["state"] = {"turn": turn}
            else:
                state["turn"] = turn
            context = _current.set(turn)
            await self.app(scope, receive, responder.send)
        except BaseException as error:  # noqa: BLE001  raised again there, unless it is told to the client
            if context is not None:
                reset_current(context)
            failure = gate.leave(turn, error) or error
            if failure is not error:
                failure.__cause__ = error
            try:
                redirect_status = self._settings.redirect_status
                await answer_failed(failure, responder, self.runtime.lanes, redirect_status=redirect_status)
            finally:
                del failure  # it knows this frame
            return
        _current.reset(context)
        table = gate.table
        if (
            key in table.lines
            or turn._end is not None
            or turn._joins is not None
            or turn._talk is not None
            or gate.guarded
            or hooks.active
            or table.holders.get(key) is not turn
        ):
            gate.leave(turn, None)
        else:
            turn._state = ENDED
            del table.holders[key]
            gate.outcomes.completed += 1

    async def _the_long_way(self, scope: Scope, receive: Receive, send: Send) -> None:
        await LanedRequest(self._settings, self.app, scope, receive, send, scope.get("client") or NO_CLIENT).run()

    async def _from_inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection whose context has a turn already: one made from inside it, or a stranger's.

        Servers start later requests of a client's connection in the context of an earlier one; see `caller_of`.
        """
        origin = scope.get("client") or NO_CLIENT
        if not _says_its_turn(scope) and caller_of(_current.get(), origin, asyncio.current_task()) is None:
            context = _current.set(None)
            try:
                await self(scope, receive, send)
            finally:
                reset_current(context)
        elif scope["type"] != "http" or scope["method"] not in self._methods:
            await self.app(scope, receive, send)
        else:
            await self._the_long_way(scope, receive, send)


def _warn_if_unscoped(settings: Settings) -> None:
    for what, extractor in (("key", settings.key), ("session_id", settings.session_id)):
        if extractor is not None and not is_scoped(extractor):
            logger.warning(
                "unscoped_%s param=%r: any client can name any session; "
                "use keys.scoped_by(principal, ...) for keys, or trusted_keys=True where clients may",
                what,
                param_of(extractor),
            )


def _says_its_turn(scope: Scope) -> bool:
    """Tell whether a lane middleware outside has put this very request into a turn of this chain.

    What stands between may run the rest of the request in another task. A request that only inherited the context of
    another has a state of its own.
    """
    state: Mapping[str, object] = scope.get("state") or {}
    turn = state.get("turn")
    known = _current.get()
    while known is not None and known is not turn:
        known = known._parent
    return known is not None and known.running


def _is_plain(settings: Settings) -> bool:
    """Tell whether the key is all there is to look at: then a request may take the short way."""
    special = (
        settings.choose_policy is not None,
        settings.runtime.sessions is not None,
        settings.bypass is not None,
        settings.paths is not None,
        settings.turn_timeout is not None,
        settings.session_id is not None,
        settings.message is not None,
        isinstance(settings.policy, Coalesce | Steer),
        settings.visible is not True,
        settings.release_at_response_end,
        settings.finish_without_client,
        settings.duplicates is not None,
    )
    return not any(special)
