"""Processes that share lanes in Redis."""

import asyncio
from collections.abc import Generator
from contextlib import AsyncExitStack

import pytest

from engines.redis_rig import OtherProcess, other_process
from support.redis_servers import client_of, redis_server, redis_url

WORKERS, TURNS, LONG_TURNS = 4, 50, 500


@pytest.fixture
def url() -> Generator[str, None, None]:
    with redis_url() as found:
        yield found


@pytest.mark.stress
@pytest.mark.timeout(300)
async def test_turns_of_several_processes_are_never_two_at_a_time(url: str, long_form: bool) -> None:
    """By a mark that is there while one runs, and by a counter that loses what two add at a time; tokens grow."""
    turns = LONG_TURNS if long_form else TURNS
    async with AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(other_process(url, 0, "run", "k", f"w{number}-", str(turns)))
            for number in range(WORKERS)
        ]
        for other in others:
            other.go()

        async def all_of(other: OtherProcess) -> list[dict[str, int]]:
            return [await other.says() for _ in range(turns)]

        told = await asyncio.gather(*(all_of(other) for other in others))
    everything = sorted((turn for each in told for turn in each), key=lambda turn: turn["token"])
    assert all(turn["alone"] for turn in everything)
    assert len({turn["token"] for turn in everything}) == WORKERS * turns
    with client_of(redis_server()) as client:
        assert int(client.get(f"{{{url.partition('prefix=')[2]}}}counter")) == WORKERS * turns
    for each in told:  # as they were asked for, and as they ran
        assert [turn["number"] for turn in each] == list(range(turns))
        assert [turn["token"] for turn in each] == sorted(turn["token"] for turn in each)
    if not long_form:
        firsts = [each[0]["token"] for each in told]
        lasts = [each[-1]["token"] for each in told]
        assert max(firsts) < min(lasts), "their turns did not overlap"
