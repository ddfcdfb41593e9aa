"""Messages that several processes of one machine remember in one file, and processes that are killed."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.net_http import Answer, connected, request
from support.server_process import ServerProcess, server_process

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_factories=["asyncio"]),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process that ended is told by /proc"),
]

KEYS = 40


def message(name: str, key: str | None = "one", session: str = "alice") -> bytes:
    given: dict[str, Any] = {} if key is None else {"idempotency_key": key}
    return request("/turn", b"hello", x_name=name, x_session_key=session, **given)


async def ask(process: ServerProcess, name: str, key: str | None = "one", session: str = "alice") -> Answer:
    async with connected(process.port) as client:
        await client.send(message(name, key, session))
        return await client.answer()


def told(answer: Answer) -> str:
    """Return the code of a refusal, or the text of an answer."""
    return str(answer.json()["error"]["code"]) if answer.status >= 400 else answer.body.decode()


Two = AsyncGenerator[tuple[ServerProcess, ServerProcess], None]


@asynccontextmanager
async def two(tmp_path: Path, while_running: str = "refuse") -> Two:
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(server_process("server_once.py", str(tmp_path / "once.db"), while_running))
            for _ in range(2)
        ]
        yield one, other


async def test_a_message_whose_process_was_killed_in_the_app_is_not_run_again(tmp_path: Path) -> None:
    """Kill -9 in the middle of the run: whoever asks is told that the outcome is unknown, for good."""
    async with two(tmp_path) as (killed, other), connected(killed.port) as client:
        await client.send(message("first"))
        await killed.reported("called")
        await killed.kill()
        await other.tell("*")
        for name in ("second", "third"):
            answer = await ask(other, name)
            assert told(answer) == "duplicate_outcome_unknown"
            assert answer.headers["x-should-retry"] == "false"
        assert told(await ask(other, "fourth", "another")) == "fourth"
        assert (await other.reported("called"))["name"] == "fourth"


async def test_a_message_whose_process_was_killed_before_the_app_is_new(tmp_path: Path) -> None:
    """Kill -9 while it stood in line: it runs elsewhere."""
    async with two(tmp_path) as (killed, other), connected(killed.port) as holder, connected(killed.port) as client:
        await holder.send(message("holder", None))
        await killed.reported("called")
        await client.send(message("first"))
        await killed.reported("TurnQueued")
        await killed.kill()
        await other.tell("*")
        assert told(await ask(other, "second")) == "second"


async def test_an_answer_outlives_its_process(tmp_path: Path) -> None:
    """Kill -9 after the client has the answer: it is kept."""
    async with two(tmp_path) as (killed, other):
        await killed.tell("*")
        assert told(await ask(killed, "first")) == "first"
        await killed.kill()
        answer = await ask(other, "second")
        assert (told(answer), answer.headers["idempotent-replayed"]) == ("first", "true")


async def test_another_process_refuses_what_one_runs(tmp_path: Path) -> None:
    """And has the answer once it is there."""
    async with two(tmp_path) as (one, other), connected(one.port) as client:
        await client.send(message("first"))
        await one.reported("called")
        refused = await ask(other, "second")
        assert (told(refused), refused.status) == ("duplicate_running", 409)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        await one.tell("first")
        assert told(await client.answer()) == "first"
        assert told(await ask(other, "third")) == "first"


async def test_another_process_waits_for_what_one_runs(tmp_path: Path) -> None:
    """Where duplicates wait, it looks until the answer is there."""
    async with two(tmp_path, "wait") as (one, other), connected(one.port) as first, connected(other.port) as second:
        await first.send(message("first"))
        await one.reported("called")
        await second.send(message("second"))
        await one.tell("first")
        assert told(await second.answer()) == told(await first.answer()) == "first"


async def test_who_waits_is_told_when_the_process_that_runs_is_killed(tmp_path: Path) -> None:
    """It does not wait until its time is over."""
    async with two(tmp_path, "wait") as (killed, other), connected(killed.port) as client:
        await client.send(message("first"))
        await killed.reported("called")
        async with connected(other.port) as waits:
            await waits.send(message("second"))
            await killed.kill()
            assert told(await waits.answer()) == "duplicate_outcome_unknown"


@pytest.mark.parametrize("while_running", ["refuse", "wait"])
async def test_a_message_that_two_processes_get_at_once_runs_once(tmp_path: Path, while_running: str) -> None:
    """Many messages, each sent to both at the same time, twice."""
    async with two(tmp_path, while_running) as processes:
        for process in processes:
            await process.tell("*")
        sent = [
            (process, number, f"{number}-{place}-{copy}")
            for number in range(KEYS)
            for place, process in enumerate(processes)
            for copy in range(2)
        ]
        answers = await asyncio.gather(
            *(ask(process, name, f"key-{number}", f"s{number}") for process, number, name in sent)
        )
        called: list[str] = []
        for process in processes:
            assert told(await ask(process, f"last-{process.port}", None)) == f"last-{process.port}"
            while (name := (await process.reported("called"))["name"]) != f"last-{process.port}":
                called.append(name)
    assert sorted(int(name.split("-")[0]) for name in called) == list(range(KEYS))
    for (_, number, _), answer in zip(sent, answers, strict=True):
        if while_running == "wait" or answer.status == 200:
            assert told(answer) in called
            assert told(answer).startswith(f"{number}-")
        else:
            assert told(answer) == "duplicate_running"
