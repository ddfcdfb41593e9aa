"""Overlapping messages of many conversations behind four workers that share all they keep; one is killed meanwhile.

Long form (200 conversations, printed figures): `pytest -s tests/stress/test_shared_workers.py --long`
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from support.net_clients import openai_client
from support.redis_servers import redis_url
from support.server_process import server_process
from support.server_workers import ENDLESS, Shared
from support.transcripts_scenes import said
from turnlane import Sessions, Transcripts

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.stress,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="sockets are passed to workers by number"),
]

MESSAGES, AT_ONCE = 5, 20
ENGINES = ("file", "redis", "postgresql")
PATIENCE = 90  # a process that starts on a busy machine imports for long
LEASE = 3  # seconds a killed worker keeps its lanes; the default is 15
# Of a client whose worker is killed: before it has an answer, or while it reads a stream.
CUT_OFF = (openai.APIConnectionError, httpx.RemoteProtocolError, httpx.ReadError)


@dataclass(frozen=True, slots=True)
class Place:
    """What the workers share, and by how much the lease of their lanes is made shorter."""

    shared: Shared
    lease: str

    def with_short_lease(self) -> Shared:
        """The same, where a killed worker is passed sooner."""
        kept = self.shared
        return Shared(lanes=kept.lanes + self.lease, sessions=kept.sessions, transcripts=kept.transcripts)


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Lanes and sessions on an engine, transcripts in files, in SQLite and in PostgreSQL."""
    if request.param == "file":
        sessions, transcripts = f"sqlite:///{tmp_path}/sessions.db", str(tmp_path / "transcripts")
        yield Place(Shared(lanes=f"file://{tmp_path}/lanes", sessions=sessions, transcripts=transcripts), "")
    elif request.param == "redis":
        with redis_url() as url:
            transcripts = f"sqlite:///{tmp_path}/transcripts.db"
            yield Place(Shared(lanes=url, sessions=url, transcripts=transcripts), f"&lease={LEASE}")
    else:
        url = request.getfixturevalue("postgresql").new_url()
        yield Place(Shared(lanes=url, sessions=url, transcripts=url), f"&lease={LEASE}")


class Burst:
    """What the clients said and got.

    Mutable: `answers`, by message, None where there was a clear error; `errors`, and how often; `processes`, and how
    many answers each gave; `enough`, set when so many were given; `was_replaced`, once another worker has started in
    the place of the killed one, and `late_errors`, of messages that were begun afterwards.
    """

    def __init__(self, client: AsyncOpenAI, *, enough: int) -> None:
        self._create: Any = client.chat.completions.create  # its types depend on what is asked
        self._enough = enough
        self.enough = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self.answers: dict[str, str | None] = {}
        self.processes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.was_replaced = False
        self.late_errors: list[str] = []

    async def converse(self, key: str, *, endless: int | None = None) -> None:
        """Say all messages of a conversation at once, every other one for a stream; one of them may have no end."""
        async with self._places, asyncio.TaskGroup() as group:
            for number in range(MESSAGES):
                model = ENDLESS if number == endless else "m"
                group.create_task(self._say(key, f"{key} {number}", model, as_stream=number % 2 == 1))

    async def _say(self, key: str, text: str, model: str, *, as_stream: bool) -> None:
        asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
        headers = {"x-session-key": key}
        is_late = self.was_replaced
        try:
            found = await (self._streamed(asked, headers) if as_stream else self._whole(asked, headers))
        except CUT_OFF as error:
            self._failed(text, f"{type(error).__name__} {type(error.__cause__).__name__}", is_late=is_late)
        except openai.APIError as error:  # a refusal, or told in a stream
            self._failed(text, str(error.code), is_late=is_late)
        else:
            self.answers[text] = found
            if len(self.answers) >= self._enough:
                self.enough.set()

    def _failed(self, text: str, why: str, *, is_late: bool) -> None:
        self.answers[text] = None
        self.errors[why] += 1
        if is_late:
            self.late_errors.append(f"{text}: {why}")

    async def _whole(self, asked: dict[str, Any], headers: dict[str, str]) -> str | None:
        answer = await self._create(**asked, extra_headers=headers)
        self.processes[answer.model] += 1
        content: str | None = answer.choices[0].message.content
        return content

    async def _streamed(self, asked: dict[str, Any], headers: dict[str, str]) -> str:
        """Return what a stream said; it must not end without saying that this is all."""
        pieces: list[str] = []
        ended = False
        async with await self._create(**asked, stream=True, extra_headers=headers) as stream:
            async for part in stream:
                pieces.append(part.choices[0].delta.content or "")
                ended = ended or part.choices[0].finish_reason == "stop"
                if ended:
                    self.processes[part.model] += 1
        assert ended, f"a stream broke off silently after {pieces}"
        return "".join(pieces)


