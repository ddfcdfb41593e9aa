"""Tests of integrations whose framework is missing are skipped, but for those that this environment is to have."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from support.rigs import PACKAGES, why_not


class Skipped(pytest.Module):
    """A module whose imports would fail."""

    reason = ""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        pytest.skip(self.reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip `test_<integration>*.py` where its package is missing."""
    name = module_path.stem.removeprefix("test_")
    found = [each for each in PACKAGES if name == each or name.startswith(f"{each}_")]
    reason = why_not(max(found, key=len)) if found else None
    if reason is None:
        return None
    module: Skipped = cast("Any", Skipped).from_parent(parent, path=module_path)
    module.reason = reason
    return module
