"""One transaction, as jobs see it."""

from collections.abc import Sequence
from typing import Any

from turnlane.postgresql.driver import Connection, driving

__all__ = ("PLACEHOLDER", "Row", "Transaction", "begin_of", "quoted")

Row = Sequence[Any]
"""One row: its columns in order."""

PLACEHOLDER = "{schema}"


class Transaction:
    """Runs statements; `{schema}` in them is the schema of the database. It ends with the job it was given to."""

    __slots__ = ("_connection", "_schema")

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        self._schema = quoted(schema)

    @property
    def server_version(self) -> int:
        """The major version of the server."""
        return self._connection.get_server_version()[0]

    @property
    def server_pid(self) -> int:
        """The process of the server, as whoever answered the connection has said."""
        return self._connection.get_server_pid()

    async def rows(self, statement: str, *values: object) -> Sequence[Row]:
        """Return all rows of a statement."""
        with driving():
            return await self._connection.fetch(self._of(statement), *values)

    async def row(self, statement: str, *values: object) -> Row | None:
        """Return the first row of a statement."""
        found = await self.rows(statement, *values)
        return found[0] if found else None

    async def execute(self, statement: str, *values: object) -> int:
        """Run a statement and return how many rows it has touched; without values, several are run."""
        with driving():
            status = await self._connection.execute(self._of(statement), *values)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    def _of(self, statement: str) -> str:
        return statement.replace(PLACEHOLDER, self._schema)


def quoted(name: str) -> str:
    """Return an identifier as statements have it."""
    return '"{}"'.format(name.replace('"', '""'))


def begin_of(*, write: bool, timeout: float, durable: bool | None = None) -> str:
    """Return the statements a transaction begins with, one message: nothing in it may wait for ever.

    Args:
        write: see each commit of others, and write; else see one state of the database, and read.
        timeout: seconds of the whole.
        durable: whether a commit is on the disk when it is told; None for what the server is set to.
    """
    milliseconds = max(1, round(timeout * 1000))
    statements = [
        f"BEGIN ISOLATION LEVEL {'READ COMMITTED READ WRITE' if write else 'REPEATABLE READ READ ONLY'}",
        f"SET LOCAL statement_timeout = {milliseconds}",
        # Sooner than the rest, so that it is told what was waited for.
        f"SET LOCAL lock_timeout = {max(1, milliseconds * 3 // 4)}",
        # Whoever stands still in here lets its locks go.
        f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}",
    ]
    if durable is False:
        statements.append("SET LOCAL synchronous_commit = off")
    if durable is True:  # what waits for standbys too stays
        statements.append(
            "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
        )
    return "; ".join(statements)
