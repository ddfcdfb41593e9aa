"""Runs messages, and the same messages again, on a seeded loop, and says what went wrong."""

# pyright: reportPrivateUsage=false

import asyncio
import contextvars
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from starlette.types import Message, Receive, Scope, Send

from races.plans import FOREVER
from races.runner import Result, plain_lanes, run_whole
from races.traffic import Incident
from support.lanes_invariants import leftovers
from support.seeded_loop import LoopClock, SeededLoop, until_blocked
from turnlane import Interrupt, LaneMiddleware, Reject
from turnlane.duplicates import Claim, Duplicates, DuplicateStore, MemoryDuplicateStore, MessageRecord
from turnlane.policies import Policy

__all__ = ("NAMED_MAIL", "Copy", "Mail", "SlowDuplicates", "draw_mail", "run_mail")

REFUSALS = frozenset(
    {
        *("duplicate_running", "duplicate_outcome_unknown", "lane_busy", "turn_interrupted"),
        *("wait_timeout", "turn_timeout"),
    }
)


@dataclass(frozen=True, slots=True)
class Copy:
    """One request with a message: many requests may carry the same.

    Attributes:
        message: names it; the idempotency key.
        key: of the session.
        delay: loop passes before it is sent.
        hold: loop passes before each part of the answer.
        gives_up: whether the app stops when the client leaves.
    """

    message: str = "m"
    key: str = "a"
    delay: int = 0
    hold: int = 1
    gives_up: bool = False


@dataclass(frozen=True, slots=True)
class Mail:
    """The requests of one run, and how the middleware is set up."""

    copies: tuple[Copy, ...]
    store: Literal["memory", "slow"] = "memory"
    while_running: Literal["refuse", "wait"] = "wait"
    policy: Policy = FOREVER
    release_on: Literal["app_return", "response_end"] = "app_return"
    on_disconnect: Literal["pass", "finish"] = "pass"


class SlowDuplicates(MemoryDuplicateStore):
    """Keeps messages in memory and lets others run before and after each operation, as a file does."""

    waits: ClassVar[bool] = True

    async def claim(
        self, message: str, record: MessageRecord, *, replaces: MessageRecord | None = None, anew: bool = False
    ) -> Claim:
        await asyncio.sleep(0)
        claim = await super().claim(message, record, replaces=replaces, anew=anew)
        await asyncio.sleep(0)
        return claim

    async def begin(self, message: str, run: str) -> bool:
        await asyncio.sleep(0)
        begun = await super().begin(message, run)
        await asyncio.sleep(0)
        return begun

    async def finish(self, message: str, record: MessageRecord, *, at: float, limit: int) -> bool:
        await asyncio.sleep(0)
        stored = await super().finish(message, record, at=at, limit=limit)
        await asyncio.sleep(0)
        return stored

    async def free(self, message: str, run: str, *, restores: MessageRecord | None = None) -> None:
        await asyncio.sleep(0)
        await super().free(message, run, restores=restores)
        await asyncio.sleep(0)


class Far:
    """The far end of one request. Mutable: all of it."""

    def __init__(self, number: int, copy: Copy) -> None:
        self.number = number
        self.copy = copy
        self.task: asyncio.Task[None] | None = None
        self.messages: list[Message] = []
        self.failure: BaseException | None = None
        self.left = asyncio.Event()
        self.cancelled = self.asked = False

    @property
    def whole(self) -> bool:
        """Whether the response has come to its end."""
        return len(self.messages) > 1 and not self.messages[-1].get("more_body", False)

    @property
    def answer(self) -> bytes:
        """The bytes of the response."""
        return b"".join(message.get("body", b"") for message in self.messages)


