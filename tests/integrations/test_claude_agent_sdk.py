"""claude-agent-sdk, with its own program: what is proven of a session's file, and what another program does to it."""

import asyncio
import inspect
import json
import os
import pickle
from collections.abc import Callable
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import fields
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import claude_agent_sdk
import httpx
import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookContext,
    HookInput,
    HookMatcher,
    InMemorySessionStore,
    Message,
    ResultMessage,
    create_sdk_mcp_server,
    fork_session,
    project_key_for_directory,
    query,
    tool,
)
from claude_agent_sdk.types import SyncHookJSONOutput
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from support.claude_bench import agent_of, claude, lines_of, programs, runtime_of
from support.example_output import example_output
from support.rigs import ScriptedModel
from support.rigs.claude_agent_sdk import ClaudeAgentSDK, session_of
from support.rigs.contract import reply_to
from turnlane import LaneMiddleware, Runtime, TranscriptMonitor
from turnlane.errors import (
    LaneReentry,
    NotConfigured,
    SessionKeyInvalid,
    SessionKeyRequired,
    TranscriptTakeover,
)
from turnlane.hooks import TranscriptAdopted, TurnQueued
from turnlane_integrations.claude_agent_sdk import Fork, LaneAgent, SessionForked, forks, leaf_of, session_file

pytestmark = pytest.mark.timeout(240)  # each turn starts a program

HERE = "integrations/turnlane_integrations/claude_agent_sdk"


async def outside(rig: ClaudeAgentSDK, text: str, **others: Any) -> list[Message]:
    """Answer a message by a program that nobody has a lane for."""
    options = rig.options("c", **{"session_id": None, "resume": session_of("c"), **others})
    return [message async for message in query(prompt=text, options=options)]


async def meanwhile(rig: ClaudeAgentSDK, model: ScriptedModel, text: str, do: Callable[[], Any]) -> "asyncio.Task[str]":
    """Begin a turn, do something while its model is asked, and let it go on."""
    turn = asyncio.create_task(rig.answer("c", text))
    entered = asyncio.ensure_future(model.entered[text].wait())
    await asyncio.wait({turn, entered}, return_when=asyncio.FIRST_COMPLETED)
    assert entered.done(), turn.exception()
    done = do()
    if inspect.isawaitable(done):
        await done
    model.go[text].set()
    return turn


