"""Sessions of openai-agents in a transcript, and behind a fence."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agents import OpenAIConversationsSession, Session, SessionSettings, SQLiteSession
from agents.memory import OpenAIResponsesCompactionSession
from openai import AsyncOpenAI

from support.rigs import ScriptedModel
from support.rigs.contract import reply_to
from support.rigs.openai_agents import UNTRACED
from support.rigs.openai_agents_calls import agent_of, lines_in
from turnlane import Runtime, TranscriptMonitor, Transcripts, Turn
from turnlane.errors import StaleTurn, TranscriptCorrupt, TranscriptTakeover
from turnlane_integrations.openai_agents import FencedSession, LaneRunner, TranscriptSession

STORES = pytest.mark.parametrize("store", ["files", "sqlite"])
HOW = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])

ITEMS: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "hello"},
    {"role": "user", "content": "zażółć \u2028 \x00 🙂"},
    {"role": "user", "content": "half of an emoji: \ud83d"},
    {
        "type": "message",
        "role": "assistant",
        "id": "m",
        "content": [{"type": "output_text", "text": ""}],
    },
    {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at": [1, 2]}'},
    {"type": "function_call_output", "call_id": "c", "output": "x" * 70_000},
    {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": None},
    {"type": "computer_call", "score": float("inf"), "big": 2**80, "small": 1e-320},
    {"item": {"popped": 1}, "cleared": True},
    {"deep": json.loads("[" * 300 + "]" * 300)},
)


def transcripts_in(store: str, directory: Path) -> Transcripts:
    return Transcripts(directory / "transcripts" if store == "files" else f"sqlite:///{directory}/transcripts.db")


def file_of(directory: Path) -> Path:
    return directory / "transcripts" / "c.jsonl"


def edit(path: Path, old: str, new: str) -> None:
    """Change a file by hand."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def salvage_in(directory: Path) -> str:
    return "".join(path.read_text() for path in sorted(directory.rglob("*.salvage.jsonl")))


async def ask(runner: LaneRunner, model: ScriptedModel, text: str, session: Session, *, streaming: bool) -> str:
    agent = agent_of(model)
    if not streaming:
        return str((await runner.run(agent, text, session=session, run_config=UNTRACED)).final_output)
    async with runner.run_streamed(agent, text, session=session, run_config=UNTRACED) as result:
        async for _ in result.stream_events():
            pass
    return str(result.final_output)


# -- TranscriptSession


def programme(chance: random.Random) -> list[tuple[str, Any]]:
    """Return what is done to a session, in order."""
    steps: list[tuple[str, Any]] = []
    for _ in range(chance.randrange(5, 40)):
        what = chance.choice(["add_items", "add_items", "get_items", "get_items", "pop_item", "clear_session"])
        if what == "clear_session" and chance.random() < 0.7:
            what = "get_items"
        argument: Any = None
        if what == "add_items":
            argument = [chance.choice(ITEMS) for _ in range(chance.randrange(4))]
        elif what == "get_items":
            argument = chance.choice([None, -(2**31), -1, 0, 1, 2, 3, 5, 100, 2**31 - 1])
        steps.append((what, argument))
    return steps


@STORES
async def test_a_transcript_session_does_what_a_sqlite_session_does(store: str, seed: int, tmp_path: Path) -> None:
    """Random programmes, step by step: the same items and answers, whatever the limit, also in another object."""
    chance = random.Random(seed)
    async with transcripts_in(store, tmp_path) as transcripts:
        for number in range(12):
            limit = chance.choice([None, None, 0, 1, 3])
            settings: dict[str, Any] = {"session_settings": SessionSettings(limit=limit)}
            with closing(SQLiteSession(f"c{number}", tmp_path / "reference.db", **settings)) as reference:
                ours = TranscriptSession(f"c{number}", transcripts, **settings)
                for what, argument in programme(chance):
                    if chance.random() < 0.2:
                        ours = TranscriptSession(f"c{number}", transcripts, **settings)
                    arguments = () if what in ("pop_item", "clear_session") else (argument,)
                    expected = await getattr(reference, what)(*arguments)
                    assert await getattr(ours, what)(*arguments) == expected, (what, arguments)
                assert await ours.get_items(-1) == await reference.get_items(-1)


