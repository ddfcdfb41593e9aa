"""Which server a command goes to: the one that is named, the master Sentinels know, or the node of a cluster."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from redis.crc import key_slot

from turnlane.redis.commands import Host
from turnlane.redis.urls import Address

__all__ = ("Ask", "Route", "route_to")

Ask = Callable[[Host, tuple[str, ...]], Awaitable[object]]
"""Sends one command to a Sentinel, on a connection of its own without authentication, and returns the answer."""


class Route(Protocol):
    """Where commands go, and what was learned of it."""

    async def host_of(self, key: bytes) -> Host:
        """Return the server that has `key`, as far as is known."""
        ...

    def moved(self, slot: int, host: Host) -> None:
        """Take note of a slot's node."""
        ...

    def lost(self, host: Host) -> None:
        """Take note that a server is not there, or is not what it was."""
        ...


def route_to(address: Address, ask: Ask) -> Route:
    """Return the way to what a URL names."""
    if address.kind == "sentinel":
        return _Sentinels(address.hosts, address.service, ask)
    if address.kind == "cluster":
        return _Cluster(address.hosts)
    return _Server(address.hosts[0])


class _Server:
    """One server."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def host_of(self, key: bytes) -> Host:
        return self._host

    def moved(self, slot: int, host: Host) -> None:
        """Stay: a node of a cluster that was named alone answers with where else to go, which is followed once."""

    def lost(self, host: Host) -> None:
        """Stay."""


class _Sentinels:
    """The master that the Sentinels know, asked for again when it was lost.

    Mutable: `_master`, None until one was asked and after it was lost; `_next`, whose turn it is to be asked.
    """

    def __init__(self, sentinels: tuple[Host, ...], service: str, ask: Ask) -> None:
        self._sentinels = sentinels
        self._service = service
        self._ask = ask
        self._master: Host | None = None
        self._next = 0

    async def host_of(self, key: bytes) -> Host:
        while self._master is None:
            sentinel = self._sentinels[self._next % len(self._sentinels)]
            self._next += 1  # whoever asks after a failure, or beside this, asks another one
            match await self._ask(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)):
                case [bytes(name), bytes(port)]:
                    self._next -= 1
                    self._master = (name.decode(), int(port))
                case _:
                    raise ConnectionError(f"the Sentinel at {sentinel[0]}:{sentinel[1]} knows no {self._service!r}")
        return self._master

    def moved(self, slot: int, host: Host) -> None:
        """Stay."""

    def lost(self, host: Host) -> None:
        if self._master == host:
            self._master = None


class _Cluster:
    """The nodes of a cluster, as their redirections tell.

    Mutable: `_slots`, the node of each slot that was told; `_nodes`, all that were named or told, the first of which
    is asked for a slot nobody has told of.
    """

    def __init__(self, nodes: tuple[Host, ...]) -> None:
        self._nodes = list(nodes)
        self._slots: dict[int, Host] = {}

    async def host_of(self, key: bytes) -> Host:
        return self._slots.get(int(key_slot(key)), self._nodes[0])

    def moved(self, slot: int, host: Host) -> None:
        self._slots[slot] = host
        if host not in self._nodes:
            self._nodes.append(host)

    def lost(self, host: Host) -> None:
        self._slots = {slot: node for slot, node in self._slots.items() if node != host}
        if self._nodes[0] == host:
            self._nodes.append(self._nodes.pop(0))
