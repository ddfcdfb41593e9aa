"""A turn is taken out of a transcript: what it wrote goes to the salvage, what others wrote stays, in its order."""

import asyncio
import os
import random
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from support.transcripts_faults import Faults, FaultyFiles
from support.transcripts_scenes import append, edit_in_place, said, salvaged_in, user
from support.transcripts_turns import PLACES, Place, in_a_database, in_files, on_a_server, write_in_turns
from turnlane.errors import StaleTurn, TranscriptError, TranscriptTakeover, TranscriptUnavailable
from turnlane.hooks import Hooks, TranscriptAdopted, TurnRolledBack
from turnlane.transcripts import JsonlTranscriptStore, Transcript, Transcripts
from turnlane.transcripts.contract import Author

MOST_CALLS = 60


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_what_the_turn_wrote_goes_and_the_rest_stays(tmp_path: Path, place: Place, behind: bool) -> None:
    """By another object than the one that wrote; it is told, salvaged, and done once."""
    await write_in_turns(lambda: place(tmp_path), behind=behind)
    hooks, told = Hooks(), list[TurnRolledBack]()
    hooks.on(TurnRolledBack, told.append)
    async with place(tmp_path, hooks=hooks) as transcripts:
        assert await transcripts.take_out("a", "T", token=6, turn="S") == 3
        assert said(await transcripts.read("a")) == ["before", "and before", "peer", *(["later"] if behind else [])]
        assert await transcripts.take_out("a", "T", token=6, turn="S") == 0
        async with transcripts.open("a", token=7, turn="next", at_open="raise") as transcript:
            await transcript.append(user("question"))
            assert said(transcript.entries)[-1] == "question"
        [event] = told
        assert (event.of, event.turn, event.entries, event.session_id) == ("T", "S", 3, "a")
        assert event.salvaged is not None
    if place is in_files:
        assert salvaged_in(tmp_path) == ["question", "thought", "answer"]


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_an_open_transcript_takes_out_and_goes_on(tmp_path: Path, place: Place) -> None:
    """Its entries are those that are left; inside a release the lock is taken for it alone."""
    await write_in_turns(lambda: place(tmp_path), behind=True)
    async with place(tmp_path) as transcripts, transcripts.open("a", token=6, turn="S") as transcript:
        async with transcript.released():
            assert await transcript.take_out("T") == 3
        await transcript.append(user("mine"))
        assert said(transcript.entries) == ["before", "and before", "peer", "later", "mine"]
        assert await transcript.take_out("S") == 1
        assert said(transcript.entries) == ["before", "and before", "peer", "later"]


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_nothing_is_touched_where_the_turn_wrote_nothing(tmp_path: Path, place: Place) -> None:
    """No transcript begins by it."""
    async with place(tmp_path) as transcripts:
        assert await transcripts.take_out("a", "T", token=6, turn="S") == 0
        assert await transcripts.list() == ()


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_transcripts_that_note_no_turns_say_so(tmp_path: Path, place: Place) -> None:
    """And take nothing away."""
    await write_in_turns(lambda: place(tmp_path, trace_turns=False), behind=True)
    async with place(tmp_path, trace_turns=False) as transcripts:
        with pytest.raises(TranscriptUnavailable, match="trace_turns=True"):
            await transcripts.take_out("a", "T")
        with pytest.raises(ValueError, match="trace_turns="):
            Transcripts(transcripts.store, trace_turns=True)
        with pytest.raises(TranscriptUnavailable, match="does not note which turn"):
            async with transcripts.open("a") as transcript:
                await transcript.take_out("T")
        assert len(await transcripts.read("a")) == 7


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_a_turn_that_is_behind_takes_nothing_out(tmp_path: Path, place: Place) -> None:
    """Its token is lower than one that has written."""
    await write_in_turns(lambda: place(tmp_path), behind=True)
    async with place(tmp_path) as transcripts:
        with pytest.raises(StaleTurn):
            await transcripts.take_out("a", "T", token=4, turn="S")
        with pytest.raises(ValueError, match="turn's id"):
            await transcripts.take_out("a", "\ud800")
        assert len(await transcripts.read("a")) == 7


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_a_turn_that_was_taken_out_writes_no_more(tmp_path: Path, place: Place) -> None:
    """A zombie comes back with its lower token."""
    async with place(tmp_path) as transcripts, place(tmp_path) as others:
        await transcripts.append("a", user("before"))
        with pytest.raises(StaleTurn):
            async with transcripts.open("a", token=5, turn="T") as transcript:
                await transcript.append(user("question"))
                async with transcript.released() as prompt:
                    assert await others.take_out("a", "T", token=6, turn="S") == 1
                    prompt.stage(user("answer"))
        assert said(await others.read("a")) == ["before"]


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_a_turn_that_had_written_nothing_yet_writes_no_more_either(tmp_path: Path, place: Place) -> None:
    """The token of who takes it out counts, also where there was nothing."""
    async with place(tmp_path) as transcripts, place(tmp_path) as others:
        with pytest.raises(StaleTurn):
            async with transcripts.open("a", token=5, turn="T") as transcript, transcript.released() as prompt:
                assert await others.take_out("a", "T", token=6, turn="S") == 0
                prompt.stage(user("late"))
        assert await others.read("a") == ()


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_taking_another_turn_out_leaves_ones_own_to_be_known(tmp_path: Path, place: Place) -> None:
    """Nobody's, and, in a database, one that stands before."""
    async with place(tmp_path) as transcripts:
        async with transcripts.open("a", token=4, turn="earlier") as transcript:
            await transcript.append(user("earlier"))
        async with transcripts.open("a", token=5, turn="T") as transcript:
            await transcript.append(user("mine"))
            assert await transcript.take_out("nobody") == 0
            left = await transcript.take_out("earlier")
            await transcript.append(user("mine too"))
        assert len(await transcripts.read("a")) == 3 - left
        assert await transcripts.take_out("a", "T", token=6, turn="S") == 2
        assert len(await transcripts.read("a")) == 1 - left


