"""The dispatcher and sync listeners."""

import asyncio
import functools
import logging
from typing import Any

import pytest

from support.turns_steps import Recorder, held
from turnlane import Lanes, Runtime
from turnlane.hooks import DrainStarted, Event, Hooks, TurnFinished, TurnQueued, TurnStarted
from turnlane.testing import ManualClock, assert_no_leaks


def drain(number: int = 0) -> DrainStarted:
    return DrainStarted(running=number, waiting=0)


class TestRegistering:
    """`hooks.on`."""

    @pytest.mark.parametrize("wrong", ["TurnStarted", None, object, int, Exception, Event])
    def test_only_event_classes_can_be_listened_to(self, wrong: Any) -> None:
        """The class, not an instance or its name."""
        hooks = Hooks()
        if wrong is Event:
            wrong = drain()
        with pytest.raises(ValueError, match=r"not an event class of turnlane\.hooks"):
            hooks.on(wrong, print)
        with pytest.raises(ValueError, match="not callable: 'log'"):
            hooks.on(Event, "log")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert not hooks.active

    def test_a_queue_has_room_for_something(self) -> None:
        """A size below one is refused."""
        with pytest.raises(ValueError, match="queue_size must be at least 1, not 0"):
            Hooks(queue_size=0)

    def test_who_listens_to_a_class_hears_its_subclasses(self) -> None:
        """And nothing else."""
        hooks = Hooks()
        everything, some = list[Event](), list[TurnStarted]()
        hooks.on(Event, everything.append)
        hooks.on(TurnStarted, some.append)
        started = TurnStarted(key="a", turn="t", token=1, waited=0.0)
        for event in (started, drain()):
            hooks.emit(event)
        assert everything == [started, drain()]
        assert some == [started]

    def test_listeners_hear_in_the_order_they_came(self) -> None:
        """Whichever class they asked for, and one that came twice hears twice."""
        hooks = Hooks()
        order: list[int] = []

        def say(number: int, event: Event) -> None:
            order.append(number)

        for number, event_class in enumerate((DrainStarted, Event, DrainStarted)):
            hooks.on(event_class, functools.partial(say, number))
        twice = functools.partial(say, 9)
        hooks.on(DrainStarted, twice)
        hooks.on(DrainStarted, twice)
        hooks.emit(drain())
        assert order == [0, 1, 2, 9, 9]

    def test_listening_can_be_ended(self) -> None:
        """Once; ending it again does nothing, and the other registration of the same listener stays."""
        hooks = Hooks()
        heard: list[Event] = []
        first, second = hooks.on(Event, heard.append), hooks.on(Event, heard.append)
        assert (hooks.active, hooks.wants(DrainStarted)) == (True, True)
        first()
        first()
        hooks.emit(drain())
        assert len(heard) == 1
        second()
        hooks.emit(drain())
        assert len(heard) == 1
        assert (hooks.active, hooks.wants(DrainStarted)) == (False, False)
        assert repr(hooks) == "<Hooks listeners=0 dropped=0>"

    def test_what_is_wanted_follows_every_change(self) -> None:
        """What was looked up before is not remembered wrongly."""
        hooks = Hooks()
        assert not hooks.wants(TurnStarted)
        off = hooks.on(TurnFinished, print)
        assert not hooks.wants(TurnStarted)
        also = hooks.on(TurnStarted, print)
        assert hooks.wants(TurnStarted)
        also()
        assert (hooks.wants(TurnStarted), hooks.wants(TurnFinished)) == (False, True)
        off()
        assert not hooks.wants(TurnFinished)


class TestWhileDispatching:
    """Listeners that change who listens."""

    def test_one_may_remove_itself(self) -> None:
        """The others still hear the event, and it never hears another."""
        hooks = Hooks()
        heard: list[str] = []

        def once(event: Event) -> None:
            heard.append("once")
            off()

        hooks.on(Event, lambda event: heard.append("before"))
        off = hooks.on(Event, once)
        hooks.on(Event, lambda event: heard.append("after"))
        hooks.emit(drain())
        hooks.emit(drain())
        assert heard == ["before", "once", "after", "before", "after"]

    def test_one_may_add_another(self) -> None:
        """Which hears from the next event on."""
        hooks = Hooks()
        heard: list[str] = []

        def add(event: Event) -> None:
            heard.append("adds")
            off()
            hooks.on(Event, lambda event: heard.append("added"))

        off = hooks.on(Event, add)
        hooks.emit(drain())
        assert heard == ["adds"]
        hooks.emit(drain())
        assert heard == ["adds", "added"]

    def test_one_may_tell_of_something_itself(self) -> None:
        """An event inside an event."""
        hooks = Hooks()
        heard: list[int] = []

        def echo(event: DrainStarted) -> None:
            heard.append(event.running)
            if event.running:
                hooks.emit(drain(event.running - 1))

        hooks.on(DrainStarted, echo)
        hooks.emit(drain(3))
        assert heard == [3, 2, 1, 0]


