"""What becomes of a turn that finds its lane busy: Enqueue and Reject, and where a policy comes from."""

import asyncio

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time, running_loop
from support.seeded_loop import until_blocked
from turnlane import Enqueue, Interrupt, Lanes, Reject, errors
from turnlane.hooks import TurnQueued
from turnlane.policies import Policy
from turnlane.testing import Gates, ManualClock


class TestEnqueue:
    """Waiting in line, within the limits of the policy."""

    @on_virtual_time
    async def test_a_full_line_refuses_and_says_how_full(self) -> None:
        """`max_waiting` counts those who wait, not the one that runs."""
        lanes = loop_lanes(policy=Enqueue(max_waiting=2))
        await Visitor(lanes).arrived()
        await Visitor(lanes).arrived()
        third = await Visitor(lanes).arrived()
        with pytest.raises(errors.LaneFull) as full:
            await lanes.turn("a").__aenter__()
        assert (full.value.key, full.value.waiting, full.value.max_waiting) == ("a", 2, 2)
        assert lanes.statistics().totals["full"] == 1
        third.task.cancel()
        await third.result()
        assert (await Visitor(lanes).arrived()).waiting

    @on_virtual_time
    async def test_no_room_at_all_still_lets_an_idle_lane_be_had(self) -> None:
        """`max_waiting=0` refuses only where a turn would wait."""
        lanes = loop_lanes(policy=Enqueue(max_waiting=0))
        async with lanes.turn("a"):
            with pytest.raises(errors.LaneFull):
                await Visitor(lanes).task
            async with lanes.turn("b"):
                pass

    @on_virtual_time
    async def test_a_line_without_a_limit_takes_everybody(self) -> None:
        """`max_waiting=None`: a hundred wait."""
        lanes = loop_lanes(policy=Enqueue(max_waiting=None))
        for _ in range(101):
            Visitor(lanes)
        await until_blocked()
        assert lanes.statistics().waiting == 100

    @pytest.mark.parametrize("seconds", [0.0004, 0.05, 1 / 3, 120, 1e6])
    @on_virtual_time
    async def test_a_wait_that_is_too_long_ends_with_the_number_of_its_policy(self, seconds: float) -> None:
        """Neither rounded nor measured: the number that was given, and who held the lane."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        before = running_loop().time()
        late = Visitor(lanes, policy=Enqueue(wait_timeout=seconds))
        error = await late.result()
        assert isinstance(error, errors.WaitTimeout)
        assert (error.key, error.wait_timeout, error.holder) == ("a", seconds, holder.held.id)
        assert running_loop().time() - before == pytest.approx(seconds)
        assert lanes.statistics().totals["wait_timeout"] == 1

    @on_virtual_time
    async def test_the_number_is_that_of_the_policy_when_the_clock_stands_still(self) -> None:
        """Tests that move a clock by hand read the same message."""
        lanes = Lanes(clock=ManualClock(), slow_after=None)
        await Visitor(lanes).arrived()
        error = await Visitor(lanes, policy=Enqueue(wait_timeout=2.5)).result()
        assert isinstance(error, errors.WaitTimeout)
        assert error.wait_timeout == 2.5

    @on_virtual_time
    async def test_each_waiter_leaves_at_its_own_time_and_the_others_stay_in_order(self) -> None:
        """Later ones may leave earlier; who is left runs in order of arrival."""
        lanes = loop_lanes()
        holder = await Visitor(lanes).arrived()
        start, ends = running_loop().time(), {5.0: 0.0, 1.0: 0.0, 3.0: 0.0}
        waiting = {seconds: Visitor(lanes, policy=Enqueue(wait_timeout=seconds)) for seconds in ends}
        patient = [Visitor(lanes), Visitor(lanes, policy=Enqueue(wait_timeout=None))]
        for seconds in sorted(ends):
            assert isinstance(await waiting[seconds].result(), errors.WaitTimeout)
            ends[seconds] = running_loop().time() - start
        assert ends == pytest.approx({5.0: 5.0, 1.0: 1.0, 3.0: 3.0})
        holder.release()
        await patient[0].entered.wait()
        assert patient[1].waiting

    @on_virtual_time
    async def test_a_wait_that_ends_as_the_lane_is_let_go_ends_in_one_way(self) -> None:
        """Timer and hand-over in one moment: the turn runs or times out, and the lane is not lost."""
        lanes = loop_lanes()
        Visitor(lanes, during=lambda _: asyncio.sleep(1))
        late = [Visitor(lanes, policy=Enqueue(wait_timeout=1), during=lambda _: asyncio.sleep(1)) for _ in range(3)]
        results = [await visitor.result() for visitor in late]
        assert all(result is None or isinstance(result, errors.WaitTimeout) for result in results)
        assert leftovers(lanes) == []

    @on_virtual_time
    async def test_who_waits_for_nobody_is_told_so(self) -> None:
        """A wait for a paused lane has no holder to name."""
        lanes = loop_lanes()
        lanes.pause("a")
        error = await Visitor(lanes, policy=Enqueue(wait_timeout=1)).result()
        assert isinstance(error, errors.WaitTimeout)
        assert error.holder is None
        assert "paused" in str(error)

    @on_virtual_time
    async def test_a_turn_with_many_ahead_says_so(self) -> None:
        """`hint_after` counts the running one; the turn and its event have the hint, and it waits all the same."""
        lanes = loop_lanes(policy=Enqueue(hint_after=2))
        with Gates(lanes.hooks) as gates:
            visitors = [await Visitor(lanes).arrived() for _ in range(4)]
            for visitor in visitors:
                await visitor.leave()
            assert [visitor.held.hinted for visitor in visitors] == [False, False, True, True]
            assert [(event.ahead, event.hint) for event in gates.at(TurnQueued).seen] == [
                (1, False),
                (2, True),
                (3, True),
            ]


class TestReject:
    """Not waiting at all."""

    @on_virtual_time
    async def test_a_busy_lane_is_refused_at_once(self) -> None:
        """`ahead` counts who runs and who waits; nobody is disturbed."""
        lanes = loop_lanes()
        holder, second = await Visitor(lanes).arrived(), await Visitor(lanes).arrived()
        with pytest.raises(errors.LaneBusy) as busy:
            await lanes.turn("a", policy=Reject()).__aenter__()
        assert (busy.value.key, busy.value.ahead) == ("a", 2)
        assert holder.held.running
        assert second.waiting
        assert lanes.statistics().totals["busy"] == 1

    @on_virtual_time
    async def test_an_idle_lane_is_had(self) -> None:
        """Also as soon as the one before has gone."""
        lanes = loop_lanes(policy="reject")
        for _ in range(2):
            async with lanes.turn("a"):
                pass
        assert leftovers(lanes) == []

    @pytest.mark.parametrize("policy", [Reject(), Enqueue(max_waiting=0)])
    @on_virtual_time
    async def test_no_running_slot_is_another_refusal_than_a_busy_lane(self, policy: Policy) -> None:
        """The lane is idle, the process is not: `CapacityExceeded` names the cap."""
        lanes = loop_lanes(max_running=1)
        await Visitor(lanes, "a").arrived()
        with pytest.raises(errors.CapacityExceeded) as full:
            await lanes.turn("b", policy=policy).__aenter__()
        assert (full.value.key, full.value.resource, full.value.limit) == ("b", "max_running", 1)
        assert lanes.statistics().totals["capacity"] == 1
        assert "b" not in lanes.gate.table.lines

    @on_virtual_time
    async def test_a_paused_lane_is_busy_although_nobody_runs(self) -> None:
        """Nobody is ahead, and still it can not be had."""
        lanes = loop_lanes()
        lanes.pause("a")
        with pytest.raises(errors.LaneBusy) as busy:
            await lanes.turn("a", policy=Reject()).__aenter__()
        assert busy.value.ahead == 0


class TestSettings:
    """Where a policy comes from, and what is none."""

    @on_virtual_time
    async def test_the_policy_of_the_call_goes_before_that_of_the_lanes(self) -> None:
        """As an instance or as its name."""
        lanes = loop_lanes(policy=Reject())
        await Visitor(lanes).arrived()
        assert (await Visitor(lanes, policy="enqueue").arrived()).waiting
        assert isinstance(await Visitor(lanes).result(), errors.LaneBusy)

    @pytest.mark.parametrize(
        ("name", "policy"), [("enqueue", Enqueue()), ("reject", Reject()), ("interrupt", Interrupt())]
    )
    def test_names_stand_for_policies(self, name: str, policy: Policy) -> None:
        """Each name is the policy with its defaults; without one it is Enqueue."""
        assert Lanes(policy=name).policy == policy
        assert Lanes().policy == Enqueue(max_waiting=20, wait_timeout=300.0, hint_after=None)

    @pytest.mark.parametrize("setting", ["queue", "", 7, Enqueue, object()])
    def test_what_is_no_policy_is_refused(self, setting: str) -> None:
        """By the lanes, and by the call before it takes a place."""
        with pytest.raises(ValueError, match="not a policy"):
            Lanes(policy=setting)
        with pytest.raises(ValueError, match="not a policy"):
            Lanes().turn("a", policy=setting)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Enqueue(max_waiting=-1),
            lambda: Enqueue(wait_timeout=-0.1),
            lambda: Enqueue(wait_timeout=float("nan")),
            lambda: Enqueue(hint_after=0),
            lambda: Interrupt(grace=-1),
            lambda: Interrupt(grace=float("nan")),
            lambda: Interrupt(wait_timeout=-1),
            lambda: Lanes("mysql://localhost"),
            lambda: Lanes(max_running=0),
            lambda: Lanes(slow_after=0),
            lambda: Lanes(turn_timeout=0),
            lambda: Lanes().turn("a", turn_timeout=-1),
            lambda: Lanes().interrupt("a", grace=-1),
        ],
    )
    def test_numbers_out_of_range_are_refused(self, make: "type[object]") -> None:
        """When they are given, not when they are needed."""
        with pytest.raises(ValueError, match=r"must be|names no engine"):
            make()
