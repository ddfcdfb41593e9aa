"""Whether what several clients saw of one object can have happened one after the other.

The search of Wing and Gong with the memory of Lowe: an operation takes effect at one moment between its beginning and
its end; one whose outcome is unknown does so at any moment from its beginning on, or never. The search is exponential
in how many operations overlap: histories of one object, of some 200 operations, are what it is for.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ("NEVER", "Apply", "Operation", "linearizable")

_S = TypeVar("_S", bound=Hashable)
_C = TypeVar("_C")

NEVER = math.inf
"""The end of an operation whose outcome is unknown."""

Apply = Callable[[_S, _C], tuple[_S, object]]
"""The object alone: what a call makes of a state, and what it returns."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[_C]):
    """One call, when it began and ended, and what it returned; `result` means nothing if `end` is `NEVER`."""

    call: _C
    begin: float
    end: float
    result: object = None


def linearizable(history: Sequence[Operation[_C]], initial: _S, apply: Callable[[_S, _C], tuple[_S, object]]) -> bool:
    """Tell whether some order of the operations, in which none begins after the end of a later one, explains all."""
    operations = sorted(history, key=lambda operation: operation.begin)
    needed = sum(1 << n for n, operation in enumerate(operations) if operation.end != NEVER)
    seen: set[tuple[int, _S]] = set()
    ways = [(0, initial)]
    while ways:
        done, state = ways.pop()
        if done & needed == needed:
            return True
        for n in _possible(operations, done):
            operation = operations[n]
            after, result = apply(state, operation.call)
            if operation.end != NEVER and result != operation.result:
                continue
            way = (done | 1 << n, after)
            if way not in seen:
                seen.add(way)
                ways.append(way)
    return False


def _possible(operations: Sequence[Operation[_C]], done: int) -> Iterator[int]:
    """The operations that may be next: those that began before the first end of any that is not done."""
    first_end = NEVER
    for n, operation in enumerate(operations):
        if operation.begin > first_end:
            return
        if not done >> n & 1:
            first_end = min(first_end, operation.end)
            yield n
