"""a2a-sdk over gRPC: the lanes around an executor know nothing of the way a message came."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from a2a.helpers import get_artifact_text
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import InMemoryTaskStore

from support.rigs import ScriptedModel
from support.rigs.a2a import CARD, Files, Remembering, asked
from support.rigs.contract import reply_to
from turnlane import Runtime
from turnlane.hooks import TurnQueued
from turnlane_integrations.a2a import LaneAgentExecutor

pytestmark = [pytest.mark.sockets]

VERSION = (("a2a-version", "1.0"),)


@asynccontextmanager
async def serving(executor: AgentExecutor) -> AsyncGenerator[Any, None]:
    """Serve an executor on a loopback port, for the block; yields a client."""
    grpc: Any = pytest.importorskip("grpc", reason="a2a-sdk[grpc] is not installed")
    services: Any = import_module("a2a.types.a2a_pb2_grpc")
    make: Any = import_module("a2a.server.request_handlers.grpc_handler").GrpcHandler
    handler = DefaultRequestHandler(agent_executor=executor, task_store=InMemoryTaskStore(), agent_card=CARD)
    server = grpc.aio.server()
    services.add_A2AServiceServicer_to_server(make(handler), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield services.A2AServiceStub(channel)
    finally:
        await server.stop(0)
        await handler.aclose()


@pytest.mark.parametrize("streaming", [False, True])
async def test_messages_over_grpc_take_turns_too(streaming: bool, tmp_path: Path) -> None:
    """The second is told to an agent that knows the first."""

    async def answer(client: Any, text: str) -> str:
        if not streaming:
            task = (await client.SendMessage(asked("c", text), metadata=VERSION)).task
            return "".join(get_artifact_text(artifact, "") for artifact in task.artifacts)
        events = [event async for event in client.SendStreamingMessage(asked("c", text), metadata=VERSION)]
        parts = [event.artifact_update.artifact for event in events if event.HasField("artifact_update")]
        return "".join(get_artifact_text(part, "") for part in parts)

    files, model = Files(str(tmp_path)), ScriptedModel()
    async with Runtime() as runtime:
        queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        runtime.hooks.on(TurnQueued, queued.put_nowait)
        async with serving(LaneAgentExecutor(Remembering(model, files), runtime)) as client:
            first = asyncio.create_task(answer(client, "hold one"))
            await model.entered["hold one"].wait()
            second = asyncio.create_task(answer(client, "two"))
            await queued.get()
            model.go["hold one"].set()
            assert [await first, await second] == [reply_to("hold one", 0), reply_to("two", 1)]
        assert runtime.lanes.statistics().lanes == 0
    assert [line.text for line in files.read("c") if line.role == "user"] == ["hold one", "two"]
