"""agent-framework: other middleware beside the one that takes turns, wherever in the list it stands."""

import asyncio
import copy
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from agent_framework import (
    Agent,
    AgentContext,
    AgentMiddleware,
    AgentResponse,
    AgentSession,
    ChatContext,
    ChatMiddleware,
    ChatMiddlewareLayer,
    InMemoryHistoryProvider,
    Message,
)

from support.rigs import ScriptedModel
from support.rigs.agent_framework import Scripted
from support.rigs.contract import reply_to
from turnlane import Runtime, current_turn
from turnlane_integrations.agent_framework import LaneAgentMiddleware

Next = Callable[[], Awaitable[None]]
HOW = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
PLACES = pytest.mark.parametrize("place", ["inside", "outside"])
inside_scope: ContextVar[str] = ContextVar("inside_scope", default="")


def lane_of_turn() -> str | None:
    turn = current_turn()
    return None if turn is None else turn.key


class Noting(AgentMiddleware):
    """Notes in which turn it is called, and in which the results of streams are shown to it."""

    def __init__(self) -> None:
        self.turns: list[str | None] = []
        self.results: list[tuple[str, str | None]] = []

    async def process(self, context: AgentContext, call_next: Next) -> None:
        self.turns.append(lane_of_turn())

        async def note(response: AgentResponse[Any]) -> AgentResponse[Any]:
            self.results.append((response.text, lane_of_turn()))
            return response

        context.stream_result_hooks.append(note)
        await call_next()


class Answering(AgentMiddleware):
    """Never asks the agent."""

    async def process(self, context: AgentContext, call_next: Next) -> None:
        if not context.stream:
            context.result = AgentResponse(messages=[Message("assistant", ["cached"])])


class Guarding(AgentMiddleware):
    """Holds a stream back until it is whole, and puts a scope around the run; as agent hooks do."""

    async def process(self, context: AgentContext, call_next: Next) -> None:
        @asynccontextmanager
        async def scope() -> AsyncGenerator[None]:
            token = inside_scope.set("inside")
            try:
                yield
            finally:
                inside_scope.reset(token)

        if not context.stream:
            async with scope():
                await call_next()
            return
        context.stream_buffer_updates = True
        context.stream_consumption_context_manager_factories.append(scope)
        await call_next()


class Looking(ChatMiddleware):
    """Sees where the model is asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def process(self, context: ChatContext, call_next: Next) -> None:
        self.seen.append(inside_scope.get())
        await call_next()


class Layered(ChatMiddlewareLayer[Any], Scripted):
    """The scripted model, before which middleware runs."""


def agent_of(runtime: Runtime, other: AgentMiddleware, place: str, model: ScriptedModel) -> Agent:
    gate: AgentMiddleware = LaneAgentMiddleware(runtime)
    order = [gate, other] if place == "inside" else [other, gate]
    return Agent(Layered(model=model), context_providers=[InMemoryHistoryProvider("h")], middleware=order)


async def ask(agent: Agent, text: str, session: AgentSession, *, streaming: bool, **options: Any) -> str:
    if not streaming:
        response: AgentResponse[Any] = await agent.run(text, session=session, **options)
        return response.text
    return "".join([update.text async for update in agent.run(text, session=session, stream=True, **options)])


@HOW
@PLACES
async def test_what_it_does_to_a_result_is_done_within_the_turn(place: str, streaming: bool) -> None:
    """Also the hooks of a stream, whichever of the two comes first."""
    noting, session = Noting(), AgentSession(session_id="c")
    async with Runtime() as runtime:
        agent = agent_of(runtime, noting, place, ScriptedModel())
        assert await ask(agent, "one", session, streaming=streaming) == reply_to("one", 0)
        assert runtime.lanes.statistics().lanes == 0
    assert noting.turns == ["c" if place == "inside" else None]
    assert noting.results == ([(reply_to("one", 0), "c")] if streaming else [])


@PLACES
async def test_it_may_answer_itself(place: str) -> None:
    """There is no run, and no lane is left; a stream of nothing ends at once."""
    model, session = ScriptedModel(), AgentSession(session_id="c")
    async with Runtime() as runtime:
        agent = agent_of(runtime, Answering(), place, model)
        assert await ask(agent, "one", session, streaming=False) == "cached"
        assert await ask(agent, "one", session, streaming=True) == ""
        assert runtime.lanes.statistics().lanes == 0
    assert model.calls == []


@pytest.mark.skipif(
    not hasattr(AgentContext, "stream_update_transforms"), reason="this agent-framework has no scopes of streams"
)
@HOW
@PLACES
async def test_its_scope_is_around_the_run(place: str, streaming: bool) -> None:
    """What it has buffered and released is stored before the lane goes: the second message is shown the first."""
    looking, session, model = Looking(), AgentSession(session_id="c"), ScriptedModel()
    async with Runtime() as runtime, asyncio.timeout(30):
        agent = agent_of(runtime, Guarding(), place, model)
        options: dict[str, Any] = {"streaming": streaming, "middleware": [looking]}
        answers = await asyncio.gather(*(ask(agent, text, session, **options) for text in ("one", "two")))
    assert answers == [reply_to("one", 0), reply_to("two", 1)]
    assert looking.seen == ["inside", "inside"]
    stored: list[Message] = session.state["h"]["messages"]
    assert [message.text for message in stored] == ["one", answers[0], "two", answers[1]]


async def test_copies_of_an_agent_have_the_same_lanes() -> None:
    """Copies are made of agents; those alone can be copied, and so can these."""
    model, session = ScriptedModel(), AgentSession(session_id="c")
    async with Runtime() as runtime:
        middleware: Any = LaneAgentMiddleware(runtime)
        assert copy.deepcopy([middleware])[0] is middleware
        agents = [
            Agent(Layered(model=model), context_providers=[InMemoryHistoryProvider("h")], middleware=[each])
            for each in (middleware, copy.deepcopy(middleware))
        ]
        answers = await asyncio.gather(*(ask(agent, "m", session, streaming=False) for agent in agents))
    assert answers == [reply_to("m", 0), reply_to("m", 1)]
