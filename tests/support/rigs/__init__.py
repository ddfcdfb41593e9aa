"""Agents of real frameworks, to be tested with lanes and without."""

import os
from importlib import import_module
from importlib.util import find_spec

import pytest

from support.rigs.contract import Line, Place, Rig, ScriptedModel

__all__ = ("PACKAGES", "RIGS", "Line", "Place", "Rig", "ScriptedModel", "rig_of", "rigs", "why_not")

RIGS = (
    "a2a",
    "agent_framework",
    "agno",
    "claude_agent_sdk",
    "fastapi",
    "google_adk",
    "langgraph",
    "llama_index",
    "openai_agents",
    "openai_agents_transcript",
    "pydantic_ai",
    "strands",
)
"""The modules here that have a rig, each named for its integration."""

PACKAGES: dict[str, str] = {
    "fastapi": "fastapi",
    "openai_agents": "agents",
    "openai_agents_transcript": "agents",
    "langgraph": "langgraph",
    "google_adk": "google.adk",
    "pydantic_ai": "pydantic_ai",
    "claude_agent_sdk": "claude_agent_sdk",
    "strands": "strands",
    "agno": "agno",
    "agent_framework": "agent_framework",
    "a2a": "a2a",
    "llama_index": "llama_index.core",
    "mcp": "mcp",
}
"""By the name of its integration, what the tests in `tests/integrations/test_<name>*.py` need."""

EXPECTED = "TURNLANE_INTEGRATIONS"
"""The environment variable that names the integrations whose package may not be missing; `all` names all."""


def rig_of(name: str, place: Place, model: ScriptedModel) -> Rig:
    """Return the rig of a module of this package: its class `RIG`.

    Raises:
        ImportError: the framework is not installed.
    """
    made = import_module(f"support.rigs.{name}").RIG(place, model)
    assert isinstance(made, Rig)
    return made


def rigs() -> list[object]:
    """Return the names of the rigs as parameters of a test; those whose framework is missing are skipped."""
    return [pytest.param(name, marks=_mark(name)) for name in RIGS]


def why_not(name: str) -> str | None:
    """Return why the tests of an integration are skipped here; None where they run, or are to fail without it."""
    expected = os.environ.get(EXPECTED, "").split()
    if "all" in expected or name in expected or _is_there(PACKAGES[name]):
        return None
    return f"{PACKAGES[name]} is not installed here"


def _mark(name: str) -> pytest.MarkDecorator:
    reason = why_not(name)
    return pytest.mark.skipif(reason is not None, reason=reason or "")


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of its parent
        return False
