"""strands: agents with tools take turns as others do, behind a fence too."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from strands import Agent, tool  # pyright: ignore[reportUnknownVariableType]
from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.content import Messages
from strands.types.session import SessionMessage
from strands.types.streaming import StreamEvent
from strands.types.tools import ToolContext

from support.rigs import ScriptedModel
from support.rigs.contract import ModelFailed, reply_to
from support.rigs.strands import Scripted
from support.strands_bench import AGENT, Bench, read
from turnlane import Runtime
from turnlane.errors import LaneReentry, TranscriptTakeover
from turnlane_integrations.strands import FencedRepository, LaneAgents


class Calling(Scripted):
    """Calls the tools that the last message names, as in `use one,two`; answers any other message in words."""

    def stream(self, messages: Messages, *args: Any, **kwargs: Any) -> AsyncIterable[StreamEvent]:
        said = "".join(part.get("text", "") for part in messages[-1]["content"])
        if said.startswith("use "):
            return self._calls(len(messages), said.removeprefix("use ").split(","))
        return super().stream(messages, *args, **kwargs)

    async def _calls(self, number: int, names: list[str]) -> AsyncGenerator[StreamEvent, None]:
        yield {"messageStart": {"role": "assistant"}}
        for name in names:
            yield {"contentBlockStart": {"start": {"toolUse": {"toolUseId": f"{name}{number}", "name": name}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"word": "x"}'}}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use"}}


class Word(BaseModel):
    """What a structured answer is."""

    word: str


@tool
def one(word: str) -> str:
    """Say a word."""
    return f"one {word}"


@tool
async def two(word: str) -> str:
    """Say a word."""
    return f"two {word}"


@tool(context=True)
def approved(word: str, tool_context: ToolContext) -> str:
    """Ask a person."""
    return f"{word}: {tool_context.interrupt('approval', reason=word)}"


class Tooled(Bench):
    """Agents with tools, behind a fence."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.tools: list[Any] = [one, two, approved]

    def fenced(self, session_id: str) -> Agent:
        repository = FencedRepository(self.store(session_id), salvage=self.salvage)
        return Agent(
            model=Calling(self.model),
            agent_id=AGENT,
            tools=self.tools,
            session_manager=RepositorySessionManager(session_id, repository),
            callback_handler=None,
        )

    def kinds(self) -> list[str]:
        """Return what the stored messages consist of."""
        stored = [message.to_message() for message in self.store("c").list_messages("c", AGENT)]
        return [" ".join(kind for part in message["content"] for kind in part) for message in stored]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Tooled, None]:
    made = Tooled(tmp_path)
    async with made.salvage:
        yield made


async def test_what_tools_have_said_is_stored_behind_the_fence(bench: Tooled) -> None:
    """Calls of two at once, a structured answer, and the message after them."""
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, bench.fenced)
        events, structured = await asyncio.gather(
            read(agents.stream_async("c", "use one,two")),
            agents.invoke_async("c", "use Word", structured_output_model=Word),
        )
        await agents.invoke_async("c", "hello")
    assert events[-1]["result"].stop_reason == "end_turn"
    assert structured.structured_output == Word(word="x")
    assert bench.kinds() == [
        *("text", "toolUse toolUse", "toolResult toolResult", "text"),
        *("text", "toolUse", "toolResult"),
        *("text", "text"),
    ]


async def test_an_agent_that_waits_for_a_person_lets_its_lane_go(bench: Tooled) -> None:
    """And goes on in a turn of its own, as another agent."""
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, bench.fenced)
        waiting = await agents.invoke_async("c", "use approved")
        assert runtime.lanes.statistics().lanes == 0
        assert waiting.interrupts
        answer: Any = [{"interruptResponse": {"interruptId": waiting.interrupts[0].id, "response": "yes"}}]
        done = await agents.invoke_async("c", answer)
    assert (waiting.stop_reason, done.stop_reason) == ("interrupt", "end_turn")
    assert bench.kinds() == ["text", "toolUse", "toolResult", "text"]


