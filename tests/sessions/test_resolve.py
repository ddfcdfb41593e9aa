"""One session id per session key."""

import asyncio
import pickle
from datetime import time, timedelta

import pytest

from sessions.helpers import T0, StepClock, WrappedStore
from turnlane.errors import NotConfigured, SessionStoreUnavailable
from turnlane.hooks import Hooks, SessionMinted
from turnlane.sessions import Freshness, MemorySessionStore, Session, SessionEntry, Sessions
from turnlane.sessions.base import Reservation

IDLE = Freshness(idle=timedelta(minutes=10))


async def test_many_first_requests_of_a_key_get_one_id(sessions: Sessions) -> None:
    """100 resolve a new key at once: one id, and exactly one of them minted it."""
    found = await asyncio.gather(*(sessions.resolve("agent:main:alice") for _ in range(100)))
    assert len({session.id for session in found}) == 1
    assert sum(session.is_new for session in found) == 1


async def test_another_key_gets_another_id(sessions: Sessions) -> None:
    """Ids of different keys differ."""
    first, second = await sessions.resolve("a"), await sessions.resolve("b")
    assert (first.is_new, second.is_new) == (True, True)
    assert first.id != second.id


async def test_a_minted_session_starts_empty(sessions: Sessions) -> None:
    """A new session has version 1, no fields, and three times that are now."""
    session = await sessions.resolve("k")
    assert session.as_dict() == {
        "key": "k",
        "id": session.id,
        "version": 1,
        "fields": {},
        "created_at": T0,
        "updated_at": T0,
        "last_activity_at": T0,
        "is_new": True,
    }
    assert len(session.id) == 32


async def test_a_stale_key_gets_one_new_id_however_many_resolve(url: str, clock: StepClock) -> None:
    """100 resolve a key that just went stale: one new id, one of them minted it, the fields stay."""
    async with Sessions(url, freshness=IDLE, clock=clock) as sessions:
        old = await sessions.resolve("k")
        await sessions.patch("k", {"channel": "slack"})
        clock.at += 600
        found = await asyncio.gather(*(sessions.resolve("k") for _ in range(100)))
    assert {session.id for session in found} != {old.id}
    assert len({session.id for session in found}) == 1
    assert sum(session.is_new for session in found) == 1
    assert found[0].fields == {"channel": "slack"}
    assert (found[0].version, found[0].created_at) == (3, T0 + 600)


async def test_a_loser_adopts_the_winner_whatever_its_freshness(clock: StepClock) -> None:
    """An id minted while we looked is adopted, even if the winner's clock is so far behind that it is stale by ours."""
    inner = MemorySessionStore()
    rival = Sessions(inner, freshness=IDLE, clock=StepClock(T0 + 600))
    winners: list[Session] = []

    class RacedStore(WrappedStore):
        async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
            winners.append(await rival.resolve(key))
            return await super().reserve(key, session_id, at=at, replaces=replaces)

    await Sessions(inner, clock=clock).resolve("k")
    clock.at += 3600
    found = await Sessions(RacedStore(inner), freshness=IDLE, clock=clock).resolve("k")
    assert [(winner.id, winner.is_new) for winner in winners] == [(found.id, True)]
    assert not found.is_new


async def test_activity_while_resolving_keeps_the_session(clock: StepClock) -> None:
    """A turn that ends between the read of a stale entry and its replacement keeps its session."""

    class TouchedStore(WrappedStore):
        async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
            await self.inner.touch(key, at=clock.at)
            return await super().reserve(key, session_id, at=at, replaces=replaces)

    inner = MemorySessionStore()
    old = await Sessions(inner, clock=clock).resolve("k")
    clock.at += 600
    found = await Sessions(TouchedStore(inner), freshness=IDLE, clock=clock).resolve("k")
    assert (found.id, found.is_new) == (old.id, False)


async def test_a_daily_stale_entry_touched_meanwhile_still_gets_one_new_id(clock: StepClock) -> None:
    """Activity does not help against the daily moment: the reservation is tried again on what is there."""

    class TouchedOnce(WrappedStore):
        async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
            if not self.writes:
                await self.inner.touch(key, at=clock.at)
            return await super().reserve(key, session_id, at=at, replaces=replaces)

    inner = MemorySessionStore()
    old = await Sessions(inner, clock=clock).resolve("k")
    clock.at += 86_400
    daily = Freshness(daily_at=time(4), timezone="UTC")
    store = TouchedOnce(inner)
    found = await Sessions(store, freshness=daily, clock=clock).resolve("k")
    assert found.id != old.id
    assert found.is_new
    assert store.writes == 2


