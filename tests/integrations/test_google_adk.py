"""google-adk: what is found of foreign writes, what threads and requests do, and what of ADK all this rests on."""

import asyncio
import inspect
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents.live_request_queue import LiveRequestQueue
from google.adk.agents.run_config import RunConfig
from google.adk.errors import StaleSessionError
from google.adk.events import Event
from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService, DatabaseSessionService, InMemorySessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from support.example_output import example_output
from support.rigs.contract import ModelFailed, ScriptedModel, reply_to
from support.rigs.google_adk import APP, USER, agent_of, lines_of, message, text_of
from turnlane import Coalesce, LaneMiddleware, Lanes, Runtime, Steer, Transcripts, keys
from turnlane.errors import NotConfigured, SessionKeyInvalid, SessionKeyRequired, TranscriptTakeover, TurnInterrupted
from turnlane.hooks import TurnQueued
from turnlane.testing import AsgiDriver
from turnlane_integrations.google_adk import FencedSessions, LaneRunner, SessionTakeover, session_key

LOOK_AT = "look at integrations/turnlane_integrations/google_adk/"


def runner_of(runtime: Runtime, model: ScriptedModel, service: BaseSessionService, **options: Any) -> LaneRunner:
    return LaneRunner(
        runtime=runtime,
        app_name=APP,
        agent=agent_of(model),
        session_service=service,
        auto_create_session=True,
        **options,
    )


async def say(runner: Runner, text: str, session_id: str = "c") -> str:
    events = runner.run_async(user_id=USER, session_id=session_id, new_message=message(text))
    return "".join([text_of(event.content) async for event in events])


async def history(service: BaseSessionService, session_id: str = "c") -> list[str]:
    session = await service.get_session(app_name=APP, user_id=USER, session_id=session_id)
    return [line.text for line in lines_of(session)]


async def write_behind(service: BaseSessionService) -> None:
    """Store an event as somebody does who has no lane."""
    session = await service.get_session(app_name=APP, user_id=USER, session_id="c")
    assert session is not None
    await service.append_event(session, Event(author="user", content=message("told behind its back")))


@asynccontextmanager
async def a_service(kind: str, directory: Path) -> AsyncGenerator[BaseSessionService, None]:
    if kind == "memory":
        yield InMemorySessionService()
    elif kind == "sqlite":
        yield SqliteSessionService(f"{directory}/sessions.db")
    else:
        service = DatabaseSessionService(f"sqlite+aiosqlite:///{directory}/sessions.db")
        yield service
        await service.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite", "database"])
async def test_a_foreign_write_is_a_takeover_and_the_answer_is_kept(kind: str, tmp_path: Path) -> None:
    """What the run had to store is in the salvage; ADK knows the error, and the original is its cause."""
    model = ScriptedModel()
    async with a_service(kind, tmp_path) as service, Runtime() as runtime, Transcripts(tmp_path / "kept") as salvage:
        runner = runner_of(runtime, model, FencedSessions(service, salvage=salvage))
        running = asyncio.create_task(say(runner, "hold this"))
        await model.entered["hold this"].wait()
        await write_behind(service)
        model.go["hold this"].set()
        with pytest.raises(SessionTakeover, match="was appended by somebody who does not own it") as caught:
            await running
        assert isinstance(caught.value, TranscriptTakeover)
        assert isinstance(caught.value.__cause__, StaleSessionError)
        assert caught.value.turn is not None
        (kept,) = await salvage.read(f"{APP}/{USER}/c")
        assert kept["event"]["content"]["parts"] == [{"text": reply_to("hold this", 0)}]
        assert f"{APP}/{USER}/c in " in str(caught.value.salvaged)
        assert await history(service) == ["hold this", "told behind its back"]
        assert await say(runner, "go on") == reply_to("go on", 2)


