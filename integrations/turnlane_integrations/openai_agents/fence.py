"""`FencedSession`: any session of openai-agents, which refuses to store behind what somebody else has written."""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, TypeVar

from agents import OpenAIConversationsSession, Session, SessionSettings, TResponseInputItem
from agents.memory import is_openai_responses_compaction_aware_session

from turnlane import Transcripts, Turn
from turnlane.transcripts.working import to_its_end
from turnlane_integrations._across_loops import AcrossLoops
from turnlane_integrations._checked import some_transcripts
from turnlane_integrations._refused import kind_of, refused

__all__ = ("FencedSession",)

_T = TypeVar("_T")


class FencedSession:
    """Wraps a session, so that what a run has shown to the model must still be there when the answer is stored.

    Guarantees: items that others have added, changed or taken away since the run began are found when the next items
    are to be stored: that is a `TranscriptTakeover`, nothing is stored, and the items are in the salvage. It begins
    anew with each run of a `LaneRunner`; outside of these, one wrapper is for one run, which begins at `get_items`.

    Not guaranteed: that a write in the very moment between that look and the storing is found; runs through a
    `LaneRunner` leave no such moment to each other. A run inside a run, or beside it in one turn, must use the same
    wrapper, to which another one's items are foreign; and items that their session forgets by itself, as expired ones,
    are taken away by others.

    Mutable: `_seen`, what the items were when they were proven last, None outside of runs; `_turn` and `_runs`, the
    turn that it is of, and how many of its runs go on. A look and its write are one step, under `_one_at_a_time`.

    Args:
        session: where the items are. What else is done to items goes around this wrapper:
            `OpenAIResponsesCompactionSession(id, FencedSession(session, ...))`.
        salvage: where refused items go, as the transcript of the session's id.

    Raises:
        ValueError: `salvage` is none; or the session compacts itself, or is an `OpenAIConversationsSession`, which a
            run must see as such.
    """

    def __init__(self, session: Session, *, salvage: Transcripts) -> None:
        if isinstance(session, OpenAIConversationsSession):
            raise ValueError(f"{session!r} keeps its items at OpenAI, and openai-agents treats no wrapper of it so")
        if is_openai_responses_compaction_aware_session(session):
            raise ValueError(f"{session!r} compacts itself: put the fence inside, around the session that it wraps")
        self.session_id: str = session.session_id
        self.session_settings: SessionSettings | None = session.session_settings
        self.underlying_session: Session = session
        self._salvage = some_transcripts(salvage, "salvage")
        self._seen: list[bytes] | None = None
        self._turn, self._runs = "", 0
        self._one_at_a_time = AcrossLoops()
        methods = (session.get_items, session.add_items, session.pop_item, session.clear_session)
        self._takes_wrapper = all("wrapper" in inspect.signature(method).parameters for method in methods)

    def __repr__(self) -> str:
        return f"<FencedSession {self.underlying_session!r}>"

    def __getattr__(self, name: str) -> Any:
        """Return what the session has beyond the protocol, but no private ways to write past the fence."""
        if name.startswith("_") or name == "underlying_session":
            raise AttributeError(f"a FencedSession has no {name}")
        return getattr(self.underlying_session, name)

    async def get_items(
        self, limit: int | None = None, *, wrapper: Any = None, **others: Any
    ) -> list[TResponseInputItem]:
        """Return the items of the session, and remember all of them if that is where the run begins.

        With `others`, as the `branch_id` of an `AdvancedSQLiteSession`, return what the session returns for them.
        """
        if others:
            return await self.underlying_session.get_items(limit, **self._with(wrapper), **others)
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if self._seen is None:
            self._seen = await self._now(wrapper)
        return await self.underlying_session.get_items(limit, **self._with(wrapper))

    async def add_items(self, items: list[TResponseInputItem], *, wrapper: Any = None) -> None:
        """Store items, if nobody else has written since this run began.

        Raises:
            TranscriptTakeover: somebody has; the items are in the salvage.
        """
        async with self._one_at_a_time:
            before = await self._prove("append", wrapper, items)
            adding = self.underlying_session.add_items(items, **self._with(wrapper))
            await self._write(adding, before, [*before, *map(_digest, items)], wrapper)

    async def pop_item(self, *, wrapper: Any = None) -> TResponseInputItem | None:
        """Take the last item away and return it; None where there is none.

        Raises:
            TranscriptTakeover: somebody else has written.
        """
        async with self._one_at_a_time:
            before = await self._prove("rollback", wrapper)
            popping = self.underlying_session.pop_item(**self._with(wrapper))
            return await self._write(popping, before, before[:-1], wrapper)

    async def clear_session(self, *, wrapper: Any = None) -> None:
        """Take all items away.

        Raises:
            TranscriptTakeover: somebody else has written.
        """
        async with self._one_at_a_time:
            before = await self._prove("rollback", wrapper)
            await self._write(self.underlying_session.clear_session(**self._with(wrapper)), before, [], wrapper)

    @asynccontextmanager
    async def guarded(self, turn: Turn) -> AsyncGenerator[None, None]:
        """Begin anew for a turn, inside the block; its other runs go on with what has been seen, to the last end."""
        if self._turn != turn.id:
            self._turn, self._runs, self._seen = turn.id, 0, None
        self._runs += 1
        try:
            async with self._one_at_a_time:
                if self._seen is None:
                    self._seen = await self._now(None)
            yield
        finally:
            if self._turn == turn.id:
                self._runs -= 1
                if not self._runs:
                    self._turn, self._seen = "", None

    def _with(self, wrapper: Any) -> dict[str, Any]:
        return {"wrapper": wrapper} if self._takes_wrapper and wrapper is not None else {}

    async def _now(self, wrapper: Any) -> list[bytes]:
        # Sessions read None as "the settings' limit"; all of them take any number.
        return [_digest(item) for item in await self.underlying_session.get_items(2**31 - 1, **self._with(wrapper))]

    async def _prove(self, phase: str, wrapper: Any, items: Sequence[TResponseInputItem] = ()) -> list[bytes]:
        seen, now = self._seen, await self._now(wrapper)
        if seen is None or seen == now:
            return now
        raise await refused(
            self._salvage,
            self.session_id,
            ({"item": item} for item in items),
            where=f"session {self.session_id!r}",
            kind=kind_of(seen, now),
            expected=f"{len(seen)} items",
            found=f"{len(now)} items",
            phase=phase,
        )

    async def _write(self, writing: Awaitable[_T], before: list[bytes], after: list[bytes], wrapper: Any) -> _T:
        """Write, and see what is there then, also where the caller is cancelled: a write may be done all the same."""

        async def whole() -> _T:
            try:
                return await writing
            finally:
                if self._seen is not None:  # others may have added theirs by now: that is not ours
                    now = await self._now(wrapper)
                    self._seen = after if now != before and now[: len(after)] == after else now

        return await to_its_end(asyncio.ensure_future(whole()))


def _digest(item: TResponseInputItem) -> bytes:
    text = json.dumps(item, default=str)  # of which keys become text
    return sha256(json.dumps(json.loads(text), sort_keys=True).encode()).digest()
