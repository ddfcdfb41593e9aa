"""The engine of many machines: a database says who has which lane, and who lives; notifications wake who waits."""

import asyncio
import logging
import math
import os
import re
from collections.abc import Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from hashlib import md5
from typing import Any

from turnlane.engines.base import Alive, Answer, Ask, Draining, End, Engine, LaneView, Note, Queued, Tell, Told
from turnlane.engines.postgresql.listening import Listener
from turnlane.engines.postgresql.notes import Order, answer_in, heard_in, view_in
from turnlane.engines.postgresql.statements import (
    ACQUIRE,
    ACQUIRE_AGAIN,
    AT_OPENING,
    CLOSE,
    DRAIN,
    FATES,
    IDLE,
    INTERRUPT,
    LAST_DRAIN,
    LEAVE,
    LOOK,
    PAUSE,
    RENEW,
    SETTLE,
    SWEEP,
    acquire_values,
    micros,
)
from turnlane.engines.postgresql.tickets import Tickets
from turnlane.engines.url_options import seconds_in, split_options
from turnlane.errors import EngineUnavailable, OutcomeUnknown
from turnlane.postgresql import Functions, PostgresqlError, Unsettled, address_in, stored

__all__ = ("PostgresqlEngine",)

logger: logging.Logger = logging.getLogger("turnlane.lanes")

WORKER = re.compile(r"[0-9A-Za-z_-]{1,48}")
MOST_AT_ONCE = 200  # tickets renewed by one statement: it locks all their lanes
SWEEP_EVERY, SWEPT_AT_ONCE = 60.0, 200
A_MOMENT = 0.005  # seconds by which a lease may end later than the timer that waits for it
SOONEST = 0.02


