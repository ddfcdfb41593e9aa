"""What is special about runs of openai-agents: streams, tools, approvals, policies, and the interface relied on."""

import asyncio
import inspect
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agents
import pytest
from agents import OpenAIConversationsSession, Runner, RunResultStreaming, Session, SQLiteSession, function_tool
from agents.memory import is_openai_responses_compaction_aware_session
from agents.run import RunOptions
from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from support.example_output import example_output
from support.rigs import Line, ScriptedModel
from support.rigs.contract import ModelFailed, reply_to
from support.rigs.openai_agents import UNTRACED
from support.rigs.openai_agents_calls import agent_of, kinds_of, lines_in, words_of
from turnlane import Coalesce, Interrupt, LaneMiddleware, Lanes, Rollback, Runtime, Steer, Transcripts, current_turn
from turnlane.errors import (
    LaneBusy,
    NotConfigured,
    SessionKeyInvalid,
    SessionKeyRequired,
    TurnCoalesced,
    TurnInterrupted,
    TurnTimeout,
)
from turnlane.hooks import TurnFinished, TurnQueued
from turnlane.messages import joined
from turnlane.testing import AsgiDriver
from turnlane_integrations.openai_agents import FencedSession, LaneRunner, TranscriptSession

HOW = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
MEMORIES = pytest.mark.parametrize("memory", ["sqlite", "fenced", "transcript"])


@asynccontextmanager
async def session_in(memory: str, directory: Path) -> AsyncGenerator[Session, None]:
    """Open a session of one of the kinds a `LaneRunner` knows."""
    async with Transcripts(directory / "transcripts") as transcripts:
        with closing(SQLiteSession("c", directory / "s.db")) as stored:
            if memory == "transcript":
                yield TranscriptSession("c", transcripts)
            else:
                yield FencedSession(stored, salvage=transcripts) if memory == "fenced" else stored


async def ask(runner: LaneRunner, agent: Any, text: Any, session: Session, *, streaming: bool = False) -> str:
    if not streaming:
        return str((await runner.run(agent, text, session=session, run_config=UNTRACED)).final_output)
    async with runner.run_streamed(agent, text, session=session, run_config=UNTRACED) as result:
        async for _ in words_of(result):
            pass
    return str(result.final_output)


def lanes_of(runtime: Runtime) -> int:
    return runtime.lanes.statistics().lanes


# -- streams


@MEMORIES
async def test_who_leaves_a_stream_early_is_done_with_the_run(memory: str, tmp_path: Path) -> None:
    """The run is cancelled, its lane is free, and the message stays without an answer."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in(memory, tmp_path) as session:
        runner = LaneRunner(runtime)
        async with runner.run_streamed(agent_of(model), "hold", session=session, run_config=UNTRACED) as result:
            async for word in words_of(result):
                assert word == "re"
                break
        assert result.run_loop_task is not None
        assert result.run_loop_task.done()
        assert lanes_of(runtime) == 0
        assert await lines_in(session) == [Line("user", "hold")]
        assert await ask(runner, agent_of(model), "two", session, streaming=True) == reply_to("two", 1)


async def test_a_stream_that_nobody_reads_is_cancelled(tmp_path: Path) -> None:
    """The end of the block is the end of the run."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in("sqlite", tmp_path) as session:
        async with LaneRunner(runtime).run_streamed(
            agent_of(model), "hold", session=session, run_config=UNTRACED
        ) as run:
            await model.entered["hold"].wait()
        assert run.run_loop_task is not None
        assert run.run_loop_task.done()
        assert lanes_of(runtime) == 0


