"""The policy Rollback with a whole runtime: where it is possible, and who takes back what when something goes wrong."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.runtime_writers import KEY, Writer, entries
from support.transcripts_scenes import said, salvaged_in, user
from support.turns_steps import apart, until_idle
from turnlane import Enqueue, Interrupt, LaneMiddleware, Lanes, Rollback, Runtime, Transcripts, Turn, keys, policies
from turnlane.errors import TranscriptBusy, TranscriptUnavailable, TurnInterrupted, WaitTimeout
from turnlane.hooks import TurnRolledBack
from turnlane.policies import Policy
from turnlane.testing import AsgiDriver


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """With transcripts that note turns."""
    return Runtime(sessions="memory://", transcripts=Transcripts(tmp_path / "transcripts", trace_turns=True))


async def test_it_is_gone_before_the_next_turn_begins(runtime: Runtime, tmp_path: Path) -> None:
    """Told by an event, which says where it is."""
    told: list[TurnRolledBack] = []
    assert runtime.transcripts is not None
    runtime.transcripts.hooks.on(TurnRolledBack, told.append)
    writer = Writer(runtime)
    await writer.wrote.wait()
    async with runtime.turn(KEY, policy=Rollback(grace=0)) as turn:
        assert await entries(runtime, turn) == []
    with pytest.raises(TurnInterrupted):
        await writer.task
    assert salvaged_in(tmp_path / "transcripts") == ["old"]
    [event] = told
    assert (event.turn, event.entries) == (turn.id, 1)
    assert runtime.lanes.gate.debts == {}


async def test_whoever_comes_next_takes_back_what_was_left(runtime: Runtime) -> None:
    """The message that asked for it has given up; the next one finds a clean history all the same."""
    writer = Writer(runtime)
    await writer.wrote.wait()
    with pytest.raises(WaitTimeout):
        async with runtime.turn(KEY, policy=Rollback(grace=60, wait_timeout=0)):
            pass
    writer.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer.task
    async with runtime.turn(KEY, policy=Enqueue()) as turn:
        assert await entries(runtime, turn) == []
    assert runtime.lanes.gate.debts == {}


async def test_a_transcript_that_can_not_be_reached_leaves_it_to_the_next(tmp_path: Path) -> None:
    """The turn that was to run ends with the transcript's error and has not run."""
    path = tmp_path / "transcripts.db"
    transcripts = Transcripts(f"sqlite:///{path}", trace_turns=True)
    async with transcripts, Runtime(sessions="memory://", transcripts=transcripts) as runtime:
        writer = Writer(runtime)
        await writer.wrote.wait()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("ALTER TABLE salvage RENAME TO elsewhere")
            with pytest.raises(TranscriptUnavailable):
                async with runtime.turn(KEY, policy=Rollback(grace=0)):
                    raise AssertionError("it ran")
            other.execute("ALTER TABLE elsewhere RENAME TO salvage")
        async with runtime.turn(KEY) as turn:
            assert await entries(runtime, turn) == []
        with pytest.raises(TurnInterrupted):
            await writer.task


async def test_a_call_that_joins_pays_where_the_one_before_it_could_not(tmp_path: Path) -> None:
    """Nothing runs in a turn whose debt is not paid."""
    transcripts = Transcripts(tmp_path / "transcripts", trace_turns=True, lock_timeout=0.01)
    runtime = Runtime(sessions="memory://", transcripts=transcripts)

    @runtime.agent_turn(key="key")
    async def answer(key: str, *, turn: Turn) -> list[str]:
        return said(turn.transcript.entries)

    writer = Writer(runtime)
    await writer.wrote.wait()
    with pytest.raises(WaitTimeout):
        async with runtime.turn(KEY, policy=Rollback(grace=60, wait_timeout=0)):
            pass
    writer.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer.task
    assert runtime.sessions is not None
    session = await runtime.sessions.resolve(KEY)
    async with runtime.lanes.turn(KEY):
        async with Transcripts(tmp_path / "transcripts").open(session.id):
            with pytest.raises(TranscriptBusy):
                await answer(KEY)
        assert await answer(KEY) == []


async def test_a_turn_that_ended_by_itself_is_taken_back_too(runtime: Runtime) -> None:
    """It was interrupted; that it had time to finish its sentence changes nothing."""
    wrote = asyncio.Event()

    async def polite() -> None:
        async with runtime.turn(KEY) as turn, turn.open_transcript() as transcript:
            await transcript.append(user("old"))
            wrote.set()
            await turn.wait_interrupted()

    task = apart(polite())
    await wrote.wait()
    async with runtime.turn(KEY, policy=Rollback(grace=60)) as turn:
        assert await entries(runtime, turn) == []
    await task


async def test_what_has_no_transcript_has_nothing_to_take_back(runtime: Runtime) -> None:
    """A turn that never wrote, and an idle lane."""
    async with runtime.turn(KEY, policy=Rollback()) as turn:
        assert await entries(runtime, turn) == []
        task = apart(turn_of(runtime, Rollback(grace=60)))
        await until_idle()
    await task
    assert runtime.transcripts is not None
    assert await runtime.transcripts.list() == ()


