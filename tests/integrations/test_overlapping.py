"""Messages of one conversation that overlap, in each framework: the damage without lanes, and its absence with them."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from support.postgresql import PostgresqlDatabase
from support.redis_servers import redis_url
from support.rigs import RIGS, Line, Place, Rig, ScriptedModel, rig_of, rigs
from support.rigs.contract import reply_to
from support.rigs.judging import damage, damage_in_any_order
from support.server_process import server_process
from turnlane.hooks import TurnQueued

pytestmark = [pytest.mark.timeout(900), pytest.mark.parametrize("name", rigs())]

CONVERSATIONS, MESSAGES, WORKERS = 50, 4, 2
AT_ONCE = 20  # conversations, over sockets
HOMES = ("directory", "redis", "postgresql")
HOW = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])


@asynccontextmanager
async def rig_in(
    name: str, directory: Path, model: ScriptedModel, *, lanes: str | None = "memory://"
) -> AsyncGenerator[Rig, None]:
    """Open an agent, for the block."""
    async with rig_of(name, Place(directory=str(directory), lanes=lanes), model) as rig:
        yield rig
        if rig.runtime is not None:
            statistics = rig.runtime.lanes.statistics()
            assert (statistics.lanes, statistics.running, statistics.waiting) == (0, 0, 0), "a lane was not let go"


async def say(rig: Rig, conversation: str, text: str, *, streaming: bool) -> str:
    """Return the whole answer."""
    if not streaming:
        return await rig.answer(conversation, text)
    async with aclosing(rig.stream(conversation, text)) as parts:
        return "".join([part async for part in parts])


def conversations_of(name: str, tmp_path: Path, *, long_form: bool) -> int:
    """Return how many conversations are tried at once."""
    rig = rig_of(name, Place(directory=str(tmp_path), lanes=None), ScriptedModel())
    return CONVERSATIONS if long_form else rig.conversations


def require_streaming(name: str, tmp_path: Path, *, streaming: bool) -> None:
    if streaming and not rig_of(name, Place(directory=str(tmp_path), lanes=None), ScriptedModel()).streams:
        pytest.skip("this framework does not stream")


@pytest.fixture
def is_chosen(name: str, home: str, streaming: bool, long_form: bool, tmp_path: Path) -> None:
    """The short form takes a directory, and for streams Redis or PostgreSQL in turn."""
    require_streaming(name, tmp_path, streaming=streaming)
    if not long_form and home != (HOMES[1 + RIGS.index(name) % 2] if streaming else HOMES[0]):
        pytest.skip("in the long form")


@pytest.fixture
def lanes_at(home: str, is_chosen: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of lanes that nobody has used."""
    if home == "redis":
        with redis_url() as url:
            yield url
    elif home == "postgresql":
        database: PostgresqlDatabase = request.getfixturevalue("postgresql")
        yield database.new_url()
    else:
        yield f"file://{tmp_path}/lanes"


@HOW
async def test_without_lanes_overlapping_messages_do_damage(name: str, streaming: bool, tmp_path: Path) -> None:
    """So that the tests below show something."""
    require_streaming(name, tmp_path, streaming=streaming)
    model = ScriptedModel(together=2)
    async with rig_in(name, tmp_path, model, lanes=None) as rig:
        sent = ["one", "two"]

        async def one(text: str) -> str:
            try:
                return await say(rig, "c", text, streaming=streaming)
            finally:
                model.expect_nobody()

        async with asyncio.timeout(60):
            found = await asyncio.gather(*(one(text) for text in sent), return_exceptions=True)
        answers = {text: answer for text, answer in zip(sent, found, strict=True) if isinstance(answer, str)}
        damaged = damage(sent, answers, await rig.history("c"))
    print(f"\n{name}: {damaged}")
    assert bool(damaged) is rig.damages


