"""`Duplicates`: a message that has arrived before is known again, and runs at most once."""

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar

from turnlane.arguments import seconds
from turnlane.clock import Clock
from turnlane.duplicates._arguments import count, store_for
from turnlane.duplicates.contract import Answer, DuplicateStore, MessageRecord, MessageState
from turnlane.errors import DuplicatesUnavailable
from turnlane.settled import settled

__all__ = ("Duplicates", "Message", "Run")

_T = TypeVar("_T")

RETRY_KEEP = 900.0  # seconds; a client that gave up comes again within two minutes
DAY = 86_400.0
LONGEST_KEEP = 10 * 366 * DAY
CLAIM_TRIES = 20
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between two looks at a message another process runs

logger: logging.Logger = logging.getLogger("turnlane.duplicates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, as it is told from others.

    Attributes:
        id: 64 hex digits; the same for the same message.
        fingerprint: of what was sent.
        stream: whether it asks for a stream.
        by_retry: whether it is known by its content and the client's retry count, for it has no idempotency key.
        anew: whether it is a new message, although an equal one may be known.
    """

    id: str
    fingerprint: str
    stream: bool = False
    by_retry: bool = False
    anew: bool = False


class Run:
    """The right to run one message, in this process.

    Mutable: `waiting`, for whom its end is news; `ousted`, the record of an equal message that has not ended, in whose
    place this one is known.
    """

    __slots__ = ("id", "message", "ousted", "waiting")

    def __init__(self, message: Message) -> None:
        self.id: str = uuid.uuid4().hex
        self.message: Message = message
        self.ousted: MessageRecord | None = None
        self.waiting: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<Run {self.id[:8]} of message {self.message.id[:16]}>"

    def tell(self) -> None:
        """Wake those who wait, in whatever loop they do."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, future)


class Duplicates:
    """Remembers the messages that arrived and the answers they got: `LaneMiddleware(idempotency=Duplicates(...))`.

    Guarantees: a message that is known runs at most once, whoever is cancelled, leaves or is killed when; its answer
    is kept before the client has the whole of it. A store that can not tell means that the message is not run.

    Not guaranteed: that a message is known for longer than `keep` seconds after it was answered, or after `limit`
    others were: it is a new one then; or that a message was answered: one whose process died is not run again either.

    Opens at first use in the running loop, works in several loops one after the other, and can be used again after
    `aclose`. Whoever makes one closes it; one that `LaneMiddleware` makes of a URL is closed with its runtime.

    Args:
        store: `memory://`, `sqlite:///relative/file.db`, `sqlite:////absolute/file.db`, or a store. A store that is
            given stays open: whoever made it closes it.
        keep: seconds for which a message is known after its end.
        limit: how many messages that have ended are known; the first to end goes first.
        max_answer: bytes of body and headers of an answer; one that is larger is not kept, and its duplicates refused.
        retries: take a request without an idempotency key, with `x-stainless-retry-count` above 0, for the same message
            as the last equal one of its session (path, query, content type, body) with a count of 0. Known for at most
            15 minutes; equal messages with a count of 0 are always new ones.
        while_running: what a duplicate gets while its message waits or runs: `refuse`, 409 with Retry-After; or `wait`,
            the answer, once it is there.
        wait_timeout: seconds a duplicate waits at most, and no longer than its client does; then it is refused.
        clock: replaces the machine's clock, in tests.

    Raises:
        ValueError: an argument is out of its range, or the URL is not understood.
    """

    # Mutable: _here, the runs of this process by id; _opened, whether the store was opened by this object.

    def __init__(
        self,
        store: str | DuplicateStore = "memory://",
        *,
        keep: float = DAY,
        limit: int = 10_000,
        max_answer: int = 64 * 1024,
        retries: bool = False,
        while_running: Literal["refuse", "wait"] = "refuse",
        wait_timeout: float = 300.0,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(store, str | DuplicateStore):
            raise ValueError(f"a duplicate store is a URL or a DuplicateStore, not {store!r}")
        if not isinstance(retries, bool):
            raise ValueError(f"retries must be True or False, not {retries!r}")
        if while_running not in ("refuse", "wait"):
            raise ValueError(f"while_running must be 'refuse' or 'wait', not {while_running!r}")
        self.keep: float = min(seconds("keep", keep, above_zero=True), LONGEST_KEEP)
        self.limit: int = count("limit", limit, least=1)
        self.max_answer: int = count("max_answer", max_answer, least=0)
        self.retries: bool = retries
        self.waits: bool = while_running == "wait"
        self.wait_timeout: float = min(seconds("wait_timeout", wait_timeout), LONGEST_KEEP)
        self._owned = isinstance(store, str)
        self._store = store_for(store) if isinstance(store, str) else store
        self._wall_ns = (clock or Clock()).wall_ns
        self._here: dict[str, Run] = {}
        self._opened = False

    def __repr__(self) -> str:
        return f"<Duplicates {self._store.where} {'open' if self._opened else 'not open'} here={len(self._here)}>"

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the store if it was made here. Harmless to call again, and in a forked child."""
        self._opened = False
        if self._owned:
            await self._written(self._store.aclose())

    async def claim(self, message: Message) -> Run | MessageRecord:
        """Return the right to run a message, or what is known of it.

        Who gets a `Run` must end it by `finish` or `free`. A cancellation leaves nothing claimed.

        Raises:
            DuplicatesUnavailable: the store could not tell.
        """
        await self._open()
        run = Run(message)
        self._here[run.id] = run  # before the store knows it: nobody may take it for one that was left behind
        won = False
        try:
            record = await self._claimed(run)
            won = record.run == run.id
            return run if won else record
        except BaseException:
            await self._let_go(run)
            raise
        finally:
            if not won:
                self._forget(run)

    async def begin(self, run: Run) -> bool:
        """Say that the app is about to be called; False if it must not be, since somebody else has the message."""
        return await self._written(self._store.begin(run.message.id, run.id))

    async def finish(self, run: Run, state: MessageState, answer: Answer | None = None) -> None:
        """End a run whose app was called. A store that can not take it is logged: the message counts as `unknown`."""
        message, now = run.message, self._now()
        keep = min(self.keep, RETRY_KEEP) if message.by_retry else self.keep
        record = self._record(run, state=state, expires=now + keep, answer=answer)
        try:
            await self._written(self._store.finish(message.id, record, at=now, limit=self.limit))
        except DuplicatesUnavailable as error:
            logger.warning("answer_not_kept message=%s state=%s error=%s", message.id[:16], state, error)
        finally:
            self._forget(run)

    async def free(self, run: Run) -> None:
        """End a run whose app was not called, or asks to be called again: the message is a new one."""
        try:
            await self._let_go(run)
        finally:
            self._forget(run)

    async def change(
        self, message: Message, record: MessageRecord, *, timeout: float, stop: "asyncio.Future[None]"
    ) -> None:
        """Wait until a message that waits or runs has ended, for at most `timeout` seconds, or until `stop` is done.

        One of this process tells; at one of another process it is looked, at most half a second late.
        """
        run = self._here.get(record.run)
        if run is not None:
            told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            run.waiting.append(told)
            try:
                await asyncio.wait({told, stop}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if told in run.waiting:
                    run.waiting.remove(told)
            return
        now = asyncio.get_running_loop().time
        deadline, pause = now() + timeout, FIRST_PAUSE
        while not stop.done() and now() < deadline:
            found = await self._store.read(message.id)
            if found is None or found.run != record.run or found.is_finished or await self._is_lost(found):
                return
            await asyncio.wait({stop}, timeout=min(pause, max(deadline - now(), 0.0)))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _claimed(self, run: Run) -> MessageRecord:
        store, message = self._store, run.message
        mine = self._record(run, state="waiting", expires=self._now() + max(self.keep, DAY))
        replaces: MessageRecord | None = None
        for _ in range(CLAIM_TRIES):
            claim = await self._written(store.claim(message.id, mine, replaces=replaces, anew=message.anew))
            found = claim.record
            if claim.won:
                if message.anew and claim.replaced is not None and not claim.replaced.is_finished:
                    run.ousted = claim.replaced
                return found
            if found.is_finished:
                if found.expires > self._now():
                    return found
                replaces = found
            elif not await self._is_lost(found):
                return found
            elif found.state == "waiting":
                replaces = found  # its app was not called, and can not be any more: `begin` would say no
            else:
                await self._unknown(message, found)
        raise DuplicatesUnavailable(where=store.where, operation="claim", reason="others changed it all the time")

    async def _is_lost(self, record: MessageRecord) -> bool:
        """Tell whether nobody will ever finish a run."""
        if record.owner == self._store.owner:
            return record.run not in self._here
        return record.expires <= self._now() or await self._store.is_gone(record.owner)

    async def _unknown(self, message: Message, lost: MessageRecord) -> None:
        now = self._now()
        record = replace(lost, state="unknown", expires=now + self.keep)
        logger.warning("message_lost message=%s: the process that ran it has ended", message.id[:16])
        await self._written(self._store.finish(message.id, record, at=now, limit=self.limit))

    async def _let_go(self, run: Run) -> None:
        try:
            await self._written(self._store.free(run.message.id, run.id, restores=run.ousted))
        except DuplicatesUnavailable as error:
            logger.warning("message_not_freed message=%s error=%s", run.message.id[:16], error)

    def _forget(self, run: Run) -> None:
        self._here.pop(run.id, None)
        run.tell()

    def _record(self, run: Run, *, state: MessageState, expires: float, answer: Answer | None = None) -> MessageRecord:
        return MessageRecord(
            run=run.id,
            owner=self._store.owner,
            state=state,
            fingerprint=run.message.fingerprint,
            stream=run.message.stream,
            expires=expires,
            answer=answer,
        )

    async def _open(self) -> None:
        if not self._opened:
            await self._written(self._store.open())
            self._opened = True

    async def _written(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await (settled(work) if self._store.waits else work)

    def _now(self) -> float:
        return self._wall_ns() / 1e9


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