async def burst(shared: Shared, conversations: int, *, kill: bool) -> Burst:
    """Have all conversations; with `kill` a worker is killed in the middle of a turn, after a third of the messages."""
    async with server_process("server_workers.py", shared.argument) as server:
        for _ in range(shared.workers - 1):
            await server.reported("ready", timeout=PATIENCE)
        async with openai_client(server.port, timeout=PATIENCE) as client:
            said_all = Burst(client, enough=conversations * MESSAGES // 3)
            tasks = [
                asyncio.create_task(said_all.converse(f"agent:main:{n}", endless=2 if kill and n == 0 else None))
                for n in range(conversations)
            ]
            if kill:
                inside = await server.reported("inside", timeout=PATIENCE)
                await said_all.enough.wait()
                os.kill(inside["process"], signal.SIGKILL)
                await server.reported("ready", timeout=PATIENCE)  # uvicorn starts another in its place
                said_all.was_replaced = True
            await asyncio.gather(*tasks)
    return said_all


@pytest.mark.parametrize("kill", [False, True], ids=["all live", "one is killed"])
async def test_every_message_has_its_turn_in_one_conversation(place: Place, kill: bool, long_form: bool) -> None:
    """No two at once, in the order of their tickets, none lost silently, one session id and transcript for each key."""
    conversations = 200 if long_form else 25
    shared = place.with_short_lease() if kill else place.shared
    began = time.monotonic()
    found = await burst(shared, conversations, kill=kill)
    seconds = time.monotonic() - began
    which = f"{shared.lanes.partition(':')[0]}, {'one is killed' if kill else 'all live'}"
    print(
        f"\n{which}: {conversations} conversations, {len(found.answers)} messages in {seconds:.1f} s, "
        f"by {len(found.processes)} workers, {dict(found.errors)}"
    )
    assert len(found.answers) == conversations * MESSAGES
    assert len(found.processes) > 1
    assert {error.partition(" ")[0] for error in found.errors} <= (
        {error.__name__ for error in CUT_OFF} if kill else set()
    )
    assert bool(found.errors) is kill
    assert found.late_errors == []
    assert await wrong_with(shared, found, conversations) == []


async def test_the_same_burst_in_lanes_of_each_worker_is_found_out(tmp_path: Path) -> None:
    """The negative control: nothing else keeps turns of several workers apart."""
    transcripts = f"sqlite:///{tmp_path}/transcripts.db"
    shared = Shared(sessions=f"sqlite:///{tmp_path}/sessions.db", transcripts=transcripts)
    found = await burst(shared, 10, kill=False)
    assert found.errors or await wrong_with(shared, found, 10)


async def wrong_with(shared: Shared, found: Burst, conversations: int) -> list[str]:
    """Return what is wrong with the sessions and transcripts that are left, in view of the answers that were given."""
    keys = {f"agent:main:{n}" for n in range(conversations)}
    answered = {text.partition(" ")[0] for text, answer in found.answers.items() if answer is not None}
    wrong: list[str] = []
    assert shared.transcripts is not None
    async with Sessions(shared.sessions) as sessions, Transcripts(shared.transcripts) as transcripts:
        ids = {session.key: session.id for session in await sessions.list(limit=conversations + 1)}
        if not answered <= set(ids) <= keys:  # nobody knows of a first message whose worker was killed
            wrong.append(f"there are sessions of {sorted(ids)}, and answers in {sorted(answered)}")
        if not set(await transcripts.list()) <= set(ids.values()):
            wrong.append(f"there are transcripts of {await transcripts.list()}, and sessions {ids}")
        for key, session_id in ids.items():
            entries: Any = await transcripts.read(session_id)
            wrong += wrong_in(said(entries), key, found.answers) + out_of_order_in(entries)
    return wrong


def wrong_in(texts: list[str], key: str, answers: dict[str, str | None]) -> list[str]:
    """Return what is wrong with a transcript: a question is followed by its answer, unless its worker was killed."""
    wrong: list[str] = []
    rest = list(texts)
    while rest:
        question = rest.pop(0)
        if rest and rest[0] == f"heard {question}":
            rest.pop(0)
        elif answers.get(question, "") is not None:
            wrong.append(f"{question} was answered, or is none, and the transcript has no answer")
    for number in range(MESSAGES):
        text, count = f"{key} {number}", texts.count(f"{key} {number}")
        answer = answers[text]
        if answer is not None and (answer != f"heard {text}" or count != 1):
            wrong.append(f"{text} got {answer!r} and stands there {count} times")
        if count > 1:
            wrong.append(f"{text} stands there {count} times")
    return wrong


def out_of_order_in(entries: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with the order of turns: tokens grow, and of one worker's they are those of its line."""
    questions = [entry for entry in entries if entry["role"] == "user"]
    wrong = [
        f"{after} comes after {before}" for before, after in pairwise(questions) if after["token"] <= before["token"]
    ]
    for process in {question["process"] for question in questions}:
        queued = [each["queued"] for each in questions if each["process"] == process and each["queued"] is not None]
        if queued != sorted(queued):
            wrong.append(f"the line of {process} was {sorted(queued)}, its turns ran as {queued}")
    return wrong
