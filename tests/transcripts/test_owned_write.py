"""Owned writes of third parties: a framework's compaction that appends to or rewrites the file itself."""

# Blocks that raise are left in the middle.
# pyright: reportPossiblyUnboundVariable=false

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from support.transcripts_scenes import EDITS, append, edit_in_place, line, path_of, said, salvaged_in, user
from transcripts.conftest import Make
from turnlane.errors import StaleTurn, TranscriptBusy, TranscriptReentry, TranscriptTakeover
from turnlane.transcripts import Transcript, Transcripts

SUMMARY = user("summary")


def compacting(transcript: Transcript, calls: list[str] | None = None) -> Callable[[], str]:
    """A compaction that appends its summary."""

    def run() -> str:
        if calls is not None:
            calls.append("run")
        with path_of(transcript).open("ab") as file:
            file.write(line(SUMMARY))
        return "summary"

    return run


def rewriting(transcript: Transcript) -> Callable[[], int]:
    """A compaction that leaves its summary and the last entry, by a new file."""

    def run() -> int:
        path = path_of(transcript)
        content = line(SUMMARY) + path.read_bytes().splitlines(keepends=True)[-1]
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)
        return len(content)

    return run


def is_summary(result: object, text: str) -> bool:
    return result == "summary" and text.encode() == line(SUMMARY)


def is_as_long(result: object, text: str) -> bool:
    return result == len(text.encode())


def never(_: object, __: str) -> bool:
    return False


def always(_: object, __: str) -> bool:
    return True


def fails(_: object, __: str) -> bool:
    raise ZeroDivisionError


def is_not_asked(_: object, __: str) -> bool:
    pytest.fail("it was asked")


async def test_an_append_that_is_approved_is_owned(make: Make) -> None:
    """By the transcript, by those that were out meanwhile with an older fence, and by the next open."""
    async with make().open("a") as outside:
        await outside.append(user("first"))
        async with outside.released() as prompt, make().open("a") as transcript:
            assert transcript.owned_write(compacting(transcript), validate=is_summary) == "summary"
            assert said(transcript.entries) == ["first", "summary"]
            await transcript.append(user("next"))
        assert said(prompt.changes) == ["summary", "next"]
    async with make(at_open="raise").open("a") as transcript:
        assert said(transcript.entries) == ["first", "summary", "next"]


async def test_a_rewrite_that_is_approved_is_owned(make: Make) -> None:
    """Who was out is told the whole new content."""
    async with make().open("a") as outside:
        await outside.append(user("first"), user("second"))
        async with outside.released() as prompt:
            async with make().open("a") as transcript:
                transcript.owned_write(rewriting(transcript), validate=is_as_long, rewrite=True)
                assert said(transcript.entries) == ["summary", "second"]
                await transcript.append(user("next"))
            prompt.stage(user("reply"))
        assert prompt.rewritten
        assert said(prompt.changes) == ["summary", "second", "next"]
        assert said(outside.entries) == ["summary", "second", "next", "reply"]
    async with make(at_open="raise").open("a"):
        pass


async def test_it_works_inside_a_release(make: Make) -> None:
    """Also after a peer has written; the fence moves with it."""
    async with make().open("a") as transcript:
        await transcript.append(user("first"))
        async with transcript.released() as prompt:
            await make().append("a", user("peer"))
            transcript.owned_write(compacting(transcript), validate=is_summary)
            prompt.stage(user("reply"))
        assert said(transcript.entries) == ["first", "peer", "summary", "reply"]
        assert said(prompt.changes) == ["peer"]


async def test_a_compaction_after_later_opens_of_others_is_accepted(make: Make) -> None:
    """One that only looked, one that published a write, and one that is out itself meanwhile."""
    async with make().open("a") as transcript:
        await transcript.append(user("first"))
        async with transcript.released() as prompt:
            async with make().open("a"):
                pass
            async with make().open("a") as other:
                await other.append(user("other"))
                async with other.released() as others:
                    transcript.owned_write(compacting(transcript), validate=is_summary)
                assert said(others.changes) == ["summary"]
        assert said(prompt.changes) == ["other"]
        assert said(transcript.entries) == ["first", "other", "summary"]


