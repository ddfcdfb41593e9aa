"""Async listeners: fed in order, from a bounded queue, apart from the turns."""

import asyncio
import functools
import gc
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from support.turns_steps import until_idle
from turnlane import Runtime, current_turn
from turnlane.hooks import DrainStarted, Event, Hooks, TurnFinished
from turnlane.testing import assert_no_leaks


def numbered(number: int) -> DrainStarted:
    return DrainStarted(running=number, waiting=0)


class Held:
    """A listener that hears, then waits until it may go on."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.go = asyncio.Event()

    async def __call__(self, event: DrainStarted) -> None:
        self.heard.append(event.running)
        await self.go.wait()


class TestFeeding:
    """When and how they are called."""

    async def test_every_event_is_heard_in_order_one_at_a_time(self) -> None:
        """The next one begins when the listener has ended with the last."""
        hooks = Hooks()
        seen: list[str] = []

        async def listen(event: DrainStarted) -> None:
            seen.append(f"{event.running} begins")
            await asyncio.sleep(0)
            seen.append(f"{event.running} ends")

        hooks.on(DrainStarted, listen)
        for number in range(3):
            hooks.emit(numbered(number))
        assert seen == [], "telling does not wait"
        await until_idle()
        assert seen == [f"{number} {what}" for number in range(3) for what in ("begins", "ends")]

    async def test_every_form_of_an_async_callable_is_fed(self) -> None:
        """Functions, methods, partials, objects, and sync callables that return something to await."""
        heard: list[str] = []

        async def function(event: Event, name: str = "function") -> None:
            await asyncio.sleep(0)
            heard.append(name)

        class Listener:
            async def method(self, event: Event) -> None:
                await function(event, "method")

            async def __call__(self, event: Event) -> None:
                await function(event, "object")

        hooks = Hooks()
        hooks.on(Event, function)
        hooks.on(Event, Listener().method)
        hooks.on(Event, Listener())
        hooks.on(Event, functools.partial(function, name="partial"))
        hooks.on(Event, lambda event: function(event, "lambda"))
        hooks.on(Event, lambda event: asyncio.ensure_future(function(event, "future")))
        hooks.emit(numbered(0))
        await until_idle()
        assert sorted(heard) == ["function", "future", "lambda", "method", "object", "partial"]

    async def test_a_task_exists_only_while_there_is_work(self) -> None:
        """One per listener with work, none when all is heard."""
        hooks = Hooks()
        listeners = [Held(), Held()]
        for listener in listeners:
            hooks.on(DrainStarted, listener)
        assert len(asyncio.all_tasks()) == 1
        for number in range(3):
            hooks.emit(numbered(number))
        await until_idle()
        assert len(asyncio.all_tasks()) == 3
        for listener in listeners:
            listener.go.set()
        await until_idle()
        assert len(asyncio.all_tasks()) == 1
        assert [listener.heard for listener in listeners] == [[0, 1, 2]] * 2

    async def test_listeners_do_not_wait_for_each_other(self) -> None:
        """One hangs, the next has heard everything, the sync one before either."""
        hooks = Hooks()
        stuck, brisk = Held(), Held()
        brisk.go.set()
        sync: list[Event] = []
        hooks.on(DrainStarted, stuck)
        hooks.on(DrainStarted, brisk)
        hooks.on(DrainStarted, sync.append)
        for number in range(5):
            hooks.emit(numbered(number))
        assert len(sync) == 5
        await until_idle()
        assert (stuck.heard, brisk.heard) == ([0], [0, 1, 2, 3, 4])
        stuck.go.set()
        await hooks.aclose()

    async def test_they_are_no_part_of_the_turn_that_was_told_of(self) -> None:
        """No current turn, although it began inside one; they may wait for the very lane without a cycle being seen."""
        runtime = Runtime()
        seen: list[object] = []

        async def listen(event: TurnFinished) -> None:
            off()
            seen.append(current_turn())
            async with runtime.turn("outer") as turn:
                seen.append(turn.waited > 0)

        off = runtime.hooks.on(TurnFinished, listen)
        async with runtime.turn("outer"):
            async with runtime.turn("inner"):
                pass
            await until_idle()
        await until_idle()
        assert seen == [None, True]

    async def test_outside_a_loop_the_event_is_dropped_and_counted(self) -> None:
        """A sync listener hears it all the same, also one whose answer is then not awaited."""
        hooks = Hooks()
        heard: list[Event] = []

        def answered(event: DrainStarted) -> Coroutine[Any, Any, None]:
            heard.append(event)
            return Held()(event)

        hooks.on(DrainStarted, Held())
        hooks.on(Event, heard.append)
        hooks.on(DrainStarted, answered)
        await asyncio.to_thread(hooks.emit, numbered(0))
        assert (hooks.dropped, len(heard)) == (2, 2)
        gc.collect()  # nothing is left that was never awaited


class TestBound:
    """The queue."""

    async def test_a_listener_that_hangs_fills_its_queue_and_no_more(self) -> None:
        """What does not fit is counted, and given to the others."""
        hooks = Hooks(queue_size=3)
        stuck, brisk = Held(), Held()
        brisk.go.set()
        hooks.on(DrainStarted, stuck)
        hooks.on(DrainStarted, brisk)
        for number in range(10):
            hooks.emit(numbered(number))
            await until_idle()
        assert hooks.dropped == 6
        assert brisk.heard == list(range(10))
        stuck.go.set()
        await until_idle()
        assert stuck.heard == [0, 1, 2, 3]
        hooks.emit(numbered(10))
        await until_idle()
        assert stuck.heard[-1] == 10
        assert repr(hooks) == "<Hooks listeners=2 dropped=6>"

    async def test_a_burst_larger_than_the_queue_drops_the_latest(self) -> None:
        """Before the task has run once, too."""
        hooks = Hooks(queue_size=2)
        listener = Held()
        listener.go.set()
        hooks.on(DrainStarted, listener)
        for number in range(5):
            hooks.emit(numbered(number))
        await until_idle()
        assert (listener.heard, hooks.dropped) == ([0, 1], 3)

    async def test_turns_go_on_while_a_listener_hangs(self) -> None:
        """Thousands of them; the lanes are not hurt and nothing piles up."""
        runtime = Runtime()
        stop = asyncio.Event()

        async def hang(event: Event) -> None:
            await stop.wait()

        runtime.hooks.on(Event, hang)
        for _ in range(2000):
            async with runtime.turn("a"):
                pass
        assert_no_leaks(runtime.lanes)
        assert len(asyncio.all_tasks()) <= 2
        assert runtime.hooks.dropped >= 2000
        stop.set()
        await runtime.aclose()
        assert len(asyncio.all_tasks()) == 1


class Hang:
    """Hears one event and never comes back."""

    async def __call__(self, event: Event) -> None:
        await asyncio.Event().wait()


class TestFailing:
    """Listeners that raise, are cancelled, are taken off."""

    @pytest.mark.parametrize("error", [KeyError("mine"), asyncio.CancelledError("mine")])
    async def test_one_that_raises_is_logged_and_hears_the_next_event(
        self, error: BaseException, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A cancellation of something it awaited is its own affair."""
        hooks = Hooks()
        heard: list[int] = []

        async def listen(event: DrainStarted) -> None:
            heard.append(event.running)
            await asyncio.sleep(0)
            if event.running == 0:
                raise error

        hooks.on(DrainStarted, listen)
        with caplog.at_level(logging.ERROR, "turnlane.hooks"):
            for number in range(3):
                hooks.emit(numbered(number))
            await until_idle()
        assert heard == [0, 1, 2]
        [record] = caplog.records
        assert record.getMessage().startswith("listener_failed")
        assert record.exc_info is not None
        assert record.exc_info[1] is error

    async def test_the_task_of_one_may_be_cancelled_from_outside(self) -> None:
        """The event it was at is lost to it; the next one starts anew, with what was queued."""
        hooks = Hooks()
        listener = Held()
        hooks.on(DrainStarted, listener)
        hooks.emit(numbered(0))
        hooks.emit(numbered(1))
        await until_idle()
        [task] = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await asyncio.wait({task})
        listener.go.set()
        hooks.emit(numbered(2))
        await until_idle()
        assert listener.heard == [0, 1, 2]

    async def test_one_that_was_taken_off_hears_nothing_more(self) -> None:
        """Not even what is queued for it."""
        hooks = Hooks()
        listener = Held()
        off = hooks.on(DrainStarted, listener)
        for number in range(3):
            hooks.emit(numbered(number))
        await until_idle()
        off()
        listener.go.set()
        hooks.emit(numbered(3))
        await until_idle()
        assert listener.heard == [0]
        assert len(asyncio.all_tasks()) == 1

    async def test_one_may_take_itself_off_and_finish_what_it_does(self) -> None:
        """A listener for one event."""
        hooks = Hooks()
        done: list[int] = []

        async def once(event: DrainStarted) -> None:
            off()
            await asyncio.sleep(0)
            done.append(event.running)

        off = hooks.on(DrainStarted, once)
        for number in range(3):
            hooks.emit(numbered(number))
        await until_idle()
        assert done == [0]

    async def test_one_that_hangs_and_was_taken_off_is_stopped_at_the_end(self) -> None:
        """It does not outlive the hooks."""
        hooks = Hooks()
        off = hooks.on(Event, Hang())
        hooks.emit(numbered(0))
        await until_idle()
        off()
        await hooks.aclose()
        assert len(asyncio.all_tasks()) == 1


