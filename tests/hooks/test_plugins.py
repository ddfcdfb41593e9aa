"""Plugins: objects, and names of entry points."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from turnlane import Runtime, Sessions
from turnlane.hooks import Hooks, LoggingHook, TurnStarted

MODULE = """
made = []

class Plugin:
    def __init__(self):
        made.append(self)
        self.heard = []
    def register(self, hooks):
        from turnlane.hooks import Event
        hooks.on(Event, lambda event: self.heard.append(type(event).__name__))

instance = Plugin()
made.clear()
useless = object()
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An installed distribution with entry points; returns its module."""
    (tmp_path / "a_hook_plugin.py").write_text(MODULE)
    metadata = tmp_path / "a_hook_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: a-hook-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[turnlane.hooks]\n"
        "by-class = a_hook_plugin:Plugin\n"
        "by-instance = a_hook_plugin:instance\n"
        "useless = a_hook_plugin:useless\n"
        "absent = no_such_module:Plugin\n"
        "[turnlane.other]\n"
        "elsewhere = a_hook_plugin:Plugin\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "a_hook_plugin", raising=False)
    return importlib.import_module("a_hook_plugin")


@pytest.mark.parametrize("name", ["by-class", "by-instance"])
async def test_a_name_finds_the_entry_point(plugins: ModuleType, name: str) -> None:
    """A class is made an object of, an object is taken as it is; both hear."""
    runtime = Runtime(hooks=[name])
    async with runtime.turn("a"):
        pass
    plugin = plugins.made[0] if name == "by-class" else plugins.instance
    assert plugin.heard == ["TurnStarted", "TurnFinished"]


async def test_a_name_is_loaded_once_for_lanes_and_sessions(plugins: ModuleType) -> None:
    """One object hears both, also where the sessions have hooks of their own."""
    for sessions in ("memory://", Sessions()):
        plugins.made.clear()
        runtime = Runtime(sessions=sessions, hooks=["by-class"])
        async with runtime.turn("a"):
            pass
        [plugin] = plugins.made
        assert plugin.heard == ["TurnStarted", "SessionMinted", "TurnFinished"]


def test_an_unknown_name_lists_those_there_are(plugins: ModuleType) -> None:
    """Of this group alone."""
    with pytest.raises(ValueError, match=r"no entry point 'by-name' in group 'turnlane\.hooks'") as caught:
        Hooks().install("by-name")
    for name in ("by-class", "by-instance"):
        assert name in str(caught.value)
    assert "elsewhere" not in str(caught.value)
    with pytest.raises(ValueError, match="no entry point 'elsewhere'"):
        Hooks().install("elsewhere")


def test_what_is_no_plugin_is_refused(plugins: ModuleType) -> None:
    """An entry point of something else, an object without the method, None."""
    for wrong in ("useless", object(), None, 7):
        with pytest.raises(ValueError, match=r"a hook plugin needs a method register\(hooks\)"):
            Hooks().install(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_an_entry_point_that_can_not_be_loaded_says_why(plugins: ModuleType) -> None:
    """Its own error, not one of ours."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        Hooks().install("absent")


def test_names_are_loaded_only_when_they_are_asked_for(plugins: ModuleType) -> None:
    """A plugin that is installed on the machine does nothing by itself."""
    runtime = Runtime()
    assert not runtime.hooks.active
    assert plugins.made == []


async def test_several_plugins_hear_in_the_order_given() -> None:
    """And one of our own among them."""
    order: list[int] = []

    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number

        def register(self, hooks: Hooks) -> None:
            hooks.on(TurnStarted, lambda event: order.append(self.number))

    runtime = Runtime(hooks=[Numbered(2), LoggingHook(), Numbered(1)])
    async with runtime.turn("a"):
        pass
    assert order == [2, 1]
