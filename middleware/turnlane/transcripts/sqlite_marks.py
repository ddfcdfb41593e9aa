"""When everything of a transcript was read last, by the data version of the connection that writes.

SQLite changes the data version of a connection when, and only when, another connection has committed something. While
it stays, what was read then has been changed by this connection alone, whose writes are owned.
"""

import sqlite3
from collections import OrderedDict

from turnlane.transcripts.sqlite_tables import Key

__all__ = ("Mark", "Marks")

MOST = 1024

Mark = tuple[sqlite3.Connection, int]
"""A connection, and its data version. Those of two connections have nothing to do with each other."""


class Marks:
    """The marks of the transcripts that were read last; what is forgotten is read again. Used on the loop only.

    Mutable: `_marks`, oldest first, at most `MOST`.
    """

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: OrderedDict[Key, Mark] = OrderedDict()

    def get(self, key: Key) -> Mark | None:
        """Return the mark of a transcript, if it is known."""
        return self._marks.get(key)

    def put(self, key: Key, mark: Mark) -> None:
        """Note that everything of a transcript was found to be owned, and that it was read after the mark was."""
        self._marks[key] = mark
        self._marks.move_to_end(key)
        if len(self._marks) > MOST:
            self._marks.popitem(last=False)
