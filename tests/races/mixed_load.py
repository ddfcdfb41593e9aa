"""Loads of requests with policies of their own, drawn from a seed, and what the app behind does with each."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from races.plans import FOREVER, MergeRefused, OnCancel
from turnlane import Coalesce, Enqueue, Interrupt, Reject, Rollback, Steer
from turnlane.messages import HttpMessage, openai_chat
from turnlane.policies import Policy

__all__ = ("NAMED_LOADS", "Ask", "Load", "draw_load", "load_of", "merge_two")

Steers = Literal["no", "take", "some", "listen"]
Fails = Literal["no", "early", "late"]
Once = Literal["none", "url", "memory", "slow"]


def merge_two(messages: Sequence[HttpMessage]) -> HttpMessage:
    """Merge two messages, and refuse more."""
    if len(messages) > 2:
        raise MergeRefused(messages)
    return openai_chat(messages)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request and what the app does with it.

    Attributes:
        key: of the session, as the client names it.
        principal: who it is made for.
        policy: what it does if its lane is busy.
        delay: loop passes before it is made.
        gap: loop passes between the halves of its body; 0 for a body in one piece.
        once: whether it has an idempotency key.
        copy_of: the number of an earlier request whose message it brings again, body and idempotency key.
        stream: whether it asks for a stream of events.
        hold: loop passes the app takes before and after its model.
        model: seconds its model takes.
        released: whether the transcript is released meanwhile, and the reply is staged.
        steers: what the app does with messages that are offered to its turn: nothing; takes them; is done with every
            other one; is done with every other one in a task that listens while the model works.
        on_cancel: what it makes of a cancellation: it ends, or writes a note after two passes and ends, or goes on.
        fails: whether it raises, before it has written anything or when it has written all.
        after: seconds the app runs on after its response.
        listens: whether the end of the connection ends the app, as in streaming responses of frameworks.
    """

    key: str = "a"
    principal: str = "p"
    policy: Policy = FOREVER
    delay: int = 0
    gap: int = 0
    once: bool = False
    copy_of: int | None = None
    stream: bool = False
    hold: int = 1
    model: float = 0.0
    released: bool = True
    steers: Steers = "no"
    on_cancel: OnCancel = "end"
    fails: Fails = "no"
    after: float = 0.0
    listens: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """The requests of one run, and how the middleware is set up.

    Attributes:
        name: the expression that makes this load again.
        asks: the requests.
        key_in: where the session key is.
        scoped: whether the key is scoped by the principal; else several share a lane, told apart by `principal=`.
        sessions: whether the store of sessions takes its time.
        max_running, max_running_each, max_waiting_each: caps of the lanes, the last two per principal.
        turn_timeout, release_on, on_disconnect: as for the middleware.
        keepalive: seconds of the silent window; a comment line comes every half second after it.
        once: where messages with an idempotency key are remembered; `url` for what the middleware makes of one.
        while_running: what a copy gets while its message waits or runs.
        redirect_status: as for the middleware.
        slow_wire: loop passes each message of a response takes besides.
        wire_breaks: whether sending to a client that has left raises.
    """

    name: str
    asks: tuple[Ask, ...]
    key_in: Literal["header", "json"] = "header"
    scoped: bool = True
    sessions: Literal["memory", "slow"] = "memory"
    max_running: int | None = None
    max_running_each: int | None = None
    max_waiting_each: int | None = None
    turn_timeout: float | None = None
    release_on: Literal["app_return", "response_end"] = "app_return"
    on_disconnect: Literal["pass", "finish"] = "pass"
    keepalive: float | None = None
    once: Once = "none"
    while_running: Literal["refuse", "wait"] = "refuse"
    redirect_status: Literal[409, 202] = 409
    slow_wire: int = 0
    wire_breaks: bool = False

    def origin(self, number: int) -> int:
        """Return the number of the request that brings a message first."""
        copied = self.asks[number].copy_of
        return number if copied is None else self.origin(copied)

    def lane(self, number: int) -> str:
        """Return the key of the lane a request is for."""
        ask = self.asks[number]
        return f"{ask.principal}/{ask.key}" if self.scoped else ask.key

    def carriers(self, word: str) -> list[int]:
        """Return the numbers of the requests that bring a message."""
        return [number for number in range(len(self.asks)) if self.word(number) == word]

    def word(self, number: int) -> str:
        """Return what a message says; no two say the same."""
        return f"m{self.origin(number)}"


