"""Every store keeps the contract, and the suite that says so can fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.helpers import WrappedStore
from support.redis_servers import redis_url
from turnlane.sessions import (
    MemorySessionStore,
    PostgresqlSessionStore,
    RedisSessionStore,
    SessionEntry,
    SessionStore,
    SqliteSessionStore,
)
from turnlane.sessions.base import Change, Reservation
from turnlane.testing import session_store_suite
from turnlane.testing.session_store_suite import CHECKS, Check, SuiteFailure


def names(check: object) -> str:
    return getattr(check, "__name__", repr(check))


@pytest.mark.parametrize("check", CHECKS, ids=names)
async def test_the_memory_store_keeps_the_contract(check: Check) -> None:
    """Each promise holds for entries in this process."""
    async with MemorySessionStore() as store:
        await check(store)


@pytest.mark.parametrize("check", CHECKS, ids=names)
async def test_the_sqlite_store_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    """Each promise holds for entries in a file."""
    async with SqliteSessionStore(tmp_path / "sessions.db") as store:
        await check(store)


@pytest.mark.parametrize("check", CHECKS, ids=names)
async def test_the_redis_store_keeps_the_contract(check: Check) -> None:
    """Each promise holds for entries in a server."""
    with redis_url() as url:
        async with RedisSessionStore(url) as store:
            await check(store)


@pytest.mark.parametrize("check", CHECKS, ids=names)
async def test_the_postgresql_store_keeps_the_contract(check: Check, lend: Callable[[], str]) -> None:
    """Each promise holds for entries in a database server."""
    async with PostgresqlSessionStore(lend()) as store:
        await check(store)


def test_every_check_is_in_the_suite() -> None:
    """No check is written and then forgotten in the tuple third parties run."""
    written = {
        name
        for name, value in vars(session_store_suite).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == session_store_suite.__name__
    }
    assert written - {"SuiteFailure"} == {names(check) for check in CHECKS}


class ForgetfulOfPatches(WrappedStore):
    """Replaces an entry by what was read, not by what is stored: loses fields patched meanwhile."""

    async def reserve(self, key: str, session_id: str, *, at: float, replaces: SessionEntry | None) -> Reservation:
        if replaces is not None:
            await self.inner.mutate(key, lambda _: replaces)
        return await self.inner.reserve(key, session_id, at=at, replaces=replaces)


class LastWriterWins(WrappedStore):
    """Reads, lets go, and writes: loses updates."""

    async def mutate(self, key: str, change: Change) -> SessionEntry | None:
        read = await self.inner.read(key)
        if read is None:
            return None
        changed = change(read)
        return await self.inner.mutate(key, lambda _: changed)


class ForgetfulOfVersions(WrappedStore):
    """Starts at version 1 again after a delete."""

    async def delete(self, key: str) -> bool:
        self.inner, before = MemorySessionStore(), self.inner
        return await before.delete(key)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (ForgetfulOfPatches, session_store_suite.a_replacement_keeps_what_is_stored),
        (LastWriterWins, session_store_suite.mutate_sees_the_fresh_entry),
        (ForgetfulOfVersions, session_store_suite.versions_are_not_repeated_after_delete),
    ],
    ids=names,
)
async def test_the_suite_catches_a_broken_store(broken: type[WrappedStore], check: Check, tmp_path: Path) -> None:
    """Negative control: a store that breaks a promise fails the check of that promise."""
    inner: SessionStore = SqliteSessionStore(tmp_path / "sessions.db")
    async with inner, broken(inner) as store:
        with pytest.raises(SuiteFailure):
            await check(store)
