"""What is sent when a request did not get its turn, or its turn ended with an error."""

import logging
import math
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Send

from turnlane.asgi.refusals import REFUSED, response_of
from turnlane.asgi.responder import Responder
from turnlane.asgi.sharing import replay
from turnlane.duplicates import Answer
from turnlane.errors import TurnCoalesced, TurnInterrupted
from turnlane.lanes import Lanes

__all__ = ("answer", "answer_failed", "answer_nobody", "refuse")

CLIENT_CLOSED_REQUEST = 499  # the word of access logs for it; no client ever sees it

logger: logging.Logger = logging.getLogger("turnlane.asgi")


async def answer(error: BaseException, send: Send, lanes: Lanes, *, redirect_status: int = 409) -> None:
    """Send the response the table has for an error of `REFUSED`, or the answer of the turn that answers its message."""
    shared = error.result if isinstance(error, TurnCoalesced) else None
    if isinstance(shared, Answer):
        await replay(shared, send)
        return
    for message in response_of(error, expected_wait=lanes.expected_wait, redirect_status=redirect_status):
        await send(message)


async def refuse(request: object, error: Exception) -> Response:
    """Answer an error of this package as `LaneMiddleware` does, in a server without it.

    An exception handler of Starlette and FastAPI: `app.add_exception_handler(errors.TurnlaneError, refuse)`.

    Raises:
        Exception: `error` itself, if it is none that has a response.
    """
    if not isinstance(error, REFUSED):
        raise error
    start, end = response_of(error, expected_wait=lambda ahead: math.inf)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Response(end["body"], status_code=start["status"], headers=headers)


async def answer_nobody(send: Send) -> None:
    """End a request whose client has left without having had its turn.

    Servers drop it silently. It is sent for the middlewares outside, some of which take a request without a response
    for a failure of the app.
    """
    with suppress(OSError):
        await send({"type": "http.response.start", "status": CLIENT_CLOSED_REQUEST, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def answer_failed(error: BaseException, responder: Responder, lanes: Lanes, *, redirect_status: int) -> None:
    """Tell the client of an error that left the app, as far as that can still be told; raise what is not ours.

    Before the response has begun it is an ordinary response; a stream of events ends with it; any other response is
    left unfinished by raising it, so that the server breaks the connection off and the client can not take half for
    the whole.
    """
    try:
        if not isinstance(error, REFUSED):
            raise error
        if responder.start is None:
            await answer(error, responder.send, lanes, redirect_status=redirect_status)
        elif responder.ended:
            # The client has its reply. An interruption of what ran after it is nobody's failure, all else is.
            if not isinstance(error, TurnInterrupted):
                raise error
            logger.info("turn_interrupted_after_response turn=%s", error.turn)
        elif not await responder.end_with(error):
            raise error
    finally:
        del error  # it knows this frame
