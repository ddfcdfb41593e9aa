"""strands: what its integration has beyond one turn after the other."""

import asyncio
import importlib
import inspect
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any

import anyio.from_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from strands import Agent
from strands.session.session_repository import SessionRepository

from support.example_output import example_output
from support.rigs.contract import Line, reply_to
from support.rigs.judging import damage
from support.rigs.strands import Scripted, lines_of
from support.strands_bench import AGENT, Bench, invoke, read
from turnlane import LaneMiddleware, Lanes, Runtime, Steer, current_turn
from turnlane.errors import (
    LaneBusy,
    SessionKeyInvalid,
    SessionKeyRequired,
    TranscriptTakeover,
    TurnInterrupted,
    TurnTimeout,
)
from turnlane.hooks import TurnInterruption, TurnQueued
from turnlane_integrations.strands import FencedRepository, LaneAgents

HERE = "look at integrations/turnlane_integrations/strands"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench, None]:
    made = Bench(tmp_path)
    async with made.salvage:
        yield made


HOW = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])


async def test_an_agent_is_made_when_its_turn_has_come(bench: Bench) -> None:
    """Not before the one ahead has stored its answer, or it would not know it; `make_agent` may be async."""
    made: list[tuple[str, list[Line]]] = []

    async def make_agent(session_id: str) -> Agent:
        turn = current_turn()
        assert turn is not None
        assert turn.key == session_id
        await asyncio.sleep(0)
        agent = bench.plain(session_id)
        made.append((session_id, lines_of(agent.messages)))
        return agent

    async with Runtime() as runtime:
        agents = LaneAgents(runtime, make_agent)
        first, second = await asyncio.gather(agents.invoke_async("c", "one"), agents.invoke_async("c", "two"))
    assert str(second).strip() == reply_to("two", 1)
    assert str(first).strip() == reply_to("one", 0)
    assert made == [("c", []), ("c", [Line("user", "one"), Line("assistant", reply_to("one", 0))])]


async def test_agents_that_are_kept_as_snapshots_take_turns_too(bench: Bench) -> None:
    """Of these the last one to write would win, with all it had not read."""
    session = pytest.importorskip("strands.session.snapshot_session_manager", reason="this strands has no snapshots")
    storage = importlib.import_module("strands.storage").LocalFileStorage(bench.directory)

    def make_agent(session_id: str) -> Agent:
        sessions = session.SnapshotSessionManager(session_id, storage=storage)
        return Agent(model=Scripted(bench.model), agent_id=AGENT, session_manager=sessions, callback_handler=None)

    async with Runtime() as runtime:
        agents = LaneAgents(runtime, make_agent)
        sent = ["one", "two", "three"]
        found = await asyncio.gather(*(agents.invoke_async("c", text) for text in sent))
    answers = {text: str(answer).strip() for text, answer in zip(sent, found, strict=True)}
    assert damage(sent, answers, lines_of(make_agent("c").messages)) == []


def test_invocations_are_not_made_one_of_several_nor_taken_back() -> None:
    """An agent is asked one thing: what of others it would be made of nobody would see. What it has stored stays."""
    steering = Runtime(lanes=Lanes("memory://", policy=Steer()))
    for runtime, policy in ((Runtime(), "coalesce"), (Runtime(), "rollback"), (steering, None)):
        with pytest.raises(ValueError, match="not made one of several"):
            LaneAgents(runtime, lambda _: pytest.fail("no agent is needed"), policy=policy)


async def test_options_go_to_the_agent(bench: Bench) -> None:
    """What the agent takes by name, it is given."""
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, bench.plain)
        whole: dict[str, Any] = {}
        streamed: dict[str, Any] = {}
        await agents.invoke_async("c", "one", invocation_state=whole)
        await read(agents.stream_async("c", "two", invocation_state=streamed))
    for state in (whole, streamed):
        assert isinstance(state["agent"], Agent), "strands adds the agent to the state it was given"


async def test_an_interrupted_agent_stops_as_strands_stops_it(bench: Bench) -> None:
    """Long before the grace is over: its caller gets the result of a cancelled agent, and what is stored is whole."""
    async with Runtime() as runtime:
        asked: asyncio.Queue[TurnInterruption] = asyncio.Queue()
        runtime.hooks.on(TurnInterruption, asked.put_nowait)
        agents = LaneAgents(runtime, bench.plain)
        newest = LaneAgents(runtime, bench.plain, policy="interrupt")
        events = asyncio.create_task(read(agents.stream_async("c", "hold one")))
        await bench.model.entered["hold one"].wait()
        newer = asyncio.create_task(newest.invoke_async("c", "two"))
        await asked.get()
        bench.model.go["hold one"].set()
        result = (await events)[-1]["result"]
        assert result.stop_reason == "cancelled"
        assert str(await newer).strip() == reply_to("two", 1)
    stored = bench.history("c")
    assert [line.role for line in stored] == ["user", "assistant"] * 2
    assert stored[1].text == str(result).strip()


async def test_an_interrupted_agent_that_does_not_stop_is_cancelled(bench: Bench) -> None:
    """When the grace is over; nothing of its answer is stored."""
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, bench.fenced)
        running = asyncio.create_task(agents.invoke_async("c", "hold one"))
        await bench.model.entered["hold one"].wait()
        assert runtime.lanes.interrupt("c", grace=0)
        with pytest.raises(TurnInterrupted):
            await running
        with pytest.raises(TurnTimeout):
            await LaneAgents(runtime, bench.fenced, turn_timeout=0.01).invoke_async("c", "hold two")
        assert str(await agents.invoke_async("c", "three")).strip() == reply_to("three", 2)


