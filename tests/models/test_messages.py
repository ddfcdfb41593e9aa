"""Three messages under all policies, in every order of arriving, waking, ending, leaving, taking and being done."""

# Bugs are planted in the private side of the lanes.
# pyright: reportPrivateUsage=false

from itertools import product

import pytest

from models.message_driver import DrivenGate, MakeGate, state_of
from models.message_model import Happening, MessageModel, Name
from support.lanes_visitors import on_virtual_time, running_loop
from turnlane import Interrupt, Rollback
from turnlane.lanes.gate import Gate
from turnlane.lanes.line import Waiter
from turnlane.turns.turn import Turn, TurnState

NAMES: tuple[Name, ...] = ("enqueue", "reject", "interrupt", "coalesce", "fussy", "steer")

GATHERED: tuple[Name, ...] = ("coalesce", "interrupt")

Path = tuple[Happening, ...]


class Mismatch(AssertionError):
    """The gate did something else than the model, or broke an invariant; the message has what happened."""


def every_interleaving(policies: tuple[Name, ...], make_gate: MakeGate = Gate) -> int:
    """Try everything that may happen in every state there is; return how many states there are."""
    seen: set[str] = set()
    level: list[tuple[Path, MessageModel]] = [((), MessageModel(policies))]
    while level:
        deeper: list[tuple[Path, MessageModel]] = []
        for path, model in level:
            events = model.possible()
            if not events:
                check_accounts(path, model)
            for event in events:
                after = compared((*path, event), model, make_gate)
                shape = repr(after)
                if shape not in seen:
                    seen.add(shape)
                    deeper.append(((*path, event), after))
        level = deeper
    return len(seen)


def compared(path: Path, before: MessageModel, make_gate: MakeGate) -> MessageModel:
    """Let everything of a path happen to a gate, and the last of it to the model; return that."""
    driven = DrivenGate(running_loop(), before.policies, make_gate)
    try:
        for event in path:
            driven.happen(event)
        model = before.copy()
        model.happen(path[-1])
        if driven.state() != state_of(model):
            driven.wrong.append(f"{driven.state()}, in the model: {state_of(model)}")
    except Exception as error:
        raise Mismatch(f"{error!r}, {before.policies}, after: {', '.join(map(str, path))}") from error
    finally:
        driven.forget()
    if driven.wrong:
        raise Mismatch("\n".join([*driven.wrong, f"{before.policies}, after: {', '.join(map(str, path))}"]))
    return model


def check_accounts(path: Path, model: MessageModel) -> None:
    """Check that each message has come to one end, and that whoever was named for it has answered."""
    for message in range(len(model.policies)):
        what, into = model.fate.get(message, ("lost", message))
        answered = model.fate.get(into, ("lost", 0))[0] == "answered"
        if what == "lost" or (what in ("coalesced", "steered") and not answered):
            raise Mismatch(f"message {message} is {what}, after: {', '.join(map(str, path))}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", NAMES)
@on_virtual_time
async def test_three_messages_do_what_the_model_says(first: Name) -> None:
    """Each combination of policies, in every interleaving."""
    states = [every_interleaving((first, *others)) for others in product(NAMES, repeat=2)]
    assert sum(states) > 1_000


@pytest.mark.timeout(600)
@on_virtual_time
async def test_four_messages_do_what_the_model_says(long_form: bool) -> None:
    """Behind a turn that runs, those that gather and those that interrupt; in the long form all."""
    for others in product(NAMES if long_form else GATHERED, repeat=3):
        every_interleaving(("enqueue", *others))


class ForgetsTheCarried(Gate):
    """A turn that is cancelled before it has begun takes along those it carries."""

    def let_go_of_absorbed(self, turn: Turn) -> list[Waiter]:
        super().let_go_of_absorbed(turn)
        return []


class TellsTooEarly(Gate):
    """Those who are carried are told when the lane is handed over."""

    def _grant(self, waiter: Waiter) -> None:
        turn = waiter.turn
        super()._grant(waiter)
        if waiter.absorbed:
            self.carry(turn, waiter)


class OffersToWhoStops(Gate):
    """A turn that was asked to stop is offered messages too."""

    def offer(self, waiter: Waiter, holder: Turn) -> None:
        ending, holder._end = holder._end, None
        super().offer(waiter, holder)
        holder._end = ending


class KeepsOffering(Gate):
    """What was offered to a turn that has ended may still be done with."""

    def _steered(self, turn: Turn, holder: Turn) -> bool:
        state, holder._state = holder._state, TurnState.RUNNING
        done = super()._steered(turn, holder)
        holder._state = state
        return done


class WaitsForNobody(Gate):
    """Who stands behind a window that everybody has left waits for its end."""

    def _take_out(self, waiter: Waiter) -> None:
        self._forget_wait(waiter)
        self.table.withdraw(waiter)


class SupersedesOnlyTheLine(Gate):
    """An interruption passes over those who are carried and not told yet."""

    def _take_over(self, turn: Turn, policy: Interrupt | Rollback) -> None:
        holder = self.table.holders.get(turn.key)
        wait = None if holder is None else holder._wait
        carried, waiter = (wait.absorbed, wait) if isinstance(wait, Waiter) else (None, None)
        if waiter is not None:
            waiter.absorbed = None
        super()._take_over(turn, policy)
        if waiter is not None:
            waiter.absorbed = carried


PLANTED = [ForgetsTheCarried, TellsTooEarly, OffersToWhoStops, KeepsOffering, WaitsForNobody, SupersedesOnlyTheLine]


@pytest.mark.parametrize("planted", PLANTED)
@on_virtual_time
async def test_lanes_with_a_bug_are_found(planted: MakeGate) -> None:
    """The checks above can fail: each planted bug shows."""
    with pytest.raises(Mismatch):
        every_combination(planted)


def every_combination(make_gate: MakeGate) -> None:
    for policies in product(NAMES, repeat=3):
        every_interleaving(policies, make_gate)
    for others in product(GATHERED, repeat=3):
        every_interleaving(("enqueue", *others), make_gate)
