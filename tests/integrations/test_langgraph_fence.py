"""langgraph: checkpointers that refuse to store behind what somebody else has written, each of the real ones."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

import asyncio
import threading
import uuid
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from support.postgresql import PostgresqlDatabase
from support.rigs.contract import ScriptedModel, reply_to
from support.rigs.langgraph import chat, of_thread
from turnlane import Runtime, Transcripts
from turnlane.errors import TranscriptTakeover
from turnlane_integrations.langgraph import FencedSaver, LaneGraph

Saver = BaseCheckpointSaver[Any]
Open = Callable[[], Any]


def message(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


BY_HAND: dict[str, Any] = {"messages": [AIMessage("by hand")]}


@pytest.fixture
def config() -> Any:
    """A thread that no other test has used: the server's tables are those of all of them."""
    return of_thread(f"one-{uuid.uuid4().hex}")


@pytest.fixture
def salvage(tmp_path: Path) -> Transcripts:
    """Where refused words go."""
    return Transcripts(tmp_path / "salvage")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def open_saver(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a checkpointer for an event loop, each call with a connection of its own."""
    if request.param == "memory":
        saver = InMemorySaver()

        @asynccontextmanager
        async def opened() -> AsyncGenerator[Saver, None]:
            yield saver

        return opened
    if request.param == "sqlite":
        return lambda: AsyncSqliteSaver.from_conn_string(str(tmp_path / "checkpoints.db"))
    database: PostgresqlDatabase = request.getfixturevalue("postgresql")

    @asynccontextmanager
    async def connected() -> AsyncGenerator[Saver, None]:
        async with AsyncPostgresSaver.from_conn_string(database.url) as saver:
            await saver.setup()
            yield saver

    return connected


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def open_for_threads(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a checkpointer for threads, each call with a connection of its own."""
    if request.param == "memory":
        saver = InMemorySaver()
        return lambda: saver
    if request.param == "sqlite":
        return lambda: SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.db"))
    database: PostgresqlDatabase = request.getfixturevalue("postgresql")
    return lambda: PostgresSaver.from_conn_string(database.url)


async def texts_of(graph: Any, config: Any) -> list[str]:
    return [str(each.text) for each in (await graph.aget_state(config)).values["messages"]]


async def salvaged(fenced: FencedSaver, salvage: Transcripts, config: Any) -> list[Any]:
    """Return what is in the salvage: channels of checkpoints, and writes of tasks."""
    return [fenced.restore(entry) for entry in await salvage.read(config["configurable"]["thread_id"])]


# -- what is found


async def test_a_foreign_write_in_the_middle_of_a_run_is_found(
    open_saver: Open, salvage: Transcripts, config: Any
) -> None:
    """The run raises, its answer is in the salvage, what was written stays, and the next run goes on from there."""
    model = ScriptedModel()
    async with open_saver() as mine, open_saver() as another, Runtime() as runtime:
        fenced = FencedSaver(mine, salvage=salvage)
        graph = LaneGraph(chat(model, fenced), runtime)
        foreign = chat(model, another)
        await graph.ainvoke(message("one"), config)
        running = asyncio.create_task(graph.ainvoke(message("hold"), config, durability="sync"))
        await model.entered["hold"].wait()
        await foreign.aupdate_state(config, BY_HAND)
        model.go["hold"].set()
        with pytest.raises(TranscriptTakeover) as caught:
            await running
        thread = config["configurable"]["thread_id"]
        assert (caught.value.path, caught.value.kind, caught.value.phase) == (
            f"thread {thread!r}",
            "appended",
            "append",
        )
        assert caught.value.turn is not None
        assert caught.value.salvaged == f"{thread} in {salvage.store.where}"
        (channels,) = await salvaged(fenced, salvage, config)
        assert channels["messages"][-1].text == reply_to("hold", 1)
        assert (await texts_of(graph, config)) == ["one", reply_to("one", 0), "hold", "by hand"]
        assert (await graph.ainvoke(message("go on"), config))["messages"][-1].text == reply_to("go on", 2)


async def test_of_two_runs_that_overlap_one_is_stored(open_saver: Open, salvage: Transcripts, config: Any) -> None:
    """Without lanes, for the first checkpoint of a thread, too: the other one is told, and all its words are kept."""
    model = ScriptedModel(together=2)
    async with open_saver() as saver:
        fenced = FencedSaver(saver, salvage=salvage)
        graph = chat(model, fenced)
        async with asyncio.timeout(30):
            found = await asyncio.gather(
                *(graph.ainvoke(message(text), config) for text in ("a", "b")), return_exceptions=True
            )
        (lost,) = [place for place, each in enumerate(found) if isinstance(each, TranscriptTakeover)]
        kept: Any = found[1 - lost]
        stored = await texts_of(graph, config)
        words = repr(await salvaged(fenced, salvage, config))
    assert stored == [each.text for each in kept["messages"]]
    assert f"content='{'ab'[lost]}'" in words, "what was said"
    assert f"content='re {'ab'[lost]} after" in words, "what was answered"


async def test_a_thread_that_was_deleted_during_a_run_is_not_brought_back(
    open_saver: Open, salvage: Transcripts, config: Any
) -> None:
    """The answer is in the salvage."""
    model = ScriptedModel()
    async with open_saver() as mine, open_saver() as another:
        fenced = FencedSaver(mine, salvage=salvage)
        graph = chat(model, fenced)
        running = asyncio.create_task(graph.ainvoke(message("hold"), config, durability="sync"))
        await model.entered["hold"].wait()
        await another.adelete_thread(config["configurable"]["thread_id"])
        model.go["hold"].set()
        with pytest.raises(TranscriptTakeover) as caught:
            await running
        assert (caught.value.kind, caught.value.found) == ("deleted", "no checkpoint")
        assert await another.aget_tuple(config) is None
        assert reply_to("hold", 0) in repr(await salvaged(fenced, salvage, config))


def steps(model: ScriptedModel, saver: Saver) -> Any:
    """Return a graph of two nodes, of which the first waits for the model."""

    async def first(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(await model.reply(["hold"]))]}

    async def second(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(await model.reply(["second"]))]}

    builder = StateGraph(MessagesState)
    builder.add_node("first", first)
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_when_a_foreign_write_is_told(durability: Any, salvage: Transcripts, config: Any) -> None:
    """With every durability; with `sync` before the next model call is paid for."""
    model, saver = ScriptedModel(), InMemorySaver()
    fenced = FencedSaver(saver, salvage=salvage)
    graph, foreign = steps(model, fenced), steps(model, saver)
    running = asyncio.create_task(graph.ainvoke(message("hi"), config, durability=durability))
    await model.entered["hold"].wait()
    await foreign.aupdate_state(config, BY_HAND, as_node="second")
    model.go["hold"].set()
    with pytest.raises(TranscriptTakeover):
        await running
    assert model.entered["second"].is_set() is (durability != "sync")
    assert (await texts_of(foreign, config))[-1] == "by hand"
    assert reply_to("hold", 0) in repr(await salvaged(fenced, salvage, config))