async def test_a_policy_is_that_of_these_agents(bench: Bench) -> None:
    """`policy="reject"`: the session is busy, and the model is not asked."""
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, bench.plain, policy="reject")
        running = asyncio.create_task(agents.invoke_async("c", "hold one"))
        await bench.model.entered["hold one"].wait()
        with pytest.raises(LaneBusy):
            await agents.invoke_async("c", "two")
        bench.model.go["hold one"].set()
        await running
    assert bench.model.calls == [["hold one"]]


@HOW
async def test_behind_the_middleware_an_invocation_joins_the_turn_of_its_request(bench: Bench, streaming: bool) -> None:
    """Nobody waits for themselves, and requests take their turns."""
    runtime = Runtime()
    agents = LaneAgents(runtime, bench.fenced)

    async def answer(request: Request) -> PlainTextResponse:
        text = (await request.body()).decode()
        return PlainTextResponse(await invoke(agents, request.headers["x-session"], text, streaming=streaming))

    app = LaneMiddleware(
        Starlette(routes=[Route("/", answer, methods=["POST"])]), key="x-session", runtime=runtime, trusted_keys=True
    )
    queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
    runtime.hooks.on(TurnQueued, queued.put_nowait)
    async with (
        runtime,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as client,
    ):
        ask = partial(client.post, "/", headers={"x-session": "c"})
        first = asyncio.create_task(ask(content="hold one"))
        await bench.model.entered["hold one"].wait()
        second = asyncio.create_task(ask(content="hold two"))
        await queued.get()
        for text in ("hold one", "hold two"):
            bench.model.go[text].set()
        answers = {"hold one": (await first).text, "hold two": (await second).text}
        assert damage(["hold one", "hold two"], answers, bench.history("c")) == []
        third = asyncio.create_task(ask(content="hold three"))
        await bench.model.entered["hold three"].wait()
        await bench.plain("c").invoke_async("a stranger")
        bench.model.go["hold three"].set()
        with pytest.raises(TranscriptTakeover):  # an app answers it with 409 by `turnlane.asgi.refuse`
            await third


@pytest.mark.parametrize(
    ("session_id", "error"),
    [(None, SessionKeyRequired), (" ", SessionKeyRequired), (7, SessionKeyInvalid), ("a\nb", SessionKeyInvalid)],
)
@HOW
async def test_what_names_no_session_is_refused(
    bench: Bench, session_id: Any, error: type[Exception], streaming: bool
) -> None:
    """No agent is made."""

    def make_agent(session_id: str) -> Agent:
        raise AssertionError(session_id)

    async with Runtime() as runtime:
        with pytest.raises(error, match="session"):
            await invoke(LaneAgents(runtime, make_agent), session_id, "one", streaming=streaming)


@HOW
async def test_an_agent_that_can_not_be_made_lets_the_lane_go(bench: Bench, streaming: bool) -> None:
    """Its error is what it is."""
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, bench.fenced)
        with pytest.raises(ValueError, match="path separators"):
            await invoke(agents, "a/b", "one", streaming=streaming)
        assert runtime.lanes.statistics().lanes == 0


async def test_from_a_thread_it_is_one_call(bench: Bench) -> None:
    """An endpoint that is not async runs in a thread of anyio, which can call back into the loop."""
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, bench.plain)

        def endpoint(text: str) -> str:
            return str(anyio.from_thread.run(agents.invoke_async, "c", text)).strip()

        sent = ["one", "two"]
        found = await asyncio.gather(*(anyio.to_thread.run_sync(endpoint, text) for text in sent))
    order = [line.text for line in bench.history("c") if line.role == "user"]
    assert damage(order, dict(zip(sent, found, strict=True)), bench.history("c")) == []


def test_what_is_relied_on_of_strands_is_there() -> None:
    """Another version of it that has changed one of these has to be looked at before it is allowed."""
    for method in (Agent.invoke_async, Agent.stream_async):
        first = list(inspect.signature(method).parameters)[1]
        assert first == "prompt", (
            f"strands.Agent.{method.__name__} begins with {first!r}, not `prompt`: {HERE}/agents.py"
        )
    assert inspect.isasyncgenfunction(Agent.stream_async), (
        f"strands.Agent.stream_async is no async generator function any more, and can not be closed: {HERE}/agents.py"
    )
    cancel = inspect.signature(Agent.cancel).parameters.values()
    needed = [each.name for each in cancel if each.default is each.empty and each.name != "self"]
    assert needed == [], f"strands.Agent.cancel needs {needed}: {HERE}/agents.py"
    changed = {
        name
        for name in vars(SessionRepository)
        if not name.startswith("_")
        and inspect.signature(getattr(SessionRepository, name)) != inspect.signature(getattr(FencedRepository, name))
        and str(inspect.signature(getattr(SessionRepository, name)))
        != str(inspect.signature(getattr(FencedRepository, name)))
    }
    assert changed == set(), f"strands' SessionRepository has other {sorted(changed)}: {HERE}/fence.py"


def test_the_example_shows_two_messages_that_overlap(tmp_path: Path) -> None:
    """Strands alone loses the second; in lanes it is answered with the first in mind."""
    assert example_output("strands_agents.py", directory=tmp_path) == [
        "strands alone:",
        "  user: I live in London",
        "  assistant: you told me ['I live in London']",
        "in lanes:",
        "  user: I am Bob",
        "  assistant: you told me ['I am Bob']",
        "  user: I live in Paris",
        "  assistant: you told me ['I am Bob', 'I live in Paris']",
        """the callers got: "you told me ['I am Bob']" and "you told me ['I am Bob', 'I live in Paris']\"""",
    ]
    assert list(tmp_path.iterdir()) == []
