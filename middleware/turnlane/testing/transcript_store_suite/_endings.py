"""Going back to a fence, deleting, and what is left of a transcript that was deleted."""

from collections.abc import Awaitable, Callable, Sequence

from turnlane.errors import StaleTurn, TranscriptUnavailable
from turnlane.testing.transcript_store_suite._bench import (
    LOCK_TIMEOUT,
    NOBODY,
    Bench,
    Check,
    SuiteFailure,
    entry,
    equal,
    loaded,
)
from turnlane.transcripts import Author, TranscriptHandle, UnownedEdit
from turnlane.transcripts.entries import encoded

__all__ = ("CHECKS",)

FIRST = encoded([entry("first")])
MORE = encoded([entry("one"), entry("two")])


async def rolling_back_takes_away_what_is_behind_a_fence(bench: Bench) -> None:
    """That of others too; it is kept first, and the transcript goes on from there."""
    kept: list[bytes] = []

    async def keep(lines: Sequence[bytes]) -> None:
        kept.extend(lines)
        equal(await bench.said("a"), ["first", "one", "two", "of another"], "what is stored while it is kept")

    async with bench.opener("a") as handle:
        await handle.append(FIRST, NOBODY)
        fence = handle.fence
        await handle.append(MORE, NOBODY)
        await handle.unlock()
        await bench.store_from_outside("a", "of another")
        await handle.lock(LOCK_TIMEOUT)
        await handle.prove(NOBODY, content=True)
        wanted = (*MORE, *encoded([entry("of another")]))
        equal(await handle.rollback(fence, NOBODY, keep=keep), wanted, "what was taken away")
        equal(tuple(kept), wanted, "what was kept")
        equal(handle.fence.state, fence.state, "the content at the fence after that")
        equal(await handle.rollback(fence, NOBODY, keep=_never), (), "what is taken away the second time")
        await handle.append(encoded([entry("again")]), NOBODY)
        await handle.prove(NOBODY, content=True)
    equal(await bench.said("a"), ["first", "again"], "read after it")
    async with bench.opener("a") as handle:
        equal((await handle.load(NOBODY, adopt=False))[1], None, "what the next opener finds")


async def rolling_back_to_the_beginning_leaves_nothing(bench: Bench) -> None:
    """An empty transcript, which is there."""
    async with bench.opener("a") as handle:
        fence = handle.fence
        await handle.append(MORE, NOBODY)
        equal(await handle.rollback(fence, NOBODY, keep=_kept), MORE, "what was taken away")
        equal(await handle.load(NOBODY, adopt=False), loaded(), "load after it")
    equal(await bench.store().list(), ("a",), "list after it")


async def what_can_not_be_kept_is_not_taken_away(bench: Bench) -> None:
    """What `keep` raises is raised, and nothing is changed."""

    async def fail(_: Sequence[bytes]) -> None:
        raise ZeroDivisionError

    async with bench.opener("a") as handle:
        before = handle.fence
        await handle.append(MORE, NOBODY)
        fence = handle.fence
        try:
            await handle.rollback(before, NOBODY, keep=fail)
        except ZeroDivisionError:
            equal(handle.fence, fence, "the fence after that")
        else:
            raise SuiteFailure("rollback swallowed what keep raised")
        await handle.append(FIRST, NOBODY)
    equal(await bench.said("a"), ["one", "two", "first"], "read after it")


async def a_rollback_is_an_owned_write_that_is_no_append(bench: Bench) -> None:
    """Whoever was out is told the whole content."""
    async with bench.opener("a") as outside:
        await outside.append(MORE, NOBODY)
        await outside.unlock()
        async with bench.opener("a") as handle:
            fence = handle.fence
            await handle.append(FIRST, NOBODY)
            await handle.rollback(fence, NOBODY, keep=_kept)
        await outside.lock(LOCK_TIMEOUT)
        changes = await outside.prove(NOBODY, content=False)
        equal((changes.rewritten, len(changes.entries)), (True, 2), "the changes of others")
        await outside.append(FIRST, NOBODY)
    equal(await bench.said("a"), ["one", "two", "first"], "read after it")


async def a_fence_that_does_not_hold_any_more_is_refused(bench: Bench) -> None:
    """What stood at it was taken away and written anew."""
    async with bench.opener("a") as handle:
        first = handle.fence
        await handle.append(MORE, NOBODY)
        second = handle.fence
        await handle.rollback(first, NOBODY, keep=_kept)
        await handle.append(encoded([entry("other"), entry("words"), entry("now")]), NOBODY)
        await _raises(TranscriptUnavailable, lambda: handle.rollback(second, NOBODY, keep=_never))
        await handle.prove(NOBODY, content=True)
    equal(await bench.said("a"), ["other", "words", "now"], "read after the refusal")


async def a_stale_turn_and_an_unowned_edit_stop_a_rollback(bench: Bench) -> None:
    """Nothing is cut from what has a later turn, or nobody has proven."""
    async with bench.opener("a") as handle:
        fence = handle.fence
        await handle.append(MORE, Author(token=7))
        await _raises(StaleTurn, lambda: handle.rollback(fence, Author(token=6), keep=_never))
        bench.place.append("a", FIRST[0])
        await _raises(UnownedEdit, lambda: _proven_back(handle))
    equal(await bench.said("a"), ["one", "two", "first"], "read after the refusals")


