"""A program of claude-agent-sdk whose sessions are proven, and what is left of it."""

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.rigs import Place, ScriptedModel
from support.rigs.claude_agent_sdk import ClaudeAgentSDK
from turnlane import Runtime
from turnlane_integrations.claude_agent_sdk import LaneAgent

__all__ = ("agent_of", "claude", "lines_of", "programs", "runtime_of")


@asynccontextmanager
async def claude(tmp_path: Path, model: ScriptedModel | None = None) -> AsyncGenerator[ClaudeAgentSDK, None]:
    """Open an agent whose sessions are proven; nothing may have spoken with another machine, or still run."""
    async with ClaudeAgentSDK(Place(directory=str(tmp_path), lanes="memory://"), model or ScriptedModel()) as rig:
        yield rig
        assert rig.api.elsewhere == []
        assert programs() == []


def agent_of(rig: ClaudeAgentSDK) -> LaneAgent:
    assert rig.agent is not None
    return rig.agent


def runtime_of(rig: ClaudeAgentSDK) -> Runtime:
    assert rig.runtime is not None
    return rig.runtime


def programs() -> list[str]:
    """Return the commands of the programs this process has started, and that still run."""
    if not sys.platform.startswith("linux"):
        return []
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    found = [Path(f"/proc/{child}/cmdline") for child in children]
    return [command for command in (path.read_text() for path in found if path.exists()) if "stream-json" in command]


def lines_of(rig: ClaudeAgentSDK, conversation: str = "c") -> list[dict[str, Any]]:
    return [json.loads(line) for line in rig.file(conversation).read_text().splitlines()]
