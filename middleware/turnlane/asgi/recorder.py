"""The answer of a message, taken down while it is sent."""

from starlette.types import Message

from turnlane.duplicates import Answer

__all__ = ("Recorder", "asks_for_another_attempt", "is_kept")

# What belongs to one connection (RFC 9110, 7.6.1), to the moment it was sent, or to somebody's credentials.
NOT_KEPT = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        b"date",
        *(b"set-cookie", b"set-cookie2", b"authorization", b"proxy-authorization", b"authentication-info"),
        *(b"proxy-authentication-info", b"www-authenticate", b"proxy-authenticate"),
    }
)
RETRIED = frozenset({408, 409, 429})


class Recorder:
    """Takes down one response, up to a size.

    Mutable: `status`, `headers` and `_body` as far as they have come; `complete`, whether the response has ended;
    `unkeepable`, whether it can not be kept: too large, a file that the server sends, or trailers; `is_event_stream`,
    whether it has begun as one.

    Args:
        limit: bytes of body and kept headers.
    """

    __slots__ = (
        "_body",
        "_limit",
        "_size",
        "_trailers",
        "complete",
        "headers",
        "is_event_stream",
        "status",
        "unkeepable",
    )

    def __init__(self, limit: int) -> None:
        self.status: int | None = None
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.complete: bool = False
        self.unkeepable: bool = False
        self.is_event_stream: bool = False
        self._body = bytearray()
        self._limit = limit
        self._size = 0
        self._trailers = False

    def take(self, message: Message) -> None:
        """Take down one message of the response."""
        kind: str = message["type"]
        if kind == "http.response.start":
            self._begin(message)
        elif kind == "http.response.body":
            data: bytes = message.get("body", b"")
            self._grow(len(data))
            if not self.unkeepable:
                self._body += data
            self._end(more=bool(message.get("more_body", False)))
        elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
            self.unkeepable = True
            self._end(more=bool(message.get("more_body", False)))
        elif kind == "http.response.trailers":
            self.complete = not message.get("more_trailers", False)

    def answer(self) -> Answer:
        """Return what was taken down."""
        return Answer(status=self.status or 0, headers=self.headers, body=bytes(self._body))

    def _begin(self, message: Message) -> None:
        named = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        listed = b",".join(value for name, value in named if name.lower() == b"connection").lower().split(b",")
        own = {name.strip() for name in listed}
        self.status = message["status"]
        self.headers = tuple(pair for pair in named if is_kept(pair[0]) and pair[0].lower() not in own)
        self._trailers = self.unkeepable = bool(message.get("trailers", False))
        self.is_event_stream = any(
            name.lower() == b"content-type" and value.split(b";", 1)[0].strip().lower() == b"text/event-stream"
            for name, value in self.headers
        )
        self._grow(sum(len(name) + len(value) for name, value in self.headers))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            self.unkeepable = True
            self._body.clear()

    def _end(self, *, more: bool) -> None:
        self.complete = not more and not self._trailers


def is_kept(name: bytes) -> bool:
    """Tell whether a header of an answer is kept and sent again."""
    return name.lower() not in NOT_KEPT


def asks_for_another_attempt(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Tell whether the OpenAI and Anthropic clients send a request again that got this answer."""
    for name, value in headers:
        if name.lower() == b"x-should-retry":
            return value == b"true"
    return status in RETRIED or status >= 500
