"""What several clients of one session store ask and are told, and what a store would do that had one client only."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import cast

from support.linearizable import NEVER, Operation, linearizable
from turnlane.errors import SessionConflict, SessionOutcomeUnknown, SessionStoreUnavailable
from turnlane.sessions import SessionEntry, SessionStore
from turnlane.sessions.entry import minted, rebound

__all__ = ("KEY", "Call", "History", "Recorder", "asked_by", "asked_by_all", "explained")

KEY = "agent:main:alice"
T0 = 1_700_000_000
KINDS = (
    "read",
    "read",
    "find",
    "list",
    "reserve",
    "reserve",
    "replace",
    "add",
    "add",
    "put",
    "renew",
    "touch",
    "delete",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call about the one key. What a kind does not need stays as it is."""

    kind: str
    session_id: str = ""
    at: float = 0.0
    seen: SessionEntry | None = None


History = list[Operation[Call]]
State = tuple[SessionEntry | None, int]
"""The entry, and the highest version deleted."""


def added(entry: SessionEntry, at: float) -> SessionEntry:
    """Count one more in a field: a change that reads what it changes."""
    before = cast("int", entry.fields.get("n", 0))
    fields = MappingProxyType({"n": before + 1})
    return replace(entry, version=entry.version + 1, fields=fields, updated_at=max(entry.updated_at, at))


def change_of(call: Call) -> Callable[[SessionEntry], SessionEntry]:
    """What a call of `mutate` does to an entry."""

    def change(entry: SessionEntry) -> SessionEntry:
        if call.kind == "renew":
            return rebound(entry, call.session_id, at=call.at)
        if call.kind == "put" and (call.seen is None or call.seen.version != entry.version):
            raise SessionConflict(KEY, expected_version=None, found_version=entry.version)
        return added(entry, call.at)

    return change


def alone(state: State, call: Call) -> tuple[State, object]:
    """What the call does where nobody else is, and returns."""
    entry, floor = state
    if call.kind in ("reserve", "replace"):
        return _reserved(entry, floor, call)
    if call.kind == "list":
        return state, () if entry is None else (entry,)
    if entry is None:
        return state, False if call.kind == "delete" else None
    if call.kind == "read":
        return state, entry
    if call.kind == "find":
        return state, entry if entry.id == call.session_id else None
    if call.kind == "touch":
        return (entry.active(max(call.at, entry.last_activity_at)), floor), None
    if call.kind == "delete":
        return (None, max(floor, entry.version)), True
    try:
        changed = change_of(call)(entry)
    except SessionConflict:
        return state, "conflict"
    return (changed, floor), changed


def _reserved(entry: SessionEntry | None, floor: int, call: Call) -> tuple[State, object]:
    if entry is None:
        entry = minted(KEY, call.session_id, at=call.at, version=floor + 1)
        return (entry, floor), (entry, True)
    seen = call.seen
    if seen is None or (seen.id, seen.last_activity_at) != (entry.id, entry.last_activity_at):
        return (entry, floor), (entry, False)
    entry = rebound(entry, call.session_id, at=call.at)
    return (entry, floor), (entry, True)


def explained(history: History) -> bool:
    """Tell whether one store with one client after the other could have answered all this."""
    initial: State = (None, 0)
    return linearizable(history, initial, alone)


async def performed(store: SessionStore, call: Call) -> object:
    """Ask a store; return what `alone` would."""
    if call.kind == "read":
        return await store.read(KEY)
    if call.kind == "find":
        return await store.read_by_id(call.session_id)
    if call.kind == "list":
        return await store.list("agent:", 10)
    if call.kind in ("reserve", "replace"):
        return tuple(await store.reserve(KEY, call.session_id, at=call.at, replaces=call.seen))
    if call.kind == "touch":
        await store.touch(KEY, at=call.at)
        return None
    if call.kind == "delete":
        return await store.delete(KEY)
    try:
        return await store.mutate(KEY, change_of(call))
    except SessionConflict:
        return "conflict"


@dataclass(slots=True)
class Recorder:
    """Writes down what was asked and answered; counts lost outcomes, and what was certainly not done."""

    history: History = field(default_factory=list[Operation[Call]])
    unknown: int = 0
    refused: int = 0

    async def ask(self, store: SessionStore, call: Call) -> object:
        """Ask a store and write it down."""
        begin = time.monotonic_ns()
        try:
            result = await performed(store, call)
        except SessionOutcomeUnknown:
            self.unknown += 1
            self.history.append(Operation(call, begin, NEVER))
            return None
        except SessionStoreUnavailable:  # not done, not ever: no part of the history
            self.refused += 1
            return None
        self.history.append(Operation(call, begin, time.monotonic_ns(), result))
        return result


async def asked_by(name: str, store: SessionStore, recorder: Recorder, rng: random.Random, count: int) -> None:
    """Be one client: ask `count` times, at random, with ids of its own and what it has seen."""
    seen: SessionEntry | None = None
    for n in range(count):
        kind = rng.choice(KINDS)
        session_id = seen.id if kind == "find" and seen is not None else f"{name}-{n}"
        stale = seen if kind in ("replace", "put") else None
        call = Call(kind=kind, session_id=session_id, at=float(T0 + rng.randrange(100)), seen=stale)
        answer = await recorder.ask(store, call)
        for found in cast("tuple[object, ...]", answer) if isinstance(answer, tuple) else (answer,):
            seen = found if isinstance(found, SessionEntry) else seen
        if rng.random() < 0.3:
            await asyncio.sleep(0)


async def asked_by_all(stores: Sequence[SessionStore], rng: random.Random, count: int) -> Recorder:
    """Be one client of each store at once; all lead to the same entries."""
    recorder = Recorder()
    async with asyncio.TaskGroup() as group:
        for n, store in enumerate(stores):
            group.create_task(asked_by(f"c{n}", store, recorder, random.Random(rng.random()), count))
    return recorder
