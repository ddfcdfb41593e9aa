"""The engine of several machines: scripts say who has which lane, leases who lives, published notes wake who waits."""

import asyncio
import logging
import math
import os
import secrets
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any
from weakref import ref

from turnlane.engines.base import (
    Alive,
    Answer,
    Ask,
    End,
    Engine,
    Full,
    Granted,
    LaneView,
    Lost,
    Note,
    Over,
    Queued,
    Tell,
    Told,
)
from turnlane.engines.redis.asking import FORKED, Asking, Translated
from turnlane.engines.redis.subscription import Subscription
from turnlane.engines.redis.tickets import Tickets
from turnlane.engines.redis.wire import (
    Missed,
    answer_in,
    arguments_of,
    draining_in,
    flag,
    letter_in,
    letter_to_all,
    seconds,
)
from turnlane.engines.url_options import seconds_in, split_options
from turnlane.errors import EngineUnavailable
from turnlane.redis import RedisClient, Unreachable, address_in, checked_prefix

__all__ = ("RedisEngine",)

logger: logging.Logger = logging.getLogger("turnlane.lanes")

LONGEST_LEASE = 3600.0
LONGEST_TIMEOUT = 60.0
BETWEEN_CATCHING_UP = 0.2  # seconds; a server that has lost its data says so for each bucket


