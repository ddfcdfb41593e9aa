"""Runs an ASGI app with uvicorn on a loopback port, in a thread, and stops it without a trace."""

import socket
import sys
import threading
from types import TracebackType
from typing import Any, Self

import uvicorn

from turnlane.clock import Clock

__all__ = ("LoopbackServer", "ServerNotStarted", "require_free")


class ServerNotStarted(RuntimeError):
    """The server could not take its port, or ended before it took requests."""


class LoopbackServer:
    """A server that takes requests inside the `with` block.

    Guaranteed: the port is taken once the constructor returns, and free again after the block.

    Mutable: `_thread`, which lives inside the block.

    Args:
        app: the ASGI app to serve.
        port: the TCP port on 127.0.0.1; 0 takes a free one.
        start_timeout: seconds the app has to start.
        stop_timeout: seconds running requests have to end.

    Raises:
        ServerNotStarted: the port is in use.
    """

    def __init__(self, app: Any, *, port: int = 0, start_timeout: float = 20.0, stop_timeout: int = 5) -> None:
        self._socket = _bound(port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=stop_timeout,
        )
        self._server = uvicorn.Server(config)
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        # Waited for instead of the thread: a signal that interrupts a join can make it look ended.
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"turnlane-demo-{self.port}", daemon=True)

    def __repr__(self) -> str:
        running = self._thread.ident is not None and not self._ended.is_set()
        return f"<LoopbackServer {self.url} {'running' if running else 'stopped'}>"

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        monotonic = Clock().monotonic
        deadline = monotonic() + self._start_timeout
        self._thread.start()
        try:
            while not self._server.started:
                if self._ended.wait(0.01) or monotonic() > deadline:
                    raise ServerNotStarted(f"the server on port {self.port} did not start; its log says why")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def wait(self) -> None:
        """Return when the server has ended by itself; a signal's exception comes out of here."""
        while not self._ended.wait(0.2):
            pass

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except SystemExit:
            # uvicorn's way to say that the app did not start; `__enter__` sees the thread end.
            return
        finally:
            self._socket.close()
            self._ended.set()

    def _stop(self) -> None:
        self._server.should_exit = True
        self._ended.wait(self._stop_timeout + 5)


def require_free(port: int) -> None:
    """Find out early that a port can not be taken.

    Raises:
        ServerNotStarted: it is in use, or not allowed.
    """
    _bound(port).close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Without it a port can not be taken again for a minute; on Windows it would let two servers share one.
    if sys.platform != "win32":
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError as error:
        bound.close()
        raise ServerNotStarted(f"port {port} on 127.0.0.1 can not be taken: {error.strerror}") from error
    return bound
