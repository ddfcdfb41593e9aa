"""What the PostgreSQL store promises beyond the contract: unknown outcomes, lost rows, loops, forks, kills."""

# pyright: reportPrivateUsage=false

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import IO, Any, cast

import pytest
from blockbuster import blockbuster_ctx

from support.postgresql import PostgresqlDatabase
from support.postgresql_proxy import Fault, Proxy, a_proxy
from turnlane.errors import SessionConflict, SessionCorrupt, SessionOutcomeUnknown, SessionStoreUnavailable
from turnlane.hooks import Hooks, SessionMinted
from turnlane.postgresql.urls import address_in
from turnlane.sessions import PostgresqlSessionStore, Session, Sessions
from turnlane.sessions.entry import rebound

COMMIT = b"COMMIT\0"
WORKER = Path(__file__).with_name("postgresql_worker.py")

Write = Callable[[Sessions], Awaitable[object]]


def mint(sessions: Sessions) -> Awaitable[object]:
    return sessions.resolve("new")


def patch(sessions: Sessions) -> Awaitable[object]:
    return sessions.patch("k", {"n": 1}, expected_version=1)


def plain_patch(sessions: Sessions) -> Awaitable[object]:
    return sessions.patch("k", {"n": 1})


def mint_again(sessions: Sessions) -> Awaitable[object]:
    return sessions.resolve("k")


def delete_none(sessions: Sessions) -> Awaitable[object]:
    return sessions.delete("none")


def renew(sessions: Sessions) -> Awaitable[object]:
    return sessions.renew("k")


def touch(sessions: Sessions) -> Awaitable[object]:
    return sessions.touch("k")


def delete(sessions: Sessions) -> Awaitable[object]:
    return sessions.delete("k")


async def opened(proxy: Proxy, **settings: float) -> tuple[PostgresqlSessionStore, Sessions, list[SessionMinted]]:
    """Return sessions with an entry `k`, behind a proxy, and what is told of mints from then on."""
    hooks, minted = Hooks(), list[SessionMinted]()
    store = PostgresqlSessionStore(proxy.url, timeout=settings.get("timeout", 10.0))
    sessions = Sessions(store, hooks=hooks)
    await sessions.resolve("k")
    hooks.on(SessionMinted, minted.append)
    return store, sessions, minted


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("write", [patch, renew, touch, delete])
async def test_a_commit_that_nobody_answered_is_looked_for(write: Write, fault: Fault, lend: Callable[[], str]) -> None:
    """Whether it had happened or not, it has happened once, and the caller is told what it did."""
    async with a_proxy(lend()) as proxy:
        store, sessions, minted = await opened(proxy)
        before = await sessions.get("k")
        assert before is not None
        proxy.fail(fault, COMMIT)
        told = await write(sessions)
        assert proxy.happened.is_set()
        after = await sessions.get("k")
        if write is delete:
            assert (told, after) == (True, None)
            assert (await sessions.resolve("k")).version == 2
        elif write is touch:
            assert after is not None
            assert (after.version, after.last_activity_at > before.last_activity_at) == (1, True)
        else:
            assert after is not None
            assert isinstance(told, Session)
            assert (told.id, told.version, told.fields) == (after.id, 2, after.fields)
        assert len(minted) == (write is renew) + (write is delete)
        await store.aclose()


async def test_a_mint_that_nobody_answered_is_adopted(lend: Callable[[], str]) -> None:
    """It was committed: its caller is the one to whom it is new."""
    async with a_proxy(lend()) as proxy:
        store, sessions, minted = await opened(proxy)
        proxy.fail("after", COMMIT, spare=1)  # the first is that of the read
        session = await sessions.resolve("new")
        assert proxy.happened.is_set()
        assert session.is_new
        assert [event.session_id for event in minted] == [session.id]
        assert await sessions.get("new") == Session.of(session)
        await store.aclose()


async def test_a_mint_of_which_there_is_nothing_is_an_error(lend: Callable[[], str]) -> None:
    """It may have been there and be deleted by now: the next call mints another id, and brings none back."""
    async with a_proxy(lend()) as proxy:
        store, sessions, minted = await opened(proxy)
        proxy.fail("before", COMMIT, spare=1)
        with pytest.raises(SessionOutcomeUnknown, match="read it before you go on") as caught:
            await sessions.resolve("new")
        assert (caught.value.key, caught.value.operation) == ("new", "reserve")
        assert minted == []
        assert (await sessions.resolve("new")).is_new
        await store.aclose()


