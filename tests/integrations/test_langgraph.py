"""langgraph: what is special about runs of a compiled graph as turns."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

import asyncio
import gc
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import StateUpdate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from support.example_output import example_output
from support.rigs.contract import Line, ModelFailed, ScriptedModel, reply_to
from support.rigs.langgraph import chat, lines_of, of_thread
from turnlane import Coalesce, Interrupt, LaneMiddleware, Lanes, Rollback, Runtime, Steer, current_turn
from turnlane.errors import ConsumerIdle, LaneBusy, SessionKeyRequired, TurnInterrupted, TurnTimeout
from turnlane.hooks import TurnQueued, TurnStarted
from turnlane_integrations.langgraph import LaneGraph

ONE = of_thread("one")


def message(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


@asynccontextmanager
async def laned(model: ScriptedModel, **settings: Any) -> AsyncGenerator[LaneGraph[Any], None]:
    """Open a graph whose lanes must all be free in the end."""
    async with Runtime() as runtime:
        yield LaneGraph(chat(model, settings.pop("saver", InMemorySaver())), runtime, **settings)
        statistics = runtime.lanes.statistics()
        assert (statistics.running, statistics.waiting) == (0, 0)


def runtime_of(graph: LaneGraph[Any]) -> Runtime:
    return vars(graph)["_runtime"]  # type: ignore[no-any-return]


def queued_in(graph: LaneGraph[Any]) -> asyncio.Queue[TurnQueued]:
    """Return a queue of what has to wait from now on."""
    found: asyncio.Queue[TurnQueued] = asyncio.Queue()
    runtime_of(graph).hooks.on(TurnQueued, found.put_nowait)
    return found


async def history(graph: LaneGraph[Any], thread: str = "one") -> list[Line]:
    return lines_of((await graph.aget_state(of_thread(thread))).values["messages"])


# -- the key


async def test_a_run_without_a_thread_is_refused() -> None:
    """Before anything else happens, whichever way it is begun, with the place where the thread is missing."""
    model = ScriptedModel()
    async with laned(model) as graph:
        with pytest.raises(SessionKeyRequired, match="thread_id") as caught:
            await graph.ainvoke(message("hi"))
        assert caught.value.param == 'config["configurable"]["thread_id"]'
        for stream in (graph.astream(message("hi"), {"configurable": {}}), graph.astream_events(message("hi"))):
            with pytest.raises(SessionKeyRequired):
                await anext(stream)
        with pytest.raises(SessionKeyRequired):
            await graph.aupdate_state({}, message("hi"))
        with pytest.raises(SessionKeyRequired):
            await graph.ainvoke(message("hi"), of_thread("  "))
    assert model.calls == []


async def test_the_thread_may_be_bound_to_the_graph() -> None:
    """`with_config` keeps the lanes; a call's own thread counts first; a number is the same as its text."""
    started: list[str] = []
    async with laned(ScriptedModel()) as graph:
        runtime_of(graph).hooks.on(TurnStarted, lambda event: started.append(event.key))
        bound = graph.with_config(configurable={"thread_id": "bound"})
        await bound.ainvoke(message("a"))
        await bound.ainvoke(message("b"), of_thread("own"))
        await bound.copy().ainvoke(message("c"), {"configurable": {"thread_id": 7}})
        assert await history(graph, "bound") == [Line("user", "a"), Line("assistant", reply_to("a", 0))]
    assert started == ["bound", "own", "7"]


async def test_what_is_no_compiled_graph_is_refused() -> None:
    """A builder that nobody has compiled, for one."""
    builder: Any = StateGraph(MessagesState)
    with pytest.raises(ValueError, match="a compiled graph is needed"):
        LaneGraph[Any](builder, Runtime())


# -- what waits, and what does not


async def test_streams_stand_in_line_where_their_first_item_was_asked_for() -> None:
    """And not behind runs that were called while their tasks had not begun."""
    model = ScriptedModel()
    async with laned(model) as graph:

        async def streamed(text: str) -> None:
            async for _ in graph.astream(message(text), of_thread("one")):
                pass

        async def told(text: str) -> None:
            async for _ in graph.astream_events(message(text), of_thread("one")):
                pass

        async def run(text: str) -> None:
            await graph.ainvoke(message(text), of_thread("one"))

        await asyncio.gather(streamed("a"), run("b"), told("c"), run("d"))
        assert [line.text for line in await history(graph) if line.role == "user"] == ["a", "b", "c", "d"]


