"""`LaneRunner`: what `agents.Runner` does, one run of a session at a time."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from agents import Agent, Runner, RunResult, RunResultStreaming, RunState, Session, TContext, TResponseInputItem
from agents.memory import OpenAIResponsesCompactionArgs, is_openai_responses_compaction_aware_session
from agents.run import RunOptions
from typing_extensions import Unpack

from turnlane import Runtime
from turnlane.arguments import optional_seconds
from turnlane.errors import NotConfigured, SessionKeyRequired
from turnlane.policies import Policy
from turnlane.transcripts.working import to_its_end
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.openai_agents.fence import FencedSession
from turnlane_integrations.openai_agents.session import TranscriptSession

__all__ = ("LaneRunner",)

Input = str | list[TResponseInputItem]


class LaneRunner:
    """Runs agents as `agents.Runner` does, with the same arguments; `session=` is required, its id is the key.

    Guarantees: runs of one session id run one after the other, in the order in which they were called, and each is
    shown what the ones before it have stored. Behind `LaneMiddleware` with the same key, and inside another run of the
    session (a tool that asks an agent), a run joins the turn that is there.

    Not guaranteed: anything for runs that do not come through a `LaneRunner` of the same lanes, but that a
    `TranscriptSession` or a `FencedSession` finds what they have written. Nor an order of several runs that one turn
    begins at once; nor that a run which waits for an approval keeps its lane: resuming it is a turn of its own. Nor
    that a tool which runs in a thread, as those that are not async do, has ended when its run is cancelled.

    Args:
        runtime: whose lanes.
        policy: what happens to a run that finds its session busy; None for what the lanes say. A run does not look
            whether it was interrupted: `Interrupt(grace=0)` cancels it at once. To `Coalesce` or `Steer`, call this
            inside a function of `runtime.agent_turn` with that policy, which knows what its messages are.
        turn_timeout: seconds after which a run is cancelled.

    Raises:
        ValueError: an argument is out of its range; there is no such policy, or it is one of those two, or `Rollback`:
            what sessions have stored is not taken back.
    """

    def __init__(
        self, runtime: Runtime, *, policy: Policy | str | None = None, turn_timeout: float | None = None
    ) -> None:
        self._runtime = runtime
        self._policy = one_by_one(runtime, policy)
        self._turn_timeout = optional_seconds("turn_timeout", turn_timeout, above_zero=True)

    async def run(
        self,
        starting_agent: Agent[TContext],
        input: Input | RunState[TContext],
        **options: Unpack[RunOptions[TContext]],
    ) -> RunResult:
        """Do what `Runner.run` does, when the session's turn has come.

        Raises:
            SessionKeyRequired: no session was given.
            LaneError, TranscriptError: as a turn and its transcript.
        """
        async with self._turn(options.get("session")):
            return await Runner.run(starting_agent, input, **options)

    @asynccontextmanager
    async def run_streamed(
        self,
        starting_agent: Agent[TContext],
        input: Input | RunState[TContext],
        **options: Unpack[RunOptions[TContext]],
    ) -> AsyncGenerator[RunResultStreaming, None]:
        """Begin what `Runner.run_streamed` does, when the session's turn has come; the turn is the block.

        A block that is left before the stream has ended cancels the run, and what the model was about to say is not
        stored: read `stream_events` to its end, also behind the last words, and after `cancel("after_turn")`. The lane
        goes when all that the run had to store is stored.

        Raises:
            SessionKeyRequired: no session was given.
            LaneError, TranscriptError: as a turn and its transcript.
        """
        async with self._turn(options.get("session")):
            result = Runner.run_streamed(starting_agent, input, **options)
            try:
                yield result
            finally:
                await _ended(result)

    async def compact(self, session: Session, args: OpenAIResponsesCompactionArgs | None = None) -> None:
        """Have a session compact itself, as a turn of its own: no run is between what it reads and what it writes.

        Raises:
            NotConfigured: the session can not.
        """
        if not is_openai_responses_compaction_aware_session(session):
            raise NotConfigured(f"{session!r} has no run_compaction: wrap it in an OpenAIResponsesCompactionSession")
        async with self._turn(session):
            await session.run_compaction(args)

    @asynccontextmanager
    async def _turn(self, session: Session | None) -> AsyncGenerator[None, None]:
        key = _key_of(session)
        async with (
            self._runtime.turn(key, policy=self._policy, turn_timeout=self._turn_timeout, join=True) as turn,
            AsyncExitStack() as stack,
        ):
            for each in _ours(session):
                await stack.enter_async_context(each.guarded(turn))
            yield


def _key_of(session: Session | None) -> str:
    if session is None:
        raise SessionKeyRequired("session=")
    try:
        found = cast("str | None", session.session_id)  # as others make sessions
    except (AttributeError, ValueError) as error:  # what is no session, or has no id before it is used
        raise SessionKeyRequired("session.session_id") from error
    if found is None:
        raise SessionKeyRequired("session.session_id")
    return found


def _ours(session: Any) -> Iterator[TranscriptSession | FencedSession]:
    """Yield the session, and those that it wraps, that are ours."""
    while session is not None:
        if isinstance(session, TranscriptSession | FencedSession):
            yield session
        session = getattr(session, "underlying_session", None)


async def _ended(result: RunResultStreaming) -> None:
    """Cancel a run that has not ended, and wait until it has."""
    task = result.run_loop_task
    if task is None:
        return
    if not task.done():
        result.cancel()
        await to_its_end(asyncio.ensure_future(asyncio.wait({task})))
    if not task.cancelled():
        task.exception()  # `stream_events` raises it
