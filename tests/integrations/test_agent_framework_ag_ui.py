"""agent-framework: the AG-UI endpoint it ships, with lanes around the agent, and before the endpoint."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import pytest
from agent_framework import Agent, InMemoryHistoryProvider
from starlette.applications import Starlette

from support.rigs import ScriptedModel
from support.rigs.agent_framework import Scripted
from support.rigs.contract import reply_to
from turnlane import LaneMiddleware, Runtime, keys
from turnlane.hooks import TurnQueued
from turnlane.testing import AsgiDriver, HttpRequest
from turnlane_integrations.agent_framework import LaneAgentMiddleware

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]


@asynccontextmanager
async def serving(model: ScriptedModel, runtime: Runtime, *, around: bool) -> AsyncGenerator[AsgiDriver, None]:
    """Serve an agent, with lanes around it, or before its endpoint."""
    pytest.importorskip("agent_framework_ag_ui", reason="agent-framework-ag-ui is not installed")
    gate = [LaneAgentMiddleware(runtime)] if around else []
    agent = Agent(Scripted(model), name="a", context_providers=[InMemoryHistoryProvider("h")], middleware=gate)
    app: Any = import_module("fastapi").FastAPI()
    import_module("agent_framework_ag_ui").add_agent_framework_fastapi_endpoint(app, agent, "/", single_user=True)
    served: Starlette | LaneMiddleware = app
    if not around:
        served = LaneMiddleware(app, key=keys.ag_ui(), runtime=runtime, trusted_keys=True)
    async with AsgiDriver(served) as driver:
        yield driver


def ask(driver: AsgiDriver, text: str) -> HttpRequest:
    message = {"id": text, "role": "user", "content": text}
    rest: dict[str, Any] = {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
    body = json.dumps({"threadId": "c", "runId": text, "messages": [message], **rest}).encode()
    return driver.start("POST", "/", headers={"content-type": "application/json"}, body=body)


def words_of(text: str) -> str:
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


@pytest.mark.parametrize("around", [True, False], ids=["agent", "endpoint"])
async def test_messages_of_a_thread_take_turns(around: bool) -> None:
    """The model is asked for the second when the first is answered."""
    model = ScriptedModel()
    async with Runtime() as runtime:
        queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        runtime.hooks.on(TurnQueued, queued.put_nowait)
        async with serving(model, runtime, around=around) as driver:
            first = ask(driver, "hold one")
            await model.entered["hold one"].wait()
            second = ask(driver, "two")
            await queued.get()
            assert not model.entered["two"].is_set()
            model.go["hold one"].set()
            answers = [words_of((await request.response()).text) for request in (first, second)]
            for request in (first, second):
                await request.finished()
        assert runtime.lanes.statistics().lanes == 0
    assert [answer[:6] for answer in answers] == [reply_to("hold one", 0)[:6], reply_to("two", 0)[:6]]