async def test_a_stream_that_is_cancelled_at_once_lets_its_lane_go() -> None:
    """Who comes behind it does not wait for nobody."""
    async with laned(ScriptedModel()) as graph:
        stream = graph.astream(message("left"), of_thread("one"))
        asking = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        await asyncio.wait_for(graph.ainvoke(message("two"), of_thread("one")), 10)


def test_policies_that_no_run_can_follow_are_refused() -> None:
    """A run is for its own message, and what it has stored stays, whoever has said the policy."""
    for policy in (Coalesce(), Steer(), Rollback()):
        with pytest.raises(ValueError, match="say another policy="):
            LaneGraph(chat(ScriptedModel(), None), Runtime(), policy=policy)
    for policy in (Coalesce(), Steer()):
        with pytest.raises(ValueError, match="say another policy="):
            LaneGraph(chat(ScriptedModel(), None), Runtime(lanes=Lanes(policy=policy)))


async def test_updates_wait_for_a_run_and_reads_do_not() -> None:
    """An update during a run would fork the thread, and one of the two would be lost."""
    model = ScriptedModel()
    async with laned(model) as graph:
        queued = queued_in(graph)
        running = asyncio.create_task(graph.ainvoke(message("hold"), ONE))
        await model.entered["hold"].wait()
        updating = asyncio.create_task(graph.aupdate_state(ONE, {"messages": [AIMessage("noted")]}))
        await queued.get()
        several = [[StateUpdate({"messages": [AIMessage("twice")]}, "answer", None)]]
        bulk = asyncio.create_task(graph.abulk_update_state(ONE, several))
        await queued.get()
        assert await history(graph) == [Line("user", "hold")]
        model.go["hold"].set()
        await asyncio.gather(running, updating, bulk)
        assert [line.text for line in await history(graph)] == ["hold", reply_to("hold", 0), "noted", "twice"]


async def test_a_batch_of_one_thread_is_answered_in_order() -> None:
    """Each input is a turn; other threads do not wait."""
    model = ScriptedModel()
    async with laned(model) as graph:
        texts = ["a", "b", "c"]
        found = await graph.abatch([message(text) for text in texts], ONE)
        answers = [each["messages"][-1].text for each in found]
        assert answers == [reply_to(text, place) for place, text in enumerate(texts)]
        failed, fine = await graph.abatch(
            [message("fail"), message("d")], [of_thread("other"), ONE], return_exceptions=True
        )
    assert isinstance(failed, ModelFailed)
    assert fine["messages"][-1].text == reply_to("d", 3)


async def test_a_stream_of_events_is_one_turn() -> None:
    """Until its last event; the events are those of the graph."""
    model = ScriptedModel()
    async with laned(model) as graph:
        queued = queued_in(graph)
        events = graph.astream_events(message("hold"), ONE, version="v2")
        async with aclosing(events):
            kinds = [(await anext(events))["name"]]
            following = asyncio.create_task(graph.ainvoke(message("two"), ONE))
            await queued.get()
            model.go["hold"].set()
            kinds += [event["name"] async for event in events if event["event"] == "on_chain_end"]
        assert (await following)["messages"][-1].text == reply_to("two", 1)
    assert kinds[0] == kinds[-1] == "LangGraph"


async def test_a_run_that_its_reader_drives_gets_its_turn_by_hand() -> None:
    """Version 3 of the events is refused, with what to do instead; the turn of `graph.turn` is then that of the run."""
    model = ScriptedModel()
    async with laned(model) as graph:
        with pytest.raises(NotImplementedError, match=r"graph\.turn\(config\)"):
            graph.astream_events(message("a"), ONE, version="v3")
        with pytest.raises(NotImplementedError, match=r"graph\.graph\.stream_events"):
            graph.stream_events(message("a"), ONE, version="v3")
        queued = queued_in(graph)
        async with graph.turn(ONE) as turn:
            with turn.detached():
                following = asyncio.create_task(graph.ainvoke(message("two"), ONE))
            await queued.get()
            await graph.graph.ainvoke(message("one"), ONE)
        assert (await following)["messages"][-1].text == reply_to("two", 1)


# -- streams


