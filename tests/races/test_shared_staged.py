"""Scenes between workers that the exploration of shared lanes has found, each staged for itself."""

# pyright: reportPrivateUsage=false

import asyncio
from typing import Any

import pytest

from races.shared_network import LEASE, Station
from races.shared_rig import Rig
from support.lanes_visitors import Visitor, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Coalesce, Enqueue, Interrupt, Reject, Rollback, Steer
from turnlane.engines import Answer, Ask, Granted, Note
from turnlane.errors import EngineUnavailable, LaneBusy, OutcomeUnknown, TurnInterrupted

A_THIRD = LEASE / 3
LEAVE = Station.leave


async def granted_to(rig: Rig, ticket: str) -> int:
    """Return the token of the ticket that has the lane."""
    held = rig.server.shared.lanes["a"].held
    assert held is not None
    assert held.ticket == ticket
    return held.token


@on_virtual_time
async def test_a_lane_that_is_paused_here_may_be_resumed_there() -> None:
    """Who waited in the first process starts."""
    rig = Rig()
    rig.lanes[0].pause("a")
    waiting = await Visitor(rig.lanes[0]).arrived()
    assert waiting.waiting
    rig.lanes[1].resume("a")
    await waiting.entered.wait()
    await waiting.leave()
    await rig.close()


@on_virtual_time
async def test_a_turn_is_lost_before_its_lease_can_end_however_long_a_renewal_takes() -> None:
    """When two thirds are over that nothing came through, and not when the attempt has failed that was on its way."""
    rig = Rig()
    holder = await Visitor(rig.lanes[0]).arrived()
    began = asyncio.get_running_loop().time()
    rig.station(0).cut(2 * LEASE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Station, "_get_nowhere", never)
        assert isinstance(await holder.result(), EngineUnavailable)
    assert asyncio.get_running_loop().time() - began <= 2 * A_THIRD
    await rig.close()


@on_virtual_time
async def test_a_turn_outlives_an_engine_that_is_away_for_half_of_its_lease() -> None:
    """It is tried again and again until two thirds are over."""
    rig = Rig()
    holder = await Visitor(rig.lanes[0]).arrived()
    rig.station(0).cut(0.55 * LEASE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Station, "_get_nowhere", refused)
        await asyncio.sleep(2 * LEASE)
    assert not holder.held.lost
    await holder.leave()
    await rig.close()


async def refused(*_: object) -> None:
    """Refuse the connection."""
    raise EngineUnavailable("memory", operation="answer", reason="the test said so")


async def never(*_: object) -> None:
    """Do not answer within a lease."""
    await asyncio.sleep(1.1 * LEASE)
    raise OutcomeUnknown("memory", operation="answer", reason="the test said so")


@on_virtual_time
async def test_a_grant_that_is_heard_of_too_late_starts_nobody() -> None:
    """The lane of a worker that was cut off may be another's by then; the renewal says whose it is."""
    rig = Rig(workers=3)
    holder = await Visitor(rig.lanes[0]).arrived()
    waiting = await Visitor(rig.lanes[1]).arrived()
    behind = await Visitor(rig.lanes[2]).arrived()
    rig.station(1).cut(LEASE + 0.5)
    await holder.leave()
    (ticket,) = rig.workers[1].gate.standings
    token = await granted_to(rig, ticket)
    await behind.entered.wait()
    rig.workers[1].gate.tell(Granted("a", ticket, token))
    await until_blocked()
    assert waiting.waiting
    await behind.leave()
    await waiting.entered.wait()
    assert waiting.held.token > behind.held.token
    await waiting.leave()
    await rig.close()


@on_virtual_time
async def test_an_answer_that_comes_too_late_starts_nobody() -> None:
    """The grant is told again by the renewal, as long as it is one."""
    rig = Rig()
    usual = Station.acquire

    async def slow(station: Station, key: str, ask: Ask) -> Answer:
        answer = await usual(station, key, ask)
        await asyncio.sleep(2.5 * A_THIRD)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Station, "acquire", slow)
        late = Visitor(rig.lanes[0])
        await asyncio.sleep(2.5 * A_THIRD)
        await until_blocked()
        assert late.waiting
    await late.entered.wait()
    await late.leave()
    await rig.close()


@on_virtual_time
async def test_a_lane_that_ends_while_its_turn_waits_for_a_running_slot_is_asked_for_again() -> None:
    """The turn starts when it has both, and not with a lane that another has by now."""
    rig = Rig(max_running=1)
    busy = await Visitor(rig.lanes[0], "b").arrived()
    waiting = await Visitor(rig.lanes[0]).arrived()
    other = await Visitor(rig.lanes[1]).arrived()
    assert waiting.waiting
    rig.station(0).cut(LEASE + 0.5)
    await other.entered.wait()
    assert isinstance(await busy.result(), EngineUnavailable)
    await asyncio.sleep(LEASE)
    assert waiting.waiting
    await other.leave()
    await waiting.entered.wait()
    assert waiting.held.token > other.held.token
    await waiting.leave()
    await rig.close()