async def test_a_transcript_session_takes_the_context_of_a_run(tmp_path: Path) -> None:
    """Every method takes `wrapper`, by which newer versions know that a session wants it."""
    assert isinstance(TranscriptSession("c", transcripts_in("files", tmp_path)), Session)
    session: Any = TranscriptSession("c", transcripts_in("files", tmp_path))
    await session.add_items([ITEMS[0], ITEMS[1]], wrapper=object())
    assert await session.get_items(1, wrapper=object()) == [ITEMS[1]]
    assert await session.pop_item(wrapper=object()) == ITEMS[1]
    await session.clear_session(wrapper=object())
    assert await session.get_items() == []
    assert repr(session).startswith("<TranscriptSession 'c' in <Transcripts ")


async def test_what_json_can_not_hold_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    """As by `SQLiteSession`: the same error, and none of the items."""
    session: Any = TranscriptSession("c", transcripts_in("files", tmp_path))
    with closing(SQLiteSession("c")) as reference:
        sessions: tuple[Any, ...] = (session, reference)
        for each in sessions:
            with pytest.raises(TypeError, match="not JSON serializable"):
                await each.add_items([ITEMS[0], {"content": object()}])
            assert await each.get_items() == []


class Overtaken(Transcripts):
    """Whoever has read a transcript is overtaken by another writer."""

    async def read(self, session_id: str, *, last: int | None = None) -> tuple[dict[str, Any], ...]:
        entries = await super().read(session_id, last=last)
        await self.append(session_id, {"item": {"n": 3}})
        return entries


async def test_an_item_is_taken_away_by_its_place(tmp_path: Path) -> None:
    """What another has added between the look and the taking stays; a place that is empty by then takes nothing."""
    transcripts = transcripts_in("files", tmp_path)
    session: Any = TranscriptSession("c", transcripts)
    await session.add_items([{"n": 1}, {"n": 2}])
    overtaken: Any = TranscriptSession("c", Overtaken(tmp_path / "transcripts"))
    assert await overtaken.pop_item() == {"n": 2}
    assert await session.get_items() == [{"n": 1}, {"n": 3}]
    await transcripts.append("c", {"popped": 7})
    assert await session.get_items() == [{"n": 1}, {"n": 3}]


async def test_entries_of_others_are_not_shown_and_broken_ones_are_named(tmp_path: Path) -> None:
    """A turn function may keep its own entries there; an entry of ours that somebody has broken is an error."""
    transcripts = transcripts_in("files", tmp_path)
    session: Any = TranscriptSession("c", transcripts)
    await transcripts.append("c", {"role": "tool", "content": "delivered"})
    await session.add_items([ITEMS[0]])
    assert await session.get_items() == [ITEMS[0]]
    await transcripts.append("c", {"popped": "all"})
    with pytest.raises(TranscriptCorrupt, match="3 is not an entry: invalid literal") as caught:
        await session.get_items()
    assert caught.value.line == 3


@HOW
async def test_a_hand_edit_while_the_model_is_called_is_a_takeover(streaming: bool, tmp_path: Path) -> None:
    """The answer is in the salvage and not in the file; the lane is free, and the next run begins with the edit."""
    model = ScriptedModel()
    async with Runtime() as runtime, transcripts_in("files", tmp_path) as transcripts:
        runner, session = LaneRunner(runtime), TranscriptSession("c", transcripts)
        await ask(runner, model, "whales", session, streaming=streaming)
        running = asyncio.create_task(ask(runner, model, "hold this", session, streaming=streaming))
        await model.entered["hold this"].wait()
        edit(file_of(tmp_path), "whales", "sharks")
        model.go["hold this"].set()
        with pytest.raises(TranscriptTakeover) as caught:
            await running
        assert (caught.value.kind, caught.value.phase) == ("edited", "append")
        assert caught.value.salvaged is not None
        assert reply_to("hold this", 1) in salvage_in(tmp_path)
        assert reply_to("hold this", 1) not in file_of(tmp_path).read_text()
        assert runtime.lanes.statistics().lanes == 0
        assert await ask(runner, model, "three", session, streaming=streaming) == reply_to("three", 2)
        assert [line.text for line in await lines_in(session)] == [
            *("sharks", "re sharks after 0", "hold this"),
            *("three", reply_to("three", 2)),
        ]


