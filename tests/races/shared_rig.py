"""A few workers on a server of lanes with nothing between them, for scenes that are staged."""

# pyright: reportPrivateUsage=false

import asyncio
import random

from races.shared_network import LEASE, Network, Station, Weather
from races.shared_server import Server
from races.shared_workers import Bug, Worker
from support.lanes_visitors import running_loop
from support.seeded_loop import LoopClock

__all__ = ("Rig",)


class Still(Network):
    """Everything arrives at once, as long as nobody is cut off."""

    def delay(self) -> float | None:
        """Return none."""
        return None


class Rig:
    """Workers in the running loop.

    Args:
        leased: whether tickets are leased.
        max_running: of each worker.
        workers: how many.
    """

    def __init__(self, *, leased: bool = True, max_running: int | None = None, workers: int = 2) -> None:
        loop = running_loop()
        self.network = Still(Weather(leased=leased, immediate=not leased), random.Random(1), loop)
        self.server = Server(LoopClock(loop), LEASE if leased else None, self.network.post)
        self.workers = [
            Worker(number, Bug(), self.network, self.server, max_running=max_running) for number in range(workers)
        ]
        self.lanes = [worker.lanes for worker in self.workers]

    def station(self, number: int) -> Station:
        """Return the engine of a worker that has been used."""
        station = self.workers[number].station
        assert station is not None
        return station

    async def close(self) -> None:
        """Close all; nothing may be left, a moment after the last turn."""
        await asyncio.sleep(2 * LEASE)
        for worker in self.workers:
            assert worker.leftovers() == []
            await worker.lanes.aclose()
            assert worker.leftovers(closed=True) == []
        for key in self.server.keys:
            self.server.poke(key)
        assert self.server.keys == []
