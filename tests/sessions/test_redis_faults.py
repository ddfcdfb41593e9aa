"""What a Redis store does when answers are lost: each write is done once, or its outcome is said to be unknown."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from sessions.helpers import T0
from support.net_faults import Action, Direction, Fault, FaultProxy, fault_proxy
from support.redis_servers import RedisServer, private_redis
from turnlane.errors import OutcomeUnknown, SessionError, SessionOutcomeUnknown, SessionStoreUnavailable
from turnlane.sessions import RedisSessionStore, SessionEntry, Sessions
from turnlane.sessions._redis_server import DELETE, REPLACE, RESERVE, TOUCH
from turnlane.sessions.entry import rebound

Write = Callable[[RedisSessionStore], Awaitable[object]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own that knows the scripts, so that what is lost is never the question for one."""
    with private_redis(tmp_path) as running:
        with running.client() as outside:
            for script in (RESERVE, REPLACE, TOUCH, DELETE):
                outside.script_load(script.text)
        yield running


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[FaultProxy]:
    """A proxy before it."""
    async with fault_proxy("127.0.0.1", server.port) as running:
        yield running


def store_at(where: FaultProxy | RedisServer, *, timeout: float = 3.0) -> RedisSessionStore:
    return RedisSessionStore(f"redis://127.0.0.1:{where.port}", timeout=timeout)


@pytest.fixture
async def direct(server: RedisServer) -> AsyncIterator[RedisSessionStore]:
    """The same entries by a way on which nothing is lost."""
    async with store_at(server) as store:
        yield store


def counted(entry: SessionEntry) -> SessionEntry:
    """A change that shows how often it was made."""
    return replace(entry, version=entry.version + 1)


async def mint(store: RedisSessionStore) -> object:
    return await store.reserve("new", "id-new", at=T0, replaces=None)


async def mint_again(store: RedisSessionStore) -> object:
    return await store.reserve("k", "id-2", at=T0 + 9, replaces=await store.read("k"))


async def change(store: RedisSessionStore) -> object:
    return await store.mutate("k", counted)


async def renew(store: RedisSessionStore) -> object:
    return await store.mutate("k", lambda entry: rebound(entry, "id-3", at=T0 + 9))


async def touch(store: RedisSessionStore) -> object:
    await store.touch("k", at=T0 + 5)
    return None


async def delete(store: RedisSessionStore) -> object:
    return await store.delete("k")


WRITES: tuple[Write, ...] = (mint, mint_again, change, renew, touch, delete)


def mark_of(write: Write) -> bytes:
    """What a write is known by on its way: its script, or in a delete the id, which its first step has not."""
    if write is delete:
        return b"id-1"
    return (RESERVE if write in (mint, mint_again) else TOUCH if write is touch else REPLACE).sha.encode()


async def state(store: RedisSessionStore) -> object:
    return await store.list("", 10), await store.read("k"), await store.read("new"), await store.read_by_id("id-1")


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("direction", get_args(Direction))
@pytest.mark.parametrize("action", ["reset", "cut", "swallow"])
async def test_a_write_is_done_once_whatever_is_lost(
    write: Write,
    direction: Direction,
    action: Action,
    server: RedisServer,
    proxy: FaultProxy,
    direct: RedisSessionStore,
) -> None:
    """Its request or its answer is lost; its caller hears what it would have heard, and everybody sees it once."""
    await direct.reserve("k", "id-1", at=T0, replaces=None)
    with server.client() as outside:
        before = {name: outside.dump(name) for name in outside.keys("*")}
        wanted = await write(direct), await state(direct)
        outside.flushdb()
        for name, value in before.items():
            outside.restore(name, 0, value)
    store = store_at(proxy, timeout=1.2)
    await store.read("k")
    proxy.arm(Fault(direction=direction, action=action), at=mark_of(write))
    found = await write(store)
    assert proxy.struck.is_set()
    assert (found, await state(direct)) == wanted
    await store.aclose()


