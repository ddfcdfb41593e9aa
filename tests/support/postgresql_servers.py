"""A PostgreSQL server of a test's own, to be ill-treated."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.server_clocks import ServerClock
from support.server_loopback import free_socket

__all__ = ("PostgresqlServer", "private_postgresql")

PATIENCE = 60.0
SETTINGS = ("fsync=off", "listen_addresses=127.0.0.1", "max_connections=80", "shared_buffers=16MB")


def _programs() -> Path:
    """Return where those of the newest server are. Without one a test is skipped, on CI it fails."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    if found is None:
        missing = "initdb not found; Debian has it: apt-get install postgresql"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return Path(found).parent


class PostgresqlServer:
    """Listens on a loopback port, and trusts everybody. Mutable: `_process`.

    Args:
        directory: its own.
        environment: its own, beside ours.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = {**os.environ, **environment}
        self._programs = _programs()
        # It does not run as root.
        self._user: Any = {}
        if os.geteuid() == 0:
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(directory, "postgres")
        self._process: Any = None  # of bytes, which a checker does not find
        with free_socket() as free:
            self.port = int(free.getsockname()[1])
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        command = [str(self._programs / "initdb"), "-D", str(directory / "data"), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **self._user)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it takes statements."""
        settings = [part for setting in SETTINGS for part in ("-c", setting)]
        place = ["-D", str(self._directory / "data"), "-p", str(self.port), "-k", str(self._directory)]
        with (self._directory / "log").open("ab") as log:
            process: Any = subprocess.Popen(
                [str(self._programs / "postgres"), *place, *settings],
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment,
                **self._user,
            )
        self._process = process
        asks = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(asks, check=False).returncode != 0:
            assert process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL takes no statements"
            time.sleep(0.02)  # another process: nobody here can tell

    def kill(self) -> None:
        """Shut it down at once, as a crash does: what is not logged is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(PATIENCE)
            self._process = None


@contextmanager
def private_postgresql() -> Generator[tuple[PostgresqlServer, ServerClock], None, None]:
    """Run a server inside the block, with a clock that can be set."""
    directory = Path(tempfile.mkdtemp(prefix="turnlane-postgresql-"))
    server: PostgresqlServer | None = None
    try:
        clock = ServerClock(directory)
        server = PostgresqlServer(directory, clock.environment)
        server.start()
        yield server, clock
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(directory, ignore_errors=True)
