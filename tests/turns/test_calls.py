"""Where the key of a call is found, and what the function is called with."""

import asyncio
from typing import Any

import pytest

from turnlane import Runtime, Turn, current_turn
from turnlane.errors import NotConfigured, SessionKeyInvalid, SessionKeyRequired


def key_now() -> str:
    turn = current_turn()
    assert turn is not None
    return turn.key


class TestKeyByName:
    """`key="session_key"`."""

    async def test_positional_keyword_and_default_are_all_found(self) -> None:
        """However the caller passes it, or does not."""
        runtime = Runtime()

        @runtime.agent_turn(key="session_key")
        async def answer(text: str, session_key: str = "everybody") -> str:
            return f"{key_now()}: {text}"

        assert await answer("hi", "ada") == "ada: hi"
        assert await answer("hi", session_key="ada") == "ada: hi"
        assert await answer(session_key="ada", text="hi") == "ada: hi"
        assert await answer("hi") == "everybody: hi"

    async def test_positional_only_and_keyword_only_arguments_hold_keys_too(self) -> None:
        """Every kind of named argument."""
        runtime = Runtime()

        @runtime.agent_turn(key="session_key")
        async def first(session_key: str = "default", /) -> str:
            return key_now()

        @runtime.agent_turn(key="session_key")
        async def last(*rest: int, session_key: str = "default", **named: int) -> str:
            return f"{key_now()} {sum(rest) + sum(named.values())}"

        assert [await first("a"), await first()] == ["a", "default"]
        assert [await last(1, 2, session_key="a", x=3), await last(1)] == ["a 6", "default 1"]

    async def test_the_lane_is_that_of_the_canonical_key(self) -> None:
        """The function sees what the caller passed, the lane is the one every spelling shares."""
        runtime = Runtime()

        @runtime.agent_turn(key="session_key")
        async def answer(session_key: str, *, turn: Turn) -> tuple[str, str]:
            return session_key, turn.key

        assert await answer("  cafe\u0301 ") == ("  cafe\u0301 ", "caf\u00e9")

    @pytest.mark.parametrize("key", [None, "", "  \t "])
    async def test_no_key_is_an_error_that_names_function_and_lane_is_not_taken(self, key: Any) -> None:
        """None and blank are not a conversation everybody shares."""
        runtime = Runtime()

        @runtime.agent_turn(key="session_key")
        async def answer(session_key: str | None) -> None:
            raise AssertionError("it ran")

        with pytest.raises(SessionKeyRequired, match=r"key of .*answer") as caught:
            await answer(key)
        assert caught.value.param.startswith("key of ")
        assert runtime.lanes.statistics().totals == {"completed": 0}

    @pytest.mark.parametrize("key", [7, b"bytes", ["a"], True])
    async def test_what_is_not_text_is_invalid(self, key: Any) -> None:
        """The error says what it was."""

        @Runtime().agent_turn(key="session_key")
        async def answer(session_key: str) -> None:
            raise AssertionError("it ran")

        with pytest.raises(SessionKeyInvalid, match=f"it is a {type(key).__name__}, not text"):
            await answer(key)

    @pytest.mark.parametrize("key", ["a\nb", "x" * 513, "\u202eevil"])
    async def test_text_that_is_no_key_is_invalid(self, key: str) -> None:
        """Control characters, direction marks, too long."""

        @Runtime().agent_turn(key="session_key")
        async def answer(session_key: str) -> None:
            raise AssertionError("it ran")

        with pytest.raises(SessionKeyInvalid):
            await answer(key)


