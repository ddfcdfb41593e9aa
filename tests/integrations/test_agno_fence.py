"""agno: what others write into a session during a run is found, and nothing is lost."""

import asyncio
import json
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import pytest
from agno.agent import Agent
from agno.db.base import AsyncBaseDb, BaseDb
from agno.db.in_memory import InMemoryDb
from agno.db.schemas import UserMemory
from agno.db.sqlite import AsyncSqliteDb, SqliteDb
from agno.run.agent import RunOutput
from agno.session import AgentSession

from integrations.test_agno import InThreads
from support.rigs.agno import Scripted, agent_of, lines_of
from support.rigs.contract import Line, ScriptedModel, reply_to
from turnlane import Runtime, Transcripts
from turnlane.errors import TranscriptTakeover
from turnlane_integrations.agno import LaneRunner, fenced_db

KINDS = pytest.mark.parametrize("kind", [SqliteDb, AsyncSqliteDb])


class Place:
    """A database file, agents with databases of their own on it, and a salvage.

    Mutable: `_opened`, what is to be closed.
    """

    def __init__(self, kind: Any, directory: Path) -> None:
        self.kind = kind
        self._opened: list[Any] = []
        self.file = f"{directory}/agno.db"
        self.script = ScriptedModel()
        self.salvage = Transcripts(directory / "salvage")
        self.agent = agent_of(Scripted(script=self.script), fenced_db(self.db(), salvage=self.salvage))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for db in self._opened:
            closing = db.close()
            if closing is not None:
                await closing

    def db(self, kind: Any = None) -> Any:
        self._opened.append((kind or self.kind)(db_file=self.file))
        return self._opened[-1]

    def lines(self) -> list[Line]:
        return lines_of(agent_of(Scripted(), self.db(SqliteDb)), "c")

    async def append(self) -> None:
        """Somebody else has a run."""
        await agent_of(Scripted(), self.db()).arun("foreign", session_id="c")

    async def change(self) -> None:
        """Somebody else changes the state."""
        db = self.db(SqliteDb)
        session = db.get_session("c", session_type=None, user_id=None)
        assert isinstance(session, AgentSession)
        session.session_data = {**(session.session_data or {}), "session_state": {"by": "others"}}
        db.upsert_session(session)

    async def delete(self) -> None:
        """Somebody else deletes it."""
        assert self.db(SqliteDb).delete_session("c")


async def held(place: Place, runner: LaneRunner, *, streaming: bool) -> "asyncio.Task[Any]":
    """Begin a run whose model is being asked."""

    async def run() -> Any:
        if not streaming:
            return await runner.arun(place.agent, "hold this", session_id="c")
        return [event async for event in runner.arun(place.agent, "hold this", session_id="c", stream=True)]

    task = asyncio.create_task(run())
    await place.script.entered["hold this"].wait()
    return task


@KINDS
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("how", "told"), [("append", "appended"), ("change", "edited"), ("delete", "deleted")])
async def test_what_others_have_written_is_not_written_over(
    kind: Any, streaming: bool, how: str, told: str, tmp_path: Path
) -> None:
    """The run ends with a takeover, its words are kept, the session is as the others left it, and the lane is free."""
    place = Place(kind, tmp_path)
    async with Runtime() as runtime, place, place.salvage:
        runner = LaneRunner(runtime)
        await runner.arun(place.agent, "one", session_id="c")
        run = await held(place, runner, streaming=streaming)
        await getattr(place, how)()
        theirs = place.lines()
        place.script.go["hold this"].set()
        with pytest.raises(TranscriptTakeover) as caught:
            await run
        assert (caught.value.kind, place.lines()) == (told, theirs)
        assert caught.value.salvaged is not None
        kept = await place.salvage.read("c")
        assert any("run" in entry and reply_to("hold this", 1) in json.dumps(entry["run"]) for entry in kept)
        result = await runner.arun(place.agent, "three", session_id="c")
        assert str(result.content).startswith("re three after ")
        assert runtime.lanes.statistics().running == 0