@MEMORIES
async def test_an_exception_in_the_block_is_the_one_that_is_raised(memory: str, tmp_path: Path) -> None:
    """Whatever the run makes of its end."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in(memory, tmp_path) as session:
        runner = LaneRunner(runtime)

        async def fail_at_once() -> None:
            async with runner.run_streamed(agent_of(model), "hold", session=session, run_config=UNTRACED) as result:
                async for _ in words_of(result):
                    raise LookupError("ours")

        with pytest.raises(LookupError, match="ours"):
            await fail_at_once()
        assert lanes_of(runtime) == 0
        assert await ask(runner, agent_of(model), "two", session) == reply_to("two", 1)


async def test_a_model_that_fails_in_the_middle_is_told_by_the_stream(tmp_path: Path) -> None:
    """And once only: who catches it there goes on."""
    model = ScriptedModel()
    model.go["hold and fail"].set()
    async with Runtime() as runtime, session_in("transcript", tmp_path) as session:
        runner = LaneRunner(runtime)
        async with runner.run_streamed(agent_of(model), "hold and fail", session=session, run_config=UNTRACED) as run:
            words = words_of(run)
            assert await anext(words) == "re"
            with pytest.raises(ModelFailed):
                await anext(words)
        assert lanes_of(runtime) == 0


@MEMORIES
async def test_a_reader_that_is_cancelled_lets_the_lane_go(memory: str, tmp_path: Path) -> None:
    """When the run has ended."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in(memory, tmp_path) as session:
        runner = LaneRunner(runtime)
        reading = asyncio.create_task(ask(runner, agent_of(model), "hold", session, streaming=True))
        await model.entered["hold"].wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert lanes_of(runtime) == 0
        assert await ask(runner, agent_of(model), "two", session) == reply_to("two", 1)


async def test_a_cancellation_while_a_run_ends_is_not_lost(tmp_path: Path) -> None:
    """A tool that cleans up holds the lane until it has; a deadline over the block is still one."""
    model, cleaning, clean = ScriptedModel(), asyncio.Event(), asyncio.Event()
    started = asyncio.Event()

    @function_tool
    async def look() -> str:
        """Look."""
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await clean.wait()
        return "nothing"

    agent = agent_of(model, calls={"look": ("look", {})}, tools=[look])
    async with Runtime() as runtime, session_in("sqlite", tmp_path) as session:

        async def leave_early() -> None:
            async with LaneRunner(runtime).run_streamed(agent, "look", session=session, run_config=UNTRACED):
                await started.wait()

        leaving = asyncio.create_task(leave_early())
        await cleaning.wait()
        leaving.cancel()
        await asyncio.sleep(0)
        assert not leaving.done()
        assert lanes_of(runtime) == 1
        clean.set()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert lanes_of(runtime) == 0


@MEMORIES
async def test_a_run_that_is_asked_to_stop_after_its_turn_stores_it(memory: str, tmp_path: Path) -> None:
    """Who goes on reading has the call and its output stored; no model is called again."""
    model = ScriptedModel()

    @function_tool
    async def look() -> str:
        """Look."""
        return "a whale"

    agent = agent_of(model, calls={"look": ("look", {})}, tools=[look])
    async with Runtime() as runtime, session_in(memory, tmp_path) as session:
        runner = LaneRunner(runtime)
        async with runner.run_streamed(agent, "look", session=session, run_config=UNTRACED) as result:
            async for event in result.stream_events():
                if event.type == "raw_response_event":
                    result.cancel(mode="after_turn")
        assert await kinds_of(session) == ["user", "function_call", "function_call_output"]
        assert model.calls == []
        assert lanes_of(runtime) == 0
        assert await ask(runner, agent, "two", session) == reply_to("two", 1)


# -- agents that call agents