class TestFailing:
    """Listeners that raise, or take long."""

    @pytest.mark.parametrize("error", [KeyError("mine"), asyncio.CancelledError(), AssertionError()])
    async def test_one_that_raises_is_logged_and_the_rest_goes_on(
        self, error: BaseException, caplog: pytest.LogCaptureFixture
    ) -> None:
        """At every event of a turn's life: the lanes are unhurt, the others hear, the turn does not notice."""
        runtime = Runtime(sessions="memory://")

        def fail(event: Event) -> None:
            raise error

        runtime.hooks.on(Event, fail)
        recorder = Recorder(runtime.hooks)

        @runtime.agent_turn(key="key")
        async def answer(key: str) -> str:
            return key

        with caplog.at_level(logging.ERROR, "turnlane.hooks"):
            assert list(await asyncio.gather(answer("a"), answer("a"))) == ["a", "a"]
            async with held(runtime.lanes, "a"):
                waiting = asyncio.ensure_future(answer("a"))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait({waiting})
            await runtime.drain()
        assert_no_leaks(runtime.lanes)
        assert len(caplog.records) == len(recorder.events) > 8
        assert all("listener_failed event=" in record.getMessage() for record in caplog.records)
        assert all(record.exc_info and record.exc_info[1] is error for record in caplog.records)

    def test_one_that_is_slow_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """Over 50 ms by the clock; at 50 ms nothing is said."""
        clock = ManualClock(monotonic=0)
        hooks = Hooks(clock=clock)
        takes = [0.05, 0.051, 2.0]

        def slow(event: Event) -> None:
            clock.advance(takes.pop(0))

        hooks.on(Event, slow)
        with caplog.at_level(logging.WARNING, "turnlane.hooks"):
            for _ in range(3):
                hooks.emit(drain())
        messages = [record.getMessage() for record in caplog.records]
        assert [message.rpartition(" ")[2] for message in messages] == ["took_ms=51", "took_ms=2000"]
        assert all(message.startswith("listener_slow event=DrainStarted listener=<function ") for message in messages)

    def test_one_that_is_slow_and_raises_is_logged_for_both(self, caplog: pytest.LogCaptureFixture) -> None:
        """Two lines."""
        clock = ManualClock()
        hooks = Hooks(clock=clock)

        def bad(event: Event) -> None:
            clock.advance(1)
            raise KeyError

        hooks.on(Event, bad)
        with caplog.at_level(logging.WARNING, "turnlane.hooks"):
            hooks.emit(drain())
        assert [record.getMessage().split()[0] for record in caplog.records] == ["listener_failed", "listener_slow"]


class TestCallingIntoTheLanes:
    """A listener may ask, and act."""

    async def test_it_sees_a_state_that_agrees_with_the_event(self) -> None:
        """At its start a turn runs, at its end it does not, and who was told of waiting waits."""
        lanes = Lanes()
        seen: list[tuple[str, int, int]] = []

        def look(event: Event) -> None:
            numbers = lanes.statistics()
            assert len(lanes.snapshot()) == numbers.lanes
            seen.append((type(event).__name__, numbers.running, numbers.waiting))

        lanes.hooks.on(Event, look)
        async with lanes.turn("a"):
            pass
        assert seen == [("TurnStarted", 1, 0), ("TurnFinished", 0, 0)]
        seen.clear()
        async with held(lanes, "a"):
            task = asyncio.ensure_future(enter(lanes))
            await asyncio.sleep(0)
            assert seen == [("TurnStarted", 1, 0), ("TurnQueued", 1, 1)]
        await task
        assert seen[-1] == ("TurnFinished", 0, 0)

    async def test_a_turn_that_has_ended_can_not_be_interrupted_from_its_last_event(self) -> None:
        """There is no running turn then, and none is told of."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)
        answers: list[bool] = []
        lanes.hooks.on(TurnFinished, lambda event: answers.append(lanes.interrupt(event.key, grace=0)))
        async with lanes.turn("a"):
            pass
        assert answers == [False]
        assert recorder.names == ["TurnStarted", "TurnFinished"]

    async def test_it_may_interrupt_the_turn_that_just_began_or_the_one_that_is_waited_for(self) -> None:
        """From `TurnStarted` the new one, from `TurnQueued` the one ahead."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)

        def interrupt(event: TurnQueued | TurnStarted) -> None:
            lanes.interrupt(event.key, grace=0)

        lanes.hooks.on(TurnQueued, interrupt)

        async def endless() -> None:
            async with lanes.turn("a"):
                await asyncio.Event().wait()

        tasks = [asyncio.ensure_future(endless()) for _ in range(3)]
        await asyncio.sleep(0)
        off = lanes.hooks.on(TurnStarted, interrupt)
        await asyncio.wait(tasks)
        off()
        assert [type(task.exception()).__name__ for task in tasks] == ["TurnInterrupted"] * 3
        assert recorder.names.count("TurnInterruption") == 3
        assert_no_leaks(lanes)

    async def test_it_may_pause_resume_and_drain(self) -> None:
        """What it does holds from then on."""
        lanes = Lanes()
        lanes.hooks.on(TurnStarted, lambda event: lanes.pause("b"))
        lanes.hooks.on(TurnFinished, lambda event: lanes.resume("b"))
        async with lanes.turn("a"):
            task = asyncio.ensure_future(enter(lanes, "b"))
            await asyncio.sleep(0)
            assert lanes.statistics().waiting == 1
        await task
        assert_no_leaks(lanes)


async def enter(lanes: Lanes, key: str = "a") -> None:
    async with lanes.turn(key):
        pass