class TestKeyByCallable:
    """`key=callable`."""

    async def test_sync_and_async_callables_are_given_the_arguments(self) -> None:
        """Positional as positional, the rest by keyword, whichever way the caller passed them."""
        runtime = Runtime()

        def of(user: str, text: str, *, channel: str) -> str:
            return f"{channel}:{user}:{text}"

        async def later(user: str, text: str, *, channel: str) -> str:
            await asyncio.sleep(0)
            return of(user, text, channel=channel)

        async def answer(user: str, text: str, *, channel: str) -> str:
            return key_now()

        for finder in (of, later):
            decorated = runtime.agent_turn(key=finder)(answer)
            assert await decorated("ada", "hi", channel="slack") == "slack:ada:hi"
            assert await decorated(text="hi", channel="slack", user="ada") == "slack:ada:hi"

    async def test_a_method_gives_its_object_to_the_callable(self) -> None:
        """So that the key can depend on it."""
        runtime = Runtime()

        class Agent:
            name = "main"

            def key_of(self, user: str) -> str:
                return f"agent:{self.name}:{user}"

            @runtime.agent_turn(key=key_of)
            async def answer(self, user: str) -> str:
                return key_now()

        assert await Agent().answer("ada") == "agent:main:ada"

    async def test_defaults_of_the_function_are_among_its_arguments(self) -> None:
        """The key of a call that leaves an argument out is that of a call that passes its default."""
        runtime = Runtime()

        def key_of(user: str, channel: str) -> str:
            return f"{channel}:{user}"

        @runtime.agent_turn(key=key_of)
        async def answer(user: str, channel: str = "web") -> str:
            return key_now()

        assert await answer("ada", "web") == "web:ada"
        assert await answer("ada") == "web:ada"

    @pytest.mark.parametrize(("found", "error"), [(None, SessionKeyRequired), (7, SessionKeyInvalid)])
    async def test_its_answer_is_held_to_the_same_rules(self, found: Any, error: type[Exception]) -> None:
        """None, blank and other types are refused as for a name."""

        def now(user: str) -> Any:
            return found

        async def later(user: str) -> Any:
            return found

        for finder in (now, later):

            @Runtime().agent_turn(key=finder)
            async def answer(user: str) -> None:
                raise AssertionError("it ran")

            with pytest.raises(error):
                await answer("ada")

    async def test_what_it_raises_reaches_the_caller(self) -> None:
        """And no lane was taken."""
        runtime = Runtime()

        def refuse(user: str) -> str:
            raise PermissionError(user)

        @runtime.agent_turn(key=refuse)
        async def answer(user: str) -> None:
            raise AssertionError("it ran")

        with pytest.raises(PermissionError, match="ada"):
            await answer("ada")
        assert runtime.lanes.statistics().totals == {"completed": 0}


