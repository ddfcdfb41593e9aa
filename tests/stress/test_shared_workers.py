"""Overlapping messages of many conversations behind four workers with shared lanes, one of them killed in the middle.

Long form (200 conversations, printed figures): `pytest -s tests/stress/test_shared_workers.py --long`
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from support.net_clients import openai_client
from support.server_process import server_process
from support.transcripts_scenes import said
from turnlane import Sessions, Transcripts

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.stress,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="sockets are passed to workers by number"),
]

MESSAGES, AT_ONCE = 5, 20


class Burst:
    """What the clients said and got; `answers` are by message, None where there was a clear error."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        self._places = asyncio.Semaphore(AT_ONCE)
        self.answers: dict[str, str | None] = {}
        self.processes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    async def converse(self, key: str) -> None:
        async with self._places, asyncio.TaskGroup() as group:
            for number in range(MESSAGES):
                group.create_task(self._say(key, f"{key} {number}"))

    async def _say(self, key: str, text: str) -> None:
        asked: Any = [{"role": "user", "content": text}]
        try:
            answer = await self._client.chat.completions.create(
                model="m", messages=asked, extra_headers={"x-session-key": key}
            )
        except openai.APIError as error:
            self.answers[text] = None
            self.errors[type(error).__name__] += 1
        else:
            self.answers[text] = answer.choices[0].message.content
            self.processes[answer.model] += 1


async def burst(tmp_path: Path, url: str, conversations: int, *, kill: bool) -> Burst:
    """Have all conversations; with `kill` one worker is killed when a third of the messages has been answered."""
    async with server_process("server_shared.py", url, str(tmp_path)) as server:
        workers = [(await server.reported("ready"))["process"] for _ in range(3)]
        async with openai_client(server.port, timeout=60) as client:
            said_all = Burst(client)
            tasks = [asyncio.create_task(said_all.converse(f"agent:main:{n}")) for n in range(conversations)]
            while kill and len(said_all.answers) < conversations * MESSAGES // 3:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
            if kill:
                os.kill(workers[0], signal.SIGKILL)
                await server.reported("ready")  # uvicorn starts another in its place
            await asyncio.gather(*tasks)
    return said_all


@pytest.mark.parametrize("kill", [False, True], ids=["all live", "one is killed"])
async def test_every_message_has_its_turn_in_one_conversation(tmp_path: Path, kill: bool, long_form: bool) -> None:
    """No two at once, none lost silently, one session id for each key."""
    conversations = 200 if long_form else 25
    began = time.monotonic()
    found = await burst(tmp_path, f"file://{tmp_path}/lanes", conversations, kill=kill)
    seconds = time.monotonic() - began
    print(
        f"\n{conversations} conversations in {seconds:.1f} s, by {len(found.processes)} workers, {dict(found.errors)}"
    )
    assert len(found.answers) == conversations * MESSAGES
    assert len(found.processes) > 1
    assert kill or not found.errors
    async with (
        Sessions(f"sqlite:///{tmp_path}/sessions.db") as sessions,
        Transcripts(tmp_path / "transcripts") as transcripts,
    ):
        ids = {session.key: session.id for session in await sessions.list(limit=conversations + 1)}
        assert sorted(await transcripts.list()) == sorted(ids.values())
        assert len(ids) == conversations
        for key, session_id in ids.items():
            texts = said(await transcripts.read(session_id))
            assert wrong_in(texts, key, found.answers) == [], texts


def wrong_in(texts: list[str], key: str, answers: dict[str, str | None]) -> list[str]:
    """Return what is wrong with a transcript: a question is followed by its answer, unless its worker was killed."""
    wrong: list[str] = []
    rest = list(texts)
    while rest:
        question = rest.pop(0)
        if rest and rest[0] == f"heard {question}":
            rest.pop(0)
        elif answers.get(question) is not None:
            wrong.append(f"{question} was answered, and the transcript has no answer")
    for number in range(MESSAGES):
        text, count = f"{key} {number}", texts.count(f"{key} {number}")
        answer = answers[text]
        if answer is not None and (answer != f"heard {text}" or count != 1):
            wrong.append(f"{text} got {answer!r} and stands there {count} times")
        if count > 1:
            wrong.append(f"{text} stands there {count} times")
    return wrong
