"""A program of its own that appends one entry to a transcript: `python -m turnlane.cli.demo.courier DIR ID TEXT`."""

import asyncio
import sys

from turnlane.transcripts import Transcripts

__all__ = ()


async def deliver(directory: str, session_id: str, text: str) -> None:
    """Store it as an owned write."""
    async with Transcripts(directory) as transcripts:
        await transcripts.append(session_id, {"role": "tool", "content": text})


if __name__ == "__main__":
    asyncio.run(deliver(*sys.argv[1:]))