async def test_nothing_changed_is_nothing_done(transcripts: Transcripts) -> None:
    """Nobody is asked to approve it."""
    async with transcripts.open("a") as transcript:
        await transcript.append(user("first"))
        assert transcript.owned_write(lambda: 7, validate=is_not_asked) == 7
        await transcript.append(user("second"))


@pytest.mark.parametrize("name", EDITS)
async def test_after_an_unowned_edit_it_is_not_called(transcripts: Transcripts, name: str) -> None:
    """A state that can not be proven is not written to."""
    calls: list[str] = []
    async with transcripts.open("a") as transcript:
        await transcript.append(user("first"), user("second"))
        EDITS[name][0](path_of(transcript))
        with pytest.raises(TranscriptTakeover) as refused:
            transcript.owned_write(compacting(transcript, calls), validate=is_summary)
    assert refused.value.phase == "owned_write"
    assert calls == []


@pytest.mark.parametrize("interleaved", [append, edit_in_place], ids=["append", "edit"])
@pytest.mark.parametrize("rewrite", [False, True])
async def test_an_unowned_edit_inside_it_is_refused(
    transcripts: Transcripts, interleaved: Callable[[Path], None], rewrite: bool
) -> None:
    """The bytes stay, nothing becomes owned, and it sticks."""
    async with transcripts.open("a") as transcript:
        await transcript.append(user("first"), user("second"))

        def run() -> object:
            result = rewriting(transcript)() if rewrite else compacting(transcript)()
            interleaved(path_of(transcript)) if not rewrite else append(path_of(transcript))
            return result

        with pytest.raises(TranscriptTakeover):
            transcript.owned_write(run, validate=is_as_long if rewrite else is_summary, rewrite=rewrite)
        content = path_of(transcript).read_bytes()
        with pytest.raises(TranscriptTakeover):
            await transcript.append(user("next"))
    assert path_of(transcript).read_bytes() == content
    with pytest.raises(TranscriptTakeover):
        await transcripts.append("a", user("peer"))


@pytest.mark.parametrize("changes", [False, True], ids=["nothing changed", "half written"])
async def test_what_raises_is_raised_and_owns_nothing(transcripts: Transcripts, changes: bool) -> None:
    """Only where it has changed the file, the next use is a takeover."""
    async with transcripts.open("a") as transcript:
        await transcript.append(user("first"))

        def run() -> str:
            if changes:
                compacting(transcript)()
            raise OSError("the compaction failed")

        with pytest.raises(OSError, match="the compaction failed") as failed:
            transcript.owned_write(run, validate=is_summary)
        if changes:
            assert any("was appended by somebody" in note for note in failed.value.__notes__)
            with pytest.raises(TranscriptTakeover):
                await transcript.append(user("next"))
        else:
            await transcript.append(user("next"))


async def test_what_is_not_approved_is_refused(transcripts: Transcripts) -> None:
    """And what a validation raises is raised, with the same end."""
    for validate in (never, fails):
        async with transcripts.open("a") as transcript:
            with pytest.raises((TranscriptTakeover, ZeroDivisionError)):
                transcript.owned_write(compacting(transcript), validate=validate)
            with pytest.raises(TranscriptTakeover):
                await transcript.append(user("next"))


@pytest.mark.parametrize("written", [b"not an entry\n", b"\xff\xfe\n", b"{}"])
async def test_only_entries_are_owned(transcripts: Transcripts, written: bytes) -> None:
    """Whatever a validation says; an entry without its line feed is one."""
    async with transcripts.open("a") as transcript:
        await transcript.append(user("first"))

        def run() -> None:
            with path_of(transcript).open("ab") as file:
                file.write(written)

        if written == b"{}":
            transcript.owned_write(run, validate=always)
            await transcript.append(user("next"))
            assert path_of(transcript).read_bytes().count(b"\n") == 3
        else:
            with pytest.raises(TranscriptTakeover):
                transcript.owned_write(run, validate=always)


async def test_a_lock_that_is_held_by_another_is_not_waited_for(make: Make) -> None:
    """It is tried once; the writer is not called."""
    calls: list[str] = []
    transcripts = make()
    async with transcripts.open("a") as transcript, transcript.released():
        other = make().open("a")
        await other.__aenter__()
        with pytest.raises(TranscriptBusy):
            transcript.owned_write(compacting(transcript, calls), validate=is_summary)
        await other.__aexit__(None, None, None)
        transcript.owned_write(compacting(transcript, calls), validate=is_summary)
    assert calls == ["run"]


