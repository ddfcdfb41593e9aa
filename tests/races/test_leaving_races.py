"""Clients that hang up at every step of a hand-over, in every order that a seed draws, under servers of several lags.

A server learns of a closed socket some passes of its loop after the client closed it.
"""

import random
from functools import partial

import pytest

from races.exploration import seeds_from
from support.asgi_staged import KEY, StagedApp
from support.asgi_wire import Wire, scope_of
from support.seeded_loop import LoopClock, SeededLoop, until_blocked
from turnlane import LaneMiddleware, Lanes
from turnlane.asgi import body as body_module
from turnlane.hooks import TurnStarted

LAGS = (0, 1, 2, 3)  # passes; uvicorn has 2, hypercorn 3


class HandOver:
    """One holder, one who waits and hangs up at a step, one behind: what was seen, by passes of the loop."""

    def __init__(self, loop: SeededLoop, step: int | None, lag: int) -> None:
        self.loop = loop
        self.closed: int | None = None
        self.started: int | None = None
        self.app = StagedApp()
        self.wire = Wire()
        self.next_status: int | None = None
        self.lanes = Lanes(clock=LoopClock(loop), slow_after=None)
        self.lanes.hooks.on(TurnStarted, self._start)
        self.middleware = LaneMiddleware(self.app, key=KEY, lanes=self.lanes, trusted_keys=True)
        if step is not None:
            loop.before(step, partial(self._close, lag))

    async def main(self) -> None:
        holding, later = Wire(), Wire()
        holder = holding.call(self.middleware, scope_of("alice", "holder"))
        holding.body(b"")
        await until_blocked()
        leaver = self.wire.call(self.middleware, scope_of("alice", "it"))
        self.wire.body(b"text")
        await until_blocked()
        behind = later.call(self.middleware, scope_of("alice", "next"))
        later.body(b"")
        await until_blocked()
        self.app.release("holder", "it", "next")
        for task in (holder, leaver, behind):
            await task
        self.next_status = later.status

    def _start(self, _: TurnStarted) -> None:
        if self.started is None and "-holder" in self.app.log:
            self.started = self.loop.passes

    def _close(self, lag: int) -> None:
        self.closed = self.loop.passes
        self._travel(lag)

    def _travel(self, lag: int) -> None:
        if lag == 0:
            self.wire.disconnect()
        else:
            self.loop.call_soon(self._travel, lag - 1)

    @property
    def late(self) -> bool:
        """Whether the app was called for a client that had hung up by the pass of its hand-over."""
        called = "+it" in self.app.log
        return called and self.closed is not None and self.started is not None and self.closed <= self.started


def hand_over(order: int, step: int | None, lag: int) -> HandOver:
    with SeededLoop(random.Random(order)) as loop:
        run = HandOver(loop, step, lag)
        loop.run(run.main())
    return run


def explored(seed: int, orders: int) -> list[HandOver]:
    runs: list[HandOver] = []
    for order in seeds_from(seed, orders):
        steps = hand_over(order, None, 0).loop.steps
        runs += [hand_over(order, step, lag) for step in range(1, steps + 1) for lag in LAGS]
    return runs


@pytest.mark.timeout(300)
def test_a_client_gone_by_its_hand_over_never_runs(seed: int, long_form: bool) -> None:
    """Whichever step it hangs up at, whatever the order of the loop; the one behind is always served."""
    runs = explored(seed, 100 if long_form else 8)
    assert len(runs) > 500
    assert [run.app.log for run in runs if run.late] == []
    assert {run.next_status for run in runs} == {200}
    assert {"+it" in run.app.log for run in runs} == {True, False}


def test_without_a_second_look_it_would(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exploration can find it."""
    monkeypatch.setattr(body_module, "LOOKS", 0)
    assert any(run.late for run in explored(seed, 2))
