"""A FastAPI server whose endpoint reads a conversation from a file, asks the model, and writes it back."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse

from support.rigs.contract import Line, Rig
from turnlane.testing import AsgiDriver, HttpRequest
from turnlane_integrations.fastapi import lane

__all__ = ("RIG",)


class Fastapi(Rig):
    """See the module. The errors of its endpoints are raised by its driver."""

    follows_callers = False

    async def open(self) -> None:
        app = FastAPI()
        dependencies: list[Any] = [] if self.runtime is None else [lane(self.runtime, "x-conversation")]
        app.post("/answer", dependencies=dependencies)(self._answered)
        app.post("/stream", dependencies=dependencies)(self._streamed)
        self._driver = await self.stack.enter_async_context(AsgiDriver(app))

    def _file(self, conversation: str) -> Path:
        return Path(self.place.directory, f"{conversation}.json")

    def _read(self, conversation: str) -> list[list[str]]:
        file = self._file(conversation)
        found: list[list[str]] = json.loads(file.read_text()) if file.exists() else []
        return found

    async def _parts(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        lines = [*self._read(conversation), ["user", text]]
        parts: list[str] = []
        async for part in self.model.words([said for role, said in lines if role == "user"]):
            parts.append(part)
            yield part
        self._file(conversation).write_text(json.dumps([*lines, ["assistant", "".join(parts)]]))

    async def _answered(self, conversation: Annotated[str, Body()], text: Annotated[str, Body()]) -> PlainTextResponse:
        return PlainTextResponse("".join([part async for part in self._parts(conversation, text)]))

    async def _streamed(self, conversation: Annotated[str, Body()], text: Annotated[str, Body()]) -> StreamingResponse:
        return StreamingResponse(self._parts(conversation, text), media_type="text/plain")

    def _send(self, path: str, conversation: str, text: str) -> HttpRequest:
        body = json.dumps({"conversation": conversation, "text": text}).encode()
        headers = {"x-conversation": conversation, "content-type": "application/json"}
        return self._driver.start("POST", path, headers=headers, body=body)

    async def answer(self, conversation: str, text: str) -> str:
        request = self._send("/answer", conversation, text)
        try:
            answer = await request.response()
            await request.finished()
        except asyncio.CancelledError:
            request.disconnect()
            raise
        return answer.text

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        request = self._send("/stream", conversation, text)
        try:
            while chunk := await request.body_chunk():
                yield chunk.decode()
            await request.finished()
        finally:
            request.disconnect()

    async def history(self, conversation: str) -> list[Line]:
        return [Line(role, text) for role, text in self._read(conversation)]


RIG = Fastapi
