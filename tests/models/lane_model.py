"""What the table of lanes should do, said as plainly as possible: after each event, look at everything again.

It shares no idea with the table but the meaning of the words: no linked lists, no bookkeeping, no shortcuts.
"""

from dataclasses import dataclass, field
from typing import Literal, Self

__all__ = ("Event", "LaneModel")

What = Literal["arrive", "finish", "withdraw", "pause", "resume", "supersede"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens: to a turn, known by its number in order of arrival, or to a key.

    `parent` is the turn in which one arrives, if any, and `principal` whom it is for.
    """

    what: What
    key: str = ""
    turn: int = 0
    parent: int | None = None
    principal: str = ""

    def __str__(self) -> str:
        inside = "" if self.parent is None else f" in {self.parent}"
        whom = f" for {self.principal}" if self.principal else ""
        return f"{self.what} {self.key or self.turn}{inside}{whom}"


@dataclass(slots=True)
class LaneModel:
    """Lanes in which turns are numbers.

    `parked` are the keys whose first waiter lacks only a place among those of its principal, and maybe a running slot;
    `ready` those that lack nothing but the slot; each in the order in which they came to that. `stands_for` has the
    principals they are in there for. `slot` has the running slot of each running turn: for whom it counts, and a number
    that is never used again.
    """

    max_running: int | None
    max_each: int | None = None
    keys: list[str] = field(default_factory=list[str])
    principals: list[str] = field(default_factory=list[str])
    parents: list[int | None] = field(default_factory=list[int | None])
    holder: dict[str, int] = field(default_factory=dict[str, int])
    line: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    paused: frozenset[str] = frozenset()
    ready: list[str] = field(default_factory=list[str])
    parked: list[str] = field(default_factory=list[str])
    stands_for: dict[str, str] = field(default_factory=dict[str, str])
    slot: dict[int, tuple[str, int]] = field(default_factory=dict[int, tuple[str, int]])
    slots_made: int = 0

    def copy(self) -> Self:
        """Return another model in the same state."""
        return type(self)(
            self.max_running,
            self.max_each,
            self.keys.copy(),
            self.principals.copy(),
            self.parents.copy(),
            self.holder.copy(),
            {key: line.copy() for key, line in self.line.items()},
            self.paused,
            self.ready.copy(),
            self.parked.copy(),
            self.stands_for.copy(),
            self.slot.copy(),
            self.slots_made,
        )

    # -- what may happen

    def running(self) -> list[int]:
        """Return who runs."""
        return list(self.holder.values())

    def waiting(self) -> list[int]:
        """Return who waits."""
        return [turn for line in self.line.values() for turn in line]

    def chain(self, turn: int | None) -> list[int]:
        """Return the running ones of a turn and those it is nested in, innermost first."""
        running, chain = self.running(), list[int]()
        while turn is not None:
            if turn in running:
                chain.append(turn)
            turn = self.parents[turn]
        return chain

    def possible(self, keys: str, *, turns: int, nested: bool, principals: tuple[str, ...] = ("",)) -> list[Event]:
        """Return what may happen next, with at most so many turns alive."""
        events = [Event("finish", turn=turn) for turn in self.running()]
        events += [Event("withdraw", turn=turn) for turn in self.waiting()]
        events += [Event("resume" if key in self.paused else "pause", key) for key in keys]
        events += [Event("supersede", key) for key in keys if self.line.get(key)]
        if len(self.running()) + len(self.waiting()) < turns:
            for parent in [None, *(self.running() if nested else ())]:
                held = {self.keys[turn] for turn in self.chain(parent)}
                events += [
                    Event("arrive", key, parent=parent, principal=principal)
                    for key in keys
                    if key not in held
                    for principal in principals
                ]
        return events

    # -- what happens

    def happen(self, event: Event) -> list[int]:
        """Let something happen; return who has a lane since, in the order of starting."""
        if event.what == "arrive":
            return self._arrive(event)
        if event.what == "finish":
            del self.holder[self.keys[event.turn]]
            self.slot.pop(event.turn, None)
        elif event.what == "withdraw":
            self.line[self.keys[event.turn]].remove(event.turn)
        elif event.what == "supersede":
            self.line[event.key] = []
        elif event.what == "pause":
            self.paused |= {event.key}
        else:
            self.paused -= {event.key}
        return self._start_all()

    def _arrive(self, event: Event) -> list[int]:
        turn = len(self.keys)
        self.keys.append(event.key)
        self.parents.append(event.parent)
        self.principals.append(event.principal)
        self.line.setdefault(event.key, []).append(turn)
        return self._start_all()

    def _start_all(self) -> list[int]:
        if self.max_running is None and self.max_each is None:
            return [self._start(key, None) for key, line in self.line.items() if self._can_start(key, line)]
        self._stand()
        # Free slots go to those who were ready first.
        started: list[int] = []
        while self.ready and self._has_free_slot():
            started.append(self._start(self.ready[0], self._own_slot(self.ready[0])))
        # A chain that waits in a line has an idle slot for whoever is first there.
        for key in (*self.ready, *self.parked):
            slot = self._own_slot(key)
            if slot is None:
                slot = next((self.slot[turn[0]] for turn in map(self.chain, self.line[key]) if turn), None)
            if slot is not None:
                started.append(self._start(key, slot))
        return started + (self._start_all() if self._admit() else [])

    def _stand(self) -> None:
        """Put each key whose first waiter lacks nothing else where it belongs."""
        can_start = {key: self.principals[line[0]] for key, line in self.line.items() if self._can_start(key, line)}
        for stand in (self.ready, self.parked):
            stand[:] = [key for key in stand if can_start.get(key) == self.stands_for[key]]
        self.parked += [key for key in can_start if key not in (*self.ready, *self.parked)]
        self.stands_for = can_start
        self._admit()

    def _admit(self) -> bool:
        """Let those be ready whose principal has a place for them; tell whether there are such."""
        admitted = False
        for key in self.parked.copy():
            if self._has_place(self.principals[self.line[key][0]]):
                self.parked.remove(key)
                self.ready.append(key)
                admitted = True
        return admitted

    def _has_place(self, principal: str) -> bool:
        taken = [*(self.stands_for[key] for key in self.ready), *(of for of, _ in set(self.slot.values()))]
        return not principal or self.max_each is None or taken.count(principal) < self.max_each

    def _can_start(self, key: str, line: list[int]) -> bool:
        return bool(line) and key not in self.holder and key not in self.paused

    def _has_free_slot(self) -> bool:
        return self.max_running is None or len(set(self.slot.values())) < self.max_running

    def _own_slot(self, key: str) -> tuple[str, int] | None:
        chain = self.chain(self.line[key][0])
        return self.slot[chain[0]] if chain else None

    def _start(self, key: str, slot: tuple[str, int] | None) -> int:
        turn = self.line[key].pop(0)
        self.holder[key] = turn
        if self.max_running is None and self.max_each is None:
            return turn
        (self.ready if key in self.ready else self.parked).remove(key)
        if slot is None:
            self.slots_made += 1
            slot = self.principals[turn], self.slots_made
        self.slot[turn] = slot
        return turn
