"""Real servers in the loop of the test: uvicorn and hypercorn on a free loopback port."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib import import_module
from typing import Any

import hypercorn
import uvicorn

__all__ = ("SERVERS", "free_socket", "serve", "serving_with", "uvicorn_serving")

# Its types name applications that are not theirs.
serve: Any = import_module("hypercorn.asyncio").serve

SERVERS = ("uvicorn-h11", "uvicorn-httptools", "hypercorn")


class Server(uvicorn.Server):
    """Tells when it takes requests, and stops when it is told to instead of at its next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopped.set()

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._stopped.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def free_socket() -> socket.socket:
    """Return a socket that is bound to a free port of 127.0.0.1."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.bind(("127.0.0.1", 0))
    return bound


def serving_with(server: str, app: Any) -> AbstractAsyncContextManager[int]:
    """Serve `app` inside the block with one of `SERVERS`; yields the port."""
    name, _, http = server.partition("-")
    return hypercorn_serving(app) if name == "hypercorn" else uvicorn_serving(app, http=http)


@asynccontextmanager
async def uvicorn_serving(app: Any, *, http: str = "auto", stop_timeout: int = 2) -> AsyncGenerator[int, None]:
    """Serve `app` inside the block; yields the port.

    Args:
        app: the ASGI app.
        http: "h11" or "httptools".
        stop_timeout: seconds that requests have to end after the block.
    """
    with free_socket() as bound:
        config = uvicorn.Config(
            app,
            http=http,
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=stop_timeout,
        )
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        ready = asyncio.create_task(server.ready.wait())
        try:
            await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED, timeout=10)
            if not ready.done():
                raise RuntimeError("uvicorn did not start")
            yield bound.getsockname()[1]
        finally:
            ready.cancel()
            server.stop()
            await serving


@asynccontextmanager
async def hypercorn_serving(app: Any, *, stop_timeout: float = 2) -> AsyncGenerator[int, None]:
    """Serve `app` with hypercorn inside the block; yields the port."""
    bound = free_socket()
    # The socket listens at once: a client that is early waits in its queue.
    bound.listen()
    config = hypercorn.Config()
    config.bind = [f"fd://{bound.detach()}"]
    config.graceful_timeout = stop_timeout
    config.errorlog = config.accesslog = None
    port = _port_of(config)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield port
    finally:
        stop.set()
        await serving


def _port_of(config: hypercorn.Config) -> int:
    number = int(config.bind[0].removeprefix("fd://"))
    with socket.socket(fileno=number) as known:
        port: int = known.getsockname()[1]
        known.detach()
    return port
