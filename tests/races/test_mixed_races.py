"""Requests of all policies at once, with sessions and transcripts: each message has one account, whoever leaves when.

Answered, refused, merged, steered, interrupted, rolled back or known already: what its client is told agrees with what
the app was asked, with what the transcript holds and with what was salvaged. Runtime and files are the real ones; the
loop's order and time are drawn.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from races.exploration import Budget, Exploration, seeds_from
from races.mixed_load import NAMED_LOADS, Load, draw_load, load_of
from races.mixed_planted import PLANTED_IN_MIXED, Planted
from races.mixed_run import run_mixed
from races.runner import Finding, Result
from races.traffic import Incident, incidents_at
from turnlane.lanes.gate import Gate

# What clients see of a mixed load, and what is seen in the transcripts, where it is explored for a few seconds.
SEEN = frozenset(
    {
        *("answered", "shared", "kept alive", "rolled back", "left", "cancelled", "lane_busy", "turn_interrupted"),
        *("turn_steered", "wait_timeout", "duplicate_running"),
    }
)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMED_LOADS)
def test_each_message_has_one_account_whoever_leaves_whenever(name: str, seed: int, long_form: bool) -> None:
    """Up to three incidents at drawn steps; in the long form each request is cancelled, and each leaves, at each."""
    if long_form:
        assert mixed().one(NAMED_LOADS[name], seeds_from(seed, 1)) > 100
    else:
        mixed(drawing(name)).large(seed, Budget(0.2, least=1))


@pytest.mark.timeout(3600)
def test_drawn_loads_of_all_policies_give_each_message_one_account(seed: int, long_form: bool) -> None:
    """Up to eight requests and copies of theirs, one or two keys and principals, caps, timeouts, keep-alive."""
    budget, seen = Budget(180.0 if long_form else 3.0), Counter[str]()
    mixed(seen=seen).large(seed, budget)
    assert budget.runs > 100
    assert not long_form or seen.keys() >= SEEN


def test_a_load_is_the_same_again_from_what_a_finding_prints(seed: int) -> None:
    """Its number, the seed of the order and the incidents: the same steps, the same outcomes."""
    load, incidents = load_of(seed), [Incident(40, 0, "leave"), Incident(60, 1, "cancel")]
    again = eval(load.name, {"load_of": load_of})
    assert again == load
    assert run_mixed(load, seed, incidents) == run_mixed(again, seed, incidents)
    assert [eval(one.name, {"NAMED_LOADS": NAMED_LOADS}) for one in NAMED_LOADS.values()] == list(NAMED_LOADS.values())


class TestNegativeControls:
    """The exploration finds planted bugs, by what clients get and what transcripts hold: nobody looks inside."""

    @pytest.mark.parametrize("bug", PLANTED_IN_MIXED)
    def test_a_planted_bug_is_found(self, bug: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the load that is for it."""
        planted = PLANTED_IN_MIXED[bug]
        plant(planted, monkeypatch)
        exploration = mixed(drawing(planted.load), gate_class=planted.gate, look_inside=False)
        with pytest.raises(Finding, match="again: run_mixed"):
            exploration.large(seed, Budget(0.0, least=500))


def plant(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    if planted.bug is not None:
        monkeypatch.setattr(planted.where, planted.name, planted.bug)


def drawing(name: str) -> Callable[[random.Random, bool], Load]:
    return lambda _rng, _large: NAMED_LOADS[name]


def mixed(
    draw: Callable[[random.Random, bool], Load] = draw_load,
    *,
    gate_class: type[Gate] = Gate,
    look_inside: bool = True,
    seen: Counter[str] | None = None,
) -> Exploration[Load, Incident]:
    def run(load: Load, seed: int, incidents: Sequence[Incident]) -> Result:
        order = None if seed % 4 == 0 else seed  # a fourth in the order of a plain loop, which is the likeliest
        result = run_mixed(load, order, incidents, gate_class=gate_class, look_inside=look_inside)
        if seen is not None:
            seen.update(result.outcomes)
        return result

    return Exploration(run, draw, incidents_at)