class RedisEngine(Engine):
    """Lanes of processes on any number of machines, in Redis 6 or later, or Valkey.

    Guarantees, beside those of every engine: each step is one script, which happens wholly or not at all, and once,
    also where its answer was lost or it was held up on its way. A worker that dies is passed when its lease has ended,
    by the server's clock. Tokens do not go back when the server loses its data, another one takes its place, or its
    clock is set back. Where a server that runs has lost its data (`FLUSHALL`, a restart without a file), whoever has a
    lane keeps it and who waits stands where it stood; nothing is granted for one lease meanwhile.

    Not guaranteed: that a worker that was stopped, or cut off, for longer than its lease has stopped when another has
    its lane; nor, where a server takes another's place that had not been told of the last steps, that what those
    granted is not granted again. Tokens tell who is the later one. Where the server both loses its data and has its
    clock set back, tokens may go back. Nor anything with a `maxmemory-policy` of `allkeys-*`, which is logged.

    In a cluster the lanes are divided among 128 slots. A user needs no more than `~{prefix:*` and `&prefix:worker:*`,
    and of commands `+ping +select +subscribe +publish +eval +evalsha +time +get +set +exists +pexpire +@hash`
    `+@sortedset`; with `+info` it is warned of the above.

    Args:
        url: `redis://[user:password@]host:port/database`, `redis+unix:///path?db=0`,
            `redis+sentinel://host:port,host:port/service/database` or `redis+cluster://host:port,host:port`; with
            `rediss` for TLS, where `?ssl_ca_certs=` names the file of an authority. `?prefix=` and `?lease=` set
            `prefix` and `lease`, whatever is given beside it.
        lease: seconds after which a worker that has not renewed its tickets is taken for dead; the same for all
            workers, at most an hour.
        prefix: of all keys; lanes with different prefixes know nothing of each other.
        timeout: seconds a step may take, repetitions included; at most 60.
        max_connections: at a time, beside the one notes are heard on.

    Raises:
        ValueError: the URL, or a number, is not understood.
        NotConfigured: the package redis is not installed.
    """

    immediate: bool = True

    # Mutable: _worker, empty unless it is open; _tell, where notes go; _tickets, those of this worker;
    # _subscription, None unless it is open; _tasks; _catching_up, while all tickets are renewed.

    def __init__(
        self,
        url: str,
        *,
        lease: float = 15.0,
        prefix: str = "turnlane",
        timeout: float = 3.0,
        max_connections: int = 20,
    ) -> None:
        url, options = split_options(url, ("lease",))
        address = address_in(url)
        lease = seconds_in(options["lease"], "lease") if options else lease
        if not (math.isfinite(lease) and 0.1 <= lease <= LONGEST_LEASE):
            raise ValueError(f"lease must be from 0.1 to 3600 seconds, not {lease!r}")
        if not 0 < timeout <= LONGEST_TIMEOUT:
            raise ValueError(f"timeout must be greater than 0 and at most 60 seconds, not {timeout!r}")
        if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
            raise ValueError(f"max_connections must be an int of at least 1, not {max_connections!r}")
        self.where: str = address.where
        self.lease: float | None = lease
        client = RedisClient(address, timeout=timeout, most=max_connections)
        self._client = client
        names = checked_prefix(prefix) if address.prefix is None else address.prefix
        self._ask = Asking(client, names, lease=lease, in_cluster=address.kind == "cluster")
        self._tickets = Tickets(self._look_again)
        self._patience = min(timeout, lease / 3)
        self._worker = ""
        self._tell: Tell = _nobody
        self._subscription: Subscription | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._catching_up = False

    def __repr__(self) -> str:
        return f"<RedisEngine {self.where} {'open' if self._worker else 'not open'}>"

    async def open(self, worker: str, tell: Tell) -> None:
        """Connect, see to it that a loss of the server's data will be found, and hear notes."""
        channel = self._ask.names.channel
        subscription = Subscription(
            self._client,
            (channel + worker, channel),
            heard=self._heard,
            again=self._catch_up,
            patience=self._patience,
        )
        try:
            await self._begin(worker, subscription)
        except BaseException:
            await self._client.aclose()
            raise
        self._tell, self._worker, self._subscription, self._catching_up = tell, worker, subscription, False
        _keep_in_children(self, subscription)

    async def _begin(self, worker: str, subscription: Subscription) -> None:
        with Translated(self.where, "open it", worker):
            await self._ask.require_voice(worker)
            if await self._ask.opened():
                logger.warning("lanes_forgotten engine=%s: none is granted for %s s", self.where, self.lease)
            if await self._ask.may_be_evicted():
                logger.warning("lanes_may_be_evicted engine=%s: set maxmemory-policy to noeviction", self.where)
            self.secret: bytes = await self._ask.secret()
            try:
                await subscription.open()
            except Exception as error:
                raise Unreachable(str(error) or type(error).__name__, sent=False) from error

    async def acquire(self, key: str, ask: Ask) -> Answer:
        """Come to a lane."""
        self._require_open(key, "acquire a lane")
        tickets, subscription = self._tickets, self._subscription
        times = 0 if subscription is None else subscription.times
        tickets.ask(key, ask.ticket)
        with Translated(self.where, "acquire a lane", key):
            found = await self._ask.step("acquire", key, self._worker, *arguments_of(ask))
        answer = answer_in(key, ask.ticket, found)
        match answer:
            case Granted():
                tickets.grant(answer)
            case Queued():
                tickets.queue(key, ask.ticket, answer)
                if subscription is not None and subscription.times != times:
                    self._do(self._renew_again([Alive(key, ask.ticket)]))  # its note may have been missed
            case Full() | Over():
                tickets.end(key, ask.ticket)
        return answer

    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        """Let the lane go, or leave the line."""
        self._require_open(key, "leave a lane")
        with Translated(self.where, "leave a lane", key):
            owing = "?" if owes is None else flag(owes)
            again = await self._ask.step("leave", key, self._worker, ticket, owing, flag(scatter))
        if ticket:
            self._tickets.end(key, ticket)
        self._tickets.watch(key, seconds(again))

    async def settle(self, key: str, ticket: str, ends: Sequence[End]) -> None:
        """End the waits of tickets."""
        self._require_open(key, "settle messages")
        parts = [part for end in ends for part in (end.ticket, end.how, end.payload)]
        with Translated(self.where, "settle messages", key):
            await self._ask.step("settle", key, self._worker, ticket, *parts)

    async def interrupt(self, key: str, *, grace: float) -> bool:
        """Have whoever has the lane asked to stop."""
        self._require_open(key, "interrupt a lane")
        with Translated(self.where, "interrupt a lane", key):
            found = await self._ask.step("interrupt", key, self._worker, _request(), repr(float(grace)))
        return found == 1

    async def pause(self, key: str | None, paused: bool) -> None:
        """Grant the lane to nobody until it is undone; without a key, tell all workers."""
        if key is None:
            self._require_open("", "drain all workers")
            with Translated(self.where, "drain all workers", ""):
                channel = self._ask.names.channel
                await self._client.about("PUBLISH", channel, letter_to_all(paused), key=channel)
            return
        self._require_open(key, "pause a lane")
        with Translated(self.where, "pause a lane", key):
            await self._ask.step("pause", key, self._worker, _request(), flag(paused))

    async def renew(self, tickets: Iterable[Alive]) -> list[Note]:
        """Say that tickets are alive, all in one command; in a cluster, in one for each slot."""
        self._require_open("", "renew tickets")
        found: list[Note] = []
        with Translated(self.where, "renew tickets", ""):
            for alive, again, notes in await self._ask.renewed(tickets, self._worker):
                self._tickets.watch(alive.key, seconds(again))
                for note in notes:
                    self._keep_in_mind(note)
                found += notes
        return found

    async def look(self, key: str | None = None) -> list[LaneView]:
        """Return the lanes that live now."""
        self._require_open(key or "", "look at lanes")
        with Translated(self.where, "look at lanes", key or ""):
            return await self._ask.views(key)

    async def aclose(self) -> None:
        """Give all tickets back, and let everything go."""
        if not self._worker or self._client.is_forked:
            return
        worker, self._worker = self._worker, ""
        subscription, self._subscription = self._subscription, None
        tickets = self._tickets.clear()
        for task in list(self._tasks):
            task.cancel()
        try:
            with suppress(Exception):  # the others find it dead
                await self._ask.closed(tickets, worker)
        finally:  # also where it is cancelled: nobody closes it again
            try:
                if subscription is not None:
                    await subscription.aclose()
            finally:
                with suppress(Exception):
                    await self._client.aclose()

    def forget(self) -> None:
        """Be closed, without telling anybody. The loop that is closed has closed what it had open."""
        self._worker = ""
        self._subscription = None
        self._tickets.forget()

    # -- what is told

    def _heard(self, channel: bytes, letter: bytes) -> None:
        if channel == self._ask.names.channel.encode():
            to_all = draining_in(letter)
            if to_all is None:
                self._catch_up()
            else:
                self._tell(to_all)
            return
        try:
            note = letter_in(letter)
        except (ValueError, IndexError):
            logger.warning("lane_note_not_understood engine=%s note=%.60r", self.where, letter)
            return
        if isinstance(note, Missed):
            self._do(self._renew_again([Alive(note.key, note.ticket)]))
        else:
            self._keep_in_mind(note)
            self._tell(note)

    def _keep_in_mind(self, note: Note) -> None:
        match note:
            case Granted():
                self._tickets.grant(note)
            case Over(how="shared"):
                pass  # it waits on
            case Over() | Lost():
                self._tickets.end(note.key, note.ticket)
            case _:
                pass

    def _catch_up(self) -> None:
        """Renew everything: notes were missed, or the server has lost what it knew."""
        if self._worker and not self._catching_up:
            self._catching_up = True
            self._do(self._caught_up())

    async def _caught_up(self) -> None:
        try:
            # All buckets at once: who comes to one later need not wait for those who could have said so long ago.
            await self._ask.opened()
            await self._renew_again(self._tickets.alive())
            await asyncio.sleep(BETWEEN_CATCHING_UP)
        finally:
            self._catching_up = False

    async def _renew_again(self, tickets: list[Alive]) -> None:
        for note in await self.renew(tickets) if tickets else ():
            self._tell(note)

    def _look_again(self, key: str) -> None:
        """Have a lane granted whose holder's lease has ended by now."""
        if self._worker:
            self._do(self.leave(key, ""))

    # -- small things

    def _require_open(self, key: str, operation: str) -> None:
        if not self._worker:
            raise EngineUnavailable(self.where, operation=operation, reason="it is not open", key=key)
        if self._client.is_forked:
            raise EngineUnavailable(self.where, operation=operation, reason=FORKED, key=key)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:  # the next renewal finds what was missed
            logger.info("engine_task_failed where=%s: %r", self.where, task.exception())


def _request() -> str:
    return secrets.token_hex(8)


def _nobody(_: Told) -> None:
    pass


def _keep_in_children(*things: object) -> None:
    """Keep things in forked processes, where dropping them would disturb the loop of the parent."""
    kept: list[object] = []
    if hasattr(os, "register_at_fork"):
        references = [ref(thing) for thing in things]  # it can not be undone: the parent must be able to forget them
        os.register_at_fork(after_in_child=lambda: kept.extend(reference() for reference in references))
