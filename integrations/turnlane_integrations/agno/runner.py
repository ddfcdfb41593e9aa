"""`LaneRunner`: what the methods of agno's agents, teams and workflows do, one run of a session at a time."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal, TypeVar, overload
from uuid import uuid4

from turnlane import Runtime
from turnlane.policies import Policy
from turnlane_integrations._blocking import Blocking, Stay
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.agno.guards import guarded
from turnlane_integrations.agno.runs import Component, options_of, streamed, whole

__all__ = ("LaneRunner",)

R = TypeVar("R")


class LaneRunner:
    """Runs agents, teams and workflows as their own methods do, with the same arguments.

    The key is the id of the session, as in `turnlane.keys.agent_os()`: `session_id=`, else that of what is run.

    Guarantees: runs of one session id run one after the other, in the order in which they were called, and each reads
    the session when its turn has come. A run that is cancelled lets its lane go when agno has stored it. Behind
    `LaneMiddleware` with the same key a run joins the request's turn.

    Not guaranteed: anything for what does not come through the same lanes, be it a run or a change of the session: agno
    does not notice it, and the last one's `session_state` stays, also that of a run whose lease has expired; but where
    the database is a `fenced_db`. Nor for `background=True`, which is refused; nor that an agent with
    `cache_session=True` is shown what other processes have stored.

    Args:
        runtime: whose lanes.
        policy: what happens to a run that finds its session busy; None for what the lanes say.
        turn_timeout: seconds after which a run is cancelled.
        idle_consumer_timeout: seconds a streamed run waits for its reader to ask for the next event.

    Raises:
        ValueError: the policy is `Coalesce` or `Steer`, which are for functions that know what their messages are, or
            `Rollback`: what sessions have stored is not taken back.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        idle_consumer_timeout: float = 60.0,
    ) -> None:
        chosen = one_by_one(runtime, policy)
        settings: dict[str, Any] = {"policy": chosen, "turn_timeout": turn_timeout}
        turns = runtime.agent_turn(key="session_id", idle_consumer_timeout=idle_consumer_timeout, **settings)
        self._whole: Callable[..., Coroutine[Any, Any, Any]] = turns(whole)
        self._streamed: Callable[..., AsyncGenerator[Any, None]] = turns(streamed)
        self._turn = partial(runtime.turn, join=True, **settings)
        self._blocking = Blocking(runtime)

    @overload
    def arun(
        self, component: Component[R], input: Any, *, stream: Literal[False] = False, **options: Any
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def arun(
        self, component: Component[Any], input: Any, *, stream: Literal[True], **options: Any
    ) -> AsyncGenerator[Any, None]: ...

    def arun(self, component: Component[Any], input: Any, *, stream: bool = False, **options: Any) -> Any:
        """Do what `component.arun` does, when the session's turn has come; that of a stream ends with it.

        Raises:
            SessionKeyRequired, SessionKeyInvalid: the session is not named.
            ValueError: `background=True`.
            LaneError: as a turn.
        """
        turns = self._streamed if stream else self._whole
        return turns(partial(component.arun, input), **options_of(component, options))

    @overload
    def acontinue_run(
        self, component: Component[R], *, stream: Literal[False] = False, **options: Any
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def acontinue_run(
        self, component: Component[Any], *, stream: Literal[True], **options: Any
    ) -> AsyncGenerator[Any, None]: ...

    def acontinue_run(self, component: Any, *, stream: bool = False, **options: Any) -> Any:
        """Do what `component.acontinue_run` does, as a turn of its own.

        Raises:
            SessionKeyRequired, SessionKeyInvalid, ValueError, LaneError: as `arun`.
        """
        turns = self._streamed if stream else self._whole
        return turns(component.acontinue_run, **options_of(component, options))

    @overload
    def run(self, component: Component[R], input: Any, *, stream: Literal[False] = False, **options: Any) -> R: ...

    @overload
    def run(
        self, component: Component[Any], input: Any, *, stream: Literal[True], **options: Any
    ) -> Generator[Any, None, None]: ...

    def run(self, component: Component[Any], input: Any, *, stream: bool = False, **options: Any) -> Any:
        """Do what `component.run` does, in the thread of its caller, when the session's turn has come.

        A turn that is to end, as for `policy="interrupt"`, has agno cancel the run, and ends when the run has.

        Raises:
            NotConfigured: called in an event loop, which it would stop.
            SessionKeyRequired, SessionKeyInvalid, ValueError, LaneError: as `arun`.
        """
        call = partial(component.run, input)
        options["run_id"] = options.get("run_id") or str(uuid4())
        return (self._events if stream else self._result)(component, call, options_of(component, options))

    @overload
    def continue_run(self, component: Component[R], *, stream: Literal[False] = False, **options: Any) -> R: ...

    @overload
    def continue_run(
        self, component: Component[Any], *, stream: Literal[True], **options: Any
    ) -> Generator[Any, None, None]: ...

    def continue_run(self, component: Any, *, stream: bool = False, **options: Any) -> Any:
        """Do what `component.continue_run` does, as a turn of its own.

        Raises:
            NotConfigured, SessionKeyRequired, SessionKeyInvalid, ValueError, LaneError: as `run`.
        """
        call = component.continue_run
        return (self._events if stream else self._result)(component, call, options_of(component, options))

    def close(self) -> None:
        """End the thread that `run` and `continue_run` have made, if they have."""
        self._blocking.close()

    def _result(self, component: Any, call: Callable[..., Any], options: dict[str, Any]) -> Any:
        with self._inside(component, options) as stay:
            return stay.call(partial(call, stream=False, **options))

    def _events(self, component: Any, call: Callable[..., Any], options: dict[str, Any]) -> Generator[Any, None, None]:
        with self._inside(component, options) as stay:
            yield from stay.each(partial(call, stream=True, **options))

    def _inside(self, component: Any, options: dict[str, Any]) -> AbstractContextManager[Stay]:
        run_id = options.get("run_id") or getattr(options.get("run_response"), "run_id", "")
        return self._blocking.inside(
            partial(self._guarded_turn, options["session_id"]),
            instead="arun or acontinue_run",
            on_cancel=partial(component.acancel_run, run_id),
        )

    @asynccontextmanager
    async def _guarded_turn(self, session_id: str) -> AsyncGenerator[None, None]:
        async with self._turn(key=session_id), guarded(session_id):
            yield