@STORES
@HOW
async def test_an_owned_write_while_the_model_is_called_is_none(store: str, streaming: bool, tmp_path: Path) -> None:
    """What others add through turnlane, here or in another process, stays, and so does the answer."""
    model = ScriptedModel()
    async with Runtime() as runtime, transcripts_in(store, tmp_path) as transcripts:
        session: Any = TranscriptSession("c", transcripts)
        running = asyncio.create_task(ask(LaneRunner(runtime), model, "hold this", session, streaming=streaming))
        await model.entered["hold this"].wait()
        async with transcripts_in(store, tmp_path) as others:
            added: Any = [{"role": "user", "content": "by the way"}]
            await TranscriptSession("c", others).add_items(added)
        model.go["hold this"].set()
        assert await running == reply_to("hold this", 0)
        assert [line.text for line in await lines_in(session)] == [
            *("hold this", "by the way", reply_to("hold this", 0)),
        ]


@STORES
async def test_a_run_whose_successor_has_written_is_refused(store: str, tmp_path: Path) -> None:
    """Its lane was lost to another, as that of a process that was stopped for long: nothing of it is stored."""
    model = ScriptedModel()
    async with Runtime() as runtime, transcripts_in(store, tmp_path) as transcripts:
        session = TranscriptSession("c", transcripts)
        running = asyncio.create_task(ask(LaneRunner(runtime), model, "hold this", session, streaming=False))
        await model.entered["hold this"].wait()
        async with Runtime() as other:  # its lanes are its own, and their tokens are higher
            assert await ask(LaneRunner(other), model, "two", session, streaming=False) == reply_to("two", 1)
        model.go["hold this"].set()
        with pytest.raises(StaleTurn) as caught:
            await running
        assert caught.value.salvaged is not None
        assert [line.text for line in await lines_in(session)] == ["hold this", "two", reply_to("two", 1)]


async def test_a_monitor_ends_a_run_whose_transcript_is_edited(tmp_path: Path) -> None:
    """The rest of the model call is not paid for: nobody lets the model go on."""
    model = ScriptedModel()
    async with Runtime() as runtime, transcripts_in("files", tmp_path) as transcripts:
        session = TranscriptSession("c", transcripts)
        await ask(LaneRunner(runtime), model, "whales", session, streaming=False)
        async with TranscriptMonitor(transcripts, on_unowned_edit="cancel"):
            running = asyncio.create_task(ask(LaneRunner(runtime), model, "hold this", session, streaming=False))
            await model.entered["hold this"].wait()
            edit(file_of(tmp_path), "whales", "sharks")
            with pytest.raises(TranscriptTakeover) as caught:
                await running
            assert (caught.value.kind, caught.value.phase) == ("edited", "released")
        assert runtime.lanes.statistics().lanes == 0


async def test_a_run_in_a_turn_function_uses_the_transcript_that_is_open(tmp_path: Path) -> None:
    """Where its session is in the transcript of the turn, the turn's own fence is the one that holds."""
    model = ScriptedModel()
    async with Runtime(sessions="memory://", transcripts=tmp_path / "transcripts") as runtime:
        transcripts, runner = runtime.transcripts, LaneRunner(runtime)
        assert transcripts is not None

        @runtime.agent_turn(key="key")
        async def answer(key: str, text: str, *, turn: Turn) -> str:
            assert turn.session is not None
            session = TranscriptSession(turn.session.id, transcripts)
            await turn.transcript.append({"role": "system", "content": "a turn begins"})
            return await ask(runner, model, text, session, streaming=False)

        asked = [asyncio.create_task(answer("ada", text)) for text in ("one", "two")]
        async with asyncio.timeout(20):
            assert await asyncio.gather(*asked) == [reply_to("one", 0), reply_to("two", 1)]
        assert runtime.lanes.statistics().lanes == 0


# -- FencedSession

Foreign = Callable[[SQLiteSession], Awaitable[object]]


async def add_another(session: SQLiteSession) -> None:
    await session.add_items([{"role": "user", "content": "a foreign word"}])


async def change_the_last(session: SQLiteSession) -> None:
    await session.pop_item()
    await add_another(session)


FOREIGN: dict[str, Foreign] = {
    "appended": add_another,
    "edited": change_the_last,
    "truncated": lambda session: session.pop_item(),
    "emptied": lambda session: session.clear_session(),
}


