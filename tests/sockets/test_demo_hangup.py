"""The demo's protected server: a client that hangs up while its turn is being stored."""

import asyncio
import json
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from support.net_clients import openai_client
from support.net_http import connected, request
from support.server_loopback import uvicorn_serving
from turnlane import Lanes, Runtime
from turnlane.cli.demo.model import ScriptedModel
from turnlane.cli.demo.server import KEY_HEADER, create_protected_app
from turnlane.cli.demo.storage import ConversationStorage
from turnlane.hooks import TurnFinished, TurnQueued
from turnlane.testing import Gates, assert_no_leaks

pytestmark = [pytest.mark.sockets, pytest.mark.asyncio(loop_factories=["asyncio"])]

KEY = "agent:main:alice"


class HeldStorage(ConversationStorage):
    """Writes the first turn when it is told to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.began = asyncio.Event()
        self.go = threading.Event()
        self._loop = asyncio.get_running_loop()

    def _store_turn(self, key: str | None, session_id: str, user: str, assistant: str) -> None:
        self._loop.call_soon_threadsafe(self.began.set)
        self.go.wait(10)
        super()._store_turn(key, session_id, user, assistant)


async def test_a_turn_holds_its_lane_until_it_is_stored(tmp_path: Path) -> None:
    """What was begun is finished before the next turn reads the history, although the client has gone."""
    lanes = Lanes("memory://")
    gates = Gates(lanes.hooks)
    storage = HeldStorage(tmp_path)
    runtime = Runtime(lanes=lanes, sessions="memory://")
    app = create_protected_app(ScriptedModel(delay=0), storage, runtime=runtime)
    said = {"messages": [{"role": "user", "content": "I am Ada"}], "stream": True}
    sent = {KEY_HEADER.replace("-", "_"): KEY, "content_type": "application/json"}
    async with (
        uvicorn_serving(app) as port,
        connected(port) as leaver,
        openai_client(port) as client,
        asyncio.timeout(15),
    ):
        await leaver.send(
            request("/v1/chat/completions", json.dumps(said).encode(), length=None, method="POST", **sent)
        )
        await storage.began.wait()
        second = asyncio.create_task(
            client.responses.create(model="m", input="who am I?", extra_headers={KEY_HEADER: KEY})
        )
        await gates.at(TurnQueued).reached()
        leaver.leave()
        # Time for the wrong thing to happen: the turn ends, the next one starts and reads.
        with suppress(TimeoutError):
            await gates.at(TurnFinished).reached(timeout=0.2)
        waiting = lanes.statistics().waiting
        storage.go.set()
        reply = (await second).output_text
    assert waiting == 1
    assert reply == 'Turn 2. You said "who am I?". I remember 1 earlier message: "I am Ada".'
    assert_no_leaks(lanes)
