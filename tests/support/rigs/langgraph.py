"""A graph of langgraph with a chat model, whose checkpoints are in SQLite, as its documentation has them."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, AnyMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph

from support.rigs.contract import Line, Rig, ScriptedModel
from turnlane_integrations.langgraph import LaneGraph

__all__ = ("RIG", "ScriptedChat", "chat", "lines_of", "of_thread", "said")


class ScriptedChat(BaseChatModel):
    """The scripted model, as one of langchain."""

    script: Any  # ScriptedModel, which is no model of pydantic

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("the scripted model waits in its event loop")

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        reply = await self.script.reply(said(messages))
        return ChatResult(generations=[ChatGeneration(message=AIMessageChunk(content=reply))])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self.script.words(said(messages))) as parts:
            async for part in parts:
                yield ChatGenerationChunk(message=AIMessageChunk(content=part))


def said(messages: Sequence[BaseMessage]) -> list[str]:
    """Return what people said."""
    return [message.text for message in messages if isinstance(message, HumanMessage)]


def lines_of(messages: Sequence[AnyMessage]) -> list[Line]:
    """Return what people and the agent said."""
    return [Line("user" if isinstance(each, HumanMessage) else "assistant", str(each.text)) for each in messages]


def of_thread(thread: str) -> RunnableConfig:
    """Return the configuration of a conversation."""
    return {"configurable": {"thread_id": thread}}


def chat(model: ScriptedModel, saver: BaseCheckpointSaver[Any] | None) -> Any:
    """Return a compiled graph with one node: the model answers."""
    scripted = ScriptedChat(script=model)

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await scripted.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


class LangGraph(Rig):
    """See the module."""

    async def open(self) -> None:
        file = f"{self.place.directory}/checkpoints.db"
        saver = await self.stack.enter_async_context(AsyncSqliteSaver.from_conn_string(file))
        graph = chat(self.model, saver)
        self._graph = graph if self.runtime is None else LaneGraph[Any](graph, self.runtime)

    async def answer(self, conversation: str, text: str) -> str:
        found = await self._graph.ainvoke({"messages": [HumanMessage(text)]}, of_thread(conversation))
        return str(found["messages"][-1].text)

    async def stream(self, conversation: str, text: str) -> AsyncGenerator[str, None]:
        messages = {"messages": [HumanMessage(text)]}
        stream = self._graph.astream(messages, of_thread(conversation), stream_mode="messages")
        async with aclosing(stream) as parts:
            async for message, _ in parts:
                yield str(message.text)

    async def history(self, conversation: str) -> list[Line]:
        state = await self._graph.aget_state(of_thread(conversation))
        return lines_of(state.values.get("messages", []))


RIG = LangGraph
