"""What every duplicate store must keep, as async functions that raise `SuiteFailure`.

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

from turnlane.duplicates import Answer, DuplicateStore, MessageRecord, MessageState

__all__ = ("CHECKS", "Check", "SuiteFailure")

Check = Callable[[DuplicateStore], Awaitable[None]]
"""One promise: an async function of an empty, open store."""

T0 = 1_700_000_000.25
KEEP = 60.0
MANY = 1_000
ANSWER = Answer(
    status=409,
    headers=((b"content-type", b"text/plain"), (b"x-odd", bytes(range(0x80, 0x100))), (b"x-odd", b"")),
    body=bytes(range(256)),
)


class SuiteFailure(AssertionError):
    """The store broke a promise; the message says which."""


async def an_unknown_message_has_no_record(store: DuplicateStore) -> None:
    """Nothing is found, begun, finished or freed where nothing is."""
    _equal(await store.read(_message(0)), None, "read of an unknown message")
    _equal(await store.begin(_message(0), "run"), False, "begin of an unknown message")
    _equal(await _finish(store, 0, "run"), False, "finish of an unknown message")
    await store.free(_message(0), "run")
    _equal(await store.read(_message(0)), None, "read after all that")


async def the_owner_is_one_of_this_store(store: DuplicateStore) -> None:
    """It is told, it stays while the store is open, and it has not gone."""
    owner = store.owner
    _equal(bool(owner), True, "whether the owner is told")
    await store.claim(_message(0), _waiting(store, "run"))
    _equal(store.owner, owner, "the owner after a claim")
    _equal(await store.is_gone(owner), False, "is_gone of the own process")


async def the_second_claim_gets_the_first(store: DuplicateStore) -> None:
    """Insert-if-absent: who comes second changes nothing and learns who has the message."""
    first = _waiting(store, "one")
    _equal(await store.claim(_message(0), first), (first, True, None), "the first claim")
    second = await store.claim(_message(0), _waiting(store, "two"))
    _equal((second.record, second.won), (first, False), "the second claim")
    _equal(await store.read(_message(0)), first, "read after both")
    _equal((await store.claim(_message(1), _waiting(store, "three"))).won, True, "claim of another message")


async def one_of_many_claims_wins(store: DuplicateStore) -> None:
    """Many claim one message at once: one wins, all learn which."""
    claims = await asyncio.gather(*(store.claim(_message(0), _waiting(store, f"run-{n}")) for n in range(50)))
    _equal(sum(claim.won for claim in claims), 1, "how many of 50 claims won")
    stored = await store.read(_message(0))
    _equal({claim.record for claim in claims}, {stored}, "the records they got")


async def one_of_many_replacements_wins(store: DuplicateStore) -> None:
    """Many replace one record at once: one wins. A record that has changed since it was read is not replaced."""
    read = _waiting(store, "old")
    await store.claim(_message(0), read)
    await store.begin(_message(0), "old")
    late = await store.claim(_message(0), _waiting(store, "late"), replaces=read)
    _equal((late.won, late.record.state), (False, "running"), "a claim that replaces what has begun since")
    running = late.record
    claims = await asyncio.gather(
        *(store.claim(_message(0), _waiting(store, f"run-{n}"), replaces=running) for n in range(50))
    )
    _equal(sum(claim.won for claim in claims), 1, "how many of 50 replacements won")
    _equal([claim.replaced for claim in claims if claim.won], [running], "what the winner was told it replaced")


async def a_new_message_takes_the_place(store: DuplicateStore) -> None:
    """`anew` wins over whatever is there; the run before it can not finish any more."""
    old = _waiting(store, "old")
    await store.claim(_message(0), old)
    claim = await store.claim(_message(0), _waiting(store, "new"), anew=True)
    _equal((claim.won, claim.replaced), (True, old), "claim anew")
    _equal(await _finish(store, 0, "old"), False, "finish of the run it took the place of")
    _equal(await _finish(store, 0, "new"), True, "finish of the new run")
    await store.claim(_message(0), _waiting(store, "newer"), anew=True)
    _equal(await _state(store, 0), "waiting", "the state after a claim anew of a finished message")
    await _claim_and_finish(store, 1, limit=1)
    _equal(await _state(store, 0), "waiting", "the state when more than the limit have finished")


async def a_run_begins_once(store: DuplicateStore) -> None:
    """Only the run that has the message may begin, and not twice."""
    await store.claim(_message(0), _waiting(store, "run"))
    _equal(await store.begin(_message(0), "another"), False, "begin of a run that has not the message")
    _equal(await _state(store, 0), "waiting", "the state after that")
    _equal(await store.begin(_message(0), "run"), True, "begin")
    _equal(await _state(store, 0), "running", "the state after begin")
    _equal(await store.begin(_message(0), "run"), False, "begin of what has begun")
    await _finish(store, 0, "run")
    _equal(await store.begin(_message(0), "run"), False, "begin of what has finished")


async def what_was_taken_over_does_not_begin(store: DuplicateStore) -> None:
    """Who was thought dead while it waited finds that the message is another's."""
    old = _waiting(store, "old")
    await store.claim(_message(0), old)
    await store.claim(_message(0), _waiting(store, "new"), replaces=old)
    _equal(await store.begin(_message(0), "old"), False, "begin of a run that was replaced")
    await store.free(_message(0), "old")
    _equal((await store.claim(_message(0), _waiting(store, "third"))).won, False, "claim after the old run's free")
    _equal(await store.begin(_message(0), "new"), True, "begin of the run that replaced it")