@HOW
async def test_with_lanes_every_turn_is_whole(
    name: str, streaming: bool, tmp_path: Path, seed: int, long_form: bool
) -> None:
    """Fifty conversations, four messages of each at once: in order, nothing lost, each caller with its own answer."""
    require_streaming(name, tmp_path, streaming=streaming)
    model = ScriptedModel(seed=seed)
    conversations = conversations_of(name, tmp_path, long_form=long_form)
    sent = {f"c{number}": [f"c{number} m{place}" for place in range(MESSAGES)] for number in range(conversations)}
    async with rig_in(name, tmp_path, model) as rig:
        assert rig.runtime is not None
        waited: list[TurnQueued] = []
        rig.runtime.hooks.on(TurnQueued, waited.append)
        asked = [(conversation, text) for conversation, texts in sent.items() for text in texts]
        found = await asyncio.gather(*(say(rig, *each, streaming=streaming) for each in asked))
        answers = {text: answer for (_, text), answer in zip(asked, found, strict=True)}
        for conversation, texts in sent.items():
            assert damage(texts, answers, await rig.history(conversation)) == []
    assert len(waited) >= conversations * (MESSAGES - 1), "they did not overlap"


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="sockets are passed to workers by number")
@pytest.mark.parametrize("home", HOMES)
@HOW
async def test_two_workers_share_the_lanes(
    name: str, streaming: bool, home: str, is_chosen: None, lanes_at: str, tmp_path: Path, long_form: bool
) -> None:
    """The same behind two workers of uvicorn, with lanes in a directory, in Redis and in PostgreSQL."""
    conversations = conversations_of(name, tmp_path, long_form=long_form)
    (tmp_path / "agent").mkdir()
    arguments = (name, str(tmp_path / "agent"), lanes_at, str(WORKERS))
    places, answers = asyncio.Semaphore(AT_ONCE), dict[str, str]()
    async with server_process("server_rigs.py", *arguments) as server:
        for _ in range(WORKERS - 1):
            await server.reported("ready", timeout=90)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=120) as client:

            async def one(conversation: str, text: str) -> None:
                asked = {"conversation": conversation, "text": text, "stream": streaming}
                response = await client.post("/", json=asked)
                assert response.status_code == 200, response.text
                answers[text] = response.text

            async def converse(conversation: str) -> None:
                sent = [f"{conversation} m{place}" for place in range(MESSAGES)]
                async with places:
                    await asyncio.gather(*(one(conversation, text) for text in sent))
                stored = (await client.get("/", params={"conversation": conversation})).json()
                assert damage_in_any_order(sent, answers, [Line(*line) for line in stored]) == []

            await asyncio.gather(*(converse(f"c{number}") for number in range(conversations)))


@HOW
async def test_a_model_that_fails_lets_the_lane_go(name: str, streaming: bool, tmp_path: Path) -> None:
    """Its caller is told as the framework tells it; what was said before stays, and the next message is answered."""
    require_streaming(name, tmp_path, streaming=streaming)
    model = ScriptedModel()
    async with rig_in(name, tmp_path, model) as rig:
        assert await say(rig, "c", "one", streaming=streaming) == reply_to("one", 0)
        failing = asyncio.create_task(say(rig, "c", "hold and fail", streaming=streaming))
        await model.entered["hold and fail"].wait()
        following = asyncio.create_task(say(rig, "c", "three", streaming=streaming))
        model.go["hold and fail"].set()
        with pytest.raises(rig.errors):
            await failing
        assert (await following).startswith("re three after ")
        history = await rig.history("c")
    assert history[:2] == [Line("user", "one"), Line("assistant", reply_to("one", 0))]
    assert history[-1].text.startswith("re three after ")


@HOW
async def test_a_caller_that_leaves_lets_the_lane_go(name: str, streaming: bool, tmp_path: Path) -> None:
    """In the middle of its answer, or while it waits: who comes behind it is answered, and nothing else is lost."""
    require_streaming(name, tmp_path, streaming=streaming)
    model = ScriptedModel()
    async with rig_in(name, tmp_path, model) as rig:
        assert rig.runtime is not None
        queued: asyncio.Queue[TurnQueued] = asyncio.Queue()
        rig.runtime.hooks.on(TurnQueued, queued.put_nowait)
        await say(rig, "c", "one", streaming=streaming)
        leaving = asyncio.create_task(say(rig, "c", "hold this", streaming=streaming))
        await model.entered["hold this"].wait()
        waiting = asyncio.create_task(say(rig, "c", "left before", streaming=streaming))
        await queued.get()
        following = asyncio.create_task(say(rig, "c", "three", streaming=streaming))
        await queued.get()
        for task in (waiting, leaving):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        if not (streaming or rig.follows_callers):
            model.go["hold this"].set()
        assert (await following).startswith("re three after ")
        history = await rig.history("c")
    assert history[:2] == [Line("user", "one"), Line("assistant", reply_to("one", 0))]
    assert history[-1].text.startswith("re three after ")
    assert "left before" not in [line.text for line in history]
    assert not any("left before" in said for said in model.calls)


async def test_a_stream_that_is_not_read_to_its_end_lets_the_lane_go(name: str, tmp_path: Path) -> None:
    """Who closes it is done with the turn."""
    require_streaming(name, tmp_path, streaming=True)
    model = ScriptedModel()
    async with rig_in(name, tmp_path, model) as rig:
        async with aclosing(rig.stream("c", "hold this")) as parts:
            assert await anext(parts) == "re"
        assert (await rig.answer("c", "two")).startswith("re two after ")
