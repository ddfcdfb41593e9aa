"""agno: sessions, state and stores of runs that overlap, threads and requests, and what of agno all this rests on."""

import asyncio
import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agno.agent import Agent
from agno.db.sqlite import SqliteDb
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.run.base import RunStatus
from agno.team import Team
from agno.workflow import Workflow
from agno.workflow.step import Step
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from support.example_output import example_output
from support.rigs.agno import Scripted, agent_of, lines_of, said
from support.rigs.contract import ScriptedModel, reply_to
from turnlane import Coalesce, LaneMiddleware, Lanes, Runtime, Steer
from turnlane.errors import NotConfigured, SessionKeyInvalid, SessionKeyRequired, TurnInterrupted
from turnlane.hooks import TurnQueued
from turnlane.testing import AsgiDriver
from turnlane_integrations.agno import LaneRunner

LOOK_AT = "look at integrations/turnlane_integrations/agno/"


class InThreads(Scripted):
    """A model that answers callers who are not async."""

    def invoke(self, messages: list[Message], *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(role="assistant", content="".join(self._words(messages)))

    def invoke_stream(self, messages: list[Message], *args: Any, **kwargs: Any) -> Iterator[ModelResponse]:
        for word in self._words(messages):
            yield ModelResponse(role="assistant", content=word)

    def _words(self, messages: list[Message]) -> Iterator[str]:
        texts = said(messages)
        words = reply_to(texts[-1], len(texts) - 1).split(" ")
        yield words[0]
        yield from (f" {word}" for word in words[1:])


@pytest.fixture
def db(tmp_path: Path) -> SqliteDb:
    return SqliteDb(db_file=f"{tmp_path}/agno.db")


async def test_the_state_of_a_session_is_not_lost(db: SqliteDb) -> None:
    """Each run is given what the one before has made of it; left alone the last one to end has the say."""
    model = ScriptedModel(together=2)

    async def add(run_input: Any, run_context: Any, **others: Any) -> None:
        state = run_context.session_state
        state["cart"] = [*state.get("cart", []), run_input.input_content]

    agent = agent_of(Scripted(script=model), db)
    agent.pre_hooks = [add]
    await asyncio.gather(agent.arun("one", session_id="alone"), agent.arun("two", session_id="alone"))
    assert agent.get_session_state(session_id="alone")["cart"] in (["one"], ["two"])
    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        await asyncio.gather(*(runner.arun(agent, text, session_id="c") for text in ("one", "two")))
    assert agent.get_session_state(session_id="c")["cart"] == ["one", "two"]


@pytest.mark.parametrize("kind", ["agent", "team", "workflow"])
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_all_that_runs_has_turns(kind: str, streaming: bool, db: SqliteDb) -> None:
    """Agents, teams and workflows: the second message waits for the first."""
    model = ScriptedModel()
    agent = agent_of(Scripted(script=model), db)
    component: Any = agent
    if kind == "team":
        component = Team(members=[agent], model=Scripted(script=model), db=db, telemetry=False)
    elif kind == "workflow":
        component = Workflow(steps=[Step(name="one", agent=agent)], db=db, telemetry=False)
    queued: asyncio.Queue[TurnQueued] = asyncio.Queue()

    async def run(text: str) -> None:
        if streaming:
            async for _ in runner.arun(component, text, session_id="c", stream=True):
                pass
        else:
            assert (await runner.arun(component, text, session_id="c")).status is RunStatus.completed

    async with Runtime() as runtime:
        runtime.hooks.on(TurnQueued, queued.put_nowait)
        runner = LaneRunner(runtime)
        first = asyncio.create_task(run("hold this"))
        await model.entered["hold this"].wait()
        second = asyncio.create_task(run("two"))
        await queued.get()
        assert len(model.calls) == 1
        model.go["hold this"].set()
        await asyncio.gather(first, second)
        assert runtime.lanes.statistics().lanes == 0
    assert model.calls[0][-1] == "hold this"
    assert model.calls[-1][-1] == "two"


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_a_cancelled_run_is_stored_before_the_next_one_begins(streaming: bool, tmp_path: Path) -> None:
    """Agno stores it in a task of its own, which would else overwrite what the next run stores."""
    pytest.importorskip("aiosqlite", reason="agno has it for those who ask for it")
    from agno.db.sqlite import AsyncSqliteDb

    class SlowToStore(AsyncSqliteDb):
        """A database whose writing of a run takes until it is told."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.storing = asyncio.Event()
            self.go = asyncio.Event()

        async def upsert_session(self, *args: Any, **kwargs: Any) -> Any:
            self.storing.set()
            await self.go.wait()
            return await super().upsert_session(*args, **kwargs)

    model = ScriptedModel()
    db = SlowToStore(db_file=f"{tmp_path}/agno.db")
    db.go.set()
    agent = agent_of(Scripted(script=model), db)

    async def run(text: str) -> None:
        if streaming:
            async for _ in runner.arun(agent, text, session_id="c", stream=True):
                pass
        else:
            await runner.arun(agent, text, session_id="c")

    async with Runtime() as runtime:
        runner = LaneRunner(runtime)
        await run("one")
        leaving = asyncio.create_task(run("hold this"))
        await model.entered["hold this"].wait()
        following = asyncio.create_task(run("three"))
        db.go.clear()
        db.storing.clear()
        leaving.cancel()
        await db.storing.wait()
        assert runtime.lanes.statistics().running == 1
        assert not model.entered["three"].is_set(), f"agno stores a cancelled run in another way: {LOOK_AT}runs.py"
        db.go.set()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await following
    session: Any = await agent.aget_session(session_id="c")
    assert [run.status for run in session.runs] == [RunStatus.completed, RunStatus.cancelled, RunStatus.completed]
    await db.close()


async def test_a_newer_message_interrupts(db: SqliteDb) -> None:
    """The first run ends as its turn does, and is stored as cancelled."""
    model = ScriptedModel()
    agent = agent_of(Scripted(script=model), db)
    async with Runtime() as runtime:
        runner = LaneRunner(runtime, policy="interrupt")
        first = asyncio.create_task(runner.arun(agent, "hold this", session_id="c"))
        await model.entered["hold this"].wait()
        runtime.lanes.interrupt("c", grace=0)
        second = asyncio.create_task(runner.arun(agent, "two", session_id="c"))
        with pytest.raises(TurnInterrupted):
            await first
        assert (await second).status is RunStatus.completed
    assert [run.status for run in agent.get_session(session_id="c").runs] == [RunStatus.cancelled, RunStatus.completed]


@pytest.mark.parametrize(
    ("value", "error"), [(None, SessionKeyRequired), ("", SessionKeyRequired), (7, SessionKeyInvalid)]
)
async def test_a_session_that_is_not_named_is_an_error(value: Any, error: type[Exception], db: SqliteDb) -> None:
    """Agno would make a new one for each call."""
    async with Runtime() as runtime:
        with pytest.raises(error, match="session_id="):
            await LaneRunner(runtime).arun(agent_of(Scripted(), db), "one", session_id=value)


async def test_the_session_of_the_agent_counts_where_none_is_named(db: SqliteDb) -> None:
    """As for agno."""
    agent = agent_of(Scripted(), db)
    agent.session_id = "c"
    async with Runtime() as runtime:
        result = await LaneRunner(runtime).arun(agent, "one")
    assert result.session_id == "c"


async def test_runs_are_not_made_one_of_several_nor_taken_back(db: SqliteDb) -> None:
    """A run has one input: what of others it would be made of nobody would see. What it has stored stays."""
    for policy in ("coalesce", Steer(), "rollback"):
        with pytest.raises(ValueError, match="not made one of several"):
            LaneRunner(Runtime(), policy=policy)
    with pytest.raises(ValueError, match="not made one of several"):
        LaneRunner(Runtime(lanes=Lanes("memory://", policy=Coalesce())))
    LaneRunner(Runtime(lanes=Lanes("memory://", policy=Coalesce())), policy="enqueue")


async def test_a_change_of_the_state_in_a_turn_is_not_lost(db: SqliteDb) -> None:
    """It waits for the run, which would have stored the state it has read."""
    model, queued = ScriptedModel(), asyncio.Queue[TurnQueued]()
    agent = agent_of(Scripted(script=model), db)
    async with Runtime() as runtime:
        runtime.hooks.on(TurnQueued, queued.put_nowait)
        runner = LaneRunner(runtime)

        async def change() -> None:
            async with runtime.turn("c"):
                await agent.aupdate_session_state({"changed": True}, session_id="c")

        running = asyncio.create_task(runner.arun(agent, "hold", session_id="c", session_state={"n": 1}))
        await model.entered["hold"].wait()
        changing = asyncio.create_task(change())
        await queued.get()
        model.go["hold"].set()
        await asyncio.gather(running, changing)
        await runner.arun(agent, "two", session_id="c")
    assert await agent.aget_session_state(session_id="c") == {"n": 1, "changed": True}


async def test_a_run_in_the_background_is_refused(db: SqliteDb) -> None:
    """It would go on after its turn."""
    async with Runtime() as runtime:
        with pytest.raises(ValueError, match="background=True"):
            await LaneRunner(runtime).arun(agent_of(Scripted(), db), "one", session_id="c", background=True)


@pytest.mark.parametrize("threads", [False, True])
async def test_a_run_joins_the_turn_of_its_request(threads: bool, db: SqliteDb) -> None:
    """Behind the middleware with the same key nobody waits for itself."""
    runtime = Runtime()
    runner = LaneRunner(runtime)
    agent = agent_of(InThreads(script=ScriptedModel()), db)

    def run(session: str, text: str) -> Any:
        return runner.run(agent, text, session_id=session)

    async def chat(request: Request) -> Response:
        session, text = request.headers["x-session"], (await request.body()).decode()
        result = await (
            run_in_threadpool(run, session, text) if threads else runner.arun(agent, text, session_id=session)
        )
        return PlainTextResponse(str(result.content))

    app = Starlette(routes=[Route("/", chat, methods=["POST"])])
    wrapped = LaneMiddleware(app, key="x-session", runtime=runtime, trusted_keys=True)
    async with AsgiDriver(wrapped) as client, runtime:
        requests = [client.start("POST", "/", headers={"x-session": "c"}, body=text) for text in (b"one", b"two")]
        answers = [(await request.response()).text for request in requests]
    assert answers == [reply_to("one", 0), reply_to("two", 1)]


class TestThreads:
    """`run`, which is not async."""

    @pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
    def test_threads_take_turns(self, streaming: bool, db: SqliteDb, tmp_path: Path) -> None:
        """There need be no event loop: the lanes have one of their own then."""
        runner = LaneRunner(Runtime(lanes=f"file://{tmp_path}/lanes"))
        agent = agent_of(InThreads(), db)
        for place, text in enumerate(("one", "two")):
            if streaming:
                for event in runner.run(agent, text, session_id="c", stream=True):
                    assert event.session_id == "c"
            else:
                assert runner.run(agent, text, session_id="c").content == reply_to(text, place)
        runner.close()
        assert [line.text for line in lines_of(agent, "c")] == ["one", reply_to("one", 0), "two", reply_to("two", 1)]

    async def test_a_thread_waits_for_one_that_is_awaited(self, db: SqliteDb) -> None:
        """In the loop the lanes are used in."""
        model = ScriptedModel()
        agent = agent_of(InThreads(script=model), db)
        queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        async with Runtime() as runtime:
            runtime.hooks.on(TurnQueued, queued.put_nowait)
            runner = LaneRunner(runtime)
            first = asyncio.create_task(runner.arun(agent, "hold this", session_id="c"))
            await model.entered["hold this"].wait()
            second = asyncio.create_task(asyncio.to_thread(runner.run, agent, "two", session_id="c"))
            await queued.get()
            model.go["hold this"].set()
            assert (await first).content == reply_to("hold this", 0)
            assert (await second).content == reply_to("two", 1)

    def test_a_stream_that_is_left_lets_the_lane_go(self, db: SqliteDb) -> None:
        """The next message is answered."""
        runner = LaneRunner(Runtime())
        agent = agent_of(InThreads(), db)
        events = runner.run(agent, "one", session_id="c", stream=True)
        next(events)
        events.close()
        assert runner.run(agent, "two", session_id="c").status is RunStatus.completed
        runner.close()

    def test_a_run_may_run_another_one_of_its_session(self, db: SqliteDb) -> None:
        """It joins, as it would in an event loop."""
        runner = LaneRunner(Runtime())
        inner, outer = agent_of(InThreads(), db), agent_of(InThreads(), db)

        def ask_inner(run_input: Any, **others: Any) -> None:
            runner.run(inner, "inner", session_id="c")

        outer.pre_hooks = [ask_inner]
        assert runner.run(outer, "outer", session_id="c").status is RunStatus.completed
        runner.close()

    def test_arguments_that_are_none_are_none_of_ours(self, db: SqliteDb) -> None:
        """A run is given an id, and what is no run to go on with agno refuses itself."""
        runner, agent = LaneRunner(Runtime()), agent_of(InThreads(), db)
        assert runner.run(agent, "one", session_id="c", run_id=None).run_id
        nothing: tuple[dict[str, Any], ...] = ({}, {"run_id": None, "run_response": None})
        for none in nothing:
            with pytest.raises(ValueError, match="run_response or run_id"):
                runner.continue_run(agent, session_id="c", stream=False, **none)
        runner.close()

    async def test_an_interruption_asks_agno_to_cancel_the_run(self, db: SqliteDb) -> None:
        """A thread can not be cancelled: the turn ends when the run has."""
        agent = agent_of(InThreads(), db)
        begun, told, end = asyncio.Event(), asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def wait(run_context: Any, **others: Any) -> None:
            loop.call_soon_threadsafe(begun.set)
            end.wait(20)

        async def acancel_run(run_id: str) -> bool:
            done = await Agent.acancel_run(run_id)
            told.set()
            return done

        agent.pre_hooks = [wait]
        agent.acancel_run = acancel_run
        async with Runtime() as runtime:
            running = asyncio.create_task(asyncio.to_thread(LaneRunner(runtime).run, agent, "one", session_id="c"))
            await begun.wait()
            runtime.lanes.interrupt("c", grace=0)
            await told.wait()
            assert runtime.lanes.statistics().running == 1
            end.set()
            with pytest.raises(TurnInterrupted):
                await running
        assert [run.status for run in agent.get_session(session_id="c").runs] == [RunStatus.cancelled]

    async def test_it_does_not_stop_an_event_loop(self, db: SqliteDb) -> None:
        """There it is refused, and what to await instead is named."""
        async with Runtime() as runtime:
            with pytest.raises(NotConfigured, match="await arun"):
                LaneRunner(runtime).run(agent_of(InThreads(), db), "one", session_id="c")


class TestInterface:
    """What of agno this rests on, named here so that a new version which changes it is seen at once."""

    @pytest.mark.parametrize("component", [Agent, Team, Workflow])
    @pytest.mark.parametrize("name", ["run", "arun", "continue_run", "acontinue_run"])
    def test_runs_name_their_session(self, component: Any, name: str) -> None:
        """By the argument that is the key."""
        found = inspect.signature(getattr(component, name)).parameters
        for parameter in ("session_id", "run_id", "stream"):
            assert parameter in found, f"{component}.{name} has no parameter {parameter} any more: {LOOK_AT}runner.py"

    @pytest.mark.parametrize("component", [Agent, Team, Workflow])
    def test_a_run_can_be_cancelled_by_its_id(self, component: Any) -> None:
        """From any task."""
        assert inspect.iscoroutinefunction(component.acancel_run), f"{component}.acancel_run: {LOOK_AT}runner.py"


def test_the_example_shows_two_messages(tmp_path: Path) -> None:
    """The second knows the first; without lanes it does not."""
    assert example_output("agno_agents.py", directory=tmp_path) == [
        "Agent: 'my name is Ada' was answered knowing 0 messages before it",
        "Agent: 'who am I?' was answered knowing 0 messages before it",
        "LaneRunner: 'my name is Ada' was answered knowing 0 messages before it",
        "LaneRunner: 'who am I?' was answered knowing 1 messages before it",
    ]