async def test_an_established_key_is_one_read_and_no_write(url: str, clock: StepClock) -> None:
    """Resolving a fresh key asks the store once and changes nothing in it."""
    async with Sessions(url, clock=clock) as first:
        before = await first.resolve("k")
        store = WrappedStore(first._store)  # pyright: ignore[reportPrivateUsage]
        later = await Sessions(store, freshness=IDLE, clock=clock).resolve("k")
        assert (store.reads, store.writes) == (1, 0)
        assert later == Session.of(before)
        assert not later.is_new


async def test_touch_keeps_a_session_and_a_patch_does_not(url: str, clock: StepClock) -> None:
    """Activity is what `touch` records; metadata writes leave the idle clock running."""
    async with Sessions(url, freshness=IDLE, clock=clock) as sessions:
        first = await sessions.resolve("k")
        clock.at += 599
        await sessions.touch("k")
        clock.at += 599
        await sessions.patch("k", {"label": "x"})
        assert (await sessions.resolve("k")).id == first.id
        clock.at += 1
        assert (await sessions.resolve("k")).id != first.id


async def test_touch_never_turns_back_and_never_makes_an_entry(sessions: Sessions, clock: StepClock) -> None:
    """A clock that was set back does not take activity away; an unknown key stays unknown."""
    first = await sessions.resolve("k")
    clock.at = T0 - 100
    await sessions.touch("k")
    await sessions.touch("unknown")
    assert await sessions.get("k") == Session.of(first)
    assert await sessions.get("unknown") is None


async def test_invisible_resolution_leaves_no_trace(url: str, clock: StepClock) -> None:
    """`visible=False` stores nothing and tells nobody; with a fresh entry it is that session."""
    hooks, minted = Hooks(), list[SessionMinted]()
    hooks.on(SessionMinted, minted.append)
    async with Sessions(url, freshness=IDLE, hooks=hooks, clock=clock) as sessions:
        ghost = await sessions.resolve("k", visible=False)
        assert (ghost.is_new, ghost.version, ghost.key) == (True, 0, "k")
        assert await sessions.list() == ()
        assert await sessions.find(ghost.id) is None
        assert minted == []
        real = await sessions.resolve("k")
        assert (await sessions.resolve("k", visible=False)).id == real.id
        clock.at += 600
        assert (await sessions.resolve("k", visible=False)).id not in (real.id, ghost.id)
        assert await sessions.get("k") == Session.of(real)
    assert [event.session_id for event in minted] == [real.id]


async def test_an_explicit_id_is_never_reserved(sessions: Sessions) -> None:
    """An id that an entry has is that session; any other is an unstored session with a key of its own."""
    known = await sessions.resolve("k")
    assert await sessions.resolve_id(known.id) == Session.of(known)
    stranger = await sessions.resolve_id("my-own-id")
    assert (stranger.id, stranger.key, stranger.is_new, stranger.version) == (
        "my-own-id",
        "session-id:my-own-id",
        False,
        0,
    )
    assert [session.key for session in await sessions.list()] == ["k"]


async def test_every_mint_is_told_once_after_it_is_stored(url: str, clock: StepClock) -> None:
    """First mint, stale mint and renewal are told with what they replace; adoption is not told."""
    hooks, minted = Hooks(), list[SessionMinted]()
    hooks.on(SessionMinted, minted.append)
    async with Sessions(url, freshness=IDLE, hooks=hooks, clock=clock) as sessions:
        first = (await asyncio.gather(*(sessions.resolve("k") for _ in range(20))))[0]
        clock.at += 600
        second = (await asyncio.gather(*(sessions.resolve("k") for _ in range(20))))[0]
        third = await sessions.renew("k")
        fourth = await sessions.renew("new")
    assert [(event.key, event.session_id, event.replaced) for event in minted] == [
        ("k", first.id, None),
        ("k", second.id, first.id),
        ("k", third.id, second.id),
        ("new", fourth.id, None),
    ]


