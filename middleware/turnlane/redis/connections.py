"""The connections of one event loop. Together with `routes` the only place that knows the driver."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from inspect import signature
from ssl import SSLCertVerificationError
from types import MappingProxyType
from typing import Any, cast

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
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

from turnlane.begun import in_task
from turnlane.redis.commands import Attempt, Command, Host, Lost, Part, Untrusted, command_of
from turnlane.redis.reasons import Refused
from turnlane.redis.routes import route_to
from turnlane.redis.urls import Address
from turnlane.redis.wires import Wire, alive, close

__all__ = ("Connections",)

MOST_HOPS = 5
# A master that is one no more, and a node that the others do without: another one may know where to go.
NO_MASTER = frozenset({"READONLY", "MASTERDOWN", "CLUSTERDOWN"})
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

# Redis 6 hides what a script was answered behind where it stood in the script.
IN_SCRIPT = re.compile(r"(?:ERR )?Error running script \(.*?\): (?:@user_script: ?\d+: )+-?(?P<answer>.*)", re.DOTALL)
BEGINNINGS = (("The user executing the script can't", "NOPERM"), ("Authentication required", "NOAUTH"))


class Connections:
    """Connections that are kept and used again, at most `most` at a time, of one event loop.

    The driver's own repetitions are off: they do a command twice whose first answer was lost.

    Mutable: `_idle`, connections by server that nobody uses, none once `_closed`; `_dedicated`, those that were given
    away, and their servers; `_busy`, how many others are in use; `_drained`, set while that is 0.
    """

    def __init__(self, address: Address, *, most: int, connect_timeout: float) -> None:
        self._address = address
        self._connect_timeout = connect_timeout
        self._route = route_to(address, self._ask_sentinel, self._leave)
        self._slots = asyncio.Semaphore(most)
        self._idle: dict[Host, list[Wire]] = {}
        self._dedicated: dict[Wire, Host] = {}
        self._busy = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._closed = False

    async def aclose(self) -> None:
        """Close what nobody uses, wait for the rest, which is closed after its use."""
        self._closed = True
        await self._route.aclose()
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
            raise _lost(error) from error

    @asynccontextmanager
    async def dedicated(self, key: bytes) -> AsyncGenerator[Wire, None]:
        """Give a connection of one's own to the server that has `key`, for subscriptions; it is closed after use."""
        host = await self._route.host_of(key)
        wire = await self._connected(host)
        self._dedicated[wire] = host
        try:
            yield wire
        finally:
            del self._dedicated[wire]
            await close(wire)

    async def lost(self, host: Host) -> None:
        """Take note that a server is not there, or is not what it was.

        Its other connections are most likely dead too, and who finds that out by sending does not know what became
        of what was sent.
        """
        self._route.lost(host)
        await self._close_idle([host])

    async def _leave(self, host: Host) -> None:
        """Use a server no more; what it is asked just now it may answer."""
        await self._close_idle([host])
        for wire in [wire for wire, used in self._dedicated.items() if used == host]:
            await close(wire)  # whoever reads from it finds it closed

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
            if _refused(error).code in NO_MASTER:
                await self.lost(host)
            raise
        except BaseException as error:
            self._returned()
            await close(wire)
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
            await alive(wire).send_command("ASKING")
            await wire.read_response()
        alive(wire)
        attempt.unanswered += 1
        try:
            await wire.send_packed_command(command_of(parts))
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
            await close(wire)
        else:
            self._idle.setdefault(host, []).append(wire)

    def _returned(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._drained.set()

    async def _close_idle(self, hosts: list[Host]) -> None:
        for wire in [wire for host in hosts for wire in self._idle.pop(host, [])]:
            await close(wire)

    async def _connected(self, host: Host) -> Wire:
        address = self._address
        wire = await self._connect(host, db=address.database, username=address.username, password=address.password)
        try:
            # Whoever takes connections in the name of a server that is not there is found out before anything is sent.
            await wire.send_command("PING")
            await wire.read_response()
        except BaseException:
            await close(wire)
            raise
        return wire

    async def _ask_sentinel(self, host: Host, parts: tuple[str, ...]) -> object:
        wire = await self._connect(host)
        try:
            await wire.send_command(*parts)
            return await wire.read_response()
        finally:
            await close(wire)

    async def _connect(self, host: Host, **options: Any) -> Wire:
        address = self._address
        kind: Any = Connection
        if address.kind == "socket":
            kind = UnixDomainSocketConnection
            options |= {"path": host[0]}
        else:
            options |= {"host": host[0], "port": host[1], "socket_keepalive": True}
        if address.tls:
            kind = SSLConnection
            options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **dict(address.options)}
        connection = kind(
            retry=Retry(NoBackoff(), 0),
            # Each attempt is bounded as a whole by who makes it.
            socket_timeout=None,
            socket_connect_timeout=self._connect_timeout,
            protocol=2,
            **UNNAMED,
            **options,
        )
        wire = cast("Wire", connection)
        await in_task()  # the driver asks for it
        try:
            await wire.connect()
        except BaseException:
            await close(wire)
            raise
        return wire


def _lost(error: Exception) -> Lost:
    """Return what is wrong with a connection; the driver does not always say it in its own words."""
    text, behind = str(error) or type(error).__name__, error.__cause__ or error.__context__
    if isinstance(behind, OSError) and str(behind) not in text:
        text = f"{text} ({behind})"
    return (Untrusted if isinstance(behind, SSLCertVerificationError) else Lost)(text)


def _refused(error: RedisError) -> Refused:
    text = str(error)
    wrapped = IN_SCRIPT.fullmatch(text)
    if wrapped is not None:
        text = wrapped["answer"].strip()
    code = next((code for begin, code in BEGINNINGS if text.startswith(begin)), "")
    code = code or next((code for kind, code in CODES if isinstance(error, kind)), "")
    code = code or text.partition(" ")[0].rstrip(":")
    return Refused(code, text if text.startswith(code) else f"{code} {text}")
