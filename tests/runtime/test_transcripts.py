"""Turns with transcripts: `agent_turn` opens them, `open_transcript()` elsewhere; HTTP tells what went wrong."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from support.transcripts_scenes import append, said, salvaged_in, user
from turnlane import Interrupt, LaneMiddleware, Runtime, Turn, current_turn
from turnlane.errors import NotConfigured, TranscriptReentry, TranscriptTakeover, TurnInterrupted
from turnlane.hooks import LoggingHook
from turnlane.testing import AsgiDriver
from turnlane.transcripts import Transcripts


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the transcripts are."""
    return tmp_path / "transcripts"


@pytest.fixture
def runtime(directory: Path) -> Runtime:
    """Lanes, sessions and transcripts."""
    return Runtime(sessions="memory://", transcripts=directory)


async def answered(turn: Turn, text: str) -> str:
    """What an agent does: remember, call a model with the history, store the reply."""
    transcript = turn.transcript
    await transcript.append(user(text))
    async with transcript.released() as prompt:
        await asyncio.sleep(0)
        reply = f"reply {len(transcript.entries)}"
        prompt.stage(user(reply))
    return reply


class TestAgentTurn:
    """The transcript is open for the call, and closed before the lane goes."""

    async def test_history_is_read_inside_the_turn(self, runtime: Runtime) -> None:
        """Calls of one key that come at once see each other's words, in order."""

        @runtime.agent_turn(key="key")
        async def answer(key: str, text: str, *, turn: Turn) -> str:
            return await answered(turn, text)

        replies = await asyncio.gather(*(answer("a", f"text {number}") for number in range(3)), answer("b", "other"))
        assert replies == ["reply 1", "reply 3", "reply 5", "reply 1"]
        session = await current_session(runtime, "a")
        assert runtime.transcripts is not None
        stored = said(await runtime.transcripts.read(session))
        assert stored == ["text 0", "reply 1", "text 1", "reply 3", "text 2", "reply 5"]

    async def test_a_generator_turn_releases_over_its_stream(self, runtime: Runtime) -> None:
        """The lock is free for others while the stream is consumed, and back at its end."""
        transcripts = runtime.transcripts
        assert transcripts is not None

        @runtime.agent_turn(key="key")
        async def stream(key: str, *, turn: Turn) -> AsyncIterator[str]:
            async with turn.transcript.released() as prompt:
                for word in ("a", "b"):
                    yield word
                prompt.stage(user("a b"))
            yield f"changes {said(prompt.changes)}"

        items = stream("a")
        assert await anext(items) == "a"
        session = await current_session(runtime, "a")
        await Transcripts(transcripts.store.where, lock_timeout=0).append(session, user("peer"))
        assert [item async for item in items] == ["b", "changes ['peer']"]
        assert said(await transcripts.read(session)) == ["peer", "a b"]

    async def test_a_tool_appends_through_the_open_transcript(self, runtime: Runtime) -> None:
        """In the task of the turn and in another, by the object, by `current_turn()`, by a joined call."""
        transcripts = runtime.transcripts
        assert transcripts is not None

        @runtime.agent_turn(key="key")
        async def tool(key: str, *, turn: Turn) -> None:
            await turn.transcript.append(user("joined"))

        async def callback(session_id: str) -> None:
            turn = current_turn()
            assert turn is not None
            await turn.transcript.append(user("current turn"))
            await transcripts.append(session_id, user("object"))

        @runtime.agent_turn(key="key")
        async def answer(key: str, *, turn: Turn) -> tuple[Any, ...]:
            assert turn.session is not None
            async with turn.transcript.released() as prompt:
                await asyncio.create_task(callback(turn.session.id))
                await tool(key)
                prompt.stage(user("reply"))
                with pytest.raises(TranscriptReentry):
                    await open_once(transcripts, turn.session.id)
            return prompt.changes

        assert await answer("a") == ()
        stored = said(await transcripts.read(await current_session(runtime, "a")))
        assert stored == ["current turn", "object", "joined", "reply"]

    async def test_an_interrupted_turn_salvages_what_it_staged(self, runtime: Runtime, directory: Path) -> None:
        """The successor opens the transcript at once, with a higher token."""
        out = asyncio.Event()

        @runtime.agent_turn(key="key", policy=Interrupt(grace=0))
        async def answer(key: str, text: str, *, turn: Turn) -> str:
            if text == "second":
                return await answered(turn, text)
            async with turn.transcript.released() as prompt:
                prompt.stage(user("half a reply"))
                out.set()
                await asyncio.Event().wait()
            return "never"

        first = asyncio.create_task(answer("a", "first"))
        await out.wait()
        assert await answer("a", "second") == "reply 1"
        with pytest.raises(TurnInterrupted):
            await first
        assert salvaged_in(directory) == ["half a reply"]

    async def test_a_takeover_leaves_the_call_and_the_next_one_goes_on(self, runtime: Runtime, directory: Path) -> None:
        """With the turn's id, the words in the salvage, and a line in the log."""

        @runtime.agent_turn(key="key")
        async def answer(key: str, *, edited: bool, turn: Turn) -> str:
            async with turn.transcript.released() as prompt:
                prompt.stage(user("reply"))
                if edited:
                    append(Path(turn.transcript.path))
            return turn.id

        await answer("a", edited=False)
        with pytest.raises(TranscriptTakeover) as refused:
            await answer("a", edited=True)
        assert refused.value.turn is not None
        assert salvaged_in(directory) == ["reply"]
        await answer("a", edited=False)


