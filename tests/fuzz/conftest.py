"""How fuzzing is repeated, how long it may take, and how much of it there is."""

import logging
from collections.abc import Iterator

import pytest

from support.fuzz_run import Campaign

SHORT_TIMEOUT, LONG_TIMEOUT = 120, 7200


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that repeats one input."""
    parser.getgroup("turnlane").addoption(
        "--fuzz-index", type=int, default=None, help="with --seed: only the input at this index (pytest tests/fuzz)"
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give each test here time enough: it counts inputs, the timeout guards only against hanging."""
    item.add_marker(pytest.mark.timeout(LONG_TIMEOUT if item.config.option.long else SHORT_TIMEOUT))


@pytest.fixture
def campaign(pytestconfig: pytest.Config, seed: int, long_form: bool, request: pytest.FixtureRequest) -> Campaign:
    """The inputs of one test; its parameter is their number in the short and in the long form."""
    short, long = request.param
    only = pytestconfig.getoption("--fuzz-index", default=None)
    return Campaign(seed=seed, count=long if long_form else short, only=only)


@pytest.fixture(autouse=True)
def silent_parsers() -> Iterator[None]:
    """Keep the parser of forms from logging every form it can not read: the log would hold them all."""
    logger = logging.getLogger("python_multipart")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)
