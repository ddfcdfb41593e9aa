"""Compaction of openai-agents beside runs: the turn it deletes, and that it deletes none as a turn of its own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agents import Runner, Session, SQLiteSession
from agents.memory import OpenAIResponsesCompactionSession

from support.rigs import ScriptedModel
from support.rigs.contract import reply_to
from support.rigs.openai_agents import UNTRACED
from support.rigs.openai_agents_calls import agent_of, lines_in
from turnlane import Runtime, Transcripts
from turnlane.errors import TranscriptTakeover
from turnlane_integrations.openai_agents import FencedSession, LaneRunner, TranscriptSession

MEMORIES = pytest.mark.parametrize("memory", ["sqlite", "fenced", "transcript"])

SUMMARY = "what was said so far"


@dataclass
class Compacted:
    """What `responses.compact` returns."""

    output: list[dict[str, Any]]
    usage: None = None


@dataclass
class Compacting:
    """A client of OpenAI that compacts, when it is told to."""

    called: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    given: list[Any] = field(default_factory=list[Any])

    @property
    def responses(self) -> "Compacting":
        return self

    async def compact(self, **asked: Any) -> Compacted:
        self.given.append(asked["input"])
        self.called.set()
        await self.go.wait()
        return Compacted([{"role": "user", "content": SUMMARY}])


@asynccontextmanager
async def memory_in(memory: str, directory: Path) -> AsyncGenerator[Session, None]:
    """Open what a compaction is put around."""
    async with Transcripts(directory / "transcripts") as transcripts:
        if memory == "transcript":
            yield TranscriptSession("c", transcripts)
            return
        with closing(SQLiteSession("c", directory / "s.db")) as stored:
            yield FencedSession(stored, salvage=transcripts) if memory == "fenced" else stored


def compacting(session: Session, client: Compacting, *, always: bool = False) -> OpenAIResponsesCompactionSession:
    any_client: Any = client
    return OpenAIResponsesCompactionSession(
        "c", session, client=any_client, compaction_mode="input", should_trigger_compaction=lambda _: always
    )


async def ask(runner: Any, model: ScriptedModel, text: str, session: Session) -> str:
    return str((await runner.run(agent_of(model), text, session=session, run_config=UNTRACED)).final_output)


@pytest.mark.parametrize("memory", ["sqlite", "transcript"])
async def test_without_lanes_a_compaction_deletes_the_turn_beside_it(memory: str, tmp_path: Path) -> None:
    """So that the test below shows something: two objects for one conversation, as two requests make them."""
    model, client = ScriptedModel(), Compacting()
    async with memory_in(memory, tmp_path) as stored:
        await ask(Runner, model, "one", compacting(stored, client))
        running = asyncio.create_task(compacting(stored, client).run_compaction({"force": True}))
        await client.called.wait()
        assert await ask(Runner, model, "two", compacting(stored, client)) == reply_to("two", 1)
        client.go.set()
        await running
        assert [line.text for line in await lines_in(stored)] == [SUMMARY]


@MEMORIES
async def test_a_compaction_is_a_turn_of_its_own(memory: str, tmp_path: Path) -> None:
    """What is said meanwhile waits for it, is answered with what it made, and stays."""
    model, client = ScriptedModel(), Compacting()
    async with Runtime() as runtime, memory_in(memory, tmp_path) as stored:
        runner = LaneRunner(runtime)
        await ask(runner, model, "one", compacting(stored, client))
        running = asyncio.create_task(runner.compact(compacting(stored, client), {"force": True}))
        await client.called.wait()
        meanwhile = asyncio.create_task(ask(runner, model, "two", compacting(stored, client)))
        client.go.set()
        await running
        assert await meanwhile == reply_to("two", 1)
        assert model.calls[-1] == [SUMMARY, "two"]
        assert [line.text for line in await lines_in(stored)] == [SUMMARY, "two", reply_to("two", 1)]
        assert runtime.lanes.statistics().lanes == 0


@MEMORIES
async def test_a_session_may_compact_itself_within_a_run(memory: str, tmp_path: Path) -> None:
    """As it does where its threshold is reached: no takeover, and the next message is shown what it made."""
    model, client = ScriptedModel(), Compacting()
    client.go.set()
    async with Runtime() as runtime, memory_in(memory, tmp_path) as stored:
        runner = LaneRunner(runtime)
        for text in ("one", "two"):
            await ask(runner, model, text, compacting(stored, client, always=True))
        assert len(client.given) == 2
        assert model.calls == [["one"], [SUMMARY, "two"]]
        assert [line.text for line in await lines_in(stored)] == [SUMMARY]


@pytest.mark.parametrize("memory", ["fenced", "transcript"])
async def test_a_foreign_write_beside_a_compaction_is_a_takeover(memory: str, tmp_path: Path) -> None:
    """What was stored stays, once, and so does what the other has written."""
    model, client = ScriptedModel(), Compacting()
    async with Runtime() as runtime, memory_in(memory, tmp_path) as stored:
        runner = LaneRunner(runtime)
        await ask(runner, model, "one", compacting(stored, client))
        running = asyncio.create_task(runner.compact(compacting(stored, client), {"force": True}))
        await client.called.wait()
        if memory == "fenced":
            with closing(SQLiteSession("c", tmp_path / "s.db")) as other:
                await other.add_items([{"role": "user", "content": "a foreign word"}])
        else:
            append_to(tmp_path / "transcripts" / "c.jsonl", '{"item": {"role": "user", "content": "a foreign word"}}\n')
        client.go.set()
        with pytest.raises(TranscriptTakeover):
            await running
        assert [line.text for line in await lines_in(stored)] == ["one", reply_to("one", 0), "a foreign word"]
        assert await ask(runner, model, "two", compacting(stored, client)) == reply_to("two", 2)


def append_to(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@MEMORIES
async def test_a_compaction_that_is_cancelled_has_changed_nothing(memory: str, tmp_path: Path) -> None:
    """And its lane is free."""
    model, client = ScriptedModel(), Compacting()
    async with Runtime() as runtime, memory_in(memory, tmp_path) as stored:
        runner = LaneRunner(runtime)
        await ask(runner, model, "one", compacting(stored, client))
        running = asyncio.create_task(runner.compact(compacting(stored, client), {"force": True}))
        await client.called.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert runtime.lanes.statistics().lanes == 0
        assert [line.text for line in await lines_in(stored)] == ["one", reply_to("one", 0)]
        assert await ask(runner, model, "two", compacting(stored, client)) == reply_to("two", 1)
