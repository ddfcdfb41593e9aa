"""Constructors given odd values: they are refused with ValueError or TypeError, or they work."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from support.fuzz_run import Campaign, failure, generator_of
from support.fuzz_settings import CONSTRUCTORS, draw_call
from turnlane import Enqueue, Interrupt, Lanes
from turnlane.errors import LaneError, TurnlaneError

ODD_TIMES: tuple[Any, ...] = (0, 0.5, True, 2**63, 10**400, float("inf"), float("nan"), 1e308, "5")
REFUSED_CALLS = (ValueError, TypeError)


@pytest.mark.parametrize("campaign", [(3_000, 100_000)], indirect=True, ids=["calls"])
async def test_constructors_refuse_with_value_or_type_errors(campaign: Campaign) -> None:
    """Whatever they are given; a blank key is a `SessionKeyRequired`."""
    outcomes: Counter[str] = Counter()
    for index in campaign.indices():
        name, arguments = draw_call(generator_of(campaign.seed, index))
        try:
            CONSTRUCTORS[name][0](**arguments)
            outcomes["accepted"] += 1
        except REFUSED_CALLS:
            outcomes["refused"] += 1
        except TurnlaneError:
            outcomes["refused as a key"] += 1
        except Exception as error:
            about = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
            test = "test_constructors_refuse_with_value_or_type_errors"
            raise failure(test, campaign.seed, index, [f"raised {error!r}"], about) from error
    print(f"constructors: {dict(outcomes)}")
    assert campaign.only is not None or min(outcomes["accepted"], outcomes["refused"]) > 100


def _policies(value: Any) -> list[Any]:
    made: list[Any] = []
    for make in (
        lambda: Enqueue(wait_timeout=value),
        lambda: Enqueue(max_waiting=value),
        lambda: Enqueue(hint_after=value),
        lambda: Interrupt(grace=value),
        lambda: Interrupt(wait_timeout=value),
    ):
        try:
            made.append(make())
        except REFUSED_CALLS:
            continue
    return made


async def _two_turns(lanes: Lanes, policy: Any = None) -> list[BaseException | str]:
    """Let a turn wait for another; return how both ended."""
    release = asyncio.Event()

    async def turn(until: asyncio.Event | None, wanted: Any) -> str:
        async with lanes.turn("k", policy=wanted):
            if until is not None:
                await until.wait()
        return "ran"

    holder = asyncio.create_task(turn(release, None))
    await asyncio.sleep(0)
    waiter = asyncio.create_task(turn(None, policy))
    for _ in range(3):
        await asyncio.sleep(0)
    release.set()
    _, late = await asyncio.wait({holder, waiter}, timeout=2)
    for task in late:
        task.cancel()
    ended = await asyncio.gather(holder, waiter, return_exceptions=True)
    return ["never came to an end" if isinstance(each, asyncio.CancelledError) else each for each in ended]


@pytest.mark.parametrize("value", ODD_TIMES, ids=lambda value: repr(value)[:12])
async def test_a_policy_that_was_accepted_leaves_no_lane_behind(value: Any) -> None:
    """The turn that waits under it runs, or is refused as lanes refuse; the key is free afterwards."""
    for policy in _policies(value):
        lanes = Lanes()
        for ended in await _two_turns(lanes, policy):
            assert ended == "ran" or isinstance(ended, LaneError), f"{policy!r}: {ended!r}"
        assert lanes.statistics().lanes == 0, f"{policy!r} left a lane behind"
        assert await _two_turns(lanes) == ["ran", "ran"], f"{policy!r} blocks its key"


@pytest.mark.parametrize("value", ODD_TIMES, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("setting", ["max_running", "turn_timeout", "slow_after"])
async def test_lanes_that_were_accepted_run_turns(setting: str, value: Any) -> None:
    """Also with odd limits."""
    try:
        lanes = Lanes(**{setting: value})
    except REFUSED_CALLS:
        return
    assert await _two_turns(lanes) == ["ran", "ran"]
    assert lanes.statistics().lanes == 0
