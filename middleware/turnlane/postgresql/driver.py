"""The one place that imports asyncpg, and what of it is used. It has no types of its own."""

import importlib
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol, cast

from turnlane.errors import NotConfigured
from turnlane.postgresql.hosts import first_of, first_patience, hosts_of
from turnlane.postgresql.reasons import Failed, Refused, reason_of

__all__ = ("Connection", "Listening", "Pool", "driving", "listening_to", "load_driver", "pool_of", "require_driver")

IDLE_FOR = 60.0
KEPT_STATEMENTS = 100


class Connection(Protocol):
    """A connection of the driver."""

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement, or several if there are no arguments; return what the server says of the last."""
        ...

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """Return rows."""
        ...

    def terminate(self) -> None:
        """Close the socket at once."""
        ...

    def get_server_version(self) -> tuple[int, ...]:
        """Return the version, its major number first."""
        ...

    def get_server_pid(self) -> int:
        """Return the process that serves it, as whoever answered has said."""
        ...


class Listening(Connection, Protocol):
    """A connection that hears what is notified."""

    async def add_listener(self, channel: str, callback: Callable[[object, int, str, str], None]) -> None:
        """Have something called with what is notified on a channel."""
        ...

    def add_termination_listener(self, callback: Callable[[object], None]) -> None:
        """Have something called when it is closed."""
        ...

    async def close(self, *, timeout: float) -> None:
        """Close it."""
        ...


class Pool(Protocol):
    """A pool of the driver; it belongs to an event loop."""

    async def acquire(self) -> Connection:
        """Wait for a connection."""
        ...

    async def release(self, connection: Connection, *, timeout: float) -> None:
        """Give one back."""
        ...

    async def expire_connections(self) -> None:
        """Have those that are there replaced when they are used next."""
        ...

    async def close(self) -> None:
        """Wait for all connections and close them."""
        ...

    def terminate(self) -> None:
        """Close all sockets at once."""
        ...


def _asyncpg() -> Any:
    """Import the driver.

    Raises:
        Refused: it is not installed.
    """
    try:
        return importlib.import_module("asyncpg")
    except ImportError:
        raise Refused('PostgreSQL needs the package asyncpg: pip install "turnlane[postgresql]"') from None


def require_driver(where: str) -> None:
    """Import the driver where a database is named, which is mostly before there is an event loop to hold up.

    Raises:
        NotConfigured: it is not installed.
    """
    try:
        _asyncpg()
    except Refused:
        raise NotConfigured(
            f"{where} needs the package asyncpg; add it with: pip install 'turnlane[postgresql]'"
        ) from None


def load_driver() -> None:
    """Import the driver, which reads files.

    Raises:
        Refused: it is not installed.
    """
    _asyncpg()


async def pool_of(dsn: str, *, size: int, timeout: float, direct: bool = False) -> Pool:
    """Return a pool in the running event loop that connects when it has to.

    Statements are not kept prepared and a connection that is given back is not reset, so a proxy may give each
    transaction another one: everything has to be done in a transaction that begins and ends with statements.

    Args:
        dsn: where to connect to.
        size: most connections.
        timeout: seconds that connecting may take.
        direct: whether there is no such proxy, and each statement is a transaction. They are kept prepared then, and
            the server stops them, and its waiting for locks, before `timeout`.
    """
    asyncpg = _asyncpg()

    class BareConnection(asyncpg.Connection):  # type: ignore[misc, name-defined]
        __slots__ = ()

        def get_reset_query(self) -> str:
            return ""

    settings = {} if "application_name=" in dsn else {"application_name": "turnlane"}
    if direct:
        bound = str(max(1, round(first_patience(dsn, timeout) * 750)))  # milliseconds
        settings |= {"default_transaction_isolation": "read committed", "default_transaction_read_only": "off"}
        settings |= {"statement_timeout": bound, "lock_timeout": bound}
    pool = asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=IDLE_FOR,
        timeout=timeout,
        statement_cache_size=KEPT_STATEMENTS if direct else 0,
        max_cached_statement_lifetime=0,
        connection_class=BareConnection,
        server_settings=settings or None,
        connect=_connecting_to(dsn),
    )
    return cast("Pool", await pool)


async def listening_to(dsn: str, *, timeout: float) -> Listening:
    """Return a connection of its own, outside of any pool.

    Args:
        dsn: where to connect to.
        timeout: seconds that connecting may take, and each statement.
    """
    settings = None if "application_name=" in dsn else {"application_name": "turnlane listens"}
    with driving():
        connection = await _connecting_to(dsn)(
            dsn, timeout=timeout, command_timeout=timeout, statement_cache_size=0, server_settings=settings
        )
    return cast("Listening", connection)


def _connecting_to(dsn: str) -> Callable[..., Awaitable[Any]]:
    """Return what connects to the one host of a URL, or to that of several which takes writes.

    The driver tries one after the other, and gives the first all the time there is.
    """
    connect = _asyncpg().connect
    places = list(hosts_of(dsn))
    if len(places) == 1:
        return cast("Callable[..., Awaitable[Any]]", connect)
    wanted = {} if "target_session_attrs=" in dsn else {"target_session_attrs": "read-write"}

    async def to_one_of(_: str, **options: Any) -> Any:
        def to(place: str) -> Awaitable[Any]:
            return cast("Awaitable[Any]", connect(place, **wanted, **options))

        place, connection = await first_of(places, to, discard=lambda connection: connection.terminate())
        places.remove(place)
        places.insert(0, place)  # the others are not asked first for nothing
        return connection

    return to_one_of


@contextmanager
def driving() -> Generator[None, None, None]:
    """Turn whatever the driver raises into `Failed`. Nothing but calls of the driver belongs inside."""
    try:
        yield
    except Exception as error:
        state = getattr(error, "sqlstate", None)
        if isinstance(state, str):
            # Without the details, which may hold what is in a row.
            reason = reason_of(state, str(error.args[0]) if error.args else type(error).__name__)
            raise Failed(reason, state=state) from error
        if isinstance(error, TimeoutError):
            raise Failed("there was no answer in time", state=None) from error
        if isinstance(error, OSError):
            raise Failed(f"the server can not be reached ({error.strerror or error})", state=None) from error
        raise Failed(f"the connection failed ({type(error).__name__}: {error})", state=None) from error