@HOW
@pytest.mark.parametrize("how", FOREIGN)
async def test_a_foreign_write_during_a_run_is_a_takeover(how: str, streaming: bool, tmp_path: Path) -> None:
    """What others did stays as it is, the answer is in the salvage, and the next run begins with what is there."""
    model = ScriptedModel()
    with (
        closing(SQLiteSession("c", tmp_path / "s.db")) as stored,
        closing(SQLiteSession("c", tmp_path / "s.db")) as other,
    ):
        async with Runtime() as runtime, transcripts_in("files", tmp_path) as salvage:
            runner, session = LaneRunner(runtime), FencedSession(stored, salvage=salvage)
            await ask(runner, model, "one", session, streaming=streaming)
            running = asyncio.create_task(ask(runner, model, "hold this", session, streaming=streaming))
            await model.entered["hold this"].wait()
            await FOREIGN[how](other)
            left = await other.get_items()
            model.go["hold this"].set()
            with pytest.raises(TranscriptTakeover) as caught:
                await running
            assert caught.value.kind == ("truncated" if how == "emptied" else how)
            assert caught.value.salvaged is not None
            assert await other.get_items() == left
            assert reply_to("hold this", 1) in json.dumps(await salvage.read("c"))
            assert runtime.lanes.statistics().lanes == 0
            assert (await ask(runner, model, "three", session, streaming=streaming)).startswith("re three after ")


async def test_a_session_behind_a_fence_may_be_used_by_any_number_of_runs(tmp_path: Path) -> None:
    """What was written between two runs, by another worker or by a user, is no takeover."""
    model = ScriptedModel()
    with (
        closing(SQLiteSession("c", tmp_path / "s.db")) as stored,
        closing(SQLiteSession("c", tmp_path / "s.db")) as other,
    ):
        async with Runtime() as runtime, transcripts_in("files", tmp_path) as salvage:
            runner, session = LaneRunner(runtime), FencedSession(stored, salvage=salvage)
            for number in range(3):
                await ask(runner, model, f"m{number}", session, streaming=False)
                assert await session.get_items() == await stored.get_items()
                await add_another(other)
        assert session.session_id == "c"
        assert isinstance(session, Session)
        assert repr(session).startswith("<FencedSession <agents.")
        session.session_settings = SessionSettings(limit=1)
        assert len(await session.get_items()) == 1
        assert len(await session.get_items(2)) == 2
        assert session.db_path == tmp_path / "s.db"
        with pytest.raises(AttributeError, match="_insert_items"):
            _ = session._insert_items


@HOW
async def test_runs_that_one_turn_begins_at_once_are_not_foreign_to_each_other(streaming: bool, tmp_path: Path) -> None:
    """As of tools that are called at once, and ask agents of the session: each finds its moment to store."""
    async with Runtime() as runtime, transcripts_in("files", tmp_path) as salvage:
        for seed in range(20):
            model, runner, aware = ScriptedModel(seed=seed), LaneRunner(runtime), Aware(seed)
            session = FencedSession(aware, salvage=salvage)
            async with runtime.turn("c"):
                asked = [ask(runner, model, text, session, streaming=streaming) for text in ("one", "two", "three")]
                answers = await asyncio.gather(*asked)
            stored = [line.text for line in await lines_in(session)]
            assert sorted(stored) == sorted([*("one", "two", "three"), *answers]), seed
        assert not await salvage.read("c")


async def test_a_fence_lasts_to_the_end_of_the_last_run_of_its_turn(tmp_path: Path) -> None:
    """One that ends before does not take it away, and another turn begins with what is there."""
    model, aware = ScriptedModel(), Aware()
    async with Runtime() as runtime, transcripts_in("files", tmp_path) as salvage:
        runner, session = LaneRunner(runtime), FencedSession(aware, salvage=salvage)
        async with runtime.turn("c"):
            short = asyncio.create_task(ask(runner, model, "hold", session, streaming=False))
            await model.entered["hold"].wait()
            long = asyncio.create_task(ask(runner, model, "hold on", session, streaming=False))
            await model.entered["hold on"].wait()
            model.go["hold"].set()
            assert await short == reply_to("hold", 0)
            aware.items.append({"role": "user", "content": "a foreign word"})
            model.go["hold on"].set()
            with pytest.raises(TranscriptTakeover, match="3 items was proven"):
                await long
        assert await ask(runner, model, "three", session, streaming=False) == reply_to("three", 3)


