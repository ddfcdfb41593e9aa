"""What `agent_turn` takes, and what the decorated function shows of itself."""

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, get_type_hints

import pytest

from turnlane import Reject, Runtime, Turn, current_turn
from turnlane.errors import LaneBusy, NotConfigured

RUNTIME = Runtime()


class TestKinds:
    """Which functions can be turns."""

    async def test_a_coroutine_function_is_a_turn_per_call(self) -> None:
        """It runs inside its lane and returns what it returns."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def answer(key: str, text: str) -> tuple[str, int, str]:
            turn = current_turn()
            assert turn is not None
            return turn.key, runtime.lanes.statistics().running, text

        assert await answer("a", "hello") == ("a", 1, "hello")
        assert current_turn() is None
        assert runtime.lanes.statistics().lanes == 0

    async def test_methods_are_given_their_object(self) -> None:
        """Plain methods, and class and static methods with the decorator next to the function."""
        runtime = Runtime()

        class Agent:
            def __init__(self, name: str) -> None:
                self.name = name

            @runtime.agent_turn(key="key")
            async def answer(self, key: str, *, turn: Turn) -> tuple[str, str]:
                return self.name, turn.key

            @runtime.agent_turn(key="key")
            async def stream(self, key: str, turn: Turn) -> AsyncIterator[tuple[str, str]]:
                yield self.name, turn.key

            @classmethod
            @runtime.agent_turn(key="key")
            async def of_class(cls, key: str, *, turn: Turn) -> tuple[str, str]:
                return cls.__name__, turn.key

            @staticmethod
            @runtime.agent_turn(key="key")
            async def of_nobody(key: str, *, turn: Turn) -> str:
                return turn.key

        agent = Agent("Ada")
        assert await agent.answer("a") == ("Ada", "a")
        assert await Agent.answer(agent, key="b") == ("Ada", "b")
        assert [item async for item in agent.stream("c")] == [("Ada", "c")]
        assert await agent.of_class("d") == await Agent.of_class("d") == ("Agent", "d")
        assert await agent.of_nobody("e") == await Agent.of_nobody("e") == "e"
        assert list(inspect.signature(agent.answer).parameters) == ["key"]

    async def test_a_bound_method_and_a_partial_can_be_decorated(self) -> None:
        """What is left of their arguments is what the key is looked for in."""
        runtime = Runtime()

        class Agent:
            async def answer(self, key: str, text: str, *, turn: Turn) -> str:
                return f"{turn.key}: {text}"

        agent = Agent()
        assert await runtime.agent_turn(key="key")(agent.answer)("a", "hello") == "a: hello"
        halfway = functools.partial(agent.answer, text="partly")
        assert await runtime.agent_turn(key="key")(halfway)("b") == "b: partly"

    @pytest.mark.parametrize("kind", ["function", "generator", "lambda", "class", "object"])
    def test_what_is_not_async_is_refused(self, kind: str) -> None:
        """The error names what was given and what is needed."""

        def function(key: str) -> str:
            return key

        def generator(key: str) -> Any:
            yield key

        class Callable:
            async def __call__(self, key: str) -> str:
                return key

        given: dict[str, Any] = {
            "function": function,
            "generator": generator,
            "lambda": lambda key: key,  # pyright: ignore[reportUnknownLambdaType]
            "class": Callable,
            "object": Callable(),
        }
        with pytest.raises(TypeError, match="needs an async function or an async generator function") as caught:
            RUNTIME.agent_turn(key="key")(given[kind])
        assert repr(given[kind]) in str(caught.value)

    @pytest.mark.parametrize("kind", [staticmethod, classmethod])
    def test_the_decorator_does_not_go_above_static_and_class_methods(self, kind: Any) -> None:
        """The error says where it goes."""

        async def answer(key: str) -> str:
            return key

        with pytest.raises(TypeError, match="below @staticmethod and @classmethod"):
            RUNTIME.agent_turn(key="key")(kind(answer))

    def test_turn_must_be_a_keyword(self) -> None:
        """A positional-only `turn` can not be given."""

        async def answer(turn: Turn, /, key: str) -> None: ...

        with pytest.raises(TypeError, match=r"answer must take `turn` by keyword"):
            RUNTIME.agent_turn(key="key")(answer)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"key": "nobody"}, r"key='nobody' names no argument of .*answer; it has key, text"),
            ({"key": "turn"}, r"key='turn' names no argument"),
            ({"key": "key", "session_id": "nobody"}, r"session_id='nobody' names no argument"),
            ({"key": "key", "policy": "hurry"}, "not a policy: 'hurry'"),
            ({"key": "key", "turn_timeout": 0}, "turn_timeout must be a positive number"),
            ({"key": "key", "idle_consumer_timeout": 0}, "idle_consumer_timeout must be a positive number"),
            ({"key": "key", "idle_consumer_timeout": float("nan")}, "idle_consumer_timeout must be a positive number"),
        ],
    )
    def test_settings_that_are_out_of_range_are_refused_when_decorating(
        self, settings: dict[str, Any], message: str
    ) -> None:
        """Not at the first call, which may come in the night."""

        async def answer(key: str, text: str, *, turn: Turn) -> None: ...

        with pytest.raises(ValueError, match=message):
            RUNTIME.agent_turn(**settings)(answer)

    def test_a_function_without_arguments_says_so(self) -> None:
        """The message does not end in nothing."""

        async def answer() -> None: ...

        with pytest.raises(ValueError, match=r"names no argument of .*answer; it has none"):
            RUNTIME.agent_turn(key="key")(answer)

    async def test_settings_of_the_decorator_apply_to_every_call(self) -> None:
        """The policy here; the turn timeout and the rest have tests of their own."""
        runtime = Runtime()

        @runtime.agent_turn(key="key", policy=Reject())
        async def answer(key: str, *, turn: Turn) -> None:
            with turn.detached():
                task = outer(key)
            with pytest.raises(LaneBusy, match="1 ahead"):
                await task

        def outer(key: str) -> asyncio.Task[None]:
            return asyncio.create_task(answer(key))

        await answer("a")


class TestAppearance:
    """What others see of a decorated function."""

    def test_the_visible_signature_has_no_turn(self) -> None:
        """Wherever `turn` stands; the rest is as it was."""

        async def keyword(key: str, text: str = "hi", *, turn: Turn, loud: bool = False) -> str:
            return f"{key}{text}{turn}{loud}"

        async def middle(key: str, turn: Turn, text: str) -> str:
            return f"{key}{text}{turn}"

        async def none(key: str, *rest: int, **named: float) -> str:
            return f"{key}{rest}{named}"

        async def stream(key: str, *, turn: Turn) -> AsyncGenerator[int, None]:
            yield len(f"{key}{turn}")

        def shown(function: Any) -> str:
            decorate: Any = RUNTIME.agent_turn(key="key")
            return str(inspect.signature(decorate(function)))

        assert shown(keyword) == "(key: str, text: str = 'hi', *, loud: bool = False) -> str"
        assert shown(middle) == "(key: str, text: str) -> str"
        assert shown(none) == "(key: str, *rest: int, **named: float) -> str"
        assert shown(stream).startswith("(key: str) -> ")

    def test_it_is_still_the_same_function_to_look_at(self) -> None:
        """Name, docstring, module, attributes, annotations, and the way back to the original."""

        async def answer(key: str, text: str, *, turn: Turn) -> int:
            """Answer one message."""
            return len(f"{key}{text}{turn}")

        vars(answer)["mark"] = "kept"
        wrapped: Any = RUNTIME.agent_turn(key="key")(answer)
        assert wrapped is not answer
        assert wrapped.__wrapped__ is answer
        assert (wrapped.__name__, wrapped.__doc__, wrapped.__module__) == ("answer", "Answer one message.", __name__)
        assert wrapped.__qualname__ == answer.__qualname__
        assert wrapped.mark == "kept"
        assert wrapped.__annotations__ == {"key": str, "text": str, "return": int}
        assert get_type_hints(wrapped) == {"key": str, "text": str, "return": int}
        assert "turn" in answer.__annotations__

    def test_frameworks_see_what_kind_it_is(self) -> None:
        """Coroutine functions stay such, generators too."""

        async def answer(key: str) -> str:
            return key

        async def stream(key: str) -> AsyncIterator[str]:
            yield key

        assert inspect.iscoroutinefunction(RUNTIME.agent_turn(key="key")(answer))
        assert inspect.isasyncgenfunction(RUNTIME.agent_turn(key="key")(stream))

    def test_annotations_that_can_not_be_read_are_no_obstacle(self) -> None:
        """A name that only type checkers import stays the text it is."""

        async def answer(key: str, *, turn: Turn) -> str:
            return f"{key}{turn}"

        answer.__annotations__ = {"key": "OnlyForCheckers", "turn": "Turn", "return": "str"}
        wrapped: Any = RUNTIME.agent_turn(key="key")(answer)
        assert str(inspect.signature(wrapped)) == "(key: 'OnlyForCheckers') -> 'str'"
        assert wrapped.__annotations__ == {"key": "OnlyForCheckers", "return": "str"}


async def test_nothing_is_done_before_the_first_await() -> None:
    """A coroutine that is not awaited, and a generator that is not read, take no place in line."""
    runtime = Runtime()

    @runtime.agent_turn(key="key")
    async def answer(key: str) -> None: ...

    @runtime.agent_turn(key="key")
    async def stream(key: str) -> AsyncIterator[None]:
        yield None

    call, items = answer("a"), stream("a")
    assert runtime.lanes.statistics().lanes == 0
    call.close()
    await items.aclose()
    assert runtime.lanes.statistics().totals == {"completed": 0}


async def test_the_transcript_says_what_is_missing() -> None:
    """`turn.transcript` and `turn.open_transcript()` name the turn and what to configure."""
    async with Runtime(sessions="memory://").turn("a") as turn:
        with pytest.raises(NotConfigured, match=r"transcripts=") as read:
            _ = turn.transcript
        with pytest.raises(NotConfigured, match=r"transcripts=") as opened:
            turn.open_transcript()
        assert turn.id in str(read.value)
        assert turn.id in str(opened.value)
