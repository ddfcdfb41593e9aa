"""The benchmark of integrations runs and has a row for each."""

import pytest

from benchmarks import integrations
from benchmarks.report import main
from support.rigs import RIGS

pytestmark = pytest.mark.timeout(300)


def test_each_framework_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Of figures, or of why there are none."""
    assert main({"": integrations.benchmark}, ("--quick", "--loop", "asyncio")) == 0
    printed = capsys.readouterr().out
    for name in RIGS:
        assert f"\n  {name} " in printed
