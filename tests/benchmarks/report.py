"""What the benchmarks print: tables of figures, and each ratio beside its limit."""

import argparse
import asyncio
import os
import platform
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec

LOOPS = ("asyncio", "uvloop") if find_spec("uvloop") else ("asyncio",)
PEERS = ("starlette", "uvicorn", "uvloop", "slowapi", "asgi-correlation-id")


@dataclass(frozen=True, slots=True)
class Limit:
    """A ratio and what it may be at most."""

    what: str
    found: float
    at_most: float

    def __str__(self) -> str:
        verdict = "OK  " if self.kept else "OVER"
        return f"{verdict} {self.found:10.4g} <= {self.at_most:<8.4g} {self.what}"

    @property
    def kept(self) -> bool:
        return self.found <= self.at_most


@dataclass(slots=True)
class Report:
    """Collects limits while a programme prints its tables."""

    limits: list[Limit] = field(default_factory=list[Limit])

    def heading(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    def row(self, name: str, *cells: str) -> None:
        print(f"  {name:<46}" + "".join(f"{cell:>13}" for cell in cells), flush=True)

    def limit(self, what: str, found: float, at_most: float) -> None:
        self.limits.append(Limit(what, found, at_most))
        print(f"  {self.limits[-1]}", flush=True)

    def verdict(self) -> None:
        """Print all limits once more, in one place."""
        over = sum(not limit.kept for limit in self.limits)
        self.heading(f"limits: {len(self.limits)} measured, {over} exceeded")
        for limit in self.limits:
            print(f"  {limit}")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says: `quick` is far too short to judge by, `seed` shuffles, `loops` are measured."""

    quick: bool
    seed: int
    loops: tuple[str, ...]

    @property
    def random(self) -> random.Random:
        return random.Random(self.seed)


Programme = Callable[[Report, Options], None]


def main(programmes: dict[str, Programme], arguments: Sequence[str] | None = None) -> int:
    """Run programmes from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Benchmarks of turnlane; see README.md beside this file.")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a limit is exceeded")
    parser.add_argument(
        "--quick", action="store_true", help="tiny counts: shows that it runs, the figures mean nothing"
    )
    parser.add_argument("--seed", type=int, default=1, help="of every random order (default: 1)")
    parser.add_argument("--loop", choices=LOOPS, action="append", help="only this event loop (default: both)")
    if len(programmes) > 1:
        parser.add_argument("--only", choices=list(programmes), action="append", help="only this programme")
    given = parser.parse_args(arguments)
    options = Options(quick=given.quick, seed=given.seed, loops=tuple(given.loop or LOOPS))
    report = Report()
    print(about_this_machine())
    for name, programme in programmes.items():
        if name in (getattr(given, "only", None) or programmes):
            programme(report, options)
    report.verdict()
    return 1 if given.check and not all(limit.kept for limit in report.limits) else 0


def about_this_machine() -> str:
    parts = [
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} cores",
        *(f"{name} {version(name)}" for name in PEERS if find_spec(name.replace("-", "_"))),
    ]
    return ", ".join(parts)


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Make an event loop of the kind `name`."""
    if name == "uvloop":
        import uvloop  # it is not there on every system

        return uvloop.new_event_loop()
    return asyncio.SelectorEventLoop()


def exit_with(programme: Programme) -> None:
    """Run one programme as a command."""
    sys.exit(main({"": programme}))
