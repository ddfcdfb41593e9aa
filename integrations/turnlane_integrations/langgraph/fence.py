"""`FencedSaver`: any checkpointer, which refuses to store behind what somebody else has written."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from anyio.from_thread import BlockingPortal
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)

from turnlane import Transcripts
from turnlane.transcripts.given import require_id
from turnlane_integrations._blocking import Blocking
from turnlane_integrations.langgraph.reading import Reader, note_reader, reader_of
from turnlane_integrations.langgraph.refusing import (
    head_of,
    is_branch,
    is_interrupt,
    is_of_subgraph,
    marked,
    refusal,
    start_of,
)
from turnlane_integrations.langgraph.salvaging import SalvagingSaver
from turnlane_integrations.langgraph.storing import thread_of

__all__ = ("FencedSaver",)

L = TypeVar("L")


class FencedSaver(SalvagingSaver):
    """Wraps a checkpointer: a checkpoint is stored if its parent is the head of the thread, and refused if it is not.

    Guarantees: a run behind whose back somebody else has written the thread stores no checkpoint more. That is a
    `TranscriptTakeover`, and what was refused is in the salvage, also what its tasks have written by then. Runs and
    updates of one process and event loop through this object exclude each other while they store. A run that was told
    where to begin (`checkpoint_id`), a fork and a subgraph are left alone; what such a run stores after that is not.

    Not guaranteed: that a write by another process in the very moment between the look at the head and the storing is
    found, but by the next checkpoint of one of the two: no checkpointer compares and stores in one step. Runs through
    a `LaneGraph` whose lanes the processes share leave no such moment to each other. Nor that the graph stops at once:
    with `durability="async"`, the framework's default, it raises when it has ended; with `"sync"` after the step.

    It costs one read of the head for each checkpoint.

    Args:
        saver: where the checkpoints are. Its other methods are at hand here, too.
        salvage: where refused words go, as the transcript of the thread's id; `restore` reads such an entry. A thread
            whose id can be none of a transcript is refused when it is read: `ValueError`.
        portal: the loop in which threads write the salvage; None: the one this was
            made in; else that of the thread's host; else its own.

    Raises:
        ValueError: an argument is not what it is to be.
    """

    def __init__(
        self, saver: BaseCheckpointSaver[Any], *, salvage: Transcripts, portal: BlockingPortal | None = None
    ) -> None:
        super().__init__(saver, salvage=salvage)
        self._blocking = Blocking(portal=portal)
        self._guard = threading.Lock()
        self._lines: WeakValueDictionary[object, Any] = WeakValueDictionary()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that is asked for, or the head."""
        self._note(config)
        return marked(config, self.saver.get_tuple(config))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that is asked for, or the head."""
        self._note(config)
        return marked(config, await self.saver.aget_tuple(config))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint behind its parent.

        Raises:
            TranscriptTakeover: the parent is not the head.
        """
        if is_branch(config, metadata):
            return self.saver.put(config, checkpoint, metadata, new_versions)
        words, name = _words_of(checkpoint, new_versions), checkpoint["id"]
        reader = self._reader(config)
        with reader.storing():
            with self._line(thread_of(config), threading.Lock):
                why = refusal(start_of(config), self.saver.get_tuple(head_of(config)), own=name)
                if why is None:
                    return self.saver.put(config, checkpoint, metadata, new_versions)
            raise self._blocking.run(self._refuse, reader, config, why, words, checkpoint=name)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint behind its parent.

        Raises:
            TranscriptTakeover: the parent is not the head.
        """
        if is_branch(config, metadata):
            return await super().aput(config, checkpoint, metadata, new_versions)
        words, name = _words_of(checkpoint, new_versions), checkpoint["id"]
        reader = self._reader(config)
        with self.storing(config), reader.storing():
            async with self._line((asyncio.get_running_loop(), thread_of(config)), asyncio.Lock):
                why = refusal(start_of(config), await self.saver.aget_tuple(head_of(config)), own=name)
                if why is None:
                    return await self.saver.aput(config, checkpoint, metadata, new_versions)
            raise await self._refuse(reader, config, why, words, checkpoint=name)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task has written, for the checkpoint it was given.

        Raises:
            TranscriptTakeover: that was refused; or the run ends here, to go on later, and the thread has gone on.
        """
        if not is_of_subgraph(config):
            reader = self._reader(config)
            reader.wait()
            why = reader.why
            if why is None and is_interrupt(writes) and not is_branch(config) and self.saver.get_tuple(config):
                why = refusal(start_of(config), self.saver.get_tuple(head_of(config)))
            if why is not None:
                raise self._blocking.run(self._refuse, reader, config, why, list(writes), task=task_id)
        self.saver.put_writes(config, writes, task_id, task_path)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task has written, for the checkpoint it was given.

        Raises:
            TranscriptTakeover: that was refused; or the run ends here, to go on later, and the thread has gone on.
        """
        if not is_of_subgraph(config):
            reader = self._reader(config)
            await reader.settle()
            why = reader.why
            if why is None and is_interrupt(writes) and not is_branch(config) and await self.saver.aget_tuple(config):
                why = refusal(start_of(config), await self.saver.aget_tuple(head_of(config)))
            if why is not None:
                with self.storing(config):
                    raise await self._refuse(reader, config, why, list(writes), task=task_id)
        await super().aput_writes(config, writes, task_id, task_path)

    def _reader(self, config: RunnableConfig) -> Reader:
        return reader_of((self._guard, thread_of(config)))

    def _note(self, config: RunnableConfig) -> None:
        if not is_of_subgraph(config):
            thread = thread_of(config)
            require_id(thread)  # or else, when it was paid for, what is refused could not be kept
            note_reader((self._guard, thread))

    def _line(self, place: object, make: Callable[[], L]) -> L:
        """Return the lock of a place; it is kept while somebody has it."""
        with self._guard:
            found: L | None = self._lines.get(place)
            if found is None:
                found = self._lines[place] = make()
            return found


def _words_of(checkpoint: Checkpoint, new_versions: ChannelVersions) -> dict[str, Any]:
    """Return the channels that are not as the checkpoint's parent has them."""
    return {name: value for name, value in checkpoint["channel_values"].items() if name in new_versions}
