"""agno: what others write into a session during a run is found, and nothing is lost."""

import asyncio
import json
from pathlib import Path
from typing import Any, Self

import pytest
from agno.agent import Agent
from agno.db.base import AsyncBaseDb, BaseDb
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


def test_the_database_that_is_relied_on_is_there() -> None:
    """What the fence uses of agno's databases; this fails first when a new version has changed it."""
    where = "look at integrations/turnlane_integrations/agno/fence.py"
    for kind in (BaseDb, AsyncBaseDb):
        for name, first in (("get_session", "session_id"), ("upsert_session", "session"), ("upsert_run", "run")):
            found = [*kind.__dict__[name].__annotations__]
            assert found[0] == first, f"{kind.__name__}.{name} takes {found[0]} first: {where}"
