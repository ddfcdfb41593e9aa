"""`GraphProxy`: what a graph has that is no turn, of another graph."""

# Each method does what the graph's method of that name does.
# ruff: noqa: D102

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.graph import Graph as DrawableGraph
from langgraph.types import StateSnapshot

__all__ = ("GraphProxy", "Input", "driven_by_its_reader")

Input = TypeVar("Input")

if TYPE_CHECKING:  # the framework's protocol is in a package that does not tell type checkers of its types
    PregelProtocol = Runnable
    Graph = Runnable[Input, Any]
else:
    from langgraph.pregel.protocol import PregelProtocol

    Graph = PregelProtocol[Any, Any, Input, Any]


class GraphProxy(Graph[Input]):
    """Passes on to a graph what neither runs it nor changes its state; the rest is for subclasses.

    It keeps the framework's protocol, so that it can stand where a graph can: as a node of another one, in a chain.

    Args:
        graph: the graph.

    Raises:
        ValueError: it is none, as a builder that was not compiled.
    """

    def __init__(self, graph: Runnable[Input, Any]) -> None:
        if not isinstance(graph, PregelProtocol):
            raise ValueError(f"a compiled graph is needed, not {graph!r}")
        self.graph: Any = graph
        self.name: str | None = graph.get_name()

    def __getattr__(self, name: str) -> Any:
        """Return what the graph has beyond its protocol."""
        if name.startswith("__") or name == "graph":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.graph, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Give the graph what it has beyond its protocol, as its `store`."""
        if name.startswith("_") or name == "graph" or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            setattr(self.graph, name, value)

    # -- its state

    def get_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        found: StateSnapshot = self.graph.get_state(config, subgraphs=subgraphs)
        return found

    async def aget_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        found: StateSnapshot = await self.graph.aget_state(config, subgraphs=subgraphs)
        return found

    def get_state_history(
        self,
        config: RunnableConfig,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[StateSnapshot]:
        found: Iterator[StateSnapshot] = self.graph.get_state_history(config, filter=filter, before=before, limit=limit)
        return found

    def aget_state_history(
        self,
        config: RunnableConfig,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[StateSnapshot]:
        found: AsyncIterator[StateSnapshot] = self.graph.aget_state_history(
            config, filter=filter, before=before, limit=limit
        )
        return found

    # -- its form

    def get_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> DrawableGraph:
        found: DrawableGraph = self.graph.get_graph(config, xray=xray)
        return found

    async def aget_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> DrawableGraph:
        found: DrawableGraph = await self.graph.aget_graph(config, xray=xray)
        return found

    @property
    def InputType(self) -> type[Any]:  # noqa: N802  the framework's name
        found: type[Any] = self.graph.InputType
        return found

    @property
    def OutputType(self) -> type[Any]:  # noqa: N802  the framework's name
        found: type[Any] = self.graph.OutputType
        return found

    def get_input_schema(self, config: RunnableConfig | None = None) -> Any:
        return self.graph.get_input_schema(config)

    def get_input_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self.graph.get_input_jsonschema(config)
        return found

    def get_output_schema(self, config: RunnableConfig | None = None) -> Any:
        return self.graph.get_output_schema(config)

    def get_output_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self.graph.get_output_jsonschema(config)
        return found

    def config_schema(self, *, include: Sequence[str] | None = None) -> Any:
        return self.graph.config_schema(include=include)

    def get_config_jsonschema(self, *, include: Sequence[str] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self.graph.get_config_jsonschema(include=include)
        return found


def driven_by_its_reader(call: str) -> NotImplementedError:
    """Return the error for a run whose end nobody is told."""
    return NotImplementedError(
        f"{call}(version='v3') gives a run that its reader drives, and nobody is told when it has ended: begin a turn "
        f"with `async with graph.turn(config):`, and call graph.graph.{call}(...) in it"
    )
