"""What every session store must keep, as async functions that raise `SuiteFailure`.

Run each of `CHECKS` on an empty, open store of its own, in whatever test framework:

    for check in CHECKS:
        async with make_store() as store:
            await check(store)

It finds broken promises of one process. What several processes may do to each other, and what a crash leaves
behind, depends on the store and is for its own tests.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import MappingProxyType

from turnlane.errors import SessionConflict
from turnlane.sessions import Reservation, Session, SessionEntry, SessionStore
from turnlane.sessions.patches import Patch, operations_of
from turnlane.sessions.values import NOTHING

__all__ = ("CHECKS", "Check", "SuiteFailure")

Check = Callable[[SessionStore], Awaitable[None]]
"""One promise: an async function of an empty, open store."""

T0 = 1_700_000_000.25


class SuiteFailure(AssertionError):
    """The store broke a promise; the message says which."""


async def an_unknown_key_has_no_entry(store: SessionStore) -> None:
    """Nothing is found, changed, touched or deleted where nothing is."""
    await store.touch("nobody", at=T0)
    _equal(await store.read("nobody"), None, "read of an unknown key")
    _equal(await store.read_by_id("nothing"), None, "read_by_id of an unknown id")
    _equal(await store.mutate("nobody", _with(a=1)), None, "mutate of an unknown key")
    _equal(await store.delete("nobody"), False, "delete of an unknown key")
    _equal(await store.list("", 10), (), "list of an empty store")


async def a_reservation_is_read_back(store: SessionStore) -> None:
    """What reserve returns is what everybody reads, by key and by id."""
    entry, won = await store.reserve("k", "id-1", at=T0, replaces=None)
    wanted = SessionEntry(
        key="k",
        id="id-1",
        version=1,
        fields=MappingProxyType({}),
        created_at=T0,
        updated_at=T0,
        last_activity_at=T0,
    )
    _equal((entry, won), (wanted, True), "the first reservation of an empty store")
    _equal(await store.read("k"), wanted, "read after reserve")
    _equal(await store.read_by_id("id-1"), wanted, "read_by_id after reserve")


async def the_second_reservation_gets_the_first(store: SessionStore) -> None:
    """Insert-if-absent: who comes second changes nothing and learns who won."""
    first = await store.reserve("k", "id-1", at=T0, replaces=None)
    second = await store.reserve("k", "id-2", at=T0 + 1, replaces=None)
    _equal(second, Reservation(first.entry, False), "reserve of a taken key")
    _equal(await store.read_by_id("id-2"), None, "read_by_id of the id that lost")


async def one_of_many_reservations_wins(store: SessionStore) -> None:
    """Many reserve one key at once: one wins, all get its entry."""
    results = await asyncio.gather(*(store.reserve("k", f"id-{n}", at=T0, replaces=None) for n in range(50)))
    _one_winner(results, await store.read("k"))


async def one_of_many_replacements_wins(store: SessionStore) -> None:
    """Many replace one stale entry at once: one wins, all get its entry, the old id is gone."""
    stale = (await store.reserve("k", "old", at=T0, replaces=None)).entry
    results = await asyncio.gather(*(store.reserve("k", f"id-{n}", at=T0 + 9, replaces=stale) for n in range(50)))
    _one_winner(results, await store.read("k"))
    _equal(await store.read_by_id("old"), None, "read_by_id of an id that was replaced")


async def a_replacement_keeps_what_is_stored(store: SessionStore) -> None:
    """The fields are those of the stored entry, not of the one that was read; `updated_at` does not turn back."""
    stale = (await store.reserve("k", "old", at=T0, replaces=None)).entry
    patched = await store.mutate("k", _with(at=T0 + 50, channel="slack"))
    entry, won = await store.reserve("k", "new", at=T0 + 9, replaces=stale)
    _equal(won, True, "reserve that replaces an entry whose fields were patched since")
    wanted = (
        None
        if patched is None
        else replace(patched, id="new", version=3, created_at=T0 + 9, updated_at=T0 + 50, last_activity_at=T0 + 9)
    )
    _equal(entry, wanted, "the replaced entry")
    _equal(await store.read("k"), wanted, "read after the replacement")


async def a_touched_entry_is_not_replaced(store: SessionStore) -> None:
    """Activity after the entry was read wins over who took it for stale."""
    stale = (await store.reserve("k", "old", at=T0, replaces=None)).entry
    await store.touch("k", at=T0 + 5)
    entry, won = await store.reserve("k", "new", at=T0 + 9, replaces=stale)
    _equal((entry.id, won), ("old", False), "reserve after a touch")


async def an_absent_entry_can_be_replaced(store: SessionStore) -> None:
    """Who wanted to replace an entry that was deleted meanwhile mints."""
    stale = (await store.reserve("k", "old", at=T0, replaces=None)).entry
    await store.delete("k")
    entry, won = await store.reserve("k", "new", at=T0 + 9, replaces=stale)
    _equal((entry.id, won, len(entry.fields)), ("new", True, 0), "reserve after a delete")


async def fields_are_read_back_as_json(store: SessionStore) -> None:
    """Every kind of JSON value comes back as it was, of the same type, deeply frozen."""
    await store.reserve("k", "id-1", at=T0, replaces=None)
    value: dict[str, object] = {
        "none": None,
        "yes": True,
        "whole": 1,
        "float": 1.0,
        "big": 2**70,
        "tiny": 5e-324,
        "text": "snow ☃ \U0001f600 \x00 \n",
        "": {"list": ["a", [], {}]},
    }
    stored = await store.mutate("k", _with(value=value))
    found = await store.read("k")
    _equal(found, stored, "read after mutate")
    plain = None if found is None else Session.of(found).as_dict()["fields"]
    _equal(repr(plain), repr({"value": value}), "the fields that were read")
    frozen = None if found is None else found.fields["value"]
    _equal(type(frozen), MappingProxyType, "the type of a mapping that was read")


async def mutate_sees_the_fresh_entry(store: SessionStore) -> None:
    """Read, change and write are one step: nothing is lost when many change one entry at once."""
    await store.reserve("k", "id-1", at=T0, replaces=None)

    def count(entry: SessionEntry) -> SessionEntry:
        before = entry.fields.get("n", 0)
        return _with(n=before + 1 if isinstance(before, int) else 0)(entry)

    await asyncio.gather(*(store.mutate("k", count) for _ in range(50)))
    found = await store.read("k")
    _equal(None if found is None else (found.fields["n"], found.version), (50, 51), "50 increments at once")


async def mutate_that_raises_changes_nothing(store: SessionStore) -> None:
    """What the function raises reaches the caller as it is, and the store goes on."""
    entry = (await store.reserve("k", "id-1", at=T0, replaces=None)).entry
    refusal = SessionConflict("k", expected_version=7, found_version=1)

    def refuse(_: SessionEntry) -> SessionEntry:
        raise refusal

    try:
        await store.mutate("k", refuse)
    except SessionConflict as error:
        _equal(error is refusal, True, "the error that mutate raised is the function's own")
    else:
        raise SuiteFailure("mutate swallowed what its function raised")
    _equal(await store.read("k"), entry, "read after a mutate that raised")
    changed = await store.mutate("k", _with(a=1))
    _equal(None if changed is None else changed.version, 2, "the version after the next mutate")


async def mutate_that_returns_its_argument_writes_nothing(store: SessionStore) -> None:
    """No change is not a change."""
    entry = (await store.reserve("k", "id-1", at=T0, replaces=None)).entry
    _equal(await store.mutate("k", lambda fresh: fresh), entry, "mutate that changes nothing")
    _equal(await store.read("k"), entry, "read after it")


async def mutate_can_rebind(store: SessionStore) -> None:
    """An entry whose function changed the id is found by the new id only."""
    await store.reserve("k", "old", at=T0, replaces=None)
    changed = await store.mutate("k", lambda fresh: replace(fresh, id="new", version=fresh.version + 1))
    _equal(await store.read_by_id("new"), changed, "read_by_id of the new id")
    _equal(await store.read_by_id("old"), None, "read_by_id of the old id")


async def touch_moves_forward_only(store: SessionStore) -> None:
    """`last_activity_at` never turns back, and nothing else changes."""
    entry = (await store.reserve("k", "id-1", at=T0, replaces=None)).entry
    await store.touch("k", at=T0 + 5)
    await store.touch("k", at=T0 + 2)
    _equal(await store.read("k"), replace(entry, last_activity_at=T0 + 5), "read after two touches")


async def versions_are_not_repeated_after_delete(store: SessionStore) -> None:
    """A version that was read before a delete never fits the entry that comes after it."""
    await store.reserve("k", "id-1", at=T0, replaces=None)
    for n in range(3):
        await store.mutate("k", _with(n=n))
    _equal(await store.delete("k"), True, "delete of an entry")
    _equal(await store.read("k"), None, "read after delete")
    _equal(await store.read_by_id("id-1"), None, "read_by_id after delete")
    entry = (await store.reserve("k", "id-2", at=T0, replaces=None)).entry
    if entry.version <= 4:
        raise SuiteFailure(f"version {entry.version} was used before the delete, which removed version 4")


async def list_is_ordered_and_bounded(store: SessionStore) -> None:
    """The first keys with the prefix, by code point; a prefix is text, not a pattern."""
    for n, key in enumerate(("b", "a%", "a_b", "ab", "aB", "a", "ä", "a\U0001f600", "a\uffff")):
        await store.reserve(key, f"id-{n}", at=T0, replaces=None)
    keys = [entry.key for entry in await store.list("a", 100)]
    _equal(keys, ["a", "a%", "aB", "a_b", "ab", "a\uffff", "a\U0001f600"], "keys that start with a")
    _equal([entry.key for entry in await store.list("a_", 100)], ["a_b"], "keys that start with a_")
    _equal([entry.key for entry in await store.list("", 2)], ["a", "a%"], "the first two keys")
    _equal(await store.list("zz", 5), (), "keys that start with zz")


async def opening_again_keeps_what_is_stored(store: SessionStore) -> None:
    """Opening an open store, and opening it after closing it twice, changes nothing."""
    entry = (await store.reserve("k", "id-1", at=T0, replaces=None)).entry
    await asyncio.gather(store.open(), store.open())
    await store.aclose()
    await store.aclose()
    await store.open()
    _equal(await store.read("k"), entry, "read after closing and opening")


CHECKS: tuple[Check, ...] = (
    an_unknown_key_has_no_entry,
    a_reservation_is_read_back,
    the_second_reservation_gets_the_first,
    one_of_many_reservations_wins,
    one_of_many_replacements_wins,
    a_replacement_keeps_what_is_stored,
    a_touched_entry_is_not_replaced,
    an_absent_entry_can_be_replaced,
    fields_are_read_back_as_json,
    mutate_sees_the_fresh_entry,
    mutate_that_raises_changes_nothing,
    mutate_that_returns_its_argument_writes_nothing,
    mutate_can_rebind,
    touch_moves_forward_only,
    versions_are_not_repeated_after_delete,
    list_is_ordered_and_bounded,
    opening_again_keeps_what_is_stored,
)
"""Every promise, in the order of the contract."""


def _with(*, at: float = T0, **fields: object) -> Callable[[SessionEntry], SessionEntry]:
    return Patch(operations=operations_of(fields), pins=NOTHING, expected_version=None, at=at)


def _one_winner(results: list[Reservation], stored: SessionEntry | None) -> None:
    _equal(sum(result.won for result in results), 1, "how many of 50 reservations won")
    _equal({result.entry.id for result in results}, {stored.id if stored else None}, "the ids they got")


def _equal(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise SuiteFailure(f"{what}: {found!r} instead of {wanted!r}")
