"""Calls of a turn function that become one."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from support.turns_steps import called, collected, held, outcomes
from turnlane import Coalesce, Runtime, Turn
from turnlane.errors import NotConfigured, TurnCoalesced
from turnlane.messages import HttpMessage, joined
from turnlane.testing import assert_no_leaks

JOINED = Coalesce(window=0, merge=joined("text", "+"))
SHARED = Coalesce(window=0, merge=joined("text", "+"), share_result=True)


class TestMergedArguments:
    """The newest call runs with what `merge` returns."""

    async def test_a_coroutine_function(self) -> None:
        """Positional or by name: the merged arguments go where they belong, defaults are those of the newest."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=JOINED)
        async def answer(key: str, text: str, *, tone: str = "plain", turn: Turn) -> tuple[Any, ...]:
            return text, tone, [message["text"] for message in turn.messages]

        async with held(runtime.lanes, "a") as release:
            calls = await called(
                answer("a", "one", tone="loud"), answer(text="two", key="a"), answer("a", "three", tone="soft")
            )
            release.set()
            found = await outcomes(calls)
        assert found == [TurnCoalesced, TurnCoalesced, ("one+two+three", "soft", ["one", "two", "three"])]
        assert_no_leaks(runtime.lanes)

    async def test_a_method(self) -> None:
        """Its object is one of the arguments."""
        runtime = Runtime()

        class Agent:
            @runtime.agent_turn(key="key", policy=JOINED)
            async def answer(self, key: str, text: str, *, turn: Turn) -> tuple[Any, str, list[Any]]:
                return self, text, [message["self"] for message in turn.messages]

        one, other = Agent(), Agent()
        async with held(runtime.lanes, "a") as release:
            calls = await called(one.answer("a", "one"), other.answer("a", "two"))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, (other, "one+two", [one, other])]

    async def test_a_generator(self) -> None:
        """The consumers of the others are told when it has begun."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=JOINED)
        async def words(key: str, text: str) -> AsyncIterator[str]:
            for word in text.split("+"):
                yield word

        async with held(runtime.lanes, "a") as release:
            calls = await called(collected(words("a", "one")), collected(words("a", "two")))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, ["one", "two"]]
        assert_no_leaks(runtime.lanes)

    async def test_arguments_of_every_kind(self) -> None:
        """Positional only, the rest, and named ones."""
        runtime = Runtime()

        def rest(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
            return {**messages[-1], "rest": [item for message in messages for item in message["rest"]]}

        @runtime.agent_turn(key="key", policy=Coalesce(window=0, merge=rest))
        async def answer(key: str, /, *rest: int, **named: str) -> tuple[Any, ...]:
            return rest, named

        async with held(runtime.lanes, "a") as release:
            calls = await called(answer("a", 1, 2, x="old"), answer("a", 3, x="new"))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, ((1, 2, 3), {"x": "new"})]

    async def test_without_a_merge_the_messages_are_there(self) -> None:
        """And the arguments are those of the newest."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=Coalesce(window=0))
        async def answer(key: str, text: str, *, turn: Turn) -> tuple[Any, ...]:
            return text, [message["text"] for message in turn.messages], turn.message["text"]

        async with held(runtime.lanes, "a") as release:
            calls = await called(answer("a", "one"), answer("a", "two"))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, ("two", ["one", "two"], "two")]

    @pytest.mark.parametrize("merged", [None, 7, ["a", "b"], {"key": "a", "words": "x"}, {"key": "a"}])
    async def test_a_merge_that_returns_nonsense_is_a_type_error(self, merged: Any) -> None:
        """Of the call that was to run with it, whatever kind of function it is; the other is told of no turn."""
        runtime = Runtime()
        decorate = runtime.agent_turn(key="key", policy=Coalesce(window=0, merge=lambda messages: merged))

        @decorate
        async def answer(key: str, text: str) -> str:
            return text

        @decorate
        async def words(key: str, text: str) -> AsyncIterator[str]:
            yield text

        async def listen(key: str, text: str) -> str:
            return "".join(await collected(words(key, text)))

        runs: list[Any] = [answer, listen]
        for run in runs:
            async with held(runtime.lanes, "a") as release:
                calls = await called(run("a", "one"), run("a", "two"))
                release.set()
                assert await outcomes(calls) == ["one", TypeError]
        assert_no_leaks(runtime.lanes)

    async def test_a_merge_that_raises_fails_the_newest_alone(self) -> None:
        """The others run by themselves, in order."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=JOINED)
        async def answer(key: str, text: Any) -> Any:
            return text

        async with held(runtime.lanes, "a") as release:
            calls = await called(answer("a", "one"), answer("a", 7), answer("a", "three"))
            release.set()
            assert await outcomes(calls) == ["one", 7, ValueError]


class TestApart:
    """Calls that do not become one."""

    async def test_those_for_different_principals(self) -> None:
        """By name, and by a sync or async callable."""

        def now(key: str, text: str, user: str | None) -> str | None:
            return user

        async def later(key: str, text: str, user: str | None) -> str | None:
            return user

        for principal in ("user", now, later):
            runtime = Runtime()

            @runtime.agent_turn(key="key", policy=JOINED, principal=principal)
            async def answer(key: str, text: str, user: str | None = None) -> str:
                return text

            async with held(runtime.lanes, "a") as release:
                calls = await called(
                    answer("a", "one", "ada"), answer("a", "two", "bob"), answer("a", "three", "bob"), answer("a", "4")
                )
                release.set()
                assert await outcomes(calls) == ["one", TurnCoalesced, "two+three", "4"]

    async def test_a_principal_that_is_no_text_is_a_type_error(self) -> None:
        """The function is named, and no lane was taken."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=JOINED, principal="user")
        async def answer(key: str, user: Any) -> None:
            raise AssertionError("it ran")

        with pytest.raises(TypeError, match=r"principal of .*answer must be text or None, not int"):
            await answer("a", 7)
        assert runtime.lanes.statistics().totals == {"completed": 0}
        with pytest.raises(ValueError, match="principal='nobody' names no argument of"):
            runtime.agent_turn(key="key", principal="nobody")(answer)

    async def test_those_of_different_functions(self) -> None:
        """Whatever they have in common: what one returns is no answer to the other."""
        runtime = Runtime()
        decorate = runtime.agent_turn(key="key", policy=SHARED)

        @decorate
        async def answer(key: str, text: str) -> str:
            return f"answered {text}"

        @decorate
        async def forget(key: str, text: str) -> str:
            return f"forgot {text}"

        async with held(runtime.lanes, "a") as release:
            calls = await called(answer("a", "one"), forget("a", "two"), forget("a", "three"), answer("a", "four"))
            release.set()
            assert await outcomes(calls) == ["answered one", *["forgot two+three"] * 2, "answered four"]


