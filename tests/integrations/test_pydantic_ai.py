"""Agents of pydantic-ai that take turns: each way to run them, what is stored of it, and who is refused when."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext, messages
from pydantic_ai.agent import AgentRun, AgentRunResult, WrapperAgent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import ApprovalRequired, UserError
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.result import StreamedRunResult
from pydantic_ai.tools import DeferredToolRequests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from support.conversations import said, store_in, tamper, texts, turn_of
from support.example_output import example_output
from support.rigs import ScriptedModel
from support.rigs.pydantic_ai import scripted
from turnlane import (
    Coalesce,
    Interrupt,
    LaneMiddleware,
    Lanes,
    Rollback,
    Runtime,
    Steer,
    Transcripts,
    current_turn,
    keys,
)
from turnlane.errors import (
    LaneReentry,
    SessionKeyInvalid,
    SessionKeyRequired,
    TranscriptTakeover,
    TurnInterrupted,
    TurnTimeout,
)
from turnlane.hooks import TurnQueued
from turnlane.testing import AsgiDriver
from turnlane_integrations.pydantic_ai import LaneAgent, TranscriptConversationStore, conversation_turn


@dataclass
class Bench:
    """An agent with a scripted model, with turns and with a store."""

    model: ScriptedModel
    runtime: Runtime
    store: ConversationStore
    plain: Agent[None, str]

    def agent(self, **options: Any) -> LaneAgent[None, str]:
        return LaneAgent(self.plain, runtime=self.runtime, store=self.store, **options)

    async def stored(self, conversation_id: str = "c") -> list[str]:
        found = await self.store.load(conversation_id)
        return [] if found is None else texts(found.messages)


@asynccontextmanager
async def bench_in(directory: Path, store: ConversationStore | None = None) -> AsyncGenerator[Bench, None]:
    model = ScriptedModel()
    async with Runtime() as runtime, store_in("files", directory) as (ours, _):
        yield Bench(model, runtime, store or ours, Agent(scripted(model)))
        statistics = runtime.lanes.statistics()
        assert (statistics.lanes, statistics.running, statistics.waiting) == (0, 0, 0), "a lane was not let go"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench, None]:
    """With our store, in files."""
    async with bench_in(tmp_path) as found:
        yield found


async def by_run(agent: LaneAgent[None, str], text: str) -> str:
    return (await agent.run(text, conversation_id="c")).output


async def by_run_stream(agent: LaneAgent[None, str], text: str) -> str:
    async with agent.run_stream(text, conversation_id="c") as result:
        return str(await result.get_output())


async def by_events(agent: LaneAgent[None, str], text: str) -> str:
    async with agent.run_stream_events(text, conversation_id="c") as events:
        last = [event async for event in events][-1]
    return str(getattr(last, "result").output)  # noqa: B009  the last event is the result


async def by_iter(agent: LaneAgent[None, str], text: str) -> str:
    async with agent.iter(text, conversation_id="c") as run:
        async for _ in run:
            pass
    assert run.result is not None
    return str(run.result.output)


WAYS = (by_run, by_run_stream, by_events, by_iter)
Way = Callable[[LaneAgent[None, str], str], Coroutine[Any, Any, str]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("other", WAYS)
async def test_each_way_to_run_takes_its_turn(bench: Bench, way: Way, other: Way) -> None:
    """A run of any kind waits for one of any kind, is shown what that has stored, and is stored behind it."""
    agent = bench.agent()
    queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
    bench.runtime.hooks.on(TurnQueued, queued.put_nowait)
    first = asyncio.create_task(way(agent, "hold one"))
    await bench.model.entered["hold one"].wait()
    second = asyncio.create_task(other(agent, "two"))
    await queued.get()
    assert bench.model.calls == [["hold one"]]
    bench.model.go["hold one"].set()
    assert [await first, await second] == ["re hold one after 0", "re two after 1"]
    assert await bench.stored() == ["hold one", "re hold one after 0", "two", "re two after 1"]


def test_the_synchronous_ways_to_run_are_the_same_turns(tmp_path: Path) -> None:
    """One after the other, from code that has no loop of its own."""

    async def stored() -> list[str]:
        async with store_in("files", tmp_path) as (store, _):
            found = await store.load("c")
        return [] if found is None else texts(found.messages)

    async def made() -> LaneAgent[None, str]:
        transcripts = Transcripts(tmp_path / "conversations")
        store = TranscriptConversationStore(transcripts)
        return LaneAgent(Agent(scripted(ScriptedModel())), runtime=Runtime(), store=store)

    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        agent = runner.run(made())
        assert agent.run_sync("one", conversation_id="c").output == "re one after 0"
        with agent.run_stream_sync("two", conversation_id="c") as result:
            assert result.get_output() == "re two after 1"
        assert runner.run(stored()) == ["one", "re one after 0", "two", "re two after 1"]


async def test_alone_the_conflict_comes_when_the_model_was_paid(tmp_path: Path) -> None:
    """As pydantic-ai is: both have called the model, one is refused; so that the test below shows something."""
    model = ScriptedModel(together=2)
    agent, store = Agent(scripted(model)), InMemoryConversationStore()

    async def turn(text: str) -> None:
        conversation = await store.load("c") or Conversation(conversation_id="c")
        await store.save(await agent.run(text, conversation=conversation))

    found = await asyncio.gather(turn("one"), turn("two"), return_exceptions=True)
    assert [type(each) for each in found if each is not None] == [ConversationConflict]
    assert len(model.calls) == 2


@pytest.mark.parametrize("ours", [False, True], ids=["their store", "our store"])
async def test_in_its_turn_nobody_is_refused(tmp_path: Path, ours: bool) -> None:
    """`conversation_turn` around what pydantic-ai's documentation has, with any store."""
    async with bench_in(tmp_path, None if ours else InMemoryConversationStore()) as bench:

        async def turn(text: str) -> None:
            async with conversation_turn(bench.runtime, bench.store, "c") as turn:
                await turn.save(await bench.plain.run(text, conversation=turn.conversation))

        await asyncio.gather(*(turn(f"m{number}") for number in range(5)))
        assert (await bench.stored())[::2] == [f"m{number}" for number in range(5)]
        assert [len(said) for said in bench.model.calls] == [1, 2, 3, 4, 5]


