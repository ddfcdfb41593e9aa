"""Agents of pydantic-ai that take turns in threads: `run_sync`, which does its work in the event loop of the lanes."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from anyio import to_thread
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from support.blocks import LONGEST
from support.rigs import ScriptedModel
from support.rigs.pydantic_ai import scripted
from turnlane import LaneMiddleware, Runtime, Transcripts, current_turn
from turnlane.errors import NotConfigured
from turnlane.hooks import TurnQueued
from turnlane.testing import AsgiDriver
from turnlane_integrations.pydantic_ai import LaneAgent, TranscriptConversationStore


def agent_of(model: ScriptedModel, runtime: Runtime, directory: Path) -> LaneAgent[None, str]:
    store = TranscriptConversationStore(Transcripts(directory / "conversations"))
    return LaneAgent(Agent(scripted(model)), runtime=runtime, store=store)


async def test_a_thread_takes_its_turn_in_the_loop_of_the_lanes(tmp_path: Path) -> None:
    """Its message waits for one that is awaited; what would need a loop of its own is refused."""
    model, runtime, queued = ScriptedModel(), Runtime(), asyncio.Queue[TurnQueued]()
    runtime.hooks.on(TurnQueued, queued.put_nowait)
    agent = agent_of(model, runtime, tmp_path)
    first = asyncio.create_task(agent.run("hold one", conversation_id="c"))
    await model.entered["hold one"].wait()
    second = asyncio.create_task(asyncio.to_thread(agent.run_sync, "two", conversation_id="c"))
    await queued.get()
    with pytest.raises(NotConfigured, match="await run_stream"):
        await asyncio.to_thread(agent.run_stream_sync, "three", conversation_id="c")
    model.go["hold one"].set()
    assert [(await first).output, (await second).output] == ["re hold one after 0", "re two after 1"]
    with pytest.raises(NotConfigured, match="await run"):
        agent.run_sync("four", conversation_id="c")


async def test_in_an_event_loop_it_is_refused_before_the_lanes_are_used(tmp_path: Path) -> None:
    """And says what to await, as later."""
    with pytest.raises(NotConfigured, match="await run"):
        agent_of(ScriptedModel(), Runtime(), tmp_path).run_sync("one", conversation_id="c")


@pytest.mark.parametrize("lanes", ["memory://", "file://{}/lanes"], ids=["memory", "file"])
def test_threads_without_a_loop_take_turns(lanes: str, tmp_path: Path) -> None:
    """They have one together, which ends with the agent."""
    agent = agent_of(ScriptedModel(), Runtime(lanes=lanes.format(tmp_path)), tmp_path)
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(agent.run_sync, text, conversation_id="c") for text in ("one", "two", "three")]
        answers = [each.result().output for each in asked]
    assert sorted(answer[-1] for answer in answers) == ["0", "1", "2"]
    assert agent.run_sync("four", conversation_id="c").output == "re four after 3"
    assert agent.name == "agent"
    agent.close()


@pytest.mark.parametrize("streamed", [False, True], ids=["run_sync", "run_stream_sync"])
def test_a_program_without_a_loop_has_let_its_lane_go(streamed: bool, lend: Callable[[], str], tmp_path: Path) -> None:
    """Nothing is left to be told to the engine in an event loop that does not run any more; and threads have turns."""
    lanes = lend()
    agent = agent_of(ScriptedModel(), Runtime(lanes=lanes), tmp_path)

    async def as_another_process() -> None:
        async with Runtime(lanes=lanes) as other, other.turn("c", policy="reject"):
            pass

    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as threads:
        asyncio.set_event_loop(runner.get_loop())  # which is what pydantic-ai runs, and the runner ends
        if streamed:
            with agent.run_stream_sync("one", conversation_id="c") as result:
                assert result.get_output() == "re one after 0"
        else:
            assert agent.run_sync("one", conversation_id="c").output == "re one after 0"
        threads.submit(asyncio.run, as_another_process()).result()
        assert threads.submit(agent.run_sync, "two", conversation_id="c").result().output == "re two after 1"
        agent.close()


async def test_an_endpoint_that_is_not_async_goes_on_in_the_turn_of_its_request(tmp_path: Path) -> None:
    """Nobody waits for itself there."""
    runtime, seen = Runtime(), list[object]()
    agent = agent_of(ScriptedModel(), runtime, tmp_path)

    def run(text: str) -> str:
        seen.append(current_turn())
        return agent.run_sync(text, conversation_id="c").output

    async def answer(request: Request) -> PlainTextResponse:
        seen.append(request.state.turn)
        return PlainTextResponse(await run_in_threadpool(run, (await request.body()).decode()))

    app = LaneMiddleware(
        Starlette(routes=[Route("/", answer, methods=["POST"])]), key="x-key", runtime=runtime, trusted_keys=True
    )
    async with AsgiDriver(app) as driver:
        requests = [driver.start("POST", "/", headers={"x-key": "c"}, body=text) for text in (b"one", b"two")]
        answers = [(await request.response()).text for request in requests]
    assert answers == ["re one after 0", "re two after 1"]
    assert seen[0] is seen[1]


async def test_what_an_agent_does_in_threads_goes_on_while_others_wait_for_theirs(tmp_path: Path) -> None:
    """An endpoint that is not async waits for the event loop, where its tools want a thread like its own."""
    async with Runtime() as runtime, asyncio.timeout(LONGEST):
        plain = Agent(TestModel())

        @plain.tool_plain
        def look_up() -> str:
            return "found"

        store = TranscriptConversationStore(Transcripts(tmp_path))
        agent = LaneAgent(plain, runtime=runtime, store=store)
        threads = to_thread.current_default_thread_limiter()
        usual, threads.total_tokens = threads.total_tokens, 1
        asked = [to_thread.run_sync(partial(agent.run_sync, "hi", conversation_id=each)) for each in ("a", "b", "b")]
        assert [each.output for each in await asyncio.gather(*asked)] == ['{"look_up":"found"}'] * 3
        threads.total_tokens = usual


@pytest.mark.parametrize("whole", [True, False], ids=["read to its end", "left in the middle"])
@pytest.mark.parametrize("streamed", [False, True], ids=["run_sync", "run_stream_sync"])
def test_a_stream_without_a_block_is_left_by_the_next_run(whole: bool, streamed: bool, tmp_path: Path) -> None:
    """Its turn ends, which nobody else can bring about; it is saved if it was read to its end. Others go on."""
    agent = agent_of(ScriptedModel(), Runtime(), tmp_path)
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        other = agent.run_stream_sync("other", conversation_id="d")
        answer = agent.run_stream_sync("one", conversation_id="c")
        if whole:
            assert answer.get_output() == "re one after 0"
        else:
            assert next(answer.stream_text(delta=True, debounce_by=None)).strip() == "re"
        after = "re two after 1" if whole else "re two after 0"
        if streamed:
            with agent.run_stream_sync("two", conversation_id="c") as following:
                assert following.get_output() == after
        else:
            assert agent.run_sync("two", conversation_id="c").output == after
        with other:
            assert other.get_output() == "re other after 0"
