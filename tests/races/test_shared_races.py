"""Lanes that several workers share, over a network that delays, loses and repeats, explored from a seed.

Workers are killed and cut off, the server loses its data, lanes close in the middle: one turn at a time, in order,
everybody is told, and nothing is left.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from races import shared_plans
from races.exploration import Budget, Exploration, seeds_from
from races.runner import Finding, Result
from races.shared_plans import (
    NAMED_SHARED,
    SharedIncident,
    SharedPlan,
    draw_shared_plan,
    drawing,
    happening,
    shared_incidents_at,
)
from races.shared_planted import PLANTED_IN_SHARED
from races.shared_run import run_shared
from races.shared_workers import Bug

# What is seen of drawn plans that are explored for a few minutes.
SEEN = frozenset(
    {
        *("completed", "cancelled", "killed", "OwnError", "TurnTimeout", "TurnInterrupted", "TurnCoalesced"),
        *("TurnSteered", "WaitTimeout", "LaneBusy", "LaneFull", "LaneReentry", "LanesDraining", "EngineUnavailable"),
        *("CapacityExceeded", "MergeRefused"),
    }
)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMED_SHARED)
def test_a_plan_of_several_workers_keeps_every_promise(name: str, seed: int, long_form: bool) -> None:
    """Up to three incidents at drawn steps; in the long form each incident at each step."""
    if long_form:
        assert shared().one(NAMED_SHARED[name], seeds_from(seed, 1)) > 100
    else:
        shared(drawing(name)).large(seed, Budget(0.0, least=2))


@pytest.mark.timeout(3600)
def test_drawn_plans_of_two_workers_keep_every_promise_whatever_happens_whenever(seed: int, long_form: bool) -> None:
    """Small ones, with up to three incidents; in the long form with each at each step, for each task and its worker."""
    budget = Budget(240.0 if long_form else 3.0)
    if long_form:
        shared().drawn(seed, budget)
    else:
        shared(lambda rng, _: draw_shared_plan(rng, large=False)).large(seed, budget)
    assert budget.runs > 100


@pytest.mark.timeout(3600)
def test_larger_plans_of_up_to_four_workers_keep_every_promise(seed: int, long_form: bool) -> None:
    """Up to nine turns and the operators of their workers, and up to three incidents at drawn steps."""
    budget, seen = Budget(300.0 if long_form else 6.0), Counter[str]()
    shared(seen=seen).large(seed, budget)
    assert budget.runs > 100
    assert not long_form or seen.keys() >= SEEN


def test_a_run_of_several_workers_is_the_same_again_from_its_seed() -> None:
    """What a finding prints is enough to see it again: the same steps, the same outcomes."""
    plan, incident = NAMED_SHARED["three in line"], SharedIncident(30, "long cut", 1)
    results = [run_shared(plan, seed, (incident,)) for seed in (7, 7, 8, 9, 10)]
    assert results[0] == results[1]
    assert len({str(result) for result in results}) > 1


def test_a_plan_of_several_workers_is_printed_as_what_makes_it(seed: int) -> None:
    """A finding names it, the seed of the run and the incidents."""
    for number in range(20):
        plan = draw_shared_plan(random.Random(f"{seed}/{number}"), large=True)
        assert eval(str(plan), dict(vars(shared_plans))) == plan


class TestNegativeControls:
    """The exploration finds each planted bug, from whatever seed."""

    @pytest.mark.parametrize("bug", PLANTED_IN_SHARED)
    def test_a_planted_bug_is_found(self, bug: str, seed: int) -> None:
        """In the plan that is for it, by what turns, their senders and the server see."""
        planted = PLANTED_IN_SHARED[bug]
        exploration = shared(drawing(planted.plan), happens=planted.happens, bug=planted.bug, look_inside=False)
        with pytest.raises(Finding, match="again: run_shared"):
            exploration.large(seed, Budget(0.0, least=300))


def shared(
    draw: Callable[[random.Random, bool], SharedPlan] = draw_shared_plan,
    *,
    happens: Sequence[str] = (),
    bug: Bug | None = None,
    look_inside: bool = True,
    seen: Counter[str] | None = None,
) -> Exploration[SharedPlan, SharedIncident]:
    def run(plan: SharedPlan, seed: int, incidents: Sequence[SharedIncident]) -> Result:
        result = run_shared(plan, seed, incidents, bug=bug, look_inside=look_inside)
        if seen is not None:
            seen.update(result.outcomes)
        return result

    return Exploration(run, draw, happening(happens) if happens else shared_incidents_at)
