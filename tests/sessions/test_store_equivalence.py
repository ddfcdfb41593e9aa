"""Memory, SQLite, Redis and PostgreSQL mean the same by every operation, in every order of operations."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from support.redis_servers import redis_url
from turnlane.errors import SessionConflict
from turnlane.sessions import (
    DELETE,
    UNSET,
    MemorySessionStore,
    PostgresqlSessionStore,
    RedisSessionStore,
    SessionEntry,
    SessionStore,
    SqliteSessionStore,
)
from turnlane.sessions.entry import rebound
from turnlane.sessions.patches import Draft, Patch, operations_of
from turnlane.sessions.values import NOTHING

# Hypothesis draws as many examples as it is told to, however slow the machine is: this only guards against hanging.
pytestmark = pytest.mark.timeout(300)

KEYS = st.sampled_from(["a", "a:1", "a:2", "ä", "b", "a\U0001f600", "a\uffff", "%", "_", "\x00"])
TIMES = st.floats(min_value=0, max_value=4e9, allow_nan=False)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", ""]), inner, max_size=2),
    max_leaves=5,
)
NAMES = st.sampled_from(["channel", "label", "n"])
CHANGES = st.dictionaries(NAMES, VALUES | st.just(UNSET) | st.just(DELETE), max_size=3)

Operation = Callable[[SessionStore], Awaitable[object]]


class SameMeaning(RuleBasedStateMachine):
    """Runs every operation on all stores and compares what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.prefix = ExitStack()
        self.stores: tuple[SessionStore, ...] = (MemorySessionStore(), *self.make_stores())
        self.ids = (f"id-{n}" for n in count())
        self.seen: dict[str, SessionEntry | None] = {}

    def make_stores(self) -> tuple[SessionStore, ...]:
        """Return the stores that are compared with the one in memory."""
        return (
            SqliteSessionStore(Path(self.directory.name) / "sessions.db"),
            RedisSessionStore(self.prefix.enter_context(redis_url())),
        )

    def teardown(self) -> None:
        for store in self.stores:
            self.runner.run(store.aclose())
        self.runner.close()
        self.prefix.close()
        self.directory.cleanup()

    def all(self, operation: Operation) -> object:
        async def outcome(store: SessionStore) -> object:
            try:
                return await operation(store)
            except SessionConflict as error:
                return str(error)

        memory, *others = [self.runner.run(outcome(store)) for store in self.stores]
        for other in others:
            assert repr(memory) == repr(other)
            assert plain(memory) == plain(other)
        return memory

    @rule(key=KEYS)
    def read(self, key: str) -> None:
        found = self.all(lambda store: store.read(key))
        assert found is None or isinstance(found, SessionEntry)
        self.seen[key] = found

    @rule(key=KEYS, at=TIMES, with_seen=st.booleans())
    def reserve(self, key: str, at: float, with_seen: bool) -> None:
        session_id, replaces = next(self.ids), self.seen.get(key) if with_seen else None
        self.all(lambda store: store.reserve(key, session_id, at=at, replaces=replaces))

    @rule(key=KEYS, at=TIMES, changes=CHANGES, use_version=st.booleans())
    def patch(self, key: str, at: float, changes: dict[str, object], use_version: bool) -> None:
        seen = self.seen.get(key)
        expected = seen.version if seen is not None and use_version else None
        patch = Patch(operations=operations_of(changes), pins=NOTHING, expected_version=expected, at=at)
        self.all(lambda store: store.mutate(key, patch))

    @rule(key=KEYS, at=TIMES, assigned=CHANGES, filled=st.dictionaries(NAMES, VALUES, max_size=2), pinned=NAMES)
    def edit(self, key: str, at: float, assigned: dict[str, object], filled: dict[str, object], pinned: str) -> None:
        seen = self.seen.get(key)
        if seen is None:
            return
        draft = Draft(seen)
        draft.get(pinned)
        for name, value in assigned.items():
            draft[name] = value
        for name, value in filled.items():
            draft.setdefault(name, value)
        patch = draft.patch(expected_version=None, at=at)
        self.all(lambda store: store.mutate(key, patch))

    @rule(key=KEYS, at=TIMES)
    def renew(self, key: str, at: float) -> None:
        session_id = next(self.ids)
        self.all(lambda store: store.mutate(key, lambda fresh: rebound(fresh, session_id, at=at)))

    @rule(key=KEYS, at=TIMES)
    def touch(self, key: str, at: float) -> None:
        self.all(lambda store: store.touch(key, at=at))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.all(lambda store: store.delete(key))

    @rule()
    def open_again(self) -> None:
        self.all(lambda store: store.aclose())

    @rule(prefix=st.sampled_from(["", "a", "a:", "%", "_", "ä", "zz"]), limit=st.integers(1, 5))
    def list(self, prefix: str, limit: int) -> None:
        self.all(lambda store: store.list(prefix, limit))

    @invariant()
    def an_id_leads_to_its_entry(self) -> None:
        for entry in self.seen.values():
            if entry is not None:
                session_id = entry.id
                self.all(lambda store, session_id=session_id: store.read_by_id(session_id))  # type: ignore[misc]


def plain(found: object) -> object:
    """Return what was found with its fields in plain form and their types told apart."""
    if isinstance(found, SessionEntry):
        return repr(found.as_dict())
    if isinstance(found, tuple):
        return [plain(part) for part in cast("tuple[object, ...]", found)]
    return found


SameMeaning.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_all_stores_mean_the_same = SameMeaning.TestCase


@pytest.mark.stress
def test_memory_and_postgresql_mean_the_same(lend: Callable[[], str], long_form: bool) -> None:
    """Every operation, in every order of operations."""

    class InPostgresql(SameMeaning):
        def make_stores(self) -> tuple[SessionStore, ...]:
            return (PostgresqlSessionStore(lend()),)

    bounds = settings(max_examples=200 if long_form else 6, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(InPostgresql, settings=bounds)
