"""The events of a turn's life, and their order."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from sessions.helpers import StepClock
from support.turns_steps import Recorder, apart, held, quiet, until_idle
from turnlane import Enqueue, Interrupt, Lanes, Runtime, Sessions, Turn, errors, hooks
from turnlane.hooks import (
    DrainStarted,
    DuplicateRefused,
    DuplicateReplayed,
    Event,
    LaneLost,
    PromptReacquired,
    PromptReleased,
    SessionMinted,
    TailLost,
    TakeoverFound,
    TranscriptAdopted,
    TurnCoalescing,
    TurnFinished,
    TurnInterruption,
    TurnQueued,
    TurnRefused,
    TurnRolledBack,
    TurnSlow,
    TurnStarted,
    TurnSteering,
    UnownedEditFound,
    key_digest,
)
from turnlane.sessions import Freshness
from turnlane.testing import Gates

CLASSES = [getattr(hooks, name) for name in hooks.__all__]
EVENTS = [each for each in CLASSES if isinstance(each, type) and issubclass(each, Event) and each is not Event]


async def run(lanes: Lanes, key: str = "a", **settings: Any) -> Turn:
    async with lanes.turn(key, **settings) as turn:
        return turn


async def refused(work: Coroutine[Any, Any, object]) -> None:
    with pytest.raises((errors.LaneError, asyncio.CancelledError)):
        await work


class TestLife:
    """What is told of one turn."""

    async def test_a_turn_that_finds_its_lane_idle(self) -> None:
        """Started and finished, with the same facts the turn has."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)
        turn = await run(lanes)
        started, finished = recorder.events
        assert started == TurnStarted(key="a", turn=turn.id, token=turn.token, waited=0.0)
        assert isinstance(finished, TurnFinished)
        assert finished.ran >= 0
        assert finished == TurnFinished(
            key="a",
            turn=turn.id,
            token=turn.token,
            outcome="completed",
            waited=0.0,
            ran=finished.ran,
            session_id=None,
            session_is_new=None,
            error=None,
        )

    async def test_a_turn_that_waits(self) -> None:
        """Queued, then started when the one ahead has finished; the wait is told each time."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)
        async with held(lanes, "a"):
            task = apart(run(lanes, policy=Enqueue(hint_after=1)))
            await until_idle()
            assert recorder.names == ["TurnStarted", "TurnQueued"]
        turn = await task
        assert quiet(recorder.names) == "Started Queued Finished Started Finished"
        queued, ahead, started, finished = recorder.events[1:]
        assert queued == TurnQueued(key="a", turn=turn.id, ahead=1, hint=True)
        assert isinstance(ahead, TurnFinished)
        assert isinstance(started, TurnStarted)
        assert isinstance(finished, TurnFinished)
        assert ahead.turn != started.turn == finished.turn == turn.id
        assert started.waited == finished.waited == turn.waited > 0

    async def test_a_turn_with_a_session(self) -> None:
        """The mint is told inside the turn; a session that is found again is not told of."""
        runtime = Runtime(sessions="memory://")
        recorder = Recorder(runtime.hooks)
        async with runtime.turn("a") as turn:
            pass
        assert quiet(recorder.names) == "Started SessionMinted Finished"
        assert turn.session is not None
        assert recorder.events[1] == SessionMinted(key="a", session_id=turn.session.id, replaced=None)
        async with runtime.turn("a"):
            pass
        assert quiet(recorder.names[3:]) == "Started Finished"

    async def test_a_session_that_was_replaced_is_named(self) -> None:
        """Stale, and renewed by hand."""
        clock = StepClock()
        runtime = Runtime(sessions=Sessions(freshness=Freshness(idle=timedelta(minutes=1)), clock=clock))
        assert runtime.sessions is not None
        recorder = Recorder(runtime.hooks, runtime.sessions.hooks)
        async with runtime.turn("a"):
            pass
        clock.at += 60
        async with runtime.turn("a"):
            pass
        await runtime.sessions.renew("a")
        minted = [event for event in recorder.events if isinstance(event, SessionMinted)]
        assert [each.replaced for each in minted] == [None, minted[0].session_id, minted[1].session_id]

    @pytest.mark.parametrize("outcome", ["failed", "cancelled", "interrupted", "timed_out"])
    async def test_how_a_turn_ended(self, outcome: str) -> None:
        """With the error that left it."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)
        entered = asyncio.Event()

        async def turn() -> None:
            async with lanes.turn("a", turn_timeout=0.001 if outcome == "timed_out" else None):
                entered.set()
                if outcome == "failed":
                    raise KeyError
                await asyncio.Event().wait()

        task = apart(turn())
        await entered.wait()
        if outcome == "cancelled":
            task.cancel()
        elif outcome == "interrupted":
            lanes.interrupt("a", grace=0)
        await asyncio.gather(task, return_exceptions=True)
        wanted = "Started Interruption Finished" if outcome == "interrupted" else "Started Finished"
        assert quiet(recorder.names) == wanted
        finished = recorder.events[-1]
        assert isinstance(finished, TurnFinished)
        assert finished.outcome == outcome
        kinds = {
            "failed": KeyError,
            "cancelled": asyncio.CancelledError,
            "interrupted": errors.TurnInterrupted,
            "timed_out": errors.TurnTimeout,
        }
        assert type(finished.error) is kinds[outcome]

    async def test_a_generator_turn_has_the_same_life(self) -> None:
        """Read to the end, and closed early."""
        runtime = Runtime(sessions="memory://")
        recorder = Recorder(runtime.hooks)

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[str]:
            yield key
            yield key

        assert [item async for item in stream("a")] == ["a", "a"]
        assert quiet(recorder.names) == "Started SessionMinted Finished"
        items = stream("a")
        await anext(items)
        await items.aclose()
        assert quiet(recorder.names[3:]) == "Started Finished"
        outcomes = [event.outcome for event in recorder.events if isinstance(event, TurnFinished)]
        assert outcomes == ["completed", "cancelled"]

    async def test_a_joined_call_has_no_events(self) -> None:
        """It is part of a turn that has its own."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def answer(key: str) -> None: ...

        recorder = Recorder(runtime.hooks)
        async with runtime.turn("a"):
            await answer("a")
            assert quiet(recorder.names) == "Started"
        assert quiet(recorder.names) == "Started Finished"


class TestInterruption:
    """A newcomer, or an operator, ends the running turn."""

    async def test_a_newcomer(self) -> None:
        """Who waited is superseded, the running one told, the newcomer queued; then it runs."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)

        async def endless() -> None:
            async with lanes.turn("a"):
                await asyncio.Event().wait()

        running, earlier = apart(endless()), apart(endless())
        await until_idle()
        turn = await apart(run(lanes, policy=Interrupt(grace=0)))
        await asyncio.gather(running, earlier, return_exceptions=True)
        order = "Started Queued Refused Interruption Queued Finished Started Finished"
        assert quiet(recorder.names) == order
        refusal, interruption = recorder.events[2:4]
        assert isinstance(refusal, TurnRefused)
        assert (refusal.reason, refusal.key) == ("superseded", "a")
        assert refusal.waited > 0
        first = recorder.events[0]
        assert isinstance(first, TurnStarted)
        assert interruption == TurnInterruption(key="a", turn=first.turn, by=turn.id, grace=0)

    async def test_an_operator(self) -> None:
        """`by` is nobody; asking again is not told again."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)
        async with lanes.turn("a") as turn:
            assert lanes.interrupt("a", grace=60)
            assert not lanes.interrupt("a", grace=60)
        assert recorder.events[1] == TurnInterruption(key="a", turn=turn.id, by=None, grace=60)
        assert quiet(recorder.names) == "Started Interruption Finished"


class TestSlowTurn:
    """A turn that runs long."""

    async def test_it_is_told_once_with_the_place_where_it_stands(self) -> None:
        """While it runs; then it finishes as ever."""
        lanes = Lanes(slow_after=0.01)
        with Gates(lanes.hooks) as gates:

            async def slow_turn() -> None:
                async with lanes.turn("a"):
                    await the_model()

            async def the_model() -> None:
                await gates.at(TurnSlow).reached()
                await asyncio.sleep(0.03)  # three times `slow_after`: time that must pass without a second event

            await apart(slow_turn())
            [slow] = gates.at(TurnSlow).seen
            assert quiet([type(event).__name__ for event in gates.events]) == "Started Slow Finished"
        started = gates.events[0]
        assert isinstance(started, TurnStarted)
        assert (slow.key, slow.turn) == ("a", started.turn)
        assert slow.running >= 0.01
        assert "slow_turn" in slow.stack


class TestClasses:
    """The event classes themselves."""

    def test_every_event_class_is_covered_here(self) -> None:
        """Whoever adds one adds its test."""
        elsewhere = {  # tests/asgi, tests/lanes and tests/transcripts
            DuplicateRefused,
            DuplicateReplayed,
            LaneLost,
            PromptReacquired,
            PromptReleased,
            TailLost,
            TakeoverFound,
            TranscriptAdopted,
            TurnCoalescing,
            TurnRolledBack,
            TurnSteering,
            UnownedEditFound,
        }
        covered = elsewhere | {
            DrainStarted,
            SessionMinted,
            TurnFinished,
            TurnInterruption,
            TurnQueued,
            TurnRefused,
            TurnSlow,
            TurnStarted,
        }
        assert set(EVENTS) == covered

    @pytest.mark.parametrize("event_class", EVENTS)
    def test_each_is_frozen_slotted_and_keyword_only(self, event_class: Any) -> None:
        """A listener can not change what the next one hears."""
        parameters = event_class.__dataclass_params__
        assert parameters.frozen
        assert not hasattr(event_class, "__dict__") or "__slots__" in vars(event_class)
        assert all(field.kw_only for field in dataclasses.fields(event_class))

    def test_a_key_is_told_as_a_digest_too(self) -> None:
        """Sixteen hex digits, the same for the same key, also for text no encoding knows."""
        event = TurnQueued(key="agent:main:alice", turn="t", ahead=1)
        assert event.key_digest == key_digest("agent:main:alice")
        assert len(event.key_digest) == 16
        assert int(event.key_digest, 16) >= 0
        digests: list[Callable[[], str]] = [
            lambda: key_digest("a"),
            lambda: key_digest("b"),
            lambda: key_digest("\ud800"),
        ]
        assert len({digest() for digest in digests}) == 3