@pytest.mark.parametrize("write", WRITES)
async def test_a_request_that_arrives_late_does_nothing(
    write: Write, server: RedisServer, proxy: FaultProxy, direct: RedisSessionStore
) -> None:
    """Held back on its way, done by its repetition, and undone by somebody before it arrives: it stays undone."""
    await direct.reserve("k", "id-1", at=T0, replaces=None)
    store = store_at(proxy, timeout=1.5)
    await store.read("k")
    proxy.arm(Fault(direction="up", action="hold"), at=mark_of(write))
    await write(store)
    for key in ("k", "new"):
        await direct.delete(key)
    await direct.reserve("k", "id-9", at=T0, replaces=None)
    before = await state(direct)
    with server.client() as outside:  # also where the answer was kept for no longer
        for name in outside.keys("*:done:*"):
            if write is not touch:
                outside.delete(name)
    await proxy.let_go()
    assert await state(direct) == before
    assert await direct.read_by_id("id-new") is None
    await store.aclose()


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_is_never_answered_is_unknown(
    write: Write, server: RedisServer, proxy: FaultProxy, direct: RedisSessionStore
) -> None:
    """It is not called failed, and here it was done; what is certain to have arrived nowhere is called failed."""
    await direct.reserve("k", "id-1", at=T0, replaces=None)
    store = store_at(proxy, timeout=1.0)
    await store.read("k")
    before = await state(direct)
    proxy.arm(Fault(direction="down", action="swallow"), at=mark_of(write), again=True)
    with pytest.raises(
        SessionOutcomeUnknown, match=r"redis:.* may or may not have been able to .*: no answer"
    ) as caught:
        await write(store)
    assert isinstance(caught.value, OutcomeUnknown)
    assert isinstance(caught.value, SessionError)
    assert await state(direct) != before
    proxy.disarm()
    proxy.reset_all()
    proxy.refuse(True)
    before = await state(direct)
    with pytest.raises(SessionStoreUnavailable, match=r"could not .* no answer within 1 s"):
        await write(store)
    proxy.refuse(False)
    assert await state(direct) == before
    await store.aclose()


@pytest.mark.parametrize("read", ["read", "read_by_id", "list"])
async def test_a_read_that_is_never_answered_is_unavailable(read: str, proxy: FaultProxy) -> None:
    """Nothing can be unknown about it; when the network is sound again it is answered."""
    store = store_at(proxy, timeout=1.0)
    await store.reserve("k", "id-1", at=T0, replaces=None)
    arguments = ("", 5) if read == "list" else ("k",)
    proxy.strike(Fault(direction="down", action="swallow"))
    proxy.refuse(True)
    with pytest.raises(SessionStoreUnavailable, match=rf"could not {read[:4]} ") as caught:
        await getattr(store, read)(*arguments)
    assert isinstance(caught.value, ConnectionError)
    proxy.refuse(False)
    await getattr(store, read)(*arguments)
    await store.aclose()


async def test_a_minter_whose_answer_was_lost_is_told_and_all_get_its_id(proxy: FaultProxy) -> None:
    """50 first requests of a key, the answers of many are lost: one id, and `is_new` for one."""
    async with Sessions(store_at(proxy, timeout=30.0)) as sessions:
        await sessions.get("k")
        for n in range(10):
            proxy.strike(Fault(direction="down", after=n * 40))
            found = await asyncio.gather(*(sessions.resolve(f"key-{n}") for _ in range(50)))
            assert len({session.id for session in found}) == 1
            assert sum(session.is_new for session in found) == 1


async def test_a_server_that_is_stopped_and_started_keeps_its_sessions(tmp_path: Path) -> None:
    """With an append-only file of its own, as its operator configured it; clients find it again."""
    with private_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        async with Sessions(f"{server.url}/0") as sessions:
            session = await sessions.resolve("k")
            server.kill()
            with pytest.raises(SessionStoreUnavailable):
                await Sessions(store_at(server, timeout=0.2)).resolve("k")
            server.start()
            assert (await sessions.resolve("k")).id == session.id


async def test_a_server_that_lost_everything_gives_new_ids(server: RedisServer) -> None:
    """After FLUSHALL, and after a restart without a file: never an id that was there before."""
    async with Sessions(f"{server.url}/0") as sessions:
        ids = [(await sessions.resolve("k")).id]
        with server.client() as outside:
            outside.flushall()
        ids.append((await sessions.resolve("k")).id)
        server.kill()
        server.start()
        session = await sessions.resolve("k")
        assert session.is_new
        assert len({*ids, session.id}) == 3
        assert await sessions.find(ids[0]) is None


async def test_a_full_server_refuses_and_changes_nothing(server: RedisServer) -> None:
    """Out of memory: unavailable, with the server's reason; reading goes on."""
    async with Sessions(f"{server.url}/0") as sessions:
        session = await sessions.resolve("k")
        with server.client() as outside:
            outside.config_set("maxmemory", 1)
            for refused in (sessions.patch("k", {"a": 1}), sessions.resolve("new"), sessions.touch("k")):
                with pytest.raises(SessionStoreUnavailable, match="OOM"):
                    await refused
            assert await sessions.get("k") == session.of(session)
            assert await sessions.get("new") is None
            outside.config_set("maxmemory", 0)
        assert (await sessions.patch("k", {"a": 1})).version == 2
