"""No HTTP: a function that runs turns, called from two places at once. Run it to see who waits and who remembers."""

import asyncio

from turnlane import Runtime, Turn

runtime = Runtime(lanes="memory://", sessions="memory://")
histories: dict[str, list[str]] = {}  # by session id


async def ask_model(text: str, history: list[str]) -> str:
    await asyncio.sleep(0.2)  # stands for the model's time
    return f"{text}? I remember {history}"


@runtime.agent_turn(key="session_key")
async def answer(session_key: str, text: str, *, turn: Turn) -> str:
    """Run one turn; the caller passes no `turn`."""
    if turn.session is None:
        raise RuntimeError("the runtime above has sessions")
    history = histories.setdefault(turn.session.id, [])
    reply = await ask_model(text, list(history))
    history.append(text)
    return f"{session_key} waited {turn.waited * 1000:.0f} ms: {reply}"


async def main() -> None:
    async with runtime:
        replies = await asyncio.gather(
            answer("ada", "my name is Ada"),  # a chat message
            answer("ada", "I live in London"),  # a second one before the first is answered
            answer("ada", "who am I"),  # a cron job
            answer("bob", "good morning"),  # someone else does not wait
        )
    print(*replies, sep="\n")
    print(f"session ids: {len(histories)}")


if __name__ == "__main__":
    asyncio.run(main())
