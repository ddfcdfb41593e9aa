"""openai-agents: a fence that several event loops use, as tools do that run in threads, and what else a session has."""

import asyncio
import threading
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from agents import SQLiteSession, TResponseInputItem
from agents.extensions.memory import AdvancedSQLiteSession

from turnlane import Transcripts
from turnlane_integrations.openai_agents import FencedSession

PATIENCE = 20.0


def user(text: str) -> TResponseInputItem:
    return cast("TResponseInputItem", {"role": "user", "content": text})


class Held(SQLiteSession):
    """Stores the first items when it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__("c", path)
        self.begun, self.go = threading.Event(), threading.Event()

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        self.begun.set()
        await asyncio.to_thread(self.go.wait, PATIENCE)
        await super().add_items(items)


def test_two_event_loops_may_store_at_once(tmp_path: Path) -> None:
    """One waits for the other, and is woken; neither takes the other's words for a stranger's."""
    tried = threading.Event()

    async def first(session: FencedSession) -> None:
        await session.get_items()
        await session.add_items([user("one")])

    async def second(session: FencedSession) -> None:
        storing = asyncio.create_task(session.add_items([user("two")]))
        asyncio.get_running_loop().call_soon(tried.set)  # behind the first step of that task
        await storing

    def in_thread(work: Any) -> threading.Thread:
        thread = threading.Thread(target=lambda: asyncio.run(work), daemon=True)
        thread.start()
        return thread

    with closing(Held(tmp_path / "s.db")) as stored:
        session = FencedSession(stored, salvage=Transcripts(tmp_path / "salvage"))
        threads = [in_thread(first(session))]
        assert stored.begun.wait(PATIENCE)
        threads.append(in_thread(second(session)))
        assert tried.wait(PATIENCE)
        stored.go.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert asyncio.run(stored.get_items()) == [user("one"), user("two")]


async def test_what_else_a_session_can_tell_is_told(tmp_path: Path) -> None:
    """Of another branch than the one that runs go on with; keys that are no text are stored as text."""
    made = AdvancedSQLiteSession(session_id="c", db_path=tmp_path / "s.db", create_tables=True)
    with closing(made) as stored:
        session: Any = FencedSession(stored, salvage=Transcripts(tmp_path / "salvage"))
        assert await session.get_items() == []
        strange: Any = {"role": "user", "content": "one", 5: "five"}
        await session.add_items([strange])
        assert await session.get_items(branch_id="main") == [{"role": "user", "content": "one", "5": "five"}]
        assert await session.get_items(branch_id="other") == []
        await session.add_items([user("two")])
        assert len(await session.get_items()) == 2
