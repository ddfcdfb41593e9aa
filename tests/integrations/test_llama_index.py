"""llama-index: what its integration has beyond one turn after the other."""

# The decorator of steps has no whole type.
# pyright: reportUnknownVariableType=false

import asyncio
import copy
import inspect
from collections.abc import AsyncGenerator, Awaitable
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import httpx
import pytest
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent
from llama_index.core.agent.workflow.workflow_events import AgentWorkflowStartEvent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from workflows.handler import WorkflowHandler

from support.example_output import example_output
from support.rigs import ScriptedModel
from support.rigs.contract import Line, reply_to
from support.rigs.judging import damage
from support.rigs.llama_index import INSPECTED, Scripted, lines_of
from turnlane import Coalesce, LaneMiddleware, Lanes, Rollback, Runtime, Steer, Transcripts, current_turn
from turnlane.errors import (
    LaneBusy,
    SessionKeyInvalid,
    SessionKeyRequired,
    TranscriptTakeover,
    TurnInterrupted,
    TurnTimeout,
)
from turnlane.hooks import TurnQueued, TurnStarted
from turnlane_integrations.llama_index import FencedChatStore, LaneRunner

pytestmark = pytest.mark.filterwarnings(f"ignore:{INSPECTED}:DeprecationWarning")

LIMITS: dict[str, Any] = {"token_limit": 30_000}
FENCES = issubclass(FencedChatStore, cast("type", Memory.model_fields["sql_store"].annotation))
fences = pytest.mark.skipif(
    not FENCES, reason="Memory takes no other store than its own before llama-index-core 0.14.24"
)
HERE = "look at integrations/turnlane_integrations/llama_index"


class Bench:
    """An agent of llama-index, memories in a database, with a fence; `plain` is what a stranger would have."""

    def __init__(self, store: AsyncDBChatStore, salvage: Transcripts) -> None:
        self.model = ScriptedModel()
        self.store = store
        self.salvage = salvage
        self.agent = FunctionAgent(llm=Scripted(self.model))

    def plain(self, session_id: str, **options: Any) -> Memory:
        return Memory(session_id=session_id, sql_store=self.store, **{**LIMITS, **options})

    def fenced(self, session_id: str, **options: Any) -> Memory:
        if not FENCES:
            return self.plain(session_id, **options)
        store = FencedChatStore(self.store, salvage=self.salvage)
        return Memory(session_id=session_id, sql_store=store, **{**LIMITS, **options})

    async def history(self, session_id: str) -> list[Line]:
        return lines_of(await self.store.get_messages(session_id, None))

    async def kept(self, session_id: str) -> list[Line]:
        entries = await self.salvage.read(session_id)
        return lines_of([ChatMessage.model_validate(entry["message"]) for entry in entries])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench, None]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/memory.db")
    store = SQLAlchemyChatStore("messages", async_engine=engine)
    await store.get_keys()
    async with Transcripts(tmp_path / "salvage") as salvage:
        yield Bench(store, salvage)
    await engine.dispose()


async def ask(runner: LaneRunner, agent: Workflow, text: str, *, streaming: bool, **options: Any) -> str:
    if not streaming:
        return str(await runner.run(agent, user_msg=text, **options))
    async with runner.run_streamed(agent, user_msg=text, **options) as handler:
        words = [event.delta async for event in handler.stream_events() if isinstance(event, AgentStream)]
        await handler
    return "".join(words)


HOW = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])


@fences
@HOW
async def test_a_foreign_message_in_the_middle_of_a_turn_is_not_stored_behind(bench: Bench, streaming: bool) -> None:
    """The turn ends with a takeover, what the stranger wrote is whole, and the answer that had no place is kept."""
    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        await ask(runner, bench.agent, "one", streaming=streaming, memory=bench.fenced("c"))
        running = asyncio.create_task(
            ask(runner, bench.agent, "hold two", streaming=streaming, memory=bench.fenced("c"))
        )
        await bench.model.entered["hold two"].wait()
        await bench.plain("c").aput(ChatMessage(role="user", content="a stranger"))
        bench.model.go["hold two"].set()
        with pytest.raises(TranscriptTakeover, match=r"'c' was appended.*3 messages was proven, 4.*salvage") as caught:
            await running
        assert caught.value.turn is not None
        await ask(runner, bench.agent, "three", streaming=streaming, memory=bench.fenced("c"))
    assert [line.text for line in await bench.history("c")] == [
        *("one", reply_to("one", 0), "hold two", "a stranger"),
        *("three", reply_to("three", 3)),
    ]
    assert await bench.kept("c") == [Line("assistant", reply_to("hold two", 1))]


