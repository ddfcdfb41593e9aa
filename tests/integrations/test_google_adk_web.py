"""The web app that google-adk ships, unchanged: what overlapping requests do to it, and what the middleware changes."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from google.adk.agents import BaseAgent
from google.adk.cli.fast_api import get_fast_api_app
from google.adk.cli.utils.base_agent_loader import BaseAgentLoader
from google.adk.errors import StaleSessionError
from google.adk.events import Event
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from support.rigs.contract import ScriptedModel, reply_to
from support.rigs.google_adk import APP, USER, agent_of, lines_of, message
from support.rigs.judging import damage
from support.server_loopback import uvicorn_serving
from turnlane import LaneMiddleware, keys
from turnlane.testing import AsgiDriver
from turnlane_integrations.google_adk import refuse_stale_session

# Its own constructor warns of parts of it that are new.
pytestmark = pytest.mark.filterwarnings(r"ignore:\[EXPERIMENTAL\]:UserWarning")

HOW = pytest.mark.parametrize("path", ["/run", "/run_sse"])


class OneAgent(BaseAgentLoader):
    """What finds the agents; this one has one."""

    def __init__(self, agent: BaseAgent) -> None:
        self._agent = agent

    def load_agent(self, agent_name: str) -> BaseAgent:
        return self._agent

    def list_agents(self) -> list[str]:
        return [APP]


class Web:
    """The app, with what is stored by it."""

    def __init__(self, directory: Path, model: ScriptedModel) -> None:
        self.sessions = SqliteSessionService(f"{directory}/sessions.db")
        self.app: FastAPI = get_fast_api_app(
            agents_dir=str(directory),
            agent_loader=OneAgent(agent_of(model)),
            session_service_uri=f"sqlite:///{directory}/sessions.db",
            use_local_storage=False,
            web=False,
        )

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[httpx.AsyncClient, None]:
        """Make the session, and serve, for the block."""
        await self.sessions.create_session(app_name=APP, user_id=USER, session_id="c")
        async with (
            uvicorn_serving(self.app) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        ):
            yield client

    async def stored(self) -> Any:
        return lines_of(await self.sessions.get_session(app_name=APP, user_id=USER, session_id="c"))


def asked(text: str) -> dict[str, Any]:
    said = {"role": "user", "parts": [{"text": text}]}
    return {"appName": APP, "userId": USER, "sessionId": "c", "newMessage": said}


async def ask(client: httpx.AsyncClient, path: str, text: str) -> str:
    """Return the answer, or what the server says instead."""
    response = await client.post(path, json=asked(text))
    if response.status_code != 200:
        return f"status {response.status_code}"
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    events = response.json() if path == "/run" else [json.loads(line) for line in lines]
    return "".join(part["text"] for event in events for part in event.get("content", {}).get("parts", []))


@HOW
async def test_as_it_is_overlapping_requests_do_damage(path: str, tmp_path: Path) -> None:
    """So that the test below shows something."""
    model = ScriptedModel(together=2)
    web = Web(tmp_path, model)

    async def one(text: str) -> str:
        try:
            return await ask(client, path, text)
        finally:
            model.expect_nobody()

    async with web.client() as client:
        answers = await asyncio.gather(one("one"), one("two"))
        damaged = damage(["one", "two"], dict(zip(("one", "two"), answers, strict=True)), await web.stored())
    print(f"\n{path}: {damaged}")
    assert any(found.startswith("lost: ") for found in damaged)


@HOW
async def test_behind_the_middleware_every_turn_is_whole(path: str, tmp_path: Path, seed: int) -> None:
    """One line on the app as it is."""
    web = Web(tmp_path, ScriptedModel(seed=seed))
    web.app.add_middleware(LaneMiddleware, key=keys.adk(), trusted_keys=True)
    sent = ["one", "two", "three", "four"]
    async with web.client() as client:
        answers = await asyncio.gather(*(ask(client, path, text) for text in sent))
        assert damage(sent, dict(zip(sent, answers, strict=True)), await web.stored()) == []


async def test_a_stale_session_is_answered_as_a_takeover(tmp_path: Path) -> None:
    """With the handler a foreign write is a 409, which clients do not try again."""
    model = ScriptedModel()
    web = Web(tmp_path, model)
    web.app.add_middleware(LaneMiddleware, key=keys.adk(), trusted_keys=True)
    web.app.add_exception_handler(StaleSessionError, refuse_stale_session)
    async with web.client() as client:
        responding = asyncio.create_task(client.post("/run", json=asked("hold this")))
        await model.entered["hold this"].wait()
        session = await web.sessions.get_session(app_name=APP, user_id=USER, session_id="c")
        assert session is not None
        await web.sessions.append_event(session, Event(author="user", content=message("told behind its back")))
        model.go["hold this"].set()
        response = await responding
        assert (response.status_code, response.json()["error"]["code"]) == (409, "transcript_takeover")
        assert response.headers["x-should-retry"] == "false"
        assert await ask(client, "/run", "go on") == reply_to("go on", 2)


@pytest.mark.filterwarnings(r"ignore:The `session` parameter is deprecated:DeprecationWarning")  # the app of ADK 2.7
async def test_a_live_session_passes_the_middleware_without_a_lane(tmp_path: Path) -> None:
    """The WebSocket works as before; a request of its session does not wait for it, nor it for the request."""
    web = Web(tmp_path, ScriptedModel())
    web.app.add_middleware(LaneMiddleware, key=keys.adk(), trusted_keys=True)
    async with web.client() as client, AsgiDriver(web.app) as driver:
        target = f"/run_live?app_name={APP}&user_id={USER}&session_id=c&modalities=TEXT"
        live = driver.start_websocket(target, headers={"host": "127.0.0.1"})
        await live.accepted()
        live.send(json.dumps({"content": asked("hello")["newMessage"]}))
        assert "live hello" in str(await live.receive())
        assert "turnComplete" in str(await live.receive())
        assert await ask(client, "/run", "meanwhile") == reply_to("meanwhile", 1)
        live.disconnect()
        await live.finished()
        stored = [line.text for line in await web.stored()]
        assert stored == ["hello", "live hello", "meanwhile", reply_to("meanwhile", 1)]
