"""What a fence of any framework has refused is kept, whatever it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from turnlane import Transcripts
from turnlane_integrations._refused import refused


class Strange:
    """Something of a framework's that JSON does not know."""

    def __repr__(self) -> str:
        return "<strange>"


@pytest.mark.parametrize("place", ["files", "sqlite"])
@pytest.mark.parametrize(
    "word", ["half of an emoji: \ud83d", float("nan"), float("inf"), Strange(), {"deep": [Strange()]}, "a plain one"]
)
async def test_words_are_kept_though_a_transcript_can_not_hold_them(place: str, word: Any, tmp_path: Path) -> None:
    """As the text of all that was refused at once; the error says where."""
    where = str(tmp_path / "salvage") if place == "files" else f"sqlite:///{tmp_path}/salvage.db"
    items: tuple[dict[str, Any], ...] = ({"message": "before"}, {"message": word})
    facts = {"where": "session 'c'", "kind": "appended", "expected": "1", "found": "2", "phase": "append"}
    async with Transcripts(where) as salvage:
        error = await refused(salvage, "c", items, **facts)
        kept = await salvage.read("c")
    assert error.salvaged == f"c in {salvage.store.where}"
    texts = tuple({"json": json.dumps(item, default=repr)} for item in items)
    assert kept == (items if word == "a plain one" else texts)
