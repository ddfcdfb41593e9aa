"""The engine of one machine: a database says who has which lane, the kernel who lives, datagrams wake who waits."""

import asyncio
import logging
import os
import random
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import ref

from turnlane.clock import Clock
from turnlane.engines.base import (
    Alive,
    Answer,
    Ask,
    Draining,
    End,
    Engine,
    Granted,
    LaneView,
    Lost,
    Note,
    Over,
    Queued,
    Tell,
    Told,
)
from turnlane.engines.lane import Steps
from turnlane.engines.local.database import Busy, Database
from turnlane.engines.local.letters import Letters, letter_of, note_in
from turnlane.engines.local.rows import SqliteRows, keys_of, views
from turnlane.engines.local.short_ways import GIVE_BACK, TAKE, TAKEN, handed_on
from turnlane.engines.local.workers import Workers
from turnlane.errors import EngineUnavailable
from turnlane.sqlite import Refused, reason_of

__all__ = ("LocalEngine",)

logger: logging.Logger = logging.getLogger("turnlane.lanes")

_T = TypeVar("_T")

NOBODY = "nobody"  # asks for steps where a worker is not one any more
BUSY_SECONDS = 5.0
PASSES = 5
AT_ONCE = 20  # lanes
FIRST_PAUSE, LONGEST_PAUSE = 0.0001, 0.002


