"""An agent server in a process of its own, which calls the agents that its request names, one after the other.

Called with the seconds a request may wait for its lane; reports its port, and each request that enters its app. The
body of a request is `{"route": [[url, key], ...], "with": "httpx" | "openai" | "nothing"}`: the app calls the first
url, for a conversation of that key, with the rest of the route. It answers with a chat completion that says what it
got: `"called": {"status": ..., "code": ..., "answer": ...}`.
"""

import asyncio
import json
import sys
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from support.server_loopback import free_socket
from turnlane import Enqueue, LaneMiddleware
from turnlane.httpx import chain_hook

KEY = "x-session-key"


def report(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


async def by_httpx(url: str, key: str, following: dict[str, Any], hooks: dict[str, Any]) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False, timeout=30, event_hooks=hooks) as client:
        response = await client.post(f"{url}/v1/chat/completions", json=following, headers={KEY: key})
    document = response.json()
    return {"status": response.status_code, "code": document.get("error", {}).get("code"), "answer": document}


async def by_openai(url: str, key: str, following: dict[str, Any], hooks: dict[str, Any]) -> dict[str, Any]:
    from openai import APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient

    http = DefaultAsyncHttpxClient(trust_env=False, event_hooks=hooks)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", http_client=http) as client:
        try:
            answer = await client.chat.completions.create(
                model="agent", messages=[], extra_body=following, extra_headers={KEY: key}
            )
        except APIStatusError as error:
            return {"status": error.status_code, "code": error.code, "answer": {}}
    return {"status": 200, "code": None, "answer": answer.model_dump()}


async def answer(request: Request) -> JSONResponse:
    body = await request.json()
    report("entered", key=request.headers[KEY])
    route = body["route"]
    called: dict[str, Any] | None = None
    if route:
        url, key = route[0]
        hooks = {} if body["with"] == "nothing" else {"request": [chain_hook(url.removeprefix("http://"))]}
        call = by_openai if body["with"] == "openai" else by_httpx
        called = await call(url, key, {"route": route[1:], "with": body["with"]}, hooks)
    completion: dict[str, Any] = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": []}
    return JSONResponse({**completion, "called": called})


async def main() -> None:
    app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    lanes = LaneMiddleware(app, key=KEY, trusted_keys=True, policy=Enqueue(wait_timeout=float(sys.argv[1])))
    with free_socket() as bound:
        bound.listen()
        report("ready", port=bound.getsockname()[1])
        config = uvicorn.Config(lanes, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve(sockets=[bound])


if __name__ == "__main__":
    asyncio.run(main())
