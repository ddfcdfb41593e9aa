"""Policies and timeouts, as requests meet them."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from support.asgi_staged import StagedApp, answer_with, in_line, laned, post, serving, until
from turnlane import Enqueue, Interrupt, Lanes, Reject, current_turn
from turnlane.hooks import TurnFinished, TurnInterruption
from turnlane.testing import Gates


class TestReject:
    """A busy lane is an answer at once."""

    @pytest.mark.parametrize("policy", [Reject(), "reject"])
    async def test_the_lane_is_free_again_afterwards(self, way: str, policy: Any) -> None:
        """Refused while a turn runs, served when it has ended; other keys are not concerned."""
        app = StagedApp()
        async with serving(laned(app, way=way, policy=policy)) as driver:
            holder = post(driver, "alice", "holder")
            await app.entered("holder")
            refused = post(driver, "alice", "refused", body=b"x")
            assert (await refused.response()).status == 409
            await refused.finished()
            app.release("other", "holder", "next")
            assert (await post(driver, "bob", "other").response()).status == 200
            await holder.finished()
            assert (await post(driver, "alice", "next").response()).status == 200
        assert "+refused" not in app.log

    async def test_the_policy_of_the_lanes_counts_where_none_is_given(self) -> None:
        """And the middleware's goes before it."""
        for lanes_policy, policy, status in (("reject", None, 409), ("reject", "enqueue", 200)):
            app = StagedApp()
            middleware = laned(app, lanes=Lanes(policy=lanes_policy), policy=policy)
            async with serving(middleware) as driver:
                holder = post(driver, "alice", "holder")
                await app.entered("holder")
                request = post(driver, "alice", "it")
                await request.until_idle()
                app.release("holder", "it")
                assert (await request.response()).status == status
                await holder.finished()

    async def test_a_body_is_not_read_for_a_refusal(self) -> None:
        """The client is told before it has uploaded anything."""
        app = StagedApp()
        async with serving(laned(app, policy="reject")) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            assert (await post(driver, "alice", "it", body=None).response()).status == 409


