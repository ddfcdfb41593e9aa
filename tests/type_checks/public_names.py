"""Read by the type checkers, never run: the public names in the forms the documentation shows."""

from collections.abc import AsyncGenerator
from typing import Any, assert_type

from starlette.applications import Starlette
from starlette.requests import Request

from turnlane import (
    Coalesce,
    Enqueue,
    Interrupt,
    KeepAlive,
    LaneMiddleware,
    Lanes,
    Reject,
    Runtime,
    Sessions,
    Steer,
    TranscriptMonitor,
    Transcripts,
    Turn,
    current_turn,
    hooks,
    keys,
    messages,
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
app.add_middleware(
    LaneMiddleware,
    key="x-key",
    policy=Coalesce(merge=messages.openai_chat, share_result=True),
    principal=principal,
    redirect_status=202,
)
app.add_middleware(LaneMiddleware, key="x-key", policy=Coalesce(), message=key_of)
app.add_middleware(LaneMiddleware, key=key_of, required=True, policy=Enqueue(max_waiting=5))


app.add_middleware(LaneMiddleware, key="x-conversation", keepalive=KeepAlive(after=5, every=20.0))
app.add_middleware(LaneMiddleware, key="x-conversation", keepalive=5)
assert_type(KeepAlive().after, float)
LaneMiddleware(app, key="x-conversation", keepalive="10 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def take_a_turn(lanes: Lanes) -> None:
    async with lanes.turn("agent:main:alice", policy=Interrupt(grace=1.0)) as turn:
        assert_type(turn, Turn)
        assert_type(turn.key, str)
        assert_type(turn.id, str)
        assert_type(turn.token, int)
        assert_type(turn.waited, float)
        assert_type(turn.interrupted, bool)
    assert_type(current_turn(), Turn | None)
    async with lanes.turn("a", policy=Coalesce(merge=", ".join), message="hello", principal="alice") as turn:
        assert_type(turn.messages, tuple[Any, ...])
        assert_type(turn.dropped, tuple[Any, ...])
        turn.share("hello to all")
    async with lanes.turn("a", policy=Steer(), message={"any": "thing"}) as turn:
        async for steered in turn.steering:
            assert_type(steered.waits, bool)
            assert_type(steered.done(), bool)
    Coalesce(merge="+")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
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


@runtime.agent_turn(key="session_key", principal="user", policy=Coalesce(merge=messages.joined("text")))
async def answer_all(session_key: str, user: str, text: str) -> str:
    return f"{session_key} {user} {text}"


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


async def store(transcripts: Transcripts, session_id: str) -> int:
    async with transcripts.open(session_id, token=7) as transcript:
        await transcript.append({"role": "user", "content": "hello"})
        fence = transcript.fence
        async with transcript.released() as prompt:
            prompt.stage({"role": "assistant", "content": "hello"})
        assert_type(transcript.owned_write(lambda: 3, validate=lambda result, text: result == 3), int)
        assert_type(await transcript.rollback(fence), int)
    await transcripts.append(session_id, {"role": "tool"})
    await transcripts.delete(session_id)
    return len(await transcripts.read(session_id, last=5)) + len(prompt.changes)


kept = Runtime(sessions="memory://", transcripts=Transcripts("state/transcripts", on_takeover="accept"))


async def watch(transcripts: Transcripts) -> None:
    async with TranscriptMonitor(transcripts, on_unowned_edit="cancel") as monitor:
        async for event in monitor:
            print(event.path, event.kind, event.line)