@pytest.mark.parametrize("write", [mint, patch, renew, delete, touch])
async def test_an_outcome_that_can_not_be_found_out_is_told(write: Write, lend: Callable[[], str]) -> None:
    """The server is gone when it is looked for."""
    async with a_proxy(lend()) as proxy:
        store, sessions, _ = await opened(proxy)
        proxy.fail("after", COMMIT, times=20, spare=int(write is mint))
        with pytest.raises(SessionOutcomeUnknown, match="while it was committed"):
            await write(sessions)
        proxy.times = 0
        await store.aclose()


def before_it_is_looked_for(store: PostgresqlSessionStore, act: Callable[[], Awaitable[object]]) -> None:
    """Have others act when a commit was not answered and nobody has looked for it yet."""
    look = store._outcome

    async def later(*args: Any, **named: Any) -> Any:
        await act()
        return await look(*args, **named)

    store._outcome = later  # type: ignore[method-assign]


@pytest.mark.parametrize("write", [patch, renew])
async def test_an_outcome_that_somebody_has_written_over_is_told(write: Write, lend: Callable[[], str]) -> None:
    """What this write did, or did not, is not to be seen any more; nothing is written a second time."""
    async with a_proxy(lend()) as proxy, Sessions(proxy.url) as others:
        store, sessions, _ = await opened(proxy)
        before_it_is_looked_for(store, lambda: others.patch("k", {"n": 2}))
        proxy.fail("after", COMMIT)
        with pytest.raises(SessionOutcomeUnknown):
            await write(sessions)
        found = await sessions.get("k")
        assert found is not None
        assert (found.version, found.fields) == (3, {"n": 2})
        await store.aclose()


@pytest.mark.parametrize("write", [plain_patch, renew])
async def test_who_writes_in_its_place_shows_that_it_did_not_happen(write: Write, lend: Callable[[], str]) -> None:
    """The version it would have had is another's: it is written now, above that."""
    async with a_proxy(lend()) as proxy, Sessions(proxy.url) as others:
        store, sessions, _ = await opened(proxy)
        before_it_is_looked_for(store, lambda: others.patch("k", {"other": 2}))
        proxy.fail("before", COMMIT)
        told = await write(sessions)
        found = await sessions.get("k")
        assert found is not None
        assert isinstance(told, Session)
        assert (found.id, found.version, found.fields) == (told.id, 3, told.fields)
        assert found.fields["other"] == 2
        await store.aclose()


async def test_a_mint_that_was_changed_meanwhile_is_told_as_unknown(lend: Callable[[], str]) -> None:
    """Its caller is told no later entry as its own, nor that somebody else's is the one it found."""
    for change in (others_patch, others_put_another):
        async with a_proxy(lend()) as proxy, Sessions(proxy.url) as others:
            store, sessions, minted = await opened(proxy)
            before_it_is_looked_for(store, partial(change, others))
            proxy.fail("after", COMMIT, spare=1)  # the first is that of the read
            with pytest.raises(SessionOutcomeUnknown):
                await sessions.resolve("new")
            assert minted == []
            await store.aclose()


async def others_patch(others: Sessions) -> None:
    await others.patch("new", {"n": 1})


async def others_put_another(others: Sessions) -> None:
    await others.delete("new")
    await others.resolve("new")


async def test_a_mint_whose_place_another_took_is_the_others(lend: Callable[[], str]) -> None:
    """It did not happen: the version says so."""
    async with a_proxy(lend()) as proxy, Sessions(proxy.url) as others:
        store, sessions, minted = await opened(proxy)
        before_it_is_looked_for(store, lambda: others.resolve("new"))
        proxy.fail("before", COMMIT, spare=1)
        session = await sessions.resolve("new")
        assert (session.is_new, minted) == (False, [])
        assert await others.get("new") == session
        await store.aclose()


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_of_two_deletes_one_tells_that_there_was_something(fault: Fault, lend: Callable[[], str]) -> None:
    """Also where the first is not answered and finds nothing when it is looked for."""
    async with a_proxy(lend()) as proxy, Sessions(proxy.url) as others:
        store, sessions, _ = await opened(proxy)
        told: list[bool] = []

        async def delete_it() -> None:
            told.append(await others.delete("k"))

        before_it_is_looked_for(store, delete_it)
        proxy.fail(fault, COMMIT)
        told.append(await sessions.delete("k"))
        assert told == ([True, False] if fault == "before" else [False, True])
        await store.aclose()


