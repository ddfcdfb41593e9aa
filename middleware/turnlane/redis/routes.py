"""Which server a command goes to: the one that is named, the master Sentinels know, or the node of a cluster."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from redis.crc import key_slot

from turnlane.redis.commands import Host
from turnlane.redis.urls import Address

__all__ = ("Ask", "Left", "Route", "route_to")

LOOK_AGAIN = 1.0  # seconds after which Sentinels are asked whether there is another master
PATIENCE = 2.0

Ask = Callable[[Host, tuple[str, ...]], Awaitable[object]]
"""Sends one command to a Sentinel, on a connection of its own without authentication, and returns the answer."""

Left = Callable[[Host], Awaitable[None]]
"""Called with a server that is not to be used any more, although it is there."""


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

    async def aclose(self) -> None:
        """End what is done beside commands."""
        ...


def route_to(address: Address, ask: Ask, left: Left) -> Route:
    """Return the way to what a URL names."""
    if address.kind == "sentinel":
        return _Sentinels(address.hosts, address.service, ask, left)
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

    async def aclose(self) -> None:
        """Nothing is done."""


class _Sentinels:
    """The master that the Sentinels know, asked for again when it was lost.

    While it is used they are asked again and again: one that was replaced at an operator's wish takes writes, which are
    lost, until a Sentinel tells it so, some ten seconds later. It is left when more than half of the Sentinels name
    another; a single one may not have heard.

    Mutable: `_master`, None until one was asked and after it was lost; `_next`, whose turn it is to be asked; `_due`,
    when all are to be asked again, and `_task`, while they are.
    """

    def __init__(self, sentinels: tuple[Host, ...], service: str, ask: Ask, left: Left) -> None:
        self._sentinels = sentinels
        self._service = service
        self._ask = ask
        self._left = left
        self._master: Host | None = None
        self._next = 0
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None

    async def host_of(self, key: bytes) -> Host:
        loop = asyncio.get_running_loop()
        if self._master is None:
            sentinel = self._sentinels[self._next % len(self._sentinels)]
            self._next += 1  # whoever asks after a failure, or beside this, asks another one
            found = await self._named_by(sentinel)
            self._next -= 1
            if self._master is None:
                self._master, self._due = found, loop.time() + LOOK_AGAIN
        elif self._task is None and loop.time() >= self._due:
            self._task = loop.create_task(self._look_again(self._master))
        return self._master

    async def _named_by(self, sentinel: Host) -> Host:
        match await self._ask(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)):
            case [bytes(name), bytes(port)]:
                return (name.decode(), int(port))
            case _:
                raise ConnectionError(f"the Sentinel at {sentinel[0]}:{sentinel[1]} knows no {self._service!r}")

    async def _look_again(self, master: Host) -> None:
        votes: Counter[Host] = Counter()

        async def vote(sentinel: Host) -> None:
            with suppress(Exception):
                votes[await self._named_by(sentinel)] += 1

        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(*map(vote, self._sentinels))
            for found, count in votes.items():
                if 2 * count > len(self._sentinels) and found != master == self._master:
                    self._master = found
                    await self._left(master)
        finally:
            self._due, self._task = asyncio.get_running_loop().time() + LOOK_AGAIN, None

    def moved(self, slot: int, host: Host) -> None:
        """Stay."""

    def lost(self, host: Host) -> None:
        if self._master == host:
            self._master = None

    async def aclose(self) -> None:
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


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

    async def aclose(self) -> None:
        """Nothing is done."""
