"""Read by the type checkers, never run: the public names in the forms the documentation shows."""

from collections.abc import AsyncGenerator
from typing import assert_type

from starlette.applications import Starlette
from starlette.requests import Request

from turnlane import (
    Enqueue,
    Interrupt,
    LaneMiddleware,
    Lanes,
    Reject,
    Runtime,
    Sessions,
    Turn,
    current_turn,
    hooks,
    keys,
)

app = Starlette()
runtime = Runtime(lanes="memory://", sessions=Sessions("memory://"))


def principal(request: Request) -> str:
    return request.headers["authorization"]


async def key_of(request: Request) -> str | None:
    return request.headers.get("x-conversation")


app.add_middleware(LaneMiddleware, key="x-openclaw-session-key")
app.add_middleware(LaneMiddleware, key=keys.scoped_by(principal, "x-openclaw-session-key"), policy=Reject())
app.add_middleware(LaneMiddleware, key=keys.json_body("metadata.session_id"), runtime=runtime, policy="interrupt")
app.add_middleware(LaneMiddleware, key=key_of, required=True, policy=Enqueue(max_waiting=5))


async def take_a_turn(lanes: Lanes) -> None:
    async with lanes.turn("agent:main:alice", policy=Interrupt(grace=1.0)) as turn:
        assert_type(turn, Turn)
        assert_type(turn.key, str)
        assert_type(turn.id, str)
        assert_type(turn.token, int)
        assert_type(turn.waited, float)
        assert_type(turn.interrupted, bool)
    assert_type(current_turn(), Turn | None)
    lanes.turn("agent:main:alice", policy=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@runtime.agent_turn(key="session_key")
async def answer(session_key: str, text: str) -> str:
    return f"{session_key} {text}"


@runtime.agent_turn(key="session_key")
async def answer_with_turn(session_key: str, *, turn: Turn) -> str:
    return f"{session_key} {turn.id}"


@runtime.agent_turn(key="session_key")
async def words(session_key: str, text: str) -> AsyncGenerator[str, None]:
    yield session_key + text


async def call_the_decorated() -> None:
    assert_type(await answer("agent:main:alice", "hello"), str)
    async for word in words("agent:main:alice", "hello"):
        assert_type(word, str)


def listen(all_events: hooks.Hooks) -> None:
    def started(event: hooks.TurnStarted) -> None:
        assert_type(event.waited, float)

    async def finished(event: hooks.TurnFinished) -> None:
        assert_type(event.outcome, str)

    all_events.on(hooks.TurnStarted, started)
    all_events.on(hooks.TurnFinished, finished)
    all_events.on(hooks.TurnFinished, started)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
