"""What nobody owns is refused inside a turn, flagged or refused between turns, and never becomes owned by itself."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from turnlane.errors import StaleTurn, TranscriptTakeover
from turnlane.hooks import Hooks, TranscriptAdopted
from turnlane.testing.transcript_store_suite._bench import (
    LOCK_TIMEOUT,
    NOBODY,
    Bench,
    Check,
    SuiteFailure,
    TranscriptPlace,
    entry,
    equal,
    said,
)
from turnlane.transcripts import Transcript, Transcripts, UnownedEdit
from turnlane.transcripts.entries import encoded

__all__ = ("CHECKS",)

BY_HAND = b'{"role": "user", "content": "by hand"}'
SAME_SIZE = b'{"role":"user","content":"SECOND"}'
BEFORE = ("first", "second", "third")

KINDS = ("appended", "edited", "truncated", "deleted")
AFTER: Mapping[str, list[str]] = MappingProxyType(
    {
        "appended": ["first", "second", "third", "by hand"],
        "edited": ["first", "SECOND", "third"],
        "truncated": ["first", "second"],
        "deleted": [],
    }
)
LINES: Mapping[str, int | None] = MappingProxyType({"appended": 4, "edited": 2, "truncated": 3, "deleted": None})


def _change(place: TranscriptPlace, kind: str, session_id: str) -> None:
    changes: dict[str, Callable[[], None]] = {
        "appended": partial(place.append, session_id, BY_HAND),
        "edited": partial(place.edit, session_id, 1, SAME_SIZE),
        "truncated": partial(place.truncate, session_id, 2),
        "deleted": partial(place.delete, session_id),
    }
    changes[kind]()


async def an_edit_behind_a_fence_is_an_unowned_edit(bench: Bench) -> None:
    """Each kind, told by name and line; again and again; the fence stays, and nothing is appended."""
    for kind in KINDS:
        await bench.store_from_outside(kind, *BEFORE)
        async with bench.opener(kind) as handle:
            fence = handle.fence
            await handle.unlock()
            _change(bench.place, kind, kind)
            await handle.lock(LOCK_TIMEOUT)
            for _ in range(2):
                try:
                    await handle.prove(NOBODY, content=True)
                except UnownedEdit as edit:
                    found = edit.finding
                    equal(
                        (found.kind, found.line), (kind, LINES[kind]), f"what is said of a transcript that was {kind}"
                    )
                    equal(found.expected, fence.state, f"what was owned of a transcript that was {kind}")
                else:
                    raise SuiteFailure(f"a transcript that was {kind} was proven")
            equal(handle.fence, fence, f"the fence of a transcript that was {kind}")
        equal(await bench.said(kind), AFTER[kind], f"read of a transcript that was {kind}")


async def an_edit_during_a_release_is_a_takeover(bench: Bench) -> None:
    """Each kind; sticky; nothing is stored, and what was staged and refused is salvaged."""
    for kind in KINDS:
        transcripts = bench.transcripts()
        await transcripts.append(kind, *map(entry, BEFORE))
        takeover: TranscriptTakeover | None = None
        try:
            async with transcripts.open(kind, turn="turn-1") as transcript:
                takeover = await _taken_over(transcript, partial(_change, bench.place, kind, kind))
                await _append_is_refused(transcript, kind)
                raise takeover
        except TranscriptTakeover as error:
            equal((error.kind, error.phase, error.turn), (kind, "return", "turn-1"), "what the error says")
            equal(bool(error.salvaged), True, "the error says where what was staged is")
        equal(bench.salvaged(kind), ["staged", "refused"], f"the salvage of a transcript that was {kind}")
        equal(await bench.said(kind), AFTER[kind], f"read of a transcript that was {kind}")


async def a_peer_is_refused_before_it_writes(bench: Bench) -> None:
    """And whoever is out too; neither loses a word."""
    for kind in KINDS:
        transcripts, others = bench.transcripts(), bench.transcripts()
        await transcripts.append(kind, *map(entry, BEFORE))
        try:
            async with transcripts.open(kind) as transcript, transcript.released() as prompt:
                prompt.stage(entry("staged"))
                _change(bench.place, kind, kind)
                await _peer_is_refused(others, kind)
        except TranscriptTakeover as error:
            equal(error.kind, kind, "what who was out is told")
        else:
            raise SuiteFailure(f"who was out while a transcript was {kind} was let back")
        equal(bench.salvaged(kind), ["of a peer", "staged"], f"the salvage of a transcript that was {kind}")
        equal(await bench.said(kind), AFTER[kind], f"read of a transcript that was {kind}")


async def an_edit_while_it_is_open_is_found_at_the_latest_at_its_end(bench: Bench) -> None:
    """Holding the lock is not owning what others write."""
    for kind in KINDS:
        transcripts = bench.transcripts()
        await transcripts.append(kind, *map(entry, BEFORE))
        try:
            async with transcripts.open(kind):
                _change(bench.place, kind, kind)
        except TranscriptTakeover as error:
            equal((error.kind, error.phase), (kind, "close"), "what the error says")
        else:
            raise SuiteFailure(f"a transcript that was {kind} inside its lock was closed without a word")


async def an_edit_at_the_end_is_found_by_the_next_append(bench: Bench) -> None:
    """Before anything is appended, with its words in the salvage."""
    for kind in ("appended", "truncated", "deleted"):
        transcripts = bench.transcripts()
        await transcripts.append(kind, *map(entry, BEFORE))
        try:
            async with transcripts.open(kind) as transcript:
                _change(bench.place, kind, kind)
                await transcript.append(entry("refused"))
        except TranscriptTakeover as error:
            equal((error.kind, error.phase), (kind, "append"), "what the error says")
        else:
            raise SuiteFailure(f"to a transcript that was {kind} was appended")
        equal(bench.salvaged(kind), ["refused"], f"the salvage of a transcript that was {kind}")


async def an_edit_between_turns_is_flagged_and_adopted(bench: Bench) -> None:
    """One event, of that kind; from then on it is owned."""
    for kind in KINDS:
        hooks, adopted = Hooks(), list[TranscriptAdopted]()
        hooks.on(TranscriptAdopted, adopted.append)
        transcripts = bench.transcripts(hooks=hooks)
        await transcripts.append(kind, *map(entry, BEFORE))
        _change(bench.place, kind, kind)
        for _ in range(2):
            async with transcripts.open(kind) as transcript:
                equal(said(transcript.entries), AFTER[kind], f"what a turn opens that was {kind}")
        equal([_told(kind, event.kind) for event in adopted], [kind], "the events of an adoption")
        async with bench.transcripts(at_open="raise").open(kind) as transcript:
            await transcript.append(entry("next"))
        equal(await bench.said(kind), [*AFTER[kind], "next"], f"read of a transcript that was {kind}")


async def an_edit_between_turns_can_be_refused(bench: Bench) -> None:
    """`at_open="raise"`: as often as one tries, and nothing is changed by trying."""
    for kind in KINDS:
        transcripts = bench.transcripts(at_open="raise")
        await transcripts.append(kind, *map(entry, BEFORE))
        _change(bench.place, kind, kind)
        for strict in (transcripts, bench.transcripts(at_open="raise")):
            try:
                async with strict.open(kind):
                    pass
            except TranscriptTakeover as error:
                equal((_told(kind, error.kind), error.phase), (kind, "open"), "what the error says")
            else:
                raise SuiteFailure(f"a transcript that was {kind} was opened")
        equal(await bench.said(kind), AFTER[kind], f"read of a transcript that was {kind}")


async def what_is_there_before_anybody_owned_it_is_unknown(bench: Bench) -> None:
    """A transcript somebody else has made: refused, or flagged and adopted."""
    bench.place.append("a", BY_HAND)
    await _peer_is_refused(bench.transcripts(), "a", kind="unknown")
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    async with bench.transcripts(hooks=hooks).open("a") as transcript:
        equal(said(transcript.entries), ["by hand"], "what was there")
        await transcript.append(entry("next"))
    equal([event.kind for event in adopted], ["unknown"], "the events of an adoption")
    equal(await bench.said("a"), ["by hand", "next"], "read after the adoption")


async def an_adoption_is_none_for_who_was_out(bench: Bench) -> None:
    """What the next turn has taken in is still a change nobody owns for the one that was out."""
    for kind in KINDS:
        transcripts, others = bench.transcripts(), bench.transcripts()
        await transcripts.append(kind, *map(entry, BEFORE))
        try:
            async with transcripts.open(kind) as transcript, transcript.released() as prompt:
                prompt.stage(entry("staged"))
                _change(bench.place, kind, kind)
                async with others.open(kind) as other:
                    await other.append(entry("of a peer"))
        except TranscriptTakeover:
            equal(bench.salvaged(kind), ["staged"], "the salvage")
        else:
            raise SuiteFailure(f"what was {kind} became owned for who was out")
        equal(await bench.said(kind), [*AFTER[kind], "of a peer"], f"read of a transcript that was {kind}")


async def a_change_and_its_reversal_is_no_change(bench: Bench) -> None:
    """The content is what is owned, not when or by whom it was touched."""
    await bench.store_from_outside("a", *BEFORE)
    async with bench.opener("a") as handle:
        await handle.unlock()
        bench.place.edit("a", 1, SAME_SIZE)
        bench.place.edit("a", 1, encoded([entry("second")])[0])
        await handle.lock(LOCK_TIMEOUT)
        await handle.prove(NOBODY, content=True)
        await handle.append(encoded([entry("fourth")]), NOBODY)
    equal(await bench.said("a"), [*BEFORE, "fourth"], "read after a change that was taken back")


async def a_turn_may_accept_it(bench: Bench) -> None:
    """`on_takeover="accept"`: what is there is adopted, and the turn goes on with it."""
    for kind in KINDS:
        transcripts = bench.transcripts(on_takeover="accept")
        await transcripts.append(kind, *map(entry, BEFORE))
        async with transcripts.open(kind) as transcript:
            async with transcript.released() as prompt:
                prompt.stage(entry("staged"))
                _change(bench.place, kind, kind)
            equal(said(transcript.entries), [*AFTER[kind], "staged"], "what the turn goes on with")
        equal(await bench.said(kind), [*AFTER[kind], "staged"], f"read of a transcript that was {kind}")


async def words_that_are_refused_are_salvaged(bench: Bench) -> None:
    """Of a stale turn, and of a turn that failed."""
    transcripts = bench.transcripts()
    await transcripts.append("a", entry("first"), token=7)
    try:
        await transcripts.append("a", entry("stale"), token=6)
    except StaleTurn:
        equal(bench.salvaged("a"), ["stale"], "the salvage of a stale turn")
    else:
        raise SuiteFailure("a stale token was not refused")
    try:
        async with transcripts.open("a") as transcript, transcript.released() as prompt:
            prompt.stage(entry("staged"))
            raise ZeroDivisionError
    except ZeroDivisionError:
        equal(bench.salvaged("a"), ["stale", "staged"], "the salvage of a turn that failed")
    equal(await bench.said("a"), ["first"], "read after refusals")


def _told(kind: str, told: str) -> str:
    """Return the kind of a change that is told at open: who has not seen the old content may say edited for cut."""
    return kind if (kind, told) == ("truncated", "edited") else told


async def _taken_over(transcript: Transcript, change: Callable[[], None]) -> TranscriptTakeover:
    try:
        async with transcript.released() as prompt:
            prompt.stage(entry("staged"))
            change()
    except TranscriptTakeover as error:
        return error
    raise SuiteFailure("a change nobody owns was let through on the way back")


async def _append_is_refused(transcript: Transcript, kind: str) -> None:
    try:
        await transcript.append(entry("refused"))
    except TranscriptTakeover:
        return
    raise SuiteFailure(f"after a takeover ({kind}) something was appended")


async def _peer_is_refused(transcripts: Transcripts, session_id: str, *, kind: str | None = None) -> None:
    try:
        await transcripts.append(session_id, entry("of a peer"))
    except TranscriptTakeover as error:
        equal(error.phase, "append", "where a peer has found it")
        equal(error.kind, kind or error.kind, "what a peer is told")
        equal(bool(error.salvaged), True, "a peer is told where its words are")
        return
    raise SuiteFailure("a peer wrote behind a change nobody owns")


CHECKS: tuple[Check, ...] = (
    an_edit_behind_a_fence_is_an_unowned_edit,
    an_edit_during_a_release_is_a_takeover,
    a_peer_is_refused_before_it_writes,
    an_edit_while_it_is_open_is_found_at_the_latest_at_its_end,
    an_edit_at_the_end_is_found_by_the_next_append,
    an_edit_between_turns_is_flagged_and_adopted,
    an_edit_between_turns_can_be_refused,
    what_is_there_before_anybody_owned_it_is_unknown,
    an_adoption_is_none_for_who_was_out,
    a_change_and_its_reversal_is_no_change,
    a_turn_may_accept_it,
    words_that_are_refused_are_salvaged,
)
