"""What the tests of engines need that not every machine has."""

import pytest

from engines.places import in_postgresql


@pytest.fixture(autouse=True)
def database_of_the_place(request: pytest.FixtureRequest) -> None:
    """Have a database where a test is at a place that is one."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and in_postgresql in callspec.params.values():
        in_postgresql.database = request.getfixturevalue("postgresql")