async def test_what_a_third_party_appended_for_the_turn_goes_with_it(tmp_path: Path) -> None:
    """An owned write is the turn's, too."""
    transcripts = in_files(tmp_path)
    await transcripts.append("a", user("before"))
    async with transcripts.open("a", token=5, turn="T") as transcript:
        path = Path(transcript.path)
        transcript.owned_write(lambda: append(path), validate=lambda _, text: True)
        await transcript.append(user("mine"))
    assert await transcripts.take_out("a", "T", token=6, turn="S") == 2
    assert said(await transcripts.read("a")) == ["before"]


async def test_an_append_that_failed_and_was_tried_again_counts_once(tmp_path: Path) -> None:
    """At whatever call it failed; and where it was not tried again, the same words of somebody else stay."""
    for number in range(MOST_CALLS):
        for again in (True, False):
            directory = tmp_path / f"{number} {again}"
            await in_files(directory).append("a", user("before"))
            faults = Faults(number, "ENOSPC")
            files = FaultyFiles(faults)
            transcripts = Transcripts(JsonlTranscriptStore(directory, files=files, trace_turns=True))
            with suppress(TranscriptError):
                async with transcripts.open("a", token=5, turn="T") as transcript:
                    with suppress(TranscriptError):
                        await transcript.append(user("word"))
                    if again and faults.happened:
                        await transcript.append(user("word"))
            stored = said(await in_files(directory).read("a")).count("word")
            if not stored:
                await in_files(directory).append("a", user("word"))  # by somebody else
            assert await in_files(directory).take_out("a", "T", token=6, turn="S") == stored, faults.names
            assert said(await in_files(directory).read("a")) == ["before"] + ["word"] * (not stored), faults.names
            if not faults.happened:
                return
    raise AssertionError(f"more than {MOST_CALLS} calls")


async def test_a_going_back_that_fails_leaves_all_of_the_turn_known(tmp_path: Path) -> None:
    """At whatever call."""
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        await in_files(directory).append("a", user("before"))
        faults = Faults(number, "EIO")
        transcripts = Transcripts(JsonlTranscriptStore(directory, files=FaultyFiles(faults), trace_turns=True))
        with suppress(TranscriptError):
            async with transcripts.open("a", token=5, turn="T") as transcript:
                await transcript.append(user("one"))
                fence = transcript.fence
                await transcript.append(user("two"))
                await transcript.rollback(fence)
        await in_files(directory).take_out("a", "T", token=6, turn="S")
        assert said(await in_files(directory).read("a")) == ["before"], faults.names
        if not faults.happened:
            return
    raise AssertionError(f"more than {MOST_CALLS} calls")


async def test_an_unowned_edit_is_adopted_first_or_refuses(tmp_path: Path) -> None:
    """As when it is opened; what stands before it is still known to be the turn's."""
    await write_in_turns(lambda: in_files(tmp_path), behind=False)
    append(tmp_path / "a.jsonl")
    strict = in_files(tmp_path, at_open="raise")
    with pytest.raises(TranscriptTakeover):
        await strict.take_out("a", "T", token=6, turn="S")
    hooks, adopted = Hooks(), list[TranscriptAdopted]()
    hooks.on(TranscriptAdopted, adopted.append)
    transcripts = in_files(tmp_path, hooks=hooks)
    assert await transcripts.take_out("a", "T", token=6, turn="S") == 3
    assert len(adopted) == 1
    assert said(await transcripts.read("a")) == ["before", "and before", "peer", "by hand"]