@on_virtual_time
async def test_a_turn_that_waits_for_a_running_slot_keeps_its_lane_when_data_are_lost() -> None:
    """It says by its token that it has it, as a turn that runs does."""
    rig = Rig(max_running=1)
    busy = await Visitor(rig.lanes[0], "b").arrived()
    waiting = await Visitor(rig.lanes[0]).arrived()
    behind = await Visitor(rig.lanes[1]).arrived()
    rig.server.lose_data()
    await asyncio.sleep(2 * LEASE)
    await busy.leave()
    await waiting.entered.wait()
    assert behind.waiting
    await waiting.leave()
    await behind.entered.wait()
    await behind.leave()
    await rig.close()


@on_virtual_time
async def test_who_comes_again_after_a_loss_supersedes_nobody_who_came_behind() -> None:
    """An interruption has ended what was before it when it came."""
    rig = Rig()
    holder = await Visitor(rig.lanes[0]).arrived()
    newest = await Visitor(rig.lanes[1], policy=Interrupt(grace=60.0)).arrived()
    behind = [await Visitor(lanes).arrived() for lanes in (rig.lanes[0], rig.lanes[1])]
    rig.server.lose_data()
    await asyncio.sleep(2 * LEASE)
    await holder.leave()
    for each in (newest, *behind):
        await each.entered.wait()
        await each.leave()
    await rig.close()


@on_virtual_time
async def test_who_comes_again_after_a_loss_is_not_refused_for_others_that_came_meanwhile() -> None:
    """It had its place in line."""
    rig = Rig()
    holder = await Visitor(rig.lanes[0]).arrived()
    old = await Visitor(rig.lanes[1], policy=Enqueue(max_waiting=1)).arrived()
    rig.server.lose_data()
    new = await Visitor(rig.lanes[0]).arrived()
    await asyncio.sleep(2 * LEASE)
    await holder.leave()
    for each in (old, new):
        await each.entered.wait()
        await each.leave()
    await rig.close()


def ignore(_: Note) -> None:
    """Lose a note."""


def taken(visitor: Visitor) -> list[Any]:
    """Return what was offered to a turn."""
    found: list[Any] = []
    while (steered := visitor.held.steering.take()) is not None:
        found.append(steered)
    return found


@on_virtual_time
async def test_a_message_is_offered_once_though_its_place_is_lost() -> None:
    """Who took it, and was not done with it, does not get it again."""
    rig = Rig()
    holder = await Visitor(rig.lanes[0], message="first").arrived()
    steers = await Visitor(rig.lanes[1], policy=Steer(), message="offered").arrived()
    assert [steered.message for steered in taken(holder)] == ["offered"]
    rig.server.lose_data()
    await asyncio.sleep(2 * LEASE)
    assert taken(holder) == []
    await holder.leave()
    await steers.entered.wait()
    await steers.leave()
    await rig.close()


@on_virtual_time
async def test_messages_that_come_again_after_a_loss_take_nobody_along_past_others() -> None:
    """A message that came while the line was lost stands beside the old one in no line."""
    rig = Rig()
    gather = Coalesce(window=0.0, merge=tuple)
    holder = await Visitor(rig.lanes[0]).arrived()
    old = await Visitor(rig.lanes[1], policy=gather, message=1).arrived()
    between = await Visitor(rig.lanes[1]).arrived()
    rig.server.lose_data()
    new = await Visitor(rig.lanes[0], policy=gather, message=2).arrived()
    await asyncio.sleep(2 * LEASE)
    await holder.leave()
    for each, messages in ((old, (1,)), (between, ()), (new, (2,))):
        await each.entered.wait()
        assert each.held.messages == messages
        await each.leave()
    await rig.close()


@on_virtual_time
async def test_lanes_that_close_are_closed_although_a_running_turn_needs_another() -> None:
    """The engine goes when the last of them has ended."""
    rig = Rig()
    nested = asyncio.Event()

    async def during(visitor: Visitor) -> None:
        await visitor.released.wait()
        async with rig.lanes[0].turn("b"):
            nested.set()

    running = await Visitor(rig.lanes[0], during=during).arrived()
    await rig.lanes[0].aclose()
    await running.leave()
    assert nested.is_set()
    await until_blocked()
    assert rig.station(0).closed
    await rig.close()