async def test_a_run_that_is_cancelled_leaves_no_database_locked(tmp_path: Path) -> None:
    """As it is without a fence, where its read of the session is cut off: every run after it fails."""
    async with (
        a_service("database", tmp_path) as service,
        Runtime() as runtime,
        Transcripts(tmp_path / "kept") as salvage,
    ):
        runner = runner_of(runtime, ScriptedModel(), FencedSessions(service, salvage=salvage))
        await say(runner, "one")
        for steps in range(16):
            running = asyncio.create_task(say(runner, "left"))
            for _ in range(steps):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait({running})
            assert (await say(runner, "go on", f"other {steps}")) == reply_to("go on", 0)
        assert (await say(runner, "go on")).startswith("re go on after ")


async def test_a_stale_session_is_a_takeover_without_a_fence_too(tmp_path: Path) -> None:
    """With the service as it is there is no salvage, and the error says so."""
    model = ScriptedModel()
    service = SqliteSessionService(f"{tmp_path}/sessions.db")
    async with Runtime() as runtime:
        running = asyncio.create_task(say(runner_of(runtime, model, service), "hold this"))
        await model.entered["hold this"].wait()
        await write_behind(service)
        model.go["hold this"].set()
        with pytest.raises(SessionTakeover) as caught:
            await running
    assert caught.value.salvaged is None
    assert isinstance(caught.value.__cause__, StaleSessionError)


async def test_a_newer_message_interrupts(tmp_path: Path) -> None:
    """What the first one said stays, its answer is never given."""
    model, service = ScriptedModel(), SqliteSessionService(f"{tmp_path}/sessions.db")
    async with Runtime() as runtime:
        runner = runner_of(runtime, model, service, policy="interrupt")
        first = asyncio.create_task(say(runner, "hold this"))
        await model.entered["hold this"].wait()
        runtime.lanes.interrupt(session_key(APP, USER, "c"), grace=0)
        second = asyncio.create_task(say(runner, "two"))
        with pytest.raises(TurnInterrupted):
            await first
        assert await second == reply_to("two", 1)
    assert await history(service) == ["hold this", "two", reply_to("two", 1)]


async def test_a_rewind_waits_for_the_run(tmp_path: Path) -> None:
    """It is a turn as any other, and takes away what it is asked to."""
    model, service = ScriptedModel(), SqliteSessionService(f"{tmp_path}/sessions.db")
    queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
    async with Runtime() as runtime:
        runtime.hooks.on(TurnQueued, queued.put_nowait)
        runner = runner_of(runtime, model, service)
        await say(runner, "one")
        session = await service.get_session(app_name=APP, user_id=USER, session_id="c")
        assert session is not None
        running = asyncio.create_task(say(runner, "hold this"))
        await model.entered["hold this"].wait()
        invocation = session.events[0].invocation_id
        rewinding = asyncio.create_task(
            runner.rewind_async(user_id=USER, session_id="c", rewind_before_invocation_id=invocation)
        )
        await queued.get()
        model.go["hold this"].set()
        assert await running == reply_to("hold this", 1)
        await rewinding
        assert await say(runner, "anew") == reply_to("anew", 0)


@pytest.mark.parametrize("part", ["user_id", "session_id"])
@pytest.mark.parametrize(
    ("value", "error"), [(None, SessionKeyRequired), (" ", SessionKeyRequired), (7, SessionKeyInvalid)]
)
async def test_a_session_that_is_not_named_is_an_error(part: str, value: Any, error: type[Exception]) -> None:
    """Before anything runs, and it says which argument."""
    async with Runtime() as runtime:
        runner: Any = runner_of(runtime, ScriptedModel(), InMemorySessionService())
        named = {"user_id": USER, "session_id": "c", part: value}
        with pytest.raises(error, match=f"{part}="):
            await anext(runner.run_async(**named, new_message=message("one")))


@pytest.mark.parametrize(
    "parts",
    [
        ("app", "ada", "1"),
        ("my app", "a/b", "c%2Fd"),
        (" x ", "Zoë", "e\u0301"),
        ("a", "b/c", "d"),
        ("a", "b", "漢" * 160),
    ],
)
async def test_the_key_is_that_of_requests(parts: tuple[str, str, str]) -> None:
    """So a run behind the middleware is in the lane of its request."""
    extractor: Any = keys.adk()
    document = JSONResponse(dict(zip(("appName", "userId", "sessionId"), parts, strict=True)))
    assert extractor.parse({}, document.body) == session_key(*parts)


