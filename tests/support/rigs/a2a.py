"""An agent of a2a-sdk that keeps the history of each context in a file, read when a message comes and written after it.

Who leaves cancels the task, as the protocol has it: an agent whose client is just gone goes on.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

from a2a.helpers import get_artifact_text, new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler, RequestHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    CancelTaskRequest,
    ListTasksRequest,
    Message,
    Role,
    SendMessageRequest,
    Task,
    TaskArtifactUpdateEvent,
)
from a2a.utils.errors import TaskNotCancelableError

from support.rigs.contract import Line, Rig, ScriptedModel
from turnlane_integrations.a2a import LaneAgentExecutor

__all__ = ("CARD", "RIG", "Files", "Remembering", "asked")

CARD = AgentCard(
    name="Rig",
    description="answers",
    version="1",
    default_input_modes=["text"],
    default_output_modes=["text"],
    capabilities=AgentCapabilities(streaming=True),
    supported_interfaces=[AgentInterface(url="http://127.0.0.1/", protocol_binding="JSONRPC", protocol_version="1.0")],
    skills=[AgentSkill(id="answer", name="answer", description="answers", tags=["answer"])],
)


class Files:
    """A file for each context, with all that was said."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def read(self, context_id: str) -> list[Line]:
        path = self._directory / f"{context_id}.json"
        return [Line(*line) for line in json.loads(path.read_text())] if path.exists() else []

    def write(self, context_id: str, lines: list[Line]) -> None:
        new = self._directory / f"{context_id}.{os.getpid()}.new"
        new.write_text(json.dumps([(line.role, line.text) for line in lines]))
        new.replace(self._directory / f"{context_id}.json")


class Remembering(AgentExecutor):
    """The agent."""

    def __init__(self, model: ScriptedModel, files: Files) -> None:
        self._model = model
        self._files = files

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        task = context.current_task
        if task is None:
            task = new_task_from_user_message(context.message)
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        lines = [*self._files.read(task.context_id), Line("user", context.get_user_input())]
        words: list[str] = []
        async with aclosing(self._model.words([line.text for line in lines if line.role == "user"])) as parts:
            async for part in parts:
                words.append(part)
                await updater.add_artifact([new_text_part(part)], artifact_id="answer", append=len(words) > 1)
        self._files.write(task.context_id, [*lines, Line("assistant", "".join(words))])
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def asked(context_id: str, text: str) -> SendMessageRequest:
    """Return a request with a message."""
    return SendMessageRequest(message=new_text_message(text, context_id=context_id, role=Role.ROLE_USER))


def has_left() -> bool:
    """Return whether the caller was cancelled, which a2a-sdk takes for the end of what it reads, and goes on."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class A2A(Rig):
    """See the module."""

    async def open(self) -> None:
        self._files = Files(self.place.directory)
        executor: AgentExecutor = Remembering(self.model, self._files)
        if self.runtime is not None:
            executor = LaneAgentExecutor(executor, self.runtime, announce=True)
        handler = DefaultRequestHandler(agent_executor=executor, task_store=InMemoryTaskStore(), agent_card=CARD)
        self.stack.push_async_callback(handler.aclose)
        self._handler: RequestHandler = handler

    async def answer(self, conversation: str, text: str) -> str:
        request = asked(conversation, text)
        task = await self._handler.on_message_send(request, ServerCallContext())
        if has_left():
            await self._cancel(request.message)
            raise asyncio.CancelledError
        assert isinstance(task, Task)
        return "".join(get_artifact_text(artifact, "") for artifact in task.artifacts)

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        request, ended = asked(conversation, text), False
        try:
            async with aclosing(self._handler.on_message_send_stream(request, ServerCallContext())) as events:
                async for event in events:
                    if isinstance(event, TaskArtifactUpdateEvent):
                        yield get_artifact_text(event.artifact, "")
            if has_left():
                raise asyncio.CancelledError
            ended = True
        finally:
            if not ended:
                await self._cancel(request.message)

    async def _cancel(self, message: Message) -> None:
        listed = await self._handler.on_list_tasks(
            ListTasksRequest(context_id=message.context_id, history_length=1), ServerCallContext()
        )
        for task in listed.tasks:
            if any(said.message_id == message.message_id for said in task.history):
                with suppress(TaskNotCancelableError):  # it has ended
                    await self._handler.on_cancel_task(CancelTaskRequest(id=task.id), ServerCallContext())

    async def history(self, conversation: str) -> list[Line]:
        return self._files.read(conversation)


RIG = A2A