class TestAnotherProgram:
    """On the same session, as that of a person who resumes it in a terminal."""

    async def test_one_that_answers_meanwhile_is_a_fork_and_nothing_is_lost(self, tmp_path: Path) -> None:
        """The turn says so when its words are stored; both branches are there, and the older one can be opened."""
        model = ScriptedModel()
        async with claude(tmp_path, model) as rig:
            await rig.answer("c", "one")
            told: list[Message] = []

            async def stranger() -> None:
                told.extend(await outside(rig, "stranger"))

            turn = await meanwhile(rig, model, "hold this", stranger)
            with pytest.raises(SessionForked) as caught:
                await turn
            assert (caught.value.path, caught.value.kind) == (str(rig.file("c")), "appended")
            stored = {line["message"]["content"]: line["uuid"] for line in lines_of(rig) if line.get("promptSource")}
            assert list(stored) == ["one", "hold this", "stranger"]
            assert len(forks(lines_of(rig))) == 1
            assert "continue" in caught.value.reason
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
            assert [line.text for line in await rig.history("c")][:3] == ["one", reply_to("one", 0), "hold this"]
            lost = next(message.uuid for message in told if isinstance(message, AssistantMessage))
            with patch.dict(os.environ, rig.api.environment(str(tmp_path))):
                opened = fork_session(session_of("c"), str(tmp_path), up_to_message_id=lost)
            await outside(rig, "back", resume=opened.session_id)
            assert model.calls[-1][-2:] == ["stranger", "back"]
            assert (await rig.answer("c", "after")).startswith("re after ")

    async def test_one_that_answers_between_two_turns_is_told_of_and_continued(self, tmp_path: Path) -> None:
        """It is one chain: the next turn knows what was said there."""
        model = ScriptedModel()
        async with claude(tmp_path, model) as rig:
            adopted: list[TranscriptAdopted] = []
            runtime_of(rig).hooks.on(TranscriptAdopted, adopted.append)
            await rig.answer("c", "one")
            await rig.answer("c", "two")
            assert adopted == []
            await outside(rig, "stranger")
            assert await rig.answer("c", "three") == reply_to("three", 3)
            assert [event.kind for event in adopted] == ["appended"]
            assert model.calls[-1] == ["one", "two", "stranger", "three"]

    async def test_with_at_open_raise_a_turn_after_it_is_refused_before_its_program_starts(
        self, tmp_path: Path
    ) -> None:
        """The model is not asked."""
        model = ScriptedModel()
        async with claude(tmp_path, model) as rig:
            await rig.answer("c", "one")
            await outside(rig, "stranger")
            strict = LaneAgent(runtime_of(rig), state_dir=tmp_path / "turnlane", at_open="raise")
            with pytest.raises(TranscriptTakeover, match="appended") as caught:
                await anext(strict.query(prompt="two", options=rig.options("c")))
            assert caught.value.phase == "open"
            assert [said[-1] for said in model.calls] == ["one", "stranger"]

    async def test_an_edit_by_hand_meanwhile_is_a_takeover(self, tmp_path: Path) -> None:
        """Of a line that was proven before the program started."""
        model = ScriptedModel()
        async with claude(tmp_path, model) as rig:
            await rig.answer("c", "one")
            file = rig.file("c")

            def edit() -> None:
                file.write_bytes(file.read_bytes().replace(b"re one after 0", b"re won after 0"))

            turn = await meanwhile(rig, model, "hold this", edit)
            with pytest.raises(TranscriptTakeover) as caught:
                await turn
            assert not isinstance(caught.value, SessionForked)
            assert caught.value.kind == "edited"

    @pytest.mark.parametrize(
        "others",
        [{"sessionId": session_of("another")}, {"entrypoint": "cli"}, {}],
        ids=["of another session", "of a terminal", "of nobody"],
    )
    async def test_a_line_of_somebody_else_behind_the_answer_is_found(
        self, others: dict[str, Any], tmp_path: Path
    ) -> None:
        """It continues the chain, and is no word of this turn."""
        async with claude(tmp_path) as rig:
            await rig.answer("c", "one")
            line = next(line for line in lines_of(rig) if line.get("type") == "assistant")
            line |= {"uuid": session_of("a line"), **others}

            async def answered() -> None:
                async for message in agent_of(rig).query(prompt="two", options=rig.options("c")):
                    if isinstance(message, AssistantMessage):
                        line["parentUuid"] = message.uuid
                    if isinstance(message, ResultMessage):  # its program has not ended yet
                        with rig.file("c").open("a") as file:
                            file.write(json.dumps(line) + "\n")

            with pytest.raises(SessionForked) as caught:
                await answered()
            assert caught.value.reason.startswith(f"{line['uuid']} ")

    async def test_a_monitor_tells_of_it_and_not_of_the_turns(self, tmp_path: Path) -> None:
        """It judges the program's directory by the journals beside it."""
        async with claude(tmp_path) as rig:
            await rig.answer("c", "one")
            projects = rig.file("c").parent.parent
            async with TranscriptMonitor(projects, recursive=True, state_dir=tmp_path / "turnlane") as monitor:
                await rig.answer("c", "two")
                await monitor.audit()
                assert monitor.statistics().found == 0
                await outside(rig, "stranger")
                async with aclosing(aiter(monitor)) as found:
                    event = await anext(found)
            assert (event.kind, event.session_id) == ("appended", session_of("c"))