async def test_what_a_reader_starts_between_two_items_is_no_part_of_the_turn() -> None:
    """It has no turn, and a message of the same thread that it passes on waits for the stream's end."""
    model = ScriptedModel()
    async with laned(model) as graph:
        queued = queued_in(graph)
        async with aclosing(graph.astream(message("hold"), ONE, stream_mode="messages")) as parts:
            await anext(parts)
            assert current_turn() is None
            following = asyncio.create_task(graph.ainvoke(message("two"), ONE))
            await queued.get()
            model.go["hold"].set()
            assert "".join([str(part.text) async for part, _ in parts]) == " hold after 0"
        assert (await following)["messages"][-1].text == reply_to("two", 1)


async def test_a_stream_that_is_dropped_lets_the_lane_go() -> None:
    """Nobody has closed it."""
    model = ScriptedModel()
    async with laned(model) as graph:
        stream = graph.astream(message("hold"), ONE, stream_mode="messages")
        await anext(stream)
        del stream
        gc.collect()
        assert (await graph.ainvoke(message("two"), ONE))["messages"][-1].text == reply_to("two", 1)


async def test_a_stream_that_nobody_reads_any_more_is_ended() -> None:
    """After a while, and its reader is told."""
    model = ScriptedModel()
    async with laned(model, idle_consumer_timeout=0.01) as graph:
        stream = graph.astream(message("hold"), ONE, stream_mode="messages")
        await anext(stream)
        assert (await graph.ainvoke(message("two"), ONE))["messages"][-1].text == reply_to("two", 1)
        with pytest.raises(ConsumerIdle) as caught:
            await anext(stream)
    assert caught.value.key == "one"
    with pytest.raises(ValueError, match="idle_consumer_timeout"):
        LaneGraph(graph.graph, runtime_of(graph), idle_consumer_timeout=0)


# -- ends


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_later_message_interrupts_an_answer(streaming: bool) -> None:
    """By the policy: who was being answered is told, what was stored stays, and the later one is answered."""
    model = ScriptedModel()
    async with laned(model, policy=Interrupt(grace=0)) as graph:

        async def read() -> None:
            async with aclosing(graph.astream(message("hold"), ONE, stream_mode="messages")) as parts:
                async for _ in parts:
                    pass

        running = asyncio.create_task(read() if streaming else graph.ainvoke(message("hold"), ONE))
        await model.entered["hold"].wait()
        found = await graph.ainvoke(message("two"), ONE)
        assert found["messages"][-1].text == reply_to("two", 1)
        with pytest.raises(TurnInterrupted):
            await running


async def test_a_busy_thread_refuses_and_a_long_run_is_ended() -> None:
    """Policies and deadlines are those of turns."""
    model = ScriptedModel()
    async with laned(model, policy="reject", turn_timeout=0.05) as graph:
        running = asyncio.create_task(graph.ainvoke(message("hold"), ONE))
        await model.entered["hold"].wait()
        with pytest.raises(LaneBusy):
            await graph.ainvoke(message("two"), ONE)
        with pytest.raises(TurnTimeout):
            await running


