"""Calls that are offered to the one that runs."""

import asyncio
from collections.abc import AsyncIterator

from support.turns_steps import called, collected, outcomes
from turnlane import Interrupt, Runtime, Steer, Turn
from turnlane.errors import TurnInterrupted, TurnSteered
from turnlane.testing import assert_no_leaks


class TestSteering:
    """`turn.steering` inside a turn function."""

    async def test_calls_are_taken_and_done(self) -> None:
        """Their messages are their arguments by name; who was not taken runs after."""
        runtime = Runtime()
        began = asyncio.Event()

        @runtime.agent_turn(key="key", policy=Steer())
        async def answer(key: str, text: str, *, turn: Turn) -> list[str]:
            said = [text]
            if text == "first":
                began.set()
                async for steered in turn.steering:
                    if steered.message["text"] == "stop":
                        break
                    said.append(steered.message["text"])
                    assert steered.done()
            return said

        calls = await called(*(answer("a", text) for text in ("first", "more", "and more", "stop", "never taken")))
        assert await outcomes(calls) == [
            ["first", "more", "and more"],
            TurnSteered,
            TurnSteered,
            ["stop"],
            ["never taken"],
        ]
        assert_no_leaks(runtime.lanes)

    async def test_generators_are_steered_too(self) -> None:
        """The consumer of the other is told."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=Steer())
        async def words(key: str, text: str, *, turn: Turn) -> AsyncIterator[str]:
            yield text
            async for steered in turn.steering:
                steered.done()
                yield steered.message["text"]
                return

        first = words("a", "one")
        assert await anext(first) == "one"
        [call] = await called(collected(words("a", "two")))
        assert await anext(first) == "two"
        assert await outcomes([call]) == [TurnSteered]
        assert await collected(first) == []
        assert_no_leaks(runtime.lanes)

    async def test_an_interruption_ends_the_iteration(self) -> None:
        """The cancelled function's message is not taken by anybody else."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=Steer())
        async def answer(key: str, text: str, *, turn: Turn) -> str:
            async for _ in turn.steering:
                pass
            return text

        calls = await called(answer("a", "one"), answer("a", "two"))
        async with runtime.turn("a", policy=Interrupt(grace=0)):
            pass
        assert await outcomes(calls) == [TurnInterrupted, TurnInterrupted]
