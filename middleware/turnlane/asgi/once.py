"""One request whose message may have arrived before: looked up, run once, its answer kept, or answered with that."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnlane import errors
from turnlane.asgi.body import ClientGone, RequestBody
from turnlane.asgi.deadlines import bounded_by_client
from turnlane.asgi.idempotency import BY_KEY, BY_RETRY, message_of
from turnlane.asgi.recorder import Recorder, asks_for_another_attempt
from turnlane.asgi.refusals import REFUSED, refusal_of
from turnlane.asgi.sharing import replay
from turnlane.duplicates import Answer, Duplicates, MessageRecord, Run
from turnlane.duplicates import Message as SentMessage
from turnlane.hooks import DuplicateRefused, DuplicateReplayed
from turnlane.keys import raw_headers
from turnlane.lanes.gate import Gate
from turnlane.policies import Enqueue
from turnlane.turns import Turn
from turnlane.turns.chain import brought_by, read_chain
from turnlane.turns.context import _current

__all__ = ("Once",)

REPLAYED = (b"idempotent-replayed", b"true")
Stop = Callable[[errors.CapacityExceeded | ClientGone], None]


class Once:
    """Sees to it that the message of one request runs at most once.

    `enter` answers a duplicate, or says that the request goes on. Then `app` and `send` take the place of the app and
    of the server's `send`; `begin` must be called when nothing else keeps it from running, and `leave` when it has
    ended, however it has.

    What becomes of the message is settled by what was seen last:

    * the app was not called (refused, its client left the line) and no other turn took the message: it is a new message
      again;
    * an answer was sent to its end, by the app or by the table of refusals: it is kept, before its last part is sent;
    * the answer asks for another attempt (a refusal with Retry-After that left the app as an error; any such status
      where only the retry count names the message): it is a new message again;
    * the app was called, and there is no whole answer (it raised, was cancelled, stopped since its client left): its
      outcome is unknown.

    Mutable: `_run`, the right to run the message while it is not settled; `_began`, whether the app was called;
    `_invited`, whether it left with an error that asks to come again.
    """

    __slots__ = (
        "_app",
        "_began",
        "_body",
        "_duplicates",
        "_gate",
        "_hooks",
        "_invited",
        "_recorder",
        "_run",
        "_scope",
        "_send",
        "_stop",
    )

    def __init__(
        self,
        duplicates: Duplicates,
        gate: Gate,
        app: ASGIApp,
        scope: Scope,
        body: RequestBody,
        send: Send,
        stop: Stop,
    ) -> None:
        self._duplicates = duplicates
        self._gate = gate
        self._hooks = gate.hooks
        self._app = app
        self._scope = scope
        self._body = body
        self._send = send
        self._stop = stop
        self._recorder = Recorder(duplicates.max_answer)
        self._run: Run | None = None
        self._began = False
        self._invited = False

    # -- before the lane

    async def enter(self, key: str, session_id: str | None) -> bool:
        """Tell whether the request goes on; if not it has its answer.

        Args:
            key: of its session.
            session_id: the explicit id it goes by; then that names the session, whatever key it belongs to by now.

        Raises:
            RequestRefused: it is a duplicate without an answer, or its key can not be used.
            DuplicatesUnavailable, CapacityExceeded, ClientGone: it can not be told.
        """
        session = f"key {key}" if session_id is None else f"id {session_id}"
        message = await message_of(self._scope, self._body, session, retries=self._duplicates.retries)
        if message is None:
            return True
        try:
            found = await self._first(message, key)
        except errors.RequestRefused as refusal:
            if self._hooks.wants(DuplicateRefused):
                code = refusal_of(refusal).code
                self._hooks.emit(DuplicateRefused(key=key, message=message.id[:16], reason=code))
            raise
        if isinstance(found, Run):
            self._run = found
            return True
        if self._hooks.wants(DuplicateReplayed):
            self._hooks.emit(DuplicateReplayed(key=key, message=message.id[:16], status=found.status))
        self._body.forget()
        await replay(found, self._send, REPLAYED)
        return False

    async def _first(self, message: SentMessage, key: str) -> Run | Answer:
        param = BY_RETRY if message.by_retry else BY_KEY
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience()
        stop: asyncio.Future[None] | None = None
        while True:
            found = await self._duplicates.claim(message)
            if isinstance(found, Run):
                return found
            answer = self._known(found, message, param)
            if answer is not None:
                return answer
            left = deadline - loop.time()
            if not self._duplicates.waits or left <= 0 or self._is_inside(key):
                raise errors.DuplicateRunning(param)
            if stop is None:
                stop = loop.create_future()
                self._body.watch(self._stopping(stop))
            await self._duplicates.change(message, found, timeout=left, stop=stop)
            if self._body.gone:
                raise ClientGone

    def _patience(self) -> float:
        bounded = bounded_by_client(Enqueue(wait_timeout=self._duplicates.wait_timeout), self._scope)
        return (bounded.wait_timeout or 0.0) if isinstance(bounded, Enqueue) else 0.0

    def _known(self, found: MessageRecord, message: SentMessage, param: str) -> Answer | None:
        """Return the answer a duplicate gets, None while there is none yet."""
        if found.fingerprint != message.fingerprint:
            raise errors.IdempotencyKeyReused(param)
        if found.state == "stream" or (found.stream and found.state != "waiting"):
            raise errors.DuplicateOfStream(param)
        if found.state == "not_kept":
            raise errors.DuplicateNotKept(param, max_answer=self._duplicates.max_answer)
        if found.state == "unknown":
            raise errors.DuplicateOutcomeUnknown(param)
        return found.answer

    def _stopping(self, stop: "asyncio.Future[None]") -> Stop:
        def stopped(error: errors.CapacityExceeded | ClientGone) -> None:
            if not stop.done():
                stop.set_result(None)
            self._stop(error)  # it may be in the line of its lane by now

        return stopped

    def _is_inside(self, key: str) -> bool:
        """Tell whether this request comes from inside a turn of the key: what it would wait for waits for it."""
        turn = _current.get()
        chains = [read_chain(raw_headers(self._scope)) if turn is None else None]
        callers: list[Turn] = []
        while turn is not None:
            callers.append(turn)
            chains.append(brought_by(turn))
            turn = turn._parent
        for brought in chains:
            callers += () if brought is None else brought.callers(self._gate)
        return any(caller.key == key and caller.running for caller in callers)

    # -- in the lane

    async def begin(self) -> None:
        """Say that the app is about to be called; before others are told that their messages are part of its turn.

        Raises:
            DuplicateRunning: somebody else has the message.
            DuplicatesUnavailable: it can not be told.
        """
        run = self._run
        if run is None or await self._duplicates.begin(run):
            return
        if not run.message.by_retry:
            raise errors.DuplicateRunning(BY_KEY)
        # An equal message that is new is known in its place: sent twice on purpose it runs twice.
        self._run = None
        await self._duplicates.free(run)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app, after `begin`."""
        self._began = True
        try:
            await self._app(scope, receive, send)
        except REFUSED as error:
            self._invited = refusal_of(error).retry
            raise

    async def send(self, message: Message) -> None:
        """Send a message of the response, with what can be kept taken down before."""
        run = self._run
        if run is not None and self._began:
            self._recorder.take(message)
            if self._recorder.complete or self._recorder.is_event_stream:
                try:
                    await self._settle(run)
                finally:
                    # Also if that was cancelled: it is settled then, and for the turn this message counts as sent.
                    await self._send(message)
                return
        await self._send(message)

    async def _settle(self, run: Run) -> None:
        recorder, duplicates = self._recorder, self._duplicates
        self._run = None
        status = recorder.status or 0
        if self._invited or (run.message.by_retry and asks_for_another_attempt(status, recorder.headers)):
            await duplicates.free(run)
        elif run.message.stream or recorder.is_event_stream:
            await duplicates.finish(run, "stream")
        elif recorder.unkeepable:
            await duplicates.finish(run, "not_kept")
        else:
            await duplicates.finish(run, "answered", recorder.answer())

    # -- after it

    async def take_over(self) -> None:
        """Note that another turn has the message: what is sent from now on is its answer."""
        run = self._run
        if run is not None and not self._began:
            self._began = True  # also where the store can not be told, or this is cancelled: it must not run again
            with suppress(errors.DuplicatesUnavailable):
                self._began = await self._duplicates.begin(run)

    async def leave(self, *, taken: bool) -> None:
        """Settle what has not been settled; `taken` tells whether another turn has the message."""
        try:
            if taken:
                await self.take_over()
        finally:
            run, self._run = self._run, None
            if run is not None and self._began:
                await self._duplicates.finish(run, "unknown")
            elif run is not None:
                await self._duplicates.free(run)
