"""The ASGI face: `LaneMiddleware`, `KeepAlive` for streams that wait, and `refuse` for servers without it."""

from turnlane.asgi.answering import refuse
from turnlane.asgi.keepalive import KeepAlive
from turnlane.asgi.middleware import LaneMiddleware

__all__ = ("KeepAlive", "LaneMiddleware", "refuse")
