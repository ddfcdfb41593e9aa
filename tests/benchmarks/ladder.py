"""Where the time of `LaneMiddleware` goes: middleware that do one thing more each, up to the whole.

Each one is written out as flat as the middleware itself, from whose short way the lines are. The extractor, and from
`RealGate` on the lanes, are those of the package.
"""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from abc import ABC, abstractmethod
from asyncio import current_task
from threading import get_ident

from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.peers import HEADER
from turnlane import Lanes, Turn, keys
from turnlane.asgi.responder import Responder
from turnlane.turns.context import _current
from turnlane.turns.turn import TurnState

RUNNING, ENDED = TurnState.RUNNING, TurnState.ENDED
METHODS = frozenset({"POST"})


class Rung(ABC):
    """What the steps share: the app, the extractor, lanes, and a lane as plain as can be."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.extractor = keys.header(HEADER.decode())
        self.lanes = Lanes()
        self.gate = self.lanes.gate
        self.holders: dict[str, object] = {}
        self.loop, self.thread = asyncio.get_running_loop(), get_ident()
        self.last_token = 0
        self.monotonic = self.lanes.clock.monotonic
        self.wall_offset = self.lanes.clock.wall() - self.monotonic()

    @abstractmethod
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

    def abandon(self, turn: Turn) -> None:
        """Let the lane go after an error."""
        self.gate.leave(turn, None)

    async def bind(self) -> None:
        """Bind the lanes to the running loop, as the first turn does."""
        async with self.lanes.turn("first"):
            pass


class Belongs(Rung):
    """Looks whether the request belongs into a lane: context, type, method."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        await self.app(scope, receive, send)


class HeaderScan(Rung):
    """Looks at each header, finds the key and decodes it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        wanted, key = HEADER, None
        for name, value in scope["headers"]:
            if name == wanted:
                key = value.decode()
        if key is not None:
            await self.app(scope, receive, send)


class CanonicalKey(Rung):
    """Does so by the extractor, which refuses two different keys, control characters and too long ones."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        key = self.extractor.key(scope)
        if key is not None:
            await self.app(scope, receive, send)


class BareLane(Rung):
    """Enters and leaves a lane that nobody can wait for: one entry in a dictionary."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        key = self.extractor.key(scope) or ""
        if key in self.holders:
            return
        self.holders[key] = None
        try:
            await self.app(scope, receive, send)
        finally:
            del self.holders[key]


class RunningTask(Rung):
    """Looks which task this is, and that the lanes belong to its loop."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        key = self.extractor.key(scope) or ""
        if get_ident() != self.thread:
            return
        task = current_task(self.loop)
        if task is None or key in self.holders:
            return
        self.holders[key] = task
        try:
            await self.app(scope, receive, send)
        finally:
            del self.holders[key]


class TokenAndStart(Rung):
    """Makes the token and notes the start."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        key = self.extractor.key(scope) or ""
        if get_ident() != self.thread:
            return
        task = current_task(self.loop)
        if task is None or key in self.holders:
            return
        started = self.monotonic()
        token = int((started + self.wall_offset) * 1e6)
        if token <= self.last_token:
            token = self.last_token + 1
        self.last_token = token
        self.holders[key] = token
        try:
            await self.app(scope, receive, send)
        finally:
            del self.holders[key]


class WithTurn(Rung):
    """Makes the turn."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        key = self.extractor.key(scope) or ""
        if get_ident() != self.thread:
            return
        task = current_task(self.loop)
        if task is None or key in self.holders:
            return
        started = self.monotonic()
        token = int((started + self.wall_offset) * 1e6)
        if token <= self.last_token:
            token = self.last_token + 1
        self.last_token = token
        turn = Turn()
        turn.key = key
        turn.token = turn._number = token
        turn.session = turn._parent = turn._wait = turn._end = turn._joins = turn._nested = turn._transcript = None
        turn._owner = self.gate
        turn._task = task
        turn._started = started
        turn._state = RUNNING
        turn._origin = scope.get("client")
        self.holders[key] = turn
        try:
            await self.app(scope, receive, send)
        finally:
            del self.holders[key]


