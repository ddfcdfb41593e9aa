"""Opening a transcript: what is there, what was changed while nobody had it open, and who may not."""

# Blocks that raise are left in the middle.
# pyright: reportPossiblyUnboundVariable=false, reportPrivateUsage=false

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from support.transcripts_scenes import EDITS, line, open_below, path_of, said, user
from transcripts.conftest import Make
from turnlane.errors import (
    StaleTurn,
    TranscriptBusy,
    TranscriptCorrupt,
    TranscriptReentry,
    TranscriptTakeover,
    TranscriptUnavailable,
)
from turnlane.hooks import Event, Hooks, PromptReacquired, PromptReleased, TakeoverFound, TranscriptAdopted
from turnlane.transcripts import Transcripts

CAN_BE_READ = [name for name in EDITS if name not in ("add a byte order mark", "append half a line")]
CAN_BE_READ.remove("append and cut elsewhere")


async def test_a_transcript_that_is_not_there_begins_empty(transcripts: Transcripts, tmp_path: Path) -> None:
    """Opening makes the file and its journal, for their owner only."""
    async with transcripts.open("a") as transcript:
        assert transcript.entries == ()
        assert path_of(transcript) == tmp_path / "transcripts" / "a.jsonl"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "transcripts").iterdir()}
    assert modes == {"a.jsonl": 0o600, "a.jsonl.journal": 0o600}
    assert stat.S_IMODE((tmp_path / "transcripts").stat().st_mode) == 0o700


async def test_the_file_holds_the_entries_and_nothing_else(transcripts: Transcripts) -> None:
    """One JSON object a line, readable by anything, text as it was written."""
    async with transcripts.open("a") as transcript:
        await transcript.append(
            {"role": "user", "content": "Grüße\nzweite Zeile\u2028"}, {"n": 1.5, "deep": {"a": [None]}}
        )
        content = path_of(transcript).read_bytes()
    assert content == '{"role":"user","content":"Grüße\\nzweite Zeile\u2028"}\n{"n":1.5,"deep":{"a":[null]}}\n'.encode()


@pytest.mark.parametrize("name", CAN_BE_READ)
async def test_an_edit_while_nobody_had_it_open_is_flagged_and_adopted(make: Make, name: str) -> None:
    """People edit transcripts between turns on purpose: the next open tells of it and goes on from there."""
    hooks, told = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, told.append)
    transcripts = make(hooks=hooks)
    async with transcripts.open("a") as transcript:
        await transcript.append(user("first"), user("second"))
    EDITS[name][0](path_of(transcript))
    edited = await transcripts.read("a")
    async with transcripts.open("a", turn="turn-2") as transcript:
        assert transcript.entries == edited
        await transcript.append(user("next"))
    async with transcripts.open("a") as transcript:
        assert transcript.entries == (*edited, user("next"))
    assert [(event.session_id, event.turn) for event in told] == [("a", "turn-2")]


async def test_such_an_edit_can_be_refused(make: Make) -> None:
    """`at_open="raise"`, of the object or of one open: every open refuses until one adopts."""
    transcripts = make(at_open="raise")
    await transcripts.append("a", user("first"))
    EDITS["append"][0](Path(transcripts.store.where) / "a.jsonl")
    for _ in range(2):
        with pytest.raises(TranscriptTakeover) as refused:
            async with transcripts.open("a"):
                pytest.fail("it was opened")
        assert (refused.value.kind, refused.value.phase) == ("appended", "open")
        assert "; an open with at_open='flag' adopts it, or: turnlane repair --adopt " in str(refused.value)
    async with transcripts.open("a", at_open="flag") as transcript:
        assert said(transcript.entries) == ["first", "by hand"]
    async with transcripts.open("a"):
        pass


async def test_a_file_without_a_journal_is_unknown(make: Make, tmp_path: Path) -> None:
    """It is flagged and adopted by an open, and no append is made to it before."""
    hooks, told = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, told.append)
    (tmp_path / "transcripts").mkdir(mode=0o700)
    (tmp_path / "transcripts" / "a.jsonl").write_bytes(line(user("from elsewhere")))
    transcripts = make(hooks=hooks)
    with pytest.raises(TranscriptTakeover) as refused:
        await transcripts.append("a", user("too early"))
    assert (refused.value.kind, refused.value.phase) == ("unknown", "append")
    async with transcripts.open("a"):
        pass
    await transcripts.append("a", user("now"))
    assert said(await transcripts.read("a")) == ["from elsewhere", "now"]
    assert [event.kind for event in told] == ["unknown"]