async def test_a_touch_that_nobody_answered_is_not_done_twice(lend: Callable[[], str]) -> None:
    """It is no activity of the session that came after it, by a clock that is behind."""
    async with a_proxy(lend()) as proxy, PostgresqlSessionStore(proxy.url) as others:
        store, _, _ = await opened(proxy)
        before_it_is_looked_for(store, lambda: others.mutate("k", lambda entry: rebound(entry, "another", at=50.0)))
        later = time.time() + 1000
        proxy.fail("after", COMMIT)
        await store.touch("k", at=later)
        found = await store.read("k")
        assert found is not None
        assert (found.id, found.last_activity_at) == ("another", 50.0)
        await store.aclose()


@pytest.mark.parametrize("write", [mint_again, delete_none, plain_patch])
async def test_where_nothing_is_written_nothing_is_unknown(write: Write, lend: Callable[[], str]) -> None:
    """Though the end of the transaction is not answered, and the server not asked again."""
    async with a_proxy(lend()) as proxy, Sessions(proxy.url) as others:
        store, sessions, _ = await opened(proxy)
        await others.patch("k", {"n": 1})
        proxy.fail("before", COMMIT, times=20)
        await write(sessions)
        proxy.times = 0
        await store.aclose()


async def test_a_row_that_is_lost_gets_a_new_id(postgresql: PostgresqlDatabase, lend: Callable[[], str]) -> None:
    """Nothing is derived from the key: an old conversation is not found again."""
    url = lend()
    async with Sessions(url) as sessions:
        before = await sessions.resolve("k")
        await postgresql.aexecute(f"TRUNCATE {address_in(url).schema}.session")
        after = await sessions.resolve("k")
        assert after.is_new
        assert after.id != before.id
        assert await sessions.find(before.id) is None


@pytest.mark.parametrize(
    "damage",
    [
        "fields = '[1]'",
        "fields = '{\"a\": 1e999}'",
        "id = ''",
        "created_at = 'NaN'",
        "last_activity_at = 'Infinity'",
    ],
)
async def test_an_entry_that_can_not_be_read_is_an_error_until_it_is_deleted(
    damage: str, postgresql: PostgresqlDatabase, lend: Callable[[], str]
) -> None:
    """Nothing is minted in its place; the error says where it is; deleting it is possible and heals."""
    url = lend()
    async with Sessions(url) as sessions:
        await sessions.resolve("k")
        await sessions.resolve("other")
        await postgresql.aexecute(f"UPDATE {address_in(url).schema}.session SET {damage} WHERE key = 'k'")
        for call in (sessions.resolve, sessions.get, sessions.renew):
            with pytest.raises(SessionCorrupt) as caught:
                await call("k")
            assert caught.value.key == "k"
            assert url in caught.value.where
        with pytest.raises(SessionCorrupt):
            await sessions.patch("k", {"a": 1})
        with pytest.raises(SessionCorrupt):
            await sessions.list()
        assert not (await sessions.resolve("other")).is_new
        assert await sessions.delete("k")
        assert (await sessions.resolve("k")).is_new


async def test_nothing_blocks_the_event_loop(lend: Callable[[], str]) -> None:
    """Opening, minting, reading, changing and closing make no blocking call but for files of the driver's."""
    url = lend()
    with blockbuster_ctx() as detector:
        for looked_for in ("os.stat", "os.path.abspath"):  # passwords and certificates, when it connects
            detector.functions[looked_for].deactivate()
        async with Sessions(url) as sessions:
            await asyncio.gather(*(sessions.resolve("k") for _ in range(20)))
            await sessions.patch("k", {"a": 1})
            await sessions.touch("k")
            await sessions.renew("k")
            await sessions.list()
            await sessions.delete("k")


