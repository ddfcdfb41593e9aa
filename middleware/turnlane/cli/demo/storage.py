"""Where the demo server keeps conversations, written as most agent servers write it.

One table says which session id a session key has; one JSONL file per session id holds the messages. Each
operation is right by itself. What goes wrong when two turns of one key overlap lies between them: both
find no row and mint, both read the history before either has stored its turn.
"""

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import cast

import anyio

from turnlane.cli.demo.model import Message

__all__ = ("ConversationStorage",)


class ConversationStorage:
    """A directory with `conversations.db` and `transcripts/<session id>.jsonl`.

    Not guaranteed: anything about two turns of one conversation at the same time.

    Args:
        directory: where to store; made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._database = directory / "conversations.db"
        self._transcripts = directory / "transcripts"
        self._transcripts.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS conversations (key TEXT PRIMARY KEY, session_id TEXT)")

    def __repr__(self) -> str:
        return f"<ConversationStorage {self.directory}>"

    async def session_id_of(self, key: str) -> str | None:
        """Return the session id stored for a key."""
        return await asyncio.to_thread(self._session_id_of, key)

    async def load(self, session_id: str) -> list[Message]:
        """Return the messages of a session, oldest first."""
        return await asyncio.to_thread(self._load, session_id)

    async def store_turn(self, key: str | None, session_id: str, user: str, assistant: str) -> None:
        """Append both messages of a turn and, with a key, say which session the key has from now on.

        What has begun is finished before a cancellation is reported, so that no turn writes after its end.
        """
        writing = asyncio.ensure_future(asyncio.to_thread(self._store_turn, key, session_id, user, assistant))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):  # a cancel scope cancels again and again
                await asyncio.wait({writing})
            raise

    def transcripts(self) -> Mapping[str, list[Message]]:
        """Return every transcript by session id. Blocks; for after the server has stopped."""
        return {path.stem: self._load(path.stem) for path in sorted(self._transcripts.glob("*.jsonl"))}

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._database, timeout=10)

    def _session_id_of(self, key: str) -> str | None:
        with closing(self._connect()) as database:
            row = database.execute("SELECT session_id FROM conversations WHERE key = ?", (key,)).fetchone()
        return None if row is None else cast(tuple[str], row)[0]

    def _load(self, session_id: str) -> list[Message]:
        path = self._transcripts / f"{session_id}.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        return [cast(Message, json.loads(line)) for line in lines]

    def _store_turn(self, key: str | None, session_id: str, user: str, assistant: str) -> None:
        messages: list[Message] = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        # ASCII only: str.splitlines would also split at U+2028 inside a message.
        lines = "".join(json.dumps(message) + "\n" for message in messages)
        with (self._transcripts / f"{session_id}.jsonl").open("a", encoding="utf-8") as file:
            file.write(lines)
        if key is not None:
            with closing(self._connect()) as database, database:
                database.execute("INSERT OR REPLACE INTO conversations VALUES (?, ?)", (key, session_id))