@MEMORIES
@HOW
async def test_a_tool_that_asks_another_agent_of_the_session_joins(
    memory: str, streaming: bool, tmp_path: Path
) -> None:
    """It does not wait for the run it is called by; what it said is stored, and so is what was said around it."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in(memory, tmp_path) as session:
        finished: list[TurnFinished] = []
        runtime.hooks.on(TurnFinished, finished.append)
        runner, expert = LaneRunner(runtime), agent_of(model, name="Expert")

        @function_tool
        async def expertise() -> str:
            """Ask the expert."""
            return await ask(runner, expert, "an expert's view", session, streaming=streaming)

        agent = agent_of(model, calls={"look": ("expertise", {})}, tools=[expertise])
        async with asyncio.timeout(20):
            assert await ask(runner, agent, "look", session, streaming=streaming) == reply_to("look", 0)
        assert model.calls == [["look", "an expert's view"], ["look"]]
        assert len(finished) == 1
        kinds = await kinds_of(session)
        assert sorted(kinds) == [
            *("assistant", "assistant", "function_call", "function_call_output", "user", "user"),
        ]
        assert await ask(runner, agent, "two", session, streaming=streaming) == reply_to("two", 2)


@MEMORIES
@HOW
async def test_a_handoff_is_part_of_its_turn(memory: str, streaming: bool, tmp_path: Path) -> None:
    """The other agent answers, and all of it is stored before the next message is."""
    model = ScriptedModel()
    expert = agent_of(model, name="Expert")
    agent = agent_of(model, calls={"look": ("transfer_to_expert", {})}, handoffs=[expert])
    async with Runtime() as runtime, session_in(memory, tmp_path) as session:
        runner = LaneRunner(runtime)
        asked = [
            asyncio.create_task(ask(runner, agent, text, session, streaming=streaming)) for text in ("look", "two")
        ]
        assert await asyncio.gather(*asked) == [reply_to("look", 0), reply_to("two", 1)]
        assert await kinds_of(session) == [
            *("user", "function_call", "function_call_output", "assistant", "user", "assistant"),
        ]


@MEMORIES
@HOW
async def test_a_run_that_waits_for_an_approval_is_resumed_in_a_turn_of_its_own(
    memory: str, streaming: bool, tmp_path: Path
) -> None:
    """Its lane is free meanwhile; each call stays with its output, and all that was said is stored once."""
    model, done = ScriptedModel(), list[str]()

    @function_tool(needs_approval=True)
    async def delete(name: str) -> str:
        """Delete a file."""
        done.append(name)
        return "deleted"

    agent = agent_of(model, calls={"clean up": ("delete", {"name": "a.txt"})}, tools=[delete])
    async with Runtime() as runtime, session_in(memory, tmp_path) as session:
        runner = LaneRunner(runtime)
        if streaming:
            async with runner.run_streamed(agent, "clean up", session=session, run_config=UNTRACED) as result:
                async for _ in result.stream_events():
                    pass
            interruptions, state = result.interruptions, result.to_state()
        else:
            whole = await runner.run(agent, "clean up", session=session, run_config=UNTRACED)
            interruptions, state = whole.interruptions, whole.to_state()
        assert (len(interruptions), done, lanes_of(runtime)) == (1, [], 0)
        await ask(runner, agent, "meanwhile", session, streaming=streaming)
        state.approve(interruptions[0])
        assert await ask(runner, agent, state, session, streaming=streaming) != ""
        assert done == ["a.txt"]
        kinds = await kinds_of(session)
        assert sorted(kinds) == [
            *("assistant", "assistant", "function_call", "function_call_output", "user", "user"),
        ]
        texts = [line.text for line in await lines_in(session)]
        assert len(set(texts)) == len(texts)
        assert (await ask(runner, agent, "three", session, streaming=streaming)).startswith("re three after 2")


# -- policies, deadlines and turns of others


@MEMORIES
@HOW
async def test_an_interrupting_run_takes_the_place_of_the_running_one(
    memory: str, streaming: bool, tmp_path: Path
) -> None:
    """The old one ends with `TurnInterrupted`, its message stays; the new one is answered."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in(memory, tmp_path) as session:
        runner = LaneRunner(runtime, policy=Interrupt(grace=0))
        old = asyncio.create_task(ask(runner, agent_of(model), "hold", session, streaming=streaming))
        await model.entered["hold"].wait()
        assert await ask(runner, agent_of(model), "two", session, streaming=streaming) == reply_to("two", 1)
        with pytest.raises(TurnInterrupted) as caught:
            await old
        assert caught.value.running
        assert [line.text for line in await lines_in(session)] == ["hold", "two", reply_to("two", 1)]


