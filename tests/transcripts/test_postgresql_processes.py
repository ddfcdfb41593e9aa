"""Real processes on one PostgreSQL database: killed in the middle of writes, and with their connections ended."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import IO, cast

import pytest

from support.postgresql import PostgresqlDatabase
from support.transcripts_places import PostgresqlPlace
from support.transcripts_scenes import said
from turnlane import Enqueue, Rollback, Runtime
from turnlane.transcripts import Transcripts

WORKER = Path(__file__).with_name("postgresql_worker.py")

pytestmark = [pytest.mark.stress, pytest.mark.timeout(600)]


def start(url: str, name: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, str(WORKER), url, name, str(count)], stdout=subprocess.PIPE, text=True)


def answers(process: "subprocess.Popen[str]") -> list[tuple[str, str]]:
    """Return what a process has said until it ended, a line that it was cut off in not counted."""
    output = cast("IO[str]", process.stdout)
    lines = output.read().split("\n")[:-1]
    process.wait(60)
    output.close()
    return [cast("tuple[str, str]", tuple(line.split())) for line in lines]


def owned(url: str) -> list[str]:
    """Return what the transcript holds, if all of it is owned."""

    async def read() -> list[str]:
        async with Transcripts(url, at_open="raise") as transcripts, transcripts.open("a") as transcript:
            return said(transcript.entries)

    return asyncio.run(read())


def pairs_in(texts: list[str]) -> list[str]:
    """Return the names of the pairs; each must be whole, in order, and there once."""
    left, right = texts[::2], texts[1::2]
    names = [text.removesuffix("-left") for text in left]
    assert right == [f"{name}-right" for name in names]
    assert len(set(names)) == len(names)
    return names


def expire(place: PostgresqlPlace) -> None:
    """Let go of the lock of a process that is dead, for which others would wait some seconds."""
    place.database.execute(f"DELETE FROM {place.schema}.transcript_lease")


def test_kill_in_the_middle_of_writes(
    postgresql: PostgresqlDatabase, lend: Callable[[], str], seed: int, long_form: bool
) -> None:
    """What was acknowledged is there, once and whole; nothing is foreign to who comes next."""
    random, place = Random(seed), PostgresqlPlace(postgresql, lend())
    place.make_tables()
    stored: set[str] = set()
    for number in range(40 if long_form else 2):
        process = start(place.url, f"r{number}", 10_000)
        output = cast("IO[str]", process.stdout)
        for _ in range(random.randrange(1, 25)):
            verb, name = output.readline().split()
            assert verb == "stored", f"seed {seed}"
            stored.add(name)
        process.kill()
        stored |= {name for verb, name in answers(process) if verb == "stored"}
        expire(place)
        names = pairs_in(owned(place.url))
        assert stored <= set(names), f"seed {seed}"
        assert len(names) <= len(stored) + number + 1, f"seed {seed}"  # each may have had one under way


KILLED_TURN = """
import asyncio, os, signal, sys
from turnlane import Runtime, Transcripts

async def main(url):
    async with Runtime(sessions=url, transcripts=Transcripts(url, trace_turns=True)) as runtime:
        async with runtime.turn("k") as turn, turn.open_transcript() as transcript:
            await transcript.append({"content": "ended"})
        async with runtime.turn("k") as turn, turn.open_transcript() as transcript:
            await transcript.append({"content": "half"})
            async with transcript.released():
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1]))
"""


async def test_what_a_killed_process_has_left_is_rolled_back(lend: Callable[[], str]) -> None:
    """By a runtime that shares only the database with it; the turn before, which ended, stays."""
    url = lend()
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_TURN, url)
    assert await killed.wait() == -signal.SIGKILL
    transcripts = Transcripts(url, trace_turns=True)
    async with Runtime(sessions=url, transcripts=transcripts) as runtime:
        for policy, left in ((Enqueue(), ["ended", "half"]), (Rollback(), ["ended"]), (Rollback(), ["ended"])):
            async with runtime.turn("k", policy=policy) as turn:
                assert turn.session is not None
                assert said(await transcripts.read(turn.session.id)) == left


def test_processes_lose_nothing_while_connections_are_ended(
    postgresql: PostgresqlDatabase, lend: Callable[[], str], seed: int, long_form: bool
) -> None:
    """By an administrator, again and again: each pair is stored once, or told as refused and salvaged."""
    random, place = Random(seed), PostgresqlPlace(postgresql, lend())
    place.make_tables()
    count = 300 if long_form else 15
    started = [start(place.url, name, count) for name in ("a", "b", "c")]
    while any(process.poll() is None for process in started):
        postgresql.terminate_others()
        started[0].poll()
        asyncio.run(asyncio.sleep(random.uniform(0.02, 0.1)))
    told = [answer for process in started for answer in answers(process)]
    assert len(told) == 3 * count
    names = pairs_in(owned(place.url))
    salvaged = {line.decode().split('"')[3].rsplit("-", 1)[0] for line in place.salvaged("a")}
    for verb, name in told:
        where = {"stored": names, "refused": salvaged}.get(verb)
        assert where is None or name in where, f"seed {seed}: {verb} {name}"
    assert sum(verb == "stored" for verb, _ in told) > count
