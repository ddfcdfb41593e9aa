"""A request of FastAPI that asks for a lane: from where it was made, and whether its client is still there."""

# The lanes own the private side of a turn.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

from fastapi import HTTPException, Request
from fastapi.requests import HTTPConnection

from turnlane import Turn, current_turn
from turnlane.turns.context import caller_of

__all__ = ("body_of", "known_as_turn_of", "outside_of_others", "unless_its_client_leaves")

LARGEST_BODY = 1024 * 1024  # bytes that are read before a turn begins, so that a client is seen to leave
CLIENT_CLOSED_REQUEST = 499
NO_CLIENT = object()  # stands for the client of a request whose server does not name one


@contextmanager
def outside_of_others(connection: HTTPConnection) -> Generator[None, None, None]:
    """Leave the turn of another request of the same connection, in whose context the server has started this one.

    A turn that the code is really inside of is not left: that of the request itself, or of who made it in-process.
    """
    turn = current_turn()
    own = getattr(connection.state, "turn", None)
    above = turn
    while above is not None and above is not own:
        above = above._parent
    if turn is None or above is not None or caller_of(turn, _client_of(connection), asyncio.current_task()) is not None:
        yield
        return
    with turn.detached():
        yield


@contextmanager
def known_as_turn_of(connection: HTTPConnection, turn: Turn, *, joined: bool) -> Generator[None, None, None]:
    """Let the state of a request tell its turn inside the block, and let a turn it has begun tell its client."""
    if not joined:
        turn._origin = _client_of(connection)
    before = getattr(connection.state, "turn", None)
    connection.state.turn = turn
    try:
        yield
    finally:
        connection.state.turn = before


async def body_of(request: Request) -> bytes:
    """Return the body, which the endpoint gets all the same.

    Raises:
        HTTPException: the client has left before it was complete.
        RuntimeError: it was read as a form.
    """
    try:
        return await request.body()
    except RuntimeError:
        raise
    except Exception:
        if await request.is_disconnected():
            raise _gone() from None
        raise


@asynccontextmanager
async def unless_its_client_leaves(connection: HTTPConnection) -> AsyncGenerator[None, None]:
    """End the wait in the block when the client leaves."""
    if not isinstance(connection, Request) or not await _is_read(connection):
        yield
        return
    waiting = asyncio.timeout(None)
    try:
        async with waiting:
            watching = asyncio.create_task(_end_with_client(connection, waiting))
            try:
                yield
            finally:
                watching.cancel()
                await asyncio.wait([watching])
    except TimeoutError:
        if not waiting.expired():
            raise
        raise _gone() from None


async def _is_read(request: Request) -> bool:
    """Read the body to its end, if that is not much; the endpoint gets it all the same."""
    unknown = "-1" if request.scope.get("http_version", "1.1").startswith(("2", "3")) else "0"
    length = request.headers.get("content-length", "0" if request.method in {"GET", "HEAD"} else unknown)
    if "transfer-encoding" in request.headers or not length.isdecimal() or int(length) > LARGEST_BODY:
        return False
    with suppress(RuntimeError):  # FastAPI has read it, as a form
        await body_of(request)
    return True


async def _end_with_client(request: Request, waiting: asyncio.Timeout) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    waiting.reschedule(asyncio.get_running_loop().time())


def _client_of(connection: HTTPConnection) -> object:
    return connection.scope.get("client") or NO_CLIENT


def _gone() -> HTTPException:
    return HTTPException(CLIENT_CLOSED_REQUEST, "the client has left")  # nobody is there to read it
