"""What answers the demo's turns."""

from collections.abc import Sequence
from contextlib import aclosing

import pytest

from turnlane.cli.demo.model import Message, Model, ScriptedModel, UpstreamModel, model_from_environment


async def reply_of(model: Model, messages: Sequence[Message]) -> list[str]:
    async with aclosing(model.stream(messages)) as stream:
        return [piece async for piece in stream]


async def test_the_scripted_model_says_what_it_was_given() -> None:
    """The reply names the turn, the message, and every earlier user message in order."""
    history: list[Message] = [
        {"role": "user", "content": "my name is Ada"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "I live in London"},
        {"role": "assistant", "content": "Fine."},
        {"role": "user", "content": "who am I?"},
    ]
    pieces = await reply_of(ScriptedModel(delay=0), history)
    assert "".join(pieces) == (
        'Turn 3. You said "who am I?". I remember 2 earlier messages: "my name is Ada", "I live in London".'
    )


async def test_a_lost_history_is_visible_in_the_reply() -> None:
    """Without history the reply says so."""
    pieces = await reply_of(ScriptedModel(delay=0), [{"role": "user", "content": "who  am I?"}])
    assert "".join(pieces) == 'Turn 1. You said "who  am I?". I remember nothing before it.'
    assert len(pieces) > 5


async def test_a_conversation_without_user_message_is_refused() -> None:
    """There is nothing to answer."""
    with pytest.raises(ValueError, match="user message"):
        await reply_of(ScriptedModel(delay=0), [{"role": "assistant", "content": "Hello."}])


@pytest.mark.parametrize("delay", [-1.0, float("nan")])
def test_a_delay_that_is_no_time_is_refused(delay: float) -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match="delay"):
        ScriptedModel(delay=delay)


async def test_the_environment_chooses_the_model() -> None:
    """OPENAI_BASE_URL makes it an upstream, an empty one does not."""
    assert isinstance(model_from_environment({}), ScriptedModel)
    assert isinstance(model_from_environment({"OPENAI_BASE_URL": " "}), ScriptedModel)
    upstream = model_from_environment({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_MODEL": "small"})
    assert isinstance(upstream, UpstreamModel)
    assert upstream.name == "small"
    assert "127.0.0.1:9" in repr(upstream)
    await upstream.aclose()
