"""The events of turns that never ran."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from support.turns_steps import Recorder, apart, held, quiet, until_idle
from turnlane import Enqueue, LaneMiddleware, Lanes, Reject, Turn, errors
from turnlane.hooks import DrainStarted, TurnQueued, TurnRefused
from turnlane.testing import AsgiDriver, Gates


async def run(lanes: Lanes, key: str = "a", **settings: Any) -> Turn:
    async with lanes.turn(key, **settings) as turn:
        return turn


async def refused(work: Coroutine[Any, Any, object]) -> None:
    with pytest.raises((errors.LaneError, asyncio.CancelledError)):
        await work


class TestRefusals:
    """A turn that never ran is told of once, with the reason."""

    @pytest.mark.parametrize(
        ("reason", "policy"),
        [("busy", Reject()), ("full", Enqueue(max_waiting=0)), ("wait_timeout", Enqueue(wait_timeout=0.001))],
    )
    async def test_the_policy_refuses(self, reason: str, policy: Reject | Enqueue) -> None:
        """At once, or when it has waited long enough."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)
        async with held(lanes, "a"):
            await refused(apart(run(lanes, policy=policy)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        refusal = recorder.events[-2]
        assert isinstance(refusal, TurnRefused)
        assert refusal.reason == reason
        queued = "Queued " if reason == "wait_timeout" else ""
        assert quiet(recorder.names) == f"Started {queued}Refused Finished"
        assert (refusal.waited > 0) or reason != "wait_timeout"

    async def test_no_running_slot_is_free(self) -> None:
        """The lane itself is idle."""
        lanes = Lanes(max_running=1)
        recorder = Recorder(lanes.hooks)
        async with held(lanes, "a"):
            await refused(apart(run(lanes, "b", policy=Reject())))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert [event.reason for event in recorder.events if isinstance(event, TurnRefused)] == ["capacity"]

    async def test_waiting_would_never_end(self) -> None:
        """Re-entry is told before anything else."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)
        async with lanes.turn("a"):
            await refused(run(lanes))
        assert quiet(recorder.names) == "Started Refused Finished"
        assert [event.reason for event in recorder.events if isinstance(event, TurnRefused)] == ["reentry"]

    async def test_the_caller_is_cancelled_in_line(self) -> None:
        """Once, though it was queued."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)
        async with held(lanes, "a"):
            task = apart(run(lanes))
            await until_idle()
            task.cancel()
            await asyncio.wait({task})
        assert quiet(recorder.names) == "Started Queued Refused Finished"
        assert [event.reason for event in recorder.events if isinstance(event, TurnRefused)] == ["cancelled"]

    async def test_the_client_leaves_while_its_request_waits(self) -> None:
        """The middleware says who gave up."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)

        async def app(scope: object, receive: object, send: object) -> None:
            raise AssertionError("it ran")

        guarded: Any = LaneMiddleware(app, key="x-session-key", lanes=lanes, trusted_keys=True)
        with Gates(lanes.hooks) as gates:
            async with held(lanes, "a"), AsgiDriver(guarded) as driver:
                request = driver.start("POST", headers={"x-session-key": "a"})
                await gates.at(TurnQueued).reached()
                request.disconnect()
                await request.finished()
        assert [event.reason for event in recorder.events if isinstance(event, TurnRefused)] == ["client_gone"]

    async def test_a_drain_refuses_those_who_wait_and_those_who_come(self) -> None:
        """The drain is told first, with how many there are of each."""
        lanes = Lanes()
        recorder = Recorder(lanes.hooks)
        async with held(lanes, "a"), held(lanes, "b"):
            waiting = [apart(run(lanes)) for _ in range(3)]
            await until_idle()
            before = len(recorder.events)
            assert await lanes.drain(timeout=0) == 2
            assert quiet(recorder.names[before:]) == "DrainStarted Refused Refused Refused"
            assert recorder.events[before] == DrainStarted(running=2, waiting=3)
            await asyncio.gather(*waiting, return_exceptions=True)
            await refused(apart(run(lanes, "c")))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            await lanes.drain(timeout=0)
        assert recorder.names.count("DrainStarted") == 1
        reasons = [event.reason for event in recorder.events if isinstance(event, TurnRefused)]
        assert reasons == ["draining"] * 4
        assert quiet(recorder.names[-2:]) == "Finished Finished"