async def test_a_foreign_write_while_a_tool_runs_is_a_takeover(bench: Tooled) -> None:
    """What the tool has said is kept; what the stranger wrote is whole."""

    @tool
    async def meddled(word: str) -> str:
        """Let somebody else write."""
        await bench.plain("c").invoke_async("a stranger")
        return word

    bench.tools = [meddled]
    async with Runtime() as runtime:
        with pytest.raises(TranscriptTakeover, match="appended"):
            await LaneAgents(runtime, bench.fenced).invoke_async("c", "use meddled")
        assert runtime.lanes.statistics().lanes == 0
    (kept,) = await bench.kept("c")
    assert kept["message"]["message"]["content"][0]["toolResult"]["content"] == [{"text": "x"}]
    assert [line.text for line in bench.history("c") if line.text][-2] == "a stranger"


async def test_what_a_tool_was_refused_is_kept(bench: Tooled, caplog: pytest.LogCaptureFixture) -> None:
    """Strands tells the model that a tool has failed: the invocation ends well, and the log says where words are."""
    helping = ScriptedModel()

    def make_agent(session_id: str) -> Agent:
        sessions = RepositorySessionManager(
            session_id, FencedRepository(bench.store(session_id), salvage=bench.salvage)
        )
        helper = Agent(model=Scripted(helping), agent_id="helper", session_manager=sessions, callback_handler=None)

        @tool
        async def helped(word: str) -> str:
            """Ask the helper, whose history a stranger continues meanwhile."""
            asked = asyncio.create_task(helper.invoke_async("hold " + word))
            await helping.entered["hold " + word].wait()
            place = len(bench.store("c").list_messages("c", "helper"))
            stranger = SessionMessage(message={"role": "user", "content": [{"text": "a stranger"}]}, message_id=place)
            bench.store("c").create_message("c", "helper", stranger)
            helping.go["hold " + word].set()
            return str(await asked)

        bench.tools = [helped]
        return bench.fenced(session_id)

    async with Runtime() as runtime:
        await LaneAgents(runtime, make_agent).invoke_async("c", "use helped")
    assert bench.kinds() == ["text", "toolUse", "toolResult", "text"]
    assert [line.text for line in bench.history("c", "helper")] == ["hold x", "a stranger"]
    (kept,) = await bench.kept("c")
    assert (kept["agent_id"], kept["message"]["message"]["content"]) == ("helper", [{"text": reply_to("hold x", 0)}])
    assert "session_changed session=c" in caplog.text


async def test_an_agent_of_the_same_session_inside_of_the_turn_is_refused(bench: Tooled) -> None:
    """One would write over what the other has stored, whoever makes it; of another session it may be."""
    found: list[object] = []
    async with Runtime() as runtime:

        @tool
        async def nested(word: str) -> str:
            """Ask another agent, and the same one."""
            await agents.invoke_async("d", word)
            for each in (agents, LaneAgents(runtime, bench.fenced)):
                try:
                    await each.invoke_async("c", word)
                except LaneReentry as error:
                    found.append(error)
            return word

        bench.tools = [nested]
        agents = LaneAgents(runtime, bench.fenced)
        await agents.invoke_async("c", "use nested")
        async with runtime.turn("c"):
            answers = await asyncio.gather(*(agents.invoke_async("c", "more") for _ in "ab"), return_exceptions=True)
        await agents.invoke_async("c", "last")
    assert len(found) == 2
    assert [isinstance(answer, LaneReentry) for answer in answers] == [False, True]
    assert bench.kinds() == ["text", "toolUse", "toolResult", "text", "text", "text", "text", "text"]


async def test_an_agent_is_shut_down_inside_of_its_turn(bench: Tooled) -> None:
    """Also when its invocation failed: its memory manager keeps then what it has not kept yet."""
    running: list[int] = []

    class Remembering(Agent):
        async def shutdown_async(self) -> None:
            running.append(runtime.lanes.statistics().running)

    def make_agent(_: str) -> Agent:
        return Remembering(model=Calling(ScriptedModel()), callback_handler=None)

    async with Runtime() as runtime:
        agents = LaneAgents(runtime, make_agent)
        await agents.invoke_async("c", "one")
        await read(agents.stream_async("c", "one"))
        with pytest.raises(ModelFailed):
            await agents.invoke_async("c", "fail")
    assert running == [1, 1, 1]
