"""Two messages of one session of claude-agent-sdk at once: the second knows the first. The model is on this machine."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage

from turnlane import Runtime
from turnlane_integrations.claude_agent_sdk import LaneAgent


def answer_to(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the model says: as events of a stream."""
    said = [message["content"] for message in messages if message["role"] == "user"]
    blocks = [block for each in said for block in ([{"text": each}] if isinstance(each, str) else each)]
    texts = [block["text"].strip() for block in blocks if not block["text"].startswith("<system-reminder>")]
    usage = {"input_tokens": 1, "output_tokens": 1}
    start: dict[str, Any] = {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [],
        "usage": usage,
    }
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"I have heard {texts}"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]


async def model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
    asked = await reader.readexactly(length)
    events = answer_to(json.loads(asked)["messages"]) if asked else []  # it may ask whether anybody is there
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}".encode())
    await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(model, "127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as place:
        environment = {
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CONFIG_DIR": f"{place}/claude",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "HOME": place,
            "TMPDIR": place,
        }
        session = str(uuid4())
        options = ClaudeAgentOptions(session_id=session, cwd=place, env=environment, tools=[], setting_sources=[])
        agent = LaneAgent(Runtime(), state_dir=Path(place, "turnlane"))

        async def ask(text: str) -> str | None:
            answer = None
            async for message in agent.query(prompt=text, options=options):  # was query(prompt=text, ...)
                if isinstance(message, ResultMessage):
                    answer = message.result
            return answer

        first, second = await asyncio.gather(ask("my name is Ada"), ask("who am I?"))
        print(f"first:  {first}\nsecond: {second}")
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