class TestJoinedCalls:
    """Calls inside a turn that answers several messages."""

    async def test_they_keep_their_own_arguments(self) -> None:
        """What was merged is for the call whose turn it is."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=JOINED)
        async def helper(key: str, text: str) -> str:
            return text

        @runtime.agent_turn(key="key", policy=JOINED)
        async def words(key: str, text: str) -> AsyncIterator[str]:
            yield text

        @runtime.agent_turn(key="key", policy=JOINED)
        async def answer(key: str, text: str) -> list[Any]:
            return [text, await helper(key, "mine"), *[word async for word in words(key, "too")]]

        async with held(runtime.lanes, "a") as release:
            calls = await called(answer("a", "one"), answer("a", "two"))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, ["one+two", "mine", "too"]]

    async def test_a_turn_with_messages_of_another_kind_is_joined(self) -> None:
        """As behind `LaneMiddleware`, where they are bodies."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def helper(key: str, text: str, *, turn: Turn) -> tuple[str, int]:
            return text, len(turn.messages)

        def plus(messages: Sequence[HttpMessage]) -> HttpMessage:
            return HttpMessage(b"+".join(message.body for message in messages))

        async def request(body: bytes) -> Any:
            async with runtime.turn("a", policy=Coalesce(window=0, merge=plus), message=HttpMessage(body)) as turn:
                return turn.message.body, await helper("a", "mine")

        async with held(runtime.lanes, "a") as release:
            calls = await called(request(b"one"), request(b"two"))
            release.set()
            assert await outcomes(calls) == [TurnCoalesced, (b"one+two", ("mine", 2))]


class TestSessionThatFails:
    """A turn that can not begin takes over no messages."""

    async def test_each_call_finds_out_for_itself(self) -> None:
        """Nobody is told of a turn that never ran."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=JOINED, visible=False)
        async def answer(key: str, text: str) -> str:
            raise AssertionError("it ran")

        async with held(runtime.lanes, "a") as release:
            calls = await called(answer("a", "one"), answer("a", "two"))
            release.set()
            assert await outcomes(calls) == [NotConfigured, NotConfigured]
        assert_no_leaks(runtime.lanes)
