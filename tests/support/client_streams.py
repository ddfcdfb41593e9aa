"""Asks a server for streams, one after the other, and prints what came of each: a client in a process of its own.

`python client_streams.py openai|anthropic PORT SCENARIO...`, also with other versions of the clients than those of the
tests. `client_streams.mjs` is the same for Node; what a scenario is, `net_streams.py` says.
"""

import json
import sys
from importlib import import_module
from typing import Any


def main(library: str, port: str, *scenarios: str) -> None:
    """Run scenarios, each a JSON object with `name`, `headers` and `max_retries`; print a JSON object for each."""
    package: Any = import_module(library)
    for text in scenarios:
        print(json.dumps(outcome_of(package, port, json.loads(text))), flush=True)


def outcome_of(package: Any, port: str, scenario: dict[str, Any]) -> dict[str, Any]:
    outcome: dict[str, Any] = {"name": scenario["name"], "version": package.__version__, "pieces": []}
    with client_of(package, port, scenario) as client:
        try:
            for piece in pieces_of(package, client, scenario):
                outcome["pieces"].append(piece)
        except package.APIError as error:
            body: Any = error.body or {}
            outcome["code"] = body.get("error", body).get("code")
            outcome["status"] = getattr(error, "status_code", None)
            outcome["message"] = str(error)
    return outcome


def client_of(package: Any, port: str, scenario: dict[str, Any]) -> Any:
    is_openai = package.__name__ == "openai"
    return (package.OpenAI if is_openai else package.Anthropic)(
        base_url=f"http://127.0.0.1:{port}" + ("/v1" if is_openai else ""),
        api_key="unused",
        max_retries=scenario["max_retries"],
        http_client=package.DefaultHttpxClient(trust_env=False),
    )


def pieces_of(package: Any, client: Any, scenario: dict[str, Any]) -> Any:
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": scenario["name"]}], "stream": True}
    # Of the request, not of the client: else the clients put their own read timeout in place of the given one.
    asked["extra_headers"] = scenario["headers"]
    if package.__name__ == "openai":
        for chunk in client.chat.completions.create(**asked):
            yield chunk.choices[0].delta.content
    else:
        for event in client.messages.create(max_tokens=9, **asked):
            if event.type == "content_block_delta":
                yield event.delta.text


if __name__ == "__main__":
    main(*sys.argv[1:])
