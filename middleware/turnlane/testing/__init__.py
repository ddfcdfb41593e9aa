"""What users need to test their own servers."""

from turnlane.testing.clock import ManualClock
from turnlane.testing.driver import (
    AsgiDriver,
    AsgiProtocolViolation,
    HttpRequest,
    LifespanFailed,
    Response,
    WebSocketConnection,
)
from turnlane.testing.gates import Gate, Gates
from turnlane.testing.leaks import LanesLike, assert_no_leaks, no_leaks

__all__ = (
    "AsgiDriver",
    "AsgiProtocolViolation",
    "Gate",
    "Gates",
    "HttpRequest",
    "LanesLike",
    "LifespanFailed",
    "ManualClock",
    "Response",
    "WebSocketConnection",
    "assert_no_leaks",
    "no_leaks",
)
