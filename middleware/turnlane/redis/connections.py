"""The connections of one event loop. Together with `routes` the only place that knows the driver."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from inspect import signature
from types import MappingProxyType
from typing import Any, Protocol, cast

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from turnlane.redis.commands import Attempt, Command, Host, Lost, Part
from turnlane.redis.reasons import Refused
from turnlane.redis.routes import route_to
from turnlane.redis.urls import Address

__all__ = ("Connections", "Wire")

MOST_HOPS = 5
# Telling the server the version of the driver would read files in the event loop, for each connection.
HAS_DRIVER_INFO = "driver_info" in signature(cast("Any", AbstractConnection)).parameters
UNNAMED: Mapping[str, Any] = MappingProxyType(
    {"driver_info": None} if HAS_DRIVER_INFO else {"lib_name": None, "lib_version": None}
)
# Some answers are raised as errors of connections.
ANSWERS = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
# The driver cuts the code off the messages of errors it knows. The first class that fits counts.
CODES: tuple[tuple[type[RedisError], str], ...] = (
    (MovedError, "MOVED"),
    (AskError, "ASK"),
    (BusyLoadingError, "LOADING"),
    (ReadOnlyError, "READONLY"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (TryAgainError, "TRYAGAIN"),
    (OutOfMemoryError, "OOM"),
    (NoPermissionError, "NOPERM"),
    (AuthenticationError, "WRONGPASS"),
    (AuthorizationError, "NOPERM"),
)


class Wire(Protocol):
    """What is used of a connection of the driver."""

    async def connect(self) -> None:
        """Connect and shake hands."""
        ...

    async def disconnect(self, nowait: bool = False) -> None:
        """Close the socket."""
        ...

    async def send_command(self, *args: Any) -> None:
        """Send one command."""
        ...

    async def read_response(self) -> Any:
        """Return the next answer, or raise it."""
        ...


class Connections:
    """Connections that are kept and used again, at most `most` at a time, of one event loop.

    The driver's own repetitions are off: they do a command twice whose first answer was lost.

    Mutable: `_idle`, connections by server that nobody uses, none once `_closed`; `_busy`, how many are in use;
    `_drained`, set while that is 0.
    """

    def __init__(self, address: Address, *, most: int, connect_timeout: float) -> None:
        self._address = address
        self._connect_timeout = connect_timeout
        self._route = route_to(address, self._ask_sentinel)
        self._slots = asyncio.Semaphore(most)
        self._idle: dict[Host, list[Wire]] = {}
        self._busy = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._closed = False

    async def aclose(self) -> None:
        """Close what nobody uses, wait for the rest, which is closed after its use."""
        self._closed = True
        await self._close_idle(list(self._idle))
        await self._drained.wait()

    async def perform(self, command: Command, attempt: Attempt) -> object:
        """Send a command where its key lives and return the answer; follow redirections.

        Raises:
            Refused: the server answered with an error, or did when the connection was made.
            Lost: no answer came.
        """
        try:
            async with self._slots:
                return await self._followed(command, attempt)
        except ANSWERS as error:
            raise _refused(error) from error
        except TimeoutError:
            raise  # of whoever bounds the attempt
        except (RedisError, OSError) as error:
            raise Lost(str(error) or type(error).__name__) from error

    @asynccontextmanager
    async def dedicated(self, key: bytes) -> AsyncGenerator[Wire, None]:
        """Give a connection of one's own to the server that has `key`, for subscriptions; it is closed after use."""
        wire = await self._connected(await self._route.host_of(key))
        try:
            yield wire
        finally:
            await wire.disconnect(nowait=True)

    async def lost(self, host: Host) -> None:
        """Take note that a server is not there, or is not what it was.

        Its other connections are most likely dead too, and who finds that out by sending does not know what became
        of what was sent.
        """
        self._route.lost(host)
        await self._close_idle([host])

    async def _followed(self, command: Command, attempt: Attempt) -> object:
        host = await self._route.host_of(command.key)
        asking = False
        for _ in range(MOST_HOPS):
            attempt.host = host
            try:
                return await self._at(host, command, attempt, asking=asking)
            except ResponseError as error:
                refused = _refused(error)
                if refused.code not in ("ASK", "MOVED"):
                    raise
                _, slot, place = refused.answer.split(" ")
                name, _, port = place.rpartition(":")
                host = (name or host[0], int(port))  # a node that does not know its own name leaves it out
                asking = refused.code == "ASK"
                if not asking:
                    self._route.moved(int(slot), host)
        raise Refused("MOVED", "MOVED: the nodes of the cluster send each other round in a circle")

    async def _at(self, host: Host, command: Command, attempt: Attempt, *, asking: bool) -> object:
        try:
            wire = await self._taken(host)
        except Exception:
            await self.lost(host)
            raise
        try:
            answer = await self._answer(wire, command, attempt, asking=asking)
        except ResponseError as error:
            await self._put_back(host, wire)
            if isinstance(error, ReadOnlyError):  # a master that is one no more
                await self.lost(host)
            raise
        except BaseException as error:
            self._returned()
            await wire.disconnect(nowait=True)
            if isinstance(error, Exception):
                await self.lost(host)
            raise
        await self._put_back(host, wire)
        return answer

    async def _answer(self, wire: Wire, command: Command, attempt: Attempt, *, asking: bool) -> object:
        try:
            return await self._exchange(wire, command.parts, attempt, asking=asking)
        except NoScriptError:
            if not command.otherwise:
                raise
            # A server that does not know a script has done nothing.
            return await self._exchange(wire, command.otherwise, attempt, asking=asking)

    async def _exchange(self, wire: Wire, parts: tuple[Part, ...], attempt: Attempt, *, asking: bool) -> object:
        if asking:
            await wire.send_command("ASKING")
            await wire.read_response()
        attempt.unanswered += 1
        try:
            await wire.send_command(*parts)
            answer: object = await wire.read_response()
        except ANSWERS:
            attempt.unanswered -= 1
            raise
        attempt.unanswered -= 1
        return answer

    async def _taken(self, host: Host) -> Wire:
        self._busy += 1
        self._drained.clear()
        try:
            idle = self._idle.get(host)
            return idle.pop() if idle else await self._connected(host)
        except BaseException:
            self._returned()
            raise

    async def _put_back(self, host: Host, wire: Wire) -> None:
        self._returned()
        if self._closed:
            await wire.disconnect(nowait=True)
        else:
            self._idle.setdefault(host, []).append(wire)

    def _returned(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._drained.set()

    async def _close_idle(self, hosts: list[Host]) -> None:
        for wire in [wire for host in hosts for wire in self._idle.pop(host, [])]:
            await wire.disconnect(nowait=True)

    async def _connected(self, host: Host) -> Wire:
        address = self._address
        wire = await self._connect(host, db=address.database, username=address.username, password=address.password)
        try:
            # Whoever takes connections in the name of a server that is not there is found out before anything is sent.
            await wire.send_command("PING")
            await wire.read_response()
        except BaseException:
            await wire.disconnect(nowait=True)
            raise
        return wire

    async def _ask_sentinel(self, host: Host, parts: tuple[str, ...]) -> object:
        wire = await self._connect(host)
        try:
            await wire.send_command(*parts)
            return await wire.read_response()
        finally:
            await wire.disconnect(nowait=True)

    async def _connect(self, host: Host, **options: Any) -> Wire:
        if self._address.tls:
            options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **dict(self._address.options)}
        connection = (SSLConnection if self._address.tls else Connection)(
            host=host[0],
            port=host[1],
            retry=Retry(NoBackoff(), 0),
            # Each attempt is bounded as a whole by who makes it.
            socket_timeout=None,
            socket_connect_timeout=self._connect_timeout,
            socket_keepalive=True,
            protocol=2,
            **UNNAMED,
            **options,
        )
        wire = cast("Wire", connection)
        try:
            await wire.connect()
        except BaseException:
            await wire.disconnect(nowait=True)
            raise
        return wire


def _refused(error: RedisError) -> Refused:
    text = str(error)
    code = next((code for kind, code in CODES if isinstance(error, kind)), text.partition(" ")[0].rstrip(":"))
    return Refused(code, text if text.startswith(code) else f"{code} {text}")
