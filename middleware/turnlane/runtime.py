"""`Runtime`: lanes, sessions, transcripts and hooks in one object a server owns."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self, overload

from turnlane.drain import draining_on_sigterm
from turnlane.hooks import HookPlugin, Hooks
from turnlane.keys import require_key
from turnlane.lanes import Lanes
from turnlane.lanes.scope import TurnScope
from turnlane.parts import Parts
from turnlane.policies import Policy, Rollback, policy_from_setting
from turnlane.sessions import Sessions
from turnlane.transcripts import Transcripts
from turnlane.turns import Turn
from turnlane.turns.agent import AgentTurn
from turnlane.turns.joining import joined, live_turn

__all__ = ("Runtime",)

# What frameworks take: some want a mapping of state, some None.
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class Runtime(Parts):
    """The parts of turnlane in one object: made once, given to the middleware, closed with the server.

    Opens lazily: what a part needs is opened at its first use, in the running loop, so a server without a lifespan
    and a test client that makes a loop per request both work. `async with runtime:` and `runtime.lifespan` close
    what was opened here, the last one out where several apps share it; parts that were given as instances stay open,
    whoever made them closes them.

    Not guaranteed: use in a process forked after opening; what was opened then raises `NotConfigured`.

    Args:
        lanes: where lanes live, as a URL or an instance.
        sessions: where session entries live, as a URL or an instance; None: turns have no session.
        transcripts: where transcripts live, as a path, a URL or an instance; None: turns have none. Needs sessions. A
            turn of the policy `Rollback` needs an instance made with `trace_turns=True`, unless it is the lanes' own.
        hooks: plugins whose `register(hooks)` is called once, and once more where the sessions given have hooks of
            their own; text names an entry point of `turnlane.hooks`.

    Raises:
        ValueError: a URL or a plugin is not understood, there are transcripts without sessions, or the policy of the
            lanes is `Rollback` and there are no transcripts that note turns.
    """

    def __init__(
        self,
        *,
        lanes: Lanes | str = "memory://",
        sessions: Sessions | str | None = None,
        transcripts: Transcripts | str | os.PathLike[str] | None = None,
        hooks: Iterable[HookPlugin | str] = (),
    ) -> None:
        if isinstance(hooks, str):
            raise ValueError(f"hooks must be a list of plugins, not the text {hooks!r}")
        if not isinstance(lanes, Lanes | str):
            raise ValueError(f"lanes must be a URL or a Lanes object, not {lanes!r}")
        if sessions is not None and not isinstance(sessions, Sessions | str):
            raise ValueError(f"sessions must be a URL, a Sessions object or None, not {sessions!r}")
        if transcripts is not None and sessions is None:
            raise ValueError("transcripts= needs sessions=: a transcript belongs to the id of a session")
        self.hooks: Hooks = lanes.hooks if isinstance(lanes, Lanes) else Hooks()
        self.also_close: list[Callable[[], Awaitable[None]]] = []  # for a middleware, which has no end of its own
        self._entered = 0  # apps that share it are inside; the last one out closes
        self._owns_lanes = isinstance(lanes, str)
        self._owns_sessions = isinstance(sessions, str)
        self.lanes: Lanes = Lanes(lanes, hooks=self.hooks) if isinstance(lanes, str) else lanes
        self.sessions: Sessions | None = Sessions(sessions, hooks=self.hooks) if isinstance(sessions, str) else sessions
        self._owns_transcripts = isinstance(transcripts, str | os.PathLike)
        self.transcripts: Transcripts | None = (
            transcripts
            if transcripts is None or isinstance(transcripts, Transcripts)
            else Transcripts(transcripts, hooks=self.hooks, trace_turns=isinstance(self.lanes.policy, Rollback))
        )
        self.require_possible(self.lanes.policy)
        parts = (self.hooks, *(part.hooks for part in (self.sessions, self.transcripts) if part is not None))
        for plugin in hooks:
            installed = self.hooks.install(plugin)
            for other in dict.fromkeys(parts):
                if other is not self.hooks:
                    other.install(installed)

    def __repr__(self) -> str:
        return f"<Runtime lanes={self.lanes!r} sessions={self.sessions!r} transcripts={self.transcripts!r}>"

    async def __aenter__(self) -> Self:
        self._entered += 1
        if self._owns_lanes:
            await self.lanes.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered -= 1
        if not self._entered:
            await self.aclose()

    async def aclose(self) -> None:
        """Refuse new turns, tell who waits, and close what was opened here. Harmless to call again."""
        async with AsyncExitStack() as stack:
            for close in self.also_close:
                stack.push_async_callback(close)
            if self.transcripts is not None and self._owns_transcripts:
                stack.push_async_callback(self.transcripts.aclose)
            if self.sessions is not None and self._owns_sessions:
                stack.push_async_callback(self.sessions.aclose)
            if self._owns_lanes:
                # Last pushed, first run: listeners hear of the end of the lanes before they are stopped.
                stack.push_async_callback(self.hooks.aclose)
                stack.push_async_callback(self.lanes.aclose)

    # -- turns

    def turn(
        self,
        key: str | None = None,
        *,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        session_id: str | None = None,
        visible: bool = True,
        message: Any = None,
        principal: Hashable = None,
        join: bool = False,
    ) -> AbstractAsyncContextManager[Turn]:
        """Run one turn: `async with runtime.turn(key) as turn:`, with `turn.session` where there are sessions.

        The session is resolved inside the turn, after the wait, and touched when the turn ends.

        Not guaranteed, where it is held while a response is sent: that a pipelined request of the same connection is
        no part of it, since servers start one in the context of the other. `LaneMiddleware` and the `lane()` of
        `turnlane_integrations.fastapi` tell them apart.

        Args:
            key: the session key.
            policy: what happens if the lane is busy; None for what the lanes say.
            turn_timeout: seconds after which the turn's task is cancelled.
            session_id: run in this session, whatever the key: nothing is reserved or minted. The lane is that of
                the key the id belongs to, else one named by the id.
            visible: False for an internal hand-off: an existing session, or one that is not stored and not told of.
            message: what the turn is to answer; see `Lanes.turn`.
            principal: who it is for; see `Lanes.turn`.
            join: inside a running turn of the same key and lanes, go on in that one, as a call of `agent_turn` does,
                instead of raising `LaneReentry`. Not with `session_id`.

        Raises:
            ValueError: neither a key nor a session id was given, one of them is not text, or the policy needs a message
                and there is none.
            SessionKeyInvalid, SessionKeyRequired: the key is not acceptable, or blank.
            NotConfigured: `session_id` or an invisible turn without sessions.
            LaneError: as `Lanes.turn`.
            SessionError: the session store could not tell.
        """
        if session_id is not None and not isinstance(session_id, str):
            raise ValueError(f"session_id must be text, not {session_id!r}")
        if session_id is None and key is None:
            raise ValueError("a turn needs a session key or a session id")

        def scope_of(lane: str) -> TurnScope:
            scope = self.lanes.place(
                lane, policy=policy, turn_timeout=turn_timeout, message=message, principal=principal
            )
            return scope.aim_at((session_id, visible))

        self.require_possible(self.lanes.policy if policy is None else policy_from_setting(policy))
        scope = None if key is None or session_id is not None else scope_of(key)
        alone = self.turn_at(scope, scope_of, session_id=session_id, visible=visible)
        return self._joining(require_key(key), alone, visible=visible) if join and scope and key else alone

    @asynccontextmanager
    async def _joining(
        self, key: str, alone: AbstractAsyncContextManager[Turn], *, visible: bool
    ) -> AsyncGenerator[Turn, None]:
        """Go on in the running turn of a key that this code is inside of, or else in one of its own."""
        turn = live_turn(self.lanes, key)
        if turn is None:
            async with alone as turn:
                yield turn
        else:
            async with joined(self, turn, asyncio.current_task(), visible=visible):
                yield turn

    def agent_turn(
        self,
        *,
        key: str | Callable[..., Any],
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        session_id: str | Callable[..., Any] | None = None,
        visible: bool = True,
        idle_consumer_timeout: float = 60.0,
        principal: str | Callable[..., Any] | None = None,
    ) -> AgentTurn:
        """Make each call of a coroutine function, method or async generator function one turn.

        See `turnlane.turns.agent.AgentTurn` for what it guarantees.

        Args:
            key: the name of the argument that holds the session key, or a sync or async callable that is called
                with the function's own arguments and returns it.
            policy: what happens if the lane is busy; None for what the lanes say.
            turn_timeout: seconds after which the turn's task is cancelled.
            session_id: like `key`, for an explicit session id; where it gives None the key counts.
            visible: False for internal hand-offs, as in `turn`.
            idle_consumer_timeout: seconds a generator turn waits for its consumer to ask for the next item.
            principal: like `key`, for whom a call is made: `Coalesce` makes one turn only of calls for the same one.

        Raises:
            ValueError: an argument is out of its range.
        """
        return AgentTurn(
            self,
            key=key,
            policy=policy,
            turn_timeout=turn_timeout,
            session_id=session_id,
            visible=visible,
            idle_consumer_timeout=idle_consumer_timeout,
            principal=principal,
        )

    async def drain(self, timeout: float | None = None, *, everywhere: bool = False) -> int:
        """Refuse new turns, tell who waits, let running turns end; see `Lanes.drain`."""
        return await self.lanes.drain(timeout, everywhere=everywhere)

    # -- the life of a server

    @overload
    def lifespan(self, *, drain_on_sigterm: bool = True, inner: Lifespan | None = None) -> Lifespan: ...

    @overload
    def lifespan(
        self, app: object, *, drain_on_sigterm: bool = True, inner: Lifespan | None = None
    ) -> AbstractAsyncContextManager[Any]: ...

    def lifespan(
        self, app: object = None, *, drain_on_sigterm: bool = True, inner: Lifespan | None = None
    ) -> AbstractAsyncContextManager[Any] | Lifespan:
        """Open and close this runtime with a server: `FastAPI(lifespan=runtime.lifespan)`.

        With settings: `FastAPI(lifespan=runtime.lifespan(inner=my_lifespan, drain_on_sigterm=False))`. Inside a
        lifespan of your own: `async with runtime.lifespan(app):`.

        Args:
            app: what the framework calls it with.
            drain_on_sigterm: from SIGTERM on refuse new turns and answer those who wait at once; servers tell
                their lifespan only when every request has ended. The server's own handler is called as before.
                Only in the main thread, and only where the server handles the signal; elsewhere drain by `drain`.
            inner: a lifespan that runs inside this one; its state is passed on.
        """
        if app is None:
            return lambda given: self._lifespan(given, drain_on_sigterm=drain_on_sigterm, inner=inner)
        return self._lifespan(app, drain_on_sigterm=drain_on_sigterm, inner=inner)

    @asynccontextmanager
    async def _lifespan(
        self, app: object, *, drain_on_sigterm: bool, inner: Lifespan | None
    ) -> AsyncGenerator[Any, None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self)
            if drain_on_sigterm:
                stack.enter_context(draining_on_sigterm(self.lanes))
            yield None if inner is None else await stack.enter_async_context(inner(app))
