"""The web app that pydantic-ai ships, and its adapters in an app of one's own, behind `LaneMiddleware`, unchanged."""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic_ai import Agent
from pydantic_ai.conversation_store import ConversationStore, InMemoryConversationStore
from pydantic_ai.ui import UIAdapter
from pydantic_ai.ui.ag_ui import AGUIAdapter
from pydantic_ai.ui.vercel_ai import VercelAIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from support.conversations import store_in, tamper, texts, turn_of
from support.rigs import ScriptedModel
from support.rigs.pydantic_ai import scripted
from support.server_loopback import uvicorn_serving
from turnlane import LaneMiddleware, Runtime, keys
from turnlane.hooks import TurnQueued
from turnlane.keys import KeyExtractor
from turnlane.testing import AsgiDriver, HttpRequest

with_a_store = pytest.mark.skipif(
    tuple(map(int, version("pydantic-ai-slim").split(".")[:2])) < (2, 68), reason="adapters take a store since 2.68"
)

CHANGED = "changed by another request"
HEADERS = {"content-type": "application/json", "host": "localhost", "x-user": "alice"}


@dataclass(frozen=True)
class Protocol:
    """How a protocol asks, and where it has the conversation's id."""

    adapter: type[UIAdapter[Any, Any, Any, Any, Any]]
    key: KeyExtractor

    def body(self, conversation_id: str, text: str) -> bytes:
        """Return what a client sends that leaves the history to the server."""
        if self.adapter is AGUIAdapter:
            message = {"id": f"id of {text}", "role": "user", "content": text}
            rest: dict[str, Any] = {"runId": text, "state": {}, "tools": [], "context": [], "forwardedProps": {}}
            return json.dumps({"threadId": conversation_id, "messages": [message], **rest}).encode()
        ui = {"id": f"id of {text}", "role": "user", "parts": [{"type": "text", "text": text}]}
        return json.dumps({"trigger": "submit-message", "id": conversation_id, "messages": [ui]}).encode()


PROTOCOLS = {
    "ag-ui": Protocol(AGUIAdapter, keys.ag_ui()),
    "vercel": Protocol(VercelAIAdapter, keys.json_body("id")),
}