class TestTurns:
    """What their program stores is owned, however they end."""

    async def test_tools_called_at_the_same_time_and_hooks_are_no_fork(self, tmp_path: Path) -> None:
        """Their results fan out in the file, and come together again."""
        used: list[str] = []

        @tool("note", "Notes something.", {"text": str})
        async def note(asked: dict[str, Any]) -> dict[str, Any]:
            used.append(asked["text"])
            return {"content": [{"type": "text", "text": f"noted {asked['text']}"}]}

        async def hook(_: HookInput, __: str | None, ___: HookContext) -> SyncHookJSONOutput:
            return {"systemMessage": "told"}

        matcher = HookMatcher(hooks=[hook])
        model = ScriptedModel()
        async with claude(tmp_path, model) as rig:
            options = rig.options(
                "c",
                mcp_servers={"notes": create_sdk_mcp_server("notes", tools=[note])},
                allowed_tools=["mcp__notes__note"],
                hooks={"PreToolUse": [matcher], "PostToolUse": [matcher], "Stop": [matcher]},
            )
            rig.api.tools = [{"name": "mcp__notes__note", "input": {"text": text}} for text in ("a", "b", "c")]
            told = [message async for message in agent_of(rig).query(prompt="one", options=options)]
            assert sorted(used) == ["a", "b", "c"]
            assert isinstance(told[-1], ResultMessage)
            assert forks(lines_of(rig)) == ()
            strict = LaneAgent(runtime_of(rig), state_dir=tmp_path / "turnlane", at_open="raise")
            assert [message async for message in strict.query(prompt="two", options=rig.options("c"))]

    async def test_what_a_cancelled_turn_has_stored_is_owned(self, tmp_path: Path) -> None:
        """Its message stays; a turn that would refuse an unowned edit goes on."""
        model = ScriptedModel()
        async with claude(tmp_path, model) as rig:
            turn = asyncio.create_task(rig.answer("c", "hold this"))
            await model.entered["hold this"].wait()
            turn.cancel()
            with pytest.raises(asyncio.CancelledError):
                await turn
            assert programs() == []
            strict = LaneAgent(runtime_of(rig), state_dir=tmp_path / "turnlane", at_open="raise")
            assert [message async for message in strict.query(prompt="two", options=rig.options("c"))]
            user, answer = (await rig.history("c"))[-2:]
            assert (user.text, answer.text[:13]) == ("two", "re two after ")

    async def test_closed_at_a_message_its_program_has_ended_when_the_lane_goes(self, tmp_path: Path) -> None:
        """`query` alone would let it run for some time."""
        async with claude(tmp_path) as rig:
            async with aclosing(agent_of(rig).query(prompt="hold this", options=rig.options("c"))) as messages:
                await anext(messages)
                assert len(programs()) == 1
            assert programs() == []
            assert runtime_of(rig).lanes.statistics().running == 0

    async def test_a_session_that_could_not_be_begun_can_be_begun_later(self, tmp_path: Path) -> None:
        """A program that does not start leaves nothing that keeps the next one from it."""
        async with claude(tmp_path) as rig:
            with pytest.raises(claude_agent_sdk.ClaudeSDKError):
                await anext(
                    agent_of(rig).query(prompt="one", options=rig.options("c", model="", extra_args={"no": ""}))
                )
            assert rig.file("c").read_bytes() == b""
            assert await rig.answer("c", "one") == reply_to("one", 0)

    async def test_a_client_has_the_turn_for_its_block(self, tmp_path: Path) -> None:
        """Two messages in it, and a query that waits for its end and knows both."""
        model = ScriptedModel()
        async with claude(tmp_path, model) as rig:
            queued, outside_of_turns = asyncio.Event(), copy_context()
            runtime_of(rig).hooks.on(TurnQueued, lambda _: queued.set())
            async with agent_of(rig).client(rig.options("c")) as client:
                await client.query("one")
                assert [message async for message in client.receive_response()]
                waiting = asyncio.create_task(rig.answer("c", "three"), context=outside_of_turns)
                await queued.wait()
                with pytest.raises(LaneReentry):  # a tool of the program would wait for itself
                    await rig.answer("c", "from inside")
                await client.query("two")
                assert [message async for message in client.receive_response()]
            assert await waiting == reply_to("three", 2)

    async def test_an_interrupting_message_interrupts_the_client_of_the_turn_before(self, tmp_path: Path) -> None:
        """Within the grace: the program stores that it was interrupted, and is not killed."""
        model = ScriptedModel()
        async with claude(tmp_path, model) as rig:
            agent = LaneAgent(runtime_of(rig), state_dir=tmp_path / "turnlane", policy="interrupt")

            async def first() -> list[Message]:
                async with agent.client(rig.options("c")) as client:
                    await client.query("hold this")
                    return [message async for message in client.receive_response()]

            interrupted = asyncio.create_task(first())
            await model.entered["hold this"].wait()
            assert [message async for message in agent.query(prompt="two", options=rig.options("c"))]
            result = (await interrupted)[-1]
            assert isinstance(result, ResultMessage)
            assert result.subtype == "error_during_execution"
            said = [line["message"]["content"] for line in lines_of(rig) if line.get("type") == "user"]
            assert any("interrupted by user" in str(content) for content in said)

    async def test_behind_the_middleware_a_query_joins_the_turn_of_its_request(self, tmp_path: Path) -> None:
        """With the session as the key there is one turn for each request."""
        async with claude(tmp_path) as rig:

            async def endpoint(request: Request) -> PlainTextResponse:
                return PlainTextResponse(await rig.answer("c", (await request.body()).decode()))

            app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
            app.add_middleware(LaneMiddleware, key="x-session", runtime=runtime_of(rig), trusted_keys=True)
            transport = httpx.ASGITransport(app)
            headers = {"x-session": session_of("c")}
            async with httpx.AsyncClient(transport=transport, base_url="http://s", timeout=120) as client:
                sent = [client.post("/", content=text, headers=headers) for text in ("one", "two")]
                assert [each.text for each in await asyncio.gather(*sent)] == [reply_to("one", 0), reply_to("two", 1)]
            assert runtime_of(rig).lanes.statistics().totals["completed"] == 2

    async def test_without_state_dir_there_are_lanes_and_no_proof(self, tmp_path: Path) -> None:
        """Nothing is kept beside the session's file."""
        async with claude(tmp_path) as rig:
            rig.agent = LaneAgent(runtime_of(rig))
            answers = await asyncio.gather(*(rig.answer("c", text) for text in ("one", "two")))
            assert answers == [reply_to("one", 0), reply_to("two", 1)]
            assert not (tmp_path / "turnlane").exists()


