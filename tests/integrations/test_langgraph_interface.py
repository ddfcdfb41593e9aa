"""langgraph: the parts of its interface that the integration stands on; a later version that differs is named here."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

import inspect
from typing import Any

import pytest
from langchain_core.runnables import Runnable
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel.protocol import PregelProtocol

from turnlane_integrations.langgraph import FencedSaver, LaneGraph

WHERE = "look at integrations/turnlane_integrations/langgraph/"

# What LaneGraph says itself; what is missing here it has from the protocol's base, or by name from the graph.
NO_TURNS = {
    *("aclear_cache", "aget_graph", "aget_state", "aget_state_history", "aget_subgraphs", "attach_branch"),
    *("attach_edge", "attach_node", "clear_cache", "config_schema", "get_config_jsonschema", "get_context_jsonschema"),
    *("get_graph", "get_input_jsonschema", "get_input_schema", "get_output_jsonschema", "get_output_schema"),
    *("get_state", "get_state_history", "get_subgraphs", "validate"),
}
TURNS = {
    *("abulk_update_state", "ainvoke", "astream", "astream_events", "aupdate_state"),
    *("bulk_update_state", "invoke", "stream", "stream_events", "update_state"),
}
COPIES = {"copy", "with_config"}
BATCHES = {"abatch", "abatch_as_completed", "atransform", "astream_log", "batch", "batch_as_completed", "transform"}


def methods_of(cls: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}


def own(cls: type, name: str) -> bool:
    """Whether a class says something itself, or one of its bases that is ours."""
    return any(name in vars(each) for each in cls.__mro__ if each.__module__.startswith("turnlane_integrations"))


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def test_no_method_of_a_graph_is_unknown() -> None:
    """Each is known to run the graph, or not to: a new one might run it outside of its turn."""
    found = methods_of(CompiledStateGraph) - methods_of(Runnable)
    found |= {
        name
        for name in methods_of(CompiledStateGraph)
        if getattr(CompiledStateGraph, name) is not getattr(Runnable, name, None)
    }
    unknown = found - NO_TURNS - TURNS - COPIES
    assert unknown == set(), f"langgraph's compiled graph has methods nobody has judged, {unknown}: {WHERE}graph.py"


def test_what_runs_a_graph_is_a_turn() -> None:
    """LaneGraph says each of these itself, and what a Runnable has beside goes through them."""
    missing = {name for name in TURNS | COPIES | {"InputType", "OutputType"} if not own(LaneGraph, name)}
    assert missing == set(), f"LaneGraph leaves {missing} to others: {WHERE}graph.py and blocking.py"
    overridden = {
        name for name in BATCHES if getattr(CompiledStateGraph, name, None) is not getattr(Runnable, name, None)
    }
    assert overridden == set(), f"langgraph has a {overridden} of its own now: {WHERE}graph.py"


def test_what_the_protocol_asks_for_is_there() -> None:
    """Nothing abstract is left."""
    left: frozenset[str] = getattr(LaneGraph, "__abstractmethods__")  # noqa: B009  of no type that checkers know
    assert left == frozenset(), f"langgraph's PregelProtocol asks for {set(left)} now: {WHERE}passing.py"


@pytest.mark.parametrize("name", ["ainvoke", "astream", "invoke", "stream", "update_state", "aupdate_state"])
def test_calls_name_the_configuration(name: str) -> None:
    """It is where the thread is, and the second argument of a run."""
    for graph in (CompiledStateGraph, PregelProtocol):
        assert "config" in parameters(getattr(graph, name)), f"{graph}.{name} has no config any more: {WHERE}graph.py"
    assert "update" in parameters(CompiledStateGraph.copy), f"a graph is copied in another way now: {WHERE}graph.py"


def test_no_method_of_a_checkpointer_is_unknown() -> None:
    """Each is passed on to the one that is wrapped; one of the base would do something else."""
    missing = {name for name in methods_of(BaseCheckpointSaver) if not own(FencedSaver, name)}
    assert missing == set(), (
        f"langgraph's checkpointers have methods that are not passed on, {missing}: {WHERE}saver.py"
    )
    properties = {
        name
        for name, value in inspect.getmembers(BaseCheckpointSaver)
        if isinstance(value, property) and not own(FencedSaver, name)
    }
    assert properties == set(), f"langgraph's checkpointers have properties that are not passed on: {WHERE}saver.py"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("put", "aput"), {"self", "config", "checkpoint", "metadata", "new_versions"}),
        (("put_writes", "aput_writes"), {"self", "config", "writes", "task_id", "task_path"}),
        (("get_tuple", "aget_tuple"), {"self", "config"}),
    ],
)
def test_what_a_checkpointer_is_asked_for(names: tuple[str, ...], expected: set[str]) -> None:
    """The fence stands in these calls."""
    for name in names:
        found = parameters(getattr(BaseCheckpointSaver, name))
        assert found == expected, f"BaseCheckpointSaver.{name} takes {found} now: {WHERE}fence.py"


def test_what_is_read_names_its_place() -> None:
    """The fence marks there what was chosen."""
    assert {"config", "checkpoint"} <= set(CheckpointTuple._fields), (
        f"CheckpointTuple is another one: {WHERE}refusing.py"
    )
