"""What a runtime is made of: URLs or instances, what it opens and closes, plugins."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from sessions.helpers import WrappedStore
from support.turns_steps import Recorder, apart, files_in, held, until_idle
from turnlane import Lanes, Runtime, Sessions
from turnlane.errors import LanesDraining, NotConfigured, SessionKeyInvalid, SessionKeyRequired
from turnlane.hooks import Event, Hooks, SessionMinted, TurnStarted
from turnlane.sessions import MemorySessionStore


class ClosingStore(WrappedStore):
    """Counts how often it is opened and closed."""

    def __init__(self) -> None:
        super().__init__(MemorySessionStore())
        self.opened = self.closed = 0

    async def open(self) -> None:
        self.opened += 1
        await super().open()

    async def aclose(self) -> None:
        self.closed += 1
        await super().aclose()


def sqlite_threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith("turnlane-sessions")}


class TestMaking:
    """URLs and instances."""

    async def test_it_needs_nothing(self) -> None:
        """Lanes of this process, and no sessions."""
        runtime = Runtime()
        async with runtime.turn("a") as turn:
            assert turn.session is None
        assert runtime.sessions is None
        assert repr(runtime) == "<Runtime lanes=<Lanes memory:// running=0 waiting=0> sessions=None transcripts=None>"

    async def test_urls_make_parts_that_share_the_hooks(self) -> None:
        """One place to listen to lanes and sessions."""
        runtime = Runtime(lanes="memory://", sessions="memory://")
        assert runtime.sessions is not None
        assert runtime.lanes.hooks is runtime.sessions.hooks is runtime.hooks
        recorder = Recorder(runtime.hooks)
        async with runtime.turn("a"):
            pass
        assert recorder.names == ["TurnStarted", "SessionMinted", "TurnFinished"]

    async def test_instances_are_used_as_they_are(self) -> None:
        """With their settings; the lanes' hooks are the runtime's."""
        lanes, sessions = Lanes(max_running=3), Sessions()
        runtime = Runtime(lanes=lanes, sessions=sessions)
        assert runtime.lanes is lanes
        assert runtime.sessions is sessions
        assert runtime.hooks is lanes.hooks
        async with runtime.turn("a") as turn:
            assert turn.session is not None
            assert (await sessions.resolve("a")).id == turn.session.id

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"lanes": "mysql://x"}, "names no engine there is"),
            ({"lanes": "memory"}, "names no engine there is"),
            ({"sessions": "mysql://x"}, "no session store is known by the URL scheme 'mysql'"),
            ({"sessions": ""}, "no session store is known"),
            ({"lanes": None}, "lanes must be a URL or a Lanes object, not None"),
            ({"sessions": 7}, "sessions must be a URL, a Sessions object or None, not 7"),
            ({"hooks": "logging"}, "hooks must be a list of plugins, not the text 'logging'"),
            ({"hooks": ["no-such-plugin"]}, "no entry point 'no-such-plugin' in group 'turnlane.hooks'"),
            ({"hooks": [object()]}, r"a hook plugin needs a method register\(hooks\)"),
        ],
    )
    def test_what_is_not_understood_is_refused_when_it_is_made(self, settings: dict[str, Any], message: str) -> None:
        """Not at the first request."""
        with pytest.raises(ValueError, match=message):
            Runtime(**settings)

    def test_making_one_needs_no_loop_and_opens_nothing(self, tmp_path: Path) -> None:
        """It can stand at the top of a module."""
        before = sqlite_threads()
        Runtime(sessions=f"sqlite:///{tmp_path}/sessions.db")
        assert files_in(tmp_path) == []
        assert sqlite_threads() <= before


class TestOpeningAndClosing:
    """What is opened here is closed here, and nothing else."""

    async def test_the_store_is_opened_at_the_first_turn(self, tmp_path: Path) -> None:
        """Entering the block alone opens no file; leaving it closes what was opened."""
        before = sqlite_threads()
        runtime = Runtime(sessions=f"sqlite:///{tmp_path}/sessions.db")
        async with runtime as entered:
            assert entered is runtime
            assert files_in(tmp_path) == []
            async with runtime.turn("a"):
                assert "sessions.db" in files_in(tmp_path)
            assert sqlite_threads() - before
        assert files_in(tmp_path) == ["sessions.db"]
        await until_idle()
        assert " not open>" in repr(runtime.sessions)

    async def test_without_a_block_it_works_and_aclose_closes(self, tmp_path: Path) -> None:
        """A server without a lifespan."""
        runtime = Runtime(sessions=f"sqlite:///{tmp_path}/sessions.db")
        async with runtime.turn("a"):
            pass
        await runtime.aclose()
        await runtime.aclose()
        assert files_in(tmp_path) == ["sessions.db"]

    async def test_sessions_that_were_given_stay_open(self) -> None:
        """Whoever made them closes them; a store given to them is never closed by either."""
        store = ClosingStore()
        sessions = Sessions(store)
        async with Runtime(sessions=sessions) as runtime, runtime.turn("a"):
            pass
        assert (store.opened, store.closed) == (1, 0)
        assert repr(sessions) == "<Sessions memory:// open>"
        await sessions.aclose()
        assert (store.opened, store.closed) == (1, 0)

    async def test_a_file_of_sessions_that_were_given_stays_open(self, tmp_path: Path) -> None:
        """Its working files are there until its owner closes it."""
        sessions = Sessions(f"sqlite:///{tmp_path}/sessions.db")
        async with Runtime(sessions=sessions) as runtime, runtime.turn("a"):
            pass
        assert "sessions.db-wal" in files_in(tmp_path)
        await sessions.aclose()
        assert files_in(tmp_path) == ["sessions.db"]

    async def test_lanes_that_were_given_go_on(self) -> None:
        """Closing the runtime refuses nobody and tells nobody."""
        lanes = Lanes()
        runtime = Runtime(lanes=lanes, sessions="memory://")
        async with held(lanes, "a") as release:
            waiting = apart(one_turn(runtime))
            await until_idle()
            await runtime.aclose()
            assert not waiting.done()
            release.set()
            await waiting
        async with lanes.turn("a"):
            pass

    async def test_hooks_of_lanes_that_were_given_are_not_stopped(self) -> None:
        """An async listener of theirs hears what is told after the runtime was closed."""
        lanes = Lanes()
        heard: list[Event] = []
        told = asyncio.Event()

        async def listen(event: Event) -> None:
            heard.append(event)
            told.set()

        async with Runtime(lanes=lanes) as runtime:
            pass
        lanes.hooks.on(TurnStarted, listen)
        async with runtime.turn("a"):
            await told.wait()
        assert len(heard) == 1

    async def test_closing_tells_who_waits_and_lets_the_running_turn_end(self) -> None:
        """New turns are refused from then on, and the running one keeps its lane and its session."""
        runtime = Runtime(sessions="memory://")
        async with held(runtime.lanes, "a"):
            waiting = apart(one_turn(runtime))
            await until_idle()
            await runtime.aclose()
            with pytest.raises(LanesDraining):
                await waiting
            assert runtime.lanes.statistics().running == 1
        with pytest.raises(LanesDraining):
            await one_turn(runtime)

        @runtime.agent_turn(key="key")
        async def answer(key: str) -> None:
            raise AssertionError("it ran")

        with pytest.raises(LanesDraining):
            await answer("a")

    async def test_entering_again_after_closing_works(self, tmp_path: Path) -> None:
        """A lifespan that runs twice; the sessions are those of the file."""
        runtime = Runtime(sessions=f"sqlite:///{tmp_path}/sessions.db")
        ids: set[str] = set()
        for _ in range(3):
            async with runtime, runtime.turn("a") as turn:
                assert turn.session is not None
                ids.add(turn.session.id)
        assert len(ids) == 1

    async def test_closing_reaches_every_part_although_one_fails(self) -> None:
        """An async listener that hangs and a store that raises do not keep the rest open."""

        class FailingStore(ClosingStore):
            async def aclose(self) -> None:
                await super().aclose()
                raise OSError("close")

        runtime = Runtime()
        store = FailingStore()
        runtime.sessions = Sessions(store, hooks=runtime.hooks)
        runtime.sessions._owned = True  # pyright: ignore[reportPrivateUsage]  as if made from a URL
        runtime._owns_sessions = True  # pyright: ignore[reportPrivateUsage]
        async with runtime.turn("a"):
            pass
        with pytest.raises(OSError, match="close"):
            await runtime.aclose()
        assert store.closed == 1
        with pytest.raises(LanesDraining):
            await one_turn(runtime)

    async def test_drain_is_that_of_the_lanes(self) -> None:
        """Waits for the running turns, or says how many there are."""
        runtime = Runtime()
        async with held(runtime.lanes, "a") as release:
            assert await runtime.drain(timeout=0) == 1
            draining = asyncio.ensure_future(runtime.drain())
            await until_idle()
            assert not draining.done()
            release.set()
            assert await draining == 0


class TestPlugins:
    """`hooks=[...]`."""

    async def test_each_is_registered_once(self) -> None:
        """With parts made from URLs, and with parts that share their hooks."""
        hooks = Hooks()
        one, other = CountingPlugin(), CountingPlugin()
        shared = Runtime(lanes=Lanes(hooks=hooks), sessions=Sessions(hooks=hooks), hooks=[one])
        for runtime, plugin in ((shared, one), (Runtime(sessions="memory://", hooks=[other]), other)):
            async with runtime.turn("a"):
                pass
            assert plugin.registered == 1
            assert sorted(plugin.heard) == ["SessionMinted", "TurnStarted"]

    async def test_one_hears_sessions_that_have_hooks_of_their_own(self) -> None:
        """Each event once."""
        plugin = CountingPlugin()
        runtime = Runtime(sessions=Sessions(), hooks=[plugin])
        async with runtime.turn("a"):
            pass
        assert sorted(plugin.heard) == ["SessionMinted", "TurnStarted"]

    async def test_listeners_hear_the_end_of_the_lanes(self) -> None:
        """Closing tells of the drain before it stops async listeners."""
        runtime = Runtime()
        heard: list[str] = []

        async def listen(event: Event) -> None:
            await asyncio.sleep(0)
            heard.append(type(event).__name__)

        runtime.hooks.on(Event, listen)
        async with runtime, runtime.turn("a"):
            pass
        assert heard == ["TurnStarted", "TurnFinished", "DrainStarted"]
        assert len(asyncio.all_tasks()) == 1


class TestTurn:
    """`runtime.turn`."""

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({}, ValueError),
            ({"session_id": 7}, ValueError),
            ({"key": ""}, SessionKeyRequired),
            ({"key": "a\n"}, None),
            ({"key": "a\nb"}, SessionKeyInvalid),
            ({"key": "a", "policy": "hurry"}, ValueError),
            ({"key": "a", "turn_timeout": -1}, ValueError),
        ],
    )
    async def test_wrong_arguments_are_refused_in_the_call(
        self, arguments: dict[str, Any], error: type[Exception] | None
    ) -> None:
        """Before anything is awaited; white space around a key is not wrong."""
        runtime = Runtime()
        if error is None:
            async with runtime.turn(**arguments) as turn:
                assert turn.key == "a"
        else:
            with pytest.raises(error):
                runtime.turn(**arguments)
        assert runtime.lanes.statistics().lanes == 0

    @pytest.mark.parametrize("arguments", [{"session_id": "x"}, {"key": "a", "visible": False}])
    async def test_what_needs_sessions_says_so_and_frees_the_lane(self, arguments: dict[str, Any]) -> None:
        """The message says what to add."""
        runtime = Runtime()
        with pytest.raises(NotConfigured, match=r"needs sessions: Runtime\(sessions="):
            async with runtime.turn(**arguments):
                raise AssertionError("it ran")
        assert runtime.lanes.statistics().lanes == 0

    async def test_a_block_that_is_left_in_another_context_frees_its_lane(self) -> None:
        """A generator of the user's that holds a turn and is closed by another task."""
        runtime = Runtime()

        async def hold() -> AsyncGenerator[None, None]:
            async with runtime.lanes.turn("a"):
                yield

        held_open = hold()
        await asyncio.create_task(anext(held_open))
        assert runtime.lanes.statistics().running == 1
        await held_open.aclose()
        assert runtime.lanes.statistics().lanes == 0

    async def test_a_block_can_be_entered_once(self) -> None:
        """The second time is a programming error, not a second turn."""
        scope = Runtime().lanes.turn("a")
        async with scope:
            pass
        with pytest.raises(RuntimeError, match="can be entered once"):
            async with scope:
                pass

    async def test_the_body_may_raise_and_the_lane_is_free(self) -> None:
        """What it raises is what comes out."""
        runtime = Runtime(sessions="memory://")
        with pytest.raises(KeyError):
            async with runtime.turn("a"):
                raise KeyError
        assert runtime.lanes.statistics().totals == {"completed": 0, "failed": 1}


class CountingPlugin:
    """A plugin that counts."""

    def __init__(self) -> None:
        self.registered = 0
        self.heard: list[str] = []

    def register(self, hooks: Hooks) -> None:
        self.registered += 1
        hooks.on(TurnStarted, self._hear)
        hooks.on(SessionMinted, self._hear)

    def _hear(self, event: Event) -> None:
        self.heard.append(type(event).__name__)


async def one_turn(runtime: Runtime) -> None:
    async with runtime.turn("a"):
        pass
