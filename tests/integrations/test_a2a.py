"""a2a-sdk: what a turn of a context is to its tasks, and what is told of a message that gets none."""

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import a2a.helpers
import pytest
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater

from support.a2a_server import Asking, Server, answer_in, serving, states_in, task_in
from support.example_output import example_output
from support.rigs import ScriptedModel
from support.rigs.a2a import Files, Remembering, asked
from support.rigs.contract import reply_to
from support.rigs.judging import damage
from turnlane import Interrupt, Lanes, Runtime, current_turn
from turnlane.errors import LaneBusy, SessionKeyRequired, TranscriptTakeover
from turnlane.hooks import TurnQueued, TurnRefused
from turnlane_integrations.a2a import LaneAgentExecutor, context_key

NOWHERE: Any = None  # the queue of an executor that publishes nothing
LOOK_AT = "look at integrations/turnlane_integrations/a2a.py"


class Seen(Remembering):
    """The agent, which notes whose cancellation it was asked for."""

    def __init__(self, model: ScriptedModel, files: Files) -> None:
        super().__init__(model, files)
        self.cancelled: list[str | None] = []

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        self.cancelled.append(context.task_id)
        await super().cancel(context, event_queue)


class Scene:
    """A server whose agent has lanes, and what happens there."""

    def __init__(self, server: Server, agent: Seen, model: ScriptedModel, files: Files, runtime: Runtime) -> None:
        self.server, self.agent, self.model, self.files = server, agent, model, files
        self.queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        self.refused: list[TurnRefused] = []
        runtime.hooks.on(TurnQueued, self.queued.put_nowait)
        runtime.hooks.on(TurnRefused, self.refused.append)


@asynccontextmanager
async def scene(directory: Path, **settings: Any) -> AsyncGenerator[Scene, None]:
    """Serve the agent, for the block; all lanes are free after it."""
    model, files = ScriptedModel(), Files(str(directory))
    async with Runtime() as runtime:
        agent = Seen(model, files)
        async with serving(LaneAgentExecutor(agent, runtime, **settings)) as server:
            yield Scene(server, agent, model, files, runtime)
        statistics = runtime.lanes.statistics()
        assert (statistics.lanes, statistics.running, statistics.waiting) == (0, 0, 0)


class TestCancelling:
    """`cancel` never waits for a lane."""

    async def test_a_task_that_runs_is_cancelled_at_once_and_the_next_one_runs(self, tmp_path: Path) -> None:
        """The wrapped executor is asked, while its `execute` has the lane and another message waits for it."""
        async with scene(tmp_path, announce=True) as on:
            running = on.server.send("hold this", at_once=True)
            task_id = task_in((await running.response()).text)["id"]
            await on.model.entered["hold this"].wait()
            following = on.server.send("two")
            await on.queued.get()
            assert (await on.server.cancel(task_id))["status"]["state"] == "TASK_STATE_CANCELED"
            assert answer_in((await following.response()).text) == reply_to("two", 0)
            assert on.agent.cancelled == [task_id]

    async def test_a_task_that_waits_leaves_the_line(self, tmp_path: Path) -> None:
        """It is cancelled although nothing of it was executed; the wrapped executor never hears of it."""
        async with scene(tmp_path, announce=True) as on:
            running = on.server.send("hold this")
            await on.model.entered["hold this"].wait()
            waiting = task_in((await on.server.send("two", at_once=True).response()).text)
            assert waiting["status"]["state"] == "TASK_STATE_SUBMITTED"
            await on.queued.get()
            cancelled = await on.server.cancel(waiting["id"])
            assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
            assert cancelled["status"]["message"]["parts"] == [{"text": "cancelled before its turn had come"}]
            on.model.go["hold this"].set()
            assert answer_in((await running.response()).text) == reply_to("hold this", 0)
            assert on.agent.cancelled == []
            assert on.model.calls == [["hold this"]]
            assert [event.reason for event in on.refused] == ["cancelled"]