async def current_session(runtime: Runtime, key: str) -> str:
    assert runtime.sessions is not None
    return (await runtime.sessions.resolve(key)).id


async def open_once(transcripts: Transcripts, session_id: str) -> None:
    async with transcripts.open(session_id):
        pass


class TestMiddleware:
    """`LaneMiddleware` never opens the transcript; the app does."""

    @staticmethod
    def app(runtime: Runtime) -> Any:
        async def plain(request: Request) -> JSONResponse:
            turn: Turn = request.state.turn
            with pytest.raises(NotConfigured, match=r"async with turn.open_transcript\(\) as transcript"):
                _ = turn.transcript
            async with turn.open_transcript() as transcript:
                assert turn.transcript is transcript
                await transcript.append(user((await request.body()).decode()))
                async with transcript.released() as prompt:
                    if request.query_params.get("edit"):
                        append(Path(transcript.path))
                    prompt.stage(user("reply"))
                return JSONResponse(said(transcript.entries))

        async def streamed(request: Request) -> StreamingResponse:
            turn: Turn = request.state.turn

            async def events() -> AsyncIterator[str]:
                async with turn.open_transcript() as transcript, transcript.released() as prompt:
                    yield "data: visible\n\n"
                    append(Path(transcript.path))
                    prompt.stage(user("reply"))

            return StreamingResponse(events(), media_type="text/event-stream")

        routes = [Route("/", plain, methods=["POST"]), Route("/stream", streamed, methods=["POST"])]
        return Starlette(
            routes=routes, middleware=[Middleware(LaneMiddleware, key="x-key", runtime=runtime, trusted_keys=True)]
        )

    async def test_open_transcript_opens_it_for_a_block(self, runtime: Runtime) -> None:
        """And `turn.transcript` before that says which line is missing."""
        async with AsgiDriver(self.app(runtime)) as driver:
            for expected in (["hi", "reply"], ["hi", "reply", "hi", "reply"]):
                answer = await driver.start("POST", "/", headers={"x-key": "a"}, body=b"hi").response()
                assert (answer.status, json.loads(answer.body)) == (200, expected)

    async def test_a_takeover_is_a_409_with_the_reply_kept(self, runtime: Runtime, directory: Path) -> None:
        """Not to be sent again; the next message of the conversation is answered."""
        async with AsgiDriver(self.app(runtime)) as driver:
            answer = await driver.start("POST", "/?edit=1", headers={"x-key": "a"}, body=b"hi").response()
            assert answer.status == 409
            assert answer.headers["x-should-retry"] == "false"
            told = json.loads(answer.body)["error"]
            assert told["code"] == "transcript_takeover"
            assert re.search(r"settles it by: turnlane repair --adopt [0-9a-f]{32}\.jsonl$", told["message"])
            following = await driver.start("POST", "/", headers={"x-key": "a"}, body=b"again").response()
        assert json.loads(following.body) == ["hi", "by hand", "again", "reply"]
        assert salvaged_in(directory) == ["reply"]

    async def test_after_the_stream_has_begun_it_is_told_in_band(self, runtime: Runtime, directory: Path) -> None:
        """What was visible stays the only reply: nothing says that it could be sent again."""
        async with AsgiDriver(self.app(runtime)) as driver:
            answer = await driver.start("POST", "/stream", headers={"x-key": "a"}).response()
        assert answer.status == 200
        first, second = answer.body.decode().split("\n\n")[:2]
        assert first == "data: visible"
        assert json.loads(second.removeprefix("event: error\ndata: "))["error"]["code"] == "transcript_takeover"
        assert salvaged_in(directory) == ["reply"]


