"""Letting a lane go where the engine does not answer."""

import sys
from pathlib import Path
from typing import Any

import pytest

from engines.places import Place, in_files, in_memory
from engines.visits import Visit
from turnlane import Lanes
from turnlane.errors import EngineUnavailable
from turnlane.testing import ManualClock

WITHOUT_LEASE: list[Place] = [in_memory, *([] if sys.platform == "win32" else [in_files])]


@pytest.mark.parametrize("place", WITHOUT_LEASE, ids=lambda place: place.__name__)
async def test_a_lane_is_let_go_when_its_engine_answers_again(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes: no lease would free it."""
    monkeypatch.setattr("turnlane.lanes.shared.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("turnlane.lanes.shared.LONGEST_PAUSE", 0.001)
    clock, make = ManualClock(), place(tmp_path)
    engine = make()
    leave, told = engine.leave, 0

    async def failing(*given: Any, **how: Any) -> None:
        nonlocal told
        told += 1
        clock.advance(1000)
        if told < 5:
            raise EngineUnavailable("here", operation="leave a lane", reason="its disk is full")
        await leave(*given, **how)

    monkeypatch.setattr(engine, "leave", failing)
    async with Lanes(engine, clock=clock) as one, Lanes(make()) as other:
        visit = await Visit(one).running()
        behind = await Visit(other).waiting()
        await visit.left()
        await (await behind.running()).left()
    assert told == 5
