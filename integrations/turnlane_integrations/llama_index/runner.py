"""`LaneRunner`: what `run` of an agent or workflow of llama-index does, one run of a conversation at a time."""

from collections.abc import AsyncGenerator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from llama_index.core.memory import Memory
from llama_index.core.workflow import StartEvent, Workflow
from workflows.handler import WorkflowHandler

from turnlane import Runtime, Turn
from turnlane.arguments import optional_seconds
from turnlane.errors import SessionKeyRequired
from turnlane.policies import Policy
from turnlane.settled import settled
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.llama_index.handler import LaneHandler

__all__ = ("LaneRunner",)


class LaneRunner:
    """Runs agents and workflows as their own `run` does, with the same arguments.

    The key is the `session_id` of the `Memory` a run is given. Where a conversation is kept elsewhere, in a `Context`
    or another memory, `session_id=` names it; load what was kept of it inside `turn(session_id)`, not before the wait.

    Guarantees: runs of one session id run one after the other, in the order in which they were called, and each is
    shown what the ones before it have stored. A run whose caller leaves is cancelled, and the lane goes when it has
    ended. Behind `LaneMiddleware` with the same key a run joins the request's turn.

    Not guaranteed: anything for runs that do not come through a `LaneRunner` of the same lanes, but that a
    `FencedChatStore` finds what they have written; an order of runs that one turn begins at once, or inside of each
    other; nor that a step which does not let itself be cancelled within half a second has ended with its run:
    workflows do not wait longer.

    Args:
        runtime: whose lanes.
        policy: what happens to a run that finds its conversation busy; None for what the lanes say.
        turn_timeout: seconds after which a run is cancelled.

    Raises:
        ValueError: an argument is out of its range, or the policy makes one turn of several messages (`Coalesce`,
            `Steer`), or takes one back (`Rollback`).
    """

    def __init__(
        self, runtime: Runtime, *, policy: Policy | str | None = None, turn_timeout: float | None = None
    ) -> None:
        self._runtime = runtime
        self._policy = one_by_one(runtime, policy)
        self._turn_timeout = optional_seconds("turn_timeout", turn_timeout, above_zero=True)

    async def run(self, workflow: Workflow, *args: Any, session_id: str | None = None, **kwargs: Any) -> Any:
        """Return what `await workflow.run(...)` returns, when the conversation's turn has come.

        Args:
            workflow: an agent, or any other workflow.
            args: as for its `run`.
            session_id: names the conversation, where no `memory=` with a `session_id` is given; it is not passed on.
            kwargs: as for its `run`.

        Raises:
            SessionKeyRequired: nothing names the conversation.
            LaneError: as a turn.
            TranscriptTakeover: a `FencedChatStore` has found a foreign write; the words are in its salvage.
        """
        async with self.run_streamed(workflow, *args, session_id=session_id, **kwargs) as handler:
            return await cast("Awaitable[Any]", handler)

    @asynccontextmanager
    async def run_streamed(
        self, workflow: Workflow, *args: Any, session_id: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[WorkflowHandler, None]:
        """Begin what `workflow.run` begins, when the conversation's turn has come; the turn is the block.

        The handler is used as the one of llama-index: `stream_events()`, `await handler`. A block that is left before
        the run has ended cancels it. The lane goes when the run has ended.

        Args:
            workflow: an agent, or any other workflow.
            args: as for its `run`.
            session_id: as for `run`.
            kwargs: as for its `run`.

        Raises:
            SessionKeyRequired: nothing names the conversation.
            LaneError: as a turn.
        """
        async with self.turn(_id_of(_memory_of(args, kwargs)) if session_id is None else session_id):
            handler = LaneHandler(workflow.run(*args, **kwargs))
            try:
                yield handler
            finally:
                if not handler.is_done():
                    await settled(handler.cancel_run())

    def turn(self, session_id: str) -> AbstractAsyncContextManager[Turn]:
        """Run one turn of a conversation: `async with runner.turn(session_id):`, for all that is done inside.

        For chat engines, and for what has to be loaded before a run and stored behind it. Runs inside join it, if they
        are those of this runner; `workflow.run` may leave a step behind when its caller is cancelled.

        Raises:
            SessionKeyRequired, SessionKeyInvalid: the id is blank, or no text.
            LaneError: as a turn.
        """
        return self._runtime.turn(session_id, policy=self._policy, turn_timeout=self._turn_timeout, join=True)


def _memory_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Memory | None:
    """Return the memory a run is given: by its name, by its place, or in the event it begins with."""
    events = (each for each in (*args, *kwargs.values()) if isinstance(each, StartEvent))
    found = (kwargs.get("memory"), *args, *(event.get("memory") for event in events))
    return next((each for each in found if isinstance(each, Memory)), None)


def _id_of(memory: Memory | None) -> str:
    if memory is not None:
        return memory.session_id
    raise SessionKeyRequired("memory=, a Memory with a session_id, or session_id=")
