"""A directory of transcripts, and short names for what is looked at in it."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from support.transcripts_turns import Place, on_a_server
from turnlane.transcripts import Transcripts

Make = Callable[..., Transcripts]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a `Transcripts` object of the directory of this test; each is a stranger to the others."""

    def make(**settings: Any) -> Transcripts:
        return Transcripts(tmp_path / "transcripts", **settings)

    return make


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    """One of `PLACES`, of a parameter of that name; on the server, each directory has a schema."""
    if request.param is not on_a_server:
        return cast("Place", request.param)
    lend: Callable[[], str] = request.getfixturevalue("lend")
    urls: dict[Path, str] = defaultdict(lend)

    def make(path: Path, **settings: Any) -> Transcripts:
        settings.setdefault("trace_turns", True)
        return Transcripts(urls[path], **settings)

    return make


@pytest.fixture
def transcripts(make: Make) -> Transcripts:
    """One such object."""
    return make()
