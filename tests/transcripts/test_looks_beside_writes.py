"""One look of the monitor beside one owned write, halted at every call of both: nothing of that is told."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from support.transcripts_scenes import append, user
from turnlane.transcripts import JsonlTranscriptStore, Transcripts
from turnlane.transcripts.files import Files
from turnlane.transcripts.looker import Looker
from turnlane.transcripts.place import boot_of
from turnlane.transcripts.sight import Sight

PATIENCE = 30
CALLS = frozenset(
    {"open", "close", "status", "status_of", "read", "write", "append", "cut", "rename", "unlink", "try_lock", "unlock"}
)
Write = Callable[[Transcripts, Callable[[], None]], Awaitable[object]]


class Counted(Files):
    """Calls `os`, and `at` before each call."""

    def __init__(self, at: Callable[[], None]) -> None:
        self.at = at

    def __getattribute__(self, name: str) -> Any:
        if name in CALLS:
            object.__getattribute__(self, "at")()
        return object.__getattribute__(self, name)


class Halted:
    """A write in a thread of its own, which goes on by calls that are counted out.

    Mutable: `made` (calls so far), `ended`, `error`, and `_granted` (how many it may make).
    """

    def __init__(self, directory: Path, write: Write) -> None:
        self.made = self._granted = 0
        self.ended = False
        self.error: BaseException | None = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(directory, write))

    def __enter__(self) -> Self:
        self._thread.start()
        self.go_on_to(0)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on_to(None)
        self._thread.join(PATIENCE)
        if self.error is not None:
            raise self.error

    def go_on_to(self, calls: int | None) -> None:
        """Return when it has made so many calls and stands before the next, or has ended; None for its end."""
        with self._news:
            self._granted = 1_000_000 if calls is None else max(calls, self._granted)
            self._news.notify_all()
            assert self._news.wait_for(lambda: self.ended or self.made == self._granted, PATIENCE)

    def _step(self) -> None:
        with self._news:
            self._news.notify_all()
            assert self._news.wait_for(lambda: self.made < self._granted, PATIENCE)
            self.made += 1
            self._news.notify_all()

    def _run(self, directory: Path, write: Write) -> None:
        store = JsonlTranscriptStore(directory, files=Counted(self._step), trace_turns=True)
        try:
            asyncio.run(self._write(write, Transcripts(store)))
        except BaseException as error:
            self.error = error
        with self._news:
            self.ended = True
            self._news.notify_all()

    async def _write(self, write: Write, transcripts: Transcripts) -> None:
        await write(transcripts, self._step)


async def append_one(transcripts: Transcripts, _: Callable[[], None]) -> None:
    await transcripts.append("a", user("owned"))


async def append_much(transcripts: Transcripts, _: Callable[[], None]) -> None:
    await transcripts.append("a", *[user("owned" * 80)] * 250)


async def go_back(transcripts: Transcripts, _: Callable[[], None]) -> None:
    async with transcripts.open("a") as transcript:
        fence = transcript.fence
        await transcript.append(user("one"), user("two"))
        await transcript.rollback(fence)


async def have_it_compacted(transcripts: Transcripts, step: Callable[[], None]) -> None:
    async with transcripts.open("a") as transcript:
        path = Path(transcript.path)

        def compact() -> None:
            kept = path.read_bytes().splitlines(keepends=True)[-3:]
            step()
            path.write_bytes(b"")
            step()
            path.write_bytes(b"".join(kept))
            step()

        transcript.owned_write(compact, validate=lambda _, text: True, rewrite=True)


async def delete_and_begin_anew(transcripts: Transcripts, _: Callable[[], None]) -> None:
    await transcripts.delete("a")
    await transcripts.append("a", user("anew"), user("once more"), user("and again"), user("at last"))


async def take_a_turn_out(transcripts: Transcripts, _: Callable[[], None]) -> None:
    async with transcripts.open("a", token=5, turn="T") as transcript:
        await transcript.append(user("one"))
    await transcripts.append("a", user("two"))
    await transcripts.take_out("a", "T", token=6, turn="S")


WRITES: dict[str, Write] = {
    "append": append_one,
    "long append": append_much,
    "going back": go_back,
    "compaction": have_it_compacted,
    "taking a turn out": take_a_turn_out,
    "deletion": delete_and_begin_anew,
}


@contextmanager
def prepared(directory: Path) -> Generator[Path, None, None]:
    """A transcript of four entries, with a name of its own each time."""
    asyncio.run(Transcripts(directory).append("a", *(user(f"entry {number}") for number in range(4))))
    yield directory / "a.jsonl"
    for path in directory.iterdir():
        path.unlink()


def look(path: Path, before: Sight | None, *, insist: bool, at: Callable[[], None]) -> Sight:
    looker = Looker(foreign=False, state_dir=None, boot=boot_of(), files=Counted(at))
    return looker.look(str(path), before, insist=insist)


def look_beside(directory: Path, write: Write, *, begins: int, halts: int, ends: int | None, insist: bool) -> bool:
    """Look when `begins` calls of the write were made; before call `halts` of the look it goes on to `ends`.

    Returns:
        whether there was so much of both.
    """
    with prepared(directory) as path:
        before = look(path, None, insist=False, at=lambda: None)
        made = 0
        with Halted(directory, write) as writer:
            writer.go_on_to(begins)
            reached = not writer.ended

            def at() -> None:
                nonlocal made
                made += 1
                if made == halts:
                    writer.go_on_to(ends)

            sight = look(path, before, insist=insist, at=at)
            place = f"the look began after {begins} calls, and before its call {halts} the write went on to {ends}"
            assert sight.moving or sight.kind is None, f"{place}: {sight}"
            assert sight.trouble is None, f"{place}: {sight}"
        after = look(path, None, insist=False, at=lambda: None)
        assert (after.kind, after.moving, after.trouble) == (None, False, None)
        return reached and made >= halts


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("insist", [False, True])
@pytest.mark.parametrize("name", WRITES)
def test_an_owned_write_is_never_told_wherever_they_meet(
    tmp_path: Path, name: str, insist: bool, seed: int, long_form: bool
) -> None:
    """The write goes on to its end while the look is halted, at every tenth of its calls; long: at each, to each."""
    run, every = partial(look_beside, tmp_path, WRITES[name], insist=insist), 1 if long_form else 10
    begins = 0
    while run(begins=begins, halts=1, ends=None):
        halts = 1 + (begins + seed) % every
        while run(begins=begins, halts=halts, ends=None):
            for ends in range(begins + 1, begins + 40) if long_form else ():
                run(begins=begins, halts=halts, ends=ends)
            halts += every
        begins += 1
    assert begins > 10, f"seed {seed}"


def test_a_file_that_goes_between_two_calls_of_a_look_that_insists_was_deleted(tmp_path: Path) -> None:
    """Its deletion has begun; it is renamed when the look has seen it and before it has read it."""
    for begins in range(10, 30):
        for halts in range(1, 12):
            look_beside(tmp_path, delete_and_begin_anew, begins=begins, halts=halts, ends=begins + 2, insist=True)


def test_an_edit_beside_it_is(tmp_path: Path) -> None:
    """The staging can find one: what nobody owns is told while the look is halted after it."""
    with prepared(tmp_path) as path:
        before = look(path, None, insist=False, at=lambda: None)
        append(path)
        assert look(path, before, insist=False, at=lambda: None).kind == "appended"
