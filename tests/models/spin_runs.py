"""Runs the model checker spin on a model of this directory, and reads what it says."""

import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ("Run", "Statement", "Verdict", "require_spin", "verified")

HERE = Path(__file__).parent
MEGABYTES = 3000
DEEPEST = 100_000
LONGEST = 600  # seconds

BROKEN = re.compile(
    r"^pan:1: (?:assertion violated +!\((?P<name>\w+)\)|(?P<other>.+?)) \(at depth \d+\)$", re.MULTILINE
)
STORED = re.compile(r"^ *(\d+) states, stored", re.MULTILINE)
NOT_ALL = ("max search depth too small", "Search not completed", "out of memory", "reached -DMEMLIM", "aborted")
UNREACHED_IN = re.compile(r"unreached in (?:proctype )?(\S+)")
UNREACHED = re.compile(r'\t\S+?:(\d+), state \d+, "(.*)"')
MADE_OF = re.compile(r"(?:proctype (\S+)|(init))$")
TRANSITION = re.compile(r"\tstate +\d+ -\(tr +\d+\)-> state +\d+ +\[id +(\d+) .*?\] \[.{5}\] \S+?:(\d+) => (.*)")

Statement = tuple[str, int, str]
"""A process, a line of the model, and what is done there, without its numbers: those are what is defined for a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is verified.

    Attributes:
        model: the name of its file.
        switches: what is defined for it.
        large: whether to take the time to compile a verifier that is fast, and small in memory.
    """

    model: str
    switches: tuple[tuple[str, int | str], ...] = ()
    large: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What spin found.

    Attributes:
        violated: the property that does not hold: the name in an assertion, or what spin calls it; empty for none.
        states: how many were looked at.
        complete: whether those are all there are.
        reached: the statements that were executed.
        unreached: those that never were.
        output: all it said.
    """

    violated: str
    states: int
    complete: bool
    reached: frozenset[Statement] = field(repr=False)
    unreached: frozenset[Statement] = field(repr=False)
    output: str = field(repr=False)


def require_spin() -> None:
    """Skip a test where spin or gcc is not there; on CI that is a failure."""
    missing = [name for name in ("spin", "gcc") if shutil.which(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} not found; Debian has both: apt-get install spin gcc"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def verified(run: Run, directory: Path) -> Verdict:
    """Verify a model in every state it has, or until a property is found violated.

    Args:
        run: which, and how.
        directory: an empty one, for what spin and gcc make.
    """
    shutil.copy(HERE / run.model, directory)
    # -o3: each statement is told of by itself.
    said = _run(directory, "spin", "-a", "-o3", *(f"-D{name}={value}" for name, value in run.switches), run.model)
    assert not said.strip(), said
    how = ("-O2", "-DCOLLAPSE") if run.large else ("-O0",)
    _run(directory, "gcc", "-w", *how, "-DSAFETY", f"-DMEMLIM={MEGABYTES}", "-o", "pan", "pan.c")
    output = _run(directory, "./pan", f"-m{DEEPEST}", f"-w{26 if run.large else 21}")
    stored, broken = STORED.search(output), BROKEN.search(output)
    assert stored is not None, output
    assert broken is not None or "errors: 0\n" in output, output
    made, left = _made_of(_run(directory, "./pan", "-d")), _unreached(output)
    return Verdict(
        violated="" if broken is None else broken["name"] or broken["other"],
        states=int(stored[1]),
        complete=not any(mark in output for mark in NOT_ALL),
        reached=frozenset(statement for statement in made if left[statement] < made[statement]),
        unreached=frozenset(statement for statement in made if left[statement] >= made[statement]),
        output=output,
    )


def _run(directory: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def _made_of(machine: str) -> Counter[Statement]:
    """Count how often each statement stands in the automata, as an inline that is used twice does."""
    process, made, seen = "", Counter[Statement](), set[tuple[str, str, str]]()
    for line in machine.splitlines():
        if begun := MADE_OF.match(line):
            process = begun[1] or begun[2]
        elif found := TRANSITION.match(line):
            number, place, text = found.groups()
            if (process, number, text) not in seen:
                seen.add((process, number, text))
                made[_statement(process, place, text)] += 1
    return made


def _unreached(output: str) -> Counter[Statement]:
    process, left = "", Counter[Statement]()
    for line in output.splitlines():
        if begun := UNREACHED_IN.match(line):
            process = begun[1]
        elif found := UNREACHED.match(line):
            left[_statement(process, *found.groups())] += 1
    return left


def _statement(process: str, line: str, text: str) -> Statement:
    return process, int(line), re.sub(r"-?\(?\d+\)?", "N", text)