class LocalEngine(Engine):
    """Lanes of all processes of one machine, in a directory of its file system.

    Guarantees, beside those of every engine: no lease. A worker is dead when its process has ended, or has closed its
    lanes, and not before: the next one starts at once then, and one that was stopped keeps its lane until it goes on.
    Tokens survive a restart of all processes.

    Not guaranteed: anything on a network file system, which is refused, on Windows, or between containers that share
    the directory but not the kernel's view of processes and locks. That tokens go on growing where the directory was
    removed and the clock was set back.

    Args:
        directory: made if it is not there, readable by its owner only.
        allow_network_fs: use a network file system all the same.
        clock: tells the time.

    Raises:
        ValueError: the path is empty, or this is Windows.
    """

    lease: float | None = None
    immediate: bool = True

    def __init__(self, directory: str, *, allow_network_fs: bool = False, clock: Clock | None = None) -> None:
        if sys.platform == "win32":
            raise ValueError("lanes in a directory need a POSIX system; use redis:// or postgresql://")
        if not directory or "\0" in directory:
            raise ValueError(f"lanes in files need the path of a directory: {directory!r}")
        self.where: str = f"file://{directory}"
        self._directory = os.path.abspath(directory)
        self._clock = clock if clock is not None else Clock()
        self._database = Database(self._directory, allow_network_fs=allow_network_fs)
        self._worker = ""
        self._pid = 0
        self._is_inherited = False
        self._tell: Tell = _nobody
        self._letters: Letters | None = None
        self._workers: Workers | None = None
        self._waited: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<LocalEngine {self.where} {'open' if self._workers is not None else 'not open'}>"

    async def open(self, worker: str, tell: Tell) -> None:
        """Make the directory where there is none, and be one of its workers."""
        try:
            await _aside(self._database.open)
            self.secret: bytes = self._database.secret
            await self._enrol(worker, tell)
        except BaseException as error:
            self._worker = ""
            self._let_go()
            await _aside(self._database.detach())
            if isinstance(error, (Refused, sqlite3.Error, OSError)) and not isinstance(error, EngineUnavailable):
                raise self._unavailable(error, "open it", worker) from error
            raise

    async def _enrol(self, worker: str, tell: Tell) -> None:
        self._tell, self._pid, self._worker = tell, os.getpid(), worker
        directory = self._database.workers
        self._workers = workers = Workers(directory, worker, self._found_dead)
        self._letters = Letters(directory, worker, self._heard)
        _close_in_children(self)
        for other, pid in await self._write("", "open it", lambda connection: _enrolled(connection, worker)):
            workers.watch(other, pid)
            self._send(other, b'["Hello", "%s", %d]' % (worker.encode(), self._pid))

    async def acquire(self, key: str, ask: Ask) -> Answer:
        """Come to a lane."""
        database, ticket, clock = self._database, ask.ticket, self._clock
        if self._worker and not ask.again and not self._is_inherited and database.is_in_place():
            token = clock.wall_ns() // 1000
            if database.at_once(TAKE, (key, ticket, self._worker, token, clock.monotonic(), token)) == TAKEN:
                if database.wants_checkpoint:
                    self._begin_checkpoint()
                return Granted(key, ticket, token)
        answer = await self._step(key, "acquire a lane", lambda steps: steps.acquire(ask))
        if isinstance(answer, Queued):
            self._waited.add(ticket)
        return answer

    async def leave(self, key: str, ticket: str, *, owes: bool | None = False, scatter: bool = False) -> None:
        """Let the lane go, or leave the line."""
        if ticket in self._waited:  # others may wait behind it: the short way would lead nowhere
            self._waited.discard(ticket)
        elif (
            self._worker
            and owes is False
            and not self._is_inherited
            and self._database.at_once(GIVE_BACK, (key, ticket, key))
        ):
            return
        self._require_open(key, "leave a lane")
        self._post(await self._write(key, "leave a lane", partial(self._left, key, ticket, owes, scatter)))

    def _left(
        self, key: str, ticket: str, owes: bool | None, scatter: bool, connection: sqlite3.Connection
    ) -> list[tuple[str, Note]]:
        if owes is False:
            clock = self._clock
            handed = handed_on(connection, key, ticket, now=clock.monotonic(), wall_ns=clock.wall_ns)
            if handed is not None:
                return [handed]
        steps, _ = self._steps(connection, key)
        steps.leave(ticket, owes=owes, scatter=scatter)
        return steps.notes

    async def settle(self, key: str, ticket: str, ends: Sequence[End]) -> None:
        """End the waits of tickets."""
        await self._step(key, "settle messages", lambda steps: steps.settle(ticket, ends))

    async def interrupt(self, key: str, *, grace: float) -> bool:
        """Have whoever has the lane asked to stop."""
        return await self._step(key, "interrupt a lane", lambda steps: steps.interrupt(grace=grace))

    async def pause(self, key: str | None, paused: bool) -> None:
        """Grant the lane to nobody until it is undone; without a key, tell all workers."""
        if key is None:
            await self._tell_all(Draining(paused))
            return
        await self._step(key, "pause a lane", lambda steps: steps.pause(paused))

    async def renew(self, tickets: Iterable[Alive]) -> list[Note]:
        """Return what was missed: letters get lost where a worker does not read them."""
        found: list[Note] = []
        for alive in tickets:
            found += await self._step(alive.key, "look for notes", partial(_renewed, alive.ticket))
        self._waited.difference_update(note.ticket for note in found if isinstance(note, Over | Lost))
        if self._workers is not None:
            for other, pid in await self._write("", "look for workers", _enrolled_ones):
                self._workers.watch(other, pid)
        return found

    async def look(self, key: str | None = None) -> list[LaneView]:
        """Return the lanes that live now."""
        now = self._clock.monotonic()
        return await self._write(key or "", "look at lanes", lambda connection: views(connection, key, now=now))

    async def aclose(self) -> None:
        """Give all tickets back, and let everything go."""
        if self._workers is None or self._pid != os.getpid():  # the files are those of the process that made them
            return
        worker, self._worker = self._worker, ""
        try:
            with suppress(EngineUnavailable):  # the others find it dead
                await self._bury(worker)
        finally:  # also where it is cancelled: nobody closes it again, and who has not let go lives on
            for task in list(self._tasks):
                task.cancel()
            self._let_go()
            await _aside(self._database.detach())

    def forget(self) -> None:
        """Let go of what this process has open."""
        self._worker = ""
        if self._pid == os.getpid():
            self._let_go()
            self._database.detach()()

    # -- steps

    async def _tell_all(self, note: Draining) -> None:
        for worker, _ in await self._write("", "drain all workers", _enrolled_ones):
            if worker != self._worker:
                self._send(worker, letter_of(note))
        self._tell(note)

    async def _step(self, key: str, operation: str, do: Callable[[Steps], _T]) -> _T:
        self._require_open(key, operation)

        def taken(connection: sqlite3.Connection) -> tuple[Steps, _T]:
            steps, _ = self._steps(connection, key)
            return steps, do(steps)

        steps, found = await self._write(key, operation, taken)
        self._post(steps.notes)
        return found

    def _require_open(self, key: str, operation: str) -> None:
        if not self._worker:
            raise EngineUnavailable(self.where, operation=operation, reason="it is not open", key=key)

    def _steps(self, connection: sqlite3.Connection, key: str) -> tuple[Steps, SqliteRows]:
        now, worker = self._clock.monotonic(), self._worker or NOBODY
        rows = SqliteRows(connection, key, worker, now=now, wall_ns=self._clock.wall_ns)
        return Steps(rows, key, worker, now=now), rows

    def _post(self, notes: Iterable[tuple[str, Note]]) -> None:
        """Tell what is committed."""
        for worker, note in notes:
            if worker == self._worker:
                self._hear(note)
            else:
                self._send(worker, letter_of(note))

    def _hear(self, note: Told) -> None:
        if isinstance(note, Over | Lost):
            self._waited.discard(note.ticket)  # nobody will say that it leaves
        self._tell(note)

    async def _write(self, key: str, operation: str, do: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do something in a transaction.

        One that finds the database busy lets the loop go on; if that does not help it waits, each time a little longer.
        The busy handler of SQLite is not used: it would stop the event loop, and is unfair.
        """
        if self._workers is None and not self._pid:
            raise EngineUnavailable(self.where, operation=operation, reason="it is not open", key=key)
        if self._pid != os.getpid():
            reason = "it was opened before this process was forked; make the lanes, or use them first, after the fork"
            raise EngineUnavailable(self.where, operation=operation, reason=reason, key=key)
        until, passes, pause = 0.0, PASSES, FIRST_PAUSE
        while True:
            try:
                found = self._database.attempt(do)
            except Busy:
                now = self._clock.monotonic()
            except (Refused, sqlite3.Error, OSError) as error:
                raise self._unavailable(error, operation, key) from error
            else:
                if self._database.wants_checkpoint:
                    self._begin_checkpoint()
                return found
            until = until or now + BUSY_SECONDS
            if now >= until:
                reason = f"its database was busy for {BUSY_SECONDS:g} s"
                raise EngineUnavailable(self.where, operation=operation, reason=reason, key=key)
            if passes:  # of the loop, which are about as long as a transaction
                passes -= 1
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  no secret
                pause = min(2 * pause, LONGEST_PAUSE)

    def _begin_checkpoint(self) -> None:
        self._database.begin_checkpoint()
        self._do(self._checkpoint())

    async def _checkpoint(self) -> None:
        await _aside(self._database.checkpoint)

    # -- other workers

    def _send(self, worker: str, letter: bytes) -> None:
        if self._letters is not None:
            self._letters.send(worker, letter, gone=self._gone)

    def _gone(self, worker: str) -> None:
        if self._workers is not None and self._workers.is_dead(worker):
            self._found_dead(worker)

    def _heard(self, letter: bytes) -> None:
        if letter.startswith(b'["Hello"'):
            self._greeted(letter)
            return
        note = note_in(letter)
        if isinstance(note, tuple):
            self._do(self._look_for(*note))
        elif note is not None:
            self._hear(note)

    def _greeted(self, letter: bytes) -> None:
        parts = letter.decode(errors="replace").split('"')
        pid = parts[-1].strip(" ,]")
        if len(parts) == 5 and pid.isdigit() and self._workers is not None:
            self._workers.watch(parts[3], int(pid))

    async def _look_for(self, key: str, ticket: str) -> None:
        for note in await self._step(key, "look for notes", partial(_renewed, ticket)):
            if not isinstance(note, Lost):
                self._hear(note)

    def _found_dead(self, worker: str) -> None:
        """Take a worker out, here and now if the database is free: somebody may wait for what it had."""
        if not self._worker:
            return
        try:
            found = self._database.attempt(partial(self._taken_out, worker))
        except (Busy, Refused, sqlite3.Error, OSError):  # the task waits, or tells
            self._do(self._take_out(worker))
        else:
            self._do(self._take_out(worker, self._told(found)))

    async def _take_out(self, worker: str, keys: Sequence[str] | None = None) -> None:
        await self._bury(worker, keys)
        if self._workers is not None:
            self._workers.forget(worker)

    async def _bury(self, worker: str, keys: Sequence[str] | None = None) -> None:
        """Take a worker out, and grant what it had to who is next; `keys` are what is left of that, if it has begun.

        Where this process ends in the middle of it, the next step of a lane does the rest, or renewal of who waits.
        """
        if keys is None:
            keys = self._told(await self._write("", "take a worker out", partial(self._taken_out, worker)))
        for key in keys:
            self._post((await self._write(key, "grant a lane", partial(self._promoted, key, worker))).notes)

    def _taken_out(self, worker: str, connection: sqlite3.Connection) -> tuple[list[Steps], list[str]]:
        """Return what has to be told, and the keys of lanes that are left: each is a transaction of its own."""
        connection.execute("DELETE FROM worker WHERE id = ?", (worker,))
        keys = keys_of(connection, worker)
        return [self._promoted(key, worker, connection) for key in keys[:AT_ONCE]], keys[AT_ONCE:]

    def _told(self, found: tuple[list[Steps], list[str]]) -> list[str]:
        for steps in found[0]:
            self._post(steps.notes)
        return found[1]

    def _promoted(self, key: str, dead: str, connection: sqlite3.Connection) -> Steps:
        steps, rows = self._steps(connection, key)
        for place in rows.places():
            if place.worker == dead and not place.lent:
                rows.drop(place.ticket)
        steps.promote()
        return steps

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:  # the next renewal finds what was missed
            logger.warning("engine_task_failed where=%s", self.where, exc_info=task.exception())

    # -- small things

    def _let_go(self) -> None:
        letters, workers, self._letters, self._workers = self._letters, self._workers, None, None
        if letters is not None:
            letters.close()
        if workers is not None:
            workers.close()

    def close_in_child(self) -> None:
        """Close, in a forked process, what would keep its parent's worker alive."""
        self._is_inherited = True
        if self._letters is not None:
            self._letters.close_in_child()
        if self._workers is not None:
            self._workers.close_in_child()

    def _unavailable(self, error: Exception, operation: str, key: str) -> EngineUnavailable:
        if isinstance(error, sqlite3.Error):
            reason = reason_of(error)
        else:
            reason = getattr(error, "strerror", None) or str(error)
        return EngineUnavailable(self.where, operation=operation, reason=reason, key=key)


def _renewed(ticket: str, steps: Steps) -> list[Note]:
    return steps.renew(ticket)


def _nobody(_: Told) -> None:
    pass


async def _aside(job: Callable[[], object]) -> None:
    # In a thread of its own: all those of a server, and of its loop, may wait for a turn.
    executor = ThreadPoolExecutor(1)
    done = asyncio.get_running_loop().run_in_executor(executor, job)
    executor.shutdown(wait=False)
    await done


def _close_in_children(engine: LocalEngine) -> None:
    reference = ref(engine)

    def in_child() -> None:
        found = reference()
        if found is not None:
            found.close_in_child()

    os.register_at_fork(after_in_child=in_child)


def _enrolled(connection: sqlite3.Connection, worker: str) -> list[tuple[str, int]]:
    connection.execute("INSERT INTO worker VALUES (?, ?)", (worker, os.getpid()))
    return _enrolled_ones(connection)


def _enrolled_ones(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    return list(connection.execute("SELECT id, pid FROM worker"))
