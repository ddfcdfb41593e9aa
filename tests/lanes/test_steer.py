"""Messages that are offered to the turn that runs."""

import asyncio
from typing import Any

import pytest

from support.lanes_invariants import leftovers
from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from support.seeded_loop import until_blocked
from turnlane import Interrupt, Lanes, Steer, errors
from turnlane.hooks import TurnRefused, TurnSteering
from turnlane.turns.talk import Steered


async def steered(lanes: Lanes, message: str, **options: Any) -> Visitor:
    """Send a message for the running turn."""
    return await Visitor(lanes, policy=Steer(), message=message, **options).arrived()


def taken(visitor: Visitor) -> Steered:
    """Take the next message offered to the turn of a visitor, which must be there."""
    found = visitor.held.steering.take()
    assert found is not None
    return found


@on_virtual_time
async def test_a_message_that_is_taken_and_done_is_no_turn_of_its_own() -> None:
    """Its sender is told which turn took it, when that is done with it and not before."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    sender = await steered(lanes, "stop there")
    offered = taken(holder)
    assert (offered.message, offered.waits, sender.waiting) == ("stop there", True, True)
    assert holder.held.steering.take() is None
    assert offered.done()
    assert not offered.waits
    assert not offered.done()
    with pytest.raises(errors.TurnSteered) as ended:
        await sender.task
    assert (ended.value.key, ended.value.turn, ended.value.into) == ("a", offered.turn, holder.held.id)
    holder.release()
    await holder.task
    assert lanes.statistics().totals == {"completed": 1, "steered": 1}
    assert leftovers(lanes) == []


@pytest.mark.parametrize("principal", [None, "ada"])
@on_virtual_time
async def test_a_message_is_offered_to_no_turn_of_another_principal(principal: str | None) -> None:
    """Its words are nobody else's business, and the answer would go to somebody else: it waits in line."""
    lanes = loop_lanes()
    holder = await Visitor(lanes, principal=principal).arrived()
    stranger = await steered(lanes, "mine", principal="bob")
    sender = await steered(lanes, "ours", principal=principal)
    assert taken(holder).message == "ours"
    assert holder.held.steering.take() is None
    for visitor in (holder, stranger, sender):
        visitor.release()
        await visitor.task
    assert lanes.statistics().totals == {"completed": 3}
    assert leftovers(lanes) == []


@pytest.mark.parametrize("end", ["returns", "fails", "is interrupted"])
@pytest.mark.parametrize("take", [True, False])
@on_virtual_time
async def test_a_message_nobody_was_done_with_is_a_turn_in_its_place(end: str, take: bool) -> None:
    """However the turn ends that could have taken it, and whether it looked at it."""
    lanes = loop_lanes()

    async def stay(visitor: Visitor) -> None:
        await visitor.released.wait()
        if end == "fails":
            raise RuntimeError

    holder = await Visitor(lanes, during=stay).arrived()
    before = await Visitor(lanes).arrived()
    sender = await steered(lanes, "more")
    behind = await Visitor(lanes).arrived()
    offered = taken(holder) if take else None
    if end == "is interrupted":
        lanes.interrupt("a", grace=0.0)
    for visitor in (holder, before, sender, behind):
        visitor.release()
    await behind.task
    assert offered is None or not offered.done()
    assert sender.held.messages == ("more",)
    assert (before.ended or 0) <= (sender.began or 0) <= (behind.began or 0)
    assert sender.held.steering.take() is None


@on_virtual_time
async def test_an_idle_lane_is_had_at_once() -> None:
    """There is no turn to steer."""
    lanes = loop_lanes()
    sender = await steered(lanes, "first")
    assert sender.held.messages == ("first",)


@on_virtual_time
async def test_only_the_turn_that_ran_is_offered_it() -> None:
    """The one after it is not."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    following = await Visitor(lanes).arrived()
    sender = await steered(lanes, "for the first")
    holder.release()
    await following.entered.wait()
    assert following.held.steering.take() is None
    following.release()
    await sender.entered.wait()


@on_virtual_time
async def test_an_iteration_waits_for_messages_and_ends_with_the_turn() -> None:
    """In a task of its own, each message once, in order."""
    lanes = loop_lanes()
    found: list[str] = []
    listeners: list[asyncio.Task[None]] = []

    async def listen(visitor: Visitor) -> None:
        async for each in visitor.held.steering:
            found.append(each.message)
            each.done()

    async def stay(visitor: Visitor) -> None:
        listeners.append(asyncio.create_task(listen(visitor)))
        await visitor.released.wait()

    holder = await Visitor(lanes, during=stay).arrived()
    senders = [await steered(lanes, message) for message in ("one", "two")]
    await until_blocked()
    holder.release()
    await holder.task
    await listeners[0]
    assert found == ["one", "two"]
    for sender in senders:
        with pytest.raises(errors.TurnSteered):
            await sender.task


@on_virtual_time
async def test_who_asks_and_is_cancelled_loses_no_message() -> None:
    """It goes to the next who asks, whether the first was woken for it or not."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    steering = holder.held.steering
    first, second = (asyncio.ensure_future(anext(steering)) for _ in range(2))
    await until_blocked()
    sender = Visitor(lanes, policy=Steer(), message="one")
    await asyncio.sleep(0)
    assert lanes.statistics().waiting == 1
    first.cancel()
    assert (await second).message == "one"
    assert first.cancelled()
    assert sender.waiting


@on_virtual_time
async def test_a_sender_that_has_left_is_not_offered() -> None:
    """And what was taken before it left tells so."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    one, two = [await steered(lanes, message) for message in ("one", "two")]
    offered = taken(holder)
    one.task.cancel()
    two.task.cancel()
    await until_blocked()
    assert holder.held.steering.take() is None
    assert (offered.waits, offered.done()) == (False, False)


@on_virtual_time
async def test_a_superseded_message_is_over() -> None:
    """The interruption answers its sender; `done` says that it was too late."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    sender = await steered(lanes, "one")
    offered = taken(holder)
    await Visitor(lanes, policy=Interrupt(grace=60)).arrived()
    with pytest.raises(errors.TurnInterrupted):
        await sender.task
    assert not offered.done()


@on_virtual_time
async def test_a_turn_that_was_asked_to_stop_is_offered_nothing() -> None:
    """It is about to end: the message waits for a turn of its own."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    lanes.interrupt("a", grace=60)
    await steered(lanes, "late")
    assert holder.held.steering.take() is None


@on_virtual_time
async def test_hooks_are_told() -> None:
    """As steered, not as refused."""
    lanes = loop_lanes()
    heard: list[object] = []
    lanes.hooks.on(TurnSteering, heard.append)
    lanes.hooks.on(TurnRefused, heard.append)
    holder = await Visitor(lanes).arrived()
    await steered(lanes, "one")
    offered = taken(holder)
    assert offered.done()
    assert heard == [TurnSteering(key="a", turn=offered.turn, into=holder.held.id)]


@on_virtual_time
async def test_the_steering_of_a_turn_that_has_ended_is_over() -> None:
    """Asked for afterwards it ends at once."""
    lanes = loop_lanes()
    async with lanes.turn("a") as turn:
        pass
    assert [each async for each in turn.steering] == []
