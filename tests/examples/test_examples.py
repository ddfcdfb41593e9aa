"""Each example runs by itself and shows what it says."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.postgresql import PostgresqlDatabase
from support.redis_servers import redis_url
from turnlane import Sessions

# An example is a process that imports much; on a busy machine that alone takes its time.
pytestmark = pytest.mark.timeout(60)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def output_of(name: str, *, directory: Path, warns_of: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=directory,
        env={**os.environ, "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == warns_of.split()
    assert list(directory.iterdir()) == [], "an example leaves nothing behind"
    return done.stdout


def waits_ms(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"waited (\d+) ms", text)]


def test_there_is_a_test_for_every_example() -> None:
    """The tests below name every file of the folder, and none is long."""
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "01_starlette.py",
        "02_fastapi.py",
        "03_turn_function.py",
        "04_openai_server.py",
        "05_transcripts.py",
        "06_enqueue.py",
        "07_reject.py",
        "08_interrupt.py",
        "09_coalesce.py",
        "10_steer.py",
        "11_agents_calling_agents.py",
        "12_rollback.py",
        "13_worker_processes.py",
        "14_processes_on_redis.py",
        "15_processes_on_postgresql.py",
    }
    assert {path.name for path in EXAMPLES.glob("*.py") if len(path.read_text().splitlines()) >= 80} == set()


def test_the_starlette_example_runs_one_turn_after_the_other(tmp_path: Path) -> None:
    """Alice's second message begins when her first has ended; Bob waits for nobody."""
    text = output_of("01_starlette.py", directory=tmp_path, warns_of="unscoped_key")
    order = re.findall(r"^  (.*)$", text, re.MULTILINE)
    assert order.index("hello ends") < order.index("are you there? begins")
    assert order.index("good morning begins") < order.index("hello ends")
    first, second, other = waits_ms(text)
    assert second > 100 > first
    assert other < 100
    assert "'ARE YOU THERE?'" in text


def test_the_fastapi_example_has_one_session_and_full_memory(tmp_path: Path) -> None:
    """Three overlapping messages, one session id, and the last one knows the other two."""
    text = output_of("02_fastapi.py", directory=tmp_path)
    assert len(set(re.findall(r"^session (\S+) waited", text, re.MULTILINE))) == 1
    assert "who am I? I remember ['my name is Ada', 'I live in London']" in text
    assert "session ids: 1\n" in text
    first, second, third = waits_ms(text)
    assert first < second < third


def test_the_turn_function_example_needs_no_server(tmp_path: Path) -> None:
    """Overlapping calls for one key take turns and remember; another key does not wait."""
    text = output_of("03_turn_function.py", directory=tmp_path)
    assert "who am I? I remember ['my name is Ada', 'I live in London']" in text
    assert "good morning? I remember []" in text
    assert "session ids: 2\n" in text
    first, second, third, other = waits_ms(text)
    assert first < second < third
    assert other < second


@pytest.mark.sockets
def test_the_openai_example_answers_the_second_message_with_the_first_in_mind(tmp_path: Path) -> None:
    """A message over /v1/responses that came while a chat stream ran knows what was said there."""
    text = output_of("04_openai_server.py", directory=tmp_path)
    assert 'first:  Turn 1. You said "my name is Ada". I remember nothing before it.' in text
    assert 'second: Turn 2. You said "who am I?". I remember 1 earlier message: "my name is Ada".' in text


def test_the_transcript_example_goes_on_and_stops_as_it_says(tmp_path: Path) -> None:
    """An owned append meanwhile is fine; after a hand edit the reply is in the salvage and the next turn goes on."""
    text = output_of("05_transcripts.py", directory=tmp_path)
    assert "ada: sunny and warm (told meanwhile: 1)" in text
    assert re.search(r"^stopped: .*:1 was edited by somebody who does not own it", text, re.MULTILINE)
    assert re.search(r"salvage\.jsonl:\n  assistant: rain$", text, re.MULTILINE)
    assert "  tool: sent to the phone\n  assistant: sunny and warm\n  user: and tomorrow?\n  user: thank you\n" in text
    assert "ada: you are welcome (told meanwhile: 0)" in text


@pytest.mark.sockets
def test_the_agents_that_call_each_other_do_not_wait_for_themselves(tmp_path: Path) -> None:
    """A chain passes; one that comes back to its own conversation is refused, to another one of the same agent not."""
    assert output_of("11_agents_calling_agents.py", directory=tmp_path).splitlines() == [
        "the writer asked, and the researcher did it",
        "the writer asked, and the researcher was refused: lane_reentry",
        "the writer asked, and the researcher asked, and the writer did it",
    ]


def test_the_enqueue_example_refuses_one_too_many(tmp_path: Path) -> None:
    """Two wait, in their order; the last of them is told that it was long."""
    assert output_of("06_enqueue.py", directory=tmp_path).splitlines() == [
        "four: refused, 2 wait already",
        "one: ONE",
        "two: TWO",
        "three: THREE (sorry for the wait)",
    ]


