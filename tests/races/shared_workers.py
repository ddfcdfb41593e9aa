"""The workers of a run: lanes each, with an engine behind a network, and known bugs if the run is to find one."""

# pyright: reportPrivateUsage=false

from dataclasses import dataclass

from races.shared_network import Network, Station
from races.shared_server import Server
from support.lanes_invariants import broken_promises, leftovers
from support.seeded_loop import LoopClock
from turnlane import Lanes
from turnlane.engines.lane import Steps
from turnlane.lanes.attachment import Attachment
from turnlane.lanes.shared import SharedGate

__all__ = ("Bug", "Worker")


@dataclass(frozen=True, slots=True)
class Bug:
    """What takes the place of a part of the lanes; of nothing, if the run is to find nothing."""

    gate: type[SharedGate] = SharedGate
    steps: type[Steps] = Steps
    attachment: type[Attachment] = Attachment


class Worker:
    """One `Lanes` object.

    Mutable: `station` (the engine it has now, or had last), `killed`.
    """

    def __init__(self, number: int, bug: Bug, network: Network, server: Server, *, max_running: int | None) -> None:
        self.number = number
        self.station: Station | None = None
        self.killed = False
        self._network = network
        self._server = server
        clock = LoopClock(network.loop)
        self.lanes = Lanes(max_running=max_running, clock=clock, slow_after=None)
        gate = bug.gate(
            limits=self.lanes.limits, hooks=self.lanes.hooks, clock=clock, slow_after=None, make_engine=self._make
        )
        gate._attachment = bug.attachment(self._make, of=gate, tell=gate.tell, monotonic=clock.monotonic)
        self.gate = gate
        self.lanes.gate = gate

    def _make(self) -> Station:
        self.station = Station(self._network, self._server)
        if self.killed:
            self.station.kill()
        return self.station

    @property
    def is_open(self) -> bool:
        """Whether an operator may ask it for anything."""
        return not self.killed and self.gate.closed_in is None

    def kill(self) -> None:
        """Be dead: nothing it does is seen by anybody."""
        self.killed = True
        if self.station is not None:
            self.station.kill()

    def broken_promises(self) -> list[str]:
        """Return what is wrong with its table."""
        return [] if self.killed else broken_promises(self.gate.table)

    def leftovers(self, *, closed: bool = False) -> list[str]:
        """Return what it keeps although it is idle, or closed."""
        if self.killed:
            return []
        wrong, attachment = leftovers(self.lanes), self.gate._attachment
        errands, renewal = attachment._errands, attachment._renewal
        if self.gate.standings:
            wrong.append(f"worker {self.number} has these turns: {self.gate.standings}")
        if errands is not None and (errands._waiting or errands._tasks):
            wrong.append(f"worker {self.number} has something on its way: {errands._waiting} {errands._tasks}")
        if renewal is not None and (renewal._timer is not None or renewal._task is not None):
            wrong.append(f"worker {self.number} renews")
        closed = closed or self.gate.closed_in is not None
        if closed and (errands is not None or (self.station is not None and not self.station.closed)):
            wrong.append(f"worker {self.number} is closed, its engine is not")
        return wrong