@KINDS
async def test_what_this_turn_has_written_is_no_foreign_write(kind: Any, tmp_path: Path) -> None:
    """Runs one after the other, and one in another one's tool, whose session is the same."""
    place = Place(kind, tmp_path)
    async with Runtime() as runtime, place, place.salvage:
        runner = LaneRunner(runtime)
        inner = agent_of(Scripted(script=place.script), place.agent.db)

        async def ask(run_input: Any, **others: Any) -> None:
            if run_input.input_content == "outer":
                await runner.arun(inner, "inner", session_id="c")

        place.agent.pre_hooks = [ask]
        for text in ("one", "outer", "three"):
            result = await runner.arun(place.agent, text, session_id="c")
            assert isinstance(result, RunOutput)
        # agno orders runs of one second as it likes.
        assert {line.text for line in place.lines() if line.role == "user"} == {"one", "inner", "outer", "three"}
        assert await place.salvage.read("c") == ()


@KINDS
@pytest.mark.parametrize("through", ["the runner", "agno"])
async def test_a_run_within_a_run_may_have_a_database_of_its_own(kind: Any, through: str, tmp_path: Path) -> None:
    """The session has the same id in both; what is in one of them tells nothing of the other."""
    (tmp_path / "other").mkdir()
    place, other = Place(kind, tmp_path), Place(kind, tmp_path / "other")
    async with Runtime() as runtime, place, other, place.salvage, other.salvage:
        runner = LaneRunner(runtime)

        async def ask(**_: Any) -> None:
            if through == "agno":
                await other.agent.arun("inner", session_id="c")
            else:
                await runner.arun(other.agent, "inner", session_id="c")

        place.agent.pre_hooks = [ask]
        for text in ("one", "two"):
            await runner.arun(place.agent, text, session_id="c")
        assert [line.text for line in place.lines() if line.role == "user"] == ["one", "two"]
        assert [line.text for line in other.lines() if line.role == "user"] == ["inner", "inner"]
        assert (*await place.salvage.read("c"), *await other.salvage.read("c")) == ()


async def test_what_a_turn_stores_side_by_side_is_no_foreign_write(tmp_path: Path) -> None:
    """As the steps of a `Parallel` whose agents have the database of the workflow; looks come between others."""

    class Slow(AsyncSqliteDb):
        """Whose every reading lets others go on until they have done what they can."""

        async def get_session(self, *args: Any, **kwargs: Any) -> Any:
            found = await super().get_session(*args, **kwargs)
            for _ in range(next(delays)):
                await asyncio.sleep(0)
            return found

    delays = cycle((0, 300, 0, 0, 100))
    place = Place(Slow, tmp_path)
    async with Runtime() as runtime, place, place.salvage:
        runner = LaneRunner(runtime)
        inner = [agent_of(Scripted(script=place.script), place.agent.db) for _ in range(2)]

        async def ask(run_input: Any, **_: Any) -> None:
            each = (agent.arun(f"inner {n}", session_id="c") for n, agent in enumerate(inner))
            await asyncio.gather(*each)

        await runner.arun(place.agent, "one", session_id="c")
        place.agent.pre_hooks = [ask]
        await runner.arun(place.agent, "two", session_id="c")
        said = {line.text for line in place.lines() if line.role == "user"}
        assert said == {"one", "inner 0", "inner 1", "two"}
        assert await place.salvage.read("c") == ()


