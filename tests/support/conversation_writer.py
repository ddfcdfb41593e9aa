"""A script: saves what it has loaded when it is told to, `conversation_writer.py KIND DIRECTORY NAME`.

A line of its input names a conversation, which it loads and reports `loaded`; at the next line it saves it with a
message of its own, and reports `ended` with `how`: saved or conflict.
"""

import asyncio
import json
import sys
from pathlib import Path

from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict

from support.conversations import said, store_in


async def main(kind: str, directory: Path, name: str) -> None:
    async with store_in(kind, directory) as (store, _):
        report("ready", port=0)
        while conversation_id := (await asyncio.to_thread(sys.stdin.readline)).strip():
            conversation = await store.load(conversation_id) or Conversation(conversation_id=conversation_id)
            report("loaded")
            await asyncio.to_thread(sys.stdin.readline)
            conversation.messages += said(name, f"re {name}")
            try:
                await store.save(conversation)
            except ConversationConflict:
                report("ended", how="conflict")
            else:
                report("ended", how="saved")


def report(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
