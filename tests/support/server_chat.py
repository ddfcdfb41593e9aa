"""A server that speaks just enough of `/v1/chat/completions`, keeps a transcript, and stops where the test says."""

import json
from collections.abc import Sequence
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from support.asgi_staged import header_of, read_body
from support.server_staged import Stage
from turnlane import current_turn

__all__ = ("ChatServer",)

CHUNK = {"id": "chat", "object": "chat.completion.chunk", "created": 1, "model": "m"}
ANSWER = {**CHUNK, "object": "chat.completion"}


class ChatServer:
    """Answers "heard " and all messages of the user; with its first word out it is at the place `x-name` of its stage.

    Messages that were offered to its turn by then are answered too.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("this server has no lifespan")
        asked: dict[str, Any] = json.loads(await read_body(receive))
        turn = current_turn()
        if turn is None:
            raise RuntimeError("a message without a turn")
        streams = bool(asked.get("stream"))
        heard = users_of(asked)
        async with turn.open_transcript() as transcript:
            for text in heard:
                await transcript.append({"role": "user", "content": text})
            async with transcript.released() as prompt:
                if streams:
                    await send(start(b"text/event-stream"))
                    await send(event("heard "))
                await self._stage.come_to(header_of(scope, b"x-name").decode())
                while (steered := turn.steering.take()) is not None:
                    for text in users_of(json.loads(steered.message.body)):
                        heard.append(text)
                        prompt.stage({"role": "user", "content": text})
                    steered.done()
                reply = ", ".join(heard)
                prompt.stage({"role": "assistant", "content": f"heard {reply}"})
        if streams:
            await send(event(reply))
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        else:
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": f"heard {reply}"},
                "finish_reason": "stop",
            }
            await send(start(b"application/json"))
            await send({"type": "http.response.body", "body": json.dumps({**ANSWER, "choices": [choice]}).encode()})


def users_of(asked: dict[str, Any]) -> list[str]:
    messages: Sequence[dict[str, str]] = asked["messages"]
    return [message["content"] for message in messages if message["role"] == "user"]


def start(content_type: bytes) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]}


def event(text: str) -> Message:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    data = b"data: " + json.dumps({**CHUNK, "choices": [choice]}).encode() + b"\n\n"
    return {"type": "http.response.body", "body": data, "more_body": True}
