"""agent-framework: what the turn of a session is to its runs and its streams."""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_framework import (
    Agent,
    AgentContext,
    AgentMiddleware,
    AgentResponse,
    AgentResponseUpdate,
    AgentSession,
    HistoryProvider,
    InMemoryHistoryProvider,
    Message,
    ResponseStream,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from support.example_output import example_output
from support.rigs import ScriptedModel
from support.rigs.agent_framework import Scripted
from support.rigs.contract import ModelFailed, reply_to
from turnlane import Interrupt, LaneMiddleware, Lanes, Runtime, Transcripts, current_turn, keys
from turnlane.errors import (
    ConsumerIdle,
    LaneBusy,
    SessionKeyInvalid,
    SessionKeyRequired,
    TranscriptTakeover,
    TurnInterrupted,
)
from turnlane.hooks import TurnFinished, TurnStarted
from turnlane.testing import AsgiDriver
from turnlane_integrations.agent_framework import LaneAgentMiddleware, TranscriptHistoryProvider, session_key

LOOK_AT = "look at integrations/turnlane_integrations/agent_framework"
STREAMS_CLOSE = hasattr(ResponseStream, "close")  # since 1.20


class Scene:
    """An agent whose history is in its session, and what happens to its turns."""

    def __init__(self, runtime: Runtime, *others: AgentMiddleware, **settings: Any) -> None:
        self.runtime, self.model, self.session = runtime, ScriptedModel(), AgentSession(session_id="c")
        self.started: list[TurnStarted] = []
        self.finished: asyncio.Queue[TurnFinished] = asyncio.Queue()
        runtime.hooks.on(TurnStarted, self.started.append)
        runtime.hooks.on(TurnFinished, self.finished.put_nowait)
        gate = LaneAgentMiddleware(runtime, **settings)
        self.agent = Agent(
            Scripted(self.model), context_providers=[InMemoryHistoryProvider("h")], middleware=[gate, *others]
        )

    async def run(self, text: str) -> str:
        response: AgentResponse[Any] = await self.agent.run(text, session=self.session)
        return response.text

    def stream(self, text: str) -> ResponseStream[AgentResponseUpdate, AgentResponse[Any]]:
        return self.agent.run(text, session=self.session, stream=True)

    def said(self) -> list[str]:
        messages: list[Message] = self.session.state.get("h", {}).get("messages", [])
        return [message.text for message in messages]


@asynccontextmanager
async def scene(*others: AgentMiddleware, **settings: Any) -> AsyncGenerator[Scene, None]:
    """Make the agent, for the block; all lanes are free after it."""
    async with Runtime() as runtime, asyncio.timeout(30):
        yield Scene(runtime, *others, **settings)
        statistics = runtime.lanes.statistics()
        assert (statistics.lanes, statistics.running, statistics.waiting) == (0, 0, 0)


class TestStreams:
    """A stream has the lane from its first read to its end."""

    async def test_what_was_said_is_stored_before_the_lane_goes(self) -> None:
        """Who waits for the end of a stream is shown all of it."""
        async with scene() as on:
            stream = on.stream("hold this")
            reading = asyncio.create_task(read(stream))
            await on.model.entered["hold this"].wait()
            following = asyncio.create_task(on.run("two"))
            on.model.go["hold this"].set()
            assert await reading == reply_to("hold this", 0)
            assert await following == reply_to("two", 1)
            assert on.said() == ["hold this", reply_to("hold this", 0), "two", reply_to("two", 1)]

    async def test_the_final_response_is_there_without_reading(self) -> None:
        """As without lanes; and it can be asked for again."""
        async with scene() as on:
            stream = on.stream("one")
            assert (await stream.get_final_response()).text == reply_to("one", 0)
            assert (await stream.get_final_response()).text == reply_to("one", 0)
            assert on.said() == ["one", reply_to("one", 0)]
            assert len(on.started) == 1

    async def test_one_that_is_dropped_lets_the_lane_go(self) -> None:
        """Who breaks out of a loop, and closes nothing, does not block the session for the idle time."""
        async with scene(idle_consumer_timeout=3600.0) as on:
            async for update in on.stream("hold this"):
                assert update.text == "re"
                break
            assert (await on.run("two")).startswith("re two after ")

    async def test_one_that_is_not_read_on_lets_the_lane_go(self) -> None:
        """After its idle time; who reads on is told."""
        async with scene(idle_consumer_timeout=0.01) as on:
            stream = on.stream("one")
            await anext(stream)
            assert (await on.finished.get()).outcome == "cancelled"
            assert (await on.run("two")).startswith("re two after ")
            with pytest.raises(ConsumerIdle):
                await anext(stream)

    @pytest.mark.skipif(not STREAMS_CLOSE, reason="streams can not be closed before agent-framework-core 1.20")
    async def test_one_that_is_closed_has_stored_its_beginning_before_the_next_turn(self) -> None:
        """As the framework does without lanes; and what there is of the response can be asked for."""
        async with scene() as on:
            stream = on.stream("hold this")
            await anext(stream)
            following = asyncio.create_task(on.run("two"))
            await stream.close()
            assert await following == reply_to("two", 1)
            assert (await stream.get_final_response()).text == "re"
            assert on.said() == ["hold this", "re", "two", reply_to("two", 1)]

    async def test_one_whose_model_fails_raises_that(self) -> None:
        """The framework's users see the client's own error, and the lane is free."""
        async with scene() as on:
            stream = on.stream("hold and fail")
            await anext(stream)
            on.model.go["hold and fail"].set()
            with pytest.raises(ModelFailed):
                await anext(stream)
            assert (await on.finished.get()).outcome == "failed"

    async def test_one_that_finds_its_session_busy_is_refused_when_it_is_read(self) -> None:
        """With the lane's own error."""
        async with scene(policy="reject") as on:
            running = asyncio.create_task(on.run("hold this"))
            await on.model.entered["hold this"].wait()
            with pytest.raises(LaneBusy):
                await read(on.stream("two"))
            on.model.go["hold this"].set()
            await running

    async def test_the_turn_is_current_for_the_model_and_not_for_the_reader(self) -> None:
        """It runs in a task of its own: what the reader does meanwhile is no part of it."""
        async with scene() as on:
            async for _ in on.stream("one"):
                assert current_turn() is None


async def read(stream: ResponseStream[AgentResponseUpdate, AgentResponse[Any]]) -> str:
    return "".join([update.text async for update in stream])


class TestInterrupting:
    """The newest message runs, and the others are told."""

    async def test_a_run(self) -> None:
        """`TurnInterrupted` leaves it."""
        async with scene(policy=Interrupt(grace=0.01)) as on:
            running = asyncio.create_task(on.run("hold this"))
            await on.model.entered["hold this"].wait()
            assert await on.run("two") == reply_to("two", 0)
            with pytest.raises(TurnInterrupted):
                await running
            assert on.said() == ["two", reply_to("two", 0)]

    @pytest.mark.parametrize("waits", [True, False], ids=["while it waits", "while its reader does something else"])
    async def test_a_stream(self, waits: bool) -> None:
        """Its reader is not cancelled, but told when it reads on."""
        async with scene(policy=Interrupt(grace=0.01)) as on:
            stream = on.stream("hold this")
            await anext(stream)
            reading = asyncio.create_task(read(stream)) if waits else None
            assert (await on.run("two")).startswith("re two after ")
            with pytest.raises(TurnInterrupted):
                await (reading or read(stream))


class TestKeys:
    """Which lane a run has."""

    @pytest.mark.parametrize("streaming", [False, True])
    async def test_a_run_without_a_session_has_none(self, streaming: bool) -> None:
        """It remembers nothing and waits for nobody."""
        async with scene() as on:
            text = await (read(on.agent.run("one", stream=True)) if streaming else whole(on.agent.run("one")))
            assert text == reply_to("one", 0)
            assert on.started == []

    @pytest.mark.parametrize("streaming", [False, True])
    async def test_or_is_refused_where_one_is_required(self, streaming: bool) -> None:
        """With an error that names the argument."""
        async with scene(required=True) as on:
            with pytest.raises(SessionKeyRequired, match="session="):
                await (read(on.agent.run("one", stream=True)) if streaming else whole(on.agent.run("one")))

    @pytest.mark.parametrize("streaming", [False, True])
    async def test_an_id_that_is_no_key_is_refused(self, streaming: bool) -> None:
        """Before the agent is asked."""
        async with scene() as on:
            on.session = AgentSession(session_id="a\nb")
            with pytest.raises(SessionKeyInvalid):
                await (read(on.stream("one")) if streaming else on.run("one"))
            assert on.model.calls == []

    async def test_it_may_be_another_one(self) -> None:
        """As the tenant's and the session's."""

        def of_tenant(context: AgentContext) -> str:
            return f"tenant/{session_key(context)}"

        async with scene(key=of_tenant) as on:
            await on.run("one")
            assert [event.key for event in on.started] == ["tenant/c"]

    async def test_policies_that_no_run_can_follow_are_refused(self) -> None:
        """That make one turn of several, or take one back; also where the policy is that of the lanes."""
        for policy in ("coalesce", "steer", "rollback"):
            with pytest.raises(ValueError, match="not made one of several, nor taken back"):
                LaneAgentMiddleware(Runtime(), policy=policy)
        for policy in ("coalesce", "steer"):
            with pytest.raises(ValueError, match="not made one of several"):
                LaneAgentMiddleware(Runtime(lanes=Lanes("memory://", policy=policy)))


async def whole(run: Awaitable[AgentResponse[Any]]) -> str:
    return (await run).text


class TestJoining:
    """Inside a turn of the same key there is no second wait."""

    @pytest.mark.parametrize("streaming", [False, True])
    async def test_a_run_inside_a_turn(self, streaming: bool) -> None:
        """As an agent that is a tool of another one, with its session."""
        async with scene() as on:
            async with on.runtime.turn("c"):
                assert await (read(on.stream("one")) if streaming else on.run("one")) == reply_to("one", 0)
            assert len(on.started) == 1

    @pytest.mark.parametrize("streaming", [False, True])
    async def test_requests_behind_the_middleware(self, streaming: bool) -> None:
        """One turn for each request, held until the response has ended."""
        async with scene() as on:

            async def answer(request: Request) -> Response:
                text: str = (await request.json())["text"]
                if not streaming:
                    return JSONResponse(await on.run(text))
                return StreamingResponse(update.text async for update in on.stream(text))

            app = LaneMiddleware(
                Starlette(routes=[Route("/", answer, methods=["POST"])]),
                key=keys.header("x-session"),
                runtime=on.runtime,
                trusted_keys=True,
            )
            async with AsgiDriver(app) as driver:
                sent = [
                    driver.start("POST", headers={"x-session": "c"}, body=json.dumps({"text": text}).encode())
                    for text in ("one", "two")
                ]
                texts = [(await request.response()).text.strip('"') for request in sent]
            assert texts == [reply_to("one", 0), reply_to("two", 1)]
            assert len(on.started) == 2


def edit_by_hand(directory: Path) -> None:
    (transcript,) = directory.glob("*.jsonl")
    message = Message("user", ["by hand"]).to_dict()
    with transcript.open("a") as opened:
        opened.write(json.dumps({"message": message}) + "\n")


def words_in(salvage: str | None) -> str:
    assert salvage is not None
    return Path(salvage).read_text()


class TestHistoryInATranscript:
    """`TranscriptHistoryProvider`: the history is fenced while the model is asked."""

    @pytest.mark.parametrize("streaming", [False, True])
    async def test_overlapping_runs_are_stored_in_order(self, streaming: bool, tmp_path: Path) -> None:
        """Each is shown what the ones before it have stored, also by an agent that comes later."""
        async with Transcripts(tmp_path) as transcripts, scene() as on:
            on.agent.context_providers = [TranscriptHistoryProvider(transcripts)]
            texts = ["one", "two", "three"]
            answers = await asyncio.gather(*(read(on.stream(t)) if streaming else on.run(t) for t in texts))
            assert answers == [reply_to(text, place) for place, text in enumerate(texts)]
            stored = await TranscriptHistoryProvider(transcripts).get_messages("c")
        assert [message.text for message in stored] == [
            each for text, answer in zip(texts, answers, strict=True) for each in (text, answer)
        ]

    @pytest.mark.parametrize("streaming", [False, True])
    async def test_a_foreign_write_while_the_model_is_asked_is_found(self, streaming: bool, tmp_path: Path) -> None:
        """The run fails, nothing is stored behind what somebody else wrote, and its words are in the salvage."""
        async with Transcripts(tmp_path) as transcripts, scene() as on:
            history = TranscriptHistoryProvider(transcripts)
            on.agent.context_providers = [history]
            await on.run("one")
            running = asyncio.create_task(read(on.stream("hold this")) if streaming else on.run("hold this"))
            await on.model.entered["hold this"].wait()
            edit_by_hand(tmp_path)
            on.model.go["hold this"].set()
            with pytest.raises(TranscriptTakeover) as caught:
                await running
            assert reply_to("hold this", 1) in words_in(caught.value.salvaged)
            assert await on.run("two") == reply_to("two", 2)
            said = [message.text for message in await history.get_messages("c")]
            assert said == ["one", reply_to("one", 0), "by hand", "two", reply_to("two", 2)]

    @pytest.mark.parametrize("streaming", [False, True])
    async def test_an_agent_inside_of_another_one_stores_in_the_same_transcript(
        self, streaming: bool, tmp_path: Path
    ) -> None:
        """As one that is its tool and has its session; and so do two providers of one agent."""

        class Asking(AgentMiddleware):
            async def process(self, context: AgentContext, call_next: Callable[[], Awaitable[None]]) -> None:
                await inner.run("inside", session=context.session)
                await call_next()

        async with Transcripts(tmp_path) as transcripts, scene(Asking()) as on:
            gate, history = LaneAgentMiddleware(on.runtime), TranscriptHistoryProvider(transcripts)
            audit = TranscriptHistoryProvider(transcripts, source_id="audit", load_messages=False)
            inner = Agent(Scripted(ScriptedModel()), context_providers=[history], middleware=[gate])
            on.agent.context_providers = [history, audit]
            assert await (read(on.stream("one")) if streaming else on.run("one")) == reply_to("one", 1)
            said = [message.text for message in await history.get_messages("c")]
        stored = ["one", reply_to("one", 1)]
        assert said == ["inside", reply_to("inside", 0), *stored, *stored]

    @pytest.mark.parametrize("text", ["half of an emoji: \ud83d", "one"])
    async def test_what_a_transcript_can_not_hold_is_kept_as_text(self, text: str, tmp_path: Path) -> None:
        """And read as it was: the model has been paid for it."""
        said = Message("assistant", [text], additional_properties={"score": float("inf")})
        async with Transcripts(tmp_path) as transcripts:
            history = TranscriptHistoryProvider(transcripts)
            await history.save_messages("c", [Message("user", ["zero"]), said])
            found = await history.get_messages("c")
        assert [message.text for message in found] == ["zero", text]
        assert found[1].additional_properties == {"score": float("inf")}

    async def test_it_needs_a_session(self, tmp_path: Path) -> None:
        """A run without one has no place to keep its messages."""
        async with Transcripts(tmp_path) as transcripts:
            with pytest.raises(SessionKeyRequired, match="session="):
                await TranscriptHistoryProvider(transcripts).get_messages(None)


@pytest.mark.parametrize(
    ("name", "function", "parameters"),
    [
        ("AgentMiddleware.process", AgentMiddleware.process, ("context", "call_next")),
        ("HistoryProvider", HistoryProvider, ("source_id",)),
        ("HistoryProvider.get_messages", HistoryProvider.get_messages, ("session_id", "state", "kwargs")),
        ("HistoryProvider.save_messages", HistoryProvider.save_messages, ("session_id", "messages", "state", "kwargs")),
        ("ResponseStream", ResponseStream, ("stream", "finalizer")),
        ("Agent", Agent, ("middleware",)),
        ("Agent.run", Agent.run, ("session", "stream")),
    ],
)
def test_the_functions_it_relies_on_are_as_they_were(
    name: str, function: Callable[..., Any], parameters: tuple[str, ...]
) -> None:
    """A release of agent-framework that changes one of them is found here, by name."""
    there = inspect.signature(function).parameters
    gone = [each for each in parameters if each not in there]
    assert not gone, f"agent-framework's {name} has no parameter {gone} any more: {LOOK_AT}"


async def test_the_context_it_relies_on_is_as_it_was() -> None:
    """The same for what a middleware is given: before the history is loaded, and with a stream that is not begun."""
    seen: list[str] = []

    class Looking(AgentMiddleware):
        async def process(self, context: AgentContext, call_next: Callable[[], Awaitable[None]]) -> None:
            gone = [name for name in ("agent", "session", "stream", "result") if not hasattr(context, name)]
            assert not gone, f"agent-framework's AgentContext has no {gone} any more: {LOOK_AT}"
            known = hasattr(context.agent, "context_providers")
            assert known, f"agent-framework's Agent has no context_providers any more: {LOOK_AT}"
            seen.extend(events)
            await call_next()
            shape = isinstance(context.result, ResponseStream) is context.stream
            assert shape, f"agent-framework's AgentContext.result is no ResponseStream for a stream any more: {LOOK_AT}"

    class Loading(InMemoryHistoryProvider):
        async def get_messages(self, session_id: str | None, **kwargs: Any) -> list[Message]:
            events.append("loaded")
            return await super().get_messages(session_id, **kwargs)

    events: list[str] = []
    agent = Agent(Scripted(ScriptedModel()), context_providers=[Loading("h")], middleware=[Looking()])
    await agent.run("one", session=AgentSession())
    assert (seen, events) == ([], ["loaded"]), f"agent-framework loads the history before middleware runs: {LOOK_AT}"
    events.clear()
    await agent.run("one", session=AgentSession(), stream=True).get_final_response()
    assert (seen, events) == ([], ["loaded"]), f"agent-framework loads the history before middleware runs: {LOOK_AT}"


def test_the_example_forgets_nothing_with_lanes(tmp_path: Path) -> None:
    """Two messages of one session at once, one of them streamed, without lanes and with them."""
    assert example_output("ms_agent_framework.py", directory=tmp_path) == [
        "without lanes",
        "  'I live in London' -> 'I knew []'",
        "  'my name is Ada' -> 'I knew []'",
        "  stored: ['I live in London', 'my name is Ada']",
        "with lanes",
        "  'my name is Ada' -> 'I knew []'",
        "  'I live in London' -> \"I knew ['my name is Ada']\"",
        "  stored: ['my name is Ada', 'I live in London']",
    ]
