"""The web app that google-adk ships, unchanged: what overlapping requests do to it, and what the middleware changes."""

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from google.adk.cli.service_registry import get_service_registry
from google.adk.errors import StaleSessionError
from google.adk.events import Event

from support.rigs.contract import ScriptedModel, reply_to
from support.rigs.google_adk import APP, USER, lines_of, message
from support.rigs.judging import damage
from support.server_loopback import uvicorn_serving
from support.shipped_google_adk import KEY, app_in, ask, asked, sessions_in
from turnlane import LaneMiddleware, Transcripts
from turnlane.testing import AsgiDriver
from turnlane_integrations.google_adk import FencedSessions, refuse_stale_session, session_key

HOW = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])


class Web:
    """The app, with what is stored by it."""

    def __init__(self, directory: Path, model: ScriptedModel, *, sessions: str | None = None) -> None:
        self.sessions = sessions_in(directory)
        self.app: FastAPI = app_in(directory, model, sessions=sessions)

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


@HOW
async def test_as_it_is_overlapping_requests_do_damage(streaming: bool, tmp_path: Path) -> None:
    """So that the test below shows something."""
    model = ScriptedModel(together=2)
    web = Web(tmp_path, model)

    async def one(text: str) -> str:
        try:
            return await ask(client, text, streaming=streaming)
        finally:
            model.expect_nobody()

    async with web.client() as client:
        answers = await asyncio.gather(one("one"), one("two"))
        damaged = damage(["one", "two"], dict(zip(("one", "two"), answers, strict=True)), await web.stored())
    print(f"\nget_fast_api_app: {damaged}")
    assert any(found.startswith("lost: ") for found in damaged)


@HOW
async def test_behind_the_middleware_every_turn_is_whole(streaming: bool, tmp_path: Path, seed: int) -> None:
    """One line on the app as it is."""
    web = Web(tmp_path, ScriptedModel(seed=seed))
    web.app.add_middleware(LaneMiddleware, key=KEY, trusted_keys=True)
    sent = ["one", "two", "three", "four"]
    async with web.client() as client:
        answers = await asyncio.gather(*(ask(client, text, streaming=streaming) for text in sent))
        assert damage(sent, dict(zip(sent, answers, strict=True)), await web.stored()) == []


async def told_behind_its_back(
    web: Web, model: ScriptedModel, asking: Coroutine[Any, Any, httpx.Response]
) -> httpx.Response:
    """Have somebody else write the session while the model is asked "hold this"; return the response to that."""
    responding = asyncio.create_task(asking)
    await model.entered["hold this"].wait()
    session = await web.sessions.get_session(app_name=APP, user_id=USER, session_id="c")
    assert session is not None
    await web.sessions.append_event(session, Event(author="user", content=message("told behind its back")))
    model.go["hold this"].set()
    return await responding


async def test_a_stale_session_is_answered_as_a_takeover(tmp_path: Path) -> None:
    """With the handler a foreign write is a 409, which clients do not try again."""
    model = ScriptedModel()
    web = Web(tmp_path, model)
    web.app.add_middleware(LaneMiddleware, key=KEY, trusted_keys=True)
    web.app.add_exception_handler(StaleSessionError, refuse_stale_session)
    async with web.client() as client:
        response = await told_behind_its_back(web, model, client.post("/run", json=asked("hold this")))
        assert (response.status_code, response.json()["error"]["code"]) == (409, "transcript_takeover")
        assert response.headers["x-should-retry"] == "false"
        assert await ask(client, "go on", streaming=False) == reply_to("go on", 2)


@HOW
async def test_a_fenced_service_is_one_the_app_can_be_given(streaming: bool, tmp_path: Path) -> None:
    """By a name in its registry, as other services; what a stale session may not store is in the salvage."""
    salvage = Transcripts(f"{tmp_path}/salvage")

    def fenced(uri: str, **_: Any) -> FencedSessions:
        return FencedSessions(sessions_in(tmp_path), salvage=salvage)

    get_service_registry().register_session_service("fenced", fenced)
    model = ScriptedModel()
    web = Web(tmp_path, model, sessions="fenced://")
    web.app.add_middleware(LaneMiddleware, key=KEY, trusted_keys=True)
    web.app.add_exception_handler(StaleSessionError, refuse_stale_session)
    async with web.client() as client:
        path = "/run_sse" if streaming else "/run"
        response = await told_behind_its_back(web, model, client.post(path, json=asked("hold this")))
        assert response.status_code == (200 if streaming else 409)
        assert ("SessionTakeover" if streaming else "transcript_takeover") in response.text
        (kept,) = await salvage.read(session_key(APP, USER, "c"))
        assert reply_to("hold this", 0) in str(kept)
        assert await ask(client, "go on", streaming=streaming) == reply_to("go on", 2)


@pytest.mark.filterwarnings(r"ignore:The `session` parameter is deprecated:DeprecationWarning")  # the app of ADK 2.7
async def test_a_live_session_passes_the_middleware_without_a_lane(tmp_path: Path) -> None:
    """The WebSocket works as before; a request of its session does not wait for it, nor it for the request."""
    web = Web(tmp_path, ScriptedModel())
    web.app.add_middleware(LaneMiddleware, key=KEY, trusted_keys=True)
    async with web.client() as client, AsgiDriver(web.app) as driver:
        target = f"/run_live?app_name={APP}&user_id={USER}&session_id=c&modalities=TEXT"
        live = driver.start_websocket(target, headers={"host": "127.0.0.1"})
        await live.accepted()
        live.send(json.dumps({"content": asked("hello")["newMessage"]}))
        assert "live hello" in str(await live.receive())
        assert "turnComplete" in str(await live.receive())
        assert await ask(client, "meanwhile", streaming=False) == reply_to("meanwhile", 1)
        live.disconnect()
        await live.finished()
        stored = [line.text for line in await web.stored()]
        assert stored == ["hello", "live hello", "meanwhile", reply_to("meanwhile", 1)]