async def test_an_append_goes_on_a_line_of_its_own(make: Make, tmp_path: Path) -> None:
    """A hand edit that left the last line without its line feed is no reason to lengthen that line."""
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts" / "a.jsonl").write_bytes(line(user("one")) + line(user("two")).rstrip())
    transcripts = make()
    async with transcripts.open("a") as transcript:
        await transcript.append(user("three"))
        async with transcript.released() as prompt:
            prompt.stage(user("four"))
    assert said(await transcripts.read("a")) == ["one", "two", "three", "four"]
    async with make(at_open="raise").open("a"):
        pass


async def test_blank_lines_hold_no_entry(make: Make, tmp_path: Path) -> None:
    """Editors leave them."""
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts" / "a.jsonl").write_bytes(
        b"\n" + line(user("one")) + b"  \n" + line(user("two")) + b"\n\n"
    )
    async with make().open("a") as transcript:
        assert said(transcript.entries) == ["one", "two"]
        await transcript.append(user("three"))
    assert said(await make().read("a")) == ["one", "two", "three"]


@pytest.mark.parametrize("broken", [b"{", b"[]", b'"text"', b"{}x", b"\xff{}", b"NUL\0", b"\xef\xbb\xbf{}", b"{\0}\0"])
async def test_a_line_that_is_no_entry_is_an_error_with_its_place(make: Make, tmp_path: Path, broken: bytes) -> None:
    """It is neither skipped nor adopted, by open and by read."""
    (tmp_path / "transcripts").mkdir()
    path = tmp_path / "transcripts" / "a.jsonl"
    path.write_bytes(line(user("one")) + broken + b"\n" + line(user("three")))
    for use in (make().read("a"), open_once(make(), "a"), open_once(make(), "a")):
        with pytest.raises(TranscriptCorrupt) as refused:
            await use
        assert (refused.value.path, refused.value.line) == (str(path), 2)
    path.write_bytes(line(user("one")))
    assert said(await make().read("a")) == ["one"]


async def open_once(transcripts: Transcripts, session_id: str, **settings: Any) -> None:
    async with transcripts.open(session_id, **settings):
        pass


class TestTokens:
    """A turn that has been overtaken can not write any more."""

    async def test_a_lower_token_is_refused(self, make: Make) -> None:
        """At open, for an append, and on the way back from a release."""
        transcripts = make()
        async with transcripts.open("a", token=5) as transcript:
            await transcript.append(user("first"))
            with pytest.raises(StaleTurn) as refused:
                async with transcript.released() as prompt:
                    await make().append("a", user("successor"), token=6)
                    prompt.stage(user("zombie"))
            assert (refused.value.token, refused.value.highest) == (5, 6)
            assert refused.value.salvaged is not None
            with pytest.raises(StaleTurn):
                await transcript.append(user("zombie again"))
        with pytest.raises(StaleTurn):
            await open_once(make(), "a", token=5)
        with pytest.raises(StaleTurn):
            await make().append("a", user("zombie"), token=5)
        assert said(await transcripts.read("a")) == ["first", "successor"]

    async def test_the_same_token_and_none_are_fine(self, make: Make) -> None:
        """A write without a token is neither checked nor recorded as one."""
        transcripts = make()
        for token in (5, None, 5, None, 6):
            await transcripts.append("a", user("words"), token=token)
            await open_once(transcripts, "a", token=token)
        with pytest.raises(StaleTurn):
            await open_once(transcripts, "a", token=5)

    async def test_the_token_of_an_open_counts_from_its_first_write(self, make: Make) -> None:
        """Merely opening with a higher one keeps nobody out."""
        await open_once(make(), "a", token=9)
        await make().append("a", user("words"), token=5)
        assert len(await make().read("a")) == 1


