"""The demo's agent server, spoken to by the real openai client on a real socket."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI, BadRequestError, DefaultAsyncHttpxClient, InternalServerError

from turnlane.cli.demo.host import LoopbackServer, ServerNotStarted
from turnlane.cli.demo.log import LABEL_HEADER, NotedArrivals, TurnLog
from turnlane.cli.demo.model import Message, Model, ScriptedModel, UpstreamModel
from turnlane.cli.demo.server import KEY_HEADER, create_app
from turnlane.cli.demo.storage import ConversationStorage

pytestmark = pytest.mark.sockets

KEY = {KEY_HEADER: "agent:main:test"}


@contextmanager
def serving(
    directory: Path, model: Model | None = None, log: TurnLog | None = None
) -> Generator[LoopbackServer, None, None]:
    app = create_app(model or ScriptedModel(delay=0), ConversationStorage(directory), log=log)
    with LoopbackServer(app if log is None else NotedArrivals(app, log=log)) as server:
        yield server


def client_of(server: LoopbackServer) -> AsyncOpenAI:
    http = DefaultAsyncHttpxClient(trust_env=False)
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=10, http_client=http)


async def test_chat_answers_and_remembers(tmp_path: Path) -> None:
    """The client sends its newest message only; the server has the rest, over both endpoints."""
    with serving(tmp_path) as server:
        async with client_of(server) as client:
            first = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "I am Ada"}], extra_headers=KEY
            )
            second = await client.responses.create(model="m", input="who am I?", extra_headers=KEY)
            stranger = await client.responses.create(model="m", input="who am I?")
    assert first.choices[0].message.content == 'Turn 1. You said "I am Ada". I remember nothing before it.'
    assert first.choices[0].finish_reason == "stop"
    assert first.id.startswith("chatcmpl-")
    assert first.model == "scripted"
    assert first.usage is not None
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    assert second.output_text == 'Turn 2. You said "who am I?". I remember 1 earlier message: "I am Ada".'
    assert second.status == "completed"
    assert second.usage is not None
    assert second.usage.output_tokens == len(second.output_text.split())
    assert stranger.output_text.startswith("Turn 1.")


async def test_a_chat_stream_is_whole(tmp_path: Path) -> None:
    """One id, a role first, a finish reason last, usage where asked for, and the text in several pieces."""
    with serving(tmp_path) as server:
        async with client_of(server) as client:
            stream = await client.chat.completions.create(
                model="m",
                messages=[{"role": "system", "content": "be kind"}, {"role": "user", "content": "I am Ada"}],
                extra_headers=KEY,
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
    assert len({chunk.id for chunk in chunks}) == 1
    *parts, usage = chunks
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-1].choices[0].finish_reason == "stop"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in parts)
    assert text == 'Turn 1. You said "I am Ada". I remember nothing before it.'
    assert len(parts) > 8
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == len(text.split())


async def test_a_responses_stream_is_whole(tmp_path: Path) -> None:
    """The events come in the order of the interface, numbered, and the client's helper builds the final response."""
    with serving(tmp_path) as server:
        async with (
            client_of(server) as client,
            client.responses.stream(model="m", input="I am Ada", extra_headers=KEY) as stream,
        ):
            events = [event async for event in stream]
            final = await stream.get_final_response()
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert deltas > 8
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == 'Turn 1. You said "I am Ada". I remember nothing before it.'


async def test_the_newest_user_message_is_answered(tmp_path: Path) -> None:
    """Content parts are joined, assistant messages of the client are not taken for the user's."""
    with serving(tmp_path) as server:
        async with client_of(server) as client:
            answer = await client.responses.create(
                model="m",
                input=[
                    {"role": "user", "content": "old"},
                    {
                        "role": "user",
                        "content": [{"type": "input_text", "text": "I am "}, {"type": "input_text", "text": "Ada"}],
                    },
                    {"role": "assistant", "content": "prefilled"},
                ],
            )
    assert answer.output_text.startswith('Turn 1. You said "I am Ada".')


