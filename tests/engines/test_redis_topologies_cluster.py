"""Lanes and sessions in a cluster: slots that move, masters that are replaced or killed, notes from node to node."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from itertools import cycle

import pytest

from engines.redis_rig import PATIENCE, Line, engines, lanes_on, made_known
from support.lanes_traffic import Traffic, traffic_on
from support.redis_servers import RedisServer
from support.redis_topologies import Cluster, Node, redis_cluster
from turnlane import Lanes
from turnlane.engines import Granted
from turnlane.engines.redis import RedisEngine
from turnlane.engines.redis.scripts import BUCKETS, Names
from turnlane.sessions import RedisSessionStore, Sessions
from turnlane.testing import engine_suite

KEYS = [f"k{number}" for number in range(60)]
LINE = "the line"
# A holder gives up after two thirds of its lease. A node that has begun anew takes no writes for two seconds; where the
# vote on a new master fails, the next one is four seconds later.
LEASE = 12.0
LEASE_FOR_VOTES = 30.0


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster, None, None]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """One that is whole: three masters, each with a replica."""
    shared_cluster.heal()
    return shared_cluster


@pytest.fixture
def prefix() -> str:
    return f"turnlane-test:{uuid.uuid4().hex}"


def engine_at_some(nodes: Iterator[RedisServer], options: str) -> RedisEngine:
    return RedisEngine(f"redis+cluster://127.0.0.1:{next(nodes).port}{options}")


async def test_a_cluster_keeps_what_is_promised(cluster: Cluster, long_form: bool) -> None:
    """The suite of engines, by engines that were told of different nodes."""
    nodes = cycle(cluster.servers)
    for check in engine_suite.CHECKS[:: 1 if long_form else 3]:
        options = f"?prefix=turnlane-test:{uuid.uuid4().hex}"
        await made_known(cluster.url + options)
        await check(partial(engine_at_some, nodes, options))


async def test_notes_reach_workers_at_every_node(cluster: Cluster, prefix: str) -> None:
    """Also those that hear them at a replica: published once, at whatever node has the lane."""
    urls = [f"redis+cluster://127.0.0.1:{server.port}?prefix={prefix}" for server in cluster.servers]
    await made_known(urls[0])
    async with AsyncExitStack() as stack:
        workers = [(await stack.enter_async_context(engines(url, 1, lease=120.0)))[0] for url in urls]
        heard_at: set[int] = set()
        for server in cluster.servers:
            with server.client() as client:
                channels = client.pubsub_channels()
            heard_at |= {server.port for worker in workers if f"{prefix}:worker:{worker.name}".encode() in channels}
        assert len(heard_at) > len(cluster.masters())
        for key in KEYS[:12]:
            held = await workers[0].hold(key)
            line = [(worker, await worker.stand(key)) for worker in workers[1:]]
            await workers[0].leave(held.ticket, key)
            token = held.token
            for worker, ticket in line:
                granted = await worker.told(Granted, ticket)
                assert granted.token > token
                token = granted.token
                await worker.leave(ticket, key)


@asynccontextmanager
async def traffic_in(
    cluster: Cluster, prefix: str, seed: int, *, lease: float
) -> AsyncGenerator[tuple[Traffic, list[Lanes]]]:
    """Have turns during a block."""
    url = f"{cluster.url}?prefix={prefix}"
    await made_known(url)
    async with (
        lanes_on(url, 3, lease=lease) as lanes,
        traffic_on(lanes, KEYS, seed, patience=PATIENCE + lease) as traffic,
    ):
        yield traffic, lanes


def keys_of_buckets(prefix: str) -> list[bytes]:
    return [Names(prefix).bucket(number) for number in range(BUCKETS)]


def has_the_line(cluster: Cluster, prefix: str) -> Node:
    """The master that has the lane of `LINE`."""
    names = Names(prefix)
    return cluster.masters_of([names.bucket(names.bucket_of(LINE))])[0]


@pytest.mark.timeout(300)
async def test_slots_go_from_node_to_node_during_turns(
    cluster: Cluster, prefix: str, seed: int, long_form: bool
) -> None:
    """Nobody is refused, or runs beside another, or has to begin again."""
    moves, slots = (12, 3000) if long_form else (2, 600)
    moved = 0
    async with traffic_in(cluster, prefix, seed, lease=LEASE_FOR_VOTES) as (traffic, _):
        for number in range(moves):
            masters = sorted(cluster.masters(), key=lambda node: node.port)
            before = cluster.masters_of(keys_of_buckets(prefix))
            await asyncio.to_thread(cluster.reshard, masters[number % 3], masters[(number + 1) % 3], slots)
            moved += sum(
                was != now for was, now in zip(before, cluster.masters_of(keys_of_buckets(prefix)), strict=True)
            )
    assert moved
    traffic.require_order()
    assert (traffic.lost, sum(traffic.refused.values())) == (0, 0)


@pytest.mark.timeout(300)
async def test_replicas_take_the_place_of_their_masters_during_turns(
    cluster: Cluster, prefix: str, seed: int, long_form: bool
) -> None:
    """As an operator has them do it: nothing is lost, nobody refused."""
    async with traffic_in(cluster, prefix, seed, lease=LEASE_FOR_VOTES) as (traffic, _):
        for _ in range(4 if long_form else 1):
            for master in cluster.masters():
                await asyncio.to_thread(cluster.fail_over, master)
                await traffic.go_on_for(20)
            await asyncio.to_thread(cluster.heal)
    traffic.require_order()
    assert (traffic.lost, sum(traffic.refused.values())) == (0, 0)


def killed(cluster: Cluster, prefix: str) -> None:
    """A master with lanes; its replica takes its place."""
    master = has_the_line(cluster, prefix)
    cluster.server_at(master.port).kill()
    cluster.wait_for_another(master)


def restarted(cluster: Cluster, prefix: str) -> None:
    """A master with lanes; it comes back before it is missed, with nothing of what it had."""
    server = cluster.server_at(has_the_line(cluster, prefix).port)
    server.kill()
    server.start()


Trouble = Callable[[Cluster, str], None]


@pytest.fixture
def is_chosen(trouble: Trouble, long_form: bool) -> None:
    if trouble is restarted and not long_form:
        pytest.skip("in the long form")


@pytest.mark.parametrize("trouble", [killed, restarted], ids=lambda trouble: trouble.__name__)
@pytest.mark.timeout(300)
async def test_a_master_dies_during_turns(
    trouble: Trouble, is_chosen: None, cluster: Cluster, prefix: str, seed: int, long_form: bool
) -> None:
    """Who has a lane keeps it, who waits keeps its place, tokens grow; who is refused is so soon, and told why.

    Of the steps of the last moment a replica may not have been told.
    """
    lease, times = LEASE_FOR_VOTES if trouble is killed else LEASE, 3 if long_form else 1
    async with traffic_in(cluster, prefix, seed, lease=lease) as (traffic, lanes):
        for _ in range(times):
            line = Line(lanes, LINE)
            async with aclosing(line):
                await line.form()
                await asyncio.to_thread(trouble, cluster, prefix)
                await line.go()
            await asyncio.to_thread(cluster.heal)
    traffic.require_order(forgotten=times if trouble is killed else 0)
    assert set(traffic.refused) <= {"EngineUnavailable"}
    assert traffic.longest < 10


async def test_sessions_outlive_a_master(cluster: Cluster, prefix: str) -> None:
    """What a replica has is there when it takes the place of its master; the same keys lead to the same ids."""
    url = f"{cluster.url}?prefix={prefix}"
    async with Sessions(RedisSessionStore(url, timeout=30)) as sessions:
        before = {key: await sessions.resolve(key) for key in KEYS}
        master = cluster.masters_of([f"{{{prefix}}}:layout".encode()])[0]
        with cluster.server_at(master.port).client() as client:
            assert int(client.execute_command("WAIT", 1, 5000)) == 1
        cluster.server_at(master.port).kill()
        patched = await sessions.patch(KEYS[0], {"a": 1})
        assert (patched.id, patched.version) == (before[KEYS[0]].id, 2)
        after = {key: await sessions.resolve(key) for key in KEYS}
        assert {key: session.id for key, session in after.items()} == {key: each.id for key, each in before.items()}
