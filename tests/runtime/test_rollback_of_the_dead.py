"""What a turn has left whose process died is rolled back, and what a turn has left that ended is not."""

import asyncio
from contextlib import nullcontext
from pathlib import Path

import pytest

from support.runtime_writers import KEY, Writer, entries
from support.transcripts_scenes import user
from support.turns_steps import apart, until_idle
from turnlane import Enqueue, Interrupt, Rollback, Runtime, Transcripts, Turn
from turnlane.errors import TranscriptBusy, TurnInterrupted, WaitTimeout
from turnlane.policies import Policy
from turnlane.transcripts.contract import Author


async def begun_and_left(path: Path) -> None:
    """Leave in the transcripts what a turn leaves whose process dies: entries, and no end."""
    other = Runtime(sessions=f"sqlite:///{path}/sessions.db", transcripts=Transcripts(path / "kept", trace_turns=True))
    async with other:
        scope = other.lanes.place(KEY)
        turn = await scope.__aenter__()
        assert await other.enter_session(turn)
        async with turn.open_transcript() as transcript:
            await transcript.append(user("half"))


@pytest.fixture
def lasting(tmp_path: Path) -> Runtime:
    """With sessions and transcripts that outlive a process."""
    kept = Transcripts(tmp_path / "kept", trace_turns=True)
    return Runtime(sessions=f"sqlite:///{tmp_path}/sessions.db", transcripts=kept)


async def test_a_turn_that_has_ended_stays(lasting: Runtime) -> None:
    """However it has ended: by itself, with an error, or cancelled."""
    async with lasting:
        for number, error in enumerate([None, ValueError("its own"), asyncio.CancelledError()]):
            with pytest.raises((ValueError, asyncio.CancelledError)) if error else nullcontext():
                async with lasting.turn(KEY) as turn, turn.open_transcript() as transcript:
                    await transcript.append(user("old"))
                    if error is not None:
                        raise error
            async with lasting.turn(KEY, policy=Rollback()) as turn:
                assert await entries(lasting, turn) == ["old"] * (number + 1)


async def test_what_a_turn_left_running_writes_behind_its_end_stays(lasting: Runtime) -> None:
    """The turn has ended all the same."""
    async with lasting:
        async with lasting.turn(KEY) as turn, turn.open_transcript() as transcript:
            await transcript.append(user("old"))
        assert lasting.transcripts is not None
        assert turn.session is not None
        await lasting.transcripts.append(turn.session.id, user("late"), token=turn.token, turn=turn.id)
        async with lasting.turn(KEY, policy=Rollback()) as turn:
            assert await entries(lasting, turn) == ["old", "late"]


async def test_only_a_message_that_rolls_back_takes_out_what_a_dead_process_left(
    tmp_path: Path, lasting: Runtime
) -> None:
    """To others it is what was said; once they have written behind it, it stays."""
    await begun_and_left(tmp_path)
    async with lasting:
        async with lasting.turn(KEY) as turn:
            assert await entries(lasting, turn) == ["half"]
        async with lasting.turn(KEY, policy=Rollback()) as turn:
            assert await entries(lasting, turn) == []
        await begun_and_left(tmp_path)
        async with lasting.turn(KEY) as turn, turn.open_transcript() as transcript:
            await transcript.append(user("next"))
        async with lasting.turn(KEY, policy=Rollback()) as turn:
            assert await entries(lasting, turn) == ["half", "next"]


async def test_only_who_asks_for_it_needs_the_transcript(tmp_path: Path, lasting: Runtime) -> None:
    """Where it can not be had the turn that was to take back ends with that; others run, and it stays to be done."""
    await begun_and_left(tmp_path)
    held = Transcripts(tmp_path / "kept")
    assert lasting.transcripts is not None
    lasting.transcripts.lock_timeout = 0.01
    async with lasting:
        assert lasting.sessions is not None
        session = await lasting.sessions.resolve(KEY)
        async with held.open(session.id):
            with pytest.raises(TranscriptBusy):
                async with lasting.turn(KEY, policy=Rollback()):
                    raise AssertionError("it ran")
            async with lasting.turn(KEY, policy=Enqueue()) as turn:
                assert await entries(lasting, turn) == ["half"]
        async with lasting.turn(KEY, policy=Rollback()) as turn:
            assert await entries(lasting, turn) == []
        assert lasting.lanes.gate.debts == {}


async def test_a_turn_that_was_rolled_back_is_known_until_it_is_taken_out(tmp_path: Path, lasting: Runtime) -> None:
    """Its process may die before the turn that was to take it back has run."""
    async with lasting:
        writer = Writer(lasting)
        await writer.wrote.wait()
        with pytest.raises(WaitTimeout):
            async with lasting.turn(KEY, policy=Rollback(grace=60, wait_timeout=0)):
                pass
        writer.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer.task
    kept = Transcripts(tmp_path / "kept", trace_turns=True)
    after = Runtime(sessions=f"sqlite:///{tmp_path}/sessions.db", transcripts=kept)
    async with after, after.turn(KEY, policy=Rollback()) as turn:
        assert await entries(after, turn) == []


