"""Runs a mixed load through the middleware, with a runtime and files, on a seeded loop, and says what went wrong."""

# pyright: reportPrivateUsage=false

import asyncio
import contextvars
import random
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from races.duplicates_run import SlowDuplicates
from races.far_ends import SlowStore
from races.mixed_answers import Answers
from races.mixed_app import Answering, Sender, words_in
from races.mixed_book import Book
from races.mixed_load import Load
from races.mixed_watch import Watch
from races.plans import FOREVER
from races.runner import Result, run_whole
from races.traffic import Incident
from support.lanes_invariants import broken_promises, leftovers
from support.seeded_loop import LoopClock, SeededLoop, until_blocked
from turnlane import (
    Coalesce,
    LaneMiddleware,
    Lanes,
    Rollback,
    Runtime,
    Sessions,
    Steer,
    Transcripts,
    Turn,
    keys,
)
from turnlane.asgi.keepalive import KeepAlive
from turnlane.duplicates import Duplicates, MemoryDuplicateStore
from turnlane.lanes.endings import is_over
from turnlane.lanes.gate import Gate
from turnlane.policies import Policy

__all__ = ("MixedRun", "run_mixed")

KEY, PRINCIPAL, NUMBER = "x-session-key", "x-principal", "x-number"


def principal_of(connection: Any) -> str | None:
    """Return for whom a request is made."""
    found: str | None = connection.headers.get(PRINCIPAL)
    return found


