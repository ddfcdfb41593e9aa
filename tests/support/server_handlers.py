"""What the handlers of every framework's test app do: `/answer`, `/form`, `/stream` and `/fail`."""

import hashlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from support.server_staged import Stage
from turnlane import current_turn

__all__ = ("HandlerFailed", "Settings", "facts", "pieces")

Settings = Mapping[str, Any]


class HandlerFailed(Exception):
    """What the handler of `/fail` raises."""


def facts(state: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """What a handler sees: its body, and the turn, by context and by the request's state."""
    turn = current_turn()
    return {
        "length": len(body),
        "digest": hashlib.sha256(body).hexdigest(),
        "key": None if turn is None else turn.key,
        "turn": None if turn is None else turn.id,
        "in_state": state.get("turn") is turn,
        "session": None if turn is None or turn.session is None else turn.session.id,
    }


async def pieces(stage: Stage, name: str) -> AsyncGenerator[bytes, None]:
    """Stream two pieces, with a place between them."""
    try:
        yield b"one"
        await stage.come_to(name)
        yield b"two"
    finally:
        stage.leave(name)
