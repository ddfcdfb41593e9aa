"""What is stored is there: in order, whole, whatever the id."""

from turnlane.errors import TranscriptCorrupt
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
from turnlane.transcripts import Author
from turnlane.transcripts.digest import chained
from turnlane.transcripts.entries import encoded
from turnlane.transcripts.record import State

__all__ = ("CHECKS",)

AWKWARD_IDS = (
    "plain",
    "PLAIN",
    "Plain",
    "a/b",
    "a/../b",
    "..",
    ".",
    ".hidden",
    "a b",
    "a'b\"c;--",
    "%s%00",
    "~",
    "-",
    "a#b?c",
    "line\nfeed",
    "con",
    "plain.jsonl",
    "plain.salvage",
    "ä",
    "a\u0308",
    "\u212b",
    "\u00c5",
    "\U0001f600",
    "\udcff",
    "x" * 512,
    "x" * 511 + "y",
    "\U0001f600" * 128,
)


async def nothing_is_there_at_first(bench: Bench) -> None:
    """An unknown session has no entries, and is not listed."""
    store = bench.store()
    equal(await store.read("nobody", None), (), "read of an unknown session")
    equal(await store.read("nobody", 3), (), "read of the last entries of an unknown session")
    equal(await store.list(), (), "list of an empty place")
    equal(await store.sweep(1e12), 0, "sweep of an empty place")


async def a_transcript_begins_empty_when_it_is_opened(bench: Bench) -> None:
    """`load` makes it, and finds nothing; the second time too."""
    store = bench.store()
    handle = await store.attach("a")
    await handle.lock(LOCK_TIMEOUT)
    for _ in range(2):
        equal(await handle.load(NOBODY, adopt=False), loaded(), "load of a transcript that was not there")
    equal(handle.fence.state, State(), "the fence of an empty transcript")
    await handle.aclose()
    equal(await store.list(), ("a",), "list after it was opened")
    equal(await store.read("a", None), (), "read of an empty transcript")


async def entries_are_read_in_the_order_of_the_appends(bench: Bench) -> None:
    """By the same store, by another one, and by the next opener."""
    store = bench.store()
    async with bench.opener("a", store=store) as handle:
        await handle.append(encoded([entry("one"), entry("two")]), NOBODY)
        await handle.append(encoded([entry("three")]), NOBODY)
    wanted = ["one", "two", "three"]
    equal(await bench.said("a"), wanted, "read by another store")
    for count in (0, 1, 2, 3, 100):
        last = [found["content"] for found in await store.read("a", count)]
        equal(last, wanted[3 - min(3, count) :], f"read of the last {count}")
    async with bench.opener("a") as handle:
        entries, finding = await handle.load(NOBODY, adopt=False)
        equal([found["content"] for found in entries], wanted, "load by the next opener")
        equal(finding, None, "what load found")


async def the_fence_is_what_was_written(bench: Bench) -> None:
    """Bytes, lines and the chained digest of them, as for a JSONL file; versions grow."""
    lines = encoded([entry("one"), entry("zwei ü"), entry("three")])
    async with bench.opener("a") as handle:
        first = handle.fence
        await handle.append(lines[:2], NOBODY)
        second = handle.fence
        await handle.append(lines[2:], NOBODY)
        third = handle.fence
    state = State(sum(len(line) + 1 for line in lines), 3, chained(State().digest, lines))
    equal(third.state, state, "the fence after two appends")
    if not first.version < second.version < third.version:
        raise SuiteFailure(f"versions {first.version}, {second.version}, {third.version} do not grow")
    async with bench.opener("a") as handle:
        equal(handle.fence, third, "the fence of the next opener")


async def joining_appends_behind_what_is_there(bench: Bench) -> None:
    """Without having read it; also where nothing is there."""
    for text in ("one", "two", "three"):
        await bench.store_from_outside("a", text)
    equal(await bench.said("a"), ["one", "two", "three"], "read after three short writes")


async def every_kind_of_json_comes_back(bench: Bench) -> None:
    """Of the same type and value, whatever is in the text."""
    nothing: dict[str, object] = {}
    value: dict[str, object] = {
        "content": "snow ☃ \U0001f600 \x00 \n \r\n \u2028 \" \\ ' %",
        "kinds": [None, True, 1, 1.0, 2**70, 5e-324, "", [], {}, {"": {"": ""}}],
    }
    async with bench.opener("a") as handle:
        await handle.append(encoded([value, nothing]), NOBODY)
    equal(repr(await bench.store().read("a", None)), repr((value, nothing)), "read of every kind of JSON")


