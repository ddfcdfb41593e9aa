"""What an opener has proven, what others may do meanwhile, and who may write at all."""

import asyncio
from collections.abc import Awaitable, Callable

from turnlane.errors import StaleTurn, TranscriptUnavailable
from turnlane.testing.transcript_store_suite._bench import (
    LOCK_TIMEOUT,
    NOBODY,
    Bench,
    Check,
    SuiteFailure,
    entry,
    equal,
    said,
)
from turnlane.transcripts import Author, Changes, TranscriptHandle
from turnlane.transcripts.entries import encoded

__all__ = ("CHECKS",)

MOST_STEPS = 200


async def owned_changes_of_others_are_listed(bench: Bench) -> None:
    """Those since the fence, oldest first, once; however they were proven."""
    for content in (True, False):
        session_id = f"content {content}"
        async with bench.opener(session_id) as handle:
            await handle.append(encoded([entry("mine")]), NOBODY)
            await handle.unlock()
            await bench.store_from_outside(session_id, "one", "two")
            await bench.store_from_outside(session_id, "three")
            await handle.lock(LOCK_TIMEOUT)
            wanted = Changes((entry("one"), entry("two"), entry("three")))
            equal(await handle.prove(NOBODY, content=content), wanted, "the changes of others")
            equal(await handle.prove(NOBODY, content=content), Changes(), "the changes since the last proof")
            await handle.append(encoded([entry("behind")]), NOBODY)
        equal(await bench.said(session_id), ["mine", "one", "two", "three", "behind"], "read after that")


async def both_fences_accept(bench: Bench) -> None:
    """Two openers that write in turns, each with an empty write of the other's in between."""
    async with bench.opener("a") as first:
        await first.unlock()
        async with bench.opener("a") as second:
            await second.unlock()
            for number in range(5):
                for name, handle, content in (("first", first, True), ("second", second, False)):
                    await handle.lock(LOCK_TIMEOUT)
                    changes = await handle.prove(NOBODY, content=content)
                    equal(len(changes.entries), int(number > 0 or name == "second"), f"changes seen by the {name}")
                    await handle.append(encoded([entry(f"{name} {number}")]), NOBODY)
                    await handle.unlock()
    wanted = [f"{name} {number}" for number in range(5) for name in ("first", "second")]
    equal(await bench.said("a"), wanted, "read after writing in turns")


async def a_write_of_nothing_but_the_own_is_no_change(bench: Bench) -> None:
    """Letting the lock go and taking it back shows nothing where nobody was."""
    async with bench.opener("a") as handle:
        for number in range(3):
            await handle.append(encoded([entry(str(number))]), NOBODY)
            fence = handle.fence
            await handle.unlock()
            await handle.lock(LOCK_TIMEOUT)
            equal(await handle.prove(NOBODY, content=True), Changes(), "changes where nobody was")
            equal(handle.fence, fence, "the fence where nobody was")


async def a_stale_token_is_refused(bench: Bench) -> None:
    """By everything that needs one; with the highest that has written; nothing is stored."""
    await bench.store_from_outside("a", "of the successor", author=Author(turn="turn-7", token=7))
    stale = Author(turn="turn-6", token=6)
    async with bench.opener("a") as handle:
        await _refused(handle, "load", stale)
        await _refused(handle, "join", stale)
        await handle.load(NOBODY, adopt=False)
        await _refused(handle, "prove", stale)
        await _refused(handle, "append", stale)
        await _refused(handle, "delete", stale)
        await handle.load(Author(token=7), adopt=False)
        await handle.append(encoded([entry("of the same")]), Author(token=7))
    equal(await bench.said("a"), ["of the successor", "of the same"], "read after refusals")


