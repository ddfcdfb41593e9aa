"""`SalvagingSaver`: a checkpointer that keeps what it refuses."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from turnlane import Transcripts
from turnlane.errors import TranscriptTakeover
from turnlane_integrations._checked import some_transcripts
from turnlane_integrations._refused import refused
from turnlane_integrations.langgraph.reading import Reader
from turnlane_integrations.langgraph.refusing import Refusal, start_of
from turnlane_integrations.langgraph.storing import StoringSaver, thread_of

__all__ = ("SalvagingSaver",)


class SalvagingSaver(StoringSaver):
    """Wraps a checkpointer, and has a place for words that are not to be stored in it.

    Args:
        saver: where the checkpoints are.
        salvage: where refused words go, as the transcript of the thread's id.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], *, salvage: Transcripts) -> None:
        super().__init__(saver)
        self._salvage = some_transcripts(salvage, "salvage")

    def restore(self, entry: Mapping[str, Any]) -> Any:
        """Return what an entry of the salvage holds: the channels of a checkpoint, or the writes of a task."""
        return self.serde.loads_typed((entry["type"], b64decode(entry["data"])))

    async def _refuse(
        self,
        reader: Reader,
        config: RunnableConfig,
        why: Refusal,
        words: object,
        *,
        checkpoint: str | None = None,
        task: str | None = None,
    ) -> TranscriptTakeover:
        """Keep the words, and return the error to raise.

        Args:
            reader: who wrote them.
            config: what it writes with.
            why: why they are refused.
            words: the channels of a checkpoint, or the writes of a task.
            checkpoint: the id of that checkpoint.
            task: or the id of that task.
        """
        parent, thread = start_of(config), thread_of(config)
        reader.why = why  # what its tasks still write would be found by nobody
        form, data = self.serde.dumps_typed(words)
        where = (
            {"checkpoint": parent, "task": task} if checkpoint is None else {"checkpoint": checkpoint, "parent": parent}
        )
        entry = {**where, "type": form, "data": b64encode(data).decode("ascii")}
        return await refused(
            self._salvage,
            thread,
            [entry],
            where=f"thread {thread!r}",
            kind=why.kind,
            expected=why.expected,
            found=why.found,
            phase="append",
        )