class Sum(BaseModel):
    """What an agent is asked for."""

    value: int


async def test_a_streamed_run_with_a_tool_for_its_output_is_stored_whole(bench: Bench) -> None:
    """With the tool's return, which the next request needs, and with what the conversation has cost so far."""
    plain = Agent(TestModel(), output_type=Sum)
    agent = LaneAgent(plain, runtime=bench.runtime, store=bench.store)
    for turns in (1, 2):
        async with agent.run_stream("add", conversation_id="c") as streamed:
            await streamed.get_output()
        found = await bench.store.load("c")
        assert found is not None
        returns = [part for each in found.messages for part in each.parts if isinstance(part, ToolReturnPart)]
        assert (len(found.messages), len(returns), found.usage.requests) == (3 * turns, turns, turns)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_a_run_that_waits_for_an_approval_goes_on_in_another_turn(bench: Bench, streaming: bool) -> None:
    """What it waits for is in the conversation."""
    plain: Agent[Any, Any] = Agent(TestModel(), output_type=[str, DeferredToolRequests])

    @plain.tool
    def pay(context: RunContext[Any]) -> str:
        if not context.tool_call_approved:
            raise ApprovalRequired
        return "paid"

    agent: LaneAgent[Any, Any] = LaneAgent(plain, runtime=bench.runtime, store=bench.store)
    if streaming:
        async with agent.run_stream("pay", conversation_id="c") as streamed:
            waiting = await streamed.get_output()
    else:
        waiting = (await agent.run("pay", conversation_id="c")).output
    found = await bench.store.load("c")
    assert found is not None
    assert isinstance(waiting, DeferredToolRequests)
    assert found.deferred_tool_requests == waiting
    result = await agent.run(conversation_id="c", deferred_tool_results=waiting.build_results(approve_all=True))
    assert "paid" in str(result.output)
    found = await bench.store.load("c")
    assert found is not None
    assert found.deferred_tool_requests is None


