"""Runs something whole on a seeded loop, and raises what it found to be wrong."""

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from support.seeded_loop import SeededLoop, Stuck
from turnlane import Lanes
from turnlane.clock import Clock

__all__ = ("Finding", "MakeLanes", "Result", "Run", "plain_lanes", "run_whole")

MakeLanes = Callable[[int | None, Clock], Lanes]


def plain_lanes(max_running: int | None, clock: Clock) -> Lanes:
    """Make the lanes that are tested; planted bugs come in through another function of this form."""
    return Lanes(max_running=max_running, clock=clock, slow_after=None)


class Finding(AssertionError):
    """A promise was broken; the message says which, and how to see it again."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run took: steps of the loop and tasks; and how often each outcome was seen."""

    steps: int
    tasks: int
    outcomes: dict[str, int]


class Run(Protocol):
    """What is run: `wrong` collects what was broken."""

    wrong: list[str]

    def main(self) -> Coroutine[Any, Any, None]:
        """Start everybody, wait for everybody."""
        ...

    def look_inside(self) -> None:
        """Check the state between two steps of the loop."""
        ...

    def check_end(self) -> None:
        """Check what must hold when everybody has gone."""
        ...

    def result(self) -> Result:
        """Return what the run took."""
        ...


def run_whole(
    make: Callable[[SeededLoop], Run], seed: int | None, *, look_inside: bool, again: Callable[[], str]
) -> Result:
    """Run it once; `seed` draws the order of the loop, None is the order of a plain loop.

    `again` tells how to see a finding again. An error that ends the run itself is a finding as well.

    Raises:
        Finding: a promise was broken.
    """
    order = None if seed is None else random.Random(seed)
    with SeededLoop(order) as loop:
        run = make(loop)
        if look_inside:
            loop.after_step = run.look_inside
        error: Exception | None = None
        try:
            loop.run(run.main())
            run.check_end()
        except Stuck as stuck:
            run.wrong.append(str(stuck))
        except Exception as caught:
            error = caught
            run.wrong.append(f"the run ended with {caught!r}")
        if run.wrong:
            raise Finding("\n".join([*run.wrong[:5], again()])) from error
        return run.result()
