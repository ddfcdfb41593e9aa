"""The write lock: one has it, nobody waits for ever, and being locked out is no takeover."""

import asyncio

from turnlane.errors import TranscriptBusy
from turnlane.testing.transcript_store_suite._bench import (
    LOCK_TIMEOUT,
    NOBODY,
    Bench,
    Check,
    SuiteFailure,
    entry,
    equal,
)
from turnlane.transcripts import TranscriptHandle
from turnlane.transcripts.entries import encoded

__all__ = ("CHECKS",)


async def who_is_locked_out_is_told_busy(bench: Bench) -> None:
    """After the time it was ready to wait, with nothing changed; others are not in its way."""
    same = bench.store()
    async with bench.opener("a", store=same) as holder:
        await holder.append(encoded([entry("one")]), NOBODY)
        for store in (same, bench.store()):
            handle = await store.attach("a")
            for timeout in (0.0, 0.02):
                await _is_busy(handle, timeout)
            await handle.aclose()
            await holder.prove(NOBODY, content=True)
        await bench.store_from_outside("b", "of another session")
        await holder.append(encoded([entry("two")]), NOBODY)
    equal(await bench.said("a"), ["one", "two"], "read after contention")


async def letting_go_lets_the_next_one_in(bench: Bench) -> None:
    """By `unlock`, and by `aclose` alone; at once."""
    store = bench.store()
    for close in (False, True):
        first, second = await store.attach("a"), await bench.store().attach("a")
        await first.lock(LOCK_TIMEOUT)
        await _is_busy(second, 0.0)
        await (first.aclose() if close else first.unlock())
        await second.lock(0.0)
        await second.load(NOBODY, adopt=False)
        await second.aclose()
        await first.aclose()


async def who_waits_gets_it_when_it_is_free(bench: Bench) -> None:
    """Without being asked again."""
    async with bench.opener("a") as holder:
        handle = await bench.store().attach("a")
        waiting = asyncio.ensure_future(handle.lock(LOCK_TIMEOUT))
        for _ in range(10):
            await asyncio.sleep(0)
        equal(waiting.done(), False, "whether a lock is given to two")
        await holder.unlock()
        await waiting
        await _is_busy(holder, 0.0)
        await handle.aclose()
        await holder.lock(0.0)


async def a_wait_that_is_cancelled_leaves_nothing(bench: Bench) -> None:
    """Wherever it is cancelled, the next one gets the lock at once when it is free."""
    async with bench.opener("a") as holder:
        for steps in range(6):
            handle = await bench.store().attach("a")
            waiting = asyncio.ensure_future(handle.lock(LOCK_TIMEOUT))
            for _ in range(steps):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            equal(waiting.cancelled(), True, "whether a wait that is cancelled ends so")
            await holder.unlock()
            await holder.lock(0.0)
            await handle.aclose()
            await holder.prove(NOBODY, content=True)


async def contention_on_the_way_back_is_busy(bench: Bench) -> None:
    """What was staged is salvaged, and the turn goes on when the lock is free."""
    transcripts = bench.transcripts(lock_timeout=0.02)
    async with transcripts.open("a") as transcript:
        await transcript.append(entry("first"))
        holder = await bench.store().attach("a")
        try:
            async with transcript.released() as prompt:
                prompt.stage(entry("staged"))
                await holder.lock(LOCK_TIMEOUT)
                await holder.join(NOBODY)
                await holder.append(encoded([entry("of a peer")]), NOBODY)
        except TranscriptBusy:
            equal(bench.salvaged("a"), ["staged"], "the salvage")
        else:
            raise SuiteFailure("two had the lock")
        await holder.aclose()
        await transcript.append(entry("went on"))
    equal(await bench.said("a"), ["first", "of a peer", "went on"], "read after contention")


async def many_writers_lose_nothing(bench: Bench) -> None:
    """Eight stores, five short writes each, all at once."""

    async def write(name: int) -> None:
        transcripts = bench.transcripts()
        for number in range(5):
            await transcripts.append("a", entry(f"{name}-{number}"))

    await asyncio.gather(*(write(name) for name in range(8)))
    read = await bench.said("a")
    equal(sorted(read), sorted(f"{name}-{number}" for name in range(8) for number in range(5)), "read after 40 writes")
    for name in range(8):
        own = [text for text in read if text.startswith(f"{name}-")]
        equal(own, sorted(own), f"the order of what {name} has written")


async def _is_busy(handle: TranscriptHandle, timeout: float) -> None:
    try:
        await handle.lock(timeout)
    except TranscriptBusy:
        return
    raise SuiteFailure("two had the lock")


CHECKS: tuple[Check, ...] = (
    who_is_locked_out_is_told_busy,
    letting_go_lets_the_next_one_in,
    who_waits_gets_it_when_it_is_free,
    a_wait_that_is_cancelled_leaves_nothing,
    contention_on_the_way_back_is_busy,
    many_writers_lose_nothing,
)