class TestRefusals:
    """Before a program is started."""

    @pytest.mark.parametrize(
        "options",
        [None, ClaudeAgentOptions(), ClaudeAgentOptions(continue_conversation=True)],
        ids=["none", "empty", "continue"],
    )
    async def test_options_that_name_no_session(self, options: ClaudeAgentOptions | None) -> None:
        """There is no lane to wait in."""
        agent = LaneAgent(Runtime())
        with pytest.raises(SessionKeyRequired, match="session_id"):
            await anext(agent.query(prompt="hello", options=options))
        with pytest.raises(SessionKeyRequired, match="session_id"):
            await agent.client(options).__aenter__()

    @pytest.mark.parametrize("named", ["my title", session_of("c").upper()])
    async def test_a_session_is_named_by_its_id_alone(self, named: str) -> None:
        """By a title too it would have two lanes."""
        with pytest.raises(SessionKeyInvalid, match=named):
            await anext(LaneAgent(Runtime()).query(prompt="hello", options=ClaudeAgentOptions(resume=named)))

    async def test_a_session_that_is_in_no_file_can_not_be_proven(self, tmp_path: Path) -> None:
        """As those of a session store."""
        options = ClaudeAgentOptions(session_id=session_of("c"), session_store=InMemorySessionStore())
        with pytest.raises(NotConfigured, match="session_store"):
            await anext(LaneAgent(Runtime(), state_dir=tmp_path).query(prompt="hello", options=options))

    async def test_a_directory_whose_name_can_not_be_told(self, tmp_path: Path) -> None:
        """The program cuts long ones, and appends a hash."""
        options = ClaudeAgentOptions(session_id=session_of("c"), cwd=tmp_path / ("d" * 200))
        with pytest.raises(NotConfigured, match="shorter path"):
            await anext(LaneAgent(Runtime(), state_dir=tmp_path).query(prompt="hello", options=options))

    def test_settings_are_checked_at_once(self, tmp_path: Path) -> None:
        """Not in the first turn."""
        with pytest.raises(ValueError, match="at_open"):
            LaneAgent(Runtime(), state_dir=tmp_path, at_open=cast("Any", "never"))


