"""Two agent servers that call each other, with the openai client; a call that would wait for itself is refused at once.

Run it to see a chain that passes and one that comes back to its own conversation; it needs turnlane[demo].
"""

import asyncio

from openai import APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from turnlane import LaneMiddleware
from turnlane.cli.demo.host import LoopbackServer
from turnlane.httpx import chain_hook

KEY = "x-session-key"


async def ask(url: str, conversation: str, text: str) -> str:
    # The hook adds the call chain of the turn this runs in, if any, for the hosts that are listed and for no other.
    hook = chain_hook(url.removeprefix("http://"))
    http = DefaultAsyncHttpxClient(trust_env=False, event_hooks={"request": [hook]})
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", http_client=http) as client:
        answer = await client.chat.completions.create(
            model="agent", messages=[{"role": "user", "content": text}], extra_headers={KEY: conversation}
        )
    return answer.choices[0].message.content or ""


def agent(name: str) -> LaneMiddleware:
    async def chat(request: Request) -> JSONResponse:
        text = (await request.json())["messages"][-1]["content"]
        reply = f"{name} did it"
        colleague, _, rest = text.partition(" ")  # "http://...#conversation what to do": ask a colleague first
        if colleague.startswith("http://"):
            url, _, conversation = colleague.partition("#")
            try:
                reply = f"{name} asked, and {await ask(url, conversation, rest)}"
            except APIStatusError as error:
                reply = f"{name} was refused: {error.code}"
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return JSONResponse(
            {"id": "c", "object": "chat.completion", "created": 0, "model": "agent", "choices": [choice]}
        )

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    return LaneMiddleware(app, key=KEY, trusted_keys=True)


async def check(writer: str, researcher: str) -> None:
    print(await ask(writer, "novel", f"{researcher}#facts look it up"))
    # The researcher asks the writer back, for the very conversation whose turn waits for the researcher.
    print(await ask(writer, "novel", f"{researcher}#facts {writer}#novel what is it about?"))
    print(await ask(writer, "novel", f"{researcher}#facts {writer}#letters write to the library"))


if __name__ == "__main__":
    with LoopbackServer(agent("the writer")) as one, LoopbackServer(agent("the researcher")) as other:
        asyncio.run(check(one.url, other.url))
