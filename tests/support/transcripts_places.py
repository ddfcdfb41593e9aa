"""The places the conformance suite runs on, and the hand of somebody else there."""

import asyncio
import base64
import json
import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from support.postgresql import PostgresqlDatabase
from turnlane.postgresql import Database, address_in, stored
from turnlane.sqlite import connect
from turnlane.testing.transcript_store_suite import TranscriptPlace
from turnlane.transcripts import (
    JsonlTranscriptStore,
    PostgresqlTranscriptStore,
    SqliteTranscriptStore,
    TranscriptStore,
)
from turnlane.transcripts.names import stem_of
from turnlane.transcripts.sqlite_tables import SCHEMA

__all__ = ("JsonlPlace", "PostgresqlPlace", "SqlitePlace")


class JsonlPlace(TranscriptPlace):
    """A directory; somebody edits its files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def make_store(self) -> TranscriptStore:
        return JsonlTranscriptStore(self.directory)

    def append(self, session_id: str, line: bytes) -> None:
        self.directory.mkdir(exist_ok=True)
        with self._path(session_id).open("ab") as file:
            file.write(line + b"\n")

    def edit(self, session_id: str, number: int, line: bytes) -> None:
        lines = self._path(session_id).read_bytes().splitlines(keepends=True)
        lines[number] = line + b"\n"
        with self._path(session_id).open("r+b") as file:
            file.write(b"".join(lines))
            file.truncate()

    def truncate(self, session_id: str, count: int) -> None:
        lines = self._path(session_id).read_bytes().splitlines(keepends=True)
        os.truncate(self._path(session_id), sum(map(len, lines[:count])))

    def delete(self, session_id: str) -> None:
        self._path(session_id).unlink()

    def salvaged(self, session_id: str) -> list[bytes]:
        path = self.directory / f"{stem_of(session_id)}.salvage.jsonl"
        lines: list[bytes] = []
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            document = json.loads(text)
            found = document.get("entries", ())
            lines += [json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() for entry in found]
            lines += map(base64.b64decode, document.get("bytes", ()))
        return lines

    def _path(self, session_id: str) -> Path:
        return self.directory / f"{stem_of(session_id)}.jsonl"


class SqlitePlace(TranscriptPlace):
    """A database; somebody has another connection to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make_store(self) -> TranscriptStore:
        return SqliteTranscriptStore(self.path)

    @contextmanager
    def connection(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection of a stranger, who commits each statement."""
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=10)) as connection:
            yield connection

    def append(self, session_id: str, line: bytes) -> None:
        self._make_tables()
        with self.connection() as connection:
            connection.execute(
                "INSERT INTO entry (session_id, seq, line) VALUES (:id, "
                "(SELECT coalesce(max(seq), 0) + 1 FROM entry WHERE session_id = :id), :line)",
                {"id": session_id, "line": line.decode()},
            )

    def edit(self, session_id: str, number: int, line: bytes) -> None:
        with self.connection() as connection:
            connection.execute(
                "UPDATE entry SET line = ? WHERE session_id = ? AND seq = ?", (line.decode(), session_id, number + 1)
            )

    def truncate(self, session_id: str, count: int) -> None:
        with self.connection() as connection:
            connection.execute("DELETE FROM entry WHERE session_id = ? AND seq > ?", (session_id, count))

    def delete(self, session_id: str) -> None:
        self.truncate(session_id, 0)

    def salvaged(self, session_id: str) -> list[bytes]:
        self._make_tables()
        key = session_id.encode("utf-8", "surrogatepass")
        with self.connection() as connection:
            rows = connection.execute(
                "SELECT CAST(line AS BLOB) FROM salvage WHERE CAST(session_id AS BLOB) = ? ORDER BY number", (key,)
            ).fetchall()
        return [line for (line,) in rows]

    def _make_tables(self) -> None:
        """Make the file as the store does, which somebody who appends to it has found there."""
        if not self.path.exists():
            connect(str(self.path), SCHEMA, read_only=False, durability="NORMAL").close()


class PostgresqlPlace(TranscriptPlace):
    """A schema; somebody has another connection to the database."""

    def __init__(self, database: PostgresqlDatabase, url: str) -> None:
        self.database = database
        self.url = url
        self.schema = address_in(self.url).schema

    def make_store(self) -> TranscriptStore:
        return PostgresqlTranscriptStore(self.url)

    def append(self, session_id: str, line: bytes) -> None:
        self.make_tables()
        self.database.execute(
            f"INSERT INTO {self.schema}.entry (session_id, seq, line) VALUES ($1, "
            f"(SELECT coalesce(max(seq), 0) + 1 FROM {self.schema}.entry WHERE session_id = $1), $2)",
            stored(session_id),
            line.decode(),
        )

    def edit(self, session_id: str, number: int, line: bytes) -> None:
        self.database.execute(
            f"UPDATE {self.schema}.entry SET line = $3 WHERE session_id = $1 AND seq = $2",
            stored(session_id),
            number + 1,
            line.decode(),
        )

    def truncate(self, session_id: str, count: int) -> None:
        self.database.execute(
            f"DELETE FROM {self.schema}.entry WHERE session_id = $1 AND seq > $2", stored(session_id), count
        )

    def delete(self, session_id: str) -> None:
        self.truncate(session_id, 0)

    def salvaged(self, session_id: str) -> list[bytes]:
        self.make_tables()
        rows = self.database.rows(
            f"SELECT line FROM {self.schema}.salvage WHERE session_id = $1 ORDER BY number", stored(session_id)
        )
        return [str(row[0]).encode() for row in rows]

    def make_tables(self) -> None:
        """Make the schema as the store does, which somebody who appends to it has found there."""

        async def make() -> None:
            database = Database(self.url)
            await database.open()
            await database.aclose()

        if not self.database.rows("SELECT 1 FROM pg_namespace WHERE nspname = $1", self.schema):
            thread = threading.Thread(target=lambda: asyncio.run(make()))
            thread.start()
            thread.join()
