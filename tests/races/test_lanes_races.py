"""Orders and cancellations nobody would write down: drawn from a seed, each checked for what lanes promise."""

from collections.abc import Sequence
from functools import partial

import pytest

from races.exploration import Budget, Exploration, seeds_from
from races.lanes_run import run_plan
from races.plans import FOREVER, NAMED, Cancel, Plan, Visit, cancels_at, draw_plan
from races.planted import PLANTED_IN_LANES, planted
from races.runner import Finding, Result

# Orders of the loop in which the named plans are run with every cancellation, besides those of the seed.
ORDERS = (1,)

LANES: Exploration[Plan, Cancel] = Exploration(run_plan, draw_plan, cancels_at)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMED)
def test_a_plan_keeps_every_promise_whoever_is_cancelled_whenever(name: str, seed: int, long_form: bool) -> None:
    """Each task is cancelled at each step of the plan, in several orders of the loop."""
    assert LANES.one(NAMED[name], [*ORDERS, *seeds_from(seed, 40 if long_form else 1)]) > 100


@pytest.mark.timeout(300)
def test_drawn_plans_keep_every_promise_whoever_is_cancelled_whenever(seed: int, long_form: bool) -> None:
    """Plans drawn from the seed, with policies, timeouts, nested turns and operators mixed; every cancellation."""
    budget = Budget(60.0 if long_form else 2.5)
    LANES.drawn(seed, budget)
    assert budget.runs > 100


@pytest.mark.timeout(300)
def test_larger_plans_keep_every_promise_with_several_cancellations(seed: int, long_form: bool) -> None:
    """Up to eight tasks on four keys, and up to three of them cancelled at drawn steps."""
    budget = Budget(60.0 if long_form else 1.5)
    LANES.large(seed, budget)
    assert budget.runs > 100


def test_a_run_is_the_same_again_from_its_seed() -> None:
    """What a failure prints is enough to see it again: the same steps, the same outcomes."""
    plan = NAMED["an interruption with a cleanup"]
    results = [run_plan(plan, seed, (Cancel(9, 2),)) for seed in (7, 7, 8, 9, 10)]
    assert results[0] == results[1]
    assert len({str(result) for result in results}) > 1


def test_a_finding_prints_what_is_needed_to_see_it_again() -> None:
    """The seed, the cancellations and the plan, as the expressions that make them."""
    plan = Plan((Visit("a", hold=2), Visit("a", FOREVER, delay=1)), max_running=1)
    assert eval(str(plan)) == plan
    leaky = partial(run_plan, make_lanes=planted(PLANTED_IN_LANES["a running slot is leaked"]))
    with pytest.raises(Finding) as finding:
        leaky(plan, 5, (Cancel(1000, 0),))
    assert f"run_plan(plan, 5, [{Cancel(1000, 0)!r}])" in str(finding.value)
    assert str(plan) in str(finding.value)


class TestNegativeControls:
    """The exploration finds each planted bug within its short form, with and without a look inside the table.

    Found within 300 runs from every seed tried; the bound is 5,500 runs.
    """

    @pytest.mark.parametrize("look_inside", [True, False])
    @pytest.mark.parametrize("bug", PLANTED_IN_LANES)
    def test_a_planted_bug_is_found_in_the_named_plans(self, bug: str, look_inside: bool) -> None:
        """In the orders that are always run."""
        exploration = lanes_with(bug, look_inside)
        with pytest.raises(Finding):
            exploration.each(NAMED.values(), ORDERS)

    @pytest.mark.parametrize("look_inside", [True, False])
    @pytest.mark.parametrize("bug", PLANTED_IN_LANES)
    def test_a_planted_bug_is_found_in_drawn_plans(self, bug: str, look_inside: bool, seed: int) -> None:
        """From whatever seed."""
        with pytest.raises(Finding):
            lanes_with(bug, look_inside).large(seed, Budget(0.0, least=500))


def lanes_with(bug: str, look_inside: bool) -> Exploration[Plan, Cancel]:
    def run(plan: Plan, seed: int, cancels: Sequence[Cancel]) -> Result:
        return run_plan(plan, seed, cancels, make_lanes=planted(PLANTED_IN_LANES[bug]), look_inside=look_inside)

    return Exploration(run, draw_plan, cancels_at)
