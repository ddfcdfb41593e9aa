"""Several Redis servers that belong together: a cluster with replicas, a master that Sentinels watch."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from support.redis_servers import RedisServer, missing, private_redis

__all__ = ("Cluster", "Node", "Watched", "redis_cluster", "until", "watched_by_sentinels")

PATIENCE = 40.0
SLOTS = 16384
MASTERS = 3
NODE_TIMEOUT = 1000  # ms
# A replica counts the votes of its last election until twice the time that one may take, which is at least two seconds:
# asked again before, it can take the place of its master with no epoch of its own, and is a replica again at once.
VOTES_COUNT = 4.5  # seconds
DOWN_AFTER = 600  # ms
# A replica is as good as it can be at once, however long it was cut off.
AT_ONCE = ("--repl-diskless-sync-delay", "0", "--repl-diskless-sync", "yes")


def until(happened: Callable[[], bool], what: str = "") -> None:
    """Return when something has happened in other processes, which nobody here can tell."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(redis.RedisError):
            if happened():
                return
        assert time.monotonic() < deadline, what or "it has not happened"
        time.sleep(0.02)


@dataclass(frozen=True)
class Node:
    """What one node of a cluster says of another, or of itself."""

    id: str
    port: int
    flags: frozenset[str]
    master: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def slots(self) -> int:
        """How many it serves."""
        return sum(end - begin + 1 for begin, end in self.ranges)

    def has(self, slot: int) -> bool:
        return any(begin <= slot <= end for begin, end in self.ranges)


class Cluster:
    """Masters and replicas; which is which changes.

    Mutable: `_elected`, when the node of a port was elected last.
    """

    def __init__(self, servers: list[RedisServer]) -> None:
        self.servers = servers
        self._elected: dict[int, float] = {}

    @property
    def url(self) -> str:
        """All of them."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def server_at(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

    def nodes(self) -> list[Node]:
        """Return them as the first one that answers sees them, those that are gone without their slots."""
        for server in self.servers:
            with suppress(redis.RedisError), server.client() as client:
                return nodes_seen_by(client)
        raise AssertionError("no node answers")

    def masters(self) -> list[Node]:
        """Return those with slots."""
        return [node for node in self.nodes() if node.slots and "master" in node.flags]

    def replicas_of(self, master: Node) -> list[Node]:
        return [node for node in self.nodes() if node.master == master.id and "fail" not in node.flags]

    def masters_of(self, keys: Sequence[bytes]) -> list[Node]:
        """Return the nodes that have the slots of keys."""
        nodes = self.nodes()
        with self.servers[0].client() as client:
            slots = [int(client.execute_command("CLUSTER KEYSLOT", key)) for key in keys]
        return [next(node for node in nodes if node.has(slot)) for slot in slots]

    def fail_over(self, master: Node) -> None:
        """Have a replica take the place of its master, as an operator does; nothing is lost."""
        until(
            lambda: bool(self.replicas_of(master)), "a master has no replica"
        )  # who was replaced follows a moment later
        replica = self.replicas_of(master)[0]
        votes_count_until = self._elected.get(replica.port, 0.0) + VOTES_COUNT
        until(lambda: time.monotonic() > votes_count_until)
        with self.server_at(replica.port).client() as client:

            def is_master() -> bool:
                if client.info("replication")["role"] == "master":
                    return True
                with suppress(redis.ResponseError):  # it is asked for already; or was given up, and is asked for again
                    client.execute_command("CLUSTER FAILOVER")
                return False

            until(is_master)
        self._elected[replica.port] = time.monotonic()

    def wait_for_another(self, master: Node) -> None:
        """Return when all that live have another master in the place of one that does not."""

        def is_replaced() -> bool:
            for server in self.servers:
                if server.is_running:
                    with server.client() as client:
                        seen = nodes_seen_by(client)
                        if client.cluster("INFO")["cluster_state"] != "ok":
                            return False
                        if any(node.port == master.port and node.slots for node in seen):
                            return False
            return True

        until(is_replaced, "no replica takes the place of a master")

    def reshard(self, source: Node, target: Node, slots: int) -> None:
        """Have slots go from one master to another, with what is in them."""
        until(self.is_whole, "the nodes do not agree")
        run_cli(
            *("--cluster", "reshard", f"127.0.0.1:{source.port}", "--cluster-from", source.id),
            *("--cluster-to", target.id, "--cluster-slots", str(slots), "--cluster-yes", "--cluster-pipeline", "1"),
        )

    def heal(self) -> None:
        """Start what was killed, and wait until all agree on who is there."""
        for server in self.servers:
            if not server.is_running:
                server.start()
        until(self.is_whole, "the cluster does not become whole")

    def is_whole(self) -> bool:
        """Whether all nodes agree on who has which slots, all of them, and everybody is there."""
        views: set[frozenset[tuple[str, tuple[tuple[int, int], ...]]]] = set()
        for server in self.servers:
            with server.client() as client:
                info = client.cluster("INFO")
                seen = nodes_seen_by(client)
                if info["cluster_state"] != "ok" or int(info["cluster_slots_ok"]) != SLOTS:
                    return False
                if any(node.flags & {"fail", "fail?", "handshake", "noaddr"} for node in seen):
                    return False
                if client.info("replication").get("master_link_status") == "down":
                    return False
                views.add(frozenset((node.id, node.ranges) for node in seen))
        return len(views) == 1 and len(self.masters()) == MASTERS


def as_it_is(answer: object, **_: object) -> object:
    return answer


def nodes_seen_by(client: Any) -> list[Node]:
    client.set_response_callback("CLUSTER NODES", as_it_is)
    text = client.execute_command("CLUSTER NODES").decode()
    found: list[Node] = []
    for line in text.splitlines():
        parts = line.split()
        port = re.fullmatch(r".*?:([0-9]+)@.*", parts[1])
        each = [part.split("-") for part in parts[8:] if not part.startswith("[")]
        ranges = tuple((int(ends[0]), int(ends[-1])) for ends in each)
        found.append(Node(parts[0], int(port[1]) if port else 0, frozenset(parts[2].split(",")), parts[3], ranges))
    return found


def run_cli(*arguments: str) -> str:
    """Run redis-cli; return what it says."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/bin"])
    found = shutil.which("redis-cli", path=path)
    if found is None:
        missing("redis-cli not found; Debian has it: apt-get install redis-tools")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def redis_cluster(directory: Path, *, replicas: bool = True) -> Generator[Cluster, None, None]:
    """Run three masters with a third of the slots each inside the block, and a replica for each of them."""
    with ExitStack() as stack:
        servers: list[RedisServer] = []
        for n in range(MASTERS * (2 if replicas else 1)):
            place = directory / f"node-{n}"
            place.mkdir(parents=True)
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT), *AT_ONCE)
            servers.append(stack.enter_context(private_redis(place, *options)))
        cluster = Cluster(servers)
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        run_cli("--cluster", "create", *addresses, "--cluster-replicas", str(int(replicas)), "--cluster-yes")
        until(cluster.is_whole, "the cluster does not become whole")
        yield cluster


