"""What a fence refuses: pure decisions over what a write says of itself, and what is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.types import INTERRUPT

from turnlane_integrations.langgraph.storing import thread_of

__all__ = (
    "Chosen",
    "Refusal",
    "head_of",
    "is_branch",
    "is_interrupt",
    "is_of_subgraph",
    "marked",
    "refusal",
    "start_of",
)


class Chosen(str):
    """The id of a checkpoint that somebody has asked for by its id: what is stored behind it is a branch on purpose.

    Whoever reads a checkpoint copies its configuration into that of all it writes, and so the id, until it has stored a
    checkpoint of its own. For everybody else it is text like any other.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a write was refused, as in `TranscriptTakeover`."""

    kind: str
    expected: str
    found: str


def marked(config: RunnableConfig, found: CheckpointTuple | None) -> CheckpointTuple | None:
    """Return what was read; where it was asked for by its id, the id in it is `Chosen`."""
    if found is None or not start_of(config):
        return found
    chosen = Chosen(found.checkpoint["id"])
    configurable = {**found.config.get("configurable", {}), "checkpoint_id": chosen}
    return found._replace(
        config={**found.config, "configurable": configurable}, checkpoint={**found.checkpoint, "id": chosen}
    )


def start_of(config: RunnableConfig) -> str | None:
    """Return the id of the checkpoint that a configuration names."""
    return config.get("configurable", {}).get("checkpoint_id")


def head_of(config: RunnableConfig) -> RunnableConfig:
    """Return the configuration that reads the head of the thread."""
    return {"configurable": {"thread_id": thread_of(config), "checkpoint_ns": ""}}


def is_branch(config: RunnableConfig, metadata: CheckpointMetadata | None = None) -> bool:
    """Whether a write need not be behind the head: in a subgraph, a fork, or behind a checkpoint that was chosen."""
    forks = metadata is not None and metadata.get("source") == "fork"
    return forks or is_of_subgraph(config) or isinstance(start_of(config), Chosen)


def is_of_subgraph(config: RunnableConfig) -> bool:
    """Whether a read or a write is one of a graph within the run."""
    return bool(config.get("configurable", {}).get("checkpoint_ns"))


def is_interrupt(writes: Sequence[tuple[str, Any]]) -> bool:
    """Whether these are the last writes of a run, which waits for people now."""
    return any(channel == INTERRUPT for channel, _ in writes)


def refusal(parent: str | None, head: CheckpointTuple | None, *, own: str | None = None) -> Refusal | None:
    """Return why nothing can be stored behind `parent`; None where it is the head, or that is `own` already."""
    found = None if head is None else head.checkpoint["id"]
    if found == parent or (own is not None and found == own):
        return None
    return Refusal(
        kind="deleted" if found is None else "appended",
        expected=f"checkpoint {parent}" if parent else "no checkpoint",
        found=f"checkpoint {found}" if found else "no checkpoint",
    )