class RealGate(Rung):
    """Looks and counts as the gate does: who waits, pauses, drains, hooks, endings."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        key = self.extractor.key(scope) or ""
        gate = self.gate
        loop, holders = gate._loop, gate.table.holders
        task = None if loop is None or gate.guarded or get_ident() != gate._thread else current_task(loop)
        if task is None or key in holders:
            return
        now = gate._monotonic()
        token = int((now + gate._wall_offset) * 1e6)
        if token <= gate._last_token:
            token = gate._last_token + 1
        gate._last_token = token
        turn = Turn()
        turn.key = key
        turn.token = turn._number = token
        turn.session = turn._parent = turn._wait = turn._end = turn._joins = turn._nested = turn._transcript = None
        turn._owner = gate
        turn._task = task
        turn._started = now
        turn._state = RUNNING
        turn._origin = scope.get("client")
        holders[key] = turn
        hooks = gate.hooks
        if hooks.active:
            return
        try:
            await self.app(scope, receive, send)
        except BaseException:
            self.abandon(turn)
            raise
        table = gate.table
        if key in table.lines or turn._end is not None or turn._joins is not None:
            return
        if gate.guarded or hooks.active or table.holders.get(key) is not turn:
            return
        turn._state = ENDED
        del table.holders[key]
        gate.outcomes.completed += 1


class ContextVariable(Rung):
    """Sets and resets the context variable of `current_turn`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        key = self.extractor.key(scope) or ""
        gate = self.gate
        loop, holders = gate._loop, gate.table.holders
        task = None if loop is None or gate.guarded or get_ident() != gate._thread else current_task(loop)
        if task is None or key in holders:
            return
        now = gate._monotonic()
        token = int((now + gate._wall_offset) * 1e6)
        if token <= gate._last_token:
            token = gate._last_token + 1
        gate._last_token = token
        turn = Turn()
        turn.key = key
        turn.token = turn._number = token
        turn.session = turn._parent = turn._wait = turn._end = turn._joins = turn._nested = turn._transcript = None
        turn._owner = gate
        turn._task = task
        turn._started = now
        turn._state = RUNNING
        turn._origin = scope.get("client")
        holders[key] = turn
        hooks = gate.hooks
        if hooks.active:
            return
        context = _current.set(turn)
        try:
            await self.app(scope, receive, send)
        except BaseException:
            self.abandon(turn)
            raise
        _current.reset(context)
        table = gate.table
        if key in table.lines or turn._end is not None or turn._joins is not None:
            return
        if gate.guarded or hooks.active or table.holders.get(key) is not turn:
            return
        turn._state = ENDED
        del table.holders[key]
        gate.outcomes.completed += 1


class State(Rung):
    """Puts the turn where `request.state.turn` finds it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        key = self.extractor.key(scope) or ""
        gate = self.gate
        loop, holders = gate._loop, gate.table.holders
        task = None if loop is None or gate.guarded or get_ident() != gate._thread else current_task(loop)
        if task is None or key in holders:
            return
        now = gate._monotonic()
        token = int((now + gate._wall_offset) * 1e6)
        if token <= gate._last_token:
            token = gate._last_token + 1
        gate._last_token = token
        turn = Turn()
        turn.key = key
        turn.token = turn._number = token
        turn.session = turn._parent = turn._wait = turn._end = turn._joins = turn._nested = turn._transcript = None
        turn._owner = gate
        turn._task = task
        turn._started = now
        turn._state = RUNNING
        turn._origin = scope.get("client")
        holders[key] = turn
        hooks = gate.hooks
        if hooks.active:
            return
        state = scope.get("state")
        if state is None:
            scope["state"] = {"turn": turn}
        else:
            state["turn"] = turn
        context = _current.set(turn)
        try:
            await self.app(scope, receive, send)
        except BaseException:
            self.abandon(turn)
            raise
        _current.reset(context)
        table = gate.table
        if key in table.lines or turn._end is not None or turn._joins is not None:
            return
        if gate.guarded or hooks.active or table.holders.get(key) is not turn:
            return
        turn._state = ENDED
        del table.holders[key]
        gate.outcomes.completed += 1


class WithResponder(Rung):
    """Remembers what was sent, so that an interrupted stream can be ended in-band."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _current.get() is not None or scope["type"] != "http" or scope["method"] not in METHODS:
            return
        key = self.extractor.key(scope) or ""
        gate = self.gate
        loop, holders = gate._loop, gate.table.holders
        task = None if loop is None or gate.guarded or get_ident() != gate._thread else current_task(loop)
        if task is None or key in holders:
            return
        now = gate._monotonic()
        token = int((now + gate._wall_offset) * 1e6)
        if token <= gate._last_token:
            token = gate._last_token + 1
        gate._last_token = token
        turn = Turn()
        turn.key = key
        turn.token = turn._number = token
        turn.session = turn._parent = turn._wait = turn._end = turn._joins = turn._nested = turn._transcript = None
        turn._owner = gate
        turn._task = task
        turn._started = now
        turn._state = RUNNING
        turn._origin = scope.get("client")
        holders[key] = turn
        hooks = gate.hooks
        if hooks.active:
            return
        responder = Responder()
        responder.raw_send = send
        responder.turn = None
        state = scope.get("state")
        if state is None:
            scope["state"] = {"turn": turn}
        else:
            state["turn"] = turn
        context = _current.set(turn)
        try:
            await self.app(scope, receive, responder.send)
        except BaseException:
            self.abandon(turn)
            raise
        _current.reset(context)
        table = gate.table
        if key in table.lines or turn._end is not None or turn._joins is not None:
            return
        if gate.guarded or hooks.active or table.holders.get(key) is not turn:
            return
        turn._state = ENDED
        del table.holders[key]
        gate.outcomes.completed += 1


STEPS: dict[str, type[Rung]] = {
    "+ belongs into a lane? (context, type, method)": Belongs,
    "+ header scan and decoding": HeaderScan,
    "+ key check (one value, canonical form)": CanonicalKey,
    "+ lane enter and leave (one dictionary entry)": BareLane,
    "+ task and loop": RunningTask,
    "+ token and start (clock)": TokenAndStart,
    "+ Turn": WithTurn,
    "+ the gate (states, counters, hooks)": RealGate,
    "+ context variable": ContextVariable,
    "+ scope state": State,
    "+ responder": WithResponder,
}
