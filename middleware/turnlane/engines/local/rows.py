"""The lanes in SQLite: the tables, and one lane of them inside a transaction."""

import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import closing

from turnlane.engines.base import LaneView, Over, TicketView
from turnlane.engines.lane import Held, Lane, LaneRows, Place
from turnlane.sqlite import Schema

__all__ = ("SCHEMA", "SqliteRows", "keys_of", "views")

SCHEMA = Schema(
    application_id=0x54_4C_4C_4E,
    version=1,
    what="lanes",
    page_size=1024,  # a step writes one page to the log, and is a third faster than with pages of 4096
    statements=(
        """
        CREATE TABLE lane (
            key TEXT NOT NULL PRIMARY KEY,  -- of one row an empty blob: it has the last token of all lanes
            ticket TEXT,             -- that has it
            worker TEXT,
            token INTEGER NOT NULL,
            since REAL,              -- seconds of the machine's monotonic clock, as all times here
            owes_now INTEGER,        -- whether that one is to take something back first
            asked INTEGER,           -- to stop
            asked_by TEXT,
            grace REAL,
            rollback INTEGER,        -- whether what that one writes is to be taken back
            dropped TEXT,
            lends INTEGER,           -- whether it is granted together with others
            owes INTEGER NOT NULL,   -- the same for the next one
            paused INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE place (
            key TEXT NOT NULL,
            number INTEGER NOT NULL,
            ticket TEXT NOT NULL,
            worker TEXT NOT NULL,
            run INTEGER NOT NULL,    -- of those that are granted together
            tag TEXT NOT NULL,
            closes REAL NOT NULL,
            since REAL NOT NULL,
            payload BLOB NOT NULL,
            dropped TEXT NOT NULL,
            lent INTEGER NOT NULL,
            PRIMARY KEY (key, number)
        ) WITHOUT ROWID
        """,
        # No index: each is a page more that every hand-over writes, and lines are short.
        "CREATE TABLE fate (ticket TEXT NOT NULL PRIMARY KEY, key TEXT, how TEXT, into_ TEXT, payload BLOB, at REAL)",
        "CREATE TABLE worker (id TEXT NOT NULL PRIMARY KEY, pid INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO lane (key, token, owes, paused) VALUES (x'', 0, 0, 0)",
    ),
)

