"""`fenced_db`: any database of agno, which refuses to store behind what somebody else has written."""

from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from agno.db.base import AsyncBaseDb, BaseDb

from turnlane import Transcripts
from turnlane.settled import settled
from turnlane_integrations._checked import some_transcripts
from turnlane_integrations.agno.guard import Guard, Sight
from turnlane_integrations.agno.guards import guard_of

__all__ = ("fenced_db",)

D = TypeVar("D")

NARROWER = ("runs_limit", "deserialize")  # what of a read is not all of the session


def fenced_db(db: D, *, salvage: Transcripts) -> D:
    """Return a database like `db`, on the same storage, for `Agent(db=...)`, `Team(db=...)` and `Workflow(db=...)`.

    Guarantees: within a run of a `LaneRunner`, a session that others have changed, continued or deleted since the run
    has read it is found when the run stores the session or itself. Nothing of the run is stored then, its words are in
    the salvage, and it ends with a `TranscriptTakeover`, a stream after its last event. agno logs the refusal.

    Not guaranteed: that a write in the very moment between that look and the storing is found; runs through a
    `LaneRunner` leave no such moment to each other. Anything outside of such runs, as those `AgentOS` begins itself,
    and for sessions that agno keeps in memory (`cache_session`) and does not read again. It costs reading the whole
    session, before and after each time something is stored.

    Args:
        db: an asynchronous one, or one that is not.
        salvage: where refused words go, as the transcript of the session's id.

    Raises:
        ValueError: `db` is none of agno's, or fenced; or `salvage` is none.
    """
    kind: Any = type(db)
    if not issubclass(kind, BaseDb | AsyncBaseDb) or issubclass(kind, _Called | _Awaited):
        raise ValueError(f"a database of agno is needed, without a fence, not {db!r}")
    mixin = _Awaited if iscoroutinefunction(kind.upsert_session) else _Called
    fenced: Any = type(kind.__name__, (mixin, kind), {"__module__": kind.__module__})
    fenced._turnlane_salvage = some_transcripts(salvage, "salvage")
    made: D = fenced.__new__(fenced)
    made.__dict__ = db.__dict__  # the same, since some is where others are put in the place of what was stored
    return made


class _Called:
    """What a database does whose methods are not asynchronous."""

    id: str
    _turnlane_salvage: Transcripts

    def get_session(self, session_id: str, *args: Any, **options: Any) -> Any:
        guard = guard_of(session_id, self.id)
        if guard is not None and not guard.knows:
            with guard.storing_in_threads:
                if not guard.knows:
                    guard.how = _whole(args, options)
                    guard.see(self._now(guard))
        return cast("Any", super()).get_session(session_id, *args, **options)

    def upsert_session(self, session: Any, *args: Any, **options: Any) -> Any:
        return self._stored("upsert_session", session.session_id, session, *args, **options)

    def upsert_run(self, run: Any, session_id: str, *args: Any, **options: Any) -> Any:
        return self._stored("upsert_run", session_id, run, session_id, *args, **options)

    def _stored(self, method: str, of: str, *args: Any, **options: Any) -> Any:
        store, guard = getattr(cast("Any", super()), method), guard_of(of, self.id)
        if guard is None:
            return store(*args, **options)
        with guard.storing_in_threads:
            guard.require(self._now(guard), _words(method, args[0]), self._turnlane_salvage)
            found = store(*args, **options)
            guard.see(self._now(guard))
            return found

    def _now(self, guard: Guard) -> Sight | None:
        return Sight.of(cast("Any", super()).get_session(guard.session_id, **guard.how, deserialize=False))


class _Awaited:
    """The same of one whose methods are."""

    id: str
    _turnlane_salvage: Transcripts

    async def get_session(self, session_id: str, *args: Any, **options: Any) -> Any:
        guard = guard_of(session_id, self.id)
        if guard is not None and not guard.knows:
            guard.how = _whole(args, options)
            sight = await self._now(guard)
            if not guard.knows:  # else another run of the turn has read, and perhaps stored, since
                guard.see(sight)
        return await cast("Any", super()).get_session(session_id, *args, **options)

    async def upsert_session(self, session: Any, *args: Any, **options: Any) -> Any:
        return await self._stored("upsert_session", session.session_id, session, *args, **options)

    async def upsert_run(self, run: Any, session_id: str, *args: Any, **options: Any) -> Any:
        return await self._stored("upsert_run", session_id, run, session_id, *args, **options)

    async def _stored(self, method: str, of: str, *args: Any, **options: Any) -> Any:
        store, guard = getattr(cast("Any", super()), method), guard_of(of, self.id)
        if guard is None:
            return await store(*args, **options)

        async def step() -> Any:
            async with guard.storing:
                guard.require(await self._now(guard), _words(method, args[0]), self._turnlane_salvage)
                found = await store(*args, **options)
                guard.see(await self._now(guard))
                return found

        return await settled(step())  # a run that is cancelled stores more, and has to know what it has stored

    async def _now(self, guard: Guard) -> Sight | None:
        return Sight.of(await cast("Any", super()).get_session(guard.session_id, **guard.how, deserialize=False))


def _whole(args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return with what a session was read, but for what leaves out some of it."""
    named = dict(zip(("session_type", "user_id"), args, strict=False))
    return {name: value for name, value in (named | options).items() if name not in NARROWER}


def _words(method: str, of: Any) -> dict[str, Any]:
    """Return what was to be stored, as an object."""
    if method == "upsert_run":
        return {"run": of.to_dict()}
    return {"session": of.to_dict(include_runs=False)}
