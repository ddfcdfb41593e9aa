"""The answer of one request, kept for those whose messages it answers too."""

from starlette.types import Message, Scope, Send

from turnlane.asgi.recorder import Recorder
from turnlane.duplicates import Answer
from turnlane.keys import raw_headers

__all__ = ("Sharing", "ask_for_plain", "replay")


class Sharing:
    """Passes the messages of a response on and takes them down, up to `limit` bytes."""

    __slots__ = ("_recorder", "_send")

    def __init__(self, send: Send, *, limit: int) -> None:
        self._send = send
        self._recorder = Recorder(limit)

    async def send(self, message: Message) -> None:
        """Send a message."""
        self._recorder.take(message)
        await self._send(message)

    def answer(self) -> Answer | None:
        """Return the response; None if it is not whole, too long, a file, or has trailers."""
        recorder = self._recorder
        return recorder.answer() if recorder.complete and not recorder.unkeepable else None


def ask_for_plain(scope: Scope) -> None:
    """Let the app compress nothing: not all who get its response may have asked for that."""
    scope["headers"] = [pair for pair in raw_headers(scope) if pair[0] != b"accept-encoding"]


async def replay(answer: Answer, send: Send, *headers: tuple[bytes, bytes]) -> None:
    """Send a response again, with more headers."""
    await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, *headers]})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