class MailRun:
    """One run. A message is one session's idempotency key; `called` counts how often the app was called for it."""

    def __init__(
        self, mail: Mail, loop: SeededLoop, incidents: Sequence[Incident], make_store: Callable[[str], DuplicateStore]
    ) -> None:
        self.mail = mail
        self.loop = loop
        self.quiet = not incidents
        self.began = loop.time()
        self.lanes = plain_lanes(None, LoopClock(loop))
        self.wrong: list[str] = []
        self.called: Counter[tuple[str, str]] = Counter()
        self.far = [Far(number, copy) for number, copy in enumerate(mail.copies)]
        self.store = make_store(mail.store)
        self.duplicates = Duplicates(
            self.store, while_running=mail.while_running, wait_timeout=900, clock=LoopClock(loop)
        )
        self.middleware = LaneMiddleware(
            self.app,
            key="x-session-key",
            lanes=self.lanes,
            policy=mail.policy,
            release_on=mail.release_on,
            on_disconnect=mail.on_disconnect,
            idempotency=self.duplicates,
            trusted_keys=True,
        )
        for incident in incidents:
            happen = self._leave if incident.what == "leave" else self._cancel
            loop.before(incident.step, partial(happen, self.far[incident.call]))

    async def main(self) -> None:
        """Send every request, wait until every task has ended."""
        loop = asyncio.get_running_loop()
        for far in self.far:
            far.task = loop.create_task(self._request(far), context=contextvars.Context())
        await asyncio.wait([far.task for far in self.far if far.task is not None])
        await until_blocked()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            self.wrong.append(f"tasks are left: {left}")

    def result(self) -> Result:
        """Return what the run took."""
        return Result(self.loop.steps, len(self.far), {})

    async def _request(self, far: Far) -> None:
        await _passes(far.copy.delay)
        headers = [(b"x-number", b"%d" % far.number), (b"idempotency-key", far.copy.message.encode())]
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": [*headers, (b"x-session-key", far.copy.key.encode())],
            "client": ("127.0.0.1", 50_000 + far.number),
            "extensions": {},
        }

        async def receive() -> Message:
            if not far.asked:
                far.asked = True
                return {"type": "http.request", "body": far.copy.message.encode(), "more_body": False}
            await far.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if not far.left.is_set():
                far.messages.append(message)
            await asyncio.sleep(0)

        try:
            await self.middleware(scope, receive, send)
        except asyncio.CancelledError as error:
            far.failure = error
            if not far.cancelled and not self.loop.ending:
                self.wrong.append(f"request {far.number} was cancelled by nobody")
        except Exception as error:
            far.failure = error

    def _leave(self, far: Far) -> None:
        if not far.whole:
            far.left.set()

    def _cancel(self, far: Far) -> None:
        if far.task is not None and far.task.cancel():
            far.cancelled = True

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in three messages with the message's name, and who it was run for."""
        far = self.far[int(dict(scope["headers"])[b"x-number"])]
        copy = far.copy
        self.called[copy.key, copy.message] += 1
        if self.called[copy.key, copy.message] > 1:
            self.wrong.append(f"message {copy.message} of {copy.key} ran twice, the second time for {far.number}")
        await _passes(copy.hold)
        if copy.gives_up and far.left.is_set():
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await _passes(copy.hold)
        await send({"type": "http.response.body", "body": copy.message.encode(), "more_body": True})
        await _passes(copy.hold)
        await send({"type": "http.response.body", "body": b" for %d" % far.number, "more_body": False})
        await _passes(copy.hold)

    def look_inside(self) -> None:
        """Check nothing: all that counts is seen by the app and at the end."""

    def check_end(self) -> None:
        """Check what must hold when every request has ended."""
        self.wrong += leftovers(self.lanes)
        if self.loop.armed():
            self.wrong.append(f"timers are armed while nobody waits: {self.loop.armed()}")
        if self.loop.time() - self.began > 100:
            self.wrong.append("somebody waited until the time was over for what was there")
        if self.middleware._settings.budget.held:
            self.wrong.append("bytes of bodies are held by nobody")
        self._check_store()
        answers: dict[tuple[str, str], set[bytes]] = {}
        for far in self.far:
            if not far.left.is_set() and not far.cancelled:
                self._check_answer(far, answers)
        for message, different in answers.items():
            if len(different) > 1:
                self.wrong.append(f"message {message} was answered with {different}")

    def _check_store(self) -> None:
        if self.duplicates._here:
            self.wrong.append(f"these are thought to run: {self.duplicates._here}")
        records: Any = vars(self.store)["_records"]
        for record in records.values():
            if not record.is_finished:
                self.wrong.append(f"a message was left behind: {record}")

    def _check_answer(self, far: Far, answers: dict[tuple[str, str], set[bytes]]) -> None:
        copy = far.copy
        if far.failure is not None:
            if not isinstance(self.mail.policy, Interrupt):
                self.wrong.append(f"request {far.number} failed with {far.failure!r}")
        elif not far.whole:
            self.wrong.append(f"request {far.number} stayed and got {far.messages}")
        elif far.messages[0]["status"] == 200:
            answers.setdefault((copy.key, copy.message), set()).add(far.answer)
            if not far.answer.startswith(copy.message.encode() + b" "):
                self.wrong.append(f"request {far.number} got the answer of another message: {far.answer!r}")
        else:
            code = json.loads(far.answer)["error"]["code"]
            peaceful = self.quiet and not isinstance(self.mail.policy, Interrupt | Reject)
            if code not in REFUSALS or (peaceful and (code != "duplicate_running" or self._all_wait)):
                self.wrong.append(f"request {far.number} was refused: {code}")

    @property
    def _all_wait(self) -> bool:
        return self.mail.while_running == "wait"


