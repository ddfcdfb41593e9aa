"""claude-agent-sdk: how a client ends with its turn."""

import asyncio
from pathlib import Path
from unittest.mock import patch

import pytest
from claude_agent_sdk import ClaudeSDKClient

from support.claude_bench import agent_of, claude, programs, runtime_of
from support.rigs import ScriptedModel
from turnlane import Lanes, Runtime
from turnlane.errors import TurnInterrupted
from turnlane.policies import Coalesce, Interrupt
from turnlane_integrations.claude_agent_sdk import LaneAgent

pytestmark = pytest.mark.timeout(240)  # each turn starts a program


async def test_cancelled_again_while_its_program_ends_a_client_waits_for_that(tmp_path: Path) -> None:
    """As by an interruption, and then by a server that stops: the lane never goes before the program."""
    async with claude(tmp_path, ScriptedModel()) as rig:
        ends = asyncio.Event()
        close = ClaudeSDKClient.disconnect

        async def disconnect(client: ClaudeSDKClient) -> None:
            ends.set()
            await close(client)

        async def first() -> None:
            async with agent_of(rig).client(rig.options("c")) as client:
                await client.query("hold this")
                assert [message async for message in client.receive_response()]

        with patch.object(ClaudeSDKClient, "disconnect", disconnect):
            turn = asyncio.create_task(first())
            await rig.model.entered["hold this"].wait()
            turn.cancel()
            await ends.wait()
            turn.cancel()
            with pytest.raises(asyncio.CancelledError):
                await turn
        assert programs() == []
        assert runtime_of(rig).lanes.statistics().running == 0


async def test_an_interruption_that_fails_is_told_of_by_the_grace(tmp_path: Path) -> None:
    """Of a program that does not answer: the turn is cancelled then, and nothing is left that nobody looks at."""
    async with claude(tmp_path, ScriptedModel()) as rig:
        agent = LaneAgent(runtime_of(rig), policy=Interrupt(grace=0.2))

        async def deaf(_: ClaudeSDKClient) -> None:
            raise RuntimeError("Control request timeout: interrupt")

        async def first() -> None:
            async with agent.client(rig.options("c")) as client:
                await client.query("hold this")
                assert [message async for message in client.receive_response()]

        with patch.object(ClaudeSDKClient, "interrupt", deaf):
            interrupted = asyncio.create_task(first())
            await rig.model.entered["hold this"].wait()
            assert [message async for message in agent.query(prompt="two", options=rig.options("c"))]
            with pytest.raises(TurnInterrupted):
                await interrupted


def test_queries_are_not_made_one_of_several_nor_taken_back() -> None:
    """A program is asked one thing: what of others it would be made of nobody would see. What it has written stays."""
    coalescing = Runtime(lanes=Lanes("memory://", policy=Coalesce()))
    for runtime, policy in ((Runtime(), "steer"), (Runtime(), "rollback"), (coalescing, None)):
        with pytest.raises(ValueError, match="not made one of several"):
            LaneAgent(runtime, policy=policy)
