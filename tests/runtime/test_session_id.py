"""Explicit session ids, and turns that leave no trace."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.turns_steps import Recorder, apart, held, until_idle
from turnlane import Runtime, Turn
from turnlane.errors import SessionKeyInvalid
from turnlane.hooks import TurnFinished
from turnlane.testing import assert_no_leaks


class Ways:
    """The three ways to run a turn with a session id or invisibly; each returns the turn it ran."""

    def __init__(self, runtime: Runtime, *, visible: bool = True) -> None:
        self.runtime = runtime
        self.visible = visible

        @runtime.agent_turn(key="key", session_id="session_id", visible=visible)
        async def call(key: str | None = None, session_id: str | None = None, *, turn: Turn) -> Turn:
            await asyncio.sleep(0)
            return turn

        @runtime.agent_turn(key="key", session_id="session_id", visible=visible)
        async def stream(key: str | None = None, session_id: str | None = None, *, turn: Turn) -> AsyncIterator[Turn]:
            yield turn

        self._call = call
        self._stream = stream

    async def run(self, way: str, key: str | None = None, session_id: str | None = None) -> Turn:
        if way == "block":
            async with self.runtime.turn(key, session_id=session_id, visible=self.visible) as turn:
                return turn
        if way == "function":
            return await self._call(key, session_id)
        [turn] = [each async for each in self._stream(key, session_id)]
        return turn


WAYS = pytest.mark.parametrize("way", ["block", "function", "generator"])


@WAYS
class TestExplicitId:
    """`session_id=`."""

    async def test_an_id_that_is_known_runs_in_the_lane_of_its_key(self, way: str) -> None:
        """Whatever key is given with it, or none."""
        runtime = Runtime(sessions="memory://")
        assert runtime.sessions is not None
        session = await runtime.sessions.resolve("a")
        for key in (None, "b", "a"):
            turn = await Ways(runtime).run(way, key, session.id)
            assert turn.session is not None
            assert (turn.key, turn.session.id, turn.session.key) == ("a", session.id, "a")
        assert [each.key for each in await runtime.sessions.list()] == ["a"]

    async def test_it_waits_for_a_turn_of_that_key(self, way: str) -> None:
        """One lane per session, however it is named."""
        runtime = Runtime(sessions="memory://")
        assert runtime.sessions is not None
        session = await runtime.sessions.resolve("a")
        async with held(runtime.lanes, "a"):
            task = apart(Ways(runtime).run(way, None, session.id))
            await until_idle()
            assert not task.done()
        assert (await task).waited > 0

    async def test_an_id_nobody_knows_has_a_lane_of_its_own_and_no_row(self, way: str) -> None:
        """Two turns of that id still run one after the other; nothing is minted."""
        runtime = Runtime(sessions="memory://")
        recorder = Recorder(runtime.hooks)
        async with held(runtime.lanes, "session-id:mine"):
            task = apart(Ways(runtime).run(way, "a", "mine"))
            await until_idle()
            assert not task.done()
        turn = await task
        assert turn.session is not None
        assert (turn.key, turn.session.id, turn.session.version) == ("session-id:mine", "mine", 0)
        assert not turn.session.is_new
        assert runtime.sessions is not None
        assert await runtime.sessions.list() == ()
        assert "SessionMinted" not in recorder.names
        finished = [event for event in recorder.events if isinstance(event, TurnFinished)]
        assert [(each.session_id, each.session_is_new) for each in finished[1:]] == [("mine", False)]

    async def test_an_id_that_is_replaced_while_it_waits_moves_to_its_own_lane(self, way: str) -> None:
        """It runs in the session that was asked for, not in the one the key has now; who comes after it runs too."""
        runtime = Runtime(sessions="memory://")
        assert runtime.sessions is not None
        old = await runtime.sessions.resolve("a")
        recorder = Recorder(runtime.hooks)
        async with held(runtime.lanes, "a"):
            task = apart(Ways(runtime).run(way, None, old.id))
            await until_idle()
            following = apart(Ways(runtime).run(way, "a"))
            await until_idle()
            new = await runtime.sessions.renew("a")
        turn, other = await task, await following
        assert turn.session is not None
        assert (turn.key, turn.session.id) == (f"session-id:{old.id}", old.id)
        assert other.session is not None
        assert other.session.id == new.id
        assert_no_leaks(runtime.lanes)
        finished = [event for event in recorder.events if isinstance(event, TurnFinished)]
        ran = [event.session_id for event in finished if event.outcome == "completed"]
        assert sorted(ran, key=str) == sorted([None, old.id, new.id], key=str), "the turn that moved counts once"

    async def test_an_id_that_is_given_to_another_key_while_it_waits_follows_it(self, way: str) -> None:
        """The lane is that of the key the id belongs to when the turn runs."""
        runtime = Runtime(sessions="memory://")
        assert runtime.sessions is not None
        old = await runtime.sessions.resolve("a")
        store = runtime.sessions._store  # pyright: ignore[reportPrivateUsage]
        async with held(runtime.lanes, "a"), held(runtime.lanes, "b") as second:
            task = apart(Ways(runtime).run(way, None, old.id))
            await until_idle()
            await runtime.sessions.delete("a")
            await store.reserve("b", old.id, at=1.0, replaces=None)
            assert runtime.lanes.statistics().waiting == 1
            second.set()
            await until_idle()
            assert not task.done()
        turn = await task
        assert (turn.key, turn.session and turn.session.id) == ("b", old.id)

    async def test_what_can_not_be_an_id_is_refused(self, way: str) -> None:
        """Too long, or with control characters where it comes from outside; the lane is not taken."""
        runtime = Runtime(sessions="memory://")
        with pytest.raises((ValueError, SessionKeyInvalid)):
            await Ways(runtime).run(way, "a", "x" * 502)
        assert runtime.lanes.statistics().totals == {"completed": 0}


@WAYS
class TestInvisible:
    """`visible=False`."""

    async def test_a_hand_off_without_a_session_leaves_nothing(self, way: str) -> None:
        """No row, no mint event, no activity; the turn has a session of its own while it runs."""
        runtime = Runtime(sessions="memory://")
        recorder = Recorder(runtime.hooks)
        turns = [await Ways(runtime, visible=False).run(way, "a") for _ in range(2)]
        sessions = [turn.session for turn in turns]
        assert all(session is not None and session.version == 0 for session in sessions)
        assert len({session.id for session in sessions if session is not None}) == 2
        assert runtime.sessions is not None
        assert await runtime.sessions.list() == ()
        assert set(recorder.names) == {"TurnStarted", "TurnFinished"}

    async def test_a_hand_off_into_a_session_uses_it_and_leaves_it_as_it_was(self, way: str) -> None:
        """It is no activity of the user; it still waits for the lane."""
        runtime = Runtime(sessions="memory://")
        assert runtime.sessions is not None
        before = await runtime.sessions.resolve("a")
        for session_id in (None, before.id):
            turn = await Ways(runtime, visible=False).run(way, "a", session_id)
            assert turn.session is not None
            assert (turn.key, turn.session.id) == ("a", before.id)
        after = await runtime.sessions.get("a")
        assert after is not None
        assert (after.version, after.last_activity_at) == (before.version, before.last_activity_at)
        async with held(runtime.lanes, "a"):
            task = apart(Ways(runtime, visible=False).run(way, "a"))
            await until_idle()
            assert not task.done()
        await task


async def test_two_overrides_of_one_channel_run_at_the_same_time_in_two_sessions() -> None:
    """The channel's key is one, the sessions are two: neither waits."""
    runtime = Runtime(sessions="memory://")
    both = asyncio.Barrier(2)

    @runtime.agent_turn(key="channel", session_id="override")
    async def answer(channel: str, override: str, *, turn: Turn) -> str:
        assert turn.session is not None
        await both.wait()
        return turn.session.id

    async with asyncio.timeout(5):
        found = await asyncio.gather(answer("slack", "one"), answer("slack", "two"))
    assert list(found) == ["one", "two"]