async def different_ids_are_different_transcripts(bench: Bench) -> None:
    """Whatever they look like: in case, in normal form, as paths, as long as they may be."""
    store = bench.store()
    for number, session_id in enumerate(AWKWARD_IDS):
        async with bench.opener(session_id, store=store) as handle:
            await handle.append(encoded([entry(str(number))]), NOBODY)
        await store.salvage(session_id, encoded([entry(f"kept {number}")]), NOBODY, reason="a check")
    other = bench.store()
    equal(await other.list(), tuple(sorted(AWKWARD_IDS)), "list of awkward ids")
    for number, session_id in enumerate(AWKWARD_IDS):
        equal(await bench.said(session_id), [str(number)], f"read of {session_id!r}")
        equal(bench.salvaged(session_id), [f"kept {number}"], f"the salvage of {session_id!r}")


async def large_entries_are_entries(bench: Bench) -> None:
    """A megabyte each, written together and one by one, proven and read back."""
    lines = encoded([entry(letter * 1_000_000) for letter in "abc"])
    async with bench.opener("a") as handle:
        await handle.append(lines[:2], NOBODY)
        await handle.prove(NOBODY, content=True)
        await handle.append(lines[2:], NOBODY)
        await handle.prove(NOBODY, content=True)
    read = await bench.said("a")
    equal([text[:1] + str(len(text)) for text in read], ["a1000000", "b1000000", "c1000000"], "three large entries")


async def many_entries_are_entries(bench: Bench) -> None:
    """Thousands in one append, and more behind them."""
    texts = [str(number) for number in range(3000)]
    async with bench.opener("a") as handle:
        await handle.append(encoded([entry(text) for text in texts]), NOBODY)
        for number in range(20):
            await handle.append(encoded([entry(f"more {number}")]), NOBODY)
    wanted = [*texts, *(f"more {number}" for number in range(20))]
    equal(await bench.said("a"), wanted, "thousands of entries")
    equal([found["content"] for found in await bench.store().read("a", 21)], wanted[-21:], "the last 21 of thousands")


async def a_line_that_is_no_entry_is_an_error(bench: Bench) -> None:
    """It names the line; nothing is skipped, and nothing adopted."""
    await bench.store_from_outside("a", "one", "two")
    bench.place.append("a", b"not an entry")
    store = bench.store()
    handle = await store.attach("a")
    await handle.lock(LOCK_TIMEOUT)
    for what, call in (
        ("read", lambda: store.read("a", None)),
        ("load", lambda: handle.load(NOBODY, adopt=True)),
        ("load once more", lambda: handle.load(NOBODY, adopt=True)),
    ):
        try:
            await call()
        except TranscriptCorrupt as error:
            equal((error.line, error.path), (3, handle.path), f"what {what} says of the line")
        else:
            raise SuiteFailure(f"{what} skipped a line that is no entry")
    await handle.aclose()


async def what_is_salvaged_is_kept(bench: Bench) -> None:
    """Also what is no entry, for a session nobody has heard of; and one is told where."""
    store = bench.store()
    lines = list(encoded([entry("one"), entry("zwei ü")]))
    where = await store.salvage("a", lines[:1], Author(turn="turn-1", token=7), reason="because")
    equal(bool(where), True, "salvage says where")
    equal(await store.salvage("a", lines[1:], NOBODY, reason="\udcff of ü"), where, "where it went the second time")
    equal(bench.place.salvaged("a"), lines, "what was salvaged")
    await store.salvage("b", [b'{"half'], NOBODY, reason="torn")
    equal(bench.place.salvaged("b"), [b'{"half'], "what was salvaged of a torn line")
    equal(await store.list(), (), "list where things were only salvaged")


CHECKS: tuple[Check, ...] = (
    nothing_is_there_at_first,
    a_transcript_begins_empty_when_it_is_opened,
    entries_are_read_in_the_order_of_the_appends,
    the_fence_is_what_was_written,
    joining_appends_behind_what_is_there,
    every_kind_of_json_comes_back,
    different_ids_are_different_transcripts,
    large_entries_are_entries,
    many_entries_are_entries,
    a_line_that_is_no_entry_is_an_error,
    what_is_salvaged_is_kept,
)
