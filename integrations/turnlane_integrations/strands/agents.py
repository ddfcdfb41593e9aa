"""`LaneAgents`: agents of strands that are made for one invocation, one invocation of a session at a time."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from inspect import isawaitable
from typing import Any, cast

from strands import Agent
from strands.agent import AgentResult
from strands.types.agent import AgentInput

from turnlane import Runtime, Turn
from turnlane.errors import LaneReentry
from turnlane.policies import Policy
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.strands.ending import asked_to_stop_with, shut_down
from turnlane_integrations.strands.inside import inside
from turnlane_integrations.strands.refusal import refusal_behind
from turnlane_integrations.strands.refusals import refusals_kept

__all__ = ("LaneAgents",)

MakeAgent = Callable[[str], Agent | Awaitable[Agent]]
"""Makes the agent of a session id, with its session manager."""


class LaneAgents:
    """Invokes agents as `strands.Agent` does, with the id of the session first; each invocation has its own agent.

    An agent reads its history when it is made, so it is made inside the turn, never before the wait.

    Guarantees: invocations of one session id run one after the other, in the order in which they were called, and each
    agent is shown what the ones before it have stored. Behind `LaneMiddleware` with the same key an invocation joins
    the request's turn; a second one inside that turn, as of a tool of the first, is a `LaneReentry`, and inside of the
    agent one of any `LaneAgents` of these lanes is: its agent would be written over. An invocation that is interrupted
    is asked to stop as `Agent.cancel` asks, so that what it stores is whole; it is cancelled when the policy's grace is
    over. An agent is shut down inside its turn, so that its memory manager has kept what was said. What a
    `FencedRepository` has refused a tool, which strands tells its model alone, is in the salvage and in the log.

    Not guaranteed: that clients of MCP which `make_agent` makes are closed before Python collects the agent: make them
    once, outside of it; anything for agents that are not made by a `LaneAgents` of the same lanes, but that a
    `FencedRepository` finds what they have written; or for agents of two `LaneAgents` that one turn begins side by
    side; nor that a tool which runs in a thread has ended with its turn, where that was cancelled.

    Args:
        runtime: whose lanes.
        make_agent: makes an agent for a session id, with its session manager; async, or not. It is called for each
            invocation, and must make a new one: one that is kept does not know what other processes have stored.
        policy: what happens to an invocation that finds its session busy; None for what the lanes say.
        turn_timeout: seconds after which an invocation is cancelled.
        idle_consumer_timeout: seconds a stream waits for its reader to ask for the next event.

    Raises:
        ValueError: the runtime is none, or the policy makes one turn of several messages (`Coalesce`, `Steer`), or
            takes one back (`Rollback`).
    """

    def __init__(
        self,
        runtime: Runtime,
        make_agent: MakeAgent,
        *,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        idle_consumer_timeout: float = 60.0,
    ) -> None:
        turns = runtime.agent_turn(
            key="session_id",
            policy=one_by_one(runtime, policy),
            turn_timeout=turn_timeout,
            idle_consumer_timeout=idle_consumer_timeout,
        )
        self._make_agent = make_agent
        self._lanes = runtime.lanes
        self._running: set[str] = set()
        self._invoke = turns(self._invoke_async)
        self._stream = turns(self._stream_async)

    async def invoke_async(self, session_id: str, prompt: AgentInput = None, **options: Any) -> AgentResult:
        """Do what `Agent.invoke_async` does, when the session's turn has come.

        Args:
            session_id: of the conversation: what `make_agent` is given, and the key of the lane.
            prompt: as for the agent.
            options: as for the agent.

        Raises:
            SessionKeyRequired, SessionKeyInvalid: the id is blank, or no text.
            LaneReentry: the turn that asks has an agent of this session, as a tool of that agent has.
            LaneError: as a turn.
            TranscriptTakeover: a `FencedRepository` has found a foreign write; the words are in its salvage.
        """
        return await self._invoke(session_id, prompt, options)

    def stream_async(
        self, session_id: str, prompt: AgentInput = None, **options: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what `Agent.stream_async` yields, when the session's turn has come.

        The lane is held until the stream has ended or was closed, which cancels the agent.

        Args:
            session_id: of the conversation: what `make_agent` is given, and the key of the lane.
            prompt: as for the agent.
            options: as for the agent.

        Raises:
            ConsumerIdle: the reader was away for `idle_consumer_timeout` seconds.
            SessionKeyRequired, SessionKeyInvalid, LaneError, TranscriptTakeover: as `invoke_async`.
        """
        return self._stream(session_id, prompt, options)

    async def _invoke_async(
        self, session_id: str, prompt: AgentInput, options: Mapping[str, Any], *, turn: Turn
    ) -> AgentResult:
        async with self._agent(session_id, turn) as agent:
            return await agent.invoke_async(prompt, **options)

    async def _stream_async(
        self, session_id: str, prompt: AgentInput, options: Mapping[str, Any], *, turn: Turn
    ) -> AsyncGenerator[dict[str, Any], None]:
        async with self._agent(session_id, turn) as agent:
            # An async generator, although its type says iterator.
            events = cast("AsyncGenerator[dict[str, Any], None]", agent.stream_async(prompt, **options))
            async with aclosing(events):
                async for event in events:
                    yield event

    @asynccontextmanager
    async def _agent(self, session_id: str, turn: Turn) -> AsyncGenerator[Agent, None]:
        """Make the agent of a session for the block, and say in words of turnlane what a fence has refused it."""
        if session_id in self._running:  # who is here has the lane, and so has what runs the other one
            raise LaneReentry(session_id, cycle=(session_id, session_id))
        self._running.add(session_id)
        try:
            with inside(self._lanes, session_id):
                made = self._make_agent(session_id)
                agent = await made if isawaitable(made) else made
                async with refusals_kept(), asked_to_stop_with(turn, agent), shut_down(agent):
                    yield agent
        except Exception as error:
            refusal = refusal_behind(error)
            if refusal is None:
                raise
            raise await refusal.settle() from error
        finally:
            self._running.remove(session_id)