@pytest.mark.parametrize(
    ("messages", "kind"), [(["one", "never said"], "edited"), (["one"], "truncated")], ids=["edited", "truncated"]
)
async def test_what_a_run_was_shown_must_still_be_there(bench: Bench, messages: list[str], kind: str) -> None:
    """Whatever a run wants to do to a history that others have changed is refused, and says what became of it."""
    store = FencedChatStore(bench.store, salvage=bench.salvage)
    said = [ChatMessage(role="user", content=text) for text in ("one", "two")]
    await store.set_messages("c", said)
    assert await store.get_keys() == ["c"]
    assert await store.count_messages("c") == 2
    await bench.store.set_messages("c", [ChatMessage(role="user", content=text) for text in messages])
    before = await bench.history("c")
    for refused in (
        store.add_message("c", said[0]),
        store.add_messages("c", said),
        store.set_messages("c", said),
        store.delete_message("c", 1),
        store.delete_messages("c"),
        store.delete_oldest_messages("c", 1),
        store.archive_oldest_messages("c", 1),
    ):
        with pytest.raises(TranscriptTakeover) as caught:
            await refused
        assert caught.value.kind == kind
    assert await bench.history("c") == before
    assert [line.text for line in await bench.kept("c")] == ["one", "one", "two", "one", "two"]
    assert lines_of(await store.get_messages("c")) == before
    await store.add_message("c", said[0])  # what was read is what counts


@fences
async def test_what_a_run_writes_itself_is_its_own(bench: Bench) -> None:
    """Also what it takes away, and what its memory archives because it is too long."""
    store = FencedChatStore(bench.store, salvage=bench.salvage)
    said = [ChatMessage(role="user", content=text) for text in ("one", "two", "three")]
    await store.add_messages("d", said)
    assert await store.delete_oldest_messages("d", 1) == said[:1]
    assert await store.delete_message("d", 99) is None
    assert await store.archive_oldest_messages("d", 1) == said[1:2]
    await store.delete_messages("d", MessageStatus.ACTIVE)
    await store.add_message("d", said[0])
    assert await store.get_messages("d", MessageStatus.ARCHIVED) == said[1:2]
    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        for number in range(6):
            await runner.run(
                bench.agent, user_msg=f"m{number}", memory=bench.fenced("c", token_limit=40, token_flush_size=10)
            )
    assert await bench.store.count_messages("c", MessageStatus.ARCHIVED) > 0
    assert [line.text for line in await bench.history("c") if line.role == "user"] == [f"m{n}" for n in range(6)]
    assert await bench.kept("c") == await bench.kept("d") == []


async def test_what_a_run_stores_side_by_side_is_its_own(bench: Bench) -> None:
    """As tools do that are called at once: each look comes before what the others have stored."""
    fenced = FencedChatStore(bench.store, salvage=bench.salvage)
    await fenced.add_message("c", ChatMessage("one"))
    said = [ChatMessage(text) for text in ("two", "three", "four")]
    await asyncio.gather(*(fenced.add_message("c", each) for each in said), fenced.get_messages("c"))
    await fenced.add_message("c", ChatMessage("five"))
    assert {line.text for line in await bench.history("c")} == {"one", "two", "three", "four", "five"}
    assert await bench.kept("c") == []


async def test_a_foreign_message_in_the_moment_of_storing_is_found_by_the_next_write(bench: Bench) -> None:
    """It is not taken for seen."""
    fenced = FencedChatStore(bench.store, salvage=bench.salvage)
    await fenced.add_message("c", ChatMessage("one"))
    add = SQLAlchemyChatStore.add_message

    async def with_a_stranger(store: Any, key: str, message: ChatMessage, *others: Any) -> None:
        await add(store, key, message, *others)
        await add(store, key, ChatMessage("a stranger"))

    with patch.object(SQLAlchemyChatStore, "add_message", with_a_stranger):
        await fenced.add_message("c", ChatMessage("two"))
    with pytest.raises(TranscriptTakeover, match="appended"):
        await fenced.add_messages("c", [ChatMessage("three")])
    assert [line.text for line in await bench.kept("c")] == ["three"]


