"""One connection of the driver: what is used of it, and what has to be looked at first."""

from typing import Any, Protocol

from turnlane.begun import in_task

__all__ = ("Wire", "alive", "close")


class Wire(Protocol):
    """What is used of a connection of the driver."""

    async def connect(self) -> None:
        """Connect and shake hands."""
        ...

    async def disconnect(self, nowait: bool = False) -> None:
        """Close the socket."""
        ...

    async def send_command(self, *args: Any) -> None:
        """Send one command."""
        ...

    async def send_packed_command(self, command: bytes) -> None:
        """Send one command that is ready to be sent."""
        ...

    async def read_response(self) -> Any:
        """Return the next answer, or raise it."""
        ...


def alive(wire: Wire) -> Wire:
    """Return a connection that can be sent something without a pause in between.

    The driver makes a closed one anew, which nobody then closes. And in CPython 3.12 and 3.13 `writelines`, which it
    uses, to a transport that is about to close raises `AttributeError`, or watches a file descriptor that is
    another's by then. One the server has closed takes what is sent, and raises without a wait where the answer is read.

    Raises:
        ConnectionError: it is closed, or about to be; nothing was sent.
    """
    reader: Any = getattr(wire, "_reader", None)
    writer: Any = getattr(wire, "_writer", None)
    if reader is None or writer is None or writer.is_closing() or reader.at_eof():
        raise ConnectionError("the connection was closed")
    return wire


async def close(wire: Wire) -> None:
    """Close a connection now: one by TLS would wait for the server to agree, and outlive the loop."""
    writer: Any = getattr(wire, "_writer", None)
    await in_task()  # the driver asks for it
    await wire.disconnect(nowait=True)
    if writer is not None and writer.get_extra_info("ssl_object") is not None:
        writer.transport.abort()