LANE = """
    SELECT ticket, worker, token, since, owes_now, asked, asked_by, grace, rollback, dropped, lends, owes, paused
    FROM lane WHERE key = ?
"""
PUT_LANE = "INSERT OR REPLACE INTO lane VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DROP_LANE = "DELETE FROM lane WHERE key = ?"
TOKEN = "UPDATE lane SET token = max(token + 1, ?) WHERE key = x'' RETURNING token"  # noqa: S105  no password
PLACE = "SELECT ticket, worker, number, run, tag, closes, since, payload, dropped, lent FROM place "
FIRST = PLACE + "WHERE key = ? ORDER BY number LIMIT 1"
LAST = PLACE + "WHERE key = ? ORDER BY number DESC LIMIT 1"
BY_TICKET = PLACE + "WHERE ticket = ? AND key = ?"
ALL = PLACE + "WHERE key = ? ORDER BY number"
OF_RUN = PLACE + "WHERE key = ? AND run = ? ORDER BY number"
AHEAD = "SELECT count(DISTINCT run) FROM place WHERE key = ? AND lent = 0 AND run < ?"
PUT_PLACE = """
    INSERT OR REPLACE INTO place (ticket, worker, number, run, tag, closes, since, payload, dropped, lent, key)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
DROP_PLACE = "DELETE FROM place WHERE ticket = ? AND key = ?"
FATE = "SELECT key, how, into_, payload FROM fate WHERE ticket = ?"
PUT_FATE = "INSERT OR REPLACE INTO fate VALUES (?, ?, ?, ?, ?, ?)"
DROP_FATES = "DELETE FROM fate WHERE at < ?"
ALIVE = "SELECT 1 FROM worker WHERE id = ?"
KEYS = "SELECT key FROM lane WHERE worker = ? UNION SELECT key FROM place WHERE worker = ?"
KEEP_FATES = 60.0  # seconds; whoever asks again does so within a few
HIGHEST = 2**63 - 1
NOBODY = (None, None, 0, *(None,) * 8)


class SqliteRows(LaneRows):
    """See `LaneRows`.

    Args:
        connection: in a transaction.
        key: of the lane.
        worker: whose connection it is.
        now: seconds of the machine's monotonic clock.
        wall_ns: tells nanoseconds since the epoch.
    """

    __slots__ = ("_execute", "_key", "_now", "_wall_ns", "_worker")

    def __init__(
        self, connection: sqlite3.Connection, key: str, worker: str, *, now: float, wall_ns: Callable[[], int]
    ) -> None:
        self._execute = connection.execute
        self._key = key
        self._worker = worker
        self._now = now
        self._wall_ns = wall_ns

    def lane(self) -> Lane | None:
        """Return the lane."""
        row = self._execute(LANE, (self._key,)).fetchone()
        if row is None:
            return None
        ticket, worker, token, since, owes_now, asked, by, grace, rollback, dropped, lends, owes, paused = row
        held = None
        if ticket is not None:
            stop = (bool(asked), by, grace, bool(rollback))
            held = Held(ticket, worker, token, since, bool(owes_now), *stop, _unpacked(dropped), bool(lends))
        return Lane(held, bool(owes), bool(paused))

    def put_lane(self, lane: Lane | None) -> None:
        """Keep it."""
        if lane is None:
            self._execute(DROP_LANE, (self._key,))
            return
        held = lane.held
        holder: tuple[object, ...] = NOBODY
        if held is not None:
            asked = (held.asked, held.by, held.grace, held.rollback, _packed(held.dropped), held.lends)
            holder = (held.ticket, held.worker, held.token, held.since, held.owes, *asked)
        self._execute(PUT_LANE, (self._key, *holder, lane.owes, lane.paused))

    def token(self) -> int:
        """Return the next token, of all lanes."""
        token: int = self._execute(TOKEN, (self._wall_ns() // 1000,)).fetchone()[0]
        return token

    def first(self) -> Place | None:
        """Return who came first."""
        return self._one(FIRST, self._key)

    def last(self) -> Place | None:
        """Return who came last."""
        return self._one(LAST, self._key)

    def place(self, ticket: str) -> Place | None:
        """Return where a ticket stands."""
        return self._one(BY_TICKET, ticket, self._key)

    def places(self, run: int | None = None) -> list[Place]:
        """Return all, or those of a run."""
        rows = self._execute(ALL, (self._key,)) if run is None else self._execute(OF_RUN, (self._key, run))
        return [_place(row) for row in rows]

    def ahead(self, run: int | None = None) -> int:
        """Count the runs."""
        found: int = self._execute(AHEAD, (self._key, HIGHEST if run is None else run)).fetchone()[0]
        return found

    def put(self, place: Place) -> None:
        """Keep a place."""
        standing = (place.number, place.run, place.tag, place.closes, place.since)
        what = (place.payload, _packed(place.dropped), place.lent)
        self._execute(PUT_PLACE, (place.ticket, place.worker, *standing, *what, self._key))

    def drop(self, ticket: str) -> None:
        """Take a ticket out."""
        self._execute(DROP_PLACE, (ticket, self._key))

    def fate(self, ticket: str) -> Over | None:
        """Return how a wait has ended."""
        row = self._execute(FATE, (ticket,)).fetchone()
        return None if row is None else Over(row[0], ticket, row[1], row[2], row[3])

    def put_fate(self, worker: str, over: Over) -> None:
        """Keep it for a while."""
        self._execute(DROP_FATES, (self._now - KEEP_FATES,))
        self._execute(PUT_FATE, (over.ticket, over.key, over.how, over.into, over.payload, self._now))

    def is_alive(self, worker: str, ticket: str) -> bool:
        """Tell whether a worker is known: whoever finds one dead takes it out."""
        return worker == self._worker or self._execute(ALIVE, (worker,)).fetchone() is not None

    def _one(self, statement: str, *values: object) -> Place | None:
        row = self._execute(statement, values).fetchone()
        return None if row is None else _place(row)


def keys_of(connection: sqlite3.Connection, worker: str) -> list[str]:
    """Return the keys of all lanes where a worker has tickets."""
    return [key for (key,) in connection.execute(KEYS, (worker, worker))]


def views(connection: sqlite3.Connection, key: str | None, *, now: float) -> list[LaneView]:
    """Return what lives, by key."""
    keys = [key]
    if key is None:
        with closing(connection.execute("SELECT key FROM lane WHERE key < x'' ORDER BY key")) as cursor:
            keys = [found for (found,) in cursor]
    lanes: list[LaneView] = []
    for each in keys:
        rows = SqliteRows(connection, each or "", "", now=now, wall_ns=int)
        lane = rows.lane()
        if lane is not None:
            held = None if lane.held is None else TicketView(lane.held.ticket, now - lane.held.since)
            waiting = tuple(TicketView(place.ticket, now - place.since) for place in rows.places())
            lanes.append(LaneView(each or "", held, waiting, lane.paused))
    return lanes


def _place(row: tuple[str, str, int, int, str, float, float, bytes, str, int]) -> Place:
    ticket, worker, number, run, tag, closes, since, payload, dropped, lent = row
    return Place(ticket, worker, number, run, tag, closes, since, payload, _unpacked(dropped), lent)


def _packed(messages: tuple[bytes, ...]) -> str:
    return json.dumps([b64encode(message).decode() for message in messages]) if messages else ""


def _unpacked(text: str) -> tuple[bytes, ...]:
    return tuple(b64decode(message) for message in json.loads(text)) if text else ()
