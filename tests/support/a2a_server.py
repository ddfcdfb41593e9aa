"""The JSON-RPC routes that a2a-sdk ships, before an executor, and clients of both of its protocols."""

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from starlette.applications import Starlette

from support.rigs.a2a import CARD
from turnlane import LaneMiddleware, Runtime, keys
from turnlane.testing import AsgiDriver, HttpRequest

__all__ = ("METHODS", "Asking", "Server", "answer_in", "serving", "states_in", "task_in")

METHODS = ("SendMessage", "SendStreamingMessage", "message/send", "message/stream")
"""How messages are sent: with version 1 of the protocol, and with 0.3."""


@dataclass(frozen=True, slots=True)
class Server:
    """An app, and what sends to it."""

    driver: AsgiDriver

    def send(
        self,
        text: str,
        *,
        method: str = "SendMessage",
        context_id: str | None = "c",
        task_id: str | None = None,
        at_once: bool = False,
    ) -> HttpRequest:
        """Send a message; `at_once`: have the answer to the request as soon as there is a task."""
        first = not method.startswith("message/")
        part = {"text": text} if first else {"kind": "text", "text": text}
        role = "ROLE_USER" if first else "user"
        message: dict[str, Any] = {"messageId": f"m {text}", "role": role, "parts": [part]}
        message |= {name: given for name, given in (("contextId", context_id), ("taskId", task_id)) if given}
        configuration = {"returnImmediately": at_once} if first else {"blocking": not at_once}
        return self.call(method, {"message": message, "configuration": configuration})

    def call(self, method: str, params: dict[str, Any]) -> HttpRequest:
        """Call a method."""
        version = {} if "/" in method else {"a2a-version": "1.0"}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        return self.driver.start("POST", "/", headers={"content-type": "application/json", **version}, body=body)

    def send_by_rest(self, text: str, *, how: str = "send", at_once: bool = False) -> HttpRequest:
        """Send a message of the context `c` to the REST routes, to `/message:send` or `/message:stream`."""
        message = {"messageId": f"m {text}", "role": "ROLE_USER", "parts": [{"text": text}], "contextId": "c"}
        body = json.dumps({"message": message, "configuration": {"returnImmediately": at_once}}).encode()
        headers = {"content-type": "application/json", "a2a-version": "1.0"}
        return self.driver.start("POST", f"/message:{how}", headers=headers, body=body)

    async def cancel(self, task_id: str) -> dict[str, Any]:
        """Cancel a task, and return what comes of it."""
        return task_in((await self.call("CancelTask", {"id": task_id}).response()).text)

    async def get(self, task_id: str) -> dict[str, Any]:
        """Return a task."""
        return task_in((await self.call("GetTask", {"id": task_id}).response()).text)


@asynccontextmanager
async def serving(executor: AgentExecutor, *, gate: Runtime | None = None) -> AsyncGenerator[Server, None]:
    """Serve an executor by the shipped routes, with `LaneMiddleware` before them where a runtime is given."""
    handler = DefaultRequestHandler(agent_executor=executor, task_store=InMemoryTaskStore(), agent_card=CARD)
    routes = [*create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True), *create_rest_routes(handler)]
    app: Any = Starlette(routes=routes)
    if gate is not None:
        app = LaneMiddleware(app, key=keys.a2a(), runtime=gate, trusted_keys=True)
    try:
        async with AsgiDriver(app) as driver:
            yield Server(driver)
    finally:
        await handler.aclose()


class Asking(AgentExecutor):
    """Asks for more when a task is new, and answers with all that was said when there is more."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        task = context.current_task
        if task is None:
            task = new_task_from_user_message(context.message)
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        said = [part.text for message in task.history for part in message.parts]
        if said == [context.get_user_input()]:
            await updater.requires_input()
        else:
            await updater.add_artifact([new_text_part(f"{said[0]} {context.get_user_input()}")])
            await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id or "", context.context_id or "").cancel()


def _documents(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines or [text]]


def _found(node: object, name: str) -> Iterable[Any]:
    if isinstance(node, dict):
        for key, value in cast("dict[str, object]", node).items():
            if key == name:
                yield value
            yield from _found(value, name)
    elif isinstance(node, list):
        for value in cast("list[object]", node):
            yield from _found(value, name)


def answer_in(text: str) -> str:
    """Return what the agent has said in a response."""
    artifacts = [each for name in ("artifact", "artifacts") for each in _found(_documents(text), name)]
    return "".join(part for artifact in artifacts for part in _found(artifact, "text"))


def states_in(text: str) -> list[str]:
    """Return the states of the task a response is about, in order."""
    return [status["state"] for status in _found(_documents(text), "status")]


def task_in(text: str) -> dict[str, Any]:
    """Return the task in a response."""
    result: dict[str, Any] = _documents(text)[0]["result"]
    task: dict[str, Any] = result.get("task", result)
    return task
