"""An agent server with the OpenAI interface, as people write one, and the same server behind lanes."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from openai import OpenAIError

from turnlane.asgi import LaneMiddleware
from turnlane.cli.demo.log import LABEL_HEADER, TurnLog
from turnlane.cli.demo.model import Model
from turnlane.cli.demo.storage import ConversationStorage
from turnlane.cli.demo.wire import ChatAnswer, ChatRequest, ResponsesAnswer, ResponsesRequest, error_document, event
from turnlane.runtime import Runtime
from turnlane.turns import current_turn

__all__ = ("KEY_HEADER", "create_app", "create_protected_app")

KEY_HEADER = "x-openclaw-session-key"

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


class Agent:
    """Runs turns: finds the session, loads its history, asks the model, stores what was said."""

    def __init__(self, model: Model, storage: ConversationStorage, log: TurnLog | None) -> None:
        self._model = model
        self._storage = storage
        self._log = log or TurnLog()
        if log is None:
            self._log.close()

    async def turn(self, key: str | None, text: str, label: str) -> AsyncGenerator[str, None]:
        """Run one turn and yield the reply in pieces."""
        self._log.note("started", label)
        pieces: list[str] = []
        stored = False
        try:
            session_id = await self._session_id(key)
            history = await self._storage.load(session_id)
            earlier = tuple(message["content"] for message in history if message["role"] == "user")
            self._log.note("loaded", label, session_id=session_id, remembered=earlier)
            async with aclosing(self._model.stream([*history, {"role": "user", "content": text}])) as stream:
                async for piece in stream:
                    pieces.append(piece)
                    yield piece
            await self._storage.store_turn(key, session_id, text, "".join(pieces))
            stored = True
        finally:
            self._log.note("ended", label, reply="".join(pieces) if stored else None)

    async def _session_id(self, key: str | None) -> str:
        turn = current_turn()
        if turn is not None and turn.session is not None:
            return turn.session.id
        # What most servers do: look, and mint what is not there. The row is stored with the turn.
        stored = None if key is None else await self._storage.session_id_of(key)
        return stored or uuid4().hex


class ClosingStream(StreamingResponse):
    """A streamed response whose generator ends with the response, also when the client left half-way."""

    def __init__(self, events: AsyncGenerator[str, None]) -> None:
        self._events = events
        super().__init__(_in_band(events), media_type="text/event-stream", headers={"cache-control": "no-cache"})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # the types are Starlette's own
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def _in_band(events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    # The status is sent: what the upstream refuses now can only be said inside the stream.
    try:
        async for text in events:
            yield text
    except OpenAIError as error:
        yield event(error_document(str(error), code="upstream_error", kind="server_error"))


def _answer_errors(app: FastAPI) -> None:
    async def invalid_request(request: Request, error: Exception) -> Response:
        return JSONResponse(error_document(str(error), code="invalid_request"), status_code=400)

    async def upstream_failed(request: Request, error: Exception) -> Response:
        return JSONResponse(error_document(str(error), code="upstream_error", kind="server_error"), status_code=502)

    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(OpenAIError, upstream_failed)


def create_app(
    model: Model, storage: ConversationStorage, *, log: TurnLog | None = None, lifespan: Lifespan | None = None
) -> FastAPI:
    """Return the server as people write it: right for one message at a time.

    Args:
        model: answers; closed when the server shuts down.
        storage: where conversations are kept.
        log: what is to be noted about labelled messages.
        lifespan: entered before the server takes requests, left after the last.
    """

    @asynccontextmanager
    async def with_model(app: FastAPI) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(model.aclose)
            if lifespan is not None:
                await stack.enter_async_context(lifespan(app))
            yield

    app = FastAPI(title="turnlane demo", lifespan=with_model)
    agent = Agent(model, storage, log)
    _answer_errors(app)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        text = body.newest_text
        usage = body.stream_options is not None and body.stream_options.include_usage
        return await _respond(
            agent, request, text, ChatAnswer(model=model.name, prompt=text, include_usage=usage), stream=body.stream
        )

    @app.post("/v1/responses")
    async def responses(request: Request, body: ResponsesRequest) -> Response:
        text = body.newest_text
        return await _respond(agent, request, text, ResponsesAnswer(model=model.name, prompt=text), stream=body.stream)

    # The decorator registered them; the type checker wants a use.
    _ = chat_completions, responses
    return app


async def _respond(
    agent: Agent, request: Request, text: str, answer: ChatAnswer | ResponsesAnswer, *, stream: bool
) -> Response:
    if not text:
        return JSONResponse(error_document("there is no user message", code="invalid_request"), status_code=400)
    pieces = agent.turn(request.headers.get(KEY_HEADER), text, request.headers.get(LABEL_HEADER, ""))
    if stream:
        return ClosingStream(answer.events(pieces))
    return JSONResponse(answer.body("".join([piece async for piece in pieces])))


def create_protected_app(
    model: Model, storage: ConversationStorage, *, runtime: Runtime, log: TurnLog | None = None
) -> FastAPI:
    """Return the same server with the one line added; sessions come from the runtime."""
    app = create_app(model, storage, log=log, lifespan=runtime.lifespan)
    # Loopback only: whoever can reach it may name any session.
    app.add_middleware(LaneMiddleware, key=KEY_HEADER, runtime=runtime, trusted_keys=True)
    return app
