"""pgbouncer in front of a server of the tests, in transaction mode: each transaction may get another connection."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from support.server_loopback import free_socket

__all__ = ("pgbouncer_before",)

CONFIGURATION = """
[databases]
{name} = host={host} port={behind} user={user}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 200
logfile =
pidfile =
"""


@asynccontextmanager
async def pgbouncer_before(url: str, place: Path) -> AsyncGenerator[str, None]:
    """Run it before the server of a URL inside the block; yields the URL through it.

    It gives all its clients three connections, so that theirs follow each other on each.
    """
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if found is None:
        missing = "pgbouncer not found; Debian has it: apt-get install pgbouncer"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    parts = urlsplit(url)
    with free_socket() as free:
        port = free.getsockname()[1]
    configuration = place / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(
            name=parts.path.removeprefix("/"),
            host=parts.hostname,
            behind=parts.port or 5432,
            user=unquote(parts.username or "postgres"),
            password=f" password='{unquote(parts.password)}'" if parts.password else "",
            port=port,
        )
    )
    # It does not run as root, nor can another user read a directory of a test's.
    for path in (configuration, place, *place.parents[:3]):
        if os.geteuid() == 0 and path.is_relative_to(place.parents[2]):
            path.chmod(path.stat().st_mode | (0o004 if path == configuration else 0o001))
    switch = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        found, "-q", *switch, str(configuration), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _listening(port, process)
        yield urlunsplit(parts._replace(netloc=f"any@127.0.0.1:{port}"))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(10):
        while True:
            assert process.returncode is None, "pgbouncer ended"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                return
