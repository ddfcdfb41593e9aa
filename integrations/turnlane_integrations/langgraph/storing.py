"""`StoringSaver`: a checkpointer of which is known what it is storing."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, ChannelVersions, Checkpoint, CheckpointMetadata

from turnlane_integrations.langgraph.saver import SaverProxy

__all__ = ("StoringSaver", "thread_of")


class StoringSaver(SaverProxy):
    """Wraps a checkpointer, and lets others wait for what graphs are storing in an event loop.

    A graph that is cancelled while it ends does not: its tasks go on storing when its call has long returned.

    Mutable: `_storing`, by thread the tasks that store; shared with the copies that `around` makes.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        super().__init__(saver)
        self._storing: dict[str, set[asyncio.Task[Any]]] = {}

    async def stored(self, thread: str) -> None:
        """Return when nothing is being stored for a thread."""
        await asyncio.sleep(0)  # tasks that were started in this moment begin
        while storing := self._storing.get(thread):
            await asyncio.wait(tuple(storing))

    @contextmanager
    def storing(self, config: RunnableConfig) -> Generator[None, None, None]:
        """Note that the running task stores something of a thread, for the block."""
        task, thread = asyncio.current_task(), thread_of(config)
        if task is None or task in self._storing.get(thread, ()):
            yield
            return
        self._storing.setdefault(thread, set()).add(task)
        try:
            yield
        finally:
            self._storing[thread].discard(task)
            if not self._storing[thread]:
                del self._storing[thread]

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        with self.storing(config):
            return await self.saver.aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task has written."""
        with self.storing(config):
            await self.saver.aput_writes(config, writes, task_id, task_path)


def thread_of(config: RunnableConfig) -> str:
    """Return the thread that is written to."""
    return str(config.get("configurable", {})["thread_id"])