async def test_renew_mints_and_keeps_the_fields(sessions: Sessions, clock: StepClock) -> None:
    """A new id for a fresh key: the old one is gone, the fields stay, the times start again."""
    old = await sessions.resolve("k")
    await sessions.patch("k", {"label": "x"})
    clock.at += 5
    new = await sessions.renew("k")
    assert new.is_new
    assert new.id != old.id
    assert (new.fields, new.version, new.created_at, new.last_activity_at) == ({"label": "x"}, 3, T0 + 5, T0 + 5)
    assert await sessions.find(old.id) is None
    assert await sessions.find(new.id) == await sessions.get("k") == await sessions.resolve("k")


async def test_renewals_at_once_each_get_an_id(sessions: Sessions) -> None:
    """Every renewal has an id of its own, and the key keeps one of them."""
    renewed = await asyncio.gather(*(sessions.renew("k") for _ in range(20)))
    ids = {session.id for session in renewed}
    assert len(ids) == 20
    kept = await sessions.get("k")
    assert kept is not None
    assert kept.id in ids
    assert kept.version == 20


async def test_renew_of_a_key_that_appears_meanwhile_replaces_it(clock: StepClock) -> None:
    """A first request that is faster than the renewal does not get lost: it is renewed."""

    class MintsFirst(WrappedStore):
        async def mutate(self, key: str, change: object) -> SessionEntry | None:
            if not self.writes:
                self.writes += 1
                await self.inner.reserve(key, "faster", at=clock.at, replaces=None)
                return None
            return await self.inner.mutate(key, change)  # type: ignore[arg-type]

    renewed = await Sessions(MintsFirst(MemorySessionStore()), clock=clock).renew("k")
    assert (renewed.version, renewed.is_new) == (2, True)


async def test_delete_forgets_the_key(sessions: Sessions) -> None:
    """After a delete there is no entry, and the next resolve mints an empty one with a version never used."""
    old = await sessions.resolve("k")
    await sessions.patch("k", {"label": "x"})
    assert await sessions.delete("k")
    assert not await sessions.delete("k")
    assert await sessions.get("k") is None
    new = await sessions.resolve("k")
    assert (new.is_new, new.fields) == (True, {})
    assert new.id != old.id
    assert new.version > 2


async def test_list_is_ordered_by_key_and_bounded(sessions: Sessions) -> None:
    """Sessions with the prefix, in order of their keys, at most as many as asked for."""
    for key in ("b:1", "a:2", "a:1", "a:3"):
        await sessions.resolve(key)
    assert [session.key for session in await sessions.list("a:", 2)] == ["a:1", "a:2"]
    assert [session.key for session in await sessions.list()] == ["a:1", "a:2", "a:3", "b:1"]
    with pytest.raises(ValueError, match="limit must be an int of at least 1, not 0"):
        await sessions.list(limit=0)


@pytest.mark.parametrize("key", ["", " ", "a\x00b", "x" * 513, "ü" * 257, "\ud800", None, 7, b"k"])
async def test_what_can_not_be_a_key_is_refused(sessions: Sessions, key: str) -> None:
    """Blank, too long in bytes, with control characters, not UTF-8, not text: ValueError, and nothing is stored."""
    for call in (sessions.resolve, sessions.get, sessions.touch, sessions.renew, sessions.delete):
        with pytest.raises(ValueError, match=r"a session key"):
            await call(key)
    with pytest.raises(ValueError, match="a session key"):
        await sessions.patch(key, {})
    with pytest.raises(ValueError, match="a session key"):
        async with sessions.edit(key):
            pass
    assert await sessions.list() == ()


@pytest.mark.parametrize("key", ["x" * 512, "ü" * 256, "'; DROP TABLE session; --", "%_"])
async def test_any_other_text_is_a_key(sessions: Sessions, key: str) -> None:
    """Up to 512 bytes of any printable text names a session and nothing else."""
    session = await sessions.resolve(key)
    assert await sessions.find(session.id) == await sessions.get(key) == Session.of(session)
    assert [found.key for found in await sessions.list(key)] == [key]