class TestClosing:
    """`aclose`."""

    async def test_what_is_queued_is_still_heard(self) -> None:
        """A listener that is quick enough hears everything."""
        hooks = Hooks()
        heard: list[int] = []

        async def listen(event: DrainStarted) -> None:
            await asyncio.sleep(0)  # as a listener that does some I/O
            heard.append(event.running)

        hooks.on(DrainStarted, listen)
        for number in range(5):
            hooks.emit(numbered(number))
        await hooks.aclose()
        assert (heard, hooks.dropped) == ([0, 1, 2, 3, 4], 0)

    async def test_one_that_hangs_is_stopped_after_a_second_and_the_rest_is_counted(self) -> None:
        """Listening again works afterwards."""
        hooks = Hooks()
        stuck = Held()
        hooks.on(DrainStarted, stuck)
        for number in range(5):
            hooks.emit(numbered(number))
        began = asyncio.get_running_loop().time()
        await hooks.aclose()
        assert 0.9 < asyncio.get_running_loop().time() - began < 5
        assert (stuck.heard, hooks.dropped) == ([0], 4)
        assert len(asyncio.all_tasks()) == 1
        stuck.go.set()
        hooks.emit(numbered(9))
        await until_idle()
        assert stuck.heard == [0, 9]
        await hooks.aclose()

    async def test_one_that_does_not_end_when_it_is_cancelled_does_not_hold_up_the_server(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its cleanup hangs: closing ends all the same, and says so in the log."""
        hooks = Hooks()
        stop = asyncio.Event()

        async def stubborn(event: Event) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await stop.wait()

        hooks.on(Event, stubborn)
        hooks.emit(numbered(0))
        await until_idle()
        async with asyncio.timeout(10):
            with caplog.at_level(logging.ERROR, "turnlane.hooks"):
                await hooks.aclose()
        assert [record.getMessage().split()[0] for record in caplog.records] == ["listener_stuck"]
        stop.set()
        await until_idle()
        assert len(asyncio.all_tasks()) == 1

    async def test_closing_without_listeners_or_work_is_at_once(self) -> None:
        """No pause, no task."""
        hooks = Hooks()
        await hooks.aclose()
        hooks.on(TurnFinished, Hang())
        await hooks.aclose()
        assert len(asyncio.all_tasks()) == 1
