"""langgraph: the calls that are not async, from threads of all kinds."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import StateUpdate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from support.rigs.langgraph import of_thread
from turnlane import Interrupt, LaneMiddleware, Runtime, current_turn
from turnlane.errors import NotConfigured, SessionKeyRequired, TurnInterrupted
from turnlane.hooks import TurnFinished, TurnQueued, TurnStarted
from turnlane_integrations.langgraph import LaneGraph

ONE = of_thread("one")
LONGEST = 20.0


def message(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


class Answers:
    """A graph whose node is not async; a text with `hold` waits for `go`. `running` are those that run at once."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.running = self.most = 0
        self.turns: list[str | None] = []
        self._lock = threading.Lock()

    def answer(self, state: MessagesState) -> dict[str, Any]:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        turn = current_turn()
        self.turns.append(None if turn is None else turn.key)
        said = [str(each.text) for each in state["messages"] if isinstance(each, HumanMessage)]
        if "hold" in said[-1]:
            self.entered.set()
            assert self.go.wait(LONGEST)
        with self._lock:
            self.running -= 1
        if "fail" in said[-1]:
            raise ValueError(said[-1])
        return {"messages": [AIMessage(f"re {said[-1]} after {len(said) - 1}")]}

    def again(self, state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("and so on")]}

    def compiled(self) -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("answer", self.answer)
        builder.add_node("again", self.again)
        builder.add_edge(START, "answer")
        builder.add_edge("answer", "again")
        return builder.compile(checkpointer=InMemorySaver())


def last(found: Any) -> str:
    return str(found["messages"][-2].text)


def queued_in(runtime: Runtime) -> threading.Event:
    """Return what is set when a turn has to wait."""
    found = threading.Event()
    runtime.hooks.on(TurnQueued, lambda _: found.set())
    return found


# -- an event loop is there


async def test_in_the_thread_of_an_event_loop_it_raises() -> None:
    """What to await instead is in the error; nothing is run."""
    answers = Answers()
    async with Runtime() as runtime:
        graph = LaneGraph[Any](answers.compiled(), runtime)
        calls: dict[str, Callable[[], object]] = {
            "invoke": lambda: graph.invoke(message("a"), ONE),
            "stream": lambda: next(graph.stream(message("a"), ONE)),
            "update_state": lambda: graph.update_state(ONE, message("a")),
            "bulk_update_state": lambda: graph.bulk_update_state(ONE, [[StateUpdate(message("a"))]]),
            "batch": lambda: graph.batch([message("a"), message("b")], ONE),
            "batch_as_completed": lambda: next(graph.batch_as_completed([message("a"), message("b")], ONE)),
        }
        for name, call in calls.items():
            with pytest.raises(NotConfigured, match=f"await a{name} here"):
                call()
    assert answers.turns == []


@pytest.mark.parametrize("to_thread", [anyio.to_thread.run_sync, asyncio.to_thread])
async def test_calls_from_threads_wait_for_those_in_the_loop(to_thread: Any) -> None:
    """And the other way round: the turn is in the loop in which the lanes are in use."""
    answers = Answers()
    async with Runtime() as runtime:
        graph = LaneGraph[Any](answers.compiled(), runtime)
        queued = queued_in(runtime)
        running = asyncio.create_task(graph.ainvoke(message("hold"), ONE))
        await anyio.to_thread.run_sync(answers.entered.wait, LONGEST)
        in_thread = asyncio.create_task(to_thread(graph.invoke, message("two"), ONE))
        await anyio.to_thread.run_sync(queued.wait, LONGEST)
        following = asyncio.create_task(graph.ainvoke(message("three"), ONE))
        answers.go.set()
        found = [last(await each) for each in (running, in_thread, following)]
    assert found == ["re hold after 0", "re two after 1", "re three after 2"]
    assert answers.turns == ["one"] * 3
    assert answers.most == 1


