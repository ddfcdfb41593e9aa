"""What the tests of one module read in common is forgotten after it."""

from collections.abc import Generator
from typing import Any

import pytest

from architecture.source_files import Source

# Each test reads the whole project.
TIMEOUT = 120


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give each test here time enough on a busy machine."""
    item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="module", autouse=True)
def forget_trees(request: Any) -> Generator[None, None, None]:
    """Let go of the syntax trees: a million objects, which each collection of the tests to come would walk through."""
    yield
    module = request.module
    sources: tuple[Source, ...] = (*getattr(module, "SOURCES", ()), *getattr(module, "PYTHON_FILES", ()))
    for source in sources:
        source.forget()