@on_virtual_time
async def test_lanes_that_are_opened_again_while_they_close_stay_open() -> None:
    """Something was on its way to the engine still; the turn that came meanwhile keeps its lane."""
    rig = Rig()
    first = await Visitor(rig.lanes[0], "b").arrived()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Station, "leave", slowly)
        await first.leave()
        closing = asyncio.get_running_loop().create_task(rig.lanes[0].aclose())
        await until_blocked()
        await rig.lanes[0].__aenter__()
        again = await Visitor(rig.lanes[0]).arrived()
        await closing
    behind = await Visitor(rig.lanes[1]).arrived()
    await asyncio.sleep(2 * LEASE)
    assert behind.waiting
    await again.leave()
    await behind.entered.wait()
    await behind.leave()
    await rig.close()


async def slowly(station: Station, key: str, ticket: str, **how: bool) -> None:
    """Let a lane go after a while."""
    await asyncio.sleep(0.5)
    await LEAVE(station, key, ticket, **how)


@on_virtual_time
async def test_a_turn_with_a_timeout_that_is_refused_at_once_leaves_nothing_behind() -> None:
    """Where the engine answers in the step in which it arrives."""
    rig = Rig(leased=False)
    holder = await Visitor(rig.lanes[0]).arrived()
    refused = await Visitor(rig.lanes[0], policy=Reject(), turn_timeout=60.0).arrived()
    assert isinstance(await refused.result(), LaneBusy)
    await holder.leave()
    await rig.close()


@on_virtual_time
async def test_an_interruption_reaches_the_turn_of_a_worker_that_missed_the_note() -> None:
    """The renewal tells it."""
    rig = Rig()
    holder = await Visitor(rig.lanes[0]).arrived()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rig.station(0), "deliver", ignore)
        newest = await Visitor(rig.lanes[1], policy=Interrupt(grace=0.0)).arrived()
    assert not holder.held.interrupted
    assert isinstance(await holder.result(), TurnInterrupted)
    await newest.entered.wait()
    await newest.leave()
    await rig.close()


@on_virtual_time
async def test_what_is_to_be_taken_back_is_not_forgotten_with_a_turn_that_leaves_before_it_knows() -> None:
    """The next one is told."""
    rig = Rig()
    holder = await Visitor(rig.lanes[0]).arrived()
    taken_back = asyncio.get_running_loop().create_task(rolls_back(rig))
    await until_blocked()
    next_one = await Visitor(rig.lanes[0]).arrived()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rig.station(1), "deliver", ignore)
        assert isinstance(await holder.result(), TurnInterrupted)
        await until_blocked()
    taken_back.cancel()
    await next_one.entered.wait()
    ending = next_one.held._end
    assert ending is not None
    assert ending.takes_back
    ending.takes_back = False
    await next_one.leave()
    await rig.close()


async def rolls_back(rig: Rig) -> None:
    """Wait for the lane, to take back what was written."""
    async with rig.lanes[1].place("a", policy=Rollback(grace=0.0)):
        raise AssertionError("it runs")


@on_virtual_time
async def test_who_waits_for_a_running_slot_is_superseded_at_once() -> None:
    """And not when it has got one: it has the lane that somebody takes over, and does not run."""
    rig = Rig(max_running=1)
    busy = await Visitor(rig.lanes[0], "b").arrived()
    waiting = await Visitor(rig.lanes[0]).arrived()
    newest = await Visitor(rig.lanes[1], policy=Interrupt(grace=0.0)).arrived()
    error = await waiting.result()
    assert isinstance(error, TurnInterrupted)
    assert not error.running
    await newest.entered.wait()
    assert not busy.task.done()
    await newest.leave()
    await busy.leave()
    await rig.close()


@on_virtual_time
async def test_a_message_whose_sender_has_left_is_not_carried_by_the_turn_it_was_granted_with() -> None:
    """Though the engine hears of it later; only this process could have read it."""
    rig = Rig()
    gather = Coalesce(window=0.0, merge=tuple)
    holder = await Visitor(rig.lanes[1]).arrived()
    elder = await Visitor(rig.lanes[0], policy=gather, message=(gone := object())).arrived()
    younger = await Visitor(rig.lanes[0], policy=gather, message=(kept := object())).arrived()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Station, "leave", slowly)
        elder.task.cancel()
        await until_blocked()
        patch.setattr(Station, "leave", LEAVE)
        await holder.leave()
        await younger.entered.wait()
    assert gone not in younger.held.messages
    assert younger.held.messages == (kept,)
    await asyncio.sleep(LEASE)
    await younger.leave()
    await rig.close()