async def test_what_was_rewritten_since_stays(tmp_path: Path) -> None:
    """A digest covers all that stands before: nobody knows any more whose it is."""
    transcripts = in_files(tmp_path)
    await transcripts.append("a", user("first"))
    await write_in_turns(lambda: in_files(tmp_path), behind=False)
    edit_in_place(tmp_path / "a.jsonl")
    assert await transcripts.take_out("a", "T", token=6, turn="S") == 0
    assert said(await transcripts.read("a"))[0] == "FIRST"
    assert len(await transcripts.read("a")) == 7


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_the_same_words_of_others_are_not_taken_for_the_turns(tmp_path: Path, place: Place) -> None:
    """After it has gone back itself, or the transcript was deleted, others write just what it had written."""
    async with place(tmp_path) as transcripts:
        async with transcripts.open("a", token=5, turn="T") as transcript:
            fence = transcript.fence
            await transcript.append(user("word"))
            await transcript.rollback(fence)
        await transcripts.append("a", user("word"))
        assert await transcripts.take_out("a", "T", token=6, turn="S") == 0
        assert said(await transcripts.read("a")) == ["word"]
        async with transcripts.open("b", token=5, turn="T") as transcript:
            await transcript.append(user("word"))
        await transcripts.delete("b")
        await transcripts.append("b", user("word"))
        assert await transcripts.take_out("b", "T", token=6, turn="S") == 0


async def test_the_file_keeps_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    """Although it is another file."""
    await write_in_turns(lambda: in_files(tmp_path), behind=True)
    path = tmp_path / "a.jsonl"
    path.chmod(0o640)
    async with in_files(tmp_path) as transcripts:
        assert await transcripts.take_out("a", "T", token=6, turn="S") == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(found.name for found in tmp_path.iterdir()) == [
        "a.jsonl",
        "a.jsonl.journal",
        "a.jsonl.traces",
        "a.salvage.jsonl",
    ]


async def test_what_somebody_writes_in_that_moment_is_salvaged(tmp_path: Path) -> None:
    """Into the file that loses its name, after it was proven."""
    await write_in_turns(lambda: in_files(tmp_path), behind=True)

    class Writing(FaultyFiles):
        def rename(self, old: str, new: str) -> None:
            append(Path(new))
            super().rename(old, new)

    files = Writing(Faults(MOST_CALLS * 10, "EIO"))
    transcripts = Transcripts(JsonlTranscriptStore(tmp_path, files=files, trace_turns=True))
    assert await transcripts.take_out("a", "T", token=6, turn="S") == 3
    assert said(await transcripts.read("a")) == ["before", "and before", "peer", "later"]
    assert salvaged_in(tmp_path)[-1] == "by hand"


@pytest.mark.parametrize("row", [b'{"turn": "T", "to', b"\xff\xfe", b'{"turn": "T"}\n', b"[1]\n" + b"[" * 100_000])
async def test_half_a_trace_is_that_of_nothing(tmp_path: Path, row: bytes) -> None:
    """Whoever wrote it died before it wrote the entries."""
    await write_in_turns(lambda: in_files(tmp_path), behind=False)
    with (tmp_path / "a.jsonl.traces").open("ab") as file:
        file.write(row)
    transcripts = in_files(tmp_path)
    async with transcripts.open("a", token=5, turn="T") as transcript:
        await transcript.append(user("more"))
    assert await transcripts.take_out("a", "T", token=6, turn="S") == 4
    assert said(await transcripts.read("a")) == ["before", "and before", "peer"]


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_only_the_last_turn_to_write_can_have_not_ended(tmp_path: Path, place: Place) -> None:
    """Nor does the end of one that another has followed say anything of that one."""
    store = place(tmp_path).store
    assert await store.unended("a") is None
    await store.end_turn("a", Author(turn="T", token=5))
    async with place(tmp_path) as transcripts:
        await transcripts.append("a", user("before"))
        assert await store.unended("a") is None
        for turn, token in (("T", 5), ("U", 6)):
            async with transcripts.open("a", token=token, turn=turn) as transcript:
                transcript.live = True
                await transcript.append(user(turn))
        await transcripts.append("a", user("later"))
        assert await store.unended("a") == "U"
        await store.end_turn("a", Author(turn="T", token=5))
        assert await store.unended("a") == "U"
        await store.end_turn("a", Author(turn="U", token=6))
        assert await store.unended("a") is None
        await transcripts.append("a", user("behind its end"), turn="U", token=6)
        assert await store.unended("a") is None
    await store.aclose()


