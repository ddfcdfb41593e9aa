"""nginx before a server of the test: unprivileged, on a loopback port, with all its files in one directory."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.server_loopback import free_socket

__all__ = ("nginx_before", "require_nginx")

CONFIGURATION = """
daemon off;
master_process off;
worker_processes 1;
error_log stderr warn;
pid {place}/nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{behind};
            proxy_read_timeout {read_timeout}s;
        }}
    }}
}}
"""


def require_nginx() -> str:
    """Return where nginx is; where it is not, skip a test, and on CI fail it."""
    # Debian has it where only the administrator's path leads.
    found = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("nginx not found; Debian has it: apt-get install nginx")
    return str(found)


@asynccontextmanager
async def nginx_before(behind: int, place: Path, *, read_timeout: int) -> AsyncGenerator[int]:
    """Run nginx inside the block before the server at the port `behind`; yields its own port.

    All its settings but the timeout are those it has by itself: it buffers, and speaks HTTP/1.0 to the server.

    Args:
        behind: port of the server.
        place: an empty directory.
        read_timeout: whole seconds of silence after which it gives the server up.
    """
    command = require_nginx()
    with free_socket() as bound:
        port: int = bound.getsockname()[1]
    settings = CONFIGURATION.format(place=place, port=port, behind=behind, read_timeout=read_timeout)
    (place / "nginx.conf").write_text(settings, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(command, "-p", str(place), "-c", str(place / "nginx.conf"), "-e", "stderr"), stderr=asyncio.subprocess.PIPE
    )
    try:
        await _listening(process, port)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


async def _listening(process: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(10):
        while process.returncode is None:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return
            await asyncio.sleep(0.02)  # another process: nobody here can tell
    pytest.fail(f"nginx ended with {process.returncode}")
