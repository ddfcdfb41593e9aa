"""A decorated function in a module whose annotations are text."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Annotated, Any, get_type_hints

import pytest
from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel

from turnlane import Runtime, Turn
from turnlane.testing import AsgiDriver

RUNTIME = Runtime()


class Message(BaseModel):
    """What is posted."""

    text: str


def greeting() -> str:
    return "hello"


@RUNTIME.agent_turn(key="key")
async def answer(key: str, message: Message, *, turn: Turn) -> list[str]:
    """Answer one message."""
    return [turn.key, message.text]


@RUNTIME.agent_turn(key="key")
async def stream(key: str, *, turn: Turn) -> AsyncIterator[str]:
    yield turn.key


async def test_the_signature_holds_the_classes_and_the_annotations_stay_text() -> None:
    """Who reads the signature needs no namespace; who reads the hints finds the right one."""
    signature = inspect.signature(answer)
    assert {name: each.annotation for name, each in signature.parameters.items()} == {"key": str, "message": Message}
    assert signature.return_annotation == list[str]
    assert answer.__annotations__ == {"key": "str", "message": "Message", "return": "list[str]"}
    assert get_type_hints(answer) == {"key": str, "message": Message, "return": list[str]}
    assert get_type_hints(stream) == {"key": str, "return": AsyncIterator[str]}
    assert await answer("a", Message(text="hi")) == ["a", "hi"]
    assert [item async for item in stream("b")] == ["b"]


async def test_names_of_a_function_body_are_no_obstacle() -> None:
    """An annotation that can not be looked up from outside stays text, and calls work."""

    class Local:
        pass

    @RUNTIME.agent_turn(key="key")
    async def local(key: str, thing: Local, *, turn: Turn) -> Local:
        return thing

    thing = Local()
    assert await local("a", thing) is thing
    assert inspect.signature(local).parameters["thing"].annotation == "Local"


@pytest.mark.parametrize("above", [True, False])
async def test_fastapi_reads_an_endpoint_that_was_decorated(above: bool) -> None:
    """The body model, the header and the dependency are found; whether as a decorator line or by hand."""
    app = FastAPI()

    async def endpoint(
        message: Message, x_key: Annotated[str, Header()], word: Annotated[str, Depends(greeting)], *, turn: Turn
    ) -> dict[str, str]:
        return {"reply": f"{word} {turn.key}, {message.text}"}

    register: Any = app.post("/chat")
    decorate = RUNTIME.agent_turn(key="x_key")
    if above:
        register(decorate(endpoint))
    else:
        app.add_api_route("/chat", decorate(endpoint), methods=["POST"])
    async with AsgiDriver(app) as driver:
        headers = {"x-key": "ada", "content-type": "application/json"}
        request = driver.start("POST", "/chat", headers=headers, body=b'{"text": "how are you"}')
        response = await request.response()
    assert (response.status, response.json()) == (200, {"reply": "hello ada, how are you"})