async def test_a_store_that_is_cut_off_is_no_foreign_write(tmp_path: Path) -> None:
    """What has been stored when the run is cancelled is the turn's own, for what agno stores after that."""

    class Cut(AsyncSqliteDb):
        """Whose runs are stored when those who store them do not know it yet."""

        async def upsert_run(self, run: Any, session_id: str, *args: Any, **options: Any) -> None:
            await super().upsert_run(run, session_id, *args, **options)
            stored.set()
            await asyncio.sleep(0)

    stored = asyncio.Event()
    place = Place(Cut, tmp_path)
    async with Runtime() as runtime, place, place.salvage:
        runner = LaneRunner(runtime)
        await runner.arun(place.agent, "one", session_id="c")
        stored.clear()
        run = asyncio.create_task(runner.arun(place.agent, "two", session_id="c"))
        await stored.wait()
        run.cancel()
        await asyncio.wait([run])
        assert await place.salvage.read("c") == ()
        await runner.arun(place.agent, "three", session_id="c")
        assert [line.text for line in place.lines() if line.role == "user"][-1] == "three"


async def test_runs_in_threads_are_fenced_too(tmp_path: Path) -> None:
    """Their words are kept, though no database of theirs can wait for that."""
    place = Place(SqliteDb, tmp_path)
    agent: Any = agent_of(InThreads(script=place.script), place.agent.db)

    def interfere(**_: Any) -> None:
        other: Any = agent_of(InThreads(), place.db())
        other.run("foreign", session_id="c")

    async with Runtime() as runtime, place, place.salvage:
        runner = LaneRunner(runtime)
        await asyncio.to_thread(runner.run, agent, "one", session_id="c")
        agent.post_hooks = [interfere]
        with pytest.raises(TranscriptTakeover, match="appended"):
            await asyncio.to_thread(runner.run, agent, "two", session_id="c")
        assert [line.text for line in place.lines() if line.role == "user"] == ["one", "foreign"]
        assert "re two" in json.dumps(await place.salvage.read("c"))


async def test_who_leaves_after_a_foreign_write_leaves_the_words(tmp_path: Path) -> None:
    """A run that is cancelled is stored by agno, and so refused."""
    place = Place(SqliteDb, tmp_path)
    async with Runtime() as runtime, place, place.salvage:
        runner = LaneRunner(runtime)
        await runner.arun(place.agent, "one", session_id="c")
        run = await held(place, runner, streaming=False)
        await place.append()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert [line.text for line in place.lines() if line.role == "user"] == ["one", "foreign"]
        assert "hold this" in json.dumps(await place.salvage.read("c"))


async def test_a_fenced_database_is_one_like_the_other(tmp_path: Path) -> None:
    """It is of its class, has what that has, and outside of a runner it refuses nothing."""
    place = Place(SqliteDb, tmp_path)
    db = place.agent.db
    assert isinstance(db, SqliteDb)
    assert (type(db).__name__, type(db).__module__) == ("SqliteDb", SqliteDb.__module__)
    assert isinstance(Agent(db=db).db, BaseDb)
    async with place:
        await place.agent.arun("one", session_id="c")
        assert len(place.lines()) == 2


def test_a_fenced_database_is_on_the_same_storage(tmp_path: Path) -> None:
    """Also in memory, where agno puts other lists in the place of what it has stored."""
    db: Any = InMemoryDb()  # type: ignore[no-untyped-call]
    fenced = fenced_db(db, salvage=Transcripts(tmp_path))
    for name in ("one", "two"):
        db.upsert_user_memory(UserMemory(memory=name, memory_id=name, user_id="ada"))
    db.delete_user_memory("one")
    fenced.upsert_user_memory(UserMemory(memory="three", memory_id="three", user_id="ada"))
    for each in (db, fenced):
        assert [memory.memory for memory in each.get_user_memories(user_id="ada")] == ["two", "three"]


def test_the_database_that_is_relied_on_is_there() -> None:
    """What the fence uses of agno's databases; this fails first when a new version has changed it."""
    where = "look at integrations/turnlane_integrations/agno/fence.py"
    for kind in (BaseDb, AsyncBaseDb):
        for name, first in (("get_session", "session_id"), ("upsert_session", "session"), ("upsert_run", "run")):
            found = [*kind.__dict__[name].__annotations__]
            assert found[0] == first, f"{kind.__name__}.{name} takes {found[0]} first: {where}"
