"""`LaneGraph`: a compiled graph, one run of a thread at a time."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self, cast

from anyio.from_thread import BlockingPortal
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langgraph.checkpoint.base import BaseCheckpointSaver

from turnlane import Runtime, Turn
from turnlane.arguments import optional_seconds, seconds
from turnlane.errors import SessionKeyRequired
from turnlane.keys import require_key
from turnlane.lanes.scope import TurnScope
from turnlane.policies import Policy
from turnlane.settled import settled
from turnlane.turns.joining import live_turn
from turnlane_integrations._blocking import Blocking
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.langgraph.awaited import AwaitedCalls
from turnlane_integrations.langgraph.blocking import BlockingCalls
from turnlane_integrations.langgraph.passing import Input
from turnlane_integrations.langgraph.storing import StoringSaver

__all__ = ("LaneGraph",)


class LaneGraph(BlockingCalls[Input], AwaitedCalls[Input]):
    """Does what the graph does, with the same arguments; the `thread_id` of the configuration is the key.

    Guarantees: runs and updates of one thread run one after the other, in the order in which they were called, a stream
    when its first item is asked for; each begins with what the ones before it have stored. A stream is a turn until it
    has ended, was closed or dropped, or nothing was asked for in `idle_consumer_timeout`. Behind `LaneMiddleware` with
    the same key, and within a node, a run joins the running turn. `get_state` and what else only reads does not wait.

    The calls that are not async (`invoke`, `stream`, `batch`, `update_state`) are for threads, also for those that no
    event loop has started; see `portal`. In the thread of an event loop they raise.

    Not guaranteed: anything for runs of the graph itself, but that a `FencedSaver` finds what they have written; that
    calls which join one turn wait for each other; that an interruption or a deadline cuts a call in a thread short:
    a stream ends with its next item, anything else by itself, and both are told then.

    Args:
        graph: the compiled graph, or a remote one. `graph` is it, or a copy whose checkpointer tells what it stores.
        runtime: whose lanes.
        policy: what happens to a run that finds its thread busy; None for what the lanes say.
        turn_timeout: seconds after which a run is cancelled.
        idle_consumer_timeout: seconds an async stream waits for its reader to ask for the next item.
        portal: the loop in which threads have their turns. None: the one in which the lanes are in use; else the one
            this was made in; else the one that has started the thread; else one of its own, until `close`.

    Raises:
        ValueError: an argument is out of its range, or the policy makes one turn of several messages (`Coalesce`,
            `Steer`), or takes one back (`Rollback`).
    """

    def __init__(
        self,
        graph: Runnable[Input, Any],
        runtime: Runtime,
        *,
        policy: Policy | str | None = None,
        turn_timeout: float | None = None,
        idle_consumer_timeout: float = 60.0,
        portal: BlockingPortal | None = None,
    ) -> None:
        super().__init__(graph)
        saver: object = getattr(graph, "checkpointer", None)
        self._saver = _storing(saver)
        if self._saver is not None and self._saver is not saver:
            self.checkpointer = self._saver
        self._blocking = Blocking(runtime, portal=portal)
        self._runtime = runtime
        self._policy = one_by_one(runtime, policy)
        self._turn_timeout = optional_seconds("turn_timeout", turn_timeout, above_zero=True)
        self._idle_timeout = seconds("idle_consumer_timeout", idle_consumer_timeout, above_zero=True)

    def __repr__(self) -> str:
        return f"<LaneGraph of {self.graph.get_name()!r} in {self._runtime.lanes!r}>"

    @property
    def checkpointer(self) -> Any:
        """Where the graph keeps its checkpoints. It can be set, as that of the graph, where no run is on its way."""
        return getattr(self.graph, "checkpointer", None)

    @checkpointer.setter
    def checkpointer(self, saver: Any) -> None:
        self._saver = _storing(saver)
        self.graph: Any = self.graph.copy({"checkpointer": saver if self._saver is None else self._saver})

    def turn(self, config: RunnableConfig | None = None) -> AbstractAsyncContextManager[Turn]:
        """Be in the turn of a thread for the block: runs in it, also of the graph itself, are part of the turn.

        Raises:
            SessionKeyRequired: the configuration names no thread.
            LaneError: as a turn.
        """
        return self._turn_at(config, None)

    def _place(self, config: RunnableConfig | None) -> TurnScope | None:
        key, lanes = require_key(_thread_of(self.graph, config)), self._runtime.lanes
        if live_turn(lanes, key) is not None:
            return None
        self._runtime.require_possible(self._policy)
        return lanes.place(key, policy=self._policy, turn_timeout=self._turn_timeout)

    @asynccontextmanager
    async def _turn_at(self, config: RunnableConfig | None, scope: TurnScope | None) -> AsyncGenerator[Turn, None]:
        key = _thread_of(self.graph, config)
        if scope is None:
            turns = self._runtime.turn(key, policy=self._policy, turn_timeout=self._turn_timeout, join=True)
        else:
            turns = self._runtime.turn_at(scope, lambda _: scope)
        async with turns as turn:
            try:
                yield turn
            except BaseException:
                # A graph that is cancelled while it ends leaves what it stores to tasks for which nobody waits.
                if self._saver is not None:
                    await settled(self._saver.stored(key))
                raise

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Self:
        """Return the same with a configuration bound to the graph."""
        return self._around(self.graph.with_config(config, **kwargs))

    def copy(self, update: dict[str, Any] | None = None) -> Self:
        """Return the same with a copy of the graph."""
        return self._around(self.graph.copy(update))

    def _around(self, graph: Runnable[Input, Any]) -> Self:
        made = type(self)(
            graph,
            self._runtime,
            policy=self._policy,
            turn_timeout=self._turn_timeout,
            idle_consumer_timeout=self._idle_timeout,
        )
        made._blocking = self._blocking
        return made


def _storing(saver: object) -> StoringSaver | None:
    if isinstance(saver, BaseCheckpointSaver) and not isinstance(saver, StoringSaver):
        return StoringSaver(cast("Any", saver))
    return saver if isinstance(saver, StoringSaver) else None


def _thread_of(graph: object, config: RunnableConfig | None) -> str:
    """Return the thread of a run: what the call says, else what the graph is bound to, else that of the node."""
    bound: RunnableConfig | None = getattr(graph, "config", None)
    for each in (config, bound, ensure_config()):
        thread = ((each or {}).get("configurable") or {}).get("thread_id")
        if thread is not None:
            return str(thread)
    raise SessionKeyRequired('config["configurable"]["thread_id"]')