GATHER = Coalesce(window=0.5, merge=openai_chat, wait_timeout=None)
SHARE = Coalesce(window=0.5, merge=openai_chat, wait_timeout=None, share_result=True)
COALESCES: tuple[Coalesce, ...] = (
    GATHER,
    SHARE,
    Coalesce(window=0.0, merge=openai_chat, share_result=True),
    Coalesce(window=0.5, merge=openai_chat, wait_timeout=1.0, max_merged=2),
    Coalesce(window=1.0, merge=openai_chat, wait_timeout=None, max_merged=2, overflow="oldest"),
    Coalesce(window=0.0, merge=merge_two, wait_timeout=None),
)
WAITS: tuple[Policy, ...] = (
    FOREVER,
    FOREVER,
    Enqueue(max_waiting=1, wait_timeout=None),
    Enqueue(max_waiting=None, wait_timeout=0.5),
    Enqueue(max_waiting=None, wait_timeout=0.0),
)
STEERS: tuple[Policy, ...] = (Steer(), Steer(max_waiting=1), Steer(wait_timeout=0.5))
ENDS: tuple[tuple[Policy, ...], ...] = (
    (Interrupt(grace=0.0), Interrupt(grace=0.5, wait_timeout=1.0)),
    (Rollback(grace=0.0), Rollback(grace=0.5), Rollback(grace=0.0, wait_timeout=1.0)),
)
TALKS: tuple[tuple[Policy, ...], ...] = (WAITS, COALESCES, COALESCES, STEERS)
FAMILIES: tuple[tuple[Policy, ...], ...] = (*TALKS, *ENDS, (Reject(),))
"""Of a load some are drawn, and of these often one policy alone: equal ones become one turn."""

BUSY = Ask(model=1.0)
TWICE = replace(BUSY, once=True)

NAMED_LOADS: dict[str, Load] = {
    name: replace(load, name=f"NAMED_LOADS[{name!r}]")
    for name, load in {
        "three that become one turn": Load("", (BUSY, *(Ask(policy=GATHER, delay=delay) for delay in (2, 3, 4)))),
        "a shared stream, kept alive": Load(
            "",
            (BUSY, *(Ask(policy=SHARE, delay=delay, stream=True) for delay in (2, 3))),
            keepalive=0.2,
            slow_wire=1,
        ),
        "two steered, one left over": Load(
            "", (replace(BUSY, steers="some", hold=5), *(Ask(policy=Steer(), delay=delay) for delay in (3, 4, 5)))
        ),
        "a rollback, and one more": Load(
            "",
            (
                replace(BUSY, on_cancel="clean up"),
                Ask(policy=Rollback(grace=0.0), delay=12, model=1.0),
                Ask(policy=Rollback(grace=0.0), delay=25),
                Ask(delay=26),
            ),
            sessions="slow",
        ),
        "copies of one that waits": Load(
            "", (BUSY, replace(TWICE, delay=2), replace(TWICE, delay=4, copy_of=1)), once="slow", while_running="wait"
        ),
        "copies of some that become one turn": Load(
            "",
            (
                BUSY,
                *(Ask(policy=GATHER, delay=delay, once=True, model=0.5) for delay in (2, 3)),
                Ask(policy=GATHER, delay=4, once=True, copy_of=1),
                Ask(policy=GATHER, delay=30, once=True, copy_of=1),
            ),
            once="slow",
            while_running="wait",
        ),
        "streams kept alive behind another": Load(
            "", (BUSY, Ask(stream=True, delay=2), Ask(stream=True, delay=3)), keepalive=0.0, slow_wire=2
        ),
        "two principals with a slot each": Load(
            "",
            tuple(Ask(key, principal, model=0.5) for key in "ab" for principal in "pq"),
            max_running=2,
            max_running_each=1,
        ),
    }.items()
}
"""Small loads, each for one way in which a message gets its account."""


