"""a2a-sdk: messages of one context one after the other, whichever of its tasks they belong to.

    executor = LaneAgentExecutor(MyAgentExecutor(), runtime)
    handler = DefaultRequestHandler(agent_executor=executor, task_store=..., agent_card=...)

Needs `turnlane[a2a]`.
"""

from collections.abc import Callable

from turnlane import Runtime, current_turn
from turnlane.arguments import optional_seconds
from turnlane.errors import LaneError, SessionKeyRequired, TurnInterrupted
from turnlane.keys import require_key
from turnlane.policies import Policy
from turnlane_integrations._needs import missing as _missing
from turnlane_integrations._policies import one_by_one

try:
    from a2a import types
    from a2a.helpers import new_task_from_user_message, new_text_message
    from a2a.server.agent_execution import AgentExecutor, RequestContext
    from a2a.server.events import EventQueue
    from a2a.server.tasks import TaskUpdater
except ImportError as _error:
    raise _missing("a2a-sdk", "a2a", _error) from _error

__all__ = ("LaneAgentExecutor", "context_key")


def context_key(context: RequestContext) -> str | None:
    """Return the id of a message's context: that of its client, or the one the server has made."""
    return context.context_id


class LaneAgentExecutor(AgentExecutor):
    """Wraps an executor: each of its executions is a turn of the message's context.

    Guarantees: messages of one context are executed one after the other, in the order in which they reached the
    executor, whatever their tasks; the lane is held until `execute` has ended, also where nobody waits for the answer
    any more. `cancel` never waits: a task that runs is cancelled by the wrapped executor, one that waits leaves the
    line. Behind `LaneMiddleware` with the same key an execution joins the turn of its request, and the lane is held
    until both have ended.

    Not guaranteed: anything for work the executor leaves behind when `execute` returns. Nor that a client which is
    gone ends the execution: it goes on, as ever with a2a-sdk, until it has ended or is cancelled.

    Args:
        executor: the agent.
        runtime: whose lanes.
        key: returns the key of a message, as `f"{context.call_context.user.user_name}/{context.context_id}"` where a
            client shall not be able to name another one's lane.
        announce: publish the task, submitted, before the wait, so that clients see it, and can cancel it. What the
            lane refuses is then a status of it: rejected, or cancelled where a newer message has interrupted it; a
            task that was there before stays in the state it was in, and is told why. Only for executors that answer
            with tasks, and take `context.current_task` where there is one. Else a refusal is an exception, which
            a2a-sdk tells as an internal error, and fails the task.
        policy: what happens to a message that finds its context busy; None for what the lanes say.
        turn_timeout: seconds after which an execution is cancelled.

    Raises:
        ValueError: an argument is out of its range, or the policy makes one turn of several messages (`Coalesce`,
            `Steer`).

    Mutable: `_waiting`, the ids of the tasks whose turn has not come.
    """

    def __init__(
        self,
        executor: AgentExecutor,
        runtime: Runtime,
        *,
        key: Callable[[RequestContext], str | None] = context_key,
        announce: bool = False,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
    ) -> None:
        chosen = one_by_one(runtime, policy, may_take_back=True)
        self._executor = executor
        self._runtime = runtime
        self._key = key
        self._announce = announce
        self._policy = chosen
        self._turn_timeout = optional_seconds("turn_timeout", turn_timeout, above_zero=True)
        self._waiting: set[str | None] = set()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Have a message executed when the turn of its context has come.

        Raises:
            SessionKeyRequired, SessionKeyInvalid: it has no context, or one that can be no key.
            LaneError: as a turn, where it is not told as a status.
        """
        key = self._key(context)
        if not key:
            raise SessionKeyRequired("contextId")
        require_key(key)  # before anything is announced
        known, began = context.current_task, False
        if self._announce and current_turn() is None:  # inside one there may be no wait, and no time to lose
            await _announce(context, event_queue)
        self._waiting.add(context.task_id)
        try:
            async with self._runtime.turn(key, policy=self._policy, turn_timeout=self._turn_timeout, join=True):
                self._waiting.discard(context.task_id)
                began = True
                if self._announce:
                    await _announce(context, event_queue)
                await self._executor.execute(context, event_queue)
        except LaneError as error:
            if isinstance(error, TurnInterrupted):
                state = types.TaskState.TASK_STATE_CANCELED
            elif known is None:
                state = types.TaskState.TASK_STATE_REJECTED
            else:
                state = known.status.state
            if not self._announce or (began and not isinstance(error, TurnInterrupted)):
                raise
            await _tell(context, event_queue, state, str(error))
        finally:
            self._waiting.discard(context.task_id)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Cancel a task at once; the wrapped executor is not asked about one that it has not seen."""
        if context.task_id in self._waiting:
            await _tell(context, event_queue, types.TaskState.TASK_STATE_CANCELED, "cancelled before its turn had come")
        else:
            await self._executor.cancel(context, event_queue)


async def _announce(context: RequestContext, event_queue: EventQueue) -> None:
    if context.current_task is None and context.message is not None:
        context.current_task = new_task_from_user_message(context.message)
        await event_queue.enqueue_event(context.current_task)


async def _tell(context: RequestContext, event_queue: EventQueue, state: types.TaskState, text: str) -> None:
    task_id, context_id = context.task_id or "", context.context_id or ""
    message = new_text_message(text, context_id=context_id, task_id=task_id, role=types.Role.ROLE_AGENT)
    await TaskUpdater(event_queue, task_id, context_id).update_status(state, message)