class Slow(InMemorySaver):
    """Stores what a node has answered when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.storing, self.go = asyncio.Event(), asyncio.Event()

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if metadata["source"] == "loop" and metadata["step"] == 1:
            self.storing.set()
            await self.go.wait()
        return await super().aput(config, checkpoint, metadata, new_versions)


async def test_the_lane_goes_when_everything_is_stored() -> None:
    """A graph that is cancelled while it stores goes on storing in a task; the next run begins after that."""
    saver = Slow()
    async with laned(ScriptedModel(), saver=saver) as graph:
        queued = queued_in(graph)
        running = asyncio.create_task(graph.ainvoke(message("one"), ONE))
        await saver.storing.wait()
        following = asyncio.create_task(graph.ainvoke(message("two"), ONE))
        await queued.get()
        for _ in range(2):
            running.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
        assert not running.done()
        assert not following.done()
        saver.go.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await following)["messages"][-1].text == reply_to("two", 1)
        assert [line.text for line in await history(graph)][:2] == ["one", reply_to("one", 0)]


# -- turns within turns


async def test_a_node_joins_the_turn_of_its_run() -> None:
    """It may update its thread and run a graph of it, and needs not name the thread again."""
    runtime, saver = Runtime(), InMemorySaver()
    inner = LaneGraph(chat(ScriptedModel(), saver), runtime)
    started: list[str] = []
    runtime.hooks.on(TurnStarted, lambda event: started.append(event.key))

    async def outer(state: MessagesState) -> dict[str, Any]:
        found = await inner.ainvoke(message("from inside"), of_thread("one"))
        elsewhere = await inner.ainvoke(message("another"), of_thread("two"))
        return {"messages": [AIMessage(str(each["messages"][-1].text)) for each in (found, elsewhere)]}

    builder = StateGraph(MessagesState)
    builder.add_node("outer", outer)
    builder.add_edge(START, "outer")
    builder.add_edge("outer", END)
    async with runtime, asyncio.timeout(20):
        compiled: Any = builder.compile(checkpointer=InMemorySaver())
        graph = LaneGraph[Any](compiled, runtime)
        found = await graph.ainvoke(message("go"), ONE)
    assert [each.text for each in found["messages"]] == ["go", reply_to("from inside", 0), reply_to("another", 0)]
    assert started == ["one", "two"]


async def test_a_laned_graph_is_a_node_of_another_graph() -> None:
    """It is a graph for the framework: drawn, found as a subgraph, and run in the turn of its thread."""
    model, runtime = ScriptedModel(), Runtime()
    builder = StateGraph(MessagesState)
    builder.add_node("inner", LaneGraph(chat(model, None), runtime))
    builder.add_edge(START, "inner")
    builder.add_edge("inner", END)
    async with runtime:
        compiled: Any = builder.compile(checkpointer=InMemorySaver())
        graph = LaneGraph[Any](compiled, runtime)
        found = await graph.ainvoke(message("a"), ONE)
        assert [name for name, _ in graph.get_subgraphs()] == ["inner"]
        assert "inner" in (await graph.aget_graph()).nodes
    assert found["messages"][-1].text == reply_to("a", 0)


@pytest.mark.parametrize("streaming", [False, True])
async def test_behind_the_middleware_a_run_joins_the_turn_of_its_request(streaming: bool) -> None:
    """Two overlapping requests of a conversation are two turns, and not four."""
    model = ScriptedModel(seed=1)
    started: list[str] = []
    async with laned(model) as graph:
        runtime_of(graph).hooks.on(TurnStarted, lambda event: started.append(event.key))

        async def answer(request: Request) -> Response:
            text = (await request.body()).decode()
            if not streaming:
                return PlainTextResponse((await graph.ainvoke(message(text), ONE))["messages"][-1].text)
            stream = graph.astream(message(text), ONE, stream_mode="messages")
            return StreamingResponse(str(part.text) async for part, _ in stream)

        app = Starlette(routes=[Route("/", answer, methods=["POST"])])
        app.add_middleware(LaneMiddleware, key="x-thread", runtime=runtime_of(graph), trusted_keys=True)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            asked = [client.post("/", content=text, headers={"x-thread": "one"}) for text in ("a", "b")]
            found = [response.text for response in await asyncio.gather(*asked)]
    assert found == [reply_to("a", 0), reply_to("b", 1)]
    assert started == ["one", "one"]


def test_the_example_shows_what_is_lost_and_what_is_kept(tmp_path: Path) -> None:
    """It runs by itself and says what happened, with lanes and without."""
    # langgraph-checkpoint warns of itself where langchain-core is much newer.
    own = ["LangChainPendingDeprecationWarning", "import JsonPlusSerializer"]
    printed = "\n".join(example_output("langgraph_threads.py", directory=tmp_path, logged=own))
    alone, laned = printed.split("in lanes:\n")
    assert re.search(r"^  kept: [123] of 4 messages$", alone, re.MULTILINE), "which are lost, versions do not agree on"
    assert laned.splitlines() == [
        "  my name is Ada -> 'my name is Ada'? I remember nothing before it",
        "  who am I? -> 'who am I?'? I remember 'my name is Ada'",
        "  kept: 4 of 4 messages",
    ]


@pytest.mark.parametrize("had", [None, InMemorySaver()], ids=["none before", "another before"])
async def test_what_is_set_is_that_of_the_graph(had: InMemorySaver | None) -> None:
    """As a server sets the checkpointer, or the store, when its database is open."""
    saver, store = InMemorySaver(), InMemoryStore()
    async with laned(ScriptedModel(), saver=had) as graph:
        graph.checkpointer = saver
        graph.store = store
        for text in ("one", "two"):
            await graph.ainvoke(message(text), ONE)
        assert [line.text for line in await history(graph)] == ["one", "re one after 0", "two", "re two after 1"]
        assert graph.graph.store is graph.store is store
    assert (await chat(ScriptedModel(), saver).aget_state(ONE)).values["messages"]
    assert had is None or had.get_tuple(ONE) is None