async def test_what_is_being_stored_is_stored_though_its_run_is_cancelled(bench: Bench) -> None:
    """A cancellation in the middle of it would leave the database locked; afterwards it is the run's own."""
    fenced = FencedChatStore(bench.store, salvage=bench.salvage)
    begun, go = asyncio.Event(), asyncio.Event()
    add = SQLAlchemyChatStore.add_messages

    async def slowly(store: Any, *arguments: Any) -> None:
        begun.set()
        await go.wait()
        await add(store, *arguments)

    with patch.object(SQLAlchemyChatStore, "add_messages", slowly):
        storing = asyncio.create_task(fenced.add_messages("c", [ChatMessage("one")]))
        await begun.wait()
        storing.cancel()
        asyncio.get_running_loop().call_soon(go.set)
        with pytest.raises(asyncio.CancelledError):
            await storing
    await fenced.add_messages("c", [ChatMessage("two")])
    assert [line.text for line in await bench.history("c")] == ["one", "two"]
    with pytest.raises(ValueError, match="store must be one of a Memory"):
        FencedChatStore(cast("Any", SimpleChatStore()), salvage=bench.salvage)


async def test_a_block_that_is_left_cancels_its_run(bench: Bench) -> None:
    """Before the lane goes: the next run is shown what was stored by then, and the first stores nothing any more."""
    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        async with runner.run_streamed(bench.agent, user_msg="hold one", memory=bench.plain("c")) as handler:
            await bench.model.entered["hold one"].wait()
        assert handler.is_done()
        bench.model.go["hold one"].set()
        assert str(await runner.run(bench.agent, user_msg="two", memory=bench.plain("c"))) == reply_to("two", 1)
    assert [line.text for line in await bench.history("c")] == ["hold one", "two", reply_to("two", 1)]


async def test_a_run_is_ended_by_interruptions_and_timeouts(bench: Bench) -> None:
    """It is cancelled, and has ended when the next one begins."""
    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        running = asyncio.create_task(runner.run(bench.agent, user_msg="hold one", memory=bench.plain("c")))
        await bench.model.entered["hold one"].wait()
        with pytest.raises(LaneBusy):
            await LaneRunner(runtime, policy="reject").run(bench.agent, user_msg="no", memory=bench.plain("c"))
        assert runtime.lanes.interrupt("c", grace=0)
        with pytest.raises(TurnInterrupted):
            await running
        hasty = LaneRunner(runtime, turn_timeout=0.2)
        with pytest.raises(TurnTimeout):
            async with hasty.run_streamed(bench.agent, user_msg="hold two", memory=bench.plain("c")) as handler:
                await handler
        assert str(await runner.run(bench.agent, user_msg="three", memory=bench.plain("c"))) == reply_to("three", 2)