async def _passes(passes: int) -> None:
    for _ in range(passes):
        await asyncio.sleep(0)


def plain_store(kind: str) -> DuplicateStore:
    """Make the store that is tested; planted bugs come in through another function of this form."""
    return SlowDuplicates() if kind == "slow" else MemoryDuplicateStore()


def run_mail(
    mail: Mail,
    seed: int | None,
    incidents: Sequence[Incident] = (),
    *,
    make_store: Callable[[str], DuplicateStore] = plain_store,
) -> Result:
    """Run mail once; `seed` draws the order of the loop, None is the order of a plain loop.

    Raises:
        Finding: a promise was broken.
    """
    return run_whole(
        lambda loop: MailRun(mail, loop, incidents, make_store),
        seed,
        look_inside=False,
        again=lambda: f"again: run_mail({mail}, {seed}, {list(incidents)})",
    )


THREE = (Copy(), Copy(), Copy(delay=1))

NAMED_MAIL: dict[str, Mail] = {
    "three copies": Mail(THREE),
    "three copies, a slow store": Mail(THREE, store="slow"),
    "three copies, refused": Mail(THREE, while_running="refuse"),
    "three copies, refused, a slow store": Mail(THREE, while_running="refuse", store="slow"),
    "a copy behind another message": Mail((Copy("x", hold=3), Copy(delay=1), Copy(delay=1)), store="slow"),
    "an app that gives up": Mail((Copy(hold=3, gives_up=True), Copy(delay=2), Copy(delay=3)), store="slow"),
    "lanes let go at the end of the response": Mail(THREE, store="slow", release_on="response_end"),
    "turns that outlive their client": Mail(THREE, store="slow", on_disconnect="finish"),
    "interruption": Mail((Copy(hold=4), Copy(delay=1), Copy("x", delay=3)), store="slow", policy=Interrupt(grace=0.0)),
    "rejection": Mail((Copy("x"), Copy(), Copy(delay=2)), store="slow", policy=Reject()),
    "two sessions with one key": Mail((Copy(), Copy(key="b"), Copy(), Copy(key="b")), store="slow"),
}
"""Small mail worth every incident there is."""


def draw_mail(rng: random.Random, large: bool) -> Mail:
    """Draw mail: a few messages in more copies."""
    count = rng.randint(4, 7) if large else rng.randint(2, 3)
    copies = tuple(
        Copy(
            rng.choice(("m", "m", "x")),
            rng.choice(("a", "a", "b")),
            delay=rng.randrange(6),
            hold=rng.randrange(4),
            gives_up=rng.random() < 0.3,
        )
        for _ in range(count)
    )
    store: Literal["memory", "slow"] = rng.choice(("memory", "slow", "slow"))
    while_running: Literal["refuse", "wait"] = rng.choice(("refuse", "wait", "wait"))
    release_on: Literal["app_return", "response_end"] = rng.choice(("app_return", "response_end"))
    on_disconnect: Literal["pass", "finish"] = rng.choice(("pass", "finish"))
    policy: Policy = rng.choice((FOREVER, FOREVER, Reject(), Interrupt(grace=0.0)))
    return Mail(copies, store, while_running, policy, release_on, on_disconnect)
