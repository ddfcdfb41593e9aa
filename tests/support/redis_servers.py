"""Redis for tests: the one that runs here, with keys of the test's own, and private ones to be ill-treated.

Private ones are `redis-server`, or the program TURNLANE_TEST_REDIS_PROGRAM names: another version of it, or Valkey.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
import redis

from support.server_loopback import free_socket

__all__ = (
    "RedisServer",
    "client_of",
    "debian_program",
    "key_prefix",
    "missing",
    "private_redis",
    "redis_server",
    "redis_url",
    "server_program",
)

VARIABLE = "TURNLANE_TEST_REDIS"
PROGRAM = "TURNLANE_TEST_REDIS_PROGRAM"
DEFAULT = "redis://127.0.0.1:6379"
PATIENCE = 20.0


def missing(what: str) -> NoReturn:
    """Skip a test; on CI fail it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
    raise AssertionError("unreachable")


@contextmanager
def client_of(url: str, **options: Any) -> Generator[Any, None, None]:
    """A client of the driver's own, which checkers know little of; its connections are closed with it, as only later
    versions of the driver do by themselves.
    """
    client = cast("Any", redis.Redis).from_url(url, socket_timeout=5, **options)
    try:
        yield client
    finally:
        client.connection_pool.disconnect()


def redis_server() -> str:
    """Return the URL of a Redis the tests may use, without a path; where there is none, skip, and on CI fail."""
    url = os.environ.get(VARIABLE, DEFAULT).rstrip("/")
    try:
        with client_of(url) as client:
            client.ping()
    except redis.RedisError as error:
        missing(f"no Redis at ${VARIABLE} or {DEFAULT.partition('://')[2]}: {error}")
    return url


@contextmanager
def key_prefix() -> Generator[str, None, None]:
    """A prefix of keys that nobody else has; what has it is removed afterwards."""
    url, prefix = redis_server(), f"turnlane-test:{uuid.uuid4().hex}"
    try:
        yield prefix
    finally:
        with client_of(url) as client:
            if names := list(client.scan_iter(match=f"{{{prefix}*", count=1000)):
                client.delete(*names)


@contextmanager
def redis_url() -> Generator[str, None, None]:
    """The URL of an empty store."""
    with key_prefix() as prefix:
        yield f"{redis_server()}/0?prefix={prefix}"


def _free_port() -> int:
    """A port that is free, and the one 10000 above it, which nodes of a cluster use among themselves."""
    while True:
        with free_socket() as bound:
            port: int = bound.getsockname()[1]
        if port < 55_536:
            with socket.socket() as other, suppress(OSError):
                other.bind(("127.0.0.1", port + 10_000))
                return port


def server_program() -> str:
    """Return the program private servers are; where there is none, skip, and on CI fail."""
    return os.environ.get(PROGRAM) or debian_program()


def debian_program() -> str:
    """Return the `redis-server` of the machine, which can do all that can be built into it."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/bin"])
    found = shutil.which("redis-server", path=path)
    if found is None:
        missing("redis-server not found; Debian has it: apt-get install redis-server")
    return found


class RedisServer:
    """A process of redis-server on a loopback port of its own, which nobody else uses."""

    def __init__(
        self,
        directory: Path,
        options: tuple[str, ...],
        configuration: Path | None = None,
        program: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        found = program or server_program()
        self.port = _free_port()
        files = [] if configuration is None else [str(configuration)]
        place = ["--dir", str(directory), "--logfile", str(directory / "redis.log")]
        listens = ["--bind", "127.0.0.1", "--port", str(self.port)]
        named = [option.replace("{port}", str(self.port)) for option in options]
        self._command = [str(found), *files, *listens, *place, "--save", "", "--daemonize", "no", *named]
        self.directory = directory
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        process = self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self._environment
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert process.poll() is None, f"redis-server ended with {process.returncode}"
            assert time.monotonic() < deadline, "redis-server takes no connections"
            time.sleep(0.01)  # another process: nobody here can tell

    def kill(self) -> None:
        """Kill it at once and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    @contextmanager
    def stopped(self) -> Generator[None, None, None]:
        """Let it stand still inside the block: the kernel takes what is sent, nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> AbstractContextManager[Any]:
        """A client that looks at it from outside."""
        return client_of(self.url, **options)


@contextmanager
def private_redis(
    directory: Path,
    *options: str,
    configuration: Path | None = None,
    program: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Generator[RedisServer, None, None]:
    """Run a server of the test's own inside the block, with command-line options, settings and an environment.

    `{port}` in an option is its port.
    """
    server = RedisServer(directory, options, configuration, program, environment)
    try:
        server.start()
        yield server
    finally:
        server.kill()