async def test_a_stale_turn_can_not_have_it_done(make: Make) -> None:
    """Its successor has written."""
    async with make().open("a", token=1) as transcript:
        with pytest.raises(StaleTurn):
            async with transcript.released():
                await make().append("a", user("successor"), token=2)
                with pytest.raises(StaleTurn):
                    transcript.owned_write(compacting(transcript), validate=is_summary)


class TestAsync:
    """The same for coroutine functions."""

    async def test_appends_of_the_turn_wait_for_its_end(self, transcripts: Transcripts) -> None:
        """And are stored behind it."""
        async with transcripts.open("a") as transcript:
            running = asyncio.Event()

            async def tool() -> None:
                await running.wait()
                await transcript.append(user("tool"))

            async def run() -> str:
                running.set()
                for _ in range(5):
                    await asyncio.sleep(0)
                return compacting(transcript)()

            task = asyncio.create_task(tool())
            assert await transcript.owned_write_async(run, validate=is_summary) == "summary"
            await task
            assert said(transcript.entries) == ["summary", "tool"]

    @pytest.mark.parametrize("asked", ["append", "rollback", "release", "owned_write", "child", "stranger"])
    async def test_whatever_would_wait_for_it_from_inside_is_refused(self, make: Make, asked: str) -> None:
        """At once, in tasks it has started too; words are salvaged, and the transcript goes on."""
        transcripts = make()
        async with transcripts.open("a") as transcript:
            fence = transcript.fence

            async def release() -> None:
                async with transcript.released():
                    pytest.fail("it was let out")

            async def ask() -> None:
                match asked:
                    case "append":
                        await transcript.append(user("inside"))
                    case "rollback":
                        await transcript.rollback(fence)
                    case "release":
                        await release()
                    case "owned_write":
                        await transcript.owned_write_async(ask, validate=is_summary)
                    case "child":
                        await asyncio.gather(transcript.append(user("inside")))
                    case _:
                        await transcripts.append("a", user("inside"))

            with pytest.raises(TranscriptReentry, match="would wait for itself"):
                async with asyncio.timeout(5):
                    await transcript.owned_write_async(ask, validate=is_summary)
            await transcript.append(user("after"))
        assert said(await transcripts.read("a")) == ["after"]
        words = ["inside"] if asked in ("append", "child", "stranger") else []
        assert salvaged_in(Path(transcripts.store.where)) == words

    async def test_a_validate_that_is_a_coroutine_function_approves_nothing(self, transcripts: Transcripts) -> None:
        """What it returns is no answer; what was written is nobody's."""

        async def validate(result: object, text: str) -> bool:
            return False

        with pytest.raises(TypeError, match="validate of owned_write returned an awaitable"):
            async with transcripts.open("a") as transcript:
                transcript.owned_write(compacting(transcript), validate=validate)
        async with transcripts.open("a", on_takeover="raise") as transcript:
            pass

    async def test_a_run_that_is_a_coroutine_function_is_refused(self, transcripts: Transcripts) -> None:
        """It has done nothing yet."""

        async def run() -> None:
            pytest.fail("it ran")

        async with transcripts.open("a") as transcript:
            with pytest.raises(TypeError, match="use owned_write_async"):
                _ = transcript.owned_write(run, validate=is_summary)
            await transcript.append(user("after"))

    async def test_an_append_inside_it_is_refused(self, transcripts: Transcripts) -> None:
        """It would wait for itself."""
        async with transcripts.open("a") as transcript:

            async def run() -> None:
                await transcript.append(user("inside"))

            with pytest.raises(TranscriptReentry):
                await transcript.owned_write_async(run, validate=is_summary)
            await transcript.append(user("after"))

    async def test_cancelled_it_lets_the_lock_go(self, make: Make) -> None:
        """What it has written by then is a takeover, nothing is not."""
        async with make().open("a") as transcript, transcript.released():
            waiting = asyncio.Event()

            async def run() -> None:
                waiting.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(transcript.owned_write_async(run, validate=is_summary))
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await make(lock_timeout=0).append("a", user("peer"))
