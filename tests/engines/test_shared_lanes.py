"""Lanes that two workers share: every policy reaches the worker that runs the turn."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from engines.places import PLACES, Place
from engines.visits import KEY, Visit, two, within
from support.transcripts_scenes import said, user
from support.turns_steps import apart
from turnlane import Coalesce, Enqueue, Interrupt, Lanes, Reject, Rollback, Runtime, Steer, Transcripts
from turnlane.engines import Lost
from turnlane.errors import (
    EngineUnavailable,
    LaneBusy,
    LaneFull,
    LaneReentry,
    LanesDraining,
    NotConfigured,
    TurnCoalesced,
    TurnInterrupted,
    TurnSteered,
    WaitTimeout,
)
from turnlane.hooks import Event, Hooks, LaneLost, LoggingHook, TurnFinished
from turnlane.lanes.shared import SharedGate
from turnlane.messages import joined
from turnlane.testing import assert_no_leaks

pytestmark = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)


async def test_turns_of_both_are_one_line(tmp_path: Path, place: Place) -> None:
    """In the order of arrival, with tokens that grow; the position counts those of the other worker."""
    async with two(tmp_path, place) as (one, other):
        first = await Visit(one).running()
        second = await Visit(other).waiting()
        third = await Visit(one).waiting()
        tokens = [(await each.left()).token for each in (first, second, third)]
        assert tokens == sorted(set(tokens))
        assert [each.turn.position for each in (first, second, third) if each.turn] == [0, 1, 2]


async def test_who_will_not_wait_is_refused_for_the_other(tmp_path: Path, place: Place) -> None:
    """By a busy lane, and by a full line."""
    async with two(tmp_path, place) as (one, other):
        first = await Visit(one).running()
        with pytest.raises(LaneBusy):
            await Visit(other, policy=Reject()).task
        waiting = await Visit(other, policy=Enqueue(max_waiting=1)).waiting()
        with pytest.raises(LaneFull) as caught:
            await Visit(one, policy=Enqueue(max_waiting=1)).task
        assert (caught.value.waiting, caught.value.max_waiting) == (1, 1)
        with pytest.raises(WaitTimeout):
            await Visit(one, policy=Enqueue(wait_timeout=0)).task
        await first.left()
        await waiting.left()


async def test_who_leaves_the_line_is_passed_by_the_other(tmp_path: Path, place: Place) -> None:
    """Cancelled while it waits, or in the moment it is given the lane."""
    async with two(tmp_path, place) as (one, other):
        first = await Visit(one).running()
        gone = await Visit(other).waiting()
        next_one = await Visit(one).waiting()
        gone.task.cancel()
        await first.left()
        await next_one.running()
        late = await Visit(other).waiting()
        next_one.go.set()
        await next_one.task
        late.task.cancel()
        await (await Visit(one).running()).left()


async def test_an_interruption_reaches_the_other(tmp_path: Path, place: Place) -> None:
    """The running turn is cancelled, those that wait are superseded, in whatever worker."""
    async with two(tmp_path, place) as (one, other):
        running = await Visit(one).running()
        waiting = [await Visit(lanes).waiting() for lanes in (one, other)]
        newest = Visit(other, policy=Interrupt(grace=0))
        for each in (running, *waiting):
            with pytest.raises(TurnInterrupted) as caught:
                await within(each.task)
            assert caught.value.into == (await newest.running()).turn.id  # type: ignore[union-attr]
            assert caught.value.running is (each is running)
        await newest.left()


async def test_an_operator_of_the_other_interrupts_pauses_and_resumes(tmp_path: Path, place: Place) -> None:
    """Nobody starts while it is paused."""
    async with two(tmp_path, place) as (one, other):
        running = await Visit(one).running()
        other.pause(KEY)
        other.interrupt(KEY, grace=0)
        with pytest.raises(TurnInterrupted):
            await within(running.task)
        waiting = await Visit(one).waiting()
        assert not waiting.runs.is_set()
        other.resume(KEY)
        await (await waiting.running()).left()


async def test_messages_of_both_become_one_turn(tmp_path: Path, place: Place) -> None:
    """That of the newest, merged there; the others are told, or get its result."""
    for share in (False, True):
        policy = Coalesce(window=0, merge=joined("text"), share_result=share)
        async with two(tmp_path / str(share), place) as (one, other):
            running = await Visit(one).running()
            waiting = [
                await Visit(lanes, policy=policy, message={"text": text}, principal="alice").waiting()
                for lanes, text in ((one, "a"), (other, "b"), (one, "c"), (other, "d"))
            ]
            apart_from_them = await Visit(one, policy=policy, message={"text": "e"}, principal="bob").waiting()
            await running.left()
            newest = await waiting[-1].running()
            assert newest.turn is not None
            assert newest.turn.message == {"text": "a\n\nb\n\nc\n\nd"}
            assert newest.turn.messages == tuple({"text": text} for text in "abcd")
            newest.turn.share("what it came to")
            if share:
                assert not any(each.task.done() for each in waiting)
                newest.go.set()
            for each in waiting[:-1]:
                with pytest.raises(TurnCoalesced) as caught:
                    await within(each.task)
                assert caught.value.into == newest.turn.id
                assert caught.value.result == ("what it came to" if share else None)
            await newest.left()
            assert (await apart_from_them.left()).messages == ({"text": "e"},)


async def test_what_can_not_be_merged_becomes_turns_of_their_own(tmp_path: Path, place: Place) -> None:
    """The newest fails with what `merge` raised."""
    async with two(tmp_path, place) as (one, other):
        policy = Coalesce(window=0, merge=unmergeable)
        running = await Visit(one).running()
        first = await Visit(one, policy=policy, message="a").waiting()
        second = await Visit(other, policy=policy, message="b").waiting()
        newest = await Visit(other, policy=policy, message="c").waiting()
        await running.left()
        with pytest.raises(ZeroDivisionError):
            await within(newest.task)
        for each, message in ((first, "a"), (second, "b")):
            assert (await (await each.running()).left()).messages == (message,)


def unmergeable(_: object) -> object:
    raise ZeroDivisionError


async def test_messages_only_one_process_can_read_stay_in_it(tmp_path: Path, place: Place) -> None:
    """They become one turn with those of their own worker."""
    async with two(tmp_path, place) as (one, other):
        policy = Coalesce(window=0, merge=list)
        running = await Visit(one).running()
        thing = object()
        first, second = [await Visit(one, policy=policy, message=thing).waiting() for _ in range(2)]
        third = await Visit(other, policy=policy, message=thing).waiting()
        await running.left()
        assert (await second.running()).turn.messages == (thing, thing)  # type: ignore[union-attr]
        with pytest.raises(TurnCoalesced):
            await within(first.task)
        await second.left()
        assert (await third.left()).messages == (thing,)


async def test_a_message_is_steered_into_the_turn_of_the_other(tmp_path: Path, place: Place) -> None:
    """Done with there its sender is told; else it is a turn of its own, in its place."""
    async with two(tmp_path, place) as (one, other):
        running = await Visit(one, principal="alice").running()
        assert running.turn is not None
        taken = await Visit(other, policy=Steer(), message={"text": "b"}, principal="alice").waiting()
        left = await Visit(one, policy=Steer(), message={"text": "c"}, principal="alice").waiting()
        strange = await Visit(other, policy=Steer(), message={"text": "d"}, principal="bob").waiting()
        steered = await within(anext(running.turn.steering))
        assert steered.message == {"text": "b"}
        assert steered.done()
        with pytest.raises(TurnSteered) as caught:
            await within(taken.task)
        assert caught.value.into == running.turn.id
        assert (await within(anext(running.turn.steering))).message == {"text": "c"}
        assert running.turn.steering.take() is None
        await running.left()
        for each in (left, strange):
            await (await each.running()).left()


async def test_what_the_turn_of_the_other_wrote_is_rolled_back(tmp_path: Path, place: Place) -> None:
    """By the worker whose message came, before its turn begins; what others wrote stays."""
    make = place(tmp_path)
    sessions = f"sqlite:///{tmp_path}/sessions.db"

    async def runtime(stack: AsyncExitStack) -> Runtime:
        kept = Transcripts(tmp_path / "kept", trace_turns=True)
        lanes = await stack.enter_async_context(Lanes(make()))
        return await stack.enter_async_context(Runtime(lanes=lanes, sessions=sessions, transcripts=kept))

    async with AsyncExitStack() as stack:
        one, other = await runtime(stack), await runtime(stack)
        wrote = asyncio.Event()

        async def writes() -> None:
            async with one.turn(KEY) as turn, turn.open_transcript() as transcript:
                await transcript.append(user("old"))
                async with transcript.released():
                    wrote.set()
                    await asyncio.Event().wait()

        async with one.turn(KEY) as turn, turn.open_transcript() as transcript:
            await transcript.append(user("before"))
        task = apart(writes())
        await wrote.wait()
        async with other.turn(KEY, policy=Rollback(grace=0)) as turn, turn.open_transcript() as transcript:
            assert said(transcript.entries) == ["before"]
        with pytest.raises(TurnInterrupted):
            await task


async def test_a_chain_asks_for_no_lane_it_holds(tmp_path: Path, place: Place) -> None:
    """At once, as in lanes of one process."""
    async with two(tmp_path, place) as (one, _), one.turn(KEY):
        with pytest.raises(LaneReentry):
            async with one.turn(KEY):
                raise AssertionError("it ran")
        async with one.turn("another"):
            pass


async def test_a_cap_of_the_process_counts_its_own_turns(tmp_path: Path, place: Place) -> None:
    """Who has a lane and no running slot waits for one; the other worker has slots of its own."""
    async with two(tmp_path, place, max_running=1) as (one, other):
        first = await Visit(one).running()
        second = asyncio.create_task(turn_of(one, "another"))
        await asyncio.sleep(0)
        assert await turn_of(other, "a third") == "a third"
        assert not second.done()
        await first.left()
        assert await within(second) == "another"


async def turn_of(lanes: Lanes, key: str) -> str:
    async with lanes.turn(key) as turn:
        return turn.key


async def test_closing_tells_who_waits_and_lets_a_running_turn_end(tmp_path: Path, place: Place) -> None:
    """The other worker has the lane as soon as that has ended."""
    make = place(tmp_path)
    one, other = Lanes(make()), Lanes(make())
    running = await Visit(one).running()
    waiting = await Visit(one).waiting()
    behind = await Visit(other).waiting()
    await one.aclose()
    with pytest.raises(LanesDraining):
        await within(waiting.task)
    assert not behind.runs.is_set()
    await running.left()
    await (await behind.running()).left()
    await other.aclose()


async def test_an_engine_that_was_given_is_used_up_by_closing(tmp_path: Path, place: Place) -> None:
    """Lanes that are to be opened again have a URL."""
    lanes = Lanes(place(tmp_path)())
    async with lanes:
        assert await turn_of(lanes, KEY) == KEY
    with pytest.raises(NotConfigured, match="give them a URL"):
        async with lanes:
            await turn_of(lanes, KEY)


async def test_an_engine_that_fails_is_told_and_nothing_runs(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In words, as an error of its own, and in the log, but not for each turn; later turns are served again."""
    monkeypatch.setattr("turnlane.lanes.shared.PATIENCE", 0.01)
    engine = place(tmp_path)()

    async def broken(*_: object) -> object:
        raise EngineUnavailable("here", operation="acquire a lane", reason="the test said so")

    async def worse(*_: object) -> object:
        raise LookupError("what nobody thought of")

    async with Lanes(engine) as lanes:
        for fault, words in (
            (broken, "the test said so"),
            (broken, "the test said so"),
            (worse, "what nobody thought of"),
        ):
            with monkeypatch.context() as patched:
                patched.setattr(engine, "acquire", fault)
                with pytest.raises(EngineUnavailable, match=words):
                    await turn_of(lanes, KEY)
        assert await turn_of(lanes, KEY) == KEY
        assert_no_leaks(lanes)
    assert len([record for record in caplog.records if record.message.startswith("engine_unavailable ")]) == 1


