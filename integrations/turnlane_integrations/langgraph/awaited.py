"""`AwaitedCalls`: the calls of a graph that are async, as turns."""

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateUpdate

from turnlane import Turn
from turnlane.lanes.scope import TurnScope
from turnlane_integrations.langgraph.feeding import fed
from turnlane_integrations.langgraph.passing import GraphProxy, Input, driven_by_its_reader

__all__ = ("AwaitedCalls",)


class AwaitedCalls(GraphProxy[Input]):
    """Runs a graph for tasks: each call is one turn, a stream in a task of its own."""

    _idle_timeout: float

    @abstractmethod
    def turn(self, config: RunnableConfig | None = None) -> AbstractAsyncContextManager[Turn]:
        """Be in the turn of a thread."""

    @abstractmethod
    def _place(self, config: RunnableConfig | None) -> TurnScope | None:
        """Return a place for a turn of a thread; None inside of one."""

    @abstractmethod
    def _turn_at(self, config: RunnableConfig | None, scope: TurnScope | None) -> AbstractAsyncContextManager[Turn]:
        """Be in the turn of a thread, in a place that was taken."""

    async def ainvoke(
        self, input: Input | Command[Any] | None, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        """Do what the graph does, when the turn of this call has come; also each call of `abatch`.

        Raises:
            SessionKeyRequired: the configuration names no thread.
            LaneError: as a turn.
        """
        async with self.turn(config):
            return await self.graph.ainvoke(input, config, **kwargs)

    def astream(
        self, input: Input | Command[Any] | None, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        """Do what the graph does; the turn is from the first item that is asked for to the end, or the closing.

        Raises:
            SessionKeyRequired, LaneError: as `ainvoke`, where the first item is asked for.
        """
        items = partial(self.graph.astream, input, config, **kwargs)
        return self._fed(config, items)

    def astream_events(
        self, input: Any, config: RunnableConfig | None = None, *, version: Any = "v2", **kwargs: Any
    ) -> Any:
        """Do what the graph does for the versions v1 and v2; the turn is as that of `astream`.

        Raises:
            NotImplementedError: the version is v3.
            SessionKeyRequired, LaneError: as `ainvoke`, where the first event is asked for.
        """
        if version == "v3":
            raise driven_by_its_reader("astream_events")
        items = partial(self.graph.astream_events, input, config, version=version, **kwargs)
        return self._fed(config, items)

    def _fed(self, config: RunnableConfig | None, items: Callable[[], AsyncIterator[Any]]) -> AsyncGenerator[Any, None]:
        place, turn = partial(self._place, config), partial(self._turn_at, config)
        return fed(place, turn, items, idle_timeout=self._idle_timeout)

    async def aupdate_state(
        self, config: RunnableConfig, values: Any, as_node: str | None = None, **kwargs: Any
    ) -> RunnableConfig:
        """Do what the graph does, as a turn: no run is between what it reads and what it writes.

        Raises:
            SessionKeyRequired, LaneError: as `ainvoke`.
        """
        async with self.turn(config):
            found: RunnableConfig = await self.graph.aupdate_state(config, values, as_node, **kwargs)
            return found

    async def abulk_update_state(
        self, config: RunnableConfig, updates: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        """Do what the graph does, as one turn.

        Raises:
            SessionKeyRequired, LaneError: as `ainvoke`.
        """
        async with self.turn(config):
            found: RunnableConfig = await self.graph.abulk_update_state(config, updates)
            return found