async def test_an_end_that_can_not_be_noted_is_logged(
    tmp_path: Path, lasting: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """The turn has had its effect, and its caller gets the answer."""
    async with lasting, lasting.turn(KEY) as turn, turn.open_transcript() as transcript:
        await transcript.append(user("old"))
        [traces] = (tmp_path / "kept").glob("*.traces")
        traces.unlink()
        traces.mkdir()
    assert "turn_end_not_noted" in caplog.text
    assert turn.id in caplog.text


async def unended(runtime: Runtime, turn: Turn) -> str | None:
    assert runtime.transcripts is not None
    assert turn.session is not None
    return await runtime.transcripts.store.unended(turn.session.id)


async def test_a_turn_ends_with_the_last_of_its_calls(lasting: Runtime) -> None:
    """While one that joined it goes on behind its block, it is not taken for one that has ended."""
    go_on, joined = asyncio.Event(), asyncio.Event()

    @lasting.agent_turn(key="key")
    async def beside(key: str, *, turn: Turn) -> None:
        joined.set()
        await go_on.wait()
        await turn.transcript.append(user("more"))

    async with lasting:
        async with lasting.turn(KEY) as turn:
            async with turn.open_transcript() as transcript:
                await transcript.append(user("old"))
            call = asyncio.create_task(beside(KEY))
            await joined.wait()
        assert await unended(lasting, turn) == turn.id
        go_on.set()
        await call
        assert await unended(lasting, turn) is None
        async with lasting.turn(KEY, policy=Rollback()) as turn:
            assert await entries(lasting, turn) == ["old", "more"]


@pytest.mark.parametrize("policy", [Rollback(grace=0), Interrupt(grace=0)], ids=["rollback", "interrupt"])
async def test_a_call_that_joins_a_turn_that_settles_is_interrupted_with_it(
    lasting: Runtime, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn is not over then."""
    settling, settled, joined = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @lasting.agent_turn(key="key")
    async def beside(key: str) -> None:
        joined.set()
        await asyncio.Event().wait()

    async def touch(_: str) -> None:
        settling.set()
        await settled.wait()

    async def first() -> None:
        async with lasting.turn(KEY):
            calls.append(asyncio.create_task(late()))

    async def late() -> None:
        await settling.wait()
        await beside(KEY)

    async def second() -> bool:
        async with lasting.turn(KEY, policy=policy):
            return True

    calls: list[asyncio.Task[None]] = []
    async with lasting:
        assert lasting.sessions is not None
        monkeypatch.setattr(lasting.sessions, "touch", touch)
        turns = [apart(first())]
        await joined.wait()
        settled.set()
        await until_idle()
        assert await apart(second())
        with pytest.raises(TurnInterrupted):
            await calls[0]
        await asyncio.wait(turns)


async def test_calls_that_join_a_turn_of_lanes_alone_leave_nothing_that_is_taken_for_dead(lasting: Runtime) -> None:
    """Nobody would note the end of such a turn."""

    @lasting.agent_turn(key="key")
    async def answer(key: str, *, turn: Turn) -> None:
        await turn.transcript.append(user("old"))

    async with lasting:
        async with lasting.lanes.turn(KEY) as turn:
            await answer(KEY)
            assert await unended(lasting, turn) is None
            await answer(KEY)
        async with lasting.turn(KEY, policy=Rollback()) as turn:
            assert await entries(lasting, turn) == ["old", "old"]


async def test_words_behind_the_end_of_a_turn_are_not_those_of_a_dead_one(lasting: Runtime) -> None:
    """Of a turn that had written nothing before, too; nor what it stored for another session."""
    async with lasting:
        assert lasting.transcripts is not None
        async with lasting.turn("agent:main:bob") as other:
            pass
        assert other.session is not None
        async with lasting.turn(KEY) as turn:
            await lasting.transcripts.append(other.session.id, user("for bob"), token=turn.token, turn=turn.id)
        async with turn.open_transcript() as transcript:
            await transcript.append(user("stored when the response was out"))
        async with lasting.turn(KEY, policy=Rollback()) as turn:
            assert await entries(lasting, turn) == ["stored when the response was out"]
        async with lasting.turn("agent:main:bob", policy=Rollback()) as turn:
            assert await entries(lasting, turn) == ["for bob"]


async def test_a_turn_that_stores_without_opening_is_known_to_have_died(tmp_path: Path, lasting: Runtime) -> None:
    """Where it stores with its own token, in its own session."""
    kept = Transcripts(tmp_path / "kept", trace_turns=True)
    other = Runtime(sessions=f"sqlite:///{tmp_path}/sessions.db", transcripts=kept)
    turn = await other.lanes.place(KEY).__aenter__()
    assert await other.enter_session(turn)
    assert turn.session is not None
    await kept.append(turn.session.id, user("half"), token=turn.token, turn=turn.id)
    async with lasting, lasting.turn(KEY, policy=Rollback()) as turn:
        assert await entries(lasting, turn) == []
    await other.aclose()


async def test_an_end_is_noted_although_the_turn_is_cancelled_meanwhile(
    lasting: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noted to its end."""
    assert lasting.transcripts is not None
    store = lasting.transcripts.store
    noting, noted, end_turn = asyncio.Event(), asyncio.Event(), store.end_turn

    async def slowly(session_id: str, author: Author) -> None:
        noting.set()
        await noted.wait()
        await end_turn(session_id, author)

    async def turn_of_alice() -> None:
        async with lasting.turn(KEY) as turn, turn.open_transcript() as transcript:
            await transcript.append(user("old"))

    monkeypatch.setattr(store, "end_turn", slowly)
    async with lasting:
        task = apart(turn_of_alice())
        await noting.wait()
        task.cancel()
        await until_idle()
        noted.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with lasting.turn(KEY, policy=Rollback()) as turn:
            assert await entries(lasting, turn) == ["old"]


async def test_transcripts_that_note_no_turns_are_not_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An end is nothing to them."""
    runtime = Runtime(sessions="memory://", transcripts=tmp_path / "kept")
    async with runtime, runtime.turn(KEY) as turn, turn.open_transcript() as transcript:
        await transcript.append(user("old"))
    assert caplog.text == ""
