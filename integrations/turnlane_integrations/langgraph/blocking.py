"""`BlockingCalls`: the calls of a graph that are not async, as turns."""

from abc import abstractmethod
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing
from functools import partial
from typing import Any, NoReturn

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateUpdate

from turnlane import Turn
from turnlane_integrations._blocking import Blocking, Stay
from turnlane_integrations.langgraph.passing import GraphProxy, Input, driven_by_its_reader

__all__ = ("BlockingCalls",)


class BlockingCalls(GraphProxy[Input]):
    """Runs a graph for threads: each call is one turn, which lives in an event loop of another thread."""

    _blocking: Blocking

    @abstractmethod
    def turn(self, config: RunnableConfig | None = None) -> AbstractAsyncContextManager[Turn]:
        """Be in the turn of a thread."""

    def close(self) -> None:
        """End the event loop that calls from threads without one have made, the turns in it, and what they opened."""
        self._blocking.close()

    def invoke(self, input: Input | Command[Any] | None, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Do what the graph does, when the turn of this call has come.

        Raises:
            NotConfigured: in the thread of an event loop.
            SessionKeyRequired: the configuration names no thread.
            LaneError: as a turn.
        """
        with self._inside("invoke", config) as stay:
            return stay.call(self.graph.invoke, input, config, **kwargs)

    def stream(
        self, input: Input | Command[Any] | None, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Generator[Any, None, None]:
        """Do what the graph does; the turn is from the first item that is asked for to the end, or the closing.

        Raises:
            NotConfigured, SessionKeyRequired, LaneError: as `invoke`, where the first item is asked for.
        """
        with (
            self._inside("stream", config) as stay,
            closing(stay.each(self.graph.stream, input, config, **kwargs)) as items,
        ):
            for item in items:
                yield item
                if stay.is_cut:  # and not by the lanes, if this is what the reader sees
                    raise CancelledError("the event loop of this stream's turn ends")

    def stream_events(
        self, input: Any, config: RunnableConfig | None = None, *, version: Any = "v2", **kwargs: Any
    ) -> NoReturn:
        """Raise: the framework has no version of this but one whose run is driven by its reader.

        Raises:
            NotImplementedError: always.
        """
        raise driven_by_its_reader("stream_events")

    def update_state(
        self, config: RunnableConfig, values: Any, as_node: str | None = None, **kwargs: Any
    ) -> RunnableConfig:
        """Do what the graph does, as a turn: no run is between what it reads and what it writes.

        Raises:
            NotConfigured, SessionKeyRequired, LaneError: as `invoke`.
        """
        with self._inside("update_state", config) as stay:
            found: RunnableConfig = stay.call(self.graph.update_state, config, values, as_node, **kwargs)
            return found

    def bulk_update_state(self, config: RunnableConfig, updates: Sequence[Sequence[StateUpdate]]) -> RunnableConfig:
        """Do what the graph does, as one turn.

        Raises:
            NotConfigured, SessionKeyRequired, LaneError: as `invoke`.
        """
        with self._inside("bulk_update_state", config) as stay:
            found: RunnableConfig = stay.call(self.graph.bulk_update_state, config, updates)
            return found

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """Invoke the graph for each input, in threads; inputs of one thread in no order, but one at a time.

        Raises:
            NotConfigured, SessionKeyRequired, LaneError: as `invoke`.
        """
        self._blocking.require_thread("abatch")
        return super().batch(inputs, config, **kwargs)

    def batch_as_completed(self, inputs: Sequence[Any], config: Any = None, **kwargs: Any) -> Iterator[Any]:
        """Do what `batch` does, and yield each output with its place when it is there.

        Raises:
            NotConfigured, SessionKeyRequired, LaneError: as `invoke`.
        """
        self._blocking.require_thread("abatch_as_completed")
        return super().batch_as_completed(inputs, config, **kwargs)

    def _inside(self, call: str, config: RunnableConfig | None) -> AbstractContextManager[Stay]:
        return self._blocking.inside(partial(self.turn, config), instead=f"a{call}")
