"""What a store in Redis promises beyond the contract: what it keeps, what it finds wrong, loops and forks."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from sessions.helpers import T0
from support.redis_servers import client_of, key_prefix, private_redis, redis_server, redis_url
from turnlane.errors import NotConfigured, SessionCorrupt, SessionStoreUnavailable
from turnlane.sessions import RedisSessionStore, Sessions
from turnlane.sessions import redis as redis_store

posix = pytest.mark.skipif(sys.platform == "win32", reason="fork")


@pytest.fixture
def prefix() -> Iterator[str]:
    """A prefix nobody else has."""
    with key_prefix() as made:
        yield made


@pytest.fixture
def outside() -> Iterator[Any]:
    """Another client of the same server."""
    with client_of(redis_server(), decode_responses=True) as client:
        yield client


def store_with(prefix: str) -> RedisSessionStore:
    return RedisSessionStore(redis_server(), prefix=prefix)


def names(outside: Any, prefix: str) -> set[str]:
    """What kinds of keys there are, the answers that are kept for a while left out."""
    found = {name.removeprefix(f"{{{prefix}}}:") for name in outside.scan_iter(match=f"{{{prefix}}}:*")}
    return {name for name in found if not name.startswith("done:")}


async def test_entries_never_expire(prefix: str, outside: Any) -> None:
    """Nor does what leads to them; answers do, and ids that must not be bound again."""
    async with store_with(prefix) as store:
        await store.reserve("k", "id-1", at=T0, replaces=None)
        await store.reserve("k", "id-2", at=T0 + 1, replaces=await store.read("k"))
        await store.touch("k", at=T0 + 2)
        await store.reserve("gone", "id-3", at=T0, replaces=None)
        await store.delete("gone")
    lasting = {"entry:k", "id:id-2", "keys", "floor", "layout"}
    assert names(outside, prefix) == lasting | {"id:id-1", "id:id-3"}
    for name in outside.scan_iter(match=f"{{{prefix}}}:*"):
        expires = outside.pttl(name)
        assert (expires == -1) == (name.removeprefix(f"{{{prefix}}}:") in lasting), name


async def test_all_keys_of_a_store_are_in_one_slot(prefix: str, outside: Any) -> None:
    """Braces in a session key or an id change nothing about the hash tag."""
    async with store_with(prefix) as store:
        for n, key in enumerate(("{a}", "}{b}", "c", "\x00")):
            await store.reserve(key, f"{{id}}-{n}", at=T0, replaces=None)
        assert [entry.key for entry in await store.list("", 9)] == ["\x00", "c", "{a}", "}{b}"]
    for name in outside.scan_iter(match=f"{{{prefix}}}:*"):
        assert name.startswith(f"{{{prefix}}}:")


async def test_stores_with_different_prefixes_know_nothing_of_each_other(prefix: str) -> None:
    """Also where one prefix begins with the other."""
    async with store_with(prefix) as one, store_with(f"{prefix}:more") as other:
        await one.reserve("k", "id-1", at=T0, replaces=None)
        assert await other.read("k") is None
        assert await other.read_by_id("id-1") is None
        assert await other.list("", 5) == ()
        assert (await other.reserve("k", "id-1", at=T0, replaces=None)).won


async def test_a_long_list_is_read_in_steps(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, without a gap, and no further than asked."""
    monkeypatch.setattr(redis_store, "PAGE", 3)
    keys = sorted(f"k{n}" for n in range(10))
    async with store_with(prefix) as store:
        for key in reversed(keys):
            await store.reserve(key, f"id-{key}", at=T0, replaces=None)
        for limit in range(1, 12):
            assert [entry.key for entry in await store.list("k", limit)] == keys[:limit]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", "x", "int"),
        ("version", "01", "its version '01'"),
        ("id", "", "its id is ''"),
        ("fields", "{", "Expecting"),
        ("fields", "[1]", "not a JSON object"),
        ("fields", b"\xff", "utf-8"),
        ("fields", '{"a":' + "[" * 100_000, "recursion|nested"),
        ("created_at", "nan", "it holds the time"),
        ("last_activity_at", "soon", "float"),
        ("updated_at", None, "a part of it is missing"),
    ],
)
async def test_a_damaged_entry_is_named_and_can_be_deleted(
    field: str, value: "str | bytes | None", reason: str, prefix: str, outside: Any
) -> None:
    """Nothing is skipped or mended silently; the others are readable, and deleting is what helps."""
    async with store_with(prefix) as store:
        for n, key in enumerate(("k", "other")):
            await store.reserve(key, f"id-{n}", at=T0, replaces=None)
        name = f"{{{prefix}}}:entry:k"
        outside.hdel(name, field) if value is None else outside.hset(name, field, value)
        for work in (store.read("k"), store.list("", 5), store.reserve("k", "id-9", at=T0, replaces=None)):
            with pytest.raises(SessionCorrupt, match=reason) as caught:
                await work
            assert caught.value.where.endswith(f"key {name}")
        with pytest.raises(SessionCorrupt):
            await store.mutate("k", lambda entry: entry)
        assert await store.read("other") is not None
        assert await store.delete("k")
        assert await store.read("k") is None
        assert [entry.key for entry in await store.list("", 5)] == ["other"]