async def test_a_caller_that_is_cancelled_while_its_thread_waits_leaves_the_line() -> None:
    """A thread of anyio is told of it, as when a client goes away; the turn before it goes on."""
    answers = Answers()
    async with Runtime() as runtime:
        graph = LaneGraph[Any](answers.compiled(), runtime)
        queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        runtime.hooks.on(TurnQueued, queued.put_nowait)
        running = asyncio.create_task(graph.ainvoke(message("hold"), ONE))
        await anyio.to_thread.run_sync(answers.entered.wait, LONGEST)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, lambda: graph.invoke(message("gone"), ONE))
            await queued.get()
            group.cancel_scope.cancel()
        assert runtime.lanes.statistics().waiting == 0
        answers.go.set()
        assert last(await running) == "re hold after 0"
    assert answers.turns == ["one"]


@pytest.mark.parametrize("streaming", [False, True])
async def test_endpoints_that_are_not_async(streaming: bool) -> None:
    """Two requests of a conversation at once, without the middleware and behind it, where they are two turns in all."""
    answers = Answers()
    async with Runtime() as runtime:
        started: list[str] = []
        runtime.hooks.on(TurnStarted, lambda event: started.append(event.key))
        graph = LaneGraph[Any](answers.compiled(), runtime)

        def answer(request: Request) -> Response:
            text = request.query_params["text"]
            if not streaming:
                return PlainTextResponse(last(graph.invoke(message(text), ONE)))
            parts = graph.stream(message(text), ONE, stream_mode="updates")
            return StreamingResponse(part["answer"]["messages"][0].text for part in parts if "answer" in part)

        app = Starlette(routes=[Route("/", answer)])
        laned = LaneMiddleware(app, key="x-thread", runtime=runtime, trusted_keys=True, methods={"GET"})
        for each, headers in ((app, {}), (laned, {"x-thread": "one"})):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(each), base_url="http://agent") as client:
                asked = [client.get("/", params={"text": text}, headers=headers) for text in ("a", "b")]
                found = [response.text for response in await asyncio.gather(*asked)]
            seen = len(started)
            assert sorted(text[:4] for text in found) == ["re a", "re b"]
            assert sorted(int(text.split()[-1]) for text in found) == [seen - 2, seen - 1]
        assert answers.most == 1
    assert started == ["one"] * 4


async def test_a_stream_in_a_thread_is_interrupted_at_its_next_item() -> None:
    """It is told then; its lane was not let go before."""
    answers = Answers()
    async with Runtime() as runtime:
        graph = LaneGraph[Any](answers.compiled(), runtime, policy=Interrupt(grace=0))
        finished: list[str] = []
        runtime.hooks.on(TurnFinished, lambda event: finished.append(event.outcome))

        def read() -> list[Any]:
            return list(graph.stream(message("hold"), ONE, stream_mode="updates"))

        reading = asyncio.create_task(anyio.to_thread.run_sync(read))
        await anyio.to_thread.run_sync(answers.entered.wait, LONGEST)
        queued = queued_in(runtime)
        following = asyncio.create_task(graph.ainvoke(message("two"), ONE))
        await anyio.to_thread.run_sync(queued.wait, LONGEST)
        await asyncio.sleep(0)
        assert not finished
        answers.go.set()
        with pytest.raises(TurnInterrupted):
            await reading
        assert last(await following) == "re two after 1"
    assert answers.most == 1


async def test_a_stream_that_is_dropped_in_an_event_loop_lets_the_lane_go() -> None:
    """As Starlette does with the iterator of a response whose client has gone: the loop is not stopped."""
    answers = Answers()
    async with Runtime() as runtime:
        graph = LaneGraph[Any](answers.compiled(), runtime)
        stream: Iterator[Any] = graph.stream(message("a"), ONE, stream_mode="updates")
        await anyio.to_thread.run_sync(next, stream)
        del stream
        gc.collect()
        async with asyncio.timeout(LONGEST):
            assert last(await graph.ainvoke(message("two"), ONE)) == "re two after 1"


# -- no event loop is there


