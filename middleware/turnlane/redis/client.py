"""A client of Redis that opens by itself in whatever event loop uses it."""

import asyncio
import os
import random
import weakref
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from turnlane.errors import NotConfigured
from turnlane.redis.commands import Attempt, Command, Late, Lost, Packed, Part, Untrusted, packed
from turnlane.redis.reasons import Forked, Refused, Unreachable
from turnlane.redis.scripts import Script
from turnlane.redis.urls import Address
from turnlane.redis.within import Within

if TYPE_CHECKING:
    from turnlane.redis.connections import Connections
    from turnlane.redis.wires import Wire

__all__ = ("RedisClient",)

# What a server says that did not do the command and may do it soon, or another server may.
NOT_NOW = frozenset({"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN"})
ATTEMPTS = 3
LEAST = 1 / 9  # of the time: an attempt that has less finds out nothing, and leaves open whether it was done
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.25


class _OneLoop:
    """The connections of one event loop, closed when the loop is."""

    def __init__(self, connections: "Connections") -> None:
        self.connections = connections
        self._lifetime = self._until_the_loop_ends()

    async def begin(self) -> None:
        """Have the loop close the connections at its end, as it does with every generator that was begun in it."""
        await anext(self._lifetime)

    async def aclose(self) -> None:
        """Close the connections now."""
        await self._lifetime.aclose()

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.connections.aclose()


class _Inherited:
    """Keeps the connections of its parent in a forked child, where dropping them would disturb the parent's loop."""

    def __init__(self, client: "RedisClient") -> None:
        self._client = weakref.ref(client)
        self.kept: RedisClient | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._keep)

    def _keep(self) -> None:
        client = self.kept = self._client()
        if client is not None:
            client.is_forked = True


