"""The steps of plain turns in few statements: what `Steps` does where nothing else is there to be looked at."""

import sqlite3
from collections.abc import Callable

from turnlane.engines.base import Granted
from turnlane.engines.lane import A_MOMENT

__all__ = ("GIVE_BACK", "TAKE", "TAKEN", "handed_on")

# A turn that finds its lane idle, and leaves it idle: each a transaction of one statement. The first fails where the
# lane is not idle, and where its token is no new one: both rows are inserted then, or none.
TAKE = """
    INSERT INTO lane VALUES
        (?, ?, ?, ?, ?, 0, 0, '', 0.0, 0, '', 0, 0, 0),
        (x'', NULL, NULL, ?, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0)
    ON CONFLICT (key) DO UPDATE SET token = CASE WHEN key = x'' AND token < excluded.token THEN excluded.token END
"""
TAKEN = 2  # rows
GIVE_BACK = """
    DELETE FROM lane
    WHERE key = ? AND ticket = ? AND NOT rollback AND NOT owes AND NOT paused
        AND NOT EXISTS (SELECT 1 FROM place WHERE key = ?)
"""
NEXT = """
    SELECT place.number, place.ticket, place.worker, place.tag, place.dropped, place.closes, worker.id, last.token
    FROM lane
        JOIN lane AS last ON last.key = x''
        JOIN place ON place.key = lane.key
        LEFT JOIN worker ON worker.id = place.worker
    WHERE lane.key = ? AND lane.ticket = ?
        AND NOT lane.rollback AND NOT lane.owes AND NOT lane.paused AND NOT lane.lends
    ORDER BY place.number LIMIT 1
"""
LEAVE_LINE = "DELETE FROM place WHERE key = ? AND number = ?"
HAND_ON = """
    INSERT OR REPLACE INTO lane VALUES
        (?, ?, ?, ?, ?, 0, 0, '', 0.0, 0, '', 0, 0, 0),
        (x'', NULL, NULL, ?, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0)
"""


def handed_on(
    connection: sqlite3.Connection, key: str, ticket: str, *, now: float, wall_ns: Callable[[], int]
) -> tuple[str, Granted] | None:
    """Hand a lane on from the ticket that has it to one that stands first, alone and alive; return whose that is.

    None: something is not like that, and nothing was done.

    Args:
        connection: in a transaction.
        key: of the lane.
        ticket: leaves it, and owes nothing.
        now: seconds of the machine's monotonic clock.
        wall_ns: tells nanoseconds since the epoch.
    """
    row = connection.execute(NEXT, (key, ticket)).fetchone()
    if row is None:
        return None
    number, following, worker, tag, dropped, closes, alive, last = row
    if tag or dropped or alive is None or closes > now + A_MOMENT:
        return None
    token = max(last + 1, wall_ns() // 1000)
    connection.execute(LEAVE_LINE, (key, number))
    connection.execute(HAND_ON, (key, following, worker, token, now, token))
    return worker, Granted(key, following, token)