async def an_answer_is_read_back(store: DuplicateStore) -> None:
    """Status, headers in their order and body, byte for byte; a duplicate's claim gets them too."""
    await store.claim(_message(0), _waiting(store, "run"))
    await store.begin(_message(0), "run")
    wanted = replace(_waiting(store, "run"), state="answered", answer=ANSWER, expires=T0 + KEEP)
    _equal(await store.finish(_message(0), wanted, at=T0, limit=MANY), True, "finish")
    _equal(await store.read(_message(0)), wanted, "read after finish")
    claim = await store.claim(_message(0), _waiting(store, "duplicate"))
    _equal((claim.record, claim.won), (wanted, False), "claim of an answered message")


async def the_first_end_stands(store: DuplicateStore) -> None:
    """A finished run does not finish differently or become free; but an unknown outcome may become known."""
    await store.claim(_message(0), _waiting(store, "run"))
    _equal(await _finish(store, 0, "run", "unknown"), True, "finish as unknown")
    _equal(await _finish(store, 0, "run", "answered"), True, "finish of an unknown outcome")
    _equal(await _finish(store, 0, "run", "unknown"), False, "finish of an answered message")
    await store.free(_message(0), "run")
    _equal(await _state(store, 0), "answered", "the state after all that")


async def a_freed_message_is_new(store: DuplicateStore) -> None:
    """Whether it had begun or not; and only its own run frees it."""
    for begun in (False, True):
        await store.claim(_message(0), _waiting(store, "run"))
        if begun:
            await store.begin(_message(0), "run")
        await store.free(_message(0), "another")
        _equal(await _state(store, 0), "running" if begun else "waiting", "the state after another run's free")
        await store.free(_message(0), "run")
        _equal(await store.read(_message(0)), None, "read after free")


async def free_puts_back_what_it_is_given(store: DuplicateStore) -> None:
    """What had not finished can finish then; nothing is put back where the run had not the message."""
    old = _waiting(store, "old")
    await store.claim(_message(0), old)
    await store.claim(_message(0), _waiting(store, "new"), anew=True)
    await store.free(_message(0), "another", restores=_waiting(store, "wrong"))
    _equal((await store.claim(_message(0), old)).record.run, "new", "who has the message after another run's free")
    await store.free(_message(0), "new", restores=old)
    _equal(await store.read(_message(0)), old, "read after free")
    _equal(await _finish(store, 0, "old"), True, "finish of what was put back")


