"""`Coalesce(share_result=True)`: all calls that became one return what it returned."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.transcripts_scenes import empty, path_of, user
from support.turns_steps import called, collected, held, outcomes, until_idle
from turnlane import Coalesce, Runtime, Turn
from turnlane.errors import TranscriptTakeover, TurnCoalesced
from turnlane.messages import joined
from turnlane.testing import assert_no_leaks

SHARED = Coalesce(window=0, merge=joined("text", "+"), share_result=True)


class TestSharedResult:
    """`share_result=True`."""

    async def test_all_callers_get_what_the_newest_returns(self) -> None:
        """The same object, None too; when it has returned."""
        for result in (object(), None, TurnCoalesced("a", turn="t", into="u")):
            runtime = Runtime()
            go_on = asyncio.Event()

            @runtime.agent_turn(key="key", policy=SHARED)
            async def answer(key: str, text: str, go_on: asyncio.Event = go_on, result: object = result) -> object:
                await go_on.wait()
                return result

            async with held(runtime.lanes, "a") as release:
                calls = await called(answer("a", "one"), answer("a", "two"), answer("a", "three"))
                release.set()
                await until_idle()
                assert not any(call.done() for call in calls)
                go_on.set()
                assert [await call for call in calls] == [result] * 3
            assert_no_leaks(runtime.lanes)

    async def test_a_call_that_fails_shares_nothing(self) -> None:
        """Its own caller gets the error, the others are told whose turn it was."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=SHARED)
        async def answer(key: str, text: str) -> None:
            raise LookupError

        async with held(runtime.lanes, "a") as release:
            calls = await called(answer("a", "one"), answer("a", "two"))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, LookupError]

    async def test_a_call_whose_transcript_fails_at_the_end_shares_nothing(self, tmp_path: Path) -> None:
        """It had returned by then; its own caller gets the error, and nobody an answer that was not stored."""
        runtime = Runtime(sessions="memory://", transcripts=tmp_path / "transcripts")

        @runtime.agent_turn(key="key", policy=SHARED)
        async def answer(key: str, text: str, *, turn: Turn) -> str:
            await turn.transcript.append(user(text))
            empty(path_of(turn.transcript))
            return text

        async with held(runtime.lanes, "a") as release:
            calls = await called(answer("a", "one"), answer("a", "two"))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, TranscriptTakeover]

    async def test_one_of_ours_that_comes_from_inside_is_not_taken_for_its_own(self) -> None:
        """A call made by the function was coalesced with another key's, and its error left the function."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=SHARED)
        async def inner(key: str, text: str) -> str:
            return text

        raised = TurnCoalesced("b", turn="another", into="one more", result="not mine")

        @runtime.agent_turn(key="key", policy=SHARED)
        async def outer(key: str, text: str) -> str:
            raise raised

        async with held(runtime.lanes, "a") as release:
            calls = await called(outer("a", "one"), inner("a", "two"))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, "two"]
        with pytest.raises(TurnCoalesced) as caught:
            await calls[0]
        assert caught.value is raised

    async def test_what_a_generator_yields_is_shared_with_nobody(self) -> None:
        """The others are told when it has ended."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=SHARED)
        async def words(key: str, text: str) -> AsyncIterator[str]:
            yield text

        async with held(runtime.lanes, "a") as release:
            calls = await called(collected(words("a", "one")), collected(words("a", "two")))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, ["one+two"]]

    async def test_a_caller_that_is_cancelled_meanwhile_leaves_the_others(self) -> None:
        """Its message is part of the turn all the same."""
        runtime = Runtime()
        go_on = asyncio.Event()

        @runtime.agent_turn(key="key", policy=SHARED)
        async def answer(key: str, text: str) -> str:
            await go_on.wait()
            return text

        async with held(runtime.lanes, "a") as release:
            calls = await called(answer("a", "one"), answer("a", "two"), answer("a", "three"))
            release.set()
            await until_idle()
            calls[0].cancel()
            await until_idle()
            go_on.set()
            assert await outcomes(calls) == [asyncio.CancelledError, "one+two+three", "one+two+three"]

    async def test_a_session_that_goes_to_another_lane_loses_nobody(self) -> None:
        """The calls wait there, and whoever becomes part of another gets its result."""
        runtime = Runtime(sessions="memory://")
        assert runtime.sessions is not None
        session = await runtime.sessions.resolve("a")
        go_on = asyncio.Event()
        texts: list[str] = []
        lanes: set[str] = set()

        @runtime.agent_turn(key="key", session_id="session_id", policy=SHARED)
        async def answer(text: str, key: str = "-", session_id: str | None = session.id, *, turn: Turn) -> str:
            lanes.add(turn.key)
            texts.append(text)
            await go_on.wait()
            return text

        async with held(runtime.lanes, "a") as release:
            calls = await called(*map(answer, ("one", "two", "three", "four")))
            await runtime.sessions.delete("a")
            release.set()
            await until_idle()
            go_on.set()
            found = await outcomes(calls)
        assert sorted(part for text in texts for part in text.split("+")) == ["four", "one", "three", "two"]
        assert len(texts) < 4
        assert all(own in result for own, result in zip(("one", "two", "three", "four"), found, strict=True))
        assert lanes == {f"session-id:{session.id}"}
        assert_no_leaks(runtime.lanes)