class TestSharing:
    """Calls that join a turn share its transcript."""

    async def test_calls_inside_a_turn_without_one_open_it_once(self, runtime: Runtime) -> None:
        """The first opens it, the last closes it, in whichever order they end."""
        go = {name: asyncio.Event() for name in ("one", "two")}
        at = {name: asyncio.Event() for name in go}

        @runtime.agent_turn(key="key")
        async def call(key: str, name: str, *, turn: Turn) -> object:
            transcript = turn.transcript
            at[name].set()
            await go[name].wait()
            await transcript.append(user(name))
            return transcript

        async with runtime.turn("a") as turn:
            with pytest.raises(NotConfigured, match="is not open"):
                _ = turn.transcript
            tasks = {name: asyncio.create_task(call("a", name)) for name in go}
            for name in go:
                await at[name].wait()
            go["one"].set()
            one = await tasks["one"]
            assert turn.transcript is one
            go["two"].set()
            assert await tasks["two"] is one
            with pytest.raises(NotConfigured, match="is not open"):
                _ = turn.transcript


class TestConfiguration:
    """What belongs together."""

    def test_transcripts_need_sessions(self, directory: Path) -> None:
        """A transcript belongs to a session id."""
        with pytest.raises(ValueError, match="transcripts= needs sessions="):
            Runtime(transcripts=directory)

    async def test_an_internal_hand_off_without_a_stored_session_has_none(
        self, runtime: Runtime, directory: Path
    ) -> None:
        """It leaves no file; with a stored session it has that session's."""
        async with runtime.turn("a", visible=False) as turn:
            with pytest.raises(NotConfigured, match="has no transcript"):
                turn.open_transcript()
        async with runtime.turn("a") as turn, turn.open_transcript():
            pass
        async with runtime.turn("a", visible=False) as turn, turn.open_transcript():
            pass
        assert len(list(directory.glob("*.jsonl"))) == 1

    async def test_an_instance_stays_open_and_its_hooks_hear(self, directory: Path, caplog: Any) -> None:
        """Whoever made it closes it; plugins of the runtime are told of its events too."""
        transcripts = Transcripts(directory)
        runtime = Runtime(sessions="memory://", transcripts=transcripts, hooks=[LoggingHook()])
        async with runtime:
            async with runtime.turn("a") as turn, turn.open_transcript() as transcript:
                await transcript.append(user("words"))
            append(Path(transcript.path))
            with caplog.at_level(logging.WARNING, "turnlane.turns"):
                async with runtime.turn("a") as turn, turn.open_transcript():
                    pass
        assert "transcript_adopted" in caplog.text
        assert len(await transcripts.list()) == 1
