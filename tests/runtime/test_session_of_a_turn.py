"""The session of a turn: when it is resolved, touched, and what a failing store does."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from sessions.helpers import StepClock, WrappedStore
from support.turns_steps import Recorder, apart, held, until_idle
from turnlane import Lanes, Runtime, Sessions, Turn
from turnlane.errors import SessionStoreUnavailable, TurnInterrupted
from turnlane.hooks import Hooks, TurnFinished
from turnlane.sessions import Freshness, MemorySessionStore, SessionEntry
from turnlane.testing import assert_no_leaks


class FailingStore(WrappedStore):
    """A store that fails where it is told to."""

    def __init__(self, *, fails: str = "") -> None:
        super().__init__(MemorySessionStore())
        self.fails = fails

    def _may(self, operation: str, key: str) -> None:
        if operation in self.fails:
            raise SessionStoreUnavailable(key, where="a test", operation=operation, reason="it was told to")

    async def read(self, key: str) -> SessionEntry | None:
        self._may("read", key)
        return await super().read(key)

    async def touch(self, key: str, *, at: float) -> None:
        self._may("touch", key)
        await super().touch(key, at=at)


def runtime_over(store: WrappedStore) -> Runtime:
    hooks = Hooks()
    return Runtime(lanes=Lanes(hooks=hooks), sessions=Sessions(store, hooks=hooks))


class TestResolving:
    """`turn.session`."""

    async def test_it_is_resolved_after_the_wait(self) -> None:
        """A session that is renewed while the turn waits is the new one."""
        runtime = Runtime(sessions="memory://")
        assert runtime.sessions is not None
        old = await runtime.sessions.resolve("a")

        async def session_id() -> str:
            async with runtime.turn("a") as turn:
                assert turn.session is not None
                return turn.session.id

        async with held(runtime.lanes, "a"):
            task = apart(session_id())
            await until_idle()
            assert (await runtime.sessions.renew("a")).id != old.id
        found = await runtime.sessions.get("a")
        assert found is not None
        assert await task == found.id

    async def test_a_waiting_turn_has_read_nothing(self) -> None:
        """One that is cancelled in line has minted no session."""
        store = FailingStore()
        runtime = runtime_over(store)

        async def enter() -> None:
            async with runtime.turn("a"):
                raise AssertionError("it ran")

        async with held(runtime.lanes, "a"):
            task = apart(enter())
            await until_idle()
            task.cancel()
            await until_idle()
        assert (store.reads, store.writes) == (0, 0)

    async def test_all_turns_of_a_key_have_one_session(self) -> None:
        """And exactly one of them is told that it is new."""
        runtime = Runtime(sessions="memory://")
        seen: list[tuple[str, bool]] = []

        @runtime.agent_turn(key="key")
        async def answer(key: str, *, turn: Turn) -> None:
            assert turn.session is not None
            seen.append((turn.session.id, turn.session.is_new))

        await asyncio.gather(*(answer("a") for _ in range(10)))
        assert len({session_id for session_id, _ in seen}) == 1
        assert [is_new for _, is_new in seen] == [True] + [False] * 9

    async def test_the_record_of_the_turn_names_its_session(self) -> None:
        """New, reused, and none."""
        runtime = Runtime(sessions="memory://")
        recorder = Recorder(runtime.hooks)
        for _ in range(2):
            async with runtime.turn("a"):
                pass
        async with runtime.lanes.turn("a"):
            pass
        assert runtime.sessions is not None
        session_id = (await runtime.sessions.resolve("a")).id
        finished = [event for event in recorder.events if isinstance(event, TurnFinished)]
        assert [(each.session_id, each.session_is_new) for each in finished] == [
            (session_id, True),
            (session_id, False),
            (None, None),
        ]


class TestActivity:
    """The touch at the end of a turn."""

    async def test_a_turn_counts_as_activity_when_it_ends(self) -> None:
        """A long turn leaves a session that is fresh from its end on."""
        clock = StepClock()
        runtime = Runtime(sessions=Sessions(freshness=Freshness(idle=60), clock=clock))
        ids: list[str] = []
        for _ in range(3):
            async with runtime.turn("a") as turn:
                assert turn.session is not None
                ids.append(turn.session.id)
                clock.at += 500  # far longer than the session may idle
            clock.at += 59
        assert len(set(ids)) == 1
        clock.at += 1
        async with runtime.turn("a") as turn:
            assert turn.session is not None
            assert turn.session.id != ids[0]
            assert turn.session.is_new

    @pytest.mark.parametrize("how", ["raises", "is cancelled", "is interrupted", "is a generator that is closed"])
    async def test_a_turn_that_does_not_complete_counts_too(self, how: str) -> None:
        """Whoever failed was there."""
        clock = StepClock()
        runtime = Runtime(sessions=Sessions(freshness=Freshness(idle=60), clock=clock))
        assert runtime.sessions is not None
        first = await runtime.sessions.resolve("a")
        clock.at += 50
        entered = asyncio.Event()

        async def turn() -> None:
            async with runtime.turn("a"):
                entered.set()
                if how == "raises":
                    raise KeyError
                await asyncio.Event().wait()

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[str]:
            yield key

        if how == "is a generator that is closed":
            items = stream("a")
            await anext(items)
            await items.aclose()
        else:
            task = apart(turn())
            await entered.wait()
            if how == "is cancelled":
                task.cancel()
            elif how == "is interrupted":
                runtime.lanes.interrupt("a", grace=0)
            with pytest.raises((KeyError, asyncio.CancelledError, TurnInterrupted)):
                await task
        found = await runtime.sessions.get("a")
        assert found is not None
        assert (found.id, found.last_activity_at) == (first.id, clock.at)

    async def test_the_touch_is_done_before_the_lane_goes(self) -> None:
        """The successor never finds the session staler than it is."""
        order: list[str] = []

        class OrderedStore(WrappedStore):
            async def touch(self, key: str, *, at: float) -> None:
                order.append("touch begins")
                await asyncio.sleep(0)
                await super().touch(key, at=at)
                order.append("touch ends")

        runtime = runtime_over(OrderedStore(MemorySessionStore()))

        async def turn(name: str) -> None:
            async with runtime.turn("a"):
                order.append(name)

        await asyncio.gather(turn("first"), turn("second"))
        assert order == ["first", "touch begins", "touch ends", "second", "touch begins", "touch ends"]


class TestFailingStore:
    """A session store that can not."""

    async def test_a_failure_on_entering_fails_the_turn_and_frees_the_lane(self) -> None:
        """The function never runs; the next turn can."""
        store = FailingStore(fails="read")
        runtime = runtime_over(store)
        ran: list[str] = []

        @runtime.agent_turn(key="key")
        async def answer(key: str) -> None:
            ran.append(key)

        @runtime.agent_turn(key="key")
        async def stream(key: str) -> AsyncIterator[str]:
            ran.append(key)
            yield key

        with pytest.raises(SessionStoreUnavailable):
            await answer("a")
        with pytest.raises(SessionStoreUnavailable):
            await anext(stream("a"))
        with pytest.raises(SessionStoreUnavailable):
            async with runtime.turn("a"):
                ran.append("block")
        assert ran == []
        assert_no_leaks(runtime.lanes)
        assert runtime.lanes.statistics().totals == {"completed": 0, "failed": 3}
        store.fails = ""
        await answer("a")
        assert ran == ["a"]

    async def test_a_failure_on_leaving_is_logged_and_the_result_is_kept(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The turn has had its effect: nothing is gained by failing it."""
        runtime = runtime_over(FailingStore(fails="touch"))

        @runtime.agent_turn(key="key")
        async def answer(key: str) -> str:
            return "the answer"

        with caplog.at_level(logging.WARNING, "turnlane"):
            assert await answer("a") == "the answer"
        [record] = caplog.records
        assert record.name == "turnlane.runtime"
        assert record.getMessage().startswith("session_touch_failed turn=turn-")
        assert runtime.lanes.statistics().totals == {"completed": 1}

    async def test_the_error_of_the_turn_is_seen_rather_than_that_of_the_store(self) -> None:
        """Both fail: the caller hears of the first."""
        runtime = runtime_over(FailingStore(fails="touch"))
        with pytest.raises(KeyError):
            async with runtime.turn("a"):
                raise KeyError
        assert_no_leaks(runtime.lanes)