async def test_an_explicit_id_leaves_room_for_its_key(sessions: Sessions) -> None:
    """The key made for an explicit id is a key like any other: it can be touched."""
    session = await sessions.resolve_id("i" * 501)
    await sessions.touch(session.key)
    with pytest.raises(ValueError, match="a session id has at most 501 bytes"):
        await sessions.resolve_id("i" * 502)


async def test_a_snapshot_pickles(sessions: Sessions) -> None:
    """A session with nested fields survives pickling, frozen as before."""
    await sessions.resolve("k")
    session = await sessions.patch("k", {"delivery_context": {"to": ["a", {"b": None}]}})
    again: object = pickle.loads(pickle.dumps(session))
    assert again == session
    assert isinstance(again, Session)
    with pytest.raises(TypeError):
        again.fields["x"] = 1  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite:///", "names no file"),
        ("sqlite://file.db", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///a.db?mode=ro", "takes no options"),
        ("memory://x", "takes nothing after it"),
        (
            "mysql://localhost",
            "there are: memory://, sqlite:///relative/file.db, sqlite:////absolute/file.db, postgresql",
        ),
        ("redis://a,b", "names one host"),
        ("sessions.db", "no session store is known"),
        ("", "no session store is known"),
    ],
)
def test_a_url_that_is_not_understood_is_refused(url: str, hint: str) -> None:
    """The message says what there is."""
    with pytest.raises(ValueError, match=hint):
        Sessions(url)


def test_sessions_work_in_loops_one_after_the_other(url: str) -> None:
    """Test clients make a loop per request: the same object goes on, opened once, closed in another loop."""
    sessions = Sessions(url)
    ids = {asyncio.run(sessions.resolve("k")).id for _ in range(3)}

    async def many() -> set[str]:
        return {session.id for session in await asyncio.gather(*(sessions.resolve("k") for _ in range(20)))}

    assert asyncio.run(many()) == ids
    asyncio.run(sessions.aclose())
    assert {asyncio.run(sessions.resolve("k")).id} == ids
    asyncio.run(sessions.aclose())


def test_use_in_a_forked_process_is_a_clear_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is not the one that opened is told so; closing there does nothing."""
    sessions = Sessions(url)
    asyncio.run(sessions.resolve("k"))
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(NotConfigured, match="opened before this process was forked"):
        asyncio.run(sessions.resolve("k"))
    asyncio.run(sessions.aclose())
    monkeypatch.undo()
    assert not asyncio.run(sessions.resolve("k")).is_new
    asyncio.run(sessions.aclose())


async def test_a_store_that_is_given_stays_open() -> None:
    """Who made a store closes it; one made from a URL is closed here."""

    class Counting(WrappedStore):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    store = Counting(MemorySessionStore())
    async with Sessions(store) as sessions:
        await sessions.resolve("k")
    assert store.closed == 0


async def test_a_store_that_does_not_open_is_tried_again() -> None:
    """An error while opening is reported, and the next call opens."""

    class Absent(WrappedStore):
        tries = 0

        async def open(self) -> None:
            self.tries += 1
            if self.tries == 1:
                raise SessionStoreUnavailable("*", where=self.where, operation="open", reason="gone")

    store = Absent(MemorySessionStore())
    sessions = Sessions(store)
    with pytest.raises(SessionStoreUnavailable):
        await sessions.resolve("k")
    assert (await sessions.resolve("k")).is_new
    assert repr(sessions) == "<Sessions memory:// open>"


@pytest.mark.parametrize("session_id", ["", "x" * 502, "\ud800", None, 7, b"k"])
async def test_what_can_not_be_a_session_id_is_refused(sessions: Sessions, session_id: str) -> None:
    """Empty, too long in bytes, not UTF-8, not text."""
    with pytest.raises(ValueError, match="a session id"):
        await sessions.resolve_id(session_id)


async def test_equal_looking_keys_are_one(sessions: Sessions) -> None:
    """White space around a key and the form of its letters do not make another session."""
    session = await sessions.resolve("caf\u00e9")
    assert (await sessions.resolve(" cafe\u0301 ")).id == session.id
    assert (await sessions.patch("cafe\u0301", {"label": "x"})).key == "caf\u00e9"
    assert await sessions.delete(" caf\u00e9")
    assert await sessions.list() == ()