class TestEnqueue:
    """Limits of the line."""

    async def test_as_many_wait_as_may(self, way: str) -> None:
        """The next is refused; when one has left there is room for one."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=Enqueue(max_waiting=2))
        async with serving(middleware) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            first, second = post(driver, "alice", "1"), post(driver, "alice", "2")
            await in_line(middleware, 2)
            assert (await post(driver, "alice", "3").response()).status == 429
            first.disconnect()
            await first.finished()
            fourth = post(driver, "alice", "4")
            await in_line(middleware, 2)
            app.release("holder", "2", "4")
            assert [(await request.response()).status for request in (second, fourth)] == [200, 200]
        assert app.log == ["+holder", "-holder", "+2", "-2", "+4", "-4"]

    async def test_by_default_twenty_wait(self) -> None:
        """The twenty-first is refused."""
        app = StagedApp()
        middleware = laned(app)
        async with serving(middleware) as driver:
            post(driver, "alice", "holder")
            await app.entered("holder")
            names = [str(number) for number in range(20)]
            requests = [post(driver, "alice", name) for name in names]
            await in_line(middleware, 20)
            assert (await post(driver, "alice", "beyond").response()).status == 429
            app.release("holder", *names)
            assert {(await request.response()).status for request in requests} == {200}

    async def test_a_wait_that_times_out_leaves_the_line(self, way: str) -> None:
        """Its app is not called; who came later with more patience is served."""
        app = StagedApp()
        lanes = Lanes()
        hasty = laned(app, way=way, lanes=lanes, policy=Enqueue(wait_timeout=0.01))
        patient = laned(app, way=way, lanes=lanes)
        async with serving(hasty) as driver, serving(patient) as other:
            post(driver, "alice", "holder")
            await app.entered("holder")
            first = post(driver, "alice", "hasty", body=b"text")
            await first.until_idle()
            second = post(other, "alice", "patient")
            assert (await first.response()).status == 503
            app.release("holder", "patient")
            assert (await second.response()).status == 200
        assert "+hasty" not in app.log


class TestInterrupt:
    """The newest takes the place of all."""

    async def test_it_runs_when_the_interrupted_has_cleaned_up(self, way: str) -> None:
        """Cleanup with awaits completes, then the newest runs; never both."""
        app = StagedApp()

        async def careful(_: Scope, __: Receive, ___: Send) -> None:
            try:
                await app.released("never")
            finally:
                app.log.append("cleaning")
                await app.released("clean")
                app.log.append("clean")

        app.steps["old"] = careful
        middleware = laned(app, way=way, policy=Interrupt(grace=0))
        async with serving(middleware) as driver:
            with Gates(middleware.runtime.hooks) as gates:
                old = post(driver, "alice", "old")
                await app.entered("old")
                new = post(driver, "alice", "new")
                app.release("new")
                await new.until_idle()
                assert app.log == ["+old", "cleaning"]
                app.release("clean")
                response = await old.response()
                assert (await new.response()).status == 200
                await old.finished()
                await new.finished()
            interruption = gates.at(TurnInterruption).seen
            outcomes = [event.outcome for event in gates.at(TurnFinished).seen]
        assert app.log == ["+old", "cleaning", "clean", "-old", "+new", "-new"]
        assert (response.status, response.json()["error"]["code"]) == (409, "turn_interrupted")
        new_turn = app.turns["new"]
        assert new_turn is not None
        assert [event.by for event in interruption] == [new_turn.id]
        assert response.json()["into"] == new_turn.id
        assert outcomes == ["interrupted", "completed"]
        assert old.task.cancelling() == 0

    async def test_a_turn_may_end_by_itself_within_the_grace(self, way: str) -> None:
        """It is told at once, and what it answers is its answer."""
        app = StagedApp()

        async def polite(_: Scope, __: Receive, send: Send) -> None:
            turn = current_turn()
            assert turn is not None
            await turn.wait_interrupted()
            await answer_with(send, b"as far as I came")

        app.steps["old"] = polite
        async with serving(laned(app, way=way, policy=Interrupt(grace=60))) as driver:
            old = post(driver, "alice", "old")
            await app.entered("old")
            new = post(driver, "alice", "new")
            app.release("new")
            assert (await new.response()).status == 200
            assert (await old.response()).text == "as far as I came"

    async def test_a_turn_that_swallows_the_cancellation_is_waited_for(self, way: str) -> None:
        """Its successor never runs beside it, and it may still answer."""
        app = StagedApp()

        async def stubborn(_: Scope, __: Receive, send: Send) -> None:
            try:
                await app.released("never")
            except asyncio.CancelledError:
                app.log.append("swallowed")
            await app.released("old")
            await answer_with(send, b"still here")

        app.steps["old"] = stubborn
        async with serving(laned(app, way=way, policy=Interrupt(grace=0))) as driver:
            old = post(driver, "alice", "old")
            await app.entered("old")
            new = post(driver, "alice", "new")
            app.release("new")
            await new.until_idle()
            assert app.log == ["+old", "swallowed"]
            app.release("old")
            assert (await old.response()).text == "still here"
            assert (await new.response()).status == 200
        assert app.log == ["+old", "swallowed", "-old", "+new", "-new"]

    async def test_a_burst_leaves_the_newest(self, way: str) -> None:
        """All but the last are answered 409, each naming one that came after it."""
        app = StagedApp()
        middleware = laned(app, way=way, policy=Interrupt(grace=0))
        async with serving(middleware) as driver:
            first = post(driver, "alice", "0")
            await app.entered("0")
            requests = [first, *(post(driver, "alice", str(number)) for number in range(1, 6))]
            app.release("5")
            responses = [await request.response() for request in requests]
        assert [response.status for response in responses] == [409] * 5 + [200]
        intos = [response.json()["into"] for response in responses[:5]]
        assert len(set(intos[1:])) == 4
        assert intos[4] == responses[5].headers["x-turnlane-turn"]
        assert app.log == ["+0", "-0", "+5", "-5"]


class TestTurnTimeout:
    """`turn_timeout`: longer than that in the app."""

    async def test_the_successor_runs_when_the_cancelled_has_left(self, way: str) -> None:
        """A timeout never admits anyone beside a turn that still cleans up."""
        app = StagedApp()

        async def slow(_: Scope, __: Receive, ___: Send) -> None:
            try:
                await app.released("never")
            finally:
                app.log.append("cleaning")
                await app.released("clean")

        app.steps["slow"] = slow
        lanes = Lanes()
        hasty, patient = laned(app, way=way, lanes=lanes, turn_timeout=0.02), laned(app, way=way, lanes=lanes)
        async with serving(hasty) as driver, serving(patient) as other:
            request = post(driver, "alice", "slow")
            await app.entered("slow")
            app.release("next")
            successor = post(other, "alice", "next")
            await until(lambda: "cleaning" in app.log)
            await successor.until_idle()
            assert app.log == ["+slow", "cleaning"]
            app.release("clean")
            assert (await successor.response()).status == 200
            response = await request.response()
        assert (response.status, response.json()["error"]["code"]) == (504, "turn_timeout")
        assert response.headers["x-should-retry"] == "false"

    async def test_the_wait_does_not_count(self, way: str) -> None:
        """Who stood in line longer than that has all of its time."""
        app = StagedApp()
        lanes = Lanes()
        holding = laned(app, way=way, lanes=lanes)
        async with serving(holding) as driver, serving(laned(app, lanes=lanes, turn_timeout=0.3)) as other:
            post(driver, "alice", "holder")
            await app.entered("holder")
            request = post(other, "alice", "it")
            await in_line(holding, 1)
            beside = await post(other, "bob", "beside").response()  # never released: its whole turn_timeout goes by
            assert beside.status == 504
            app.release("holder", "it")
            assert (await request.response()).status == 200


async def test_pausing_a_key_holds_its_requests_back(way: str) -> None:
    """An operator's pause: who arrives waits, other keys do not; `resume` lets them go in order."""
    app = StagedApp(held=False)
    middleware = laned(app, way=way)
    lanes = middleware.runtime.lanes
    async with serving(middleware) as driver:
        lanes.pause("alice")
        first, second = post(driver, "alice", "1"), post(driver, "alice", "2")
        await in_line(middleware, 2)
        assert (await post(driver, "bob", "other").response()).status == 200
        assert app.log == ["+other", "-other"]
        lanes.resume("alice")
        await first.response()
        await second.response()
    assert app.log[2:] == ["+1", "-1", "+2", "-2"]


async def test_a_cap_on_running_turns_is_fair_between_keys(way: str) -> None:
    """One slot: keys are served in the order in which they became ready."""
    app = StagedApp()
    middleware = laned(app, way=way, lanes=Lanes(max_running=1))
    async with serving(middleware) as driver:
        names = ["a1", "a2", "a3", "b1", "b2", "c1"]
        requests = [post(driver, name[0], name) for name in names]
        await in_line(middleware, 5)
        app.release(*names)
        for request in requests:
            assert (await request.response()).status == 200
    assert [entry[1:] for entry in app.log[::2]] == ["a1", "b1", "c1", "a2", "b2", "a3"]