class TestReentry:
    """What would wait for itself is refused, what can be done through the open transcript is done."""

    async def test_opening_again_in_the_same_chain_is_refused(self, transcripts: Transcripts) -> None:
        """In the same task and in a child; another id is fine, and so is the same one afterwards."""
        async with transcripts.open("a"):
            with pytest.raises(TranscriptReentry):
                await open_once(transcripts, "a")
            with pytest.raises(TranscriptReentry):
                await asyncio.create_task(open_once(transcripts, "a"))
            await open_once(transcripts, "b")
        await open_once(transcripts, "a")

    async def test_an_append_in_the_chain_goes_through_the_open_one(self, transcripts: Transcripts) -> None:
        """It has its token and its fence."""
        async with transcripts.open("a", token=3) as transcript:
            await transcripts.append("a", user("one"))
            await asyncio.gather(*(transcripts.append("a", user(text)) for text in ("two", "three", "four")))
            assert said(transcript.entries) == ["one", "two", "three", "four"]

    async def test_a_task_that_outlives_the_block_is_a_stranger(self, transcripts: Transcripts) -> None:
        """It inherited the chain; what it appends later is an owned write of its own."""
        ended = asyncio.Event()

        async def later() -> None:
            await ended.wait()
            await transcripts.append("a", user("late"))

        async with transcripts.open("a") as transcript:
            task = asyncio.create_task(later())
        ended.set()
        await task
        assert said(await transcripts.read("a")) == ["late"]
        with pytest.raises(TranscriptUnavailable, match="its block has ended"):
            await transcript.append(user("too late"))


class TestLock:
    """One writer at a time, first come first served within a process."""

    async def test_who_waits_too_long_is_told_busy(self, make: Make) -> None:
        """Not a takeover; what it wanted stored is salvaged."""
        async with make().open("a") as transcript:
            with pytest.raises(TranscriptBusy) as refused:
                await make(lock_timeout=0.01).append("a", user("impatient"))
            assert refused.value.lock_timeout == 0.01
            with pytest.raises(TranscriptBusy):
                await open_once(make(lock_timeout=0), "a")
            await transcript.append(user("fine"))
        assert said(await make().read("a")) == ["fine"]

    async def test_those_who_wait_are_served_in_the_order_of_arrival(self, transcripts: Transcripts) -> None:
        """However many."""
        async with transcripts.open("a"):
            context = asyncio.get_running_loop()
            waiting = [context.create_task(apart(transcripts, number)) for number in range(8)]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert said(await transcripts.read("a")) == [str(number) for number in range(8)]

    async def test_a_wait_that_is_cancelled_leaves_nothing(self, make: Make) -> None:
        """Its place goes to the next one; nobody holds on to the line."""
        transcripts = make()
        async with make().open("a"):
            waiting = [asyncio.create_task(apart(transcripts, number)) for number in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert waiting[0].cancelled()
        assert transcripts._lines._lines == {}
        assert said(await transcripts.read("a"))[-2:] == ["1", "2"]


async def apart(transcripts: Transcripts, number: int) -> None:
    """Append in a chain of its own."""
    for variable in (transcripts._chain,):
        variable.set(())
    await transcripts.append("a", user(str(number)))


async def test_descriptors_are_let_go(make: Make) -> None:
    """After turns, appends, takeovers and refusals none is left open."""
    transcripts = make(lock_timeout=0)
    for _ in range(3):
        async with transcripts.open("a") as transcript, transcript.released():
            await transcript.append(user("words"))
        async with transcripts.open("a") as transcript:
            EDITS["append"][0](path_of(transcript))
            with pytest.raises(TranscriptTakeover):
                await transcript.append(user("words"))
            with pytest.raises(TranscriptBusy):
                await open_once(make(lock_timeout=0), "a")
    assert open_below(Path(transcripts.store.where)) == []


async def test_events_are_told(make: Make) -> None:
    """A release and the way back with the number of changes, a takeover with its facts."""
    hooks, told = Hooks(), list[Event]()
    hooks.on(Event, told.append)
    transcripts = make(hooks=hooks)
    with pytest.raises(TranscriptTakeover):
        async with transcripts.open("a", turn="turn-1") as transcript:
            async with transcript.released():
                await make().append("a", user("peer"))
            async with transcript.released() as prompt:
                prompt.stage(user("reply"))
                EDITS["append"][0](path_of(transcript))
    released, back, _, takeover = told
    assert isinstance(released, PromptReleased)
    assert isinstance(back, PromptReacquired)
    assert isinstance(takeover, TakeoverFound)
    assert (released.session_id, released.turn, back.changes) == ("a", "turn-1", 1)
    assert (takeover.kind, takeover.phase, takeover.line) == ("appended", "return", 2)
    assert takeover.salvaged == str(Path(transcripts.store.where) / "a.salvage.jsonl")