async def test_a_lost_lane_is_told_of(tmp_path: Path, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """As an event, in the log, in the statistics, and to whoever runs the turn."""
    async with two(tmp_path, place, hooks=Hooks()) as (one, _):
        told: list[Event] = []
        for kind in (LaneLost, TurnFinished):
            one.hooks.on(kind, told.append)
        LoggingHook().register(one.hooks)
        visit = await Visit(one).running()
        assert visit.turn is not None
        assert isinstance(one.gate, SharedGate)
        for _ in range(2):
            one.gate.tell(Lost(KEY, visit.turn.id))
        with pytest.raises(EngineUnavailable, match="keep the lane"):
            await within(visit.task)
        assert visit.turn.lost
        lost, finished = told
        assert isinstance(lost, LaneLost)
        assert (lost.key, lost.turn, lost.engine) == (KEY, visit.turn.id, one.gate.engine.where)
        assert isinstance(finished, TurnFinished)
        assert finished.outcome == "lost"
        assert one.statistics().totals["lost"] == 1
        took = f"waited_ms={1000 * finished.waited:.0f} ran_ms={1000 * finished.ran:.0f}"
        assert [record.message for record in caplog.records if record.name == "turnlane.turns"] == [
            f"lane_lost key={lost.key_digest} turn={lost.turn} engine={lost.engine}",
            f"turn_finished key={lost.key_digest} session=- session_is=- turn={lost.turn} outcome=lost " + took,
        ]
