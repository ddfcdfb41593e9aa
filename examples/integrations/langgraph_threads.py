"""langgraph: two messages of one thread at once, with the graph alone and in lanes. Run it to see what is kept.

Needs `pip install 'turnlane[langgraph]'`; the model is a stand-in, so nothing is asked of anybody.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

import asyncio
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from turnlane import Runtime
from turnlane_integrations.langgraph import LaneGraph

TEXTS = ("my name is Ada", "who am I?")


async def ask_model(state: MessagesState) -> dict[str, Any]:
    *before, text = [each.text for each in state["messages"] if isinstance(each, HumanMessage)]
    await asyncio.sleep(0.1)  # stands for the model's time
    memory = " and ".join(repr(str(each)) for each in before) or "nothing before it"
    return {"messages": [AIMessage(f"'{text}'? I remember {memory}")]}


def compiled() -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("model", ask_model)
    builder.add_edge(START, "model")
    builder.add_edge("model", END)
    return builder.compile(checkpointer=InMemorySaver())


async def talk(graph: Any) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": "ada"}}

    async def say(text: str) -> str:
        found = await graph.ainvoke({"messages": [HumanMessage(text)]}, config)
        return f"  {text} -> {found['messages'][-1].text}"

    for line in await asyncio.gather(*(say(text) for text in TEXTS)):
        print(line)
    state = await graph.aget_state(config)
    print(f"  kept: {len(state.values['messages'])} of {2 * len(TEXTS)} messages")


async def main() -> None:
    print("the graph alone:")
    await talk(compiled())
    print("in lanes:")
    async with Runtime() as runtime:
        await talk(LaneGraph(compiled(), runtime))  # the one line


if __name__ == "__main__":
    asyncio.run(main())