async def test_a_request_that_says_nothing_is_refused(tmp_path: Path) -> None:
    """400 in the shape the client reads, for an invalid body and for one without user message."""
    with serving(tmp_path) as server:
        async with client_of(server) as client:
            with pytest.raises(BadRequestError) as invalid:
                await client.post("/chat/completions", body={"messages": "nothing"}, cast_to=object)
            with pytest.raises(BadRequestError) as empty:
                await client.chat.completions.create(model="m", messages=[{"role": "system", "content": "be kind"}])
    assert invalid.value.code == empty.value.code == "invalid_request"
    assert "user message" in empty.value.message


class PausingModel:
    """Says one word, then nothing until it is closed."""

    name = "pausing"

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        yield "one "
        await asyncio.Event().wait()

    async def aclose(self) -> None: ...


async def test_a_turn_whose_client_leaves_ends_with_its_request(tmp_path: Path) -> None:
    """A stream cut off by the client ends its turn before the app returns, and stores nothing."""
    log = TurnLog()
    with serving(tmp_path, PausingModel(), log) as server:
        async with client_of(server) as client:
            stream = await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "I am Ada"}],
                stream=True,
                extra_headers={**KEY, LABEL_HEADER: "a"},
            )
            async with stream:
                async for chunk in stream:
                    if chunk.choices[0].delta.content:
                        break
        await log.noted("returned", "a", timeout=10)
    assert [note.kind for note in log.notes()] == ["arrived", "started", "loaded", "ended", "returned"]
    assert log.notes()[3].reply is None
    assert ConversationStorage(tmp_path).transcripts() == {}


async def test_an_upstream_answers_with_the_history_of_this_server(tmp_path: Path) -> None:
    """The upstream, here another demo server, is asked for a stream and its words are passed on and stored."""
    with serving(tmp_path / "upstream") as upstream:
        model = UpstreamModel(client_of(upstream), name="up")
        with serving(tmp_path / "front", model) as server:
            async with client_of(server) as client:
                first = await client.responses.create(model="m", input="I am Ada", extra_headers=KEY)
                second = await client.responses.create(model="m", input="who am I?", extra_headers=KEY)
    assert first.model == "up"
    # The upstream was given no session key: it knows only what the request says.
    assert second.output_text == 'Turn 1. You said "who am I?". I remember nothing before it.'
    (stored,) = ConversationStorage(tmp_path / "front").transcripts().values()
    assert [message["content"] for message in stored] == [
        "I am Ada",
        first.output_text,
        "who am I?",
        second.output_text,
    ]


async def test_an_upstream_that_fails_is_told_to_the_client(tmp_path: Path) -> None:
    """502 before the response began, an error inside the stream after."""
    with serving(tmp_path / "upstream") as gone:
        dead = gone.url
    http = DefaultAsyncHttpxClient(trust_env=False)
    upstream = AsyncOpenAI(base_url=f"{dead}/v1", api_key="unused", max_retries=0, http_client=http)
    with serving(tmp_path / "front", UpstreamModel(upstream, name="up")) as server:
        async with client_of(server) as client:
            with pytest.raises(InternalServerError) as refused:
                await client.responses.create(model="m", input="I am Ada")
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "I am Ada"}], stream=True
            )
            with pytest.raises(APIError) as in_band:
                async for _ in stream:
                    pass
    assert refused.value.status_code == 502
    assert refused.value.code == "upstream_error"
    assert not isinstance(in_band.value, APIStatusError)
    assert in_band.value.code == "upstream_error"


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    """The error names the port; the server that has it goes on."""
    with serving(tmp_path) as server, pytest.raises(ServerNotStarted, match=str(server.port)):
        LoopbackServer(create_app(ScriptedModel(), ConversationStorage(tmp_path)), port=server.port)


def test_an_app_that_does_not_start_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """The block is not entered, and nothing is left running."""

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        raise RuntimeError("planted")

    server = LoopbackServer(app)
    with pytest.raises(ServerNotStarted, match="did not start"):
        server.__enter__()
    assert "stopped" in repr(server)
    assert "planted" in caplog.text