class TestWhatItReliesOn:
    """If one of these fails after an upgrade, the interface it names has changed."""

    @pytest.mark.parametrize(
        ("function", "parameters"),
        [
            (query, ["prompt", "options", "transport"]),
            (ClaudeSDKClient, ["options", "transport"]),
            (ClaudeSDKClient.interrupt, ["self"]),
        ],
        ids=["query", "ClaudeSDKClient", "ClaudeSDKClient.interrupt"],
    )
    def test_what_is_called_takes_what_it_is_given(self, function: Any, parameters: list[str]) -> None:
        """By these names."""
        missing = set(parameters) - set(inspect.signature(function).parameters)
        assert not missing, (
            f"claude_agent_sdk {function.__qualname__} has no {missing} any more: look at {HERE}/agent.py"
        )

    def test_the_options_have_what_is_read_of_them(self) -> None:
        """`dataclasses.replace` needs them to be a dataclass, too."""
        read = {"session_id", "resume", "fork_session", "resume_session_at", "session_store", "cwd", "env"}
        missing = read - {field.name for field in fields(ClaudeAgentOptions)}
        assert not missing, f"ClaudeAgentOptions has no {missing} any more: look at {HERE}/asking.py"

    @pytest.mark.parametrize("name", ["plain", "with.dots and_blanks", "Zürich"])
    def test_a_file_is_where_the_sdk_looks_for_it(self, name: str, tmp_path: Path) -> None:
        """Both make the same name of a directory."""
        found = session_file("s", cwd=tmp_path / name, env={"CLAUDE_CONFIG_DIR": "/config"})
        expected = Path("/config/projects", project_key_for_directory(str(tmp_path / name)), "s.jsonl")
        assert found == expected, f"sessions are kept elsewhere: look at {HERE}/place.py"

    async def test_the_program_writes_what_is_read_of_its_lines(self, tmp_path: Path) -> None:
        """Messages with their names, and what tells who wrote them; its answers have the names that it tells."""
        async with claude(tmp_path) as rig:
            told = [message async for message in agent_of(rig).query(prompt="one", options=rig.options("c"))]
            written = [line for line in lines_of(rig) if line.get("type") in ("user", "assistant")]
            read = {"uuid", "parentUuid", "sessionId", "entrypoint", "isSidechain", "message"}
            missing = [read - line.keys() for line in written if read - line.keys()]
            assert (len(written), missing) == (2, []), f"lines have no {missing}: look at {HERE}/chain.py and fence.py"
            assert {line["entrypoint"] for line in written} == {"sdk-py"}, f"look at {HERE}/asking.py"
            names = [message.uuid for message in told if isinstance(message, AssistantMessage)]
            assert names == [written[1]["uuid"]], f"answers have other names in the file: look at {HERE}/fence.py"
            assert leaf_of(lines_of(rig)) == written[1]["uuid"]


class TestForks:
    """Of lines, without a program."""

    def test_two_that_continue_one_are_a_fork(self) -> None:
        """Also where attachments stand between them."""
        lines: list[dict[str, Any]] = [
            {"uuid": "a", "parentUuid": None, "type": "user"},
            {"uuid": "x", "parentUuid": "a", "type": "attachment"},
            {"uuid": "b", "parentUuid": "x", "type": "assistant"},
            {"uuid": "c", "parentUuid": "a", "type": "assistant"},
        ]
        assert forks(lines) == (Fork("a", ("b", "c")),)
        assert leaf_of(lines) == "c"

    def test_two_beginnings_are_a_fork(self) -> None:
        """Of programs that have both begun the session."""
        lines: list[dict[str, Any]] = [{"uuid": name, "parentUuid": None, "type": "user"} for name in "ab"]
        assert forks(lines) == (Fork("", ("a", "b")),)

    def test_what_is_behind_a_compaction_continues_what_was_before(self) -> None:
        """Its parent is named in another field. Subagents' lines are passed over."""
        lines: list[dict[str, Any]] = [
            {"uuid": "a", "parentUuid": None, "type": "user"},
            {"uuid": "x", "parentUuid": None, "logicalParentUuid": "a", "type": "system"},
            {"uuid": "s", "parentUuid": "a", "isSidechain": True, "type": "user"},
            {"uuid": "b", "parentUuid": "x", "type": "user"},
            {"type": "mode"},
        ]
        assert (forks(lines), leaf_of(lines)) == ((), "b")

    def test_there_is_no_leaf_where_nothing_was_said(self) -> None:
        """Nor a fork."""
        assert (leaf_of([{"type": "mode"}]), forks([])) == (None, ())


def test_the_example_has_two_turns_one_after_the_other(tmp_path: Path) -> None:
    """It runs by itself, without another machine, and leaves nothing behind."""
    # Python 3.11 says so of a program that ends by itself in the moment in which it is ended.
    own = ("Unknown child process pid",)
    assert example_output("claude_agent.py", directory=tmp_path, logged=own, timeout=120) == [
        "first:  I have heard ['my name is Ada']",
        "second: I have heard ['my name is Ada', 'who am I?']",
    ]