async def test_a_key_that_holds_something_else_is_named_and_can_be_deleted(prefix: str, outside: Any) -> None:
    """Another type, and a hash of something else."""
    async with store_with(prefix) as store:
        for write, *value in ((outside.set, "text"), (outside.hset, "x", "y")):
            write(f"{{{prefix}}}:entry:k", *value)
            with pytest.raises(SessionCorrupt):
                await store.reserve("k", "id-9", at=T0, replaces=None)
            assert await store.delete("k")
            assert not await store.delete("k")


async def test_a_store_of_a_later_version_is_not_opened(prefix: str, outside: Any) -> None:
    """The error says what to do."""
    outside.set(f"{{{prefix}}}:layout", "2")
    with pytest.raises(SessionStoreUnavailable, match="its layout has version 2, this turnlane knows 1: upgrade it"):
        await Sessions(store_with(prefix)).resolve("k")


async def test_a_server_that_may_throw_entries_away_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where memory is bounded and any key may go; not where only those that expire may."""
    caplog.set_level(logging.WARNING, "turnlane.sessions")
    with private_redis(tmp_path) as server, server.client() as client:
        for memory, policy, warned in ((0, "allkeys-lru", 0), (10**8, "volatile-lru", 0), (10**8, "allkeys-lfu", 1)):
            client.config_set("maxmemory", memory)
            client.config_set("maxmemory-policy", policy)
            async with RedisSessionStore(server.url):
                assert [record.message.split()[0] for record in caplog.records] == ["sessions_may_be_evicted"] * warned


async def test_nothing_blocks_the_event_loop(prefix: str) -> None:
    """Opening, minting, reading, changing, failing and closing make no blocking call on the loop."""
    store = store_with(prefix)
    elsewhere = RedisSessionStore("redis://127.0.0.1:1", timeout=0.1)
    with blockbuster_ctx():
        async with store, Sessions(store) as sessions:
            await asyncio.gather(*(sessions.resolve("k") for _ in range(20)))
            await sessions.patch("k", {"a": 1})
            await sessions.touch("k")
            await sessions.renew("k")
            await sessions.list()
            await sessions.delete("k")
        with pytest.raises(SessionStoreUnavailable):
            await Sessions(elsewhere).resolve("k")


async def test_an_established_key_is_one_command_and_writes_nothing(prefix: str, outside: Any) -> None:
    """Resolving a fresh key changes no key of the store."""
    async with store_with(prefix) as store, Sessions(store) as sessions:
        first = await sessions.resolve("k")
        before = {name: outside.dump(name) for name in outside.scan_iter(match=f"{{{prefix}}}:*")}
        for _ in range(20):
            assert await sessions.resolve("k") == first.of(first)
        assert before == {name: outside.dump(name) for name in outside.scan_iter(match=f"{{{prefix}}}:*")}


async def test_one_more_thread_can_use_the_same_sessions() -> None:
    """Loops in several threads at the same time share one store."""
    with redis_url() as url:
        async with Sessions(url) as sessions:

            def other() -> set[str]:
                async def many() -> set[str]:
                    found = await asyncio.gather(*(sessions.resolve(f"k{n}") for n in range(50)))
                    return {session.id for session in found}

                return asyncio.run(many())

            here, there, more = await asyncio.gather(
                asyncio.gather(*(sessions.resolve(f"k{n}") for n in range(50))),
                asyncio.to_thread(other),
                asyncio.to_thread(other),
            )
    assert {session.id for session in here} == there == more


def test_sessions_that_were_never_closed_leave_quietly() -> None:
    """A loop that ends closes its connections; dropping the object complains of nothing."""
    with redis_url() as url:
        sessions = Sessions(url)
        first = asyncio.run(sessions.resolve("k"))
        assert asyncio.run(sessions.resolve("k")).id == first.id
        del sessions
        gc.collect()


@posix
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_and_the_parent_goes_on() -> None:
    """Sessions and the store say so; a new object in the child works."""
    with redis_url() as url:
        sessions, store = Sessions(url), RedisSessionStore(url)
        asyncio.run(sessions.resolve("k"))
        asyncio.run(store.read("k"))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for work in (sessions.resolve("k"), store.read("k")):
                    with pytest.raises(NotConfigured, match="after the fork"):
                        asyncio.run(work)
                asyncio.run(sessions.aclose())
                asyncio.run(store.aclose())
                assert not asyncio.run(Sessions(url).resolve("k")).is_new
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert asyncio.run(sessions.patch("k", {"a": 1})).version == 2


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": 61}, {"timeout": float("nan")}, {"max_connections": 0}, {"prefix": "{a}"}]
)
def test_options_are_checked(options: dict[str, object]) -> None:
    """At construction."""
    with pytest.raises(ValueError, match=f"a?{next(iter(options))}"):
        RedisSessionStore("redis://h", **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_repr_tells_the_state_and_no_password(prefix: str) -> None:
    """One line that names the server and whether it is open."""
    secret = RedisSessionStore("redis://me:s3cret@h:1/2?prefix=p")
    assert repr(secret) == "<RedisSessionStore redis://h:1/2?prefix=p not open>"
    assert repr(Sessions("redis://me:s3cret@h:1/2")) == "<Sessions redis://h:1/2 not open>"
    store = store_with(prefix)
    async with store:
        assert repr(store).endswith(" open>")
    assert repr(store).endswith(" not open>")