def test_runs_are_not_made_one_of_several_nor_taken_back() -> None:
    """A run has one message: what of others it would be made of nobody would see. What it has stored stays."""
    for policy in ("coalesce", Steer(), "rollback"):
        with pytest.raises(ValueError, match="not made one of several"):
            runner_of(Runtime(), ScriptedModel(), InMemorySessionService(), policy=policy)
    with pytest.raises(ValueError, match="not made one of several"):
        runner_of(Runtime(lanes=Lanes("memory://", policy=Coalesce())), ScriptedModel(), InMemorySessionService())


class TestRequests:
    """Runs in a server behind the middleware."""

    @pytest.mark.parametrize("threads", [False, True])
    async def test_a_run_joins_the_turn_of_its_request(self, threads: bool, tmp_path: Path) -> None:
        """Nobody waits for itself, whether the endpoint awaits the run or calls it in a thread."""
        runtime = Runtime()
        service = SqliteSessionService(f"{tmp_path}/sessions.db")
        runner = runner_of(runtime, ScriptedModel(), service)

        def run(session: str, text: str) -> str:
            events = runner.run(user_id=USER, session_id=session, new_message=message(text))
            return "".join(text_of(event.content) for event in events)

        async def chat(request: Request) -> Response:
            asked = await request.json()
            session, text = asked["sessionId"], asked["text"]
            answer = run_in_threadpool(run, session, text) if threads else say(runner, text, session)
            return PlainTextResponse(f"{await answer} in {request.state.turn.key}")

        app = Starlette(routes=[Route("/", chat, methods=["POST"])])
        wrapped = LaneMiddleware(app, key=keys.adk(), runtime=runtime, trusted_keys=True)
        async with AsgiDriver(wrapped) as client, runtime:
            bodies = [
                JSONResponse({"appName": APP, "userId": USER, "sessionId": "c", "text": text}).body
                for text in ("one", "two")
            ]
            requests = [client.start("POST", "/", body=bytes(body)) for body in bodies]
            answers = [(await request.response()).text for request in requests]
        assert answers == [f"{reply_to(text, place)} in {APP}/{USER}/c" for place, text in enumerate(("one", "two"))]


class Talk:
    """A live run: what it is sent, and what it has answered."""

    def __init__(self, runner: LaneRunner) -> None:
        self._runner = runner
        self.queue = LiveRequestQueue()
        self.answers: asyncio.Queue[str] = asyncio.Queue()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        config = RunConfig.model_validate({"response_modalities": ["TEXT"]})
        events = self._runner.run_live(user_id=USER, session_id="c", live_request_queue=self.queue, run_config=config)
        answer = ""
        async with aclosing(events):
            async for event in events:
                answer += text_of(event.content)
                if event.turn_complete:
                    self.answers.put_nowait(answer)
                    answer = ""

    async def say(self, text: str) -> str:
        self.queue.send_content(message(text))
        return await self.answers.get()


