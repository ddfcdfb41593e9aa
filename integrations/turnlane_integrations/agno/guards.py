"""What one turn has seen of its session, in each database of agno it is in."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from turnlane.errors import TranscriptTakeover
from turnlane.settled import settled
from turnlane_integrations.agno.guard import Guard

__all__ = ("guard_of", "guarded")


class Guards:
    """What a turn knows of its session, in each database it is in: agents of one turn may have databases of their own.

    Mutable: `over`, when the turn has ended; `_in`, with each database.

    Args:
        session_id: of the session.
    """

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.over: bool = False
        self._in: dict[str, Guard] = {}

    def of(self, db_id: str) -> Guard:
        """Return the guard for a database; those of one storage have one id, as agno makes it."""
        return self._in.setdefault(db_id, Guard(self.session_id))

    async def takeover(self) -> TranscriptTakeover | None:
        """Keep what was refused, and return the first error there is to raise; None where nothing was."""
        found = [await guard.takeover() for guard in tuple(self._in.values())]
        return next((each for each in found if each is not None), None)


_guards: ContextVar[Guards | None] = ContextVar("turnlane_agno_guards", default=None)


def guard_of(session_id: str, db_id: str) -> Guard | None:
    """Return the guard of the turn this runs in; None where it runs in none, or in that of another session."""
    guards = _guards_of(session_id)
    return None if guards is None else guards.of(db_id)


def _guards_of(session_id: str) -> Guards | None:
    guards = _guards.get()
    return guards if guards is not None and guards.session_id == session_id and not guards.over else None


@asynccontextmanager
async def guarded(session_id: str) -> AsyncGenerator[None, None]:
    """Know for the block what it has seen of a session; one within another of the same session shares what it knows.

    Raises:
        TranscriptTakeover: somebody else has changed the session, and something could not be stored for that.
    """
    before = _guards.get()
    if _guards_of(session_id) is not None:
        yield
        return
    guards = Guards(session_id)
    _guards.set(guards)
    try:
        yield
    except Exception as error:
        takeover = await guards.takeover()
        if takeover is None:
            raise
        raise takeover from error
    except BaseException:  # a cancellation, or the end of a stream
        await settled(guards.takeover())
        raise
    else:
        takeover = await guards.takeover()
        if takeover is not None:
            raise takeover
    finally:
        guards.over = True
        _guards.set(before)
