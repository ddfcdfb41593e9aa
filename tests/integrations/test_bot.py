"""A bot loop of plain functions."""

import asyncio
import runpy
from pathlib import Path
from typing import Any

import pytest

from support.example_output import example_output

EXAMPLE = Path(__file__).parents[2] / "examples" / "integrations" / "bot_loop.py"


def test_the_example_answers_three_quick_messages_at_once(tmp_path: Path) -> None:
    """The first was alone; what was typed while it was answered is one turn, and another chat waits for none of it."""
    lines = example_output("bot_loop.py", directory=tmp_path)
    assert lines[0] == "to ada: you said 'hello'"
    assert sorted(lines[1:]) == [
        "'is' is answered together with what came after it",
        "'where' is answered together with what came after it",
        "to ada: you said 'where is my parcel?'",
        "to bob: you said 'good morning'",
    ]


async def test_a_model_that_fails_does_not_end_the_loop(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log says which words are not answered, all of those that were one turn; what comes after them is."""
    example: dict[str, Any] = runpy.run_path(str(EXAMPLE))
    asked, go = asyncio.Event(), asyncio.Event()

    async def ask_model(text: str) -> str:
        asked.set()
        await go.wait()
        if "fail" in text:
            raise RuntimeError("the model is away")
        return text

    async def updates(*, offset: int) -> Any:
        if offset == 1:
            await asked.wait()
        if offset == 3:
            go.set()
        return await scripted(offset=offset)

    example["main"].__globals__["ask_model"] = ask_model
    script = (0.0, "ada", "one"), (0.0, "ada", "this"), (0.0, "ada", "will fail"), (0.0, "bob", "hello")
    messenger = example["Messenger"](*script)
    scripted, messenger.updates = messenger.updates, updates
    await example["main"](messenger)
    assert "ada is not answered: 'this will fail'" in caplog.text
    said = sorted(capsys.readouterr().out.splitlines())
    assert said == ["'this' is answered together with what came after it", "to ada: one", "to bob: hello"]


async def test_a_messenger_that_fails_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Not even where all it is to say is that too many wait."""
    example: dict[str, Any] = runpy.run_path(str(EXAMPLE))

    async def send(chat: str, text: str) -> None:
        raise ConnectionError("the messenger is away")

    messenger = example["Messenger"](*((0.0, "ada", f"{number}") for number in range(25)))
    messenger.send = send
    await example["main"](messenger)
    assert "update 25 is not answered" in caplog.text
    assert "ada is not answered: '0'" in caplog.text
