"""`LaneAgent`: what `query` and `ClaudeSDKClient` do, one turn of a session at a time."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Literal

from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ClaudeSDKClient, Message, Transport, query

from turnlane import Runtime, Turn
from turnlane.errors import LaneReentry
from turnlane.policies import Policy
from turnlane.settled import settled
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.claude_agent_sdk.asking import (
    connected,
    ended,
    heed,
    program_of,
    proven_file,
    resuming,
    session_of,
)
from turnlane_integrations.claude_agent_sdk.fence import Fence
from turnlane_integrations.claude_agent_sdk.program import Program

__all__ = ("LaneAgent",)

Prompt = str | AsyncIterable[dict[str, Any]]


class LaneAgent:
    """Runs `query` and `ClaudeSDKClient` as turns; `session_id` or `resume` of the options is the key, a UUID.

    Guarantees: turns of one session run one after the other, in the order in which they were asked for, and each knows
    what the ones before it have stored. `session_id` begins a session, or resumes it where it is there already. The
    lane goes when the program has ended. Behind `LaneMiddleware` with the same key a turn joins that of the request.
    With `state_dir` the session's file is proven before a turn and after it: what another program wrote meanwhile is a
    `SessionForked`, what it changed a `TranscriptTakeover`, and all of it stays in the file.

    Not guaranteed: that another program is kept from writing, as that of a person who resumes the session in a
    terminal; without `state_dir`, that it is found. That lines which are no messages (modes, costs) are the program's
    own. Anything for files of subagents, for a `session_store`, and for the new sessions of `fork_session` and of a
    `/clear`. That a `session_id` resumes what is in a `session_store` or behind a `transport`: say `resume` for those.
    That two `LaneAgent`s keep apart what one turn starts at once.

    Args:
        runtime: whose lanes. A program takes some 200 MB: `Lanes(max_running=...)` bounds how many there are.
        state_dir: where journals are, which prove the sessions' files; None for no such proof.
        at_open: what an edit of a session's file between two turns is: `flag` tells a hook and adopts it, `raise`
            refuses the turn.
        policy: what happens to a turn that finds its session busy; None for what the lanes say.
        turn_timeout: seconds after which a turn is cancelled.

    Raises:
        ValueError: the policy makes one turn of several messages (`Coalesce`, `Steer`), or takes one back (`Rollback`).

    Mutable: `_writing`, the sessions whose program runs.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        state_dir: str | os.PathLike[str] | None = None,
        at_open: Literal["flag", "raise"] = "flag",
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
    ) -> None:
        self._runtime = runtime
        self._fence = None if state_dir is None else Fence(state_dir, at_open=at_open, hooks=runtime.hooks)
        self._policy = one_by_one(runtime, policy)
        self._turn_timeout = turn_timeout
        self._writing: set[str] = set()
        self._queued = runtime.agent_turn(key=session_of, policy=self._policy, turn_timeout=turn_timeout)(self._query)

    def query(
        self, *, prompt: Prompt, options: ClaudeAgentOptions | None = None, transport: Transport | None = None
    ) -> AsyncGenerator[Message, None]:
        """Yield what `claude_agent_sdk.query` yields, when the session's turn has come.

        It runs in a task of its own. Who closes it, is cancelled or stops reading for 60 seconds ends the program,
        which is given some seconds to store what it has; see `Runtime.agent_turn`.

        Raises:
            SessionKeyRequired, SessionKeyInvalid: the options name no session, or not by a UUID.
            NotConfigured: there is a `state_dir`, and the session is in no file whose place can be told.
            LaneReentry: the turn that asks has a program of this session, as a tool of that program has.
            LaneError, TranscriptError: as a turn, and its file.
        """
        return self._queued(prompt=prompt, options=options, transport=transport)

    @asynccontextmanager
    async def client(
        self, options: ClaudeAgentOptions | None = None, *, transport: Transport | None = None
    ) -> AsyncGenerator[ClaudeSDKClient, None]:
        """Connect a `ClaudeSDKClient` when the session's turn has come; the turn is the block.

        A turn that a policy interrupts has its client interrupted, and then the policy's grace to end. Keep no client
        beyond its turn: its program knows nothing of what others have stored since it was started.

        Raises:
            SessionKeyRequired, SessionKeyInvalid, NotConfigured, LaneError, TranscriptError: as `query`.
        """
        session = session_of(options)
        async with (
            self._runtime.turn(session, policy=self._policy, turn_timeout=self._turn_timeout, join=True) as turn,
            self._started(options, session, turn, transport) as (settings, _),
            connected(ClaudeSDKClient(settings, transport)) as client,
        ):
            heeding = asyncio.ensure_future(heed(turn, client))
            try:
                yield client
            finally:
                heeding.cancel()
                await settled(asyncio.wait({heeding}))

    async def _query(
        self, *, prompt: Prompt, options: ClaudeAgentOptions | None, transport: Transport | None, turn: Turn
    ) -> AsyncGenerator[Message, None]:
        async with self._started(options, session_of(options), turn, transport) as (settings, program):
            messages = query(prompt=prompt, options=settings, transport=transport)
            try:
                async for message in messages:
                    if isinstance(message, AssistantMessage) and message.uuid is not None:
                        program.answers.add(message.uuid)
                    yield message
                program.all_told = True
            finally:
                await settled(ended(messages))

    @asynccontextmanager
    async def _started(
        self, options: ClaudeAgentOptions | None, session: str, turn: Turn, transport: Transport | None
    ) -> AsyncGenerator[tuple[ClaudeAgentOptions, Program], None]:
        """Have the program write inside the block, which it is started in with the options that are yielded."""
        if session in self._writing:  # who is here has the lane, and so has what runs the other one
            raise LaneReentry(session, cycle=(session, session))
        asked = options or ClaudeAgentOptions()
        program = program_of(asked)
        fence = None if asked.fork_session else self._fence
        proven = fence and fence.around(proven_file(asked, session, transport), program, turn)
        async with proven or nullcontext():
            self._writing.add(session)
            try:
                yield resuming(asked, session, transport), program
            finally:
                self._writing.remove(session)
