"""`LaneRunner`: ADK's runner, one run of a session at a time."""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
from google.adk.events import Event
from google.adk.runners import Runner

from turnlane import Runtime
from turnlane.policies import Policy
from turnlane_integrations._blocking import Blocking
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.google_adk.key import session_key
from turnlane_integrations.google_adk.stale import told

__all__ = ("LaneRunner",)


class LaneRunner(Runner):
    """Runs agents as `google.adk.runners.Runner` does, with the same arguments, and a runtime.

    Guarantees: runs of one session (`run_async`, `run`, `run_live`, `run_debug`, `rewind_async`) run one after the
    other, in the order in which they were called, and each is shown what the ones before it have stored. The key is
    that of `turnlane.keys.adk()`: behind `LaneMiddleware` a run joins the turn of its request. A stale session is a
    `SessionTakeover`.

    Not guaranteed: anything for runs that do not come through the same lanes, but that most session services find what
    those have written; words that are refused are kept by `FencedSessions`. A live run keeps its lane until it ends,
    and is told of a stale session when it does. A tool that runs in a thread goes on when its run is cancelled.

    Args:
        runtime: whose lanes.
        policy: what happens to a run that finds its session busy; None for what the lanes say.
        turn_timeout: seconds after which a run is cancelled.
        idle_consumer_timeout: seconds a run waits for its reader to ask for the next event.
        options: as `Runner`.

    Raises:
        ValueError: the policy is `Coalesce` or `Steer`, which are for functions that know what their messages are, or
            `Rollback`: what sessions have stored is not taken back.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        idle_consumer_timeout: float = 60.0,
        **options: Any,
    ) -> None:
        chosen = one_by_one(runtime, policy)
        super().__init__(**options)
        settings: dict[str, Any] = {"policy": chosen, "turn_timeout": turn_timeout}
        turns = runtime.agent_turn(key=self._key, idle_consumer_timeout=idle_consumer_timeout, **settings)
        self._run_in_turn: Callable[..., AsyncGenerator[Event, None]] = turns(self._run)
        self._run_live_in_turn: Callable[..., AsyncGenerator[Event, None]] = turns(self._run_live)
        self._turn = partial(runtime.turn, join=True, **settings)
        self._blocking = Blocking(runtime)

    async def run_async(self, *, user_id: str, session_id: str, **options: Any) -> AsyncGenerator[Event, None]:
        """Do what `Runner.run_async` does, when the session's turn has come.

        Raises:
            SessionKeyRequired, SessionKeyInvalid: the session is not named.
            SessionTakeover: somebody else has written to the session.
            LaneError: as a turn.
        """
        async with aclosing(self._run_in_turn(user_id=user_id, session_id=session_id, **options)) as events:
            async for event in events:
                yield event

    async def run_live(
        self, *, user_id: str | None = None, session_id: str | None = None, **options: Any
    ) -> AsyncGenerator[Event, None]:
        """Do what `Runner.run_live` does, when the session's turn has come; it is one turn, however long it lasts.

        Raises:
            SessionKeyRequired, SessionKeyInvalid, SessionTakeover, LaneError: as `run_async`.
        """
        async with aclosing(self._run_live_in_turn(user_id=user_id, session_id=session_id, **options)) as events:
            async for event in events:
                yield event

    async def run_debug(
        self,
        user_messages: str | list[str],
        *,
        user_id: str = "debug_user_id",
        session_id: str = "debug_session_id",
        **options: Any,
    ) -> list[Event]:
        """Do what `Runner.run_debug` does, all of it in one turn: it makes the session, if there is none.

        Raises:
            SessionKeyRequired, SessionKeyInvalid, SessionTakeover, LaneError: as `run_async`.
        """
        async with self._turn(key=self._key(user_id=user_id, session_id=session_id)):
            return await super().run_debug(user_messages, user_id=user_id, session_id=session_id, **options)

    def run(self, *, user_id: str, session_id: str, **options: Any) -> Generator[Event, None, None]:
        """Do what `Runner.run` does, when the session's turn has come, in the event loop of the lanes.

        Raises:
            NotConfigured: called in an event loop, which it would stop.
            SessionKeyRequired, SessionKeyInvalid, SessionTakeover, LaneError: as `run_async`.
        """
        run = partial(self.run_async, user_id=user_id, session_id=session_id, **options)
        yield from self._blocking.iterate(run, instead="run_async")

    async def rewind_async(self, *, user_id: str, session_id: str, **options: Any) -> None:
        """Do what `Runner.rewind_async` does, as a turn of its own.

        Raises:
            SessionKeyRequired, SessionKeyInvalid, SessionTakeover, LaneError: as `run_async`.
        """
        async with self._turn(key=self._key(user_id=user_id, session_id=session_id)):
            with told(self.app_name, user_id, session_id):
                await super().rewind_async(user_id=user_id, session_id=session_id, **options)

    async def close(self) -> None:
        """Do what `Runner.close` does, and end the thread that `run` has made, if it has."""
        try:
            await super().close()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._blocking.close)

    def _key(self, *, user_id: str | None = None, session_id: str | None = None, **options: Any) -> str:
        session = options.get("session")  # how a live run names it in older code
        if session is not None:
            return session_key(self.app_name, session.user_id, session.id)
        return session_key(self.app_name, user_id, session_id)

    async def _run(self, *, user_id: str, session_id: str, **options: Any) -> AsyncGenerator[Event, None]:
        with told(self.app_name, user_id, session_id):
            async with aclosing(super().run_async(user_id=user_id, session_id=session_id, **options)) as events:
                async for event in events:
                    yield event

    async def _run_live(
        self, *, user_id: str | None = None, session_id: str | None = None, **options: Any
    ) -> AsyncGenerator[Event, None]:
        with told(self.app_name, user_id, session_id):
            async with aclosing(super().run_live(user_id=user_id, session_id=session_id, **options)) as events:
                async for event in events:
                    yield event
