"""A turn is taken out while calls fail: all of it or none, what others wrote stays, and the next one takes it out."""

from contextlib import suppress
from pathlib import Path

import pytest

from support.transcripts_faults import Faults, FaultyFiles, Killed
from support.transcripts_scenes import said, salvaged_in, user
from support.transcripts_turns import in_files, write_in_turns
from turnlane.errors import TranscriptError
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.contract import Author

MOST_CALLS = 60


@pytest.mark.parametrize("sync", [False, True], ids=["process", "power"])
@pytest.mark.parametrize("halves", [False, True], ids=["before", "half-way"])
@pytest.mark.parametrize("kind", ["kill", "ENOSPC", "EIO"])
@pytest.mark.parametrize("behind", [True, False])
async def test_whatever_fails_the_turn_is_out_or_in(
    tmp_path: Path, behind: bool, kind: str, halves: bool, sync: bool
) -> None:
    """At every call: all of it or none, what others wrote stays, and the next one takes it out."""
    rest = ["before", "and before", "peer", *(["later"] if behind else [])]
    whole = ["before", "and before", "question", "thought", "peer", "answer", *(["later"] if behind else [])]
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        await write_in_turns(lambda: in_files(directory), behind=behind)  # noqa: B023  called at once
        faults = Faults(number, kind, halves=halves)
        store = JsonlTranscriptStore(directory, files=FaultyFiles(faults), sync=sync, trace_turns=True)
        with suppress(Killed, TranscriptError):
            await Transcripts(store).take_out("a", "T", token=6, turn="S")
        if not faults.happened:
            assert number > 8
            return
        transcripts = in_files(directory, at_open="raise")
        async with transcripts.open("a"):
            pass  # settles what was left
        texts = said(await transcripts.read("a"))
        assert texts in (rest, whole), faults.names
        if texts == rest:
            assert salvaged_in(directory)[:3] == ["question", "thought", "answer"], faults.names
        assert await transcripts.take_out("a", "T", token=7, turn="S2") == (3 if texts == whole else 0), faults.names
        assert said(await transcripts.read("a")) == rest, faults.names
    raise AssertionError(f"more than {MOST_CALLS} calls")


@pytest.mark.parametrize("kind", ["kill", "ENOSPC"])
@pytest.mark.parametrize("halves", [False, True])
async def test_whatever_fails_while_the_turn_writes_all_that_is_stored_is_known(
    tmp_path: Path, kind: str, halves: bool
) -> None:
    """A trace comes before what it tells of: nothing of the turn can stay."""
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        await in_files(directory).append("a", user("before"))
        faults = Faults(number, kind, halves=halves)
        store = JsonlTranscriptStore(directory, files=FaultyFiles(faults), trace_turns=True)
        with suppress(Killed, TranscriptError):
            async with Transcripts(store).open("a", token=5, turn="T") as transcript:
                await transcript.append(user("question"))
                await transcript.append(user("thought"), user("answer"))
        if not faults.happened:
            return
        await in_files(directory).take_out("a", "T", token=6, turn="S")
        assert said(await in_files(directory).read("a")) == ["before"], faults.names
    raise AssertionError(f"more than {MOST_CALLS} calls")


@pytest.mark.parametrize("kind", ["kill", "ENOSPC", "EIO"])
@pytest.mark.parametrize("halves", [False, True])
async def test_whatever_fails_while_an_end_is_noted_the_turn_has_ended_or_not(
    tmp_path: Path, kind: str, halves: bool
) -> None:
    """What it wrote is there at any rate, and is still known to be its."""
    author = Author(turn="T", token=5)
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        await write_in_turns(lambda: in_files(directory), behind=True)  # noqa: B023  called at once
        faults = Faults(number, kind, halves=halves)
        store = JsonlTranscriptStore(directory, files=FaultyFiles(faults), trace_turns=True)
        with suppress(Killed, TranscriptError):
            await store.end_turn("a", author)
        again = JsonlTranscriptStore(directory, trace_turns=True)
        assert await again.unended("a") in ("T", None) if faults.happened else await again.unended("a") is None
        assert len(await again.read("a", None)) == 7
        await again.end_turn("a", author)
        assert await again.unended("a") is None, faults.names
        assert await in_files(directory).take_out("a", "T", token=6, turn="S") == 3, faults.names
        if not faults.happened:
            assert number > 1
            return
    raise AssertionError(f"more than {MOST_CALLS} calls")
