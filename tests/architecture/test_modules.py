"""What every module of the packages keeps to."""

import ast
import asyncio
import contextvars
import dataclasses
import enum
import importlib
import inspect
import logging
import re
import struct
import types
import typing
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from anyio.lowlevel import RunVar

from architecture.source_files import PACKAGES, Source, package_sources
from support.rigs import PACKAGES as FRAMEWORKS
from support.rigs import why_not

SOURCES = tuple(package_sources())
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def declared_names(source: Source) -> object:
    """The value of `__all__` as written, None without one."""
    for node in source.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return None


def offered_names(source: Source) -> set[str]:
    """Public classes and functions a module defines, and in a package also what it imports from itself."""
    names: set[str] = set()
    for node in source.tree.body:
        if isinstance(node, DEFINITIONS):
            names.add(node.name)
        elif source.is_package and isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names if (node.module or "").startswith("turnlane")}
    return {name for name in names if not name.startswith("_")}


def is_public_face(source: Source) -> bool:
    """Whether users import from this module: a package, or a module right below one of the roots."""
    return source.is_package or source.module.count(".") == 1


def wrong_declarations(source: Source) -> list[str]:
    declared = declared_names(source)
    offered = offered_names(source) if is_public_face(source) else set[str]()
    if declared is None:
        return [f"{source} offers {sorted(offered)} and has no __all__"] if offered else []
    if not isinstance(declared, tuple):
        return [f"{source}: __all__ is not a tuple"]
    names = typing.cast("tuple[str, ...]", declared)
    wrong = [f"{source}: {name} is public but not in __all__" for name in sorted(offered - set(names))]
    if len(set(names)) != len(names):
        wrong.append(f"{source}: __all__ names something twice")
    return wrong


def test_all_names_what_a_module_offers() -> None:
    """`__all__` is a tuple; where users import from, it holds all that is offered, in a package every re-export."""
    assert [line for source in SOURCES for line in wrong_declarations(source)] == []


@pytest.mark.parametrize(
    "text", ["def f(): ...", "__all__ = ['f']", "__all__ = ('f',)\ndef g(): ...", "__all__ = ('f', 'f')"]
)
def test_a_wrong_all_is_seen(text: str) -> None:
    """The check above can fail."""
    assert wrong_declarations(planted(text)) != []


def imported() -> Iterator[tuple[Source, types.ModuleType]]:
    """Every module; integrations whose framework is missing are left to the environment that has it."""
    for source in SOURCES:
        root, _, name = source.module.partition(".")
        integration = name.partition(".")[0]
        if root == "turnlane_integrations" and integration in FRAMEWORKS and why_not(integration) is not None:
            continue
        yield source, importlib.import_module(source.module)


def test_what_all_names_is_there_and_documented() -> None:
    """Each name in an `__all__` exists; each class and function among them has a docstring of its own."""
    wrong: list[str] = []
    for source, module in imported():
        for name in getattr(module, "__all__", ()):
            if not hasattr(module, name):
                wrong.append(f"{source}: {name} is in __all__ and does not exist")
            elif not is_documented(getattr(module, name)):
                wrong.append(f"{source}: {name} has no docstring")
    assert wrong == []


def is_documented(thing: object) -> bool:
    if isinstance(thing, type):
        text = thing.__dict__.get("__doc__")
        # A dataclass without a docstring is given its signature as one.
        return bool(text) and not str(text).startswith(f"{thing.__name__}(")
    return not inspect.isroutine(thing) or bool(thing.__doc__)


FIXED_TYPES = (
    *(type(None), bool, int, float, complex, str, bytes, type, types.ModuleType, types.FunctionType),
    *(types.BuiltinFunctionType, types.MethodDescriptorType, types.MappingProxyType, types.GenericAlias),
    *(types.UnionType, types.EllipsisType, enum.Enum, re.Pattern, struct.Struct, logging.Logger),
    *(contextvars.ContextVar, RunVar, typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple, typing.NewType),
)


def is_fixed(value: object) -> bool:
    """Whether nothing can be remembered in a value: constants, code, typing forms, loggers, variables of contexts."""
    if isinstance(value, tuple | frozenset):
        return all(is_fixed(item) for item in typing.cast("tuple[object, ...]", value))
    if isinstance(value, FIXED_TYPES) or type(value).__module__ in ("typing", "typing_extensions", "datetime"):
        return True
    if dataclasses.is_dataclass(value):
        return bool(getattr(type(value), "__dataclass_params__").frozen)  # noqa: B009  known to no type checker
    return type(value) is object or is_sentinel(value)


def is_sentinel(value: object) -> bool:
    """Whether a value is of a class of ours that has no room for an attribute."""
    is_ours = type(value).__module__.split(".")[0] in PACKAGES
    return is_ours and not hasattr(value, "__dict__") and not slots_of(type(value))


def slots_of(cls: type) -> list[str]:
    return [slot for base in cls.__mro__ for slot in getattr(base, "__slots__", ())]


def test_no_module_keeps_state() -> None:
    """No module-level list, dict, set, cache or other object that remembers: state lives in what users made."""
    remembered = [
        f"{source}.{name} is a {type(value).__name__}"
        for source, module in imported()
        for name, value in vars(module).items()
        if not (name.startswith("__") and name.endswith("__")) and not is_fixed(value)
    ]
    assert remembered == []


@pytest.mark.parametrize("value", [[], {}, set[int](), ({},), bytearray(), deque[int](), asyncio.Event(), cache(len)])
def test_state_is_told_from_constants(value: object) -> None:
    """The check above can fail: containers are state, also inside a tuple, and so are caches and locks."""
    assert not is_fixed(value)


@pytest.mark.parametrize(
    "value", [1, "a", ("a", (1,)), frozenset({1}), Path, object(), Source(Path()), tuple[int, ...]]
)
def test_constants_are_not_state(value: object) -> None:
    """Numbers, text, nested tuples, classes, sentinels, frozen values and typing forms pass."""
    assert is_fixed(value)


def test_no_module_rebinds_its_globals() -> None:
    """The word `global` does not occur: a rebound name is state too."""
    assert [str(s) for s in SOURCES if any(isinstance(node, ast.Global) for node in ast.walk(s.tree))] == []


def planted(text: str) -> Source:
    source = Source(Path("__init__.py"), "turnlane.planted")
    vars(source)["text"] = text
    return source