async def test_a_policy_may_be_named(tmp_path: Path) -> None:
    """As elsewhere; what is none is refused at once, and so is one for messages that a run does not have."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in("sqlite", tmp_path) as session:
        runner = LaneRunner(runtime, policy="reject")
        running = asyncio.create_task(ask(runner, agent_of(model), "hold", session))
        await model.entered["hold"].wait()
        with pytest.raises(LaneBusy):
            await ask(runner, agent_of(model), "two", session)
        model.go["hold"].set()
        assert await running == reply_to("hold", 0)
        with pytest.raises(ValueError, match="polite"):
            LaneRunner(runtime, policy="polite")
        for policy in (Coalesce(), Steer(), Rollback()):
            with pytest.raises(ValueError, match="say another policy="):
                LaneRunner(runtime, policy=policy)
        for policy in (Coalesce(), Steer()):
            with pytest.raises(ValueError, match="say another policy="):
                LaneRunner(Runtime(lanes=Lanes(policy=policy)))


@HOW
async def test_a_run_ends_at_its_deadline(streaming: bool, tmp_path: Path) -> None:
    """With the error of a turn, and the lane is free."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in("transcript", tmp_path) as session:
        with pytest.raises(TurnTimeout):
            await ask(LaneRunner(runtime, turn_timeout=0.05), agent_of(model), "hold", session, streaming=streaming)
        assert lanes_of(runtime) == 0
        stored = len(await lines_in(session))  # its message, if it came so far
        assert await ask(LaneRunner(runtime), agent_of(model), "two", session) == reply_to("two", stored)


