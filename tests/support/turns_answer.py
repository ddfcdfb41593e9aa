"""Turn functions that tell which turn they run in."""

from collections.abc import AsyncIterator

from turnlane import Runtime, Turn, current_turn

__all__ = ("Answer",)


class Answer:
    """A turn function and a generator of one runtime, which tell the turn they run in."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

        @runtime.agent_turn(key="key")
        async def call(key: str, *, turn: Turn) -> Turn:
            assert current_turn() is turn
            return turn

        @runtime.agent_turn(key="key")
        async def stream(key: str, *, turn: Turn) -> AsyncIterator[Turn]:
            yield turn
            yield turn

        self.call = call
        self.stream = stream