def test_threads_without_an_event_loop_have_one_made() -> None:
    """Their calls are turns like all others: one after the other, failures told, and the lane is free."""
    answers = Answers()
    runtime = Runtime()
    graph = LaneGraph[Any](answers.compiled(), runtime)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(graph.invoke, message(f"m{place}"), ONE) for place in range(6)]
        asked += [threads.submit(lambda: list(graph.stream(message("streamed"), ONE, stream_mode="values"))[-1])]
        found = [last(each.result(LONGEST)) for each in asked]
    assert sorted(int(text.split()[-1]) for text in found) == list(range(7))
    assert answers.most == 1
    with pytest.raises(ValueError, match="fail"):
        graph.invoke(message("fail"), ONE)
    with pytest.raises(SessionKeyRequired):
        graph.invoke(message("a"))
    with closing(graph.stream(message("closed"), ONE, stream_mode="updates")) as parts:
        next(parts)
    graph.update_state(ONE, message("noted"), as_node="again")
    graph.bulk_update_state(ONE, [[StateUpdate(message("noted twice"), "again", None)]])
    batch = graph.batch([message("b1"), message("b2")], ONE)
    assert sorted(int(last(each).split()[-1]) for each in batch) == [11, 12]
    completed = dict(graph.batch_as_completed([message("c1"), message("c2")], ONE))
    assert sorted(int(last(each).split()[-1]) for each in completed.values()) == [13, 14]
    statistics = runtime.lanes.statistics()
    assert (statistics.running, statistics.waiting) == (0, 0)
    graph.close()


def test_the_loop_that_was_made_ends_with_close_and_with_the_graph() -> None:
    """No thread is left; a call after `close` makes another one."""
    graph = LaneGraph[Any](Answers().compiled(), Runtime())
    before = set(threading.enumerate())  # of which some may end meanwhile
    graph.close()
    assert last(graph.invoke(message("a"), ONE)) == "re a after 0"
    graph.close()
    assert not set(threading.enumerate()) - before
    assert last(graph.invoke(message("b"), ONE)) == "re b after 1"
    assert len(set(threading.enumerate()) - before) == 1
    del graph
    gc.collect()
    assert not set(threading.enumerate()) - before


def test_a_program_without_an_event_loop_opens_its_runtime_in_a_portal(tmp_path: Path) -> None:
    """Shared lanes belong to a loop, and are closed in it; `portal=` says which."""
    answers = Answers()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Runtime(lanes=f"file://{tmp_path}/lanes")) as runtime,
        ThreadPoolExecutor() as threads,
    ):
        graph = LaneGraph[Any](answers.compiled(), runtime, portal=portal)
        queued = queued_in(runtime)
        running = threads.submit(graph.invoke, message("hold"), ONE)
        assert answers.entered.wait(LONGEST)
        following = threads.submit(graph.invoke, message("two"), ONE)
        assert queued.wait(LONGEST)
        answers.go.set()
        assert [last(each.result(LONGEST)) for each in (running, following)] == ["re hold after 0", "re two after 1"]


def test_a_stream_that_is_cut_by_the_end_of_its_loop_is_not_taken_for_a_whole_one() -> None:
    """It ends with the item that is under way, and an error."""
    answers = Answers()
    runtime = Runtime()
    graph = LaneGraph[Any](answers.compiled(), runtime)
    found: list[Any] = []
    with ThreadPoolExecutor() as threads:
        parts = graph.stream(message("hold"), ONE, stream_mode="updates")
        reading = threads.submit(found.extend, parts)
        assert answers.entered.wait(LONGEST)
        cut = threading.Event()
        asyncio.run_coroutine_threadsafe(cancel_others(cut), runtime.lanes.gate.loop).result(LONGEST)
        assert cut.wait(LONGEST)
        answers.go.set()
        with pytest.raises(CancelledError, match="loop"):
            reading.result(LONGEST)
    assert len(found) == 1
    graph.close()


async def cancel_others(cut: threading.Event) -> None:
    """As the end of a loop does."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if task.get_name() == "turnlane blocking":
            task.cancel()
    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, cut.set)
