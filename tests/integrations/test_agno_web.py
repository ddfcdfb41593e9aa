"""`AgentOS`, the app that agno ships, as it is: what overlapping requests do, and what the middleware changes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from agno.run.cancel import aget_active_runs

from support.rigs.agno import lines_of
from support.rigs.contract import ScriptedModel
from support.rigs.judging import damage
from support.server_loopback import uvicorn_serving
from support.shipped_agno import KEY, agent_in, app_of, ask
from turnlane import LaneMiddleware

HOW = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])


class Web:
    """The app, with what is stored by it."""

    def __init__(self, directory: Path, model: ScriptedModel) -> None:
        self.agent = agent_in(directory, model)
        self.app = app_of(self.agent)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[httpx.AsyncClient, None]:
        """Serve, for the block."""
        async with (
            uvicorn_serving(self.app) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        ):
            yield client


@HOW
async def test_as_it_is_the_second_message_is_not_told_of_the_first(streaming: bool, tmp_path: Path) -> None:
    """So that the test below shows something."""
    web = Web(tmp_path, ScriptedModel(together=2))
    sent = ["one", "two"]
    async with web.client() as client:
        answers = await asyncio.gather(*(ask(client, text, streaming=streaming) for text in sent))
        damaged = damage(sent, dict(zip(sent, answers, strict=True)), lines_of(web.agent, "c"))
    print(f"\nAgentOS: {damaged}")
    assert "the caller of 'two' got 're two after 0'" in damaged


@HOW
async def test_behind_the_middleware_every_turn_is_whole(streaming: bool, tmp_path: Path, seed: int) -> None:
    """One line on the app as it is."""
    web = Web(tmp_path, ScriptedModel(seed=seed))
    web.app.add_middleware(LaneMiddleware, key=KEY, trusted_keys=True)
    sent = ["one", "two", "three", "four"]
    async with web.client() as client:
        answers = await asyncio.gather(*(ask(client, text, streaming=streaming) for text in sent))
        assert damage(sent, dict(zip(sent, answers, strict=True)), lines_of(web.agent, "c")) == []


async def test_a_run_is_cancelled_while_it_has_its_lane(tmp_path: Path) -> None:
    """The request that cancels a run names it in its path and no session, and so waits for nobody."""
    model = ScriptedModel()
    web = Web(tmp_path, model)
    web.app.add_middleware(LaneMiddleware, key=KEY, trusted_keys=True)
    async with web.client() as client:
        running = asyncio.create_task(ask(client, "hold this", streaming=False))
        await model.entered["hold this"].wait()
        (run_id,) = await aget_active_runs()
        response = await client.post(f"/agents/rig/runs/{run_id}/cancel")
        assert response.status_code == 200, response.text
        model.go["hold this"].set()
        await running
        assert web.agent.get_session(session_id="c").runs[0].status == "CANCELLED"