async def a_write_without_a_token_is_not_checked(bench: Bench) -> None:
    """And records none: the highest stays."""
    await bench.store_from_outside("a", "seven", author=Author(token=7))
    await bench.store_from_outside("a", "nobody's")
    async with bench.opener("a") as handle:
        await _refused(handle, "prove", Author(token=6))
    await bench.store_from_outside("a", "seven again", author=Author(token=7))
    equal(await bench.said("a"), ["seven", "nobody's", "seven again"], "read after them")


async def a_turn_that_was_overtaken_while_it_was_out_is_refused(bench: Bench) -> None:
    """The successor has written; its fence does not move."""
    author = Author(turn="turn-1", token=1)
    async with bench.opener("a", author=author) as handle:
        await handle.append(encoded([entry("first")]), author)
        await handle.unlock()
        await bench.store_from_outside("a", "of the successor", author=Author(token=2))
        await handle.lock(LOCK_TIMEOUT)
        for _ in range(2):
            await _refused(handle, "prove", author)
        await _refused(handle, "append", author)
    equal(await bench.said("a"), ["first", "of the successor"], "read after the refusal")


async def a_write_that_is_cancelled_is_done_or_not(bench: Bench) -> None:
    """Wherever it is cancelled: whole or not at all, and the handle goes on."""
    others = bench.store()
    async with bench.opener("a") as handle:
        wanted: list[str] = []
        for steps in range(MOST_STEPS):
            texts = [f"{steps} one", f"{steps} two"]
            task = asyncio.ensure_future(handle.append(encoded([entry(text) for text in texts]), NOBODY))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            read = said(await others.read("a", None))
            equal(read in (wanted, wanted + texts), True, f"whole or not at all, cancelled after {steps} steps")
            if not task.cancelled():
                equal(read, wanted + texts, "read after an append that returned")
            wanted = read
            await handle.prove(NOBODY, content=True)
            if not task.cancelled():
                break
        await handle.append(encoded([entry("next")]), NOBODY)
    equal(await bench.said("a"), [*wanted, "next"], "read after the cancellations")


async def a_closed_handle_says_so(bench: Bench) -> None:
    """Closing and unlocking twice is harmless; using it afterwards is an error of ours."""
    async with bench.opener("a") as handle:
        await handle.unlock()
        await handle.unlock()
        await handle.aclose()
        await handle.aclose()
        await handle.unlock()
        try:
            await handle.prove(NOBODY, content=True)
        except TranscriptUnavailable:
            return
    raise SuiteFailure("a closed handle was used")


async def closing_a_store_keeps_what_is_stored(bench: Bench) -> None:
    """Twice is harmless, and it can be used again."""
    store = bench.store()
    async with bench.opener("a", store=store) as handle:
        await handle.append(encoded([entry("one")]), NOBODY)
    await store.aclose()
    await store.aclose()
    equal([found["content"] for found in await store.read("a", None)], ["one"], "read after closing")


async def _refused(handle: TranscriptHandle, what: str, author: Author) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "load": lambda: handle.load(author, adopt=True),
        "join": lambda: handle.join(author),
        "prove": lambda: handle.prove(author, content=True),
        "append": lambda: handle.append(encoded([entry("stale")]), author),
        "delete": lambda: handle.delete(author, at=1.0),
    }
    fence = handle.fence
    try:
        await calls[what]()
    except StaleTurn as error:
        equal(error.token, author.token, f"the token that {what} refuses")
        equal(error.highest > error.token, True, f"{what} says a higher token")
        equal(handle.fence == fence or what in ("load", "join"), True, f"the fence stays when {what} is refused")
        return
    raise SuiteFailure(f"{what} with a stale token was not refused")


CHECKS: tuple[Check, ...] = (
    owned_changes_of_others_are_listed,
    both_fences_accept,
    a_write_of_nothing_but_the_own_is_no_change,
    a_stale_token_is_refused,
    a_write_without_a_token_is_not_checked,
    a_turn_that_was_overtaken_while_it_was_out_is_refused,
    a_write_that_is_cancelled_is_done_or_not,
    a_closed_handle_says_so,
    closing_a_store_keeps_what_is_stored,
)
