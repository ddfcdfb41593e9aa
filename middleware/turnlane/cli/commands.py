"""The commands: each does its work and returns data. Nothing here prints."""

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from platform import python_version
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from turnlane.cli.arguments import DemoSettings
from turnlane.cli.exits import CommandFailed, MissingExtra
from turnlane.clock import Clock
from turnlane.errors import TranscriptError

if TYPE_CHECKING:
    from turnlane.cli.demo.facts import RunFacts
    from turnlane.cli.demo.release import ReleaseFacts
    from turnlane.cli.demo.verdict import Check

__all__ = ("DemoReport", "JudgedRelease", "JudgedRun", "VersionReport", "demo", "version")

DEMO_PACKAGES = ("fastapi", "openai", "uvicorn")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionReport:
    """What is installed."""

    turnlane: str
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRun:
    """The facts of one run and the verdict on them."""

    facts: "RunFacts"
    checks: tuple["Check", ...]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRelease:
    """What happened to transcripts while the model was called, and the verdict on it."""

    scenes: tuple["ReleaseFacts", ...]
    checks: tuple["Check", ...]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """Both runs of the demo, and what happens to a transcript meanwhile.

    Attributes:
        unprotected: the server as people write it.
        protected: the same server behind lanes.
        release: transcripts while the model is called; None where the system has none in files.
        seconds: how long all took.
        url: the protected server, which runs until the block ends.
        directory: where the transcripts are; None if they are removed at the end of the block.
        wait: returns when the protected server has ended by itself.
    """

    unprotected: JudgedRun
    protected: JudgedRun
    release: JudgedRelease | None
    seconds: float
    url: str
    directory: Path | None
    wait: Callable[[], None]

    @property
    def passed(self) -> bool:
        """Whether turnlane kept every promise."""
        return self.protected.passed and (self.release is None or self.release.passed)


def version() -> VersionReport:
    """Return the installed version."""
    try:
        found = installed_version("turnlane")
    except PackageNotFoundError:
        found = "unknown (not installed)"
    return VersionReport(turnlane=found, python=python_version())


@contextmanager
def demo(settings: DemoSettings) -> Generator[DemoReport, None, None]:
    """Run the burst at both servers; the protected one goes on running inside the block.

    Raises:
        MissingExtra: a package of the extra `demo` is not installed.
        CommandFailed: a server did not start, a message did not reach it, the model answers nothing, or the directory
            is not empty.
    """
    try:
        from turnlane.cli.demo.host import ServerNotStarted, require_free
        from turnlane.cli.demo.model import model_from_environment
        from turnlane.cli.demo.run import protected_run, unprotected_run
        from turnlane.cli.demo.verdict import judge
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in DEMO_PACKAGES:
            raise
        raise MissingExtra(command="demo", package=package, extra="demo") from error
    monotonic = Clock().monotonic
    began = monotonic()
    with ExitStack() as stack:
        directory = _directory(settings.directory, stack)
        try:
            require_free(settings.port)
            with unprotected_run(model_from_environment(delay=settings.delay), directory / "unprotected") as without:
                unprotected = JudgedRun(facts=without.facts, checks=judge(without.facts))
            _require_replies(without.facts)
            release = None if sys.platform == "win32" else _release(directory / "transcripts")
            within = stack.enter_context(
                protected_run(model_from_environment(delay=settings.delay), directory / "protected", port=settings.port)
            )
        except (ServerNotStarted, TimeoutError, TranscriptError) as error:
            raise CommandFailed(str(error) or "a message did not reach the server in time") from error
        yield DemoReport(
            unprotected=unprotected,
            protected=JudgedRun(facts=within.facts, checks=judge(within.facts)),
            release=release,
            seconds=monotonic() - began,
            url=within.server.url,
            directory=settings.directory,
            wait=within.server.wait,
        )


def _release(directory: Path) -> JudgedRelease:
    from turnlane.cli.demo.release import judge_release, run_release

    scenes = run_release(directory)
    return JudgedRelease(scenes=scenes, checks=judge_release(scenes))


def _require_replies(facts: "RunFacts") -> None:
    """Tell a model that does not answer from a server that breaks promises."""
    stayed = [message for message in facts.messages if not message.leaves]
    if all(message.received is None for message in stayed):
        raise CommandFailed(f"the model {facts.model!r} answered no message (see OPENAI_BASE_URL): {stayed[0].error}")


def _nameable(directory: Path) -> Path:
    if set(str(directory.resolve())) & set("?#"):
        raise CommandFailed(f"{directory} can not be used: a path with ? or # has no database URL")
    return directory


def _directory(wanted: Path | None, stack: ExitStack) -> Path:
    if wanted is None:
        made = stack.enter_context(TemporaryDirectory(prefix="turnlane-demo-", ignore_cleanup_errors=True))
        return _nameable(Path(made))
    _nameable(wanted)
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            # What an earlier run stored would be remembered by this one.
            raise CommandFailed(f"--directory {wanted} is not empty")
    except OSError as error:
        raise CommandFailed(f"--directory {wanted} can not be used: {error.strerror}") from error
    return wanted
