"""Plans of requests to an app behind the middleware, drawn from a seed."""

import random
from dataclasses import dataclass
from typing import Literal

from races.plans import FOREVER
from turnlane import Enqueue, Interrupt, Reject
from turnlane.policies import Policy

__all__ = ("NAMED_TRAFFIC", "Call", "Incident", "Traffic", "draw_traffic", "incidents_at")


@dataclass(frozen=True, slots=True)
class Call:
    """One request and what the app does with it.

    Attributes:
        key: of the session.
        delay: loop passes before it is made.
        parts: in how many pieces its body is sent.
        gap: loop passes between the pieces.
        hold: loop passes before each message of the answer.
        sleep: seconds the app takes besides.
        listens: whether the app watches for the end of the connection in a task of its own, as streaming responses do.
        after: loop passes the app runs on after its last message, as background tasks do.
    """

    key: str = "a"
    delay: int = 0
    parts: int = 1
    gap: int = 0
    hold: int = 1
    sleep: float = 0.0
    listens: bool = False
    after: int = 0


@dataclass(frozen=True, slots=True)
class Incident:
    """Just before a step the task of a call is cancelled, or its client leaves."""

    step: int
    call: int
    what: Literal["cancel", "leave"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The calls of one run, and how the middleware is set up; with `mixed` each call chooses its policy."""

    calls: tuple[Call, ...]
    key_in: Literal["header", "json"] = "header"
    sessions: Literal["none", "memory", "slow"] = "none"
    policy: Policy = FOREVER
    mixed: tuple[Policy, ...] = ()
    max_running: int | None = None
    turn_timeout: float | None = None
    release_on: Literal["app_return", "response_end"] = "app_return"
    on_disconnect: Literal["pass", "finish"] = "pass"

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Return those that the calls have."""
        return self.mixed or (self.policy,)

    def policy_of(self, number: int) -> Policy:
        """Return the policy of the call of that number."""
        return self.policies[number % len(self.policies)]


TWO_PARTS = (Call(parts=2, gap=1), Call(parts=2, delay=1), Call(delay=2))

NAMED_TRAFFIC: dict[str, Traffic] = {
    "header key": Traffic((Call(), Call(parts=2), Call(delay=1))),
    "header key, sessions": Traffic((Call(), Call(parts=2), Call(delay=1)), sessions="memory"),
    "key in the body": Traffic(TWO_PARTS, key_in="json"),
    "key in the body, sessions": Traffic(TWO_PARTS, key_in="json", sessions="memory"),
    "sessions that take their time": Traffic(TWO_PARTS, sessions="slow"),
    "key in the body, sessions that take their time": Traffic(TWO_PARTS, key_in="json", sessions="slow"),
    "apps that listen": Traffic((Call(listens=True), Call(listens=True, parts=2, gap=2), Call(listens=True))),
    "one running slot": Traffic((Call("a"), Call("b"), Call("a"), Call("b")), max_running=1),
    "lane let go at the end of the response": Traffic(
        (Call(after=3), Call(parts=2, after=3), Call(delay=2)), release_on="response_end", sessions="slow"
    ),
    "turns that outlive their client": Traffic(
        (Call(listens=True), Call(parts=2), Call(delay=1)), on_disconnect="finish"
    ),
    "a long wait": Traffic((Call(hold=15), Call(parts=2, delay=1), Call(delay=2))),
    "interruption": Traffic((Call(sleep=2.0), Call(delay=1), Call(delay=2)), policy=Interrupt(grace=0.0)),
    "interruption as the response ends": Traffic(
        (Call(listens=True, hold=0, after=3), Call(delay=4)), policy=Interrupt(grace=0.0), release_on="response_end"
    ),
    "policies of their own": Traffic(
        (Call(sleep=2.0), Call(delay=1), Call(delay=2), Call(delay=3)),
        mixed=(FOREVER, Interrupt(grace=0.0), Reject(), FOREVER),
    ),
    "waits that time out": Traffic((Call(sleep=1.0), Call(parts=2), Call(delay=1)), policy=Enqueue(wait_timeout=1.0)),
}
"""Small traffic worth every incident there is."""


def incidents_at(step: int, call: int) -> tuple[Incident, ...]:
    """Return what can happen to a call just before a step."""
    return (Incident(step, call, "cancel"), Incident(step, call, "leave"))


def draw_traffic(rng: random.Random, large: bool) -> Traffic:
    """Draw traffic; about a third waits in line, the rest mixes policies and timeouts."""
    calls, keys = (rng.randint(4, 7), rng.randint(1, 3)) if large else (rng.randint(2, 3), rng.randint(1, 2))
    names = [chr(ord("a") + number) for number in range(keys)]
    plain = rng.random() < 0.35
    key_in: Literal["header", "json"] = rng.choice(("header", "json"))
    release_on: Literal["app_return", "response_end"] = rng.choice(("app_return", "app_return", "response_end"))
    sessions: Literal["none", "memory", "slow"] = rng.choice(("none", "memory", "slow"))
    on_disconnect: Literal["pass", "finish"] = rng.choice(("pass", "pass", "finish"))
    mixed = () if plain or rng.random() < 0.6 else tuple(_draw_policy(rng) for _ in range(rng.randint(2, 4)))
    return Traffic(
        tuple(_draw_call(rng, names) for _ in range(calls)),
        key_in=key_in,
        sessions=sessions,
        policy=FOREVER if plain else _draw_policy(rng),
        mixed=mixed,
        max_running=rng.choice((None, None, 1, 2)),
        turn_timeout=None if plain else rng.choice((None, None, 0.5, 1.0)),
        release_on=release_on,
        on_disconnect=on_disconnect,
    )


def _draw_call(rng: random.Random, names: list[str]) -> Call:
    return Call(
        rng.choice(names),
        delay=rng.randrange(5),
        parts=rng.randint(1, 3),
        gap=rng.randrange(3),
        hold=rng.randrange(3),
        sleep=rng.choice((0.0, 0.0, 0.5, 1.0)),
        listens=rng.random() < 0.3,
        after=rng.choice((0, 0, 3)),
    )


def _draw_policy(rng: random.Random) -> Policy:
    return rng.choice(
        (
            FOREVER,
            Enqueue(max_waiting=1, wait_timeout=None),
            Enqueue(max_waiting=None, wait_timeout=0.5),
            Enqueue(max_waiting=None, wait_timeout=0.0),
            Reject(),
            Interrupt(grace=0.0),
            Interrupt(grace=0.5, wait_timeout=1.0),
        )
    )
