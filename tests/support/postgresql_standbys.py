"""PostgreSQL servers of a test's own, to be stopped, killed, copied and replaced by a standby."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from support.server_loopback import free_socket

__all__ = ("PostgresqlServer", "a_server", "a_standby_of")

PATIENCE = 40.0
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
max_connections = 60
shared_buffers = 16MB
fsync = off
wal_level = replica
wal_sender_timeout = 2s
wal_receiver_timeout = 2s
hot_standby = on
logging_collector = off
autovacuum = off
"""
REPLICATION = "host replication postgres 127.0.0.1/32 trust\n"


def _missing(what: str) -> NoReturn:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
    raise AssertionError("unreachable")


def _program(name: str) -> str:
    """Return the path of a program of the newest version Debian has installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    path = os.pathsep.join([*map(str, reversed(versions)), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        _missing(f"{name} not found; Debian has it: apt-get install postgresql")
    return found


def run_program(name: str, *arguments: str) -> None:
    """Run a program of PostgreSQL, which does not run as root."""
    command = [_program(name), *arguments]
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    done = subprocess.run(
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout


class PostgresqlServer:
    """A server on a loopback port of its own. `directory` is also where its socket is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        with free_socket() as bound:
            self.port: int = bound.getsockname()[1]

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def configure(self, *, access: str = "") -> None:
        """Write its files; `access` replaces who may come."""
        (self.data / "postgresql.conf").write_text(SETTINGS.format(port=self.port, sockets=self.directory))
        if access:
            (self.data / "pg_hba.conf").write_text(access + REPLICATION)

    def encrypt(self, certificate: str, key: str) -> None:
        """Speak TLS."""
        for name, source in (("server.crt", certificate), ("server.key", key)):
            shutil.copyfile(source, self.data / name)
            (self.data / name).chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(self.data / name, "postgres")
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write("ssl = on\n")

    def execute(self, *statements: str) -> None:
        """Run statements at once, as its owner."""
        run_program(
            "psql",
            "-X",
            "-q",
            "-h",
            str(self.directory),
            "-p",
            str(self.port),
            "-U",
            "postgres",
            *(part for statement in statements for part in ("-c", statement)),
        )

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        log = str(self.directory / "log")
        run_program("pg_ctl", "-D", str(self.data), "-l", log, "-w", "-s", "-t", str(PATIENCE), "start")

    def promote(self) -> None:
        """Let it take writes."""
        run_program("pg_ctl", "-D", str(self.data), "-w", "-s", "-t", str(PATIENCE), "promote")

    def crash(self) -> None:
        """Kill it as `kill -9` of its first process does; the others end when they find it gone."""
        processes = self._processes()
        for process in processes:
            os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while any(_lives(process) for process in processes):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # other processes: nobody here can tell
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    @contextmanager
    def standing_still(self) -> Generator[None, None, None]:
        """Have all its processes stand still in the block: connections are taken by the kernel, nobody answers."""
        processes = self._processes()
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                if _lives(process):
                    os.kill(process, signal.SIGCONT)

    def is_running(self) -> bool:
        return (self.data / "postmaster.pid").exists()

    def _processes(self) -> list[int]:
        first = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def _directory() -> Generator[Path, None, None]:
    """One that the user of the server may use, with a path short enough for a socket."""
    place = Path(tempfile.mkdtemp(prefix="turnlane-pg-"))
    if os.geteuid() == 0:
        shutil.chown(place, "postgres")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _running(server: PostgresqlServer) -> Generator[PostgresqlServer, None, None]:
    try:
        yield server
    finally:
        if server.is_running():
            run_program("pg_ctl", "-D", str(server.data), "-m", "immediate", "-s", "stop")


@contextmanager
def a_server(*, files: tuple[str, str] | None = None, access: str = "") -> Generator[PostgresqlServer, None, None]:
    """Run one inside the block, with lines of who may come; the user `postgres` needs no password.

    With the files of a certificate and its key it speaks TLS.
    """
    with _directory() as directory:
        server = PostgresqlServer(directory)
        run_program("initdb", "-D", str(server.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        server.configure(access=access)
        if files is not None:
            server.encrypt(*files)
        with _running(server):
            server.start()
            yield server


@contextmanager
def a_standby_of(primary: PostgresqlServer) -> Generator[PostgresqlServer, None, None]:
    """Run one inside the block that follows another, as a copy of it that streams what it writes."""
    with _directory() as directory:
        server = PostgresqlServer(directory)
        place = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres")
        run_program("pg_basebackup", "-D", str(server.data), "-R", "-X", "stream", "-c", "fast", "-N", *place)
        server.configure()
        with _running(server):
            server.start()
            yield server
