"""A directory of transcripts, and short names for what is looked at in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnlane.transcripts import Transcripts

Make = Callable[..., Transcripts]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a `Transcripts` object of the directory of this test; each is a stranger to the others."""

    def make(**settings: Any) -> Transcripts:
        return Transcripts(tmp_path / "transcripts", **settings)

    return make


@pytest.fixture
def transcripts(make: Make) -> Transcripts:
    """One such object."""
    return make()
