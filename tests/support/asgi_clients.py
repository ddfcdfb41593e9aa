"""The real OpenAI and Anthropic clients, answered with a response a test has recorded."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import anthropic
import openai

from turnlane.testing import Response

__all__ = ("CLIENTS", "Recorded", "ask")

CLIENTS = ("openai", "anthropic")


@dataclass
class Recorded:
    """Answers every request with one response, and counts them."""

    response: Response
    asked: int = 0

    def client(self, name: str, **options: Any) -> Any:
        """Return a real client that gets the response to whatever it sends."""
        library: Any = openai if name == "openai" else anthropic
        http = http_of(library)

        def handle(_: Any) -> Any:
            self.asked += 1
            headers = dict(self.response.headers)
            return http.Response(self.response.status, headers=headers, content=self.response.body)

        wire = library.DefaultHttpxClient(transport=http.MockTransport(handle))
        make = openai.OpenAI if name == "openai" else anthropic.Anthropic
        base = "http://server/v1" if name == "openai" else "http://server"
        return make(api_key="none", base_url=base, http_client=wire, **options)


def http_of(library: Any) -> ModuleType:
    """Return the HTTP library a client is built on: it changed from one to another between versions."""
    return importlib.import_module(library.DefaultHttpxClient.__mro__[1].__module__.split(".")[0])


def ask(name: str, client: Any, *, stream: bool) -> Iterator[Any]:
    """Ask a client for a completion; yield what it makes of the answer."""
    messages = [{"role": "user", "content": "hello"}]
    with client:
        if name == "openai":
            found = client.chat.completions.create(model="m", messages=messages, stream=stream)
        else:
            found = client.messages.create(model="m", max_tokens=9, messages=messages, stream=stream)
        if stream:
            yield from found
        else:
            yield found