class RedisClient:
    """Commands and scripts on the server a URL names, from any event loop, each within a bounded time.

    Connects at first use, again after trouble, and separately for each event loop; a loop that ends closes its
    connections. Follows Sentinels to a new master and the redirections of a cluster.

    Whatever is asked is asked again, within `timeout`, if no answer came or the server could not do it just then. It
    can so be done twice, and the first time even after the second: **only commands and scripts for which that is the
    same as once may be given.**

    Not guaranteed: that what a server has answered survives its failover or a power loss; that is the server's to
    configure.

    Args:
        address: of the server.
        timeout: seconds an operation may take, with all its attempts, each of which has a third of them, the last at
            least a ninth.
        most: connections at a time, for each event loop; who finds none waits, within `timeout`.

    Raises:
        NotConfigured: the driver is not installed.
    """

    # Mutable: _loops, by event loop; _inherited, once there was one of them, and is_forked, in a child of that process.

    def __init__(self, address: Address, *, timeout: float, most: int = 20) -> None:
        try:
            # Here and not in the event loop, which reading files would hold up.
            from turnlane.redis.connections import Connections
        except ImportError:
            raise NotConfigured(
                f"{address.where} needs the package redis; add it with: pip install 'turnlane[redis]'"
            ) from None
        self.where: str = address.where
        self._timeout = timeout
        self._connections = partial(Connections, address, most=most, connect_timeout=timeout / ATTEMPTS)
        self._loops: dict[asyncio.AbstractEventLoop, _OneLoop] = {}
        self._inherited: _Inherited | None = None
        self.is_forked: bool = False

    def __repr__(self) -> str:
        return f"<RedisClient {self.where} {'open' if self.is_open else 'not open'}>"

    @property
    def is_open(self) -> bool:
        """Whether it was used, in a loop that has not ended, since the last `aclose`."""
        return any(not loop.is_closed() for loop in self._loops)

    async def run(self, script: Script, keys: Sequence[str | bytes], arguments: Sequence[Part]) -> object:
        """Run a script and return its answer: bytes, int, None, or a list of these.

        Args:
            script: one for which running again with the same arguments, at any time later, changes nothing.
            keys: at least one; in a cluster all of one slot.
            arguments: what the script finds in ARGV.

        Raises:
            Refused: the server answered with an error.
            Unreachable: it did not answer within `timeout`.
            Forked: this process was forked from the one that used the client first.
        """
        key = keys[0]
        rest = packed((len(keys), *keys, *arguments))
        return await self.run_packed(script, key if isinstance(key, bytes) else key.encode(), rest)

    async def run_packed(self, script: Script, key: bytes, rest: Packed) -> object:
        """Do what `run` does, on the server that has `key`; `rest` is the number of keys, these and the arguments."""
        return await self._perform(Command(key, (script.call, rest), otherwise=("EVAL", script.text, rest)))

    async def command(self, name: str, key: str, *arguments: str) -> object:
        """Send one command about `key` and return its answer; it may be sent again. Raises as `run` does."""
        return await self._perform(Command(key.encode(), (name, key, *arguments)))

    async def about(self, *parts: str, key: str) -> object:
        """Send one command that names no key to the server that has `key`. Raises as `run` does."""
        return await self._perform(Command(key.encode(), parts))

    async def may_evict(self, key: str) -> bool:
        """Tell whether the server that has `key` may throw keys away that do not expire; False if it does not say."""
        try:
            memory = await self.about("INFO", "memory", key=key)
        except Refused as refused:
            if refused.code == "NOPERM":
                return False
            raise
        found = cast("bytes", memory)
        return b"maxmemory_policy:allkeys" in found and b"maxmemory:0\r" not in found

    @asynccontextmanager
    async def dedicated(self, key: str) -> AsyncGenerator["Wire", None]:
        """Give a connection of one's own to the server that has `key`, for subscriptions; it is closed after use.

        Raises:
            Forked: as for `run`. Trouble with the connection itself is raised as the driver does.
        """
        async with (await self._opened(asyncio.get_running_loop())).dedicated(key.encode()) as wire:
            yield wire

    async def aclose(self) -> None:
        """Wait for what has begun and close the connections of all loops. Does nothing in a forked child."""
        if self.is_forked:
            return
        here = asyncio.get_running_loop()
        loops, self._loops = self._loops, {}
        for loop, one in loops.items():
            if loop is here:
                await one.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(one.aclose(), loop))
            elif not loop.is_closed():
                self._loops[loop] = one  # it stands still; its end closes them

    async def _perform(self, command: Command) -> object:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        attempt = Attempt()
        most, least = self._timeout / ATTEMPTS, self._timeout * LEAST
        pause = FIRST_PAUSE
        reason: Exception | None = None
        while True:
            try:
                return await self._tried(loop, command, attempt, min(most, max(deadline - loop.time(), least)))
            except Refused as refused:
                if refused.code not in NOT_NOW:
                    if attempt.unanswered:
                        raise Unreachable(f"no answer at first, and then: {refused}", sent=True) from refused
                    raise
                reason = refused
            except Untrusted as error:
                raise Unreachable(str(error), sent=attempt.unanswered > 0) from error.__cause__
            except Lost as error:
                # The last attempt may have had no time to find out what is wrong.
                reason = reason if reason is not None and isinstance(error, Late) else error
            if loop.time() + pause + least >= deadline:
                text = f"no answer within {self._timeout:g} s: {reason}"
                raise Unreachable(text, sent=attempt.unanswered > 0) from reason.__cause__
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  many must not come back at once
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _tried(
        self, loop: asyncio.AbstractEventLoop, command: Command, attempt: Attempt, patience: float
    ) -> object:
        connections = await self._opened(loop)
        attempt.host = None
        try:
            with Within(loop, patience):
                return await connections.perform(command, attempt)
        except TimeoutError as error:
            if attempt.host is not None:
                await connections.lost(attempt.host)
            raise Late(f"{patience:.3g} s have passed") from error

    async def _opened(self, loop: asyncio.AbstractEventLoop) -> "Connections":
        if self.is_forked:
            raise Forked
        found = self._loops.get(loop)
        if found is None:
            self._inherited = self._inherited or _Inherited(self)
            for ended in [other for other in self._loops if other.is_closed()]:
                self._loops.pop(ended, None)
            found = self._loops[loop] = _OneLoop(self._connections())
            await found.begin()
        return found.connections