def load_of(number: int, *, large: bool = True) -> Load:
    """Return the load of that number: always the same one."""
    rng = random.Random(f"{number}/{large}")
    name = f"load_of({number}, large={large})"
    scoped = rng.random() < 0.6
    families: Sequence[tuple[Policy, ...]] = rng.sample(FAMILIES, rng.randint(2, len(FAMILIES)))
    theme = rng.random()
    if theme < 0.4:
        families = TALKS if theme < 0.2 else (WAITS, (rng.choice(COALESCES),) * 4)
    once: Once = rng.choice(("none", "url", "memory", "slow"))
    pick = rng.choice
    draw = partial(
        _draw_ask,
        rng,
        tuple("ab"[: pick((1, 1, 2))]),
        tuple("pq"[: pick((1, 2))]),
        tuple(policy for family in families for policy in (family if rng.random() < 0.4 else (pick(family),))),
    )
    asks = [draw() for _ in range(rng.randint(4, 8) if large else rng.randint(2, 4))]
    if once != "none":
        asks += _copies(rng, asks)
    return Load(
        name,
        tuple(asks),
        key_in=pick(("header", "header", "json")),
        scoped=scoped,
        sessions=pick(("memory", "slow")),
        max_running=pick((None, None, 1, 2)),
        max_running_each=pick((None, None, 1)),
        max_waiting_each=pick((None, None, None, 1, 2)),
        turn_timeout=pick((None, None, None, 0.5, 1.0)),
        release_on=pick(("app_return", "app_return", "response_end")),
        on_disconnect=pick(("pass", "pass", "finish")),
        keepalive=pick((None, 0.0, 0.2, 1.0)),
        once=once,
        while_running=pick(("refuse", "wait")),
        redirect_status=pick((409, 409, 202)),
        slow_wire=pick((0, 0, 1, 3)),
        wire_breaks=rng.random() < 0.3,
    )


def draw_load(rng: random.Random, large: bool) -> Load:
    """Draw a load."""
    return load_of(rng.randrange(2**32), large=large)


def _draw_ask(
    rng: random.Random, keys: tuple[str, ...], principals: tuple[str, ...], policies: tuple[Policy, ...]
) -> Ask:
    return Ask(
        rng.choice(keys),
        rng.choice(principals),
        rng.choice(policies),
        delay=rng.choice((0, 1, 3, rng.randrange(40))),
        gap=rng.choice((0, 0, 0, 1, 4)),
        once=rng.random() < 0.4,
        stream=rng.random() < 0.4,
        hold=rng.randrange(4),
        model=rng.choice((0.0, 0.5, 1.0, 3.0)),
        released=rng.random() < 0.7,
        steers=rng.choice(("no", "take", "some", "listen")),
        on_cancel=rng.choice(("end", "end", "clean up", "swallow")),
        fails="no" if rng.random() < 0.9 else rng.choice(("early", "late")),
        after=rng.choice((0.0, 0.0, 0.5)),
        listens=rng.random() < 0.3,
    )


def _copies(rng: random.Random, asks: Sequence[Ask]) -> list[Ask]:
    """Return copies of some of those with an idempotency key: only the message is the same."""
    copies: list[Ask] = []
    for number, ask in enumerate(asks):
        if ask.once and rng.random() < 0.6:
            other = rng.choice(asks)
            delay = ask.delay + rng.choice((0, 2, rng.randrange(40)))
            copy = replace(other, key=ask.key, principal=ask.principal, stream=ask.stream, once=True, delay=delay)
            copies.append(replace(copy, copy_of=number))
    return copies