async def test_deleting_and_minting_never_repeat_a_version(lend: Callable[[], str]) -> None:
    """However many delete and mint one key at once."""
    url = lend()
    seen: list[tuple[str, int]] = []
    async with Sessions(url) as first, Sessions(url) as second:

        async def mint_and_delete(sessions: Sessions) -> None:
            for _ in range(15):
                session = await sessions.resolve("k")
                if session.is_new:
                    seen.append((session.id, session.version))
                await sessions.delete("k")

        await asyncio.gather(*(mint_and_delete(sessions) for sessions in (first, second, first, second)))
    versions = [version for _, version in seen]
    assert len(set(versions)) == len(versions) > 0


@pytest.mark.stress
@pytest.mark.timeout(300)
async def test_no_update_is_lost_or_made_twice_while_connections_are_ended(
    postgresql: PostgresqlDatabase, lend: Callable[[], str], seed: int, long_form: bool
) -> None:
    """Counters with `expected_version`: what was acknowledged is there once, what was not known is there or not."""
    random, url = Random(seed), lend()
    acknowledged = unknown = 0
    stop = asyncio.Event()

    async def count_on(sessions: Sessions) -> None:
        nonlocal acknowledged, unknown
        while not stop.is_set():
            try:
                session = await sessions.resolve("k")
                n = session.fields.get("n", 0)
                assert isinstance(n, int)
                await sessions.patch("k", {"n": n + 1}, expected_version=session.version)
                acknowledged += 1
            except SessionConflict:
                continue
            except SessionStoreUnavailable:
                continue
            except SessionOutcomeUnknown:
                unknown += 1

    async with Sessions(url) as first, Sessions(url) as second:
        await first.resolve("k")
        work = [asyncio.ensure_future(count_on(sessions)) for sessions in (first, second, first, second)]
        for _ in range(200 if long_form else 8):
            await asyncio.sleep(random.uniform(0, 0.02))
            await asyncio.to_thread(postgresql.terminate_others)
        stop.set()
        await asyncio.gather(*work)
        found = await first.resolve("k")
    assert acknowledged > 0
    assert acknowledged <= cast("int", found.fields["n"]) <= acknowledged + unknown


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_what_a_killed_process_was_told_is_there(lend: Callable[[], str], seed: int, long_form: bool) -> None:
    """Kill -9 in the middle of patches: the last version it was told, or the one after it, whole."""
    random, url = Random(seed), lend()
    for number in range(20 if long_form else 2):
        worker = subprocess.Popen([sys.executable, str(WORKER), url, "k"], stdout=subprocess.PIPE, text=True)
        output = cast("IO[str]", worker.stdout)
        versions = [int(output.readline()) for _ in range(random.randrange(1, 60))]
        worker.kill()
        versions += [int(line) for line in output.read().split("\n")[:-1] if line]
        worker.wait()
        output.close()
        found = asyncio.run(Sessions(url).get("k"))
        assert found is not None
        assert found.version in (versions[-1], versions[-1] + 1), f"round {number}"
        assert found.fields["left"] == found.fields["right"]
        assert versions == list(range(versions[0], versions[-1] + 1))


async def test_repr_tells_the_state(lend: Callable[[], str]) -> None:
    """One line that names the database and whether it is open."""
    url = lend()
    store = PostgresqlSessionStore(url)
    assert repr(store) == f"<PostgresqlSessionStore {url} not open>"
    async with store:
        assert repr(store) == f"<PostgresqlSessionStore {url} open>"


async def test_what_was_read_can_be_paged(lend: Callable[[], str]) -> None:
    """A prefix at the end of what text can be has no end; surrogates in between are stepped over."""
    keys = ["\ud7ff", "\ud7ffa", "\ue000", "\U0010ffff", "\U0010ffff\U0010ffff", "z"]
    numbers = count()
    async with PostgresqlSessionStore(lend()) as store:
        for key in keys:
            await store.reserve(key, f"id-{next(numbers)}", at=1.0, replaces=None)
        for prefix in ("\ud7ff", "\U0010ffff", "\U0010ffff\U0010ffff", "z", ""):
            found = [entry.key for entry in await store.list(prefix, 10)]
            assert found == sorted(key for key in keys if key.startswith(prefix))