async def test_several_runs_go_on_in_one_turn(bench: Bench) -> None:
    """Each from what the ones before it have saved, streamed or not; what is saved again is not stored again."""
    async with conversation_turn(bench.runtime, bench.store, "c") as turn:
        async with bench.plain.run_stream("one", conversation=turn.conversation) as streamed:
            await streamed.get_output()
        assert len(await turn.save(streamed)) == 2
        assert await turn.save(streamed) == []
        result = await bench.plain.run("two", conversation=turn.conversation)
        assert len(await turn.save(result)) == 2
        assert await turn.save(result) == []
        async with bench.plain.run_stream("three", conversation=turn.conversation) as streamed:
            with pytest.raises(UserError, match="still streaming"):
                await turn.save(streamed)
            await streamed.get_output()
        await turn.save(streamed)
        turn.conversation.messages += said("four", "re four")
        await turn.save(turn.conversation)
        assert repr(turn).startswith("<ConversationTurn 'c' ")
    assert (await bench.stored())[::2] == ["one", "two", "three", "four"]
    assert [len(asked) for asked in bench.model.calls] == [1, 2, 3]


async def test_a_stream_that_was_not_read_is_not_stored(bench: Bench) -> None:
    """Nobody has an answer, and the next turn is as if it had not been."""
    agent = bench.agent()
    async with agent.run_stream("one", conversation_id="c"):
        pass
    async with agent.iter("one", conversation_id="c") as run:
        await anext(run)
    assert await bench.stored() == []
    assert await by_run_stream(agent, "two") == "re two after 0"


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_can_be_interrupted(bench: Bench, way: Way) -> None:
    """It is cancelled and not stored; who has interrupted it goes on from what was there before."""
    agent = bench.agent()
    await way(agent, "one")
    interrupted = asyncio.create_task(way(agent, "hold two"))
    await bench.model.entered["hold two"].wait()
    assert await way(bench.agent(policy=Interrupt(grace=0.0)), "three") == "re three after 1"
    with pytest.raises(TurnInterrupted):
        await interrupted
    assert (await bench.stored())[::2] == ["one", "three"]


async def test_a_run_has_a_deadline(bench: Bench) -> None:
    """After which it is cancelled, and the next one runs."""
    with pytest.raises(TurnTimeout):
        await by_run(bench.agent(turn_timeout=0.05), "hold")
    assert await by_run(bench.agent(), "next") == "re next after 0"


async def test_a_foreign_change_while_the_model_runs_is_found(bench: Bench, tmp_path: Path) -> None:
    """It is a conflict to pydantic-ai and a takeover to the middleware; the answer is kept, the next turn goes on."""
    agent = bench.agent()
    await by_run(agent, "one")
    running = asyncio.create_task(by_run(agent, "hold two"))
    await bench.model.entered["hold two"].wait()
    tamper("files", tmp_path, "c", old="re one after 0", new="by hand")
    bench.model.go["hold two"].set()
    with pytest.raises(TranscriptTakeover) as caught:
        await running
    assert isinstance(caught.value, ConversationConflict)
    assert caught.value.salvaged is not None
    assert "re hold two after 1" in await asyncio.to_thread(Path(caught.value.salvaged).read_text)
    assert await by_run(agent, "three") == "re three after 1"
    assert await bench.stored() == ["one", "by hand", "three", "re three after 1"]


async def test_who_saves_without_a_turn_is_not_overwritten(bench: Bench) -> None:
    """The run is refused as pydantic-ai does it, and its words are kept."""
    agent = bench.agent()
    running = asyncio.create_task(by_run(agent, "hold one"))
    await bench.model.entered["hold one"].wait()
    await turn_of(bench.store, "c", "without a turn")
    bench.model.go["hold one"].set()
    with pytest.raises(ConversationConflict) as caught:
        await running
    assert any("c.salvage.jsonl" in note for note in caught.value.__notes__)
    assert (await bench.stored())[::2] == ["without a turn"]


