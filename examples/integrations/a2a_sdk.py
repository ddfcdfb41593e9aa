"""An A2A agent, and two messages of one context at once: without lanes it forgets one of them.

Run it with `pip install 'turnlane[a2a]' 'a2a-sdk[http-server]' httpx`; it needs no network and no model.
"""

import asyncio
import uuid

import httpx
from a2a.helpers import new_task, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, TaskState
from starlette.applications import Starlette

from turnlane import Runtime
from turnlane_integrations.a2a import LaneAgentExecutor

CARD = AgentCard(
    name="Memory",
    description="remembers what it was told",
    version="1",
    default_input_modes=["text"],
    default_output_modes=["text"],
    capabilities=AgentCapabilities(),
    supported_interfaces=[AgentInterface(url="http://agent/", protocol_binding="JSONRPC", protocol_version="1.0")],
    skills=[AgentSkill(id="remember", name="remember", description="remembers", tags=["memory"])],
)


class Memory(AgentExecutor):
    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task_id, context_id = context.task_id or "", context.context_id or ""
        await event_queue.enqueue_event(new_task(task_id, context_id, TaskState.TASK_STATE_WORKING))
        before = self.said.get(context_id, [])
        await asyncio.sleep(0.2)  # the model thinks
        self.said[context_id] = [*before, context.get_user_input()]
        updater = TaskUpdater(event_queue, task_id, context_id)
        await updater.add_artifact([new_text_part(f"I knew {before}")])
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id or "", context.context_id or "").cancel()


async def converse(memory: Memory, executor: AgentExecutor) -> None:
    handler = DefaultRequestHandler(executor, task_store=InMemoryTaskStore(), agent_card=CARD)
    app = Starlette(routes=create_jsonrpc_routes(handler, "/"))
    transport, version = httpx.ASGITransport(app), {"A2A-Version": "1.0"}
    async with httpx.AsyncClient(transport=transport, base_url="http://agent", headers=version) as client:

        async def send(text: str) -> None:
            part = {"messageId": str(uuid.uuid4()), "role": "ROLE_USER", "contextId": "ada", "parts": [{"text": text}]}
            body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": part}}
            task = (await client.post("/", json=body)).json()["result"]["task"]
            print(f"  {text!r} -> {task['artifacts'][0]['parts'][0]['text']!r}")

        await asyncio.gather(send("my name is Ada"), send("I live in London"))
    print(f"  remembered: {memory.said['ada']}")
    await handler.aclose()


async def main() -> None:
    async with Runtime() as runtime:
        for title in ("without lanes", "with lanes"):
            print(title)
            memory = Memory()
            await converse(memory, memory if title == "without lanes" else LaneAgentExecutor(memory, runtime))


asyncio.run(main())