class TestTurnArgument:
    """`turn` goes in by keyword, from nobody but the runtime."""

    async def test_it_is_passed_wherever_it_is_declared(self) -> None:
        """Keyword-only, in the middle, with a default, first, before *rest, beside **named; or not declared at all."""
        runtime = Runtime()
        decorate = runtime.agent_turn(key="key")

        async def keyword(key: str, text: str = "hi", *, turn: Turn) -> list[object]:
            return [turn.key, text]

        async def middle(key: str, turn: Turn, text: str = "hi") -> list[object]:
            return [turn.key, text]

        async def optional(key: str = "a", turn: Turn | None = None, text: str = "hi") -> list[object]:
            return [turn and turn.key, text]

        async def first(turn: Turn, key: str, text: str = "hi") -> list[object]:
            return [turn.key, text]

        async def rest(key: str, turn: Turn, *rest: str, **named: str) -> list[object]:
            return [turn.key, *(rest or ("hi",)), *named.values()]

        async def absent(key: str, text: str = "hi") -> list[object]:
            return [key_now(), text]

        for function in (keyword, middle, optional, first, rest, absent):
            decorated = decorate(function)
            assert await decorated("a") == ["a", "hi"], function.__name__
            assert await decorated("b", "ho") == ["b", "ho"], function.__name__
            passed_by_name = await decorated(key="c", text="ho")
            assert (passed_by_name[0], passed_by_name[-1]) == ("c", "ho"), function.__name__
        assert await decorate(optional)() == ["a", "hi"]
        assert await decorate(optional)(text="ho") == ["a", "ho"]
        assert await decorate(rest)("a", "1", "2", x="3") == ["a", "1", "2", "3"]

    async def test_callers_can_not_pass_it(self) -> None:
        """Nobody runs in a turn of their own making; the error names the function."""
        runtime = Runtime()
        decorate = runtime.agent_turn(key="key")

        async def keyword(key: str, *, turn: Turn) -> Turn:
            return turn

        async def optional(key: str, turn: Turn | None = None) -> Turn | None:
            return turn

        async def named(key: str, *, turn: Turn, **named: object) -> Turn:
            return turn

        async with runtime.turn("other") as forged:
            for function in (keyword, optional, named):
                with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected keyword argument"):
                    await decorate(function)("a", turn=forged)

    async def test_a_turn_among_named_arguments_is_the_callers_business(self) -> None:
        """A function that declares none may take one of its caller's."""

        @Runtime().agent_turn(key="key")
        async def answer(key: str, **named: object) -> dict[str, object]:
            return named

        assert await answer("a", turn="of the screw") == {"turn": "of the screw"}

    async def test_wrong_arguments_are_a_type_error_before_the_lane(self) -> None:
        """As for any function, with its name."""
        runtime = Runtime()

        @runtime.agent_turn(key="key")
        async def answer(key: str, text: str) -> None:
            raise AssertionError("it ran")

        pair = ("a", "b")
        wrong: list[tuple[Any, Any]] = [((), {}), ((*pair, "c"), {}), (pair, {"more": 1}), (pair, {"key": 1})]
        for args, kwargs in wrong:
            with pytest.raises(TypeError, match=r"answer\(\) "):
                await answer(*args, **kwargs)
        assert runtime.lanes.statistics().totals == {"completed": 0}

    async def test_arguments_are_passed_on_as_they_are(self) -> None:
        """The same objects, neither copied nor converted."""
        text, more = ["mutable"], object()

        @Runtime().agent_turn(key="key")
        async def answer(key: str, text: list[str], *rest: object, **named: object) -> tuple[object, ...]:
            return text, rest, named

        found, rest, named = await answer("a", text, more, more=more)
        assert found is text
        assert rest == (more,)
        assert named == {"more": more}


class TestSessionIdOfACall:
    """`session_id=` names an argument or is a callable, as `key` does."""

    async def test_it_goes_before_the_key_and_none_leaves_the_key(self) -> None:
        """An explicit id runs in the lane of the key it belongs to."""
        runtime = Runtime(sessions="memory://")
        assert runtime.sessions is not None
        session = await runtime.sessions.resolve("ada")

        @runtime.agent_turn(key="key", session_id="explicit")
        async def by_name(key: str, explicit: str | None = None, *, turn: Turn) -> tuple[str, str]:
            assert turn.session is not None
            return turn.key, turn.session.id

        def id_of(key: str, explicit: str | None) -> str | None:
            return explicit

        @runtime.agent_turn(key="key", session_id=id_of)
        async def by_callable(key: str, explicit: str | None = None, *, turn: Turn) -> tuple[str, str]:
            assert turn.session is not None
            return turn.key, turn.session.id

        for function in (by_name, by_callable):
            assert await function("other", session.id) == ("ada", session.id)
            assert await function("other", "unknown-id") == ("session-id:unknown-id", "unknown-id")
            assert await function("ada", None) == ("ada", session.id)
            assert await function("ada", " ") == ("ada", session.id)
            assert await function("ada") == ("ada", session.id)
        assert [each.key for each in await runtime.sessions.list()] == ["ada"]

    async def test_the_key_is_not_asked_for_where_the_id_counts(self) -> None:
        """A request that names its session by id needs no key."""
        runtime = Runtime(sessions="memory://")

        @runtime.agent_turn(key="key", session_id="explicit")
        async def answer(key: str | None, explicit: str, *, turn: Turn) -> str:
            return turn.key

        assert await answer(None, "x") == "session-id:x"

    async def test_it_needs_sessions(self) -> None:
        """Without them the error says what to add."""

        @Runtime().agent_turn(key="key", session_id="explicit")
        async def answer(key: str, explicit: str | None = None) -> str:
            return key_now()

        assert await answer("a") == "a"
        with pytest.raises(NotConfigured, match=r"session_id= needs sessions: Runtime\(sessions="):
            await answer("a", "x")
