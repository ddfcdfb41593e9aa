"""Real workers that are killed, or whose system calls fail, at each call that touches a transcript's files."""

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

import pytest

from support.transcripts_aftermath import after
from support.transcripts_burials import after_burial
from support.transcripts_jobs import BURIALS, JOBS
from support.transcripts_scenes import line, user
from support.transcripts_strace import NotPermitted, Outcome, Point, Workers, points, workers

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform != "linux", reason="strace"),
]

SHORT, SHORT_BURIALS = 120, 40
DURABILITIES = ("process", "power")


@contextmanager
def traced() -> Generator[None, None, None]:
    """Where a process can not be traced: a failure in CI, elsewhere a skip."""
    try:
        yield
    except (FileNotFoundError, NotPermitted) as error:
        reason = f"strace is needed, and leave to trace: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


After = Callable[[str, Path, Callable[[], Outcome]], Awaitable[tuple[list[str], Outcome]]]


class Jobs:
    """Jobs that are hit, each at some of its points.

    Args:
        directory: where they keep their transcripts.
        forked: has them done.
        names: of the jobs.
        after: has one run, and judges what is left.
    """

    def __init__(self, directory: Path, forked: Workers, names: Iterable[str], after: After) -> None:
        self.directory = directory
        self.forked = forked
        self.names = tuple(names)
        self.after = after

    async def all_points(self) -> list[Point]:
        """Run each job once without a fault, and return what there is to hit."""
        found: list[Point] = []
        for durability in DURABILITIES:
            for job in self.names:
                wrong, outcome = await self.one(f"{job}-{durability}", job, durability)
                assert wrong == [], f"{job} ({durability}), with no fault"
                assert outcome.done or job == "salvage"
                found += points(job, durability, outcome.calls)
        assert {point.job for point in found} == set(self.names)
        return found

    async def one(
        self, name: str, job: str, durability: str, options: tuple[str, ...] = ()
    ) -> tuple[list[str], Outcome]:
        directory = self.directory / name
        return await self.after(job, directory, lambda: self.forked.run(job, directory, durability, options))

    async def hit(self, chosen: Sequence[Point]) -> dict[str, list[str]]:
        """Run a job for each of some points, and return what is wrong after which."""
        wrong: dict[str, list[str]] = {}
        for number, point in enumerate(chosen):
            faults, outcome = await self.one(str(number), point.job, point.durability, point.options())
            assert outcome.hit, f"{point} was not reached"
            if faults:
                wrong[str(point)] = faults
            else:
                await asyncio.to_thread(rmtree, self.directory / str(number))
        return wrong


async def hit_at_points(jobs: Jobs, most: int, *, seed: int, long_form: bool) -> None:
    """Try some of the points, by the seed; in the long form all."""
    found = await jobs.all_points()
    chosen = found if long_form else random.Random(seed).sample(found, min(most, len(found)))
    wrong = await jobs.hit(chosen)
    assert wrong == {}
    print(f"{len(chosen)} of {len(found)} points: {Counter(point.fault for point in chosen)}")


async def test_whatever_happens_at_a_system_call_nothing_is_lost_torn_or_taken_over(
    tmp_path: Path, seed: int, long_form: bool
) -> None:
    """Killed at a call, or told ENOSPC, EIO, EINTR, EMFILE, EROFS or EACCES by it, once or from then on.

    What was acknowledged is there once, in order; the rest whole, or salvaged, or told of; the next one goes on, and so
    does the fence of a bystander.
    """
    with traced(), workers(tmp_path) as forked:
        await hit_at_points(Jobs(tmp_path, forked, JOBS, after), SHORT, seed=seed, long_form=long_form)


async def test_whatever_happens_at_a_system_call_a_deletion_is_whole_or_none(
    tmp_path: Path, seed: int, long_form: bool
) -> None:
    """The same while a transcript is deleted, or what is left of another one swept.

    What it held is in the transcript or in its tombstone; a bystander goes on, or learns that it was deleted; nothing
    of what was deleted comes back, and nothing of another one goes.
    """
    with traced(), workers(tmp_path) as forked:
        jobs = Jobs(tmp_path, forked, BURIALS, after_burial)
        await hit_at_points(jobs, SHORT_BURIALS, seed=seed, long_form=long_form)


def wrote(content: bytes, *, path: Path) -> None:
    with path.open("ab") as file:
        file.write(content)


SILENT: dict[str, tuple[Callable[[Path], None], Outcome]] = {
    "acknowledged and not stored": (lambda _: None, Outcome(stored=["one"], done=True)),
    "a foreign entry": (lambda path: wrote(line(user("one")), path=path), Outcome(done=True)),
    "a torn entry": (lambda path: wrote(b'{"role": "us', path=path), Outcome(hit=True)),
    "an error of the system": (
        lambda _: None,
        Outcome(raised={"ours": False, "type": "OSError", "text": "", "handed": []}),
    ),
    "words that are nowhere": (
        lambda _: None,
        Outcome(raised={"ours": True, "type": "TranscriptUnavailable", "text": "", "handed": ["one"]}),
    ),
    "a death of itself": (lambda _: None, Outcome()),
}


@pytest.mark.parametrize("name", SILENT)
async def test_a_wrong_end_is_seen(tmp_path: Path, name: str) -> None:
    """The judgement above can fail: each of these ends is one that must not be."""
    deed, outcome = SILENT[name]

    def run() -> Outcome:
        deed(tmp_path / "old.jsonl")
        return outcome

    wrong, _ = await after("append", tmp_path, run)
    assert wrong != []


@pytest.mark.parametrize("name", ["kept", "half of it", "twice"])
async def test_a_wrong_end_of_a_deletion_is_seen(tmp_path: Path, name: str) -> None:
    """The judgement of deletions can fail too: told and not done, done without a tombstone, done and still there."""
    path = tmp_path / "old.jsonl"

    def run() -> Outcome:
        if name == "half of it":
            path.unlink()
        elif name == "twice":
            (tmp_path / "old.1.tombstone.jsonl").write_bytes(path.read_bytes())
        return Outcome(done=True)

    wrong, _ = await after_burial("delete", tmp_path, run)
    assert wrong != []