def asking(gate: asyncio.Event, entered: asyncio.Event, saver: Saver) -> Any:
    """Return a graph that asks somebody, after a while, and answers what it was told."""

    async def ask(state: MessagesState) -> dict[str, Any]:
        entered.set()
        await gate.wait()
        return {"messages": [AIMessage(f"told {interrupt('well?')}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver)


async def test_a_question_is_asked_and_answered(open_saver: Open, salvage: Transcripts, config: Any) -> None:
    """An interrupted run goes on, and one that a foreign write has made pointless says so instead of waiting."""
    gate, entered = asyncio.Event(), asyncio.Event()
    async with open_saver() as mine, open_saver() as another, Runtime() as runtime:
        graph = LaneGraph[Any](asking(gate, entered, FencedSaver(mine, salvage=salvage)), runtime)
        gate.set()
        assert (await graph.ainvoke(message("a"), config))["__interrupt__"][0].value == "well?"
        told = await graph.ainvoke(Command(resume="yes"), config)
        assert told["messages"][-1].text == "told yes"
        gate.clear()
        entered.clear()
        running = asyncio.create_task(graph.ainvoke(message("b"), config))
        await entered.wait()
        await asking(gate, entered, another).aupdate_state(config, BY_HAND, as_node="ask")
        gate.set()
        with pytest.raises(TranscriptTakeover):
            await running
        assert (await graph.aget_state(config)).interrupts == ()
        assert (await texts_of(graph, config))[-1] == "by hand"


# -- what is left alone


@pytest.mark.timeout(120)
@pytest.mark.parametrize("streaming", [False, True])
async def test_behind_lanes_no_owned_write_is_taken_for_a_foreign_one(
    open_saver: Open, streaming: bool, salvage: Transcripts, seed: int
) -> None:
    """Twenty conversations of four messages at once, and an update after each: everything is stored, in order."""
    model, texts = ScriptedModel(seed=seed), [f"m{place}" for place in range(4)]
    configs: list[Any] = [of_thread(uuid.uuid4().hex) for _ in range(20)]
    async with open_saver() as saver, Runtime() as runtime:
        graph = LaneGraph[Any](chat(model, FencedSaver(saver, salvage=salvage)), runtime)

        async def say(config: Any, text: str) -> None:
            if streaming:
                async with aclosing(graph.astream(message(text), config, stream_mode="messages")) as parts:
                    _ = [part async for part in parts]
            else:
                await graph.ainvoke(message(text), config)
            await graph.aupdate_state(config, {"messages": [AIMessage(f"noted {text}")]})

        await asyncio.gather(*(say(config, text) for config in configs for text in texts))
        for config in configs:
            stored = await texts_of(graph, config)
            said = [text for text in stored if text in texts]
            assert said == texts
            assert [text for text in stored if text.startswith("re ")] == [
                reply_to(text, place) for place, text in enumerate(said)
            ]
            assert sorted(text for text in stored if text.startswith("noted")) == [f"noted {text}" for text in texts]


async def test_time_travel_is_left_alone(open_saver: Open, salvage: Transcripts, config: Any) -> None:
    """Replaying, branching, editing the past and copying: whoever names a checkpoint knows that it is not the head."""
    model = ScriptedModel()
    async with open_saver() as saver:
        graph = chat(model, FencedSaver(saver, salvage=salvage))
        for text in ("one", "two"):
            await graph.ainvoke(message(text), config)
        states = [state async for state in graph.aget_state_history(config)]
        (before_two,) = [state for state in states if not state.next and len(state.values["messages"]) == 2]
        (asked_two,) = [state for state in states if state.next == ("answer",) and len(state.values["messages"]) == 3]

        replayed = await graph.ainvoke(None, asked_two.config)
        assert replayed["messages"][-1].text == reply_to("two", 1)
        branched = await graph.ainvoke(message("other"), before_two.config)
        assert branched["messages"][-1].text == reply_to("other", 1)
        await graph.aupdate_state(before_two.config, BY_HAND)
        assert (await texts_of(graph, config))[-1] == "by hand"
        await graph.aupdate_state(asked_two.config, None, as_node="__copy__")
        assert (await graph.ainvoke(None, config))["messages"][-1].text == reply_to("two", 1)
        snapshot = await graph.aget_state(before_two.config)
        assert snapshot.config == before_two.config, "nothing is to be seen of the fence"
    assert await salvage.read(config["configurable"]["thread_id"]) == ()


async def test_a_branch_is_fenced_once_it_has_begun(salvage: Transcripts, config: Any) -> None:
    """Its first checkpoint is the head; a foreign write after that is found."""
    model, saver = ScriptedModel(), InMemorySaver()
    graph, foreign = chat(model, FencedSaver(saver, salvage=salvage)), chat(model, saver)
    await graph.ainvoke(message("one"), config)
    past = [state.config async for state in graph.aget_state_history(config)][-1]
    running = asyncio.create_task(graph.ainvoke(message("hold"), past))
    await model.entered["hold"].wait()
    await foreign.aupdate_state(config, BY_HAND)
    model.go["hold"].set()
    with pytest.raises(TranscriptTakeover):
        await running


async def test_a_question_of_the_past_may_ask_again(salvage: Transcripts, config: Any) -> None:
    """A run that answers one by its id, which is not the head any more, and is interrupted again is no takeover."""

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(" ".join([interrupt("1"), interrupt("2"), interrupt("3")]))]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    graph: Any = builder.compile(checkpointer=FencedSaver(InMemorySaver(), salvage=salvage))
    await graph.ainvoke(message("a"), config)
    asked = (await graph.aget_state(config)).config
    await graph.ainvoke(Command(resume="one"), config)
    await graph.ainvoke(message("b"), config)
    assert (await graph.aget_state(config)).config != asked
    found = await graph.ainvoke(Command(resume="two"), asked)
    assert [each.value for each in found["__interrupt__"]] == ["3"]


async def test_subgraphs_are_left_alone(open_saver: Open, salvage: Transcripts, config: Any) -> None:
    """Their checkpoints have heads of their own, also of one that keeps its state."""
    model = ScriptedModel()
    async with open_saver() as saver, Runtime() as runtime:
        inner = StateGraph(MessagesState)
        scripted: Any = chat(model, None)
        inner.add_node("model", scripted)
        inner.add_edge(START, "model")
        outer = StateGraph(MessagesState)
        kept: Any = inner.compile(checkpointer=True)
        outer.add_node("inner", kept)
        outer.add_edge(START, "inner")
        compiled: Any = outer.compile(checkpointer=FencedSaver(saver, salvage=salvage))
        graph = LaneGraph[Any](compiled, runtime)
        for text in ("a", "b"):
            await graph.ainvoke(message(text), config)
        assert "re c after" in (await graph.ainvoke(message("c"), config))["messages"][-1].text
    assert await salvage.read(config["configurable"]["thread_id"]) == ()


# -- threads


def test_the_same_for_graphs_in_threads(open_for_threads: Open, salvage: Transcripts, config: Any) -> None:
    """A foreign write in the middle of `invoke` is found, salvaged, and later runs and time travel go on."""
    entered, go = threading.Event(), threading.Event()

    def answer(state: MessagesState) -> dict[str, Any]:
        entered.set()
        assert go.wait(20)
        return {"messages": [AIMessage(f"re {state['messages'][-1].text}")]}

    def graph_of(saver: Saver) -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("answer", answer)
        builder.add_edge(START, "answer")
        return builder.compile(checkpointer=saver)

    with ThreadPoolExecutor() as threads, open_for_threads() as mine, open_for_threads() as another:
        fenced = FencedSaver(mine, salvage=salvage)
        if hasattr(mine, "setup"):
            fenced.setup()
        graph, foreign = graph_of(fenced), graph_of(another)
        running = threads.submit(graph.invoke, message("one"), config, durability="sync")
        assert entered.wait(20)
        foreign.update_state(config, BY_HAND, as_node="answer")
        go.set()
        with pytest.raises(TranscriptTakeover) as caught:
            running.result(20)
        assert caught.value.salvaged is not None
        found = graph.invoke(message("two"), config)
        assert [each.text for each in found["messages"]] == ["one", "by hand", "two", "re two"]
        past = list(graph.get_state_history(config))[2].config
        assert graph.invoke(message("three"), past)["messages"][-1].text == "re three"
        entries = asyncio.run(salvage.read(config["configurable"]["thread_id"]))
        assert "re one" in repr([fenced.restore(entry) for entry in entries])


# -- the rest of a checkpointer


async def test_everything_else_is_the_checkpointer_s(tmp_path: Path, salvage: Transcripts, config: Any) -> None:
    """Listing, deleting, versions, what is beyond the base class, and copies that the framework makes."""
    async with AsyncExitStack() as stack:
        saver = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(str(tmp_path / "c.db")))
        fenced = FencedSaver(saver, salvage=salvage)
        await fenced.setup()
        assert fenced.conn is saver.conn
        with pytest.raises(AttributeError, match="nothing_of_the_kind"):
            _ = fenced.nothing_of_the_kind
        await chat(ScriptedModel(), fenced).ainvoke(message("one"), config)
        listed: list[Any] = [each async for each in fenced.alist(config)]
        assert len(listed) == 3
        assert await fenced.aget(config) == (await saver.aget_tuple(config)).checkpoint  # type: ignore[union-attr]
        assert fenced.get_next_version(None, None).startswith(f"{1:032}.")
        assert fenced.config_specs == saver.config_specs
        narrowed = fenced.with_allowlist([("support", "Nothing")])
        assert isinstance(narrowed, FencedSaver)
        assert (await narrowed.aget_tuple(config)) == (await fenced.aget_tuple(config))
        await fenced.adelete_thread(config["configurable"]["thread_id"])
        assert await fenced.aget_tuple(config) is None