@pytest.mark.parametrize("scope", [None, "alice@example.org"])
async def test_behind_the_middleware_a_run_goes_on_in_the_turn_of_its_request(bench: Bench, scope: str | None) -> None:
    """With the key of the conversation, which for a scope is what `scoped_by` makes of it: two runs, one turn."""
    agent, seen = bench.agent(scope=scope), list[object]()

    async def answer(request: Request) -> PlainTextResponse:
        text = (await request.body()).decode()
        for each in (f"{text} 1", f"{text} 2"):
            async with agent.iter(each, conversation_id="c") as run:
                seen.append(current_turn())
                async for _ in run:
                    pass
        seen.append(request.state.turn)
        return PlainTextResponse("done")

    by_header = keys.header("x-conversation")
    key = by_header if scope is None else keys.scoped_by(lambda _: scope, by_header)
    app = LaneMiddleware(
        Starlette(routes=[Route("/", answer, methods=["POST"])]), key=key, runtime=bench.runtime, trusted_keys=True
    )
    async with AsgiDriver(app) as driver:
        requests = [
            driver.start("POST", "/", headers={"x-conversation": "c"}, body=text.encode()) for text in ("a", "b")
        ]
        for request in requests:
            assert (await request.response()).status == 200
    assert seen[0] is seen[1] is seen[2]
    assert seen[3] is seen[4] is seen[5]
    assert (await bench.stored())[::2] == ["a 1", "a 2", "b 1", "b 2"]


async def test_a_run_inside_a_run_of_its_conversation_is_refused_at_once(bench: Bench) -> None:
    """It would have to wait for itself, or have the other one refused; one of another conversation is fine."""
    outer = Agent(TestModel())
    agent = LaneAgent(outer, runtime=bench.runtime, store=bench.store)

    @outer.tool_plain
    async def ask() -> str:
        with pytest.raises(LaneReentry):
            await by_run(bench.agent(), "inside")
        return (await bench.agent().run("inside", conversation_id="other")).output

    await agent.run("outside", conversation_id="c")
    assert await bench.stored("other") == ["inside", "re inside after 0"]
    assert bench.model.calls == [["inside"]]
    assert (await bench.stored())[0] == "outside"


async def test_a_new_conversation_has_an_id_of_its_own(bench: Bench) -> None:
    """As pydantic-ai has it: `new` is no id."""
    results = [await bench.agent().run("hello", conversation_id="new") for _ in range(2)]
    ids = {result.conversation_id for result in results}
    assert len(ids) == 2
    assert {record.conversation_id for record in await bench.store.list_conversations()} == ids
    assert await bench.store.load("new") is None


async def test_a_result_goes_on_where_it_was_saved(bench: Bench) -> None:
    """What a run returns knows the revision it was saved as."""
    result = await bench.agent().run("one", conversation_id="c")
    conversation = result.conversation
    conversation.messages += said("by the caller", "re")
    await bench.store.save(conversation)
    assert (await bench.stored())[2:] == ["by the caller", "re"]


async def test_a_conversation_of_somebody_else_is_refused_before_the_model_is_called(bench: Bench) -> None:
    """Whose it is is known when the turn begins."""
    await bench.agent(scope="alice").run("mine", conversation_id="c")
    with pytest.raises(ConversationConflict):
        await bench.agent(scope="bob").run("mine too", conversation_id="c")
    assert bench.model.calls == [["mine"]]


@pytest.mark.parametrize(
    ("options", "error", "names"),
    [
        ({}, SessionKeyRequired, "conversation_id="),
        ({"conversation_id": ""}, SessionKeyRequired, "conversation_id="),
        ({"conversation_id": "a\nb"}, SessionKeyInvalid, "U\\+000A"),
        ({"conversation_id": "c", "message_history": []}, ValueError, "message_history="),
        ({"conversation": Conversation()}, ValueError, "conversation="),
        ({"conversation_id": "c", "nonsense": 1}, TypeError, "nonsense"),
    ],
)
async def test_what_a_run_can_not_have_is_refused(
    bench: Bench, options: dict[str, Any], error: type[Exception], names: str
) -> None:
    """By name, and before the model is called."""
    loose: Any = bench.agent()
    with pytest.raises(error, match=names):
        await loose.run("hello", **options)
    with pytest.raises(error, match=names):
        async with loose.run_stream("hello", **options):
            pass
    assert bench.model.calls == []


async def test_policies_that_no_run_can_follow_are_refused(bench: Bench) -> None:
    """A run is for its own message, and what it has stored stays, whoever has said the policy."""
    for policy in (Coalesce(), Steer(), Rollback()):
        with pytest.raises(ValueError, match="say another policy="):
            LaneAgent(bench.plain, runtime=bench.runtime, store=bench.store, policy=policy)
    for policy in (Coalesce(), Steer()):
        with pytest.raises(ValueError, match="say another policy="):
            async with conversation_turn(Runtime(lanes=Lanes(policy=policy)), bench.store, "c"):
                pass


