"""A process that patches an entry until it is killed, and says each version that was acknowledged."""

import asyncio
import sys

from turnlane.sessions import Sessions


async def main(url: str, key: str) -> None:
    async with Sessions(url) as sessions:
        await sessions.resolve(key)
        number = 0
        while True:
            number += 1
            session = await sessions.patch(key, {"left": number, "right": number, "padding": "x" * 2000})
            sys.stdout.write(f"{session.version}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
