"""The checker: what it must accept, and what it must not."""

import random

import pytest

from support.linearizable import NEVER, Operation, linearizable

Call = tuple[str, int]


def register(state: int, call: Call) -> tuple[int, object]:
    """A cell that is read, written, and counted up."""
    kind, value = call
    if kind == "read":
        return state, state
    if kind == "add":
        return state + value, state + value
    return value, None


def op(kind: str, value: int, begin: float, end: float, result: object = None) -> Operation[Call]:
    return Operation((kind, value), begin, end, result)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [op("write", 1, 0, 1), op("read", 0, 2, 3, 1)],
        [op("write", 1, 0, 9), op("read", 0, 1, 2, 0), op("read", 0, 3, 4, 1)],
        [op("write", 1, 0, 9), op("write", 2, 0, 9), op("read", 0, 1, 2, 2), op("read", 0, 3, 4, 1)],
        [op("write", 1, 0, NEVER), op("read", 0, 1, 2, 0), op("read", 0, 50, 51, 1)],
        [op("write", 1, 0, NEVER), op("read", 0, 50, 51, 0)],
        [op("add", 1, 0, 5, 2), op("add", 1, 1, 4, 1)],
    ],
    ids=["nothing", "in order", "overlapping", "two writers", "unknown and late", "unknown and never", "other order"],
)
def test_a_history_that_can_have_happened_is_accepted(history: list[Operation[Call]]) -> None:
    """Each operation took effect at one moment between its beginning and its end."""
    assert linearizable(history, 0, register)
    assert linearizable(history[::-1], 0, register)


@pytest.mark.parametrize(
    "history",
    [
        [op("read", 0, 0, 1, 1)],
        [op("write", 1, 0, 1), op("read", 0, 2, 3, 0)],
        [op("write", 1, 0, 9), op("read", 0, 1, 2, 1), op("read", 0, 3, 4, 0)],
        [op("add", 1, 0, 2, 1), op("add", 1, 1, 3, 1)],
        [op("write", 1, 5, NEVER), op("read", 0, 1, 2, 1)],
        [op("add", 1, 0, NEVER), op("read", 0, 5, 6, 2)],
    ],
    ids=["from nowhere", "stale", "back again", "lost update", "before its beginning", "done twice"],
)
def test_a_history_that_can_not_have_happened_is_refused(history: list[Operation[Call]]) -> None:
    """Stale reads, lost updates, effects before their cause or twice."""
    assert not linearizable(history, 0, register)
    assert not linearizable(history[::-1], 0, register)


def test_a_random_history_is_accepted_until_one_answer_is_changed(seed: int) -> None:
    """200 operations of 8 clients, made from an order; then one of their answers is another."""
    rng = random.Random(seed)
    state = 0
    history: list[Operation[Call]] = []
    for n in range(200):
        call: Call = ("read", 0) if rng.random() < 0.4 else ("add", 1)
        state, result = register(state, call)
        # Eight at once, more or less: each takes effect at moment n.
        history.append(Operation(call, n - rng.random() * 4, n + rng.random() * 4, result))
    assert linearizable(history, 0, register)
    wrong = rng.randrange(200)
    history[wrong] = Operation(history[wrong].call, history[wrong].begin, history[wrong].end, 1000)
    assert not linearizable(history, 0, register)