async def the_first_to_finish_go_first(store: DuplicateStore) -> None:
    """No more than `limit` finished records stay; the order of finishing counts, not that of arriving."""
    for number in range(6):
        await store.claim(_message(number), _waiting(store, f"run-{number}"))
    for number in (3, 1, 2, 0):
        await _finish(store, number, f"run-{number}", limit=2)
    states = [await _state(store, number) for number in range(6)]
    _equal(
        states, ["answered", None, "answered", None, "waiting", "waiting"], "what is left of six with a limit of two"
    )


async def the_limit_holds_over_many(store: DuplicateStore) -> None:
    """However many messages there were."""
    for number in range(200):
        await _claim_and_finish(store, number, limit=10)
    left = [number for number in range(200) if await store.read(_message(number)) is not None]
    _equal(left, list(range(190, 200)), "what is left of 200 with a limit of ten")


async def what_has_expired_is_dropped(store: DuplicateStore) -> None:
    """When another finishes, if it was the first to finish; what has not finished stays."""
    await store.claim(_message(0), replace(_waiting(store, "run"), expires=T0 + 1_000 * KEEP))
    await _claim_and_finish(store, 1)
    await _claim_and_finish(store, 2, at=T0 + KEEP / 2)
    await _claim_and_finish(store, 3, at=T0 + KEEP + 1)
    states = [await _state(store, number) for number in range(4)]
    _equal(states, ["waiting", None, "answered", "answered"], "what is left after the first has expired")


async def opening_again_keeps_what_is_stored(store: DuplicateStore) -> None:
    """Opening an open store, and opening it after closing it twice, changes nothing."""
    await _claim_and_finish(store, 0)
    record = await store.read(_message(0))
    await asyncio.gather(store.open(), store.open())
    await store.aclose()
    await store.aclose()
    await store.open()
    _equal(await store.read(_message(0)), record, "read after closing and opening")


CHECKS: tuple[Check, ...] = (
    an_unknown_message_has_no_record,
    the_owner_is_one_of_this_store,
    the_second_claim_gets_the_first,
    one_of_many_claims_wins,
    one_of_many_replacements_wins,
    a_new_message_takes_the_place,
    a_run_begins_once,
    what_was_taken_over_does_not_begin,
    an_answer_is_read_back,
    the_first_end_stands,
    a_freed_message_is_new,
    free_puts_back_what_it_is_given,
    the_first_to_finish_go_first,
    the_limit_holds_over_many,
    what_has_expired_is_dropped,
    opening_again_keeps_what_is_stored,
)
"""Every promise, in the order of the contract."""


def _message(number: int) -> str:
    return f"{number:064x}"


def _waiting(store: DuplicateStore, run: str) -> MessageRecord:
    return MessageRecord(
        run=run, owner=store.owner, state="waiting", fingerprint="f" * 64, stream=False, expires=T0 + KEEP
    )


async def _finish(
    store: DuplicateStore, number: int, run: str, state: MessageState = "answered", *, at: float = T0, limit: int = MANY
) -> bool:
    answer = ANSWER if state == "answered" else None
    record = replace(_waiting(store, run), state=state, answer=answer, expires=at + KEEP)
    return await store.finish(_message(number), record, at=at, limit=limit)


async def _claim_and_finish(store: DuplicateStore, number: int, *, at: float = T0, limit: int = MANY) -> None:
    await store.claim(_message(number), _waiting(store, f"run-{number}"))
    await _finish(store, number, f"run-{number}", at=at, limit=limit)


async def _state(store: DuplicateStore, number: int) -> MessageState | None:
    found = await store.read(_message(number))
    return None if found is None else found.state


def _equal(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise SuiteFailure(f"{what}: {found!r} instead of {wanted!r}")