async def test_messages_are_coalesced_around_a_run(tmp_path: Path) -> None:
    """A turn function with that policy, whose run joins its turn: what came meanwhile is answered at once."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in("sqlite", tmp_path) as session:
        runner, queued = LaneRunner(runtime), asyncio.Queue[TurnQueued]()
        runtime.hooks.on(TurnQueued, queued.put_nowait)

        @runtime.agent_turn(key="chat", policy=Coalesce(window=0, merge=joined("text", " ")))
        async def answer(chat: str, text: str) -> str:
            return await ask(runner, agent_of(model), text, session)

        first = asyncio.create_task(answer("c", "hold"))
        await model.entered["hold"].wait()
        others = [asyncio.create_task(answer("c", text)) for text in ("where", "is", "it")]
        for _ in others:
            await queued.get()
        model.go["hold"].set()
        assert await first == reply_to("hold", 0)
        assert await others[2] == reply_to("where is it", 1)
        for each in others[:2]:
            with pytest.raises(TurnCoalesced):
                await each


@MEMORIES
@HOW
async def test_a_run_behind_the_middleware_joins_the_turn_of_its_request(
    memory: str, streaming: bool, tmp_path: Path
) -> None:
    """Two requests are two turns, in their order, and no run waits for the request it is made in."""
    model = ScriptedModel()
    async with Runtime() as runtime, session_in(memory, tmp_path) as session:
        finished, turns = list[TurnFinished](), list[str]()
        runtime.hooks.on(TurnFinished, finished.append)
        runner = LaneRunner(runtime)

        async def endpoint(request: Request) -> PlainTextResponse:
            turn = current_turn()
            assert turn is not None
            turns.append(turn.id)
            text = (await request.body()).decode()
            return PlainTextResponse(await ask(runner, agent_of(model), text, session, streaming=streaming))

        app = LaneMiddleware(
            Starlette(routes=[Route("/", endpoint, methods=["POST"])]), key="x-key", runtime=runtime, trusted_keys=True
        )
        async with AsgiDriver(app) as driver:
            first = driver.start("POST", "/", headers={"x-key": "c"}, body=b"hold")
            await model.entered["hold"].wait()
            second = driver.start("POST", "/", headers={"x-key": "c"}, body=b"two")
            model.go["hold"].set()
            answers = [(await each.response()).text for each in (first, second)]
        assert answers == [reply_to("hold", 0), reply_to("two", 1)]
        assert [each.turn for each in finished] == turns
        assert lanes_of(runtime) == 0


# -- what is refused


async def test_a_run_must_name_its_session(tmp_path: Path) -> None:
    """Without one, with what is none, with one that has no id yet: the error says so, and nothing runs."""
    model = ScriptedModel()
    async with Runtime() as runtime, AsyncOpenAI(api_key="none", base_url="http://127.0.0.1:9") as client:
        runner, agent = LaneRunner(runtime), agent_of(model)
        with pytest.raises(SessionKeyRequired, match="session="):
            await runner.run(agent, "one")
        with pytest.raises(SessionKeyRequired, match="session="):
            async with runner.run_streamed(agent, "one"):
                pass
        unstarted: Any = OpenAIConversationsSession(openai_client=client)
        text: Any = "c"
        unnamed: Any = SimpleNamespace(session_id=None)
        for session in (unstarted, text, unnamed):
            with pytest.raises(SessionKeyRequired, match=r"session\.session_id"):
                await runner.run(agent, "one", session=session)
        with closing(SQLiteSession("a\x00b")) as bad, pytest.raises(SessionKeyInvalid):
            await runner.run(agent, "one", session=bad)
        with closing(SQLiteSession("c")) as plain, pytest.raises(NotConfigured, match="has no run_compaction"):
            await runner.compact(plain)
    assert model.calls == []


# -- the interface


def parameters_of(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def test_the_interface_that_is_relied_on_is_there() -> None:
    """What the integration uses of openai-agents; this fails first when a new version has changed it."""
    where = "look at integrations/turnlane_integrations/openai_agents/"
    for name in ("run", "run_streamed"):
        missing = {"starting_agent", "input"} - parameters_of(getattr(Runner, name))
        assert not missing, f"agents.Runner.{name} has no parameter {missing} any more: {where}runner.py"
    assert "session" in RunOptions.__annotations__, f"agents.run.RunOptions has no session any more: {where}runner.py"
    for name in ("cancel", "stream_events"):
        assert hasattr(RunResultStreaming, name), f"RunResultStreaming has no {name} any more: {where}runner.py"
    fields = set(RunResultStreaming.__dataclass_fields__)
    assert "run_loop_task" in fields, f"RunResultStreaming has no run_loop_task any more: {where}runner.py"
    protocol = {"get_items": {"limit"}, "add_items": {"items"}, "pop_item": set[str](), "clear_session": set[str]()}
    for name, parameters in protocol.items():
        found = parameters_of(getattr(Session, name)) - {"self"}
        assert found == parameters, f"agents.memory.Session.{name} takes {found} now: {where}session.py and fence.py"
    assert set(Session.__annotations__) == {"session_id", "session_settings"}, (
        f"agents.memory.Session: {where}session.py"
    )
    assert "limit" in agents.SessionSettings.__dataclass_fields__, f"SessionSettings has no limit: {where}session.py"
    with closing(SQLiteSession("c")) as session:
        assert not is_openai_responses_compaction_aware_session(session), f"what tells compaction has changed: {where}"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, without a warning; it shows the damage, and its absence."""
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    assert example_output("openai_agents.py", directory=tmp_path) == [
        "Runner: ['my name is Ada', 'who am I?', 'I know 1 message', 'I know 1 message']",
        "LaneRunner: ['my name is Ada', 'I know 1 message', 'who am I?', 'I know 2 messages']",
    ]