async def a_deleted_transcript_is_gone(bench: Bench) -> None:
    """It is neither read nor listed; the id begins anew, empty, with the highest token it had."""
    store = bench.store()
    await bench.store_from_outside("b", "kept")
    for how in ("open", "append"):
        await bench.store_from_outside("a", "one", author=Author(token=7))
        await _delete(bench, "a", at=1000.0)
        equal((await store.read("a", None), await store.read("a", 1)), ((), ()), "read of a deleted transcript")
        equal(await store.list(), ("b",), "list after a deletion")
        equal(await bench.said("b"), ["kept"], "read of another one")
        if how == "open":
            async with bench.opener("a") as handle:
                await _raises(StaleTurn, lambda: handle.load(Author(token=6), adopt=True))
                equal(await handle.load(Author(token=7), adopt=False), loaded(), "load of a deleted transcript")
                await handle.append(FIRST, NOBODY)
            equal(await store.list(), ("a", "b"), "list after it began anew")
            await _delete(bench, "a", at=1001.0)
    await bench.store_from_outside("a", "anew")
    equal(await bench.said("a"), ["anew"], "read of what was appended to a deleted transcript")


async def who_had_it_open_is_told(bench: Bench) -> None:
    """By the next proof and the next append; also where another one has begun under that id."""
    for anew in (False, True):
        session_id = f"anew {anew}"
        async with bench.opener(session_id) as handle:
            await handle.append(FIRST, NOBODY)
            await handle.unlock()
            await _delete(bench, session_id, at=1000.0)
            if anew:
                await bench.store_from_outside(session_id, "first")
            await handle.lock(LOCK_TIMEOUT)
            for content in (True, False, True):
                error = await _raises(TranscriptUnavailable, lambda: handle.prove(NOBODY, content=content))  # noqa: B023
                equal("it was deleted" in str(error), True, "the error says that it was deleted")
        equal(await bench.said(session_id), ["first"] if anew else [], "read after it")


async def whatever_it_holds_it_can_be_deleted(bench: Bench) -> None:
    """What somebody else has changed, what is no entry, and where there is nothing."""
    await bench.store_from_outside("edited", "one", "two")
    bench.place.edit("edited", 0, b'{"content":"by hand"}')
    await bench.store_from_outside("corrupt", "one")
    bench.place.append("corrupt", b"{{{")
    await bench.store_from_outside("removed", "one")
    bench.place.delete("removed")
    bench.place.append("unknown", b'{"content":"by hand"}')
    for session_id in ("edited", "corrupt", "removed", "unknown", "never there"):
        await _delete(bench, session_id, at=1000.0)
        equal(await bench.store().read(session_id, None), (), f"read of one that was {session_id}")
        handle = await bench.store().attach(session_id)
        await handle.lock(LOCK_TIMEOUT)
        equal(await handle.load(NOBODY, adopt=False), loaded(), f"load of one that was {session_id}")
        await handle.aclose()


async def tombstones_are_swept_when_their_time_is_over(bench: Bench) -> None:
    """Those older than the moment, each once; what lives stays."""
    store = bench.store()
    await bench.store_from_outside("kept", "one")
    for at, session_id in ((1000.0, "a"), (2000.0, "b"), (3000.0, "a")):
        await bench.store_from_outside(session_id, *(str(number) for number in range(700)))
        await _delete(bench, session_id, at=at)
    await bench.store_from_outside("b", "anew")
    for before, wanted in ((999.0, 0), (1500.0, 1), (1500.0, 0), (4000.0, 2), (4000.0, 0)):
        equal(await store.sweep(before), wanted, f"how many are swept before {before}")
    equal(await store.list(), ("b", "kept"), "list after sweeping")
    equal((await bench.said("kept"), await bench.said("b")), (["one"], ["anew"]), "read after sweeping")
    async with bench.opener("b") as handle:
        equal((await handle.load(NOBODY, adopt=False))[1], None, "what is found in one that lives")


async def _proven_back(handle: TranscriptHandle) -> None:
    fence = handle.fence
    await handle.prove(NOBODY, content=True)
    await handle.rollback(fence, NOBODY, keep=_never)


async def _delete(bench: Bench, session_id: str, *, at: float) -> None:
    handle = await bench.store().attach(session_id)
    try:
        await handle.lock(LOCK_TIMEOUT)
        await handle.delete(NOBODY, at=at)
    finally:
        await handle.aclose()


async def _kept(_: Sequence[bytes]) -> None:
    pass


async def _never(lines: Sequence[bytes]) -> None:
    raise SuiteFailure(f"{len(lines)} lines were kept that are not taken away")


async def _raises(kind: type[Exception], call: Callable[[], Awaitable[object]]) -> Exception:
    try:
        await call()
    except kind as error:
        return error
    raise SuiteFailure(f"no {kind.__name__} was raised")


CHECKS: tuple[Check, ...] = (
    rolling_back_takes_away_what_is_behind_a_fence,
    rolling_back_to_the_beginning_leaves_nothing,
    what_can_not_be_kept_is_not_taken_away,
    a_rollback_is_an_owned_write_that_is_no_append,
    a_fence_that_does_not_hold_any_more_is_refused,
    a_stale_turn_and_an_unowned_edit_stop_a_rollback,
    a_deleted_transcript_is_gone,
    who_had_it_open_is_told,
    whatever_it_holds_it_can_be_deleted,
    tombstones_are_swept_when_their_time_is_over,
)
