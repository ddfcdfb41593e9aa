"""Tokens and names of turns: tokens grow whatever the clock does, names never repeat."""

import asyncio

import pytest

from support.lanes_visitors import Visitor, loop_lanes, on_virtual_time
from turnlane import Interrupt, Lanes
from turnlane.testing import ManualClock


async def token_of(lanes: Lanes, key: str = "a") -> int:
    async with lanes.turn(key) as turn:
        return turn.token


async def test_a_token_is_the_time_in_microseconds() -> None:
    """So that the first token of a new process is larger than the last of the one before."""
    assert abs(await token_of(Lanes(clock=ManualClock(wall=1_700_000_000.25))) - 1_700_000_000_250_000) <= 1


async def test_tokens_grow_while_the_clock_stands_still() -> None:
    """A thousand turns in one microsecond, of two keys in turn: no two tokens are equal, none is smaller."""
    lanes = Lanes(clock=ManualClock())
    tokens = [await token_of(lanes, "ab"[number % 2]) for number in range(1000)]
    assert tokens == sorted(set(tokens))


async def test_tokens_follow_the_clock() -> None:
    """A turn a second later has a token of a second more."""
    clock = ManualClock()
    lanes = Lanes(clock=clock)
    first = await token_of(lanes)
    clock.advance(1)
    assert 1_000_000 <= await token_of(lanes) - first <= 1_000_002


@pytest.mark.parametrize("seconds", [-1e-6, -3600.0, -1e8])
async def test_tokens_grow_when_the_clock_steps_back(seconds: float) -> None:
    """Between turns, and between the arrival and the start of one."""
    clock = ManualClock()
    lanes = Lanes(clock=clock)
    tokens: list[int] = []
    for _ in range(3):
        async with lanes.turn("a") as turn:
            tokens.append(turn.token)
            with turn.detached():
                task = asyncio.create_task(token_of(lanes))
                await asyncio.sleep(0)
            clock.step_wall(seconds)
        tokens.append(await task)
        clock.step_wall(seconds)
    assert tokens == sorted(set(tokens))


def test_tokens_grow_from_one_loop_to_the_next() -> None:
    """Also if the clock was set back meanwhile: the lanes bind to each loop anew, their tokens go on."""
    clock = ManualClock()
    lanes = Lanes(clock=clock)
    tokens: list[int] = []
    for _ in range(4):
        tokens.append(asyncio.run(token_of(lanes)))
        clock.step_wall(-60)
    assert tokens == sorted(set(tokens))


@on_virtual_time
async def test_tokens_grow_with_the_order_of_starting() -> None:
    """Whoever starts later has the larger token, also when it arrived earlier."""
    lanes = loop_lanes()
    await Visitor(lanes, "b", during=lambda visitor: visitor.hold(1)).arrived()
    waited = await Visitor(lanes, "b").arrived()
    async with lanes.turn("a") as quick:
        pass
    await waited.entered.wait()
    assert waited.held.token > quick.token


@on_virtual_time
async def test_a_turn_that_waits_has_no_token() -> None:
    """It gets one when it starts, larger than that of whoever ran before."""
    lanes = loop_lanes()
    holder = await Visitor(lanes).arrived()
    turn = lanes.gate.arrive("a", Interrupt(grace=0))
    assert turn.token == 0
    await lanes.gate.wait(turn)
    assert turn.token > holder.held.token
    lanes.gate.leave(turn, None)


@on_virtual_time
async def test_no_two_turns_have_one_name() -> None:
    """Of one `Lanes`, of two, of waiting and running ones; a turn keeps its name."""
    names: set[str] = set()
    for lanes in (loop_lanes(), loop_lanes()):
        visitors = [await Visitor(lanes, key).arrived() for key in "aaabbb"]
        before = [turn.turn for lane in lanes.snapshot() for turn in (lane.holder, *lane.waiting) if turn is not None]
        for visitor in visitors:
            await visitor.leave()
        assert sorted(before) == sorted(visitor.held.id for visitor in visitors)
        names.update(before)
    assert len(names) == 12


@on_virtual_time
async def test_a_turn_prints_its_state() -> None:
    """Name, key, state and token in one line."""
    lanes = loop_lanes()
    visitor = await Visitor(lanes).arrived()
    turn = visitor.held
    assert repr(turn) == f"<Turn {turn.id} key='a' running token={turn.token}>"
    await visitor.leave()
    assert "ended" in repr(turn)