class PostgresqlEngine(Engine):
    """Lanes of any number of machines, in a PostgreSQL database of version 13 or later.

    Guarantees, beside those of every engine: no connection is held, and no transaction open, while a turn waits or
    runs; one that finds its lane idle costs two statements. A worker needs one connection that listens, besides the
    pool. A crash of the server empties the lanes: nothing is granted for one lease then, in which whoever has a lane
    says so and whoever waited comes again to its old place. Behind a proxy that gives each transaction another
    connection (pgbouncer, in transaction mode) all works, but a step is a transaction of several statements, and notes
    are looked for every 250 ms where no `listen_dsn` goes past it.

    Not guaranteed: that whoever had a lane has stopped when its lease has ended; the token is for that.

    Of several hosts in the URL the one that takes writes is used. A standby that takes the place of its primary begins
    without lanes, as after a crash; tokens go on growing, also where the clock is behind.

    Args:
        url: `postgresql://user:password@host:port/database`; `?schema=name` names the schema, else `turnlane`.
            `?lease=` and `?listen_dsn=`, percent-encoded, set these two, whatever is given beside it.
        lease: seconds after which a worker that does not renew its tickets is taken for dead, by the clock of the
            server; the same for all workers of a schema.
        listen_dsn: a URL that reaches the server itself, to listen there, where `url` reaches a proxy.
        timeout: seconds a step may take, connecting included; None for a third of the lease, 2 to 10.
        pool_size: most connections for steps.

    Raises:
        ValueError: a URL is none, or a number is out of its range. It does not show the URL.
    """

    def __init__(
        self,
        url: str,
        lease: float = 15.0,
        listen_dsn: str | None = None,
        *,
        timeout: float | None = None,
        pool_size: int = 4,
    ) -> None:
        url, options = split_options(url, ("lease", "listen_dsn"))
        lease = seconds_in(options["lease"], "lease") if "lease" in options else lease
        listen_dsn = options.get("listen_dsn", listen_dsn)
        if not (math.isfinite(lease) and lease >= 0.5):
            raise ValueError(f"lease must be at least 0.5 seconds, not {lease!r}")
        self.lease: float | None = lease
        self._lease = micros(lease)
        self._timeout = min(max(lease / 3, 2.0), 10.0) if timeout is None else timeout
        self._functions = Functions(url, timeout=self._timeout, pool_size=pool_size)
        self._dsn = address_in(url if listen_dsn is None else listen_dsn).dsn
        self._has_listen_dsn = listen_dsn is not None
        self.where: str = self._functions.where
        self._tell: Tell = _nobody
        # Within the 63 bytes of a name, and no worker's: those have no dot.
        self._channel_of_all = f"turnlane.{md5(self._functions.schema.encode(), usedforsecurity=False).hexdigest()}"
        self._worker = ""
        self._pid = 0
        self._listener: Listener | None = None
        self._tickets = Tickets()
        self._timer: asyncio.TimerHandle | None = None  # to look again
        self._swept = 0.0
        self._last_order = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<PostgresqlEngine {self.where} {'open' if self._worker else 'not open'}>"

    async def open(self, worker: str, tell: Tell) -> None:
        """Connect, make the tables where there are none, and listen."""
        if not WORKER.fullmatch(worker):
            raise ValueError(f"a worker is named by at most 48 letters, digits, _ and -, not {worker!r}")
        with self._translated("open it", ""):
            await self._functions.open()
            can_listen = self._has_listen_dsn or self._functions.is_direct
            listener = Listener(
                self._dsn if can_listen else None,
                where=self.where,
                channels=(f"turnlane_{worker}", self._channel_of_all),
                heard=self._heard,
                look=self._catch_up,
                timeout=self._timeout,
                check_every=(self.lease or 0) / 3,
            )
            self._tell, self._pid, self._worker = tell, os.getpid(), worker
            try:
                [(self._last_order, secret)] = await self._rows("", "open it", AT_OPENING)
                self.secret: bytes = secret
                await listener.open()
            except BaseException:
                self._worker = ""
                await self._functions.aclose()
                raise
            self._listener = listener
            self._swept = asyncio.get_running_loop().time()

    async def acquire(self, key: str, ask: Ask) -> Answer:
        """Come to a lane."""
        statement = ACQUIRE_AGAIN if ask.again else ACQUIRE
        values = acquire_values(self._worker, self._lease, key, ask)
        self._tickets.come(ask.ticket)
        try:
            answer = answer_in(str(await self._call(key, "acquire a lane", statement, *values)))
            self._tickets.answered(key, ask, answer)
        finally:
            self._tickets.has_come(ask.ticket)
        if isinstance(answer, Queued) and answer.look_after is not None:
            self._look_in(answer.look_after)
        return answer

    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        """Let the lane go, or leave the line."""
        self._tickets.forget(ticket)
        await self._call(key, "leave a lane", LEAVE, self._lease, stored(key), stored(ticket), owes, scatter)
        self._sweep_if_due()  # here too: turns that are short are never renewed

    async def settle(self, key: str, ticket: str, ends: Sequence[End]) -> None:
        """End the waits of tickets."""
        tickets, hows = [stored(end.ticket) for end in ends], [end.how for end in ends]
        payloads = [end.payload for end in ends]
        values = (self._lease, stored(key), stored(ticket), tickets, hows, payloads)
        await self._call(key, "settle messages", SETTLE, *values)

    async def interrupt(self, key: str, *, grace: float) -> bool:
        """Have whoever has the lane asked to stop."""
        return bool(await self._call(key, "interrupt a lane", INTERRUPT, self._lease, stored(key), grace))

    async def pause(self, key: str | None, paused: bool) -> None:
        """Grant the lane to nobody until it is undone; without a key, tell all workers."""
        if key is None:
            number = await self._call("", "drain all workers", DRAIN, self._channel_of_all, paused)
            self._ordered(Order(int(str(number)), paused))
            return
        await self._call(key, "pause a lane", PAUSE, self._lease, stored(key), paused)

    async def renew(self, tickets: Iterable[Alive]) -> list[Note]:
        """Make the leases of tickets longer, and return what was missed."""
        notes = await self._renew(list(tickets), offers=False)
        self._sweep_if_due()
        return [note for note in notes if self._tickets.noted(note)]

    async def look(self, key: str | None = None) -> list[LaneView]:
        """Return the lanes that live now."""
        rows = await self._rows(key or "", "look at lanes", LOOK, None if key is None else stored(key))
        return sorted((view_in(row[0]) for row in rows), key=lambda view: view.key)

    async def aclose(self) -> None:
        """Give all tickets back, and let everything go."""
        if not self._worker or self._pid != os.getpid():
            return
        try:
            with suppress(EngineUnavailable, OutcomeUnknown):  # their leases end
                await self._call("", "close it", CLOSE, self._worker, self._lease)
        finally:  # also where it is cancelled: nobody closes it again
            listener = self._listener
            self._end()
            try:
                if listener is not None:
                    await listener.aclose()
                tasks = list(self._tasks)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                await self._functions.aclose()

    def forget(self) -> None:
        """Let go of what this process has open."""
        listener = self._listener
        self._end()
        if self._pid == os.getpid() and listener is not None:
            listener.forget()

    # -- steps

    async def _call(self, key: str, operation: str, statement: str, *values: object) -> object:
        rows = await self._rows(key, operation, statement, *values)
        return rows[0][0]

    async def _rows(self, key: str, operation: str, statement: str, *values: object) -> Sequence[Sequence[Any]]:
        if not self._worker:
            raise EngineUnavailable(self.where, operation=operation, reason="it is not open", key=key)
        if self._pid != os.getpid():
            reason = "it was opened before this process was forked; make the lanes, or use them first, after the fork"
            raise EngineUnavailable(self.where, operation=operation, reason=reason, key=key)
        with self._translated(operation, key):
            return await self._functions.call(statement, *values)

    async def _renew(self, tickets: list[Alive], *, offers: bool) -> list[Note]:
        found: list[Note] = []
        for begin in range(0, len(tickets), MOST_AT_ONCE):
            some = tickets[begin : begin + MOST_AT_ONCE]
            values = (
                [stored(alive.key) for alive in some],
                [stored(alive.ticket) for alive in some],
                [alive.token for alive in some],
            )
            rows = await self._rows("", "renew tickets", RENEW, self._worker, self._lease, *values, offers)
            for place, text in sorted(rows, key=lambda row: int(row[0])):
                if place:
                    note = heard_in(text)
                    if note is not None and not isinstance(note, Order):
                        found.append(note)
                elif text is not None:
                    self._look_in(int(text) / 1e6 + A_MOMENT)
        return found

    def _heard(self, text: str) -> None:
        """Hear a notification."""
        if not self._worker or self._pid != os.getpid():
            return
        try:
            note = heard_in(text)
        except (ValueError, TypeError):
            logger.warning("lanes_heard_nonsense engine=%s", self.where)
            return
        if note is None:
            self._do(self._look())
        elif isinstance(note, Order):
            self._ordered(note)
        elif self._tickets.noted(note):
            self._tell(note)

    def _ordered(self, order: Order) -> None:
        if order.number > self._last_order:
            self._last_order = order.number
            self._tell(Draining(order.draining))

    async def _catch_up(self) -> None:
        """Find what was told while nothing was heard."""
        if not self._worker:
            return
        try:
            self._ordered(await self._standing_order())
        except (EngineUnavailable, OutcomeUnknown) as error:
            logger.info("lanes_not_renewed engine=%s: %s", self.where, error)
            return
        await self._look()

    async def _standing_order(self) -> Order:
        [(number, draining)] = await self._rows("", "look for orders", LAST_DRAIN)
        return Order(number, draining)

    async def _look(self) -> None:
        """Renew all tickets, and tell what was missed."""
        tickets = list(self._tickets.alive.values())
        if not tickets or not self._worker:
            return
        try:
            notes = await self._renew(tickets, offers=True)
        except (EngineUnavailable, OutcomeUnknown) as error:
            logger.info("lanes_not_renewed engine=%s: %s", self.where, error)
            return
        for note in notes:
            if self._tickets.is_news(note) and self._tickets.noted(note):
                self._tell(note)

    def _look_in(self, seconds: float) -> None:
        """Look again when a lease has ended of whom a ticket waits for; each renewal says when that is."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max(seconds, SOONEST)
        if self._timer is not None:
            if loop.time() < self._timer.when() <= at:
                return  # another lane may be free before this one
            self._timer.cancel()
        self._timer = loop.call_at(at, lambda: self._do(self._look()))

    def _sweep_if_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._swept > SWEEP_EVERY:
            self._swept = now
            self._do(self._sweep())

    async def _sweep(self) -> None:
        values = (self._lease, micros(IDLE), micros(FATES), SWEPT_AT_ONCE)
        with suppress(EngineUnavailable, OutcomeUnknown):
            while await self._call("", "forget idle lanes", SWEEP, *values) == SWEPT_AT_ONCE:
                pass  # there are more: as many may come in a minute as there are keys

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        if not self._worker:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.warning("engine_task_failed where=%s", self.where, exc_info=task.exception())

    def _end(self) -> None:
        self._worker, self._listener, self._tell = "", None, _nobody
        self._tickets = Tickets()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @contextmanager
    def _translated(self, operation: str, key: str) -> Generator[None, None, None]:
        try:
            yield
        except Unsettled as error:
            raise OutcomeUnknown(self.where, operation=operation, reason=error.reason, key=key) from error
        except PostgresqlError as error:
            raise EngineUnavailable(self.where, operation=operation, reason=error.reason, key=key) from error


def _nobody(_: Told) -> None:
    pass