class Watched:
    """A master with replicas, and Sentinels that watch it as `main`."""

    def __init__(self, servers: list[RedisServer], sentinels: list[RedisServer]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """The URL that names the Sentinels."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/main/0"

    @property
    def master(self) -> RedisServer:
        """Who is the master now, as the first Sentinel says."""
        with self.sentinels[0].client() as client:
            port = int(client.sentinel_get_master_addr_by_name("main")[1])
        return next(server for server in self.servers if server.port == port)

    def require_copied(self) -> None:
        """Return when the replicas have what the master has now."""
        with self.master.client() as client:
            assert int(client.execute_command("WAIT", len(self.servers) - 1, 10_000)) == len(self.servers) - 1

    def fail_over(self) -> None:
        """Have the replica take the place of the master, as an operator does, which takes writes for a while more."""
        before = self.master

        def is_done() -> bool:
            with self.sentinels[0].client() as client, suppress(redis.ResponseError):  # it is in progress
                if self.master is before:
                    client.execute_command("SENTINEL FAILOVER", "main")
            return self.master is not before

        until(is_done, "the Sentinels name no other master")

    def is_whole(self) -> bool:
        """Whether all Sentinels name one master that is one, whose replicas follow it."""
        masters: set[int] = set()
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                said: Any = client.sentinel_master("main")
                if "failover_in_progress" in said["flags"] or {"s_down", "o_down"} & set(said["flags"].split(",")):
                    return False
                if int(said["num-other-sentinels"]) != len(self.sentinels) - 1:
                    return False
                if int(said["num-slaves"]) != len(self.servers) - 1:
                    return False
                masters.add(int(said["port"]))
        if len(masters) != 1:
            return False
        for server in self.servers:
            with server.client() as client:
                said = client.info("replication")
                if server.port in masters:
                    if said["role"] != "master" or said["connected_slaves"] != len(self.servers) - 1:
                        return False
                elif (said["role"], said.get("master_port"), said.get("master_link_status")) != (
                    "slave",
                    *masters,
                    "up",
                ):
                    return False
        return True


SENTINEL = """
sentinel monitor main 127.0.0.1 {port} 2
sentinel down-after-milliseconds main {down_after}
sentinel failover-timeout main 2000
sentinel parallel-syncs main 1
"""


@contextmanager
def watched_by_sentinels(directory: Path) -> Generator[Watched, None, None]:
    """Run a master, a replica and three Sentinels inside the block."""
    with ExitStack() as stack:
        places: Iterator[Path] = (made(directory / f"server-{n}") for n in range(5))
        # Under a file of its own, in which it writes down whose replica it has become.
        servers: list[RedisServer] = []
        for _ in range(2):
            place = next(places)
            (place / "redis.conf").write_text("repl-diskless-sync-delay 0\n")
            behind = ("--replicaof", "127.0.0.1", str(servers[0].port)) if servers else ()
            servers.append(stack.enter_context(private_redis(place, *behind, configuration=place / "redis.conf")))
        sentinels: list[RedisServer] = []
        for _ in range(3):
            place = next(places)
            (place / "sentinel.conf").write_text(SENTINEL.format(port=servers[0].port, down_after=DOWN_AFTER))
            options = ("--sentinel",)
            sentinels.append(stack.enter_context(private_redis(place, *options, configuration=place / "sentinel.conf")))
        watched = Watched(servers, sentinels)
        until(watched.is_whole, "the Sentinels do not agree")
        yield watched


def made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory
