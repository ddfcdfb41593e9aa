"""Runs plans again and again: in each seed's order, and with each incident at each step."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

__all__ = ("Budget", "Exploration", "Taken", "seeds_from")

MANY_ORDERS = 50

PlanT = TypeVar("PlanT")
IncidentT = TypeVar("IncidentT")


class Taken(Protocol):
    """What a run says about itself."""

    @property
    def steps(self) -> int:
        """How many steps of the loop it took."""
        ...

    @property
    def tasks(self) -> int:
        """How many tasks something can happen to."""
        ...


@dataclass(slots=True)
class Budget:
    """How long an exploration may go on, by the clock of the machine, and how many runs it made.

    At least `least` plans are explored however slow the machine is: more than a hundred runs.
    """

    seconds: float
    least: int = 10
    runs: int = 0
    _began: float = field(default_factory=time.monotonic)

    def plans(self) -> Iterator[int]:
        """Count plans until the time is up."""
        number = 0
        while number < self.least or time.monotonic() - self._began < self.seconds:
            yield number
            number += 1


class Exploration(Generic[PlanT, IncidentT]):
    """How plans of one kind are explored.

    Args:
        run: runs a plan in the order of a seed, with incidents; raises if a promise was broken.
        draw: draws a plan, small or large.
        incidents: what can happen just before a step, to the task of a number.
    """

    def __init__(
        self,
        run: Callable[[PlanT, int, Sequence[IncidentT]], Taken],
        draw: Callable[[random.Random, bool], PlanT],
        incidents: Callable[[int, int], Sequence[IncidentT]],
    ) -> None:
        self._run = run
        self._draw = draw
        self._incidents = incidents

    def each(self, plans: Iterable[PlanT], seeds: Sequence[int]) -> int:
        """Do as `one` does with each of several plans."""
        return sum(self.one(plan, seeds) for plan in plans)

    def one(self, plan: PlanT, seeds: Sequence[int]) -> int:
        """Run one plan in many orders, and in each of `seeds` with each incident; return how many runs that took."""
        for order in range(MANY_ORDERS):
            self._run(plan, order, ())
        return MANY_ORDERS + sum(self._with_each_incident(plan, seed) for seed in seeds)

    def drawn(self, seed: int, budget: Budget) -> None:
        """Draw small plans, and run each with each incident."""
        for number in budget.plans():
            rng = random.Random(f"{seed}/small/{number}")
            budget.runs += self._with_each_incident(self._draw(rng, False), rng.randrange(2**32))

    def large(self, seed: int, budget: Budget) -> None:
        """Draw large plans, and run each with one to three incidents drawn at random, several times."""
        for number in budget.plans():
            rng = random.Random(f"{seed}/large/{number}")
            plan, order = self._draw(rng, True), rng.randrange(2**32)
            taken = self._run(plan, order, ())
            for _ in range(10):
                self._run(plan, order, [self._any(rng, taken) for _ in range(rng.randint(1, 3))])
            budget.runs += 11

    def _with_each_incident(self, plan: PlanT, seed: int) -> int:
        taken, runs = self._run(plan, seed, ()), 1
        for step in range(1, taken.steps + 1):
            for task in range(taken.tasks):
                for incident in self._incidents(step, task):
                    self._run(plan, seed, (incident,))
                    runs += 1
        return runs

    def _any(self, rng: random.Random, taken: Taken) -> IncidentT:
        return rng.choice(self._incidents(rng.randint(1, taken.steps), rng.randrange(taken.tasks)))


def seeds_from(seed: int, count: int) -> list[int]:
    """Return seeds of loop orders."""
    return [random.Random(f"{seed}/{number}").randrange(2**32) for number in range(count)]
