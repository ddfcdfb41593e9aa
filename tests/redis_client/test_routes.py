"""Commands find their server: through Sentinels to the master of the moment, in a cluster to the node of their slot."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from support.redis_servers import RedisServer, private_redis
from turnlane.redis import RedisClient, Unreachable, address_in
from turnlane.sessions import RedisSessionStore, Sessions
from turnlane.testing.session_store_suite import CHECKS

PATIENCE = 30


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """A cluster of two masters, the slots in halves."""
    with ExitStack() as stack:
        running: list[RedisServer] = []
        for n in range(2):
            place = tmp_path / str(n)
            place.mkdir()
            running.append(stack.enter_context(private_redis(place, "--cluster-enabled", "yes")))
        outside: list[Any] = [stack.enter_context(server.client()) for server in running]
        outside[0].execute_command("CLUSTER ADDSLOTS", *range(8192))
        outside[1].execute_command("CLUSTER ADDSLOTS", *range(8192, 16384))
        outside[1].execute_command("CLUSTER SET-CONFIG-EPOCH", 2)
        outside[0].execute_command("CLUSTER MEET", "127.0.0.1", running[1].port)
        for node in outside:
            until(partial(is_ready, node))
        yield running


def is_ready(node: Any) -> bool:
    return bool(node.cluster("INFO")["cluster_state"] == "ok")


def until(happened: Callable[[], bool]) -> None:
    """Return when something has happened in another process, which nobody here can tell."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def url_of(nodes: list[RedisServer]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


async def test_a_cluster_redirects_to_the_node_of_a_slot(nodes: list[RedisServer]) -> None:
    """Whichever node was named; what was learned is used from then on."""
    for n, named in enumerate((nodes, nodes[::-1], nodes[1:]), 1):
        client = RedisClient(address_in(url_of(named)), timeout=5)
        assert set(await asyncio.gather(*(client.command("INCR", f"key-{m}") for m in range(50)))) == {n}
        await client.aclose()
    for node in nodes:
        with node.client() as outside:
            assert outside.dbsize() > 0


async def test_a_slot_on_its_way_is_asked_for_where_it_goes(nodes: list[RedisServer]) -> None:
    """ASK sends one command on and nothing is learned of it; MOVED comes when the slot has arrived."""
    client = RedisClient(address_in(url_of(nodes)), timeout=5)
    await client.command("SET", "k", "before")
    with nodes[0].client() as low, nodes[1].client() as high:
        slot = int(str(low.execute_command("CLUSTER KEYSLOT", "k")))
        source, target = (low, high) if slot < 8192 else (high, low)
        ids = [client.execute_command("CLUSTER MYID").decode() for client in (source, target)]
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
        value = source.dump("k")
        source.delete("k")
        assert await client.command("GET", "k") is None
        assert await client.command("SET", "k", "on its way") == b"OK"
        assert await client.command("GET", "k") == b"on its way"
        assert value is not None
        for end in (target, source):
            end.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
    assert await client.command("GET", "k") == b"on its way"
    await client.aclose()


async def test_a_store_in_a_cluster_keeps_the_contract(nodes: list[RedisServer]) -> None:
    """All checks of the suite, each on a store of its own, on either node."""
    for n, check in enumerate(CHECKS):
        async with RedisSessionStore(url_of(nodes), prefix=f"store-{n}") as store:
            await check(store)


async def test_a_dead_node_is_not_all_there_is(nodes: list[RedisServer]) -> None:
    """The first node that was named is gone: the slots of the other are found through the other."""
    client = RedisClient(address_in(url_of(nodes)), timeout=2)
    with nodes[1].client() as outside:
        outside.config_set("cluster-require-full-coverage", "no")
        high = next(f"k{n}" for n in range(100) if int(str(outside.execute_command("CLUSTER KEYSLOT", f"k{n}"))) > 8191)
    nodes[0].kill()
    assert await client.command("INCR", high) == 1
    await client.aclose()


async def test_a_node_the_others_do_without_is_not_asked_for_ever(nodes: list[RedisServer], tmp_path: Path) -> None:
    """It was named first, and knows of no slots; as one does that was taken out of the cluster."""
    with private_redis(tmp_path, "--cluster-enabled", "yes") as alone:
        client = RedisClient(address_in(url_of([alone, *nodes])), timeout=5)
        assert set(await asyncio.gather(*(client.command("INCR", f"key-{n}") for n in range(20)))) == {1}
        await client.aclose()


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A master, its replica, and a Sentinel that watches them as `main`."""
    with ExitStack() as stack:
        places = [tmp_path / name for name in ("master", "replica", "sentinel")]
        for place in places:
            place.mkdir()
        master = stack.enter_context(private_redis(places[0]))
        behind = ("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
        replica = stack.enter_context(private_redis(places[1], *behind))
        file = places[2] / "sentinel.conf"
        file.write_text(
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
        )
        sentinel = stack.enter_context(private_redis(places[2], "--sentinel", configuration=file))
        with sentinel.client() as outside, replica.client() as second:
            until(lambda: second.info("replication")["master_link_status"] == "up")
            until(lambda: bool(outside.sentinel_slaves("main")))
        yield master, replica, sentinel


def has_begun_a_failover(sentinel: Any) -> bool:
    """Have it begin one; it may not know yet that the replica is fit to be promoted."""
    try:
        sentinel.execute_command("SENTINEL FAILOVER", "main")
    except redis.ResponseError as error:
        if "NOGOODSLAVE" not in str(error):
            raise
        return False
    return True


async def test_sentinels_lead_to_the_new_master(replicated: tuple[RedisServer, RedisServer, RedisServer]) -> None:
    """A failover that the operator asked for: the store goes on, with the entries the replica had."""
    master, replica, sentinel = replicated
    with master.client() as first, replica.client() as second, sentinel.client() as outside:
        gone = "127.0.0.1:1"
        async with Sessions(f"redis+sentinel://{gone},127.0.0.1:{sentinel.port}/main/0") as sessions:
            session = await sessions.resolve("k")
            assert int(first.execute_command("WAIT", 1, 5000)) == 1
            await asyncio.to_thread(until, lambda: has_begun_a_failover(outside))
            await asyncio.to_thread(until, lambda: outside.sentinel_get_master_addr_by_name("main")[1] == replica.port)
            master.kill()
            changed = await sessions.patch("k", {"a": 1})
            assert (changed.id, changed.version) == (session.id, 2)
        assert second.hget("{turnlane:sessions}:entry:k", "version") == b"2"


async def test_a_service_no_sentinel_knows_is_told(replicated: tuple[RedisServer, RedisServer, RedisServer]) -> None:
    """The message names it."""
    client = RedisClient(address_in(f"redis+sentinel://127.0.0.1:{replicated[2].port}/other"), timeout=0.2)
    with pytest.raises(Unreachable, match="knows no 'other'") as caught:
        await client.command("GET", "k")
    assert not caught.value.sent
    await client.aclose()
