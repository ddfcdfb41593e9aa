"""Gates at hook events."""

import asyncio
from typing import cast

import pytest

from turnlane.hooks import Event, Hooks, TurnQueued, TurnStarted
from turnlane.testing import Gates


def started(key: str, turn: str = "t") -> TurnStarted:
    """Return an event."""
    return TurnStarted(key=key, turn=turn, token=1, waited=0.0)


async def test_a_gate_opens_when_its_event_is_emitted() -> None:
    """Not before, and not for events of another kind or key."""
    hooks = Hooks()
    gates = Gates(hooks)
    waiting = asyncio.ensure_future(gates.at(TurnStarted, where=lambda event: event.key == "a").reached())
    for other in (started("b"), TurnQueued(key="a", turn="t", ahead=1)):
        await asyncio.sleep(0)
        hooks.emit(other)
        await asyncio.sleep(0)
        assert not waiting.done()
    hooks.emit(started("a", "wanted"))
    assert (await waiting).turn == "wanted"


async def test_an_event_that_has_been_is_not_missed() -> None:
    """A gate that is asked for late is open already, and a base class hears its subclasses."""
    hooks = Hooks()
    gates = Gates(hooks)
    hooks.emit(started("a", "first"))
    hooks.emit(started("a", "second"))
    assert (await gates.at(TurnStarted).reached()).turn == "first"
    assert (await gates.at(TurnStarted).reached(2)).turn == "second"
    assert [cast("TurnStarted", event).turn for event in gates.at(Event).seen] == ["first", "second"]


async def test_counts_events() -> None:
    """The second is waited for where two are asked for."""
    hooks = Hooks()
    gate = Gates(hooks).at(TurnStarted)
    hooks.emit(started("a"))
    waiting = asyncio.ensure_future(gate.reached(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    hooks.emit(started("b"))
    assert (await waiting).key == "b"
    assert len(gate.seen) == 2


async def test_a_gate_that_stays_shut_says_what_happened_instead() -> None:
    """The guard ends the wait with the events that came."""
    hooks = Hooks()
    gates = Gates(hooks)
    hooks.emit(TurnQueued(key="a", turn="t", ahead=1))
    with pytest.raises(TimeoutError, match=r"0 of 1 TurnStarted.*TurnQueued"):
        await gates.at(TurnStarted).reached(timeout=0.01)


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    """Nobody is woken who has gone."""
    hooks = Hooks()
    gates = Gates(hooks)
    waiting = asyncio.ensure_future(gates.at(TurnStarted).reached())
    await asyncio.sleep(0)
    assert "waiting=1" in repr(gates)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert "waiting=0" in repr(gates)
    hooks.emit(started("a"))


def test_stops_listening_when_closed() -> None:
    """What was recorded stays; nobody listens any more."""
    hooks = Hooks()
    with Gates(hooks) as gates:
        hooks.emit(started("a"))
    hooks.emit(started("b"))
    assert gates.events == [started("a")]
    assert not hooks.active


def test_events_are_recorded_in_order() -> None:
    """Events are recorded in the order of their emission."""
    hooks = Hooks()
    gates = Gates(hooks)
    for key in "abc":
        hooks.emit(started(key))
    assert gates.events == [started("a"), started("b"), started("c")]


async def test_refuses_what_could_never_open() -> None:
    """A class that is no event, and a count below one."""
    gates = Gates(Hooks())
    with pytest.raises(ValueError, match="not an event class"):
        gates.at(cast("type[Event]", str))
    with pytest.raises(ValueError, match="count"):
        await gates.at(TurnStarted).reached(0)