class TestLive:
    """`run_live`, with a model that is connected."""

    async def test_a_live_run_is_one_turn_until_it_is_closed(self, tmp_path: Path) -> None:
        """A message waits for its end, and knows all that was said in it."""
        queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        async with Runtime() as runtime:
            runtime.hooks.on(TurnQueued, queued.put_nowait)
            runner = runner_of(runtime, ScriptedModel(), SqliteSessionService(f"{tmp_path}/sessions.db"))
            talk = Talk(runner)
            assert await talk.say("one") == "live one"
            second = asyncio.create_task(say(runner, "three"))
            await queued.get()
            assert await talk.say("two") == "live two"
            talk.queue.close()
            await talk.task
            assert await second == reply_to("three", 2)
            assert runtime.lanes.statistics().lanes == 0

    async def test_a_reader_that_leaves_a_live_run_lets_the_lane_go(self, tmp_path: Path) -> None:
        """What was said by then is stored."""
        async with Runtime() as runtime:
            runner = runner_of(runtime, ScriptedModel(), SqliteSessionService(f"{tmp_path}/sessions.db"))
            talk = Talk(runner)
            assert await talk.say("one") == "live one"
            talk.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await talk.task
            assert runtime.lanes.statistics().lanes == 0
            assert await say(runner, "two") == reply_to("two", 1)

    async def test_a_live_run_is_told_of_a_foreign_write_when_it_ends(self, tmp_path: Path) -> None:
        """What its client said after that is kept."""
        service = SqliteSessionService(f"{tmp_path}/sessions.db")
        async with Runtime() as runtime, Transcripts(tmp_path / "salvage") as salvage:
            refused = asyncio.Event()
            fence = FencedSessions(service, salvage=salvage)
            runner = runner_of(runtime, ScriptedModel(), fence)
            talk = Talk(runner)
            assert await talk.say("one") == "live one"
            await write_behind(service)
            refusing = fence.append_event

            async def append_event(*given: Any, **named: Any) -> Event:
                try:
                    return await refusing(*given, **named)
                finally:
                    refused.set()

            fence.append_event = append_event  # type: ignore[method-assign]
            talk.queue.send_content(message("two"))
            await refused.wait()
            talk.task.cancel()
            with pytest.raises(SessionTakeover, match="what was to be stored is in"):
                await talk.task
            assert [
                entry["event"]["content"]["parts"] for entry in await salvage.read(session_key(APP, USER, "c"))
            ] == [[{"text": "two"}]]
            assert await history(service) == ["one", "live one", "told behind its back"]


class TestDebugging:
    """`run_debug`."""

    async def test_messages_that_are_tried_at_once_share_one_new_session(self, tmp_path: Path) -> None:
        """Each list of them is a turn, and the second finds the session that the first has made."""
        service = SqliteSessionService(f"{tmp_path}/sessions.db")
        async with Runtime() as runtime:
            runner = runner_of(runtime, ScriptedModel(), service)
            tried = (["one", "two"], "three")
            given: dict[str, Any] = {"user_id": USER, "session_id": "c", "quiet": True}
            found = await asyncio.gather(*(runner.run_debug(each, **given) for each in tried))
            assert [[text_of(event.content) for event in events] for events in found] == [
                [reply_to("one", 0), reply_to("two", 1)],
                [reply_to("three", 2)],
            ]
            assert await runner.run_debug("hello", quiet=True) != []


class TestThreads:
    """`run`, which is not async."""

    async def test_threads_take_turns_in_the_loop_of_the_lanes(self, tmp_path: Path) -> None:
        """A message from a thread waits for one that is awaited."""
        model, service = ScriptedModel(), SqliteSessionService(f"{tmp_path}/sessions.db")
        queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        async with Runtime() as runtime:
            runtime.hooks.on(TurnQueued, queued.put_nowait)
            runner = runner_of(runtime, model, service)
            first = asyncio.create_task(say(runner, "hold this"))
            await model.entered["hold this"].wait()
            second = asyncio.create_task(asyncio.to_thread(say_in_thread, runner, "two"))
            await queued.get()
            model.go["hold this"].set()
            assert await first == reply_to("hold this", 0)
            assert await second == reply_to("two", 1)

    def test_there_need_be_no_loop(self, tmp_path: Path) -> None:
        """It has one of its own then, which ends with the runner."""
        runner = runner_of(Runtime(lanes=f"file://{tmp_path}/lanes"), ScriptedModel(), InMemorySessionService())
        assert say_in_thread(runner, "one") == reply_to("one", 0)
        assert say_in_thread(runner, "two") == reply_to("two", 1)
        with pytest.raises(ModelFailed):
            say_in_thread(runner, "fail")
        asyncio.run(runner.close())

    def test_a_reader_that_leaves_lets_the_lane_go(self) -> None:
        """The next message is answered."""
        runner = runner_of(Runtime(), ScriptedModel(), InMemorySessionService())
        events = runner.run(user_id=USER, session_id="c", new_message=message("one"))
        assert text_of(next(events).content) == reply_to("one", 0)
        events.close()
        assert say_in_thread(runner, "two").startswith("re two after ")
        asyncio.run(runner.close())

    async def test_it_does_not_stop_an_event_loop(self) -> None:
        """There it is refused, and what to await instead is named."""
        async with Runtime() as runtime:
            runner = runner_of(runtime, ScriptedModel(), InMemorySessionService())
            with pytest.raises(NotConfigured, match="await run_async"):
                say_in_thread(runner, "one")