@pytest.fixture(params=list(PROTOCOLS))
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Each protocol there is an adapter for."""
    return PROTOCOLS[request.param]


def app_of(protocol: Protocol, model: ScriptedModel, store: ConversationStore, *, scoped: bool = False) -> Starlette:
    """Return an app that a user of pydantic-ai has."""
    agent = Agent(scripted(model))

    async def chat(request: Request) -> Response:
        scope = request.headers["x-user"] if scoped else None
        return await protocol.adapter.dispatch_request(
            request, agent=agent, conversation_store=store, conversation_scope=scope
        )

    return Starlette(routes=[Route("/chat", chat, methods=["POST"])])


@asynccontextmanager
async def runtime_that_lets_go() -> AsyncGenerator[Runtime, None]:
    async with Runtime() as runtime:
        yield runtime
        statistics = runtime.lanes.statistics()
        assert (statistics.lanes, statistics.running, statistics.waiting) == (0, 0, 0), "a lane was not let go"


@pytest.fixture
async def runtime() -> AsyncGenerator[Runtime, None]:
    """Lanes, all of which are let go in the end."""
    async with runtime_that_lets_go() as found:
        yield found


def watch(runtime: Runtime) -> "asyncio.Queue[TurnQueued]":
    queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
    runtime.hooks.on(TurnQueued, queued.put_nowait)
    return queued


def post(driver: AsgiDriver, protocol: Protocol, text: str, *, path: str = "/chat", to: str = "c") -> HttpRequest:
    return driver.start("POST", path, headers=HEADERS, body=protocol.body(to, text))


async def stored(store: ConversationStore, conversation_id: str = "c") -> list[str]:
    found = await store.load(conversation_id)
    return [] if found is None else texts(found.messages)


@with_a_store
async def test_alone_one_of_two_requests_is_answered_for_nothing(protocol: Protocol) -> None:
    """Both call the model, and one is told to reload in the end; so that the next test shows something."""
    model, store = ScriptedModel(together=2), InMemoryConversationStore()
    async with AsgiDriver(app_of(protocol, model, store)) as driver:
        requests = [post(driver, protocol, text) for text in ("one", "two")]
        answers = [(await request.response()).text for request in requests]
    assert sorted(answer.count(CHANGED) for answer in answers) == [0, 1]
    assert len(model.calls) == 2
    assert len(await stored(store)) == 2


@with_a_store
@pytest.mark.parametrize("scoped", [False, True], ids=["by id", "by user and id"])
async def test_behind_the_middleware_both_are_answered(
    protocol: Protocol, scoped: bool, runtime: Runtime, tmp_path: Path
) -> None:
    """One after the other, the stream and the saving included; each is shown what the ones before it have stored."""
    model, queued = ScriptedModel(), watch(runtime)
    key = keys.scoped_by(lambda connection: connection.headers["x-user"], protocol.key) if scoped else protocol.key
    async with store_in("sqlite", tmp_path) as (store, _):
        app = app_of(protocol, model, store, scoped=scoped)
        app.add_middleware(LaneMiddleware, key=key, runtime=runtime, trusted_keys=True)
        async with AsgiDriver(app) as driver:
            first = post(driver, protocol, "hold one")
            await model.entered["hold one"].wait()
            second = post(driver, protocol, "two")
            await queued.get()
            assert len(model.calls) == 1
            model.go["hold one"].set()
            answers = [(await request.response()).text for request in (first, second)]
        assert not any(CHANGED in answer for answer in answers)
        assert await stored(store) == ["hold one", "re hold one after 0", "two", "re two after 1"]


@with_a_store
async def test_a_client_that_leaves_has_said_nothing(protocol: Protocol, runtime: Runtime, tmp_path: Path) -> None:
    """While it waits, or while it is answered: who comes behind it is answered."""
    model, queued = ScriptedModel(), watch(runtime)
    async with store_in("files", tmp_path) as (store, _):
        app = LaneMiddleware(app_of(protocol, model, store), key=protocol.key, runtime=runtime, trusted_keys=True)
        async with AsgiDriver(app) as driver:
            leaving = post(driver, protocol, "hold one")
            await model.entered["hold one"].wait()
            waiting = post(driver, protocol, "two")
            await queued.get()
            third = post(driver, protocol, "three")
            await queued.get()
            waiting.disconnect()
            await waiting.finished()
            leaving.disconnect()
            assert "three" in (await third.response()).text
        assert await stored(store) == ["three", "re three after 0"]
    assert model.calls == [["hold one"], ["three"]]


@with_a_store
async def test_a_foreign_change_is_told_in_the_stream(protocol: Protocol, runtime: Runtime, tmp_path: Path) -> None:
    """As pydantic-ai tells of a conflict; the answer is kept, and the next request goes on from what is there."""
    model = ScriptedModel()
    async with store_in("files", tmp_path) as (store, _):
        await turn_of(store, "c", "before")
        app = LaneMiddleware(app_of(protocol, model, store), key=protocol.key, runtime=runtime, trusted_keys=True)
        async with AsgiDriver(app) as driver:
            request = post(driver, protocol, "hold one")
            await model.entered["hold one"].wait()
            tamper("files", tmp_path, "c", old="re before", new="by hand")
            model.go["hold one"].set()
            assert CHANGED in (await request.response()).text
            assert CHANGED not in (await post(driver, protocol, "two").response()).text
        assert await stored(store) == ["before", "by hand", "two", "re two after 1"]
    assert "re hold one after 1" in (tmp_path / "conversations" / "c.salvage.jsonl").read_text()


@with_a_store
@pytest.mark.sockets
async def test_over_sockets_every_turn_is_whole(protocol: Protocol, runtime: Runtime, tmp_path: Path) -> None:
    """Ten conversations, four requests of each at once."""
    model = ScriptedModel(seed=1)
    conversations = {f"c{number}": [f"c{number} m{place}" for place in range(4)] for number in range(10)}
    async with store_in("sqlite", tmp_path) as (store, _):
        app = app_of(protocol, model, store)
        app.add_middleware(LaneMiddleware, key=protocol.key, runtime=runtime, trusted_keys=True)
        async with uvicorn_serving(app) as port, httpx.AsyncClient(timeout=60) as client:

            async def ask(conversation_id: str, text: str) -> None:
                body = protocol.body(conversation_id, text)
                response = await client.post(f"http://127.0.0.1:{port}/chat", content=body, headers=HEADERS)
                assert response.status_code == 200
                assert CHANGED not in response.text

            asked = [(conversation, text) for conversation, said in conversations.items() for text in said]
            await asyncio.gather(*(ask(*each) for each in asked))
        for conversation, said in conversations.items():
            told = await stored(store, conversation)
            assert sorted(told[::2]) == said
            assert told[1::2] == [f"re {text} after {place}" for place, text in enumerate(told[::2])]


async def test_the_app_that_is_shipped_runs_two_requests_of_a_chat_at_once() -> None:
    """It keeps no history, its client does; so that the next test shows something."""
    model = ScriptedModel(together=2)
    app = Agent(scripted(model)).to_web()
    async with AsgiDriver(app) as driver:
        requests = [post(driver, PROTOCOLS["vercel"], text, path="/api/chat") for text in ("one", "two")]
        assert [(await request.response()).status for request in requests] == [200, 200]
    assert len(model.calls) == 2


async def test_the_app_that_is_shipped_takes_turns_behind_the_middleware(runtime: Runtime) -> None:
    """One chat's requests one after the other; another chat, and what is no chat, wait for nobody."""
    model, queued, vercel = ScriptedModel(), watch(runtime), PROTOCOLS["vercel"]
    app = Agent(scripted(model)).to_web()
    app.add_middleware(LaneMiddleware, key=vercel.key, runtime=runtime, trusted_keys=True)
    async with AsgiDriver(app) as driver:
        first = post(driver, vercel, "hold one", path="/api/chat")
        await model.entered["hold one"].wait()
        second = post(driver, vercel, "two", path="/api/chat")
        assert (await queued.get()).key == "c"
        other = post(driver, vercel, "other", path="/api/chat", to="d")
        assert "other" in (await other.response()).text
        assert (await driver.start("GET", "/api/health", headers=HEADERS).response()).json() == {"ok": True}
        wrong = driver.start("POST", "/api/chat", headers={**HEADERS, "content-type": "text/plain"}, body=b"hello")
        assert (await wrong.response()).status == 415
        assert model.calls == [["hold one"], ["other"]]
        model.go["hold one"].set()
        assert [(await request.response()).status for request in (first, second)] == [200, 200]
    assert model.calls == [["hold one"], ["other"], ["two"]]


@with_a_store
def test_adapters_take_a_store() -> None:
    """Fails where another version of pydantic-ai has it otherwise."""
    found = set(inspect.signature(UIAdapter.dispatch_request).parameters)
    gone = {"conversation_store", "conversation_scope"} - found
    assert not gone, f"UIAdapter.dispatch_request has no {', '.join(gone)} any more: look at integrations/README.md"


def test_the_id_of_a_conversation_is_where_it_is_looked_for(protocol: Protocol) -> None:
    """Fails where another version of a protocol has it elsewhere."""
    body = protocol.body("c", "hello")
    adapter: Any = protocol.adapter
    found = adapter(agent=Agent("test"), run_input=adapter.build_run_input(body)).conversation_id
    assert found == "c", f"{adapter.__name__} has the id elsewhere now: look at its key in integrations/README.md"
