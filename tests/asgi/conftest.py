"""What the tests of the HTTP face share."""

import pytest


@pytest.fixture(params=["short", "told", "long", "sessions"])
def way(request: pytest.FixtureRequest) -> str:
    """The way a request goes through the middleware; see `support.asgi_staged.laned`."""
    return str(request.param)