@pytest.mark.parametrize("place", PLACES, indirect=True)
@pytest.mark.parametrize("how", ["ended", "taken out", "deleted", "followed"])
async def test_once_a_turn_is_history_none_before_it_is_taken_for_dead(tmp_path: Path, place: Place, how: str) -> None:
    """However it has become that; nor one that never said that its end would be noted."""
    async with place(tmp_path) as transcripts:
        store = transcripts.store
        for turn, token in (("T", 5), ("U", 6)):
            async with transcripts.open("a", token=token, turn=turn) as transcript:
                transcript.live = True
                await transcript.append(user(turn))
            if turn == "T":
                await store.end_turn("a", Author(turn="T", token=5))
        match how:
            case "ended":
                await store.end_turn("a", Author(turn="U", token=6))
                await transcripts.append("a", user("newer"), token=7)
            case "taken out":
                await transcripts.take_out("a", "U", token=7, turn="S")
            case "deleted":
                await transcripts.delete("a")
                await transcripts.append("a", user("anew"))
            case _:
                await transcripts.append("a", user("of another"), token=7, turn="V")
        assert await store.unended("a") is None


@pytest.mark.parametrize(
    ("place", "always"), [(in_files, False), (in_a_database, False), (on_a_server, True)], indirect=["place"]
)
async def test_a_turn_of_another_boot_is_not_taken_for_dead(
    tmp_path: Path, place: Place, always: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss may have taken its end, unless what is noted is on the disk, as it always is on a server."""
    for durability, found in (("process", "T" if always else None), ("power", "T")):
        directory = tmp_path / durability
        directory.mkdir()
        async with place(directory, durability=durability) as transcripts:
            async with transcripts.open("a", token=5, turn="T") as transcript:
                transcript.live = True
                await transcript.append(user("T"))
            assert await transcripts.store.unended("a") == "T"
        with monkeypatch.context() as patched:
            for module in ("jsonl", "sqlite"):
                patched.setattr(f"turnlane.transcripts.{module}.boot_of", lambda: bytes(range(16)))
            async with place(directory, durability=durability) as transcripts:
                assert await transcripts.store.unended("a") == found


KILLED_TURN = """
import asyncio, os, signal, sys
from turnlane.transcripts import Transcripts

async def main(place):
    transcripts = Transcripts(place, trace_turns=True)
    async with transcripts.open("a", token=5, turn="T") as transcript:
        await transcript.append({"content": "question"})
        async with transcript.released():
            await transcripts.store.attach("other")
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_a_turn_whose_process_has_died_is_taken_out(tmp_path: Path, place: Place) -> None:
    """By kill -9, in the middle of a prompt release; what was noted is in the store, not in the process."""
    async with place(tmp_path) as transcripts:
        await transcripts.append("a", user("before"))
        where = transcripts.store.where
        died = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_TURN, where)
        assert await died.wait() == -9
        await transcripts.append("a", user("later"))
        assert said(await transcripts.read("a")) == ["before", "question", "later"]
        assert await transcripts.take_out("a", "T", token=6, turn="S") == 1
        assert said(await transcripts.read("a")) == ["before", "later"]


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_drawn_histories_keep_what_others_wrote(tmp_path: Path, place: Place, seed: int, long_form: bool) -> None:
    """Turns follow each other, some are taken out; a list of pairs of author and words says what must be left."""
    for number in range(200 if long_form else 8):
        chance = random.Random(f"{seed} {number}")
        directory = tmp_path / str(number)
        directory.mkdir()
        expected: list[tuple[str, str]] = []
        async with place(directory) as transcripts, place(directory) as others:
            for token in range(1, chance.randint(3, 9)):
                turn = f"turn-{token}"
                if token > 1 and chance.random() < 0.4:
                    gone = f"turn-{token - 1}"
                    count = sum(author == gone for author, _ in expected)
                    assert await others.take_out("a", gone, token=token, turn=turn) == count, f"seed {seed}/{number}"
                    expected = [pair for pair in expected if pair[0] != gone]
                async with transcripts.open("a", token=token, turn=turn) as transcript:
                    await one_turn(transcript, others, chance, turn, expected)
            assert said(await transcripts.read("a")) == [words for _, words in expected], f"seed {seed}/{number}"


async def one_turn(
    transcript: Transcript, others: Transcripts, chance: random.Random, turn: str, expected: list[tuple[str, str]]
) -> None:
    for _ in range(chance.randint(0, 4)):
        words = [f"{chance.randrange(3)}" for _ in range(chance.randint(1, 3))]  # the same words often
        if chance.random() < 0.5:
            await transcript.append(*map(user, words))
            expected += [(turn, text) for text in words]
        else:
            async with transcript.released() as prompt:
                await others.append("a", *map(user, words))
                expected += [("", text) for text in words]
                if chance.random() < 0.5:
                    prompt.stage(user("staged"))
                    expected.append((turn, "staged"))


def test_the_file_of_traces_is_private(tmp_path: Path) -> None:
    """As all files beside a transcript."""
    asyncio.run(write_in_turns(lambda: in_files(tmp_path), behind=False))
    assert stat.S_IMODE(os.stat(tmp_path / "a.jsonl.traces").st_mode) == 0o600
