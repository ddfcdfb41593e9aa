"""The OpenAI wire shapes the demo server speaks: what it accepts, and what it sends back."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel

from turnlane.clock import Clock

__all__ = ("ChatAnswer", "ChatRequest", "ResponsesAnswer", "ResponsesRequest", "error_document", "event")

Payload = dict[str, Any]


class TextPart(BaseModel):
    """One part of a message's content; parts that are not text carry none."""

    text: str = ""


class InputMessage(BaseModel):
    """One message as a client sends it."""

    role: str
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The content as plain text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """What a client asks of a chat stream."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The part of a `/v1/chat/completions` body that the server reads."""

    messages: list[InputMessage]
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def newest_text(self) -> str:
        """The newest user message; the server keeps the history itself."""
        return _newest_user_text(self.messages)


class ResponsesRequest(BaseModel):
    """The part of a `/v1/responses` body that the server reads."""

    input: str | list[InputMessage]
    stream: bool = False

    @property
    def newest_text(self) -> str:
        """The newest user message; the server keeps the history itself."""
        return self.input if isinstance(self.input, str) else _newest_user_text(self.input)


def _newest_user_text(messages: list[InputMessage]) -> str:
    return next((message.text for message in reversed(messages) if message.role == "user"), "")


def error_document(message: str, *, code: str, kind: str = "invalid_request_error") -> Payload:
    """Return an error body as the OpenAI clients read it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def event(data: Payload | str, *, name: str | None = None) -> str:
    """Return one server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}\n\n" if name is None else f"event: {name}\ndata: {text}\n\n"


def _tokens(text: str) -> int:
    # Words stand in for tokens: usage must be present and add up, nobody is billed.
    return len(text.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """One answer of `/v1/chat/completions`; its id and time are the same in every part of it."""

    model: str
    prompt: str
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(Clock().wall()))

    def body(self, text: str) -> Payload:
        """Return the answer to a request without `stream`."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage(text)}

    async def events(self, pieces: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        """Yield the answer to a request with `stream`, as the pieces come."""
        text = ""
        yield event(self._chunk({"role": "assistant", "content": ""}))
        async with aclosing(pieces):
            async for piece in pieces:
                text += piece
                yield event(self._chunk({"content": piece}))
        yield event(self._chunk({}, finish_reason="stop"))
        if self.include_usage:
            yield event({**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage(text)})
        yield event("[DONE]")

    def _head(self, kind: str) -> Payload:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, delta: Payload, *, finish_reason: str | None = None) -> Payload:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _usage(self, text: str) -> Payload:
        prompt, completion = _tokens(self.prompt), _tokens(text)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesAnswer:
    """One answer of `/v1/responses`; its ids and time are the same in every part of it."""

    model: str
    prompt: str
    id: str = field(default_factory=lambda: f"resp_{uuid4().hex}")
    item_id: str = field(default_factory=lambda: f"msg_{uuid4().hex}")
    created: int = field(default_factory=lambda: int(Clock().wall()))

    def body(self, text: str) -> Payload:
        """Return the answer to a request without `stream`, and the last event of one with it."""
        return self._response("completed", [self._item("completed", [self._part(text)])], self._usage(text))

    async def events(self, pieces: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        """Yield the answer to a request with `stream`, as the pieces come."""
        number = 0

        def numbered(kind: str, **members: object) -> str:
            nonlocal number
            data = {"type": f"response.{kind}", "sequence_number": number, **members}
            number += 1
            return event(data, name=f"response.{kind}")

        item: Payload = {"output_index": 0}
        part: Payload = {"item_id": self.item_id, "output_index": 0, "content_index": 0}
        text = ""
        yield numbered("created", response=self._response("in_progress", [], None))
        yield numbered("in_progress", response=self._response("in_progress", [], None))
        yield numbered("output_item.added", **item, item=self._item("in_progress", []))
        yield numbered("content_part.added", **part, part=self._part(""))
        async with aclosing(pieces):
            async for piece in pieces:
                text += piece
                yield numbered("output_text.delta", **part, delta=piece, logprobs=[])
        yield numbered("output_text.done", **part, text=text, logprobs=[])
        yield numbered("content_part.done", **part, part=self._part(text))
        yield numbered("output_item.done", **item, item=self._item("completed", [self._part(text)]))
        yield numbered("completed", response=self.body(text))

    def _response(
        self, status: Literal["in_progress", "completed"], output: list[Payload], usage: Payload | None
    ) -> Payload:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self.model,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": usage,
        }

    def _item(self, status: Literal["in_progress", "completed"], content: list[Payload]) -> Payload:
        return {"id": self.item_id, "type": "message", "status": status, "role": "assistant", "content": content}

    @staticmethod
    def _part(text: str) -> Payload:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _usage(self, text: str) -> Payload:
        prompt, completion = _tokens(self.prompt), _tokens(text)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        }