def say_in_thread(runner: LaneRunner, text: str) -> str:
    events = runner.run(user_id=USER, session_id="c", new_message=message(text))
    return "".join(text_of(event.content) for event in events)


async def test_a_fence_passes_the_options_of_a_service_on(tmp_path: Path) -> None:
    """As those of Vertex AI, whose sessions expire."""
    given: list[Any] = []

    class Expiring(InMemorySessionService):
        async def create_session(self, *, ttl: str = "", **named: Any) -> Any:
            given.append(ttl)
            return await super().create_session(**named)

    async with Transcripts(tmp_path / "salvage") as salvage:
        fence = FencedSessions(Expiring(), salvage=salvage)
        session = await fence.create_session(app_name=APP, user_id=USER, session_id="c", ttl="3600s")
    assert (session.id, given) == ("c", ["3600s"])


class TestInterface:
    """What of ADK this rests on, named here so that a new version which changes it is seen at once."""

    RUNS = frozenset({"run", "run_async", "run_live", "run_debug", "rewind_async"})

    def test_all_that_runs_turns_is_known(self) -> None:
        """A new method of the runner may run turns without their lane."""
        public = {name for name, found in vars(Runner).items() if inspect.isfunction(found) and name[0] != "_"}
        assert public - self.RUNS - {"close"} == set(), (
            f"google.adk Runner has methods that are new: {LOOK_AT}runner.py"
        )
        assert public >= self.RUNS, f"google.adk Runner has no {self.RUNS - public} any more: {LOOK_AT}runner.py"

    @pytest.mark.parametrize("name", ["run", "run_async", "run_live", "rewind_async"])
    def test_runs_name_their_session(self, name: str) -> None:
        """By the two arguments the key is made of."""
        found = inspect.signature(getattr(Runner, name)).parameters
        for parameter in ("user_id", "session_id"):
            assert parameter in found, (
                f"google.adk Runner.{name} has no parameter {parameter} any more: {LOOK_AT}runner.py"
            )

    def test_a_debug_run_names_the_same_session(self) -> None:
        """Where the caller names none."""
        theirs, ours = (inspect.signature(each.run_debug).parameters for each in (Runner, LaneRunner))
        for parameter in ("user_id", "session_id"):
            assert theirs[parameter].default == ours[parameter].default, (
                f"google.adk Runner.run_debug has another {parameter}: {LOOK_AT}runner.py"
            )

    def test_the_fence_passes_all_of_a_session_service_on(self) -> None:
        """A method the contract has and the fence has not would be answered by the base class, without the service."""
        contract = {name for name, found in vars(BaseSessionService).items() if callable(found) and name[0] != "_"}
        missing = contract - set(vars(FencedSessions))
        assert missing == set(), f"google.adk BaseSessionService has methods that are new: {LOOK_AT}fence.py"

    def test_a_stale_session_is_an_error_of_its_own(self) -> None:
        """And one that an error of ours can be as well."""
        assert issubclass(StaleSessionError, ValueError), f"google.adk StaleSessionError is another: {LOOK_AT}stale.py"
        assert issubclass(SessionTakeover, TranscriptTakeover)


def test_the_example_shows_two_messages(tmp_path: Path) -> None:
    """The second knows the first; without lanes one of them is lost."""
    own = ["Skipping missing token usage metadata", "Root node example was cancelled"]
    old = ["BaseAgentConfig is deprecated", "SelectableGroups dict"]
    assert example_output("google_adk_runner.py", directory=tmp_path, logged=own, warned=old) == [
        "Runner: one is refused, or not told of the other",
        "LaneRunner: 'my name is Ada' was answered knowing 0 messages before it",
        "LaneRunner: 'who am I?' was answered knowing 1 messages before it",
        "stored: ['my name is Ada', 'who am I?']",
    ]