async def turn_of(runtime: Runtime, policy: Rollback) -> None:
    async with runtime.turn(KEY, policy=policy):
        pass


async def test_lanes_of_a_runtime_may_have_it_as_their_policy(tmp_path: Path) -> None:
    """Transcripts that the runtime makes itself note turns then."""
    runtime = Runtime(lanes=Lanes(policy="rollback"), sessions="memory://", transcripts=tmp_path / "transcripts")

    @runtime.agent_turn(key="key")
    async def answer(key: str, *, turn: Turn) -> list[str]:
        await turn.transcript.append(user(key))
        return said(turn.transcript.entries)

    assert await answer(KEY) == [KEY]


def test_without_transcripts_that_note_turns_it_is_refused_where_it_is_set(tmp_path: Path) -> None:
    """By each object that can be told of it, with what to do instead."""
    plain = Runtime(sessions="memory://", transcripts=tmp_path / "transcripts")
    with pytest.raises(ValueError, match="trace_turns=True"):
        Runtime(lanes=Lanes(policy=Rollback()))
    with pytest.raises(ValueError, match=r"Runtime\.turn"):
        Lanes(policy=Rollback()).turn(KEY)
    for runtime in (plain, Runtime()):
        with pytest.raises(ValueError, match="trace_turns=True"):
            runtime.turn(KEY, policy=Rollback())
        with pytest.raises(ValueError, match="trace_turns=True"):
            runtime.agent_turn(key="key", policy="rollback")
        with pytest.raises(ValueError, match="trace_turns=True"):
            LaneMiddleware(app, key="x-session-key", runtime=runtime, policy=Rollback())
        chosen = policies.from_header("x-policy", allow=("enqueue", "rollback"))
        with pytest.raises(ValueError, match="trace_turns=True"):
            LaneMiddleware(app, key=keys.scoped_by(whoever, "x-session-key"), runtime=runtime, policy=chosen)


def test_only_keys_of_ones_own_may_be_rolled_back_by_a_header(runtime: Runtime) -> None:
    """As with an interruption."""
    chosen = policies.from_header("x-policy", allow=("rollback",))
    with pytest.raises(ValueError, match="scoped_by"):
        LaneMiddleware(app, key="x-session-key", runtime=runtime, policy=chosen, trusted_keys=True)


async def test_a_request_that_chooses_it_is_served(runtime: Runtime) -> None:
    """By a header that allows it; a callable that returns it without transcripts is an error of the server."""
    chosen = policies.from_header("x-policy", allow=("rollback",))
    served: Any = LaneMiddleware(app, key=keys.scoped_by(whoever, "x-session-key"), runtime=runtime, policy=chosen)
    headers = {"x-session-key": "a", "x-policy": "rollback"}
    assert (await AsgiDriver(served).start("POST", headers=headers).response()).status == 200
    broken: Any = LaneMiddleware(app, key="x-session-key", policy=lambda _: Rollback(), trusted_keys=True)
    with pytest.raises(ValueError, match="trace_turns=True"):
        await AsgiDriver(broken).start("POST", headers=headers).finished()


def whoever(_: Any) -> str:
    return "alice"


async def app(scope: object, receive: object, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("policy", [Rollback(grace=0), Interrupt(grace=0)], ids=["rollback", "interrupt"])
async def test_a_turn_that_has_done_all_it_was_to_do_is_left_alone(
    runtime: Runtime, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller has the answer; it holds its lane only until its session is written."""
    settling, settled = asyncio.Event(), asyncio.Event()

    async def touch(_: str) -> None:
        settling.set()
        await settled.wait()

    async def answered() -> bool:
        async with runtime.turn(KEY) as turn, turn.open_transcript() as transcript:
            await transcript.append(user("old"))
        return turn.interrupted

    async def next_one() -> list[str]:
        async with runtime.turn(KEY, policy=policy) as turn:
            return await entries(runtime, turn)

    assert runtime.sessions is not None
    monkeypatch.setattr(runtime.sessions, "touch", touch)
    first = apart(answered())
    await settling.wait()
    second = apart(next_one())
    await until_idle()
    assert not runtime.lanes.interrupt(KEY, grace=0)
    await until_idle()
    settled.set()
    assert await first is False
    assert await second == ["old"]


async def test_who_never_came_to_its_lane_takes_nothing_back_and_leaves_nothing(tmp_path: Path) -> None:
    """A lane that was idle retains nothing of those who asked in vain."""
    kept = Transcripts(tmp_path / "kept", trace_turns=True)
    async with Runtime(lanes=Lanes(max_running=1), sessions="memory://", transcripts=kept) as runtime:
        async with runtime.turn("another"):
            for _ in range(5):
                with pytest.raises(WaitTimeout):
                    await apart(turn_of(runtime, Rollback(wait_timeout=0)))
        assert runtime.lanes.gate.debts == {}
