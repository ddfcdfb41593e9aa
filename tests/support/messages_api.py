"""The Messages API of Anthropic on a loopback port, with a scripted model behind it, for the program `claude`.

It is the proxy of that program too, so that a request to any other place is refused here, and told of.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from support.rigs.contract import ModelFailed, ScriptedModel

__all__ = ("MessagesApi", "messages_api", "said_in")

NOT_SAID = ("<system-reminder>", "[Request interrupted")


def said_in(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return what people said, oldest first."""
    found: list[str] = []
    for message in messages:
        if message["role"] == "user":
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            found += [block["text"] for block in blocks if block["type"] == "text"]
    return [text for text in found if not text.startswith(NOT_SAID)]


class MessagesApi:
    """What a program is told to use.

    Mutable: `elsewhere`, the requests to other places; `tools`, the calls of tools that the next answer consists of.
    """

    def __init__(self, model: ScriptedModel, port: int = 0) -> None:
        self.port = port
        self.elsewhere: list[str] = []
        self.tools: list[dict[str, Any]] = []
        self._model = model

    def environment(self, directory: str) -> dict[str, str]:
        """Return the environment of a program that keeps everything in a directory and speaks with nobody else."""
        here = f"http://127.0.0.1:{self.port}"
        return {
            "HOME": directory,
            "CLAUDE_CONFIG_DIR": f"{directory}/claude",
            "ANTHROPIC_BASE_URL": here,
            "ANTHROPIC_API_KEY": "none",
            "HTTP_PROXY": here,
            "HTTPS_PROXY": here,
            "NO_PROXY": "127.0.0.1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                await self._answer(head[0].split(" ")[0], head[0].split(" ")[1], body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it has left
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if not path.startswith("/"):
            self.elsewhere.append(f"{method} {path}")
            writer.write(_whole(403, {"type": "error"}))
        elif not path.startswith("/v1/messages?"):
            writer.write(_whole(404, {"type": "error", "error": {"type": "not_found_error", "message": path}}))
        else:
            asked = json.loads(body)
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-should-retry: false\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            async with aclosing(self._events(asked)) as events:
                async for event in events:
                    data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
                    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                    await writer.drain()
            writer.write(b"0\r\n\r\n")

    async def _events(self, asked: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        said, tools = said_in(asked["messages"]), self.tools
        usage = {"input_tokens": 1, "output_tokens": 1}
        message: dict[str, Any] = {
            "id": f"msg_{len(self._model.calls)}_{len(asked['messages'])}",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        yield {"type": "message_start", "message": message}
        if tools:
            self.tools = []
            for index, tool in enumerate(tools):
                block: dict[str, Any] = {"type": "tool_use", "id": f"toolu_{index}", "name": tool["name"], "input": {}}
                given = {"type": "input_json_delta", "partial_json": json.dumps(tool["input"])}
                yield {"type": "content_block_start", "index": index, "content_block": block}
                yield {"type": "content_block_delta", "index": index, "delta": given}
                yield {"type": "content_block_stop", "index": index}
        else:
            yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
            try:
                async with aclosing(self._model.words(said)) as words:
                    async for word in words:
                        delta = {"type": "text_delta", "text": word}
                        yield {"type": "content_block_delta", "index": 0, "delta": delta}
            except ModelFailed as error:
                yield {"type": "error", "error": {"type": "invalid_request_error", "message": f"failed: {error}"}}
                return
            yield {"type": "content_block_stop", "index": 0}
        ends = {"stop_reason": "tool_use" if tools else "end_turn", "stop_sequence": None}
        yield {"type": "message_delta", "delta": ends, "usage": usage}
        yield {"type": "message_stop"}


def _whole(status: int, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


@asynccontextmanager
async def messages_api(model: ScriptedModel) -> AsyncGenerator[MessagesApi, None]:
    """Serve it for the block."""
    api = MessagesApi(model)
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(api.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    api.port = server.sockets[0].getsockname()[1]
    try:
        yield api
    finally:
        server.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