class Holding(Workflow):
    """A workflow whose step waits for a test, and then stores what it has."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.entered, self.go = asyncio.Event(), asyncio.Event()
        self.stored: list[str] = []

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        self.entered.set()
        await self.go.wait()
        self.stored.append(ev.get("text"))
        return StopEvent(result=ev.get("text"))


@pytest.mark.parametrize("how", ["run", "awaited", "stop event", "timed out"])
async def test_a_run_whose_caller_is_cancelled_has_ended_with_its_steps_when_the_lane_goes(how: str) -> None:
    """Workflows alone leave the step behind that runs then, and it goes on to its end."""
    workflow = Holding()

    async def ask_once(runner: LaneRunner) -> None:
        if how == "run":
            await runner.run(workflow, text="one", session_id="c")
        async with runner.run_streamed(workflow, text="one", session_id="c") as handler:
            assert isinstance(handler, WorkflowHandler)
            if how == "timed out":
                await asyncio.wait_for(handler, 0.1)
            await (handler.stop_event_result() if how == "stop event" else handler)

    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        asking = asyncio.create_task(ask_once(runner))
        await workflow.entered.wait()
        if how != "timed out":
            asking.cancel()
        with pytest.raises(TimeoutError if how == "timed out" else asyncio.CancelledError):
            await asking
        assert runtime.lanes.statistics().lanes == 0
        workflow.go.set()
        assert await runner.run(workflow, text="two", session_id="c") == "two"
    assert workflow.stored == ["two"]


class Counting(Workflow):
    """A workflow whose state is in its context."""

    @step
    async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
        turn = current_turn()
        seen = await ctx.store.get("seen", default=[])
        await asyncio.sleep(0)
        await ctx.store.set("seen", [*seen, ev.get("text")])
        return StopEvent(result=(None if turn is None else turn.key, seen))


async def test_a_context_that_is_kept_is_loaded_inside_the_turn(bench: Bench) -> None:
    """`turn` holds the lane while it is loaded and stored; runs inside join it, and are part of the turn."""
    kept: dict[str, Any] = {}
    workflow = Counting()

    async with Runtime() as runtime:
        runner = LaneRunner(runtime)

        async def one(text: str) -> tuple[str, list[str]]:
            async with runner.turn("c"):
                ctx = Context[Any].from_dict(workflow, kept) if kept else Context[Any](workflow)
                found = await runner.run(workflow, ctx=ctx, text=text, session_id="c")
                kept.update(ctx.to_dict())
            return cast("tuple[str, list[str]]", found)

        found = await asyncio.gather(one("a"), one("b"), one("c"))
    assert list(found) == [("c", []), ("c", ["a"]), ("c", ["a", "b"])]


async def test_agents_that_hand_over_to_each_other_are_one_run(bench: Bench) -> None:
    """An `AgentWorkflow` is run as its root agent is."""
    team = AgentWorkflow(agents=[bench.agent], root_agent=bench.agent.name)
    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        sent = ["one", "two"]
        found = await asyncio.gather(
            *(ask(runner, team, text, streaming=False, memory=bench.fenced("c")) for text in sent)
        )
    assert damage(sent, dict(zip(sent, found, strict=True)), await bench.history("c")) == []


@HOW
async def test_a_chat_engine_takes_its_turn_in_a_block(bench: Bench, streaming: bool) -> None:
    """Each caller gets the answer to its own message, and what is stored is in order."""
    async with Runtime() as runtime:
        runner = LaneRunner(runtime)

        async def chat(text: str) -> str:
            engine: Any = SimpleChatEngine.from_defaults(llm=Scripted(bench.model), memory=bench.fenced("c"))
            async with runner.turn("c"):
                if not streaming:
                    return str(await engine.achat(text))
                response = await engine.astream_chat(text)
                return "".join([word async for word in response.async_response_gen()])

        sent = ["one", "two", "three"]
        found = await asyncio.gather(*(chat(text) for text in sent))
    assert damage(sent, dict(zip(sent, found, strict=True)), await bench.history("c")) == []


@HOW
async def test_behind_the_middleware_a_run_joins_the_turn_of_its_request(bench: Bench, streaming: bool) -> None:
    """Nobody waits for themselves, and requests take their turns."""
    runtime = Runtime()
    runner = LaneRunner(runtime)

    async def answer(request: Request) -> PlainTextResponse:
        memory = bench.fenced(request.headers["x-session"])
        text = (await request.body()).decode()
        return PlainTextResponse(await ask(runner, bench.agent, text, streaming=streaming, memory=memory))

    app = LaneMiddleware(
        Starlette(routes=[Route("/", answer, methods=["POST"])]), key="x-session", runtime=runtime, trusted_keys=True
    )
    queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
    runtime.hooks.on(TurnQueued, queued.put_nowait)
    async with (
        runtime,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as client,
    ):
        post = partial(client.post, "/", headers={"x-session": "c"})
        first = asyncio.create_task(post(content="hold one"))
        await bench.model.entered["hold one"].wait()
        second = asyncio.create_task(post(content="two"))
        await queued.get()
        bench.model.go["hold one"].set()
        answers = {"hold one": (await first).text, "two": (await second).text}
    assert damage(["hold one", "two"], answers, await bench.history("c")) == []


async def test_a_memory_names_its_conversation_however_it_is_given(bench: Bench) -> None:
    """By its place, or in the event a run begins with, as `run` takes it; a handler may be copied."""
    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        begun: list[str] = []
        runtime.hooks.on(TurnStarted, lambda event: begun.append(event.key))
        await runner.run(bench.agent, "one", None, bench.plain("c"))
        start = AgentWorkflowStartEvent(user_msg="two", memory=bench.plain("c"))
        async with runner.run_streamed(bench.agent, start_event=start) as handler:
            assert await copy.copy(handler).stop_event_result()
    assert begun == ["c", "c"]
    assert [line.text for line in await bench.history("c")][::2] == ["one", "two"]


async def test_what_names_no_conversation_is_refused(bench: Bench) -> None:
    """A run without a memory that has an id needs one; the agent is not run."""
    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        own: Any = cast("Any", ChatMemoryBuffer).from_defaults(token_limit=100)  # knows no conversation
        without: list[dict[str, Any]] = [{}, {"memory": own}]
        for options in without:
            with pytest.raises(SessionKeyRequired, match="memory=, a Memory with a session_id, or session_id="):
                await runner.run(bench.agent, user_msg="one", **options)
        with pytest.raises(SessionKeyRequired):
            await runner.run(bench.agent, user_msg="one", session_id=" ")
        with pytest.raises(SessionKeyInvalid, match="7"):
            await runner.run(bench.agent, user_msg="one", session_id=cast("Any", 7))
        found = await runner.run(bench.agent, user_msg="one", memory=own, session_id="c")
    assert str(found) == reply_to("one", 0)
    assert bench.model.calls == [["one"]]


def test_policies_that_no_run_can_follow_are_refused() -> None:
    """A run is for its own message, and what it has stored stays, whoever has said the policy."""
    for policy in (Coalesce(), Steer(), Rollback()):
        with pytest.raises(ValueError, match="say another policy="):
            LaneRunner(Runtime(), policy=policy)
    for policy in (Coalesce(), Steer()):
        with pytest.raises(ValueError, match="say another policy="):
            LaneRunner(Runtime(lanes=Lanes(policy=policy)))


def test_what_is_relied_on_of_llama_index_is_there() -> None:
    """Another version of it that has changed one of these has to be looked at before it is allowed."""
    assert "session_id" in Memory.model_fields, f"Memory of llama-index has no session_id any more: {HERE}/runner.py"
    assert issubclass(WorkflowHandler, Awaitable), f"a WorkflowHandler can not be awaited: {HERE}/runner.py"
    for name in ("is_done", "stream_events", "cancel_run"):
        method = getattr(WorkflowHandler, name, None)
        assert method is not None, f"WorkflowHandler has no {name} any more: {HERE}/runner.py"
        needed = [each.name for each in inspect.signature(method).parameters.values() if each.default is each.empty]
        assert needed == ["self"], f"WorkflowHandler.{name} needs {needed}: {HERE}/runner.py"
    assert not inspect.iscoroutinefunction(Workflow.run), f"Workflow.run returns no handler any more: {HERE}/runner.py"
    for name, method in vars(AsyncDBChatStore).items():
        if inspect.iscoroutinefunction(method):
            theirs, ours = (
                {each.name: each.default for each in inspect.signature(found).parameters.values()}
                for found in (method, getattr(FencedChatStore, name))
            )
            assert theirs == ours, f"AsyncDBChatStore.{name} has other parameters: {HERE}/fence.py"
            assert name in vars(FencedChatStore), f"AsyncDBChatStore has a new {name}: {HERE}/fence.py"


def test_the_example_shows_two_messages_that_overlap(tmp_path: Path) -> None:
    """Llama-index alone mixes up the two, in one way or another; in lanes each gets its own answer."""
    own = ("The `__fields", "Accessing the", "is_running called")  # what llama-index warns itself of
    title, *lines = example_output("llama_index_agents.py", directory=tmp_path, warned=own)
    middle = lines.index("in lanes:")
    alone, in_lanes = lines[:middle], lines[middle + 1 :]
    assert title == "llama-index alone:"
    assert in_lanes == [
        "  who asked 'is it far' got 'is it far? Surely.'",
        "  who asked 'is it cold' got 'is it cold? Surely.'",
        *("  user: is it far", "  assistant: Answer: is it far? Surely."),
        *("  user: is it cold", "  assistant: Answer: is it cold? Surely."),
    ]
    assert alone[2:] != in_lanes[2:], "alone the conversation is stored as if they had come one after the other"
