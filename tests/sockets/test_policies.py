"""Each policy with a real server and a real client: what the callers get, and what the transcript says."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import openai
import pytest
from openai import AsyncOpenAI

from support.net_clients import openai_client
from support.server_chat import ChatServer
from support.server_loopback import uvicorn_serving
from support.server_staged import Stage
from support.transcripts_scenes import salvaged_in, user
from turnlane import Coalesce, Enqueue, Interrupt, LaneMiddleware, Reject, Rollback, Runtime, Steer, Transcripts
from turnlane.hooks import TurnQueued, TurnSteering
from turnlane.messages import openai_chat
from turnlane.policies import Policy
from turnlane.testing import Gates, assert_no_leaks

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.asyncio(loop_factories=["asyncio"]),
    pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"]),
]

KEY = "x-session-key"
ALICE = "agent:main:alice"
MERGED = Coalesce(window=0, merge=openai_chat)


class Conversation:
    """One client of a server whose lane has a policy; the first message is stopped in the middle of its turn."""

    def __init__(self, runtime: Runtime, client: AsyncOpenAI, stage: Stage, *, stream: bool) -> None:
        self.stage = stage
        self.gates = Gates(runtime.hooks)
        self._runtime = runtime
        self._client = client
        self._stream = stream
        self._queued = 0

    async def say(self, text: str) -> tuple[str, str]:
        """Say something; return the reply and the turn that gave it."""
        history: Any = [{"role": "system", "content": "be short"}, {"role": "user", "content": text}]
        create: Any = self._client.chat.completions.with_raw_response.create  # its types tell streams at checking time
        headers = {KEY: ALICE, "x-name": text}
        raw = await create(model="m", messages=history, stream=self._stream, extra_headers=headers)
        answer = raw.parse()
        if self._stream:
            reply = "".join([chunk.choices[0].delta.content or "" async for chunk in answer])
        else:
            reply = answer.choices[0].message.content
        return reply, raw.headers["x-turnlane-turn"]

    async def first(self) -> asyncio.Task[tuple[str, str]]:
        """Say "one", whose turn then runs until the stage lets it go."""
        self.stage.hold("one")
        task = asyncio.create_task(self.say("one"))
        await self.stage.reached("one")
        return task

    async def in_line(self, text: str) -> asyncio.Task[tuple[str, str]]:
        """Say something that stands in line when this returns."""
        task = asyncio.create_task(self.say(text))
        self._queued += 1
        await self.gates.at(TurnQueued).reached(self._queued)
        return task

    async def store_from_outside(self, text: str) -> None:
        """Store something as another process does."""
        sessions, transcripts = self._runtime.sessions, self._runtime.transcripts
        assert sessions is not None
        assert transcripts is not None
        await Transcripts(transcripts.store).append((await sessions.resolve(ALICE)).id, user(text))

    async def transcript(self) -> list[str]:
        """Return what was stored, one letter for who said it."""
        sessions, transcripts = self._runtime.sessions, self._runtime.transcripts
        assert sessions is not None
        assert transcripts is not None
        session = await sessions.resolve(ALICE)
        entries = await transcripts.read(session.id)
        return [f"{entry['role'][0]}: {entry['content']}" for entry in cast("list[dict[str, str]]", entries)]


@asynccontextmanager
async def conversation(
    directory: Path, policy: Policy, *, stream: bool, max_retries: int = 2
) -> AsyncGenerator[Conversation, None]:
    stage = Stage()
    kept = Transcripts(directory / "transcripts", trace_turns=True)
    async with Runtime(sessions="memory://", transcripts=kept) as runtime:
        app = LaneMiddleware(ChatServer(stage), key=KEY, runtime=runtime, policy=policy, trusted_keys=True, paths="/v1")
        async with uvicorn_serving(app) as port, openai_client(port, max_retries=max_retries) as client:
            yield Conversation(runtime, client, stage, stream=stream)
        assert_no_leaks(runtime.lanes)


async def refused(task: asyncio.Task[Any], code: str) -> str | None:
    """Check that a caller was told an error with this code, and return the turn it names."""
    with pytest.raises(openai.APIError) as caught:
        await task
    assert caught.value.code == code
    if isinstance(caught.value, openai.APIStatusError):  # and not inside a stream
        assert caught.value.status_code == 409
    into: str | None = cast("dict[str, Any]", caught.value.body).get("into")
    return into


async def test_enqueue_answers_one_after_the_other(tmp_path: Path, stream: bool) -> None:
    """Each message is followed by its reply."""
    async with conversation(tmp_path, Enqueue(), stream=stream) as talk:
        one = await talk.first()
        two = await talk.in_line("two")
        three = await talk.in_line("three")
        talk.stage.let_go("one")
        assert [(await each)[0] for each in (one, two, three)] == ["heard one", "heard two", "heard three"]
        assert await talk.transcript() == [
            *("u: one", "a: heard one"),
            *("u: two", "a: heard two"),
            *("u: three", "a: heard three"),
        ]


async def test_reject_leaves_no_trace_of_what_it_refused(tmp_path: Path, stream: bool) -> None:
    """The caller is told at once."""
    async with conversation(tmp_path, Reject(), stream=stream, max_retries=0) as talk:
        one = await talk.first()
        await refused(asyncio.create_task(talk.say("two")), "lane_busy")
        talk.stage.let_go("one")
        assert (await one)[0] == "heard one"
        assert (await talk.say("three"))[0] == "heard three"
        assert await talk.transcript() == ["u: one", "a: heard one", "u: three", "a: heard three"]


async def test_interrupt_answers_the_newest(tmp_path: Path, stream: bool) -> None:
    """What was asked before stands there without a reply."""
    async with conversation(tmp_path, Interrupt(grace=0), stream=stream) as talk:
        one = await talk.first()
        reply, turn = await talk.say("two")
        assert reply == "heard two"
        assert await refused(one, "turn_interrupted") == turn
        assert await talk.transcript() == ["u: one", "u: two", "a: heard two"]


async def test_rollback_answers_the_newest_and_forgets_the_rest(tmp_path: Path, stream: bool) -> None:
    """What was asked before is in the salvage; what somebody else stored meanwhile stays."""
    async with conversation(tmp_path, Rollback(grace=0), stream=stream) as talk:
        assert (await talk.say("zero"))[0] == "heard zero"
        one = await talk.first()
        await talk.store_from_outside("peer")
        reply, turn = await talk.say("two")
        assert reply == "heard two"
        assert await refused(one, "turn_interrupted") == turn
        assert await talk.transcript() == ["u: zero", "a: heard zero", "u: peer", "u: two", "a: heard two"]
        assert salvaged_in(tmp_path / "transcripts")[0] == "one"


async def test_coalesce_answers_what_waited_in_one_turn(tmp_path: Path, stream: bool) -> None:
    """The newest caller gets the reply to all, the others the turn that gave it; the system message is sent once."""
    async with conversation(tmp_path, MERGED, stream=stream) as talk:
        one = await talk.first()
        two = await talk.in_line("two")
        three = await talk.in_line("three")
        talk.stage.let_go("one")
        assert (await one)[0] == "heard one"
        reply, turn = await three
        assert reply == "heard two, three"
        assert await refused(two, "turn_coalesced") == turn
        assert talk.stage.passed == ["one", "three"]
        assert await talk.transcript() == ["u: one", "a: heard one", "u: two", "u: three", "a: heard two, three"]


async def test_coalesce_gives_all_the_reply_by_choice(tmp_path: Path, stream: bool) -> None:
    """Streams too, once whole."""
    policy = Coalesce(window=0, merge=openai_chat, share_result=True)
    async with conversation(tmp_path, policy, stream=stream) as talk:
        one = await talk.first()
        others = [await talk.in_line(text) for text in ("two", "three", "four")]
        talk.stage.let_go("one")
        await one
        found = [await other for other in others]
        assert found == [("heard two, three, four", found[0][1])] * 3
        assert (await talk.transcript())[2:] == ["u: two", "u: three", "u: four", "a: heard two, three, four"]


@pytest.mark.parametrize("overflow", ["refuse", "oldest"])
async def test_coalesce_answers_no_more_than_it_may(
    tmp_path: Path, stream: bool, overflow: Literal["refuse", "oldest"]
) -> None:
    """One message more is refused, or takes the place of the oldest, whose caller is told by which turn."""
    policy = Coalesce(window=0, merge=openai_chat, max_merged=2, overflow=overflow)
    async with conversation(tmp_path, policy, stream=stream, max_retries=0) as talk:
        one = await talk.first()
        two = await talk.in_line("two")
        three = await talk.in_line("three")
        if overflow == "refuse":
            with pytest.raises(openai.RateLimitError) as caught:
                await talk.say("four")
            assert caught.value.code == "lane_full"
            answered, coalesced = three, two
        else:
            answered, coalesced = await talk.in_line("four"), three
        talk.stage.let_go("one")
        await one
        reply, turn = await answered
        assert await refused(coalesced, "turn_coalesced") == turn
        if overflow == "oldest":
            assert await refused(two, "turn_interrupted") == turn
        words = ["two", "three"] if overflow == "refuse" else ["three", "four"]
        assert reply == f"heard {', '.join(words)}"
        assert (await talk.transcript())[2:] == [*(f"u: {word}" for word in words), f"a: {reply}"]


async def test_steer_puts_what_comes_into_the_turn_that_runs(tmp_path: Path, stream: bool) -> None:
    """Its caller is told which; what comes too late is a turn of its own."""
    async with conversation(tmp_path, Steer(), stream=stream) as talk:
        one = await talk.first()
        two = await talk.in_line("two")
        talk.stage.let_go("one")
        reply, turn = await one
        assert reply == "heard one, two"
        assert await refused(two, "turn_steered") == turn
        assert [(each.into, each.key) for each in talk.gates.at(TurnSteering).seen] == [(turn, ALICE)]
        assert (await talk.say("three"))[0] == "heard three"
        assert await talk.transcript() == [
            *("u: one", "u: two", "a: heard one, two"),
            *("u: three", "a: heard three"),
        ]
