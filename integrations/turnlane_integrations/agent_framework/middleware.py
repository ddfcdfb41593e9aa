"""`LaneAgentMiddleware`: each run of an agent is a turn of its session."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Self

from agent_framework import AgentContext, AgentMiddleware, AgentResponse

from turnlane import Runtime, Turn
from turnlane.errors import SessionKeyRequired
from turnlane.policies import Policy
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.agent_framework.history import TranscriptHistoryProvider
from turnlane_integrations.agent_framework.streaming import StreamedRun, updates_of

__all__ = ("LaneAgentMiddleware", "session_key")

ENDED = object()
Histories = list[tuple[TranscriptHistoryProvider, str]]


def session_key(context: AgentContext) -> str | None:
    """Return the id of a run's session; None where it has none.

    `service_session_id` is not used: it is not there before the first answer, and may change with each.
    """
    return None if context.session is None else context.session.session_id


class LaneAgentMiddleware(AgentMiddleware):
    """Makes each run of an agent a turn of its session. Put it first in `middleware=`: it is then around all others.

    Guarantees: runs of one session id begin one after the other, in the order in which they came to this middleware (a
    stream comes when it is first read), before the history is loaded; the next begins when the one before has stored
    what it had to. What other middleware does to a stream (hooks, gates, scopes, buffering) is done in its turn. A
    stream has the lane until it was read to its end or closed, or was not read for
    `idle_consumer_timeout` seconds; the run is then ended. An agent that runs as a tool of another one with the same
    session goes on in its turn, and so does a run behind `LaneMiddleware` with the same key.

    Not guaranteed: anything for a run without a session: it has no lane; or for an agent that is no `Agent`, as a
    `WorkflowAgent`, which keeps middleware and does not run it. Nor that other writers of the history are found, but by
    a `TranscriptHistoryProvider`. A stream that was dropped without `close` is found when it is collected, or by that
    timeout.

    Args:
        runtime: whose lanes.
        key: returns the key of a run; None: it has no lane.
        required: a run without a key is refused.
        policy: what happens to a run that finds its session busy; None for what the lanes say.
        turn_timeout: seconds after which a run is cancelled.
        idle_consumer_timeout: seconds a stream waits for its reader to ask for more.

    Raises:
        ValueError: an argument is out of its range, or the policy makes one turn of several messages (`Coalesce`,
            `Steer`), or takes one back (`Rollback`).
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        key: Callable[[AgentContext], str | None] = session_key,
        required: bool = False,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        idle_consumer_timeout: float = 60.0,
    ) -> None:
        chosen = one_by_one(runtime, policy)
        self._runtime = runtime
        self._key = key
        self._required = required
        self._policy = chosen
        self._turn_timeout = turn_timeout
        self._updates_of = runtime.agent_turn(
            key="key", policy=chosen, turn_timeout=turn_timeout, idle_consumer_timeout=idle_consumer_timeout
        )(updates_of)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: copies of an agent have the same lanes."""
        return self

    async def process(self, context: AgentContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Let the run go on when its turn has come.

        Raises:
            SessionKeyRequired: it has no key, and has to have one.
            LaneError, TranscriptError: as a turn and its transcript.
        """
        key = self._key(context)
        if key is None:
            if self._required:
                raise SessionKeyRequired("session=")
            await call_next()
        elif context.stream:
            await self._stream(key, context, call_next)
        else:
            async with self._turn(key) as turn, _guarded(_histories_of(context), turn):
                await call_next()

    async def _stream(self, key: str, context: AgentContext, call_next: Callable[[], Awaitable[None]]) -> None:
        histories = _histories_of(context)
        run = StreamedRun(context, call_next, lambda turn: _guarded(histories, turn))
        updates = self._updates_of(key, run)

        async def final() -> AgentResponse:
            if run.response is None:  # it was not read to its end: what there is of it is stored by this call
                async with self._turn(key) as turn, _guarded(histories, turn):
                    run.response = await run.stream.get_final_response()
            return run.response

        if await anext(updates, ENDED) is not ENDED:  # or else other middleware has answered, and there is no stream
            run.show(updates, final)

    def _turn(self, key: str) -> AbstractAsyncContextManager[Turn]:
        return self._runtime.turn(key, policy=self._policy, turn_timeout=self._turn_timeout, join=True)


def _histories_of(context: AgentContext) -> Histories:
    if context.session is None:
        return []
    providers: Iterable[object] = getattr(context.agent, "context_providers", ())
    session_id = context.session.session_id
    return [(each, session_id) for each in providers if isinstance(each, TranscriptHistoryProvider)]


@asynccontextmanager
async def _guarded(histories: Histories, turn: Turn) -> AsyncGenerator[None, None]:
    async with AsyncExitStack() as stack:
        for history, session_id in histories:
            await stack.enter_async_context(history.guarded(session_id, turn))
        yield
