"""What an integration can not use is refused where it is given, not in the middle of the first turn."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any, cast

import pytest

from support.rigs import why_not
from turnlane import Runtime, Transcripts

# Each imports its framework when it is called: not all of them are in every environment.


def openai_agents(given: Any) -> object:
    from turnlane_integrations.openai_agents import TranscriptSession

    return TranscriptSession("c", given)


def langgraph(given: Any) -> object:
    from langgraph.checkpoint.memory import InMemorySaver

    from turnlane_integrations.langgraph import FencedSaver

    return FencedSaver(InMemorySaver(), salvage=given)


def google_adk(given: Any) -> object:
    from google.adk.sessions import InMemorySessionService

    from turnlane_integrations.google_adk import FencedSessions

    return FencedSessions(InMemorySessionService(), salvage=given)


def pydantic_ai(given: Any) -> object:
    from turnlane_integrations.pydantic_ai import TranscriptConversationStore

    return TranscriptConversationStore(given)


def strands(given: Any) -> object:
    from turnlane_integrations.strands import FencedRepository

    return FencedRepository(cast("Any", object()), salvage=given)


def in_memory() -> object:
    from agno.db.in_memory import InMemoryDb

    return cast("Any", InMemoryDb)()


def agno(given: Any) -> object:
    from turnlane_integrations.agno import fenced_db

    return fenced_db(in_memory(), salvage=given)


def agent_framework(given: Any) -> object:
    from turnlane_integrations.agent_framework import TranscriptHistoryProvider

    return TranscriptHistoryProvider(given)


def llama_index(given: Any) -> object:
    from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore

    from turnlane_integrations.llama_index import FencedChatStore

    return FencedChatStore(SQLAlchemyChatStore("messages"), salvage=given)


KEEPS = (openai_agents, langgraph, google_adk, pydantic_ai, strands, agno, agent_framework, llama_index)


@pytest.mark.parametrize("make", KEEPS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("given", [None, "state/transcripts", object()], ids=["none", "a path", "something"])
def test_a_place_for_words_is_transcripts(make: Callable[[Any], object], given: object) -> None:
    """A path or nothing would be found out when words are to be kept, and lose them."""
    reason = why_not(make.__name__)
    if reason is not None:
        pytest.skip(reason)
    with pytest.raises(ValueError, match=r"(salvage|transcripts) must be turnlane\.Transcripts, not"):
        make(given)


def runner_of_openai_agents(**given: Any) -> object:
    from turnlane_integrations.openai_agents import LaneRunner

    return LaneRunner(Runtime(), **given)


def runner_of_llama_index(**given: Any) -> object:
    from turnlane_integrations.llama_index import LaneRunner

    return LaneRunner(Runtime(), **given)


def graph_of_langgraph(**given: Any) -> object:
    from langgraph.graph import StateGraph  # pyright: ignore[reportMissingTypeStubs]

    from turnlane_integrations.langgraph import LaneGraph

    graph: Any = cast("Any", StateGraph)(dict)
    graph.add_node("n", lambda state: state)  # pyright: ignore[reportUnknownLambdaType]
    graph.set_entry_point("n")
    return LaneGraph(graph.compile(), Runtime(), **given)


def executor_of_a2a(**given: Any) -> object:
    from turnlane_integrations.a2a import LaneAgentExecutor

    return LaneAgentExecutor(cast("Any", object()), Runtime(), **given)


def agents_of_strands(**given: Any) -> object:
    from turnlane_integrations.strands import LaneAgents

    return LaneAgents(Runtime(), cast("Any", object()), **given)


RUNNERS = (runner_of_openai_agents, runner_of_llama_index, graph_of_langgraph, executor_of_a2a, agents_of_strands)


@pytest.mark.parametrize("make", RUNNERS, ids=lambda make: make.__name__.partition("_of_")[2])
@pytest.mark.parametrize("given", [-1, 0, "x", float("nan")])
def test_a_timeout_is_a_number_of_seconds(make: Callable[..., object], given: object) -> None:
    """As everywhere."""
    reason = why_not(make.__name__.partition("_of_")[2])
    if reason is not None:
        pytest.skip(reason)
    with pytest.raises(ValueError, match=r"turn_timeout must be a positive number of seconds, not"):
        make(turn_timeout=given)


def test_a_runtime_is_one() -> None:
    """As all who run agents ask."""
    from turnlane_integrations._policies import one_by_one

    with pytest.raises(ValueError, match=r"runtime must be a turnlane\.Runtime, not 'file:///run'"):
        one_by_one(cast("Any", "file:///run"), None)


def test_what_pydantic_ai_is_given_is_what_it_takes() -> None:
    """Each argument is named."""
    reason = why_not("pydantic_ai")
    if reason is not None:
        pytest.skip(reason)
    from pydantic_ai import Agent
    from pydantic_ai.conversation_store import InMemoryConversationStore

    from turnlane_integrations.pydantic_ai import LaneAgent

    good: dict[str, Any] = {"wrapped": Agent(), "store": InMemoryConversationStore(), "scope": None}
    for name, given in (("wrapped", None), ("store", "file:///run"), ("scope", 3)):
        with pytest.raises(ValueError, match=f"{name} can not be {given!r}"):
            cast("Any", LaneAgent)(**(good | {name: given}), runtime=Runtime())


def test_what_langgraph_is_given_is_what_it_takes(tmp_path: Path) -> None:
    """A checkpointer that is to be entered first is none, and a portal is one."""
    reason = why_not("langgraph")
    if reason is not None:
        pytest.skip(reason)
    from langgraph.checkpoint.memory import InMemorySaver

    from turnlane_integrations.langgraph import FencedSaver

    salvage = Transcripts(tmp_path)
    with pytest.raises(ValueError, match="a checkpointer is needed, not"):
        FencedSaver(cast("Any", object()), salvage=salvage)
    with pytest.raises(ValueError, match=r"portal must be an anyio\.from_thread\.BlockingPortal, not 3"):
        FencedSaver(InMemorySaver(), salvage=salvage, portal=cast("Any", 3))
    with pytest.raises(ValueError, match="at most 512 bytes"):
        FencedSaver(InMemorySaver(), salvage=salvage).get_tuple({"configurable": {"thread_id": "x" * 600}})


def test_what_google_adk_is_given_is_what_it_takes(tmp_path: Path) -> None:
    """A service, whose fence can be copied as it can."""
    reason = why_not("google_adk")
    if reason is not None:
        pytest.skip(reason)
    from google.adk.sessions import InMemorySessionService

    from turnlane_integrations.google_adk import FencedSessions

    with pytest.raises(ValueError, match="a session service is needed, not None"):
        FencedSessions(cast("Any", None), salvage=Transcripts(tmp_path))
    service = InMemorySessionService()
    assert copy(FencedSessions(service, salvage=Transcripts(tmp_path))).service is service


def test_what_agno_is_given_is_what_it_takes(tmp_path: Path) -> None:
    """A database of agno, which is fenced once."""
    reason = why_not("agno")
    if reason is not None:
        pytest.skip(reason)
    from turnlane_integrations.agno import fenced_db

    salvage = Transcripts(tmp_path)
    for given in (None, "x", fenced_db(in_memory(), salvage=salvage)):
        with pytest.raises(ValueError, match="a database of agno is needed, without a fence"):
            fenced_db(given, salvage=salvage)


def test_a_lane_is_of_a_runtime() -> None:
    """As with all others."""
    reason = why_not("fastapi")
    if reason is not None:
        pytest.skip(reason)
    from turnlane_integrations.fastapi import lane

    with pytest.raises(ValueError, match=r"runtime must be a turnlane\.Runtime, not None"):
        lane(cast("Any", None), "x-key")