class TestAnnouncing:
    """With `announce` what a lane refuses is told as a status of the task."""

    async def test_a_message_that_finds_its_context_busy_is_rejected(self, tmp_path: Path) -> None:
        """Its task is, with the reason; the model is not called."""
        async with scene(tmp_path, announce=True, policy="reject") as on:
            running = on.server.send("hold this")
            await on.model.entered["hold this"].wait()
            task = task_in((await on.server.send("two").response()).text)
            assert task["status"]["state"] == "TASK_STATE_REJECTED"
            assert "'c'" in task["status"]["message"]["parts"][0]["text"]
            on.model.go["hold this"].set()
            await running.response()
            assert on.model.calls == [["hold this"]]

    async def test_a_context_that_can_be_no_key_is_refused_before_that(self, tmp_path: Path) -> None:
        """No task is made that would fail without a reason."""
        async with scene(tmp_path, announce=True) as on:
            answer = await on.server.send("hi", context_id="a\x07b", at_once=True).response()
            assert "the session key" in answer.text
            assert "TASK_STATE" not in answer.text
            assert on.model.calls == []

    async def test_a_stream_is_told_the_same(self, tmp_path: Path) -> None:
        """Submitted, rejected, and the end."""
        async with scene(tmp_path, announce=True, policy="reject") as on:
            running = on.server.send("hold this")
            await on.model.entered["hold this"].wait()
            told = (await on.server.send("two", method="SendStreamingMessage").response()).text
            assert states_in(told) == ["TASK_STATE_SUBMITTED", "TASK_STATE_REJECTED"]
            on.model.go["hold this"].set()
            await running.response()

    async def test_a_task_that_waits_for_an_answer_still_does(self, tmp_path: Path) -> None:
        """The answer comes while its context is busy: it is told why, and can be sent again."""
        async with Runtime() as runtime:
            executor = LaneAgentExecutor(Asking(), runtime, announce=True, policy="reject")
            async with serving(executor) as server:
                task_id = task_in((await server.send("book a flight").response()).text)["id"]
                async with runtime.turn("c"):
                    refused = task_in((await server.send("to Rome", task_id=task_id).response()).text)
                assert refused["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
                assert "'c'" in refused["status"]["message"]["parts"][0]["text"]
                again = await server.send("to Rome, please", task_id=task_id).response()
        assert answer_in(again.text) == "book a flight to Rome, please"

    async def test_who_is_interrupted_is_cancelled(self, tmp_path: Path) -> None:
        """The newest message runs; the clients of the others learn what became of theirs."""
        async with scene(tmp_path, announce=True, policy=Interrupt(grace=0.01)) as on:
            running = on.server.send("hold this")
            await on.model.entered["hold this"].wait()
            newest = on.server.send("two")
            assert answer_in((await newest.response()).text) == reply_to("two", 0)
            task = task_in((await running.response()).text)
            assert task["status"]["state"] == "TASK_STATE_CANCELED"
            assert "interrupted" in task["status"]["message"]["parts"][0]["text"]
            assert damage(["two"], {"two": reply_to("two", 0)}, on.files.read("c")) == []


class TestNotAnnouncing:
    """Without it nothing is published but what the executor publishes."""

    async def test_an_executor_that_answers_with_a_message_is_as_before(self) -> None:
        """Its message is the only event."""

        class Greeting(AgentExecutor):
            async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
                await event_queue.enqueue_event(a2a.helpers.new_text_message(f"hello {context.get_user_input()}"))

            async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
                raise NotImplementedError

        async with Runtime() as runtime, serving(LaneAgentExecutor(Greeting(), runtime)) as server:
            response = json.loads((await server.send("Ada").response()).text)
        assert response["result"]["message"]["parts"] == [{"text": "hello Ada"}]

    async def test_a_refusal_is_an_internal_error(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """That is what a2a-sdk makes of exceptions of an executor."""
        caplog.set_level(logging.CRITICAL, "a2a")
        async with scene(tmp_path, policy="reject") as on:
            running = on.server.send("hold this")
            await on.model.entered["hold this"].wait()
            refused = json.loads((await on.server.send("two").response()).text)
            assert refused["error"]["code"] == -32603
            assert "'c'" in refused["error"]["message"]
            on.model.go["hold this"].set()
            await running.response()


class Noting(AgentExecutor):
    """Notes what it is given; holds when it is told to."""

    def __init__(self) -> None:
        self.turns: list[str] = []
        self.entered, self.go = asyncio.Event(), asyncio.Event()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        turn = current_turn()
        assert turn is not None
        self.turns.append(turn.key)
        self.entered.set()
        await self.go.wait()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise AssertionError


class TestKeys:
    """Which lane a message has."""

    async def test_a_message_without_a_context_is_refused(self) -> None:
        """a2a-sdk always gives it one; who calls by himself may not."""
        async with Runtime() as runtime:
            with pytest.raises(SessionKeyRequired, match="contextId"):
                await LaneAgentExecutor(Noting(), runtime).execute(RequestContext(ServerCallContext()), NOWHERE)

    async def test_the_key_may_be_the_users_own(self) -> None:
        """So that nobody can wait in, or reject from, another one's lane."""
        noting = Noting()
        noting.go.set()

        def of_user(context: RequestContext) -> str:
            return f"{context.call_context.user.is_authenticated}/{context_key(context)}"

        async with Runtime() as runtime:
            context = RequestContext(ServerCallContext(), asked("c", "one"))
            await LaneAgentExecutor(noting, runtime, key=of_user).execute(context, NOWHERE)
        assert noting.turns == ["False/c"]

    async def test_a_caller_in_process_gets_the_lanes_own_error(self) -> None:
        """As `LaneBusy`."""
        noting = Noting()
        async with Runtime() as runtime:
            executor = LaneAgentExecutor(noting, runtime, policy="reject")

            async def execute() -> None:
                await executor.execute(RequestContext(ServerCallContext(), asked("c", "one")), NOWHERE)

            first = asyncio.create_task(execute())
            await noting.entered.wait()
            with pytest.raises(LaneBusy):
                await execute()
            noting.go.set()
            await first

    @pytest.mark.parametrize("policy", ["coalesce", "steer"])
    async def test_policies_that_make_one_turn_of_several_are_refused(self, policy: str) -> None:
        """The tasks of the others would never be answered; also where the policy is that of the lanes."""
        with pytest.raises(ValueError, match="not made one of several"):
            LaneAgentExecutor(Noting(), Runtime(), policy=policy)
        with pytest.raises(ValueError, match="not made one of several"):
            LaneAgentExecutor(Noting(), Runtime(lanes=Lanes("memory://", policy=policy)))


class Transcribing(AgentExecutor):
    """Keeps the history in the transcript of its turn."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model
        self.found: TranscriptTakeover | None = None

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        turn = current_turn()
        assert turn is not None
        try:
            async with turn.open_transcript() as transcript:
                await transcript.append({"role": "user", "content": context.get_user_input()})
                async with transcript.released() as prompt:
                    prompt.stage({"role": "assistant", "content": await self._model.reply([context.get_user_input()])})
        except TranscriptTakeover as error:
            self.found = error
            raise

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


def edit_by_hand(directory: Path) -> None:
    (transcript,) = directory.glob("*.jsonl")
    with transcript.open("a") as opened:
        opened.write('{"role": "user", "content": "by hand"}\n')


def words_in(salvage: str | None) -> str:
    assert salvage is not None
    return Path(salvage).read_text()


async def test_a_foreign_write_while_the_model_is_asked_fails_the_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For an executor that keeps its history in the turn's transcript: the client is told, the words are kept."""
    caplog.set_level(logging.CRITICAL, "a2a")
    model = ScriptedModel()
    agent = Transcribing(model)
    async with (
        Runtime(sessions="memory://", transcripts=tmp_path) as runtime,
        serving(LaneAgentExecutor(agent, runtime, announce=True)) as server,
    ):
        request = server.send("hold this", method="SendStreamingMessage")
        await model.entered["hold this"].wait()
        edit_by_hand(tmp_path)
        model.go["hold this"].set()
        told = (await request.response()).text
        assert (await server.get(task_in(told)["id"]))["status"]["state"] == "TASK_STATE_FAILED"
    assert agent.found is not None
    assert "somebody who does not own it" in told
    assert reply_to("hold this", 0) in words_in(agent.found.salvaged)


@pytest.mark.parametrize(
    ("name", "function", "parameters"),
    [
        ("AgentExecutor.execute", AgentExecutor.execute, ("context", "event_queue")),
        ("AgentExecutor.cancel", AgentExecutor.cancel, ("context", "event_queue")),
        ("TaskUpdater", TaskUpdater, ("event_queue", "task_id", "context_id")),
        ("TaskUpdater.update_status", TaskUpdater.update_status, ("state", "message")),
        ("helpers.new_task_from_user_message", a2a.helpers.new_task_from_user_message, ("user_message",)),
        ("helpers.new_text_message", a2a.helpers.new_text_message, ("text", "context_id", "task_id", "role")),
    ],
)
def test_the_functions_it_relies_on_are_as_they_were(
    name: str, function: Callable[..., Any], parameters: tuple[str, ...]
) -> None:
    """A release of a2a-sdk that changes one of them is found here, by name."""
    there = inspect.signature(function).parameters
    gone = [each for each in parameters if each not in there]
    assert not gone, f"a2a-sdk's {name} has no parameter {gone} any more: {LOOK_AT}"


def test_the_attributes_it_relies_on_are_as_they_were() -> None:
    """The same for the context of a request."""
    context = RequestContext(ServerCallContext(), asked("c", "one"))
    gone = [name for name in ("context_id", "task_id", "current_task", "message") if not hasattr(context, name)]
    assert not gone, f"a2a-sdk's RequestContext has no {gone} any more: {LOOK_AT}"
    assert context.context_id == "c", f"a2a-sdk's RequestContext.context_id is not that of the message: {LOOK_AT}"
    assert context.task_id, f"a2a-sdk's RequestContext has no task_id before its execution any more: {LOOK_AT}"
    assert context.message is not None
    context.current_task = task = a2a.helpers.new_task_from_user_message(context.message)
    assert context.current_task is task, f"a2a-sdk's RequestContext.current_task can not be set any more: {LOOK_AT}"


def test_the_example_forgets_nothing_with_lanes(tmp_path: Path) -> None:
    """Two messages of one context at once, without lanes and with them."""
    lines = example_output("a2a_sdk.py", directory=tmp_path)
    without, first, second, forgotten, with_lanes, *answers, remembered = lines
    assert (without, with_lanes) == ("without lanes", "with lanes")
    assert {first, second} == {"  'my name is Ada' -> 'I knew []'", "  'I live in London' -> 'I knew []'"}
    assert forgotten in ("  remembered: ['my name is Ada']", "  remembered: ['I live in London']")
    assert answers == ["  'my name is Ada' -> 'I knew []'", "  'I live in London' -> \"I knew ['my name is Ada']\""]
    assert remembered == "  remembered: ['my name is Ada', 'I live in London']"
