"""The session of a turn that others join."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sessions.helpers import StepClock
from support.turns_answer import Answer
from turnlane import LaneMiddleware, Runtime, Sessions, Turn, current_turn
from turnlane.hooks import TurnFinished
from turnlane.sessions import Freshness
from turnlane.testing import AsgiDriver


class TestSessionOfAJoinedTurn:
    """A turn that was begun without sessions gets one from who joins with them."""

    async def test_it_is_resolved_on_joining(self) -> None:
        """Behind a middleware that has the lanes only; the request's state shows it, and so does the record."""
        runtime = Runtime(sessions="memory://")
        answer = Answer(runtime)
        finished: list[TurnFinished] = []
        runtime.hooks.on(TurnFinished, finished.append)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            before = current_turn()
            assert before is not None
            assert before.session is None
            joined = await answer.call("a")
            assert joined is before
            assert joined.session is not None

        guarded: Any = LaneMiddleware(app, key="x-session-key", lanes=runtime.lanes, trusted_keys=True)
        await AsgiDriver(guarded).start("POST", headers={"x-session-key": "a"}).finished()
        assert runtime.sessions is not None
        session = await runtime.sessions.resolve("a")
        assert [(each.session_id, each.session_is_new) for each in finished] == [(session.id, True)]

    async def test_it_is_resolved_once(self) -> None:
        """A session that is there is kept."""
        runtime = Runtime(sessions="memory://")
        answer = Answer(runtime)
        async with runtime.lanes.turn("a"):
            first = (await answer.call("a")).session
            assert (await answer.call("a")).session is first
            assert [(await anext(answer.stream("a"))).session] == [first]
        async with runtime.turn("a") as turn:
            before = turn.session
            assert (await answer.call("a")).session is before

    @pytest.mark.parametrize("transcripts", [False, True])
    async def test_calls_that_join_at_once_have_the_same_one(self, tmp_path: Path, transcripts: bool) -> None:
        """The second waits while the first resolves it: neither session nor transcript changes under a call."""
        runtime = Runtime(
            sessions=f"sqlite:///{tmp_path}/sessions.db", transcripts=tmp_path / "transcripts" if transcripts else None
        )

        @runtime.agent_turn(key="key", visible=transcripts)
        async def call(key: str, text: str, *, turn: Turn) -> str:
            assert turn.session is not None
            before = turn.session.id
            if transcripts:
                await turn.transcript.append({"role": "user", "content": text})
            await asyncio.sleep(0)
            assert turn.session.id == before
            return before

        async with runtime:
            async with runtime.lanes.turn("a"):
                first, second = await asyncio.gather(call("a", "one"), call("a", "two"))
            assert first == second
            if transcripts:
                assert runtime.transcripts is not None
                assert len(await runtime.transcripts.read(first)) == 2

    async def test_joining_counts_as_activity(self) -> None:
        """A conversation in use does not go stale because its lane was taken without sessions."""
        clock = StepClock()
        runtime = Runtime(sessions=Sessions(freshness=Freshness(idle=60), clock=clock))
        answer = Answer(runtime)
        ids: set[str] = set()
        for _ in range(5):
            async with runtime.lanes.turn("a"):
                session = (await answer.call("a")).session
                assert session is not None
                ids.add(session.id)
            clock.at += 40
        assert len(ids) == 1

    async def test_an_invisible_call_joins_without_a_row(self) -> None:
        """`visible=False` there resolves what exists or something unstored."""
        runtime = Runtime(sessions="memory://")

        @runtime.agent_turn(key="key", visible=False)
        async def hand_off(key: str, *, turn: Turn) -> Turn:
            return turn

        async with runtime.lanes.turn("a") as turn:
            assert await hand_off("a") is turn
            assert turn.session is not None
            assert turn.session.version == 0
        assert runtime.sessions is not None
        assert await runtime.sessions.list() == ()


async def test_an_endpoint_behind_the_middleware_calls_turn_functions() -> None:
    """The usual shape: middleware, endpoint, helper, each with the same turn."""
    runtime = Runtime(sessions="memory://")
    answer = Answer(runtime)
    seen: list[Turn] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope["state"]["turn"], await answer.call("ada"), await anext(answer.stream("ada"))])

    guarded: Any = LaneMiddleware(app, key="x-session-key", runtime=runtime, trusted_keys=True)
    await AsgiDriver(guarded).start("POST", headers={"x-session-key": "ada"}).finished()
    assert len(seen) == 3
    assert len({id(turn) for turn in seen}) == 1
    assert seen[0].session is not None