async def test_outside_of_a_runner_a_fence_is_for_one_run(tmp_path: Path) -> None:
    """It begins with the first look, and a second look does not make what others wrote one's own."""
    with closing(SQLiteSession("c", tmp_path / "s.db")) as stored:
        async with transcripts_in("files", tmp_path) as salvage:
            session: Any = FencedSession(stored, salvage=salvage)
            await session.add_items([ITEMS[0]])
            assert await session.get_items() == [ITEMS[0]]
            await session.add_items([ITEMS[1]])
            assert await session.pop_item() == ITEMS[1]
            await add_another(stored)
            assert len(await session.get_items()) == 2
            for refused in (session.pop_item, session.clear_session):
                with pytest.raises(TranscriptTakeover) as caught:
                    await refused()
                assert (caught.value.phase, caught.value.salvaged) == ("rollback", None)
            assert len(await stored.get_items()) == 2


class Slow(SQLiteSession):
    """Stores, and takes its time to say so."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.stored, self.say_so = asyncio.Event(), asyncio.Event()
        self.fails = False

    async def add_items(self, items: Any) -> None:
        if self.fails:
            raise OSError("the disk is full")
        await super().add_items(items)
        self.stored.set()
        await self.say_so.wait()


async def test_a_write_whose_caller_is_cancelled_is_not_taken_for_a_foreign_one(tmp_path: Path) -> None:
    """It is brought to its end before the cancellation goes on; a write that failed is no foreign one either."""
    with closing(Slow("c", tmp_path / "s.db")) as stored:
        async with transcripts_in("files", tmp_path) as salvage:
            session: Any = FencedSession(stored, salvage=salvage)
            await session.get_items()
            adding = asyncio.create_task(session.add_items([ITEMS[0]]))
            await stored.stored.wait()
            for _ in range(2):
                adding.cancel()
                await asyncio.sleep(0)
            assert not adding.done()
            stored.say_so.set()
            with pytest.raises(asyncio.CancelledError):
                await adding
            stored.fails = True
            with pytest.raises(OSError, match="full"):
                await session.add_items([ITEMS[1]])
            stored.fails = False
            await session.add_items([ITEMS[2]])
            assert await session.get_items() == [ITEMS[0], ITEMS[2]]
            await session.clear_session()
            assert await session.get_items() == []


class Aware:
    """A session of somebody who wants to know the run, and who takes some time where there is a `seed`."""

    def __init__(self, seed: int | None = None) -> None:
        self.session_id: str = "c"
        self.session_settings: SessionSettings | None = None
        self.items: list[Any] = []
        self.given: list[object] = []
        self._chance = None if seed is None else random.Random(seed)

    async def _dawdle(self) -> None:
        for _ in range(0 if self._chance is None else self._chance.randrange(5)):
            await asyncio.sleep(0)

    async def get_items(self, limit: int | None = None, *, wrapper: object = None) -> list[Any]:
        self.given.append(wrapper)
        found = list(self.items)
        await self._dawdle()
        return found

    async def add_items(self, items: list[Any], *, wrapper: object = None) -> None:
        self.given.append(wrapper)
        await self._dawdle()
        self.items += items
        await self._dawdle()

    async def pop_item(self, *, wrapper: object = None) -> Any:
        self.given.append(wrapper)
        return self.items.pop()

    async def clear_session(self, *, wrapper: object = None) -> None:
        self.given.append(wrapper)
        self.items.clear()


async def test_a_fence_passes_the_context_of_a_run_on(tmp_path: Path) -> None:
    """To a session that takes it; where a caller has none, none is made up."""
    aware: Any = Aware()
    wrapper = object()
    session: Any = FencedSession(aware, salvage=transcripts_in("files", tmp_path))
    await session.get_items(wrapper=wrapper)
    await session.add_items([1, 2], wrapper=wrapper)
    await session.pop_item(wrapper=wrapper)
    await session.clear_session(wrapper=wrapper)
    assert set(aware.given) == {wrapper}
    await session.get_items()
    assert aware.given[-1] is None


async def test_what_a_fence_can_not_be_around_is_refused(tmp_path: Path) -> None:
    """A session that compacts itself writes past it; one of OpenAI's conversations is known by its class."""
    salvage = transcripts_in("files", tmp_path)
    with closing(SQLiteSession("c")) as stored:
        async with AsyncOpenAI(api_key="none", base_url="http://127.0.0.1:9") as client:
            conversation: Any = OpenAIConversationsSession(openai_client=client)
            with pytest.raises(ValueError, match="put the fence inside"):
                FencedSession(OpenAIResponsesCompactionSession("c", stored, client=client), salvage=salvage)
            with pytest.raises(ValueError, match="keeps its items at OpenAI"):
                FencedSession(conversation, salvage=salvage)
