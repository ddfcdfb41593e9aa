"""Requests whose tasks are cancelled, and whose clients leave, at every step of every order that a seed draws."""

from collections.abc import Sequence

import pytest

from races.exploration import Budget, Exploration, seeds_from
from races.planted import PLANTED, KeepsWhoHasLeft, planted
from races.requests_run import run_traffic
from races.runner import Finding, Result
from races.traffic import NAMED_TRAFFIC, Call, Incident, Traffic, draw_traffic, incidents_at
from turnlane.asgi.body import RequestBody
from turnlane.lanes.gate import Gate

# Long enough for a client that has left to be missed.
LONG_WAIT = Traffic((Call(hold=20), Call(delay=1), Call(delay=2)))

REQUESTS: Exploration[Traffic, Incident] = Exploration(run_traffic, draw_traffic, incidents_at)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMED_TRAFFIC)
def test_requests_keep_every_promise_whoever_leaves_whenever(name: str, seed: int, long_form: bool) -> None:
    """At each step of the run each request is cancelled, and each client leaves."""
    assert REQUESTS.one(NAMED_TRAFFIC[name], seeds_from(seed, 20 if long_form else 1)) > 100


@pytest.mark.timeout(300)
def test_drawn_requests_keep_every_promise_whoever_leaves_whenever(seed: int, long_form: bool) -> None:
    """Keys in headers and bodies, bodies in parts, sessions or none, policies, timeouts, both ways to let go."""
    budget = Budget(60.0 if long_form else 2.5)
    REQUESTS.drawn(seed, budget)
    assert budget.runs > 100


@pytest.mark.timeout(300)
def test_more_requests_keep_every_promise_when_several_leave(seed: int, long_form: bool) -> None:
    """Up to seven requests of three keys, and up to three incidents at drawn steps."""
    budget = Budget(60.0 if long_form else 1.5)
    REQUESTS.large(seed, budget)
    assert budget.runs > 100


class TestNegativeControls:
    """The exploration of requests finds planted bugs too, by what clients and the app see."""

    @pytest.mark.parametrize("bug", PLANTED)
    def test_a_planted_bug_is_found(self, bug: str, seed: int) -> None:
        """Those of the lanes show through the middleware."""
        with pytest.raises(Finding):
            requests_with(PLANTED[bug]).large(seed, Budget(0.0, least=500))

    def test_a_request_that_outlives_its_client_in_the_line_is_found(self, seed: int) -> None:
        """Its turn would never run, but who stands behind it would be told of one too many ahead."""
        with pytest.raises(Finding, match="although its client has left"):
            requests_with(KeepsWhoHasLeft).one(LONG_WAIT, [seed])

    def test_a_client_that_is_not_watched_while_it_waits_is_found(
        self, seed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A middleware that does not read while a request waits would serve those who have left."""
        monkeypatch.setattr(RequestBody, "watch", do_not_watch)
        with pytest.raises(Finding, match="although its client has left"):
            REQUESTS.one(LONG_WAIT, [seed])


def do_not_watch(_body: object, _stop: object) -> None:
    """Stand for `RequestBody.watch`."""


def requests_with(gate_class: type[Gate]) -> Exploration[Traffic, Incident]:
    def run(traffic: Traffic, seed: int, incidents: Sequence[Incident]) -> Result:
        return run_traffic(traffic, seed, incidents, make_lanes=planted(gate_class), look_inside=False)

    return Exploration(run, draw_traffic, incidents_at)