def test_the_reject_example_has_one_at_a_time(tmp_path: Path) -> None:
    """Of one key; afterwards it is free again."""
    lines = output_of("07_reject.py", directory=tmp_path).splitlines()
    assert lines[0] == "shop: v2 not now, 1 ahead"
    assert sorted(lines[1:3]) == ["blog: deployed v7", "shop: deployed v1"]
    assert lines[3] == "shop: deployed v3"


def test_the_interrupt_example_puts_away_before_it_goes_on(tmp_path: Path) -> None:
    """The old answer was cut off, and its cleanup ended first."""
    lines = output_of("08_interrupt.py", directory=tmp_path).splitlines()
    assert lines[0] == "  put away: whales"
    assert re.fullmatch(r"whales: cut off after [0-8] words", lines[1])
    assert lines[2:] == [
        "  put away: no, dolphins",
        "no, dolphins: let me tell you about no, dolphins at length",
    ]


def test_the_rollback_example_forgets_what_was_asked_before(tmp_path: Path) -> None:
    """It is in the salvage, and not in the transcript."""
    assert output_of("12_rollback.py", directory=tmp_path).splitlines() == [
        "ada: all about sharks",
        "ada: whales was rolled back",
        "ada: all about dolphins",
        *("transcript:", "  user: sharks", "  assistant: all about sharks"),
        *("  user: dolphins", "  assistant: all about dolphins"),
        *("salvage:", "  user: whales"),
    ]


def test_the_coalesce_example_answers_three_messages_at_once(tmp_path: Path) -> None:
    """The first was alone; those that came while it was answered are one."""
    lines = output_of("09_coalesce.py", directory=tmp_path).splitlines()
    assert lines[0] == "hi: you said 'hi'"
    assert sorted(lines[1:]) == [
        "my parcel: answered with a later one",
        "please?: you said 'where is my parcel please?'",
        "where is: answered with a later one",
    ]


def test_the_steer_example_takes_what_came_in_time(tmp_path: Path) -> None:
    """The other message is a turn of its own."""
    assert output_of("10_steer.py", directory=tmp_path).splitlines() == [
        "  searched in kitchen",
        "attic: taken into the answer that is being given",
        "  searched in garden",
        "  searched in attic",
        "kitchen, garden: found nothing in kitchen, garden, attic",
        "  searched in cellar",
        "cellar: found nothing in cellar",
    ]


def test_the_example_of_worker_processes_shares_one_lane(tmp_path: Path) -> None:
    """In a directory."""
    assert_one_line_of_two_processes(output_of("13_worker_processes.py", directory=tmp_path))


def test_the_example_of_processes_on_redis_shares_one_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Redis, and no conversation is left there."""
    with redis_url() as url:
        monkeypatch.setenv("TURNLANE_EXAMPLE_REDIS", url)
        assert_one_line_of_two_processes(output_of("14_processes_on_redis.py", directory=tmp_path))
        assert asyncio.run(keys_in(url)) == []


def assert_one_line_of_two_processes(text: str) -> None:
    """Two processes, four turns of one conversation in one session, one after the other."""
    assert len(set(re.findall(r"is process (\d+)", text))) == 2
    assert len(set(re.findall(r"begins in session (\w+)", text))) == 1
    order = re.findall(r"(first|second) to (one|two)' (begins|ends)", text)
    assert [what for _, _, what in order] == ["begins", "ends"] * 4
    assert [turn[:2] for turn in order[::2]] == [turn[:2] for turn in order[1::2]]
    assert len({turn[:2] for turn in order}) == 4
    assert "a message waits" in text


async def keys_in(url: str) -> list[str]:
    async with Sessions(url) as sessions:
        return [session.key for session in await sessions.list()]


def test_the_example_of_processes_on_postgresql_shares_one_transcript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgresql: PostgresqlDatabase
) -> None:
    """Each question is followed by its answer, in the order of the turns; no conversation is left."""
    url = postgresql.new_url()
    monkeypatch.setenv("TURNLANE_EXAMPLE_POSTGRESQL", url)
    text = output_of("15_processes_on_postgresql.py", directory=tmp_path)
    assert len(set(re.findall(r"is process (\d+)", text))) == 2
    turns = re.findall(r"ada '(\w+ to \w+)' is turn (\d)", text)
    assert [number for _, number in turns] == ["1", "2", "3", "4"]
    wrote = re.findall(r"^  (.*)$", text, re.MULTILINE)
    assert wrote[::2] == [f"user: {question}" for question, _ in turns]
    assert wrote[1::2] == [f"assistant: {question}? {question[-3:]} knows" for question, _ in turns]
    assert asyncio.run(keys_in(url)) == []