HERE = "look at integrations/turnlane_integrations/pydantic_ai"
RELIED_ON: list[tuple[Any, str, tuple[str, ...]]] = [
    (ConversationStore.load, "store.py and turn.py", ("conversation_id", "limit", "scope")),
    (ConversationStore.save, "store.py", ("conversation", "scope")),
    (ConversationStore.read_history, "store.py", ("head_id", "limit")),
    (ConversationStore.read_record, "store.py", ("conversation_id",)),
    (ConversationStore.read_records, "store.py", ("scope", "limit")),
    (ConversationStore.write_record, "store.py", ("record", "new_entries", "expected_revision")),
    (ConversationStore.delete_record, "store.py", ("conversation_id", "expected_revision")),
    (ConversationStore.read_entry, "store.py", ("entry_id",)),
    (ConversationConflict, "store.py", ("conversation_id",)),
    (ConversationEntry, "log.py", ("id", "parent_id", "message", "kind")),
    (ConversationRecord, "log.py", ("conversation_id", "head_id", "branches", "revision", "forked_from", "scope")),
    (Conversation, "turn.py", ("messages", "usage", "conversation_id", "deferred_tool_requests", "new_message_index")),
    (WrapperAgent.iter, "agent.py", ("conversation", "conversation_id", "message_history")),
    (WrapperAgent.run_stream, "agent.py", ("conversation", "conversation_id", "message_history")),
]


@pytest.mark.parametrize(("used", "where", "names"), RELIED_ON, ids=[used.__qualname__ for used, _, _ in RELIED_ON])
def test_what_is_relied_on_has_its_parameters(used: Any, where: str, names: tuple[str, ...]) -> None:
    """Names what another version of pydantic-ai has changed, and what is to be looked at."""
    gone = [name for name in names if name not in inspect.signature(used).parameters]
    assert not gone, f"pydantic-ai's {used.__qualname__} has no {', '.join(gone)} any more: {HERE}/{where}"


def test_what_is_relied_on_is_there() -> None:
    """The same for what has no parameters."""
    asked = {"read_record", "read_records", "write_record", "delete_record", "read_entry"}
    abstract = ConversationStore.__abstractmethods__
    assert abstract == asked, f"pydantic-ai asks a store for {sorted(abstract)} now: {HERE}/store.py"
    version = ConversationRecord(conversation_id="c", head_id=None).format_version
    assert version == 1, f"pydantic-ai writes records as version {version} now: {HERE}/log.py"
    result = ("conversation", "new_messages", "usage")
    for owner, names in ((StreamedRunResult, ("result",)), (AgentRunResult, result), (AgentRun, ("result",))):
        gone = [name for name in names if not hasattr(owner, name)]
        assert not gone, f"pydantic-ai's {owner.__name__} has no {', '.join(gone)} any more: {HERE}/turn.py"
    assert hasattr(messages, "ModelMessagesTypeAdapter"), f"pydantic_ai.messages has no adapter any more: {HERE}/log.py"


@pytest.mark.parametrize("module", ["pydantic_ai", "pydantic_ai.conversation_store"], ids=["missing", "too old"])
def test_without_pydantic_ai_it_says_what_to_install(module: str) -> None:
    """Where it is not there, and where it is too old."""
    code = f"import sys; sys.modules[{module!r}] = None; import turnlane_integrations.pydantic_ai"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert "needs pydantic-ai: pip install 'turnlane[pydantic-ai]'" in done.stderr.splitlines()[-1]


def test_the_example_shows_what_it_says(tmp_path: Path) -> None:
    """Two messages of one conversation overlap: without turns one is refused after its answer, with them none is."""
    model = ["  the model is called: my name is Ada", "  the model is called: who am I?"]
    lines = example_output("pydantic_ai_turns.py", directory=tmp_path)
    alone = lines[lines.index("without turns:") + 1 : lines.index("in turns:")]
    assert alone[:2] == model
    assert sorted(line.count("not saved") for line in alone[2:]) == [0, 1]
    assert not any("['my name is Ada']" in line for line in alone)
    assert lines[lines.index("in turns:") + 1 :] == [
        *model,
        "    my name is Ada I remember []",
        "    who am I? I remember ['my name is Ada']",
        "stored: ['my name is Ada', 'who am I?']",
    ]
