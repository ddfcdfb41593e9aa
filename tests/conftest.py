"""Options and fixtures every test may use: how long a randomized test runs, and from which seed."""

import os
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from support.postgresql import PostgresqlDatabase, a_database

# What a developer's shell may hold that would send a test to another machine.
OUTSIDE_WORLD = (
    "ALL_PROXY",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "all_proxy",
    "http_proxy",
    "https_proxy",
)

settings.register_profile(
    "short", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("long", parent=settings.get_profile("short"), max_examples=5_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options of this suite."""
    group = parser.getgroup("turnlane")
    group.addoption(
        "--long",
        action="store_true",
        default=os.environ.get("TURNLANE_LONG", "") not in ("", "0"),
        help="run the long form of randomized and stress tests (also TURNLANE_LONG=1)",
    )
    group.addoption("--seed", type=int, default=None, help="seed of the random programmes (default: a new one)")


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed once, so that the header can name it, and choose how many examples Hypothesis tries."""
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(2**32)
    settings.load_profile("long" if config.option.long else "short")


def pytest_report_header(config: pytest.Config) -> str:
    """Say how to run the same programmes again."""
    return f"turnlane: --seed={config.option.seed}, {'long' if config.option.long else 'short'} form"


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of this run's random programmes; the header and a failure's report name it."""
    return int(pytestconfig.option.seed)


@pytest.fixture(scope="session")
def long_form(pytestconfig: pytest.Config) -> bool:
    """Whether randomized and stress tests run their long form."""
    return bool(pytestconfig.option.long)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlDatabase]:
    """A PostgreSQL database of this run; the tests that ask for it are skipped where there is no server."""
    with a_database() as database:
        yield database


@pytest.fixture
def lend(postgresql: PostgresqlDatabase) -> Iterator[Callable[[], str]]:
    """Returns, with each call, the URL of another schema in that database that holds nothing."""
    with postgresql.lender() as lend:
        yield lend


@pytest.fixture(autouse=True)
def stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide proxies and model services of the developer's shell from the code under test."""
    for name in OUTSIDE_WORLD:
        monkeypatch.delenv(name, raising=False)
