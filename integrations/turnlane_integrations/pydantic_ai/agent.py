"""`LaneAgent`: an agent whose runs load and save their conversation, one run of a conversation at a time."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, overload

from pydantic_ai.agent import AbstractAgent, AgentRun
from pydantic_ai.conversation_store import ConversationStore
from pydantic_ai.exceptions import UserError
from pydantic_ai.output import OutputDataT, OutputSpec
from pydantic_ai.result import StreamedRunResult
from pydantic_ai.tools import AgentDepsT

from turnlane import Runtime
from turnlane.arguments import optional_seconds
from turnlane.policies import Policy
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.pydantic_ai.sync_runs import SyncRuns, is_alone
from turnlane_integrations.pydantic_ai.turn import ConversationTurn, conversation_turn

__all__ = ("LaneAgent",)

T = TypeVar("T")


class LaneAgent(SyncRuns[AgentDepsT, OutputDataT]):
    """Wraps an agent: `agent.run(text, conversation_id=...)`, and each other way to run it, is a `conversation_turn`.

    `run`, `run_sync`, `run_stream`, `run_stream_sync`, `run_stream_events` and `iter` take their arguments as before;
    `conversation_id` is required, and in place of `conversation` and `message_history`, which would be older than the
    turn.

    Guarantees: those of `conversation_turn`; a run that has ended is saved before it returns, or its block ends.

    Not guaranteed: that a run is saved that fails, is cancelled or whose stream is not read to its end: that is as if
    it had not been. Realtime sessions have no turn. `run_stream_sync` does its work in an event loop of its own thread,
    and is refused where the lanes are used in another one. Runs of a conversation that a request starts side by side,
    inside the turn of a `LaneMiddleware`, are side by side: all but one end in a `ConversationConflict`.

    Args:
        wrapped: the agent.
        runtime: whose lanes.
        store: where conversations are.
        scope: whose they are, as in `ConversationStore`; an agent for each user is quickly made.
        policy: what happens to a run that finds its conversation busy; None for what the lanes say.
        turn_timeout: seconds after which a run is cancelled.

    Raises:
        ValueError: an argument is out of its range, or the policy makes one turn of several messages (`Coalesce`,
            `Steer`), or takes one back (`Rollback`).
    """

    def __init__(
        self,
        wrapped: AbstractAgent[AgentDepsT, OutputDataT],
        *,
        runtime: Runtime,
        store: ConversationStore,
        scope: str | None = None,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
    ) -> None:
        for name, given, kind in (
            ("wrapped", wrapped, AbstractAgent),
            ("store", store, ConversationStore),
            ("scope", scope, str | None),
        ):
            if not isinstance(given, kind):
                raise ValueError(f"{name} can not be {given!r}")
        self._policy = one_by_one(runtime, policy)
        super().__init__(wrapped, runtime)
        self._store = store
        self._scope = scope
        self._turn_timeout = optional_seconds("turn_timeout", turn_timeout, above_zero=True)

    @overload
    def iter(
        self, *args: Any, output_type: None = None, **options: Any
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, OutputDataT]]: ...

    @overload
    def iter(
        self, *args: Any, output_type: OutputSpec[T], **options: Any
    ) -> AbstractAsyncContextManager[AgentRun[AgentDepsT, T]]: ...

    @asynccontextmanager
    async def iter(self, *args: Any, **options: Any) -> AsyncGenerator[AgentRun[AgentDepsT, Any], None]:
        """Do what `Agent.iter` does, when the conversation's turn has come, and save what has come of it.

        Raises:
            ValueError: `conversation` or `message_history` was given.
            SessionKeyRequired: `conversation_id` was not.
            ConversationConflict, LaneError, TranscriptError: as `conversation_turn` and its `save`.
        """
        async with self._turn(options) as turn:
            async with self.wrapped.iter(*args, conversation=turn.conversation, **options) as run:
                yield run
            if run.result is not None:
                await turn.save(run.result)

    @overload
    def run_stream(
        self, *args: Any, output_type: None = None, **options: Any
    ) -> AbstractAsyncContextManager[StreamedRunResult[AgentDepsT, OutputDataT]]: ...

    @overload
    def run_stream(
        self, *args: Any, output_type: OutputSpec[T], **options: Any
    ) -> AbstractAsyncContextManager[StreamedRunResult[AgentDepsT, T]]: ...

    @asynccontextmanager
    async def run_stream(self, *args: Any, **options: Any) -> AsyncGenerator[StreamedRunResult[AgentDepsT, Any], None]:
        """Do what `Agent.run_stream` does, when the conversation's turn has come, and save what has come of it.

        Raises:
            ValueError, SessionKeyRequired, ConversationConflict, LaneError, TranscriptError: as `iter`.
        """
        async with self._turn(options) as turn:
            async with self.wrapped.run_stream(*args, conversation=turn.conversation, **options) as streamed:
                yield streamed
            try:
                _ = streamed.result
            except UserError:  # it was not read to its end
                return
            await turn.save(streamed)

    @asynccontextmanager
    async def _turn(self, options: dict[str, Any]) -> AsyncGenerator[ConversationTurn, None]:
        """Be in the turn of a run, and take out of its options what names it."""
        for name in ("conversation", "message_history"):
            if options.pop(name, None) is not None:
                raise ValueError(f"{name}= is loaded from the store when the turn has come: give conversation_id=")
        conversation_id: str | None = options.pop("conversation_id", None)
        try:
            async with conversation_turn(
                self._runtime,
                self._store,
                conversation_id,
                scope=self._scope,
                policy=self._policy,
                turn_timeout=self._turn_timeout,
            ) as turn:
                yield turn
        finally:
            if is_alone():
                await self._runtime.lanes.gate.settled()