class MixedRun:
    """One run: the server in front of the middleware, and the app behind it."""

    def __init__(
        self, load: Load, loop: SeededLoop, directory: str, gate_class: type[Gate], incidents: Sequence[Incident]
    ) -> None:
        self.load = load
        self.loop = loop
        self.wrong: list[str] = []
        self.book = Book(self.wrong)
        self.answers = Answers(load, self.book)
        self.senders = [Sender(number, load) for number in range(len(load.asks))]
        self.arrivals = self.steps = 0
        clock = LoopClock(loop)
        self.lanes = Lanes(
            max_running=load.max_running,
            max_running_per_principal=load.max_running_each,
            max_waiting_per_principal=load.max_waiting_each,
            slow_after=None,
            clock=clock,
        )
        self.lanes.gate = gate_class(limits=self.lanes.limits, hooks=self.lanes.hooks, clock=clock, slow_after=None)
        self.watch = Watch(self.senders, self.book, self.lanes, loop)
        self.transcripts = Transcripts(directory, trace_turns=True, clock=clock)
        sessions = Sessions() if load.sessions == "memory" else Sessions(SlowStore())
        self.runtime = Runtime(lanes=self.lanes, sessions=sessions, transcripts=self.transcripts)
        duplicates: Duplicates | str | None = None if load.once == "none" else "memory://"
        if load.once in ("memory", "slow"):
            store = SlowDuplicates() if load.once == "slow" else MemoryDuplicateStore()
            duplicates = Duplicates(store, while_running=load.while_running, wait_timeout=900, clock=clock)
        key = keys.header(KEY) if load.key_in == "header" else keys.json_body("session")
        self.middleware = LaneMiddleware(
            self.app,
            key=keys.scoped_by(principal_of, key) if load.scoped else key,
            principal=None if load.scoped else principal_of,
            runtime=self.runtime,
            policy=self._policy_of,
            turn_timeout=load.turn_timeout,
            release_on=load.release_on,
            on_disconnect=load.on_disconnect,
            idempotency=duplicates,
            redirect_status=load.redirect_status,
            keepalive=None if load.keepalive is None else KeepAlive(after=load.keepalive, every=0.5),
            trusted_keys=True,
        )
        for incident in incidents:
            happen = self._leave if incident.what == "leave" else self._cancel
            loop.before(incident.step, partial(happen, self.senders[incident.call]))

    async def main(self) -> None:
        """Make every request, wait until every task has ended, then look at each lane from a turn of its own."""
        loop = asyncio.get_running_loop()
        for sender in self.senders:
            sender.task = loop.create_task(self._request(sender), context=contextvars.Context())
        bodies = [loop.create_task(self._send_body(sender)) for sender in self.senders]
        await asyncio.wait([*(sender.task for sender in self.senders if sender.task is not None), *bodies])
        await until_blocked()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            self.wrong.append(f"tasks are left: {left}")
        if not self.wrong:
            for lane in {sender.lane: None for sender in self.senders}:
                async with self.runtime.turn(lane, policy=FOREVER):
                    self.book.check_lane(lane)
        await self.runtime.aclose()
        self.steps = self.loop.steps

    def result(self) -> Result:
        """Return what the run took; an outcome besides those of clients is what was rolled back."""
        doomed = sum(bool(self.book.doomed.get(author)) for _, author, _ in self.book.stored)
        return Result(self.steps, len(self.senders), {**self.answers.seen, "rolled back": doomed})

    # -- the server

    async def _request(self, sender: Sender) -> None:
        await _passes(sender.ask.delay)
        named = {"content-type": "application/json", NUMBER: str(sender.number), PRINCIPAL: sender.ask.principal}
        if self.load.key_in == "header":
            named[KEY] = sender.ask.key
        if sender.ask.once:
            named["idempotency-key"] = sender.word
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": ("127.0.0.1", 50_000 + sender.number),
            "extensions": {},
        }
        try:
            await self.middleware(scope, partial(self._receive, sender), partial(self._send, sender))
        except asyncio.CancelledError as error:
            sender.failure = error
            if not sender.cancelled and not self.loop.ending:
                self.wrong.append(f"request {sender.number} was cancelled by nobody")
        except Exception as error:
            sender.failure = error
        task = asyncio.current_task()
        if task is not None and task.cancelling() and not sender.cancelled and not self.loop.ending:
            self.wrong.append(f"a cancellation of request {sender.number} was not taken back")

    async def _send_body(self, sender: Sender) -> None:
        await _passes(sender.ask.delay)
        half = len(sender.body) // 2 if sender.ask.gap else 0
        if half:
            sender.give({"type": "http.request", "body": sender.body[:half], "more_body": True})
            await _passes(sender.ask.gap)
        if not sender.left:
            sender.give({"type": "http.request", "body": sender.body[half:], "more_body": False})

    async def _receive(self, sender: Sender) -> Message:
        while not sender.incoming:
            if sender.left or sender.whole:
                sender.barred = sender.barred or (sender.left and not sender.began)
                return {"type": "http.disconnect"}
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            sender.changed.append(changed)
            await changed
        message = sender.incoming.popleft()
        sender.read_whole = not message["more_body"]
        if sender.asked and sender.arrived is None and sender.read_whole:
            self._arrive(sender)
        return message

    async def _send(self, sender: Sender, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 429:
            self.book.spare(sender.number)
        if not sender.left:
            sender.messages.append(message)
            sender.wake()
        elif self.load.wire_breaks:
            raise OSError("the client has left")
        await _passes(1 + self.load.slow_wire)

    def _leave(self, sender: Sender) -> None:
        sender.leave(self.loop.passes)

    def _cancel(self, sender: Sender) -> None:
        if sender.task is not None and sender.task.cancel():
            sender.cancelled = True
            sender.barred = not sender.began

    def _policy_of(self, connection: Any) -> Policy:
        """Tell the policy of a request; in this very step it stands in its line, unless its policy needs the body."""
        sender = self.senders[int(connection.headers[NUMBER])]
        sender.asked = True
        if sender.read_whole or not isinstance(sender.ask.policy, Coalesce | Steer):
            self._arrive(sender)
        return sender.ask.policy

    def _arrive(self, sender: Sender) -> None:
        self.arrivals += 1
        sender.arrived, sender.left_in_pass = self.arrivals, self.loop.passes
        holder = self.lanes.gate.table.holders.get(sender.lane)
        if isinstance(sender.ask.policy, Rollback) and holder is not None and not is_over(holder):
            self.book.doom(holder, sender.number)

    # -- the app

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, answer the messages of the turn."""
        sender = self.senders[int(dict(scope["headers"])[NUMBER.encode()])]
        turn: Turn = scope["state"]["turn"]
        body, more = b"", True
        words = self.watch.begin(sender, turn)
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body, more = body + message["body"], message["more_body"]
            if words_in(body) != words:
                self.wrong.append(f"request {sender.number} has the body {body!r}, its turn answers {words}")
            answering = Answering(self.load, self.book, sender, turn, words, self.watch.still_there)
            await answering.run(self.transcripts, receive, send, self.watch.end)
        finally:
            self.watch.end(sender)

    def look_inside(self) -> None:
        """Check the table after every fourth step of the loop; the other runs look after each."""
        if not self.wrong and self.loop.steps % 4 == 0:
            self.wrong += broken_promises(self.lanes.gate.table)

    # -- the end

    def check_end(self) -> None:
        """Check what must hold when every request has ended."""
        if self.wrong:
            return
        self.wrong += leftovers(self.lanes)
        settings = self.middleware._settings
        held: dict[str, Any] = {
            "timers": self.loop.armed(),
            "bytes of bodies": settings.budget.held,
            "beats": None if settings.beats is None else settings.beats._rhythms,
            "messages that run": None if settings.duplicates is None else settings.duplicates._here,
            "turns to be taken back": self.lanes.gate.debts,
        }
        self.wrong += [f"{what} are left: {found}" for what, found in held.items() if found]
        self.book.check_words()
        self.watch.check_end()
        for sender in self.senders:
            wrong = self.answers.check(sender)
            if wrong is not None:
                self.wrong.append(f"request {sender.number}: {wrong}")


async def _passes(passes: int) -> None:
    for _ in range(passes):
        await asyncio.sleep(0)


def run_mixed(
    load: Load,
    seed: int | None,
    incidents: Sequence[Incident] = (),
    *,
    gate_class: type[Gate] = Gate,
    look_inside: bool = True,
) -> Result:
    """Run a load once; `seed` draws the order of the loop, None is the order of a plain loop.

    Planted bugs come in by another `gate_class`.

    Raises:
        Finding: a promise was broken.
    """
    state = random.getstate()
    random.seed(0 if seed is None else seed)  # how long who finds the lock of a file taken waits is drawn, too
    try:
        with tempfile.TemporaryDirectory(prefix="turnlane-mixed-") as directory:
            return run_whole(
                lambda loop: MixedRun(load, loop, directory, gate_class, incidents),
                seed,
                look_inside=look_inside,
                again=lambda: f"again: run_mixed({load.name}, {seed}, {list(incidents)}) with {load}",
            )
    finally:
        random.setstate(state)
